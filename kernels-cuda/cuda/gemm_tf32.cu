// Matrix products of f32 on tensor cores (gemm/mma.h), named as in gemm.cu: gemm_f32_tf32_TILE_LAYOUT rounds operands to tf32, and
// gemm_f32_6xbf16_TILE_LAYOUT adds six products of bf16 parts, which are as exact as f32. It does nothing where `strange` leads to a 0:
// then every number has parts, and hopper_6xbf16.cu has multiplied them.
#include "gemm/mma.h"

#define TF32(tile, threads, layout, by_k, b_by_k, ...)                                                                           \
    KERNEL_OF(threads, gemm_f32_tf32_##tile##_##layout,                                                                          \
              (PARAMETER Product<Strided, Strided> p, Global<f32> y, Global<f32> partial, Global<const f32> a,                   \
               Global<const f32> b, Global<const f32> bias)) {                                                                   \
        multiply_on_tensor_cores<Tf32, __VA_ARGS__, by_k, b_by_k>(p, y, partial, a, b, bias);                                    \
    }
#define PARTS(tile, threads, layout, by_k, b_by_k, ...)                                                                          \
    KERNEL_OF(threads, gemm_f32_6xbf16_##tile##_##layout,                                                                        \
              (PARAMETER Product<Strided, Strided> p, Global<f32> y, Global<f32> partial, Global<const f32> a,                   \
               Global<const f32> b, Global<const f32> bias, Global<const u32> strange)) {                                        \
        if (strange.pointer != nullptr && strange[0] == 0) return;                                                               \
        multiply_on_tensor_cores<SixHalves, __VA_ARGS__, by_k, b_by_k>(p, y, partial, a, b, bias);                               \
    }
#define LAYOUTS(X, tile, threads, ...)                                                                                           \
    X(tile, threads, nn, true, false, __VA_ARGS__) X(tile, threads, nt, true, true, __VA_ARGS__)                                 \
    X(tile, threads, tn, false, false, __VA_ARGS__) X(tile, threads, tt, false, true, __VA_ARGS__)

LAYOUTS(TF32, 128x128, 256, 128, 128, 2, 4)
LAYOUTS(TF32, 64x64, 128, 64, 64, 2, 2)
LAYOUTS(PARTS, 128x128, 256, 128, 128, 2, 4)
LAYOUTS(PARTS, 64x64, 128, 64, 64, 2, 2)
