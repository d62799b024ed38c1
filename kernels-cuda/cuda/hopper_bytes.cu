// Matrix products of bytes in 32 bits on Hopper (hopper/gemm.h): hopper_A_B_…, of operands with a sign (i8) or without (u8), along k.
// archs: sm_90a
#include "hopper/gemm.h"

using BytesOfI8I8 = hopper::Bytes<i8, i8>;
using BytesOfI8U8 = hopper::Bytes<i8, u8>;
using BytesOfU8I8 = hopper::Bytes<u8, i8>;
using BytesOfU8U8 = hopper::Bytes<u8, u8>;

HOPPER_TILES(HOPPER_NT, BytesOfI8I8, i8_i8)
HOPPER_TILES(HOPPER_NT, BytesOfI8U8, i8_u8)
HOPPER_TILES(HOPPER_NT, BytesOfU8I8, u8_i8)
HOPPER_TILES(HOPPER_NT, BytesOfU8U8, u8_u8)
