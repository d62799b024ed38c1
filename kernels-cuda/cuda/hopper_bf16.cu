// Matrix products of bf16 on Hopper (hopper/gemm.h).
// archs: sm_90a
#include "hopper/gemm.h"

HOPPER_TILES(bf16)
