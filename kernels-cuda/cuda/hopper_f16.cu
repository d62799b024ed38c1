// Matrix products of f16 on Hopper (hopper/gemm.h).
// archs: sm_90a
#include "hopper/gemm.h"

HOPPER_TILES(HOPPER_LAYOUTS, hopper::Halves<f16>, f16)
