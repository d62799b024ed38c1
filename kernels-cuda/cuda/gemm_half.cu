// Matrix products of f16 and bf16 on tensor cores (gemm/mma.h): gemm_T_TILE_LAYOUT, named as in gemm.cu.
#include "gemm/mma.h"

#define GEMM(T, tile, threads, layout, by_k, b_by_k, ...)                                                                        \
    KERNEL_OF(threads, gemm_##T##_##tile##_##layout,                                                                             \
              (PARAMETER Product<Strided, Strided> p, Global<T> y, Global<f32> partial, Global<const T> a, Global<const T> b,    \
               Global<const T> bias)) {                                                                                          \
        multiply_on_tensor_cores<Halves<T>, __VA_ARGS__, by_k, b_by_k>(p, y, partial, a, b, bias);                                       \
    }
#define LAYOUTS(T, tile, threads, ...)                                                                                           \
    GEMM(T, tile, threads, nn, true, false, __VA_ARGS__) GEMM(T, tile, threads, nt, true, true, __VA_ARGS__)                     \
    GEMM(T, tile, threads, tn, false, false, __VA_ARGS__) GEMM(T, tile, threads, tt, false, true, __VA_ARGS__)
#define GEMMS(T)                                                                                                                 \
    LAYOUTS(T, 128x128, 256, 128, 128, 2, 4)                                                                                     \
    LAYOUTS(T, 64x64, 128, 64, 64, 2, 2)

GEMMS(f16)
GEMMS(bf16)
