// Matrix products of f32 rounded to tf32 on Hopper (hopper/gemm.h). Both operands lie along k.
// archs: sm_90a
#include "hopper/gemm.h"

HOPPER_TILES(HOPPER_NT, hopper::Tf32, f32_tf32)
