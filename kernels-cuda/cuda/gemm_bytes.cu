// Products of bytes on tensor cores, in 32 bits (gemm/bytes.h): gemm_A_B_TILE, of operands with a sign (i8) or without (u8).
#include "gemm/bytes.h"

#define GEMM(A, B, tile, threads, ...)                                                                                           \
    KERNEL_OF(threads, gemm_##A##_##B##_##tile,                                                                                  \
              (PARAMETER Product<Strided, Strided> p, Global<i32> y, Global<i32> partial, Global<const u8> a,                    \
               Global<const u8> b, Global<const i32>)) {                                                                         \
        multiply_bytes<A, B, __VA_ARGS__>(p, y, partial, a, b);                                                                  \
    }
#define TILES(A, B) GEMM(A, B, 128x128, 256, 128, 128, 2, 4) GEMM(A, B, 64x64, 128, 64, 64, 2, 2)

TILES(i8, i8)
TILES(i8, u8)
TILES(u8, i8)
TILES(u8, u8)
