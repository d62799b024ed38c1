// Matrix products of f32 on tensor cores (gemm/mma.h), named as in gemm.cu: gemm_f32_tf32_TILE_LAYOUT rounds operands to tf32, and
// gemm_f32_6xbf16_TILE_LAYOUT adds six products of bf16 parts, which are as exact as f32.
#include "gemm/mma.h"

#define GEMM(unit, name, tile, threads, layout, by_k, b_by_k, ...)                                                               \
    KERNEL_OF(threads, gemm_f32_##name##_##tile##_##layout,                                                                      \
              (PARAMETER Product<Strided, Strided> p, Global<f32> y, Global<f32> partial, Global<const f32> a,                   \
               Global<const f32> b, Global<const f32> bias)) {                                                                   \
        multiply_on_tensor_cores<unit, __VA_ARGS__, by_k, b_by_k>(p, y, partial, a, b, bias);                                    \
    }
#define LAYOUTS(unit, name, tile, threads, ...)                                                                                  \
    GEMM(unit, name, tile, threads, nn, true, false, __VA_ARGS__) GEMM(unit, name, tile, threads, nt, true, true, __VA_ARGS__)   \
    GEMM(unit, name, tile, threads, tn, false, false, __VA_ARGS__) GEMM(unit, name, tile, threads, tt, false, true, __VA_ARGS__)

LAYOUTS(Tf32, tf32, 128x128, 256, 128, 128, 2, 4)
LAYOUTS(Tf32, tf32, 64x64, 128, 64, 64, 2, 2)
LAYOUTS(SixHalves, 6xbf16, 128x128, 256, 128, 128, 2, 4)
LAYOUTS(SixHalves, 6xbf16, 64x64, 128, 64, 64, 2, 2)
