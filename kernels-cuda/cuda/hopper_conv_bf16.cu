// Convolutions of bf16 on Hopper (hopper/images.h).
// archs: sm_90a
#include "hopper/images.h"

HOPPER_CONV_TILES(bf16)
