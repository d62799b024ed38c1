// Matrix products of f64 on tensor cores (gemm/mma.h): gemm_f64_TILE_LAYOUT, named as in gemm.cu.
#include "gemm/mma.h"

#define GEMM(tile, threads, layout, by_k, b_by_k, ...)                                                                           \
    KERNEL_OF(threads, gemm_f64_##tile##_##layout,                                                                               \
              (PARAMETER Product<Strided, Strided> p, Global<f64> y, Global<f64> partial, Global<const f64> a,                   \
               Global<const f64> b, Global<const f64> bias)) {                                                                   \
        multiply_on_tensor_cores<Doubles, __VA_ARGS__, by_k, b_by_k>(p, y, partial, a, b, bias);                                 \
    }
#define LAYOUTS(tile, threads, ...)                                                                                              \
    GEMM(tile, threads, nn, true, false, __VA_ARGS__) GEMM(tile, threads, nt, true, true, __VA_ARGS__)                           \
    GEMM(tile, threads, tn, false, false, __VA_ARGS__) GEMM(tile, threads, tt, false, true, __VA_ARGS__)

LAYOUTS(128x128, 256, 128, 128, 2, 4)
LAYOUTS(64x64, 128, 64, 64, 2, 2)
