// Convolutions of f32 with operands rounded to tf32, on tensor cores (gemm/mma.h): conv_f32_tf32_TILE_FORM, named as in conv.cu.
#include "gemm/mma.h"

#define CONV(tile, threads, form, b_by_k, ...)                                                                                   \
    KERNEL_OF(threads, conv_f32_tf32_##tile##_##form,                                                                            \
              (PARAMETER Product<Strided, Gathered> p, Global<f32> y, Global<f32> partial, Global<const f32> a,                  \
               Global<const f32> b, Global<const f32> bias)) {                                                                   \
        multiply_on_tensor_cores<Tf32, __VA_ARGS__, true, b_by_k>(p, y, partial, a, b, bias);                                    \
    }
#define FORMS(tile, threads, ...)                                                                                                \
    CONV(tile, threads, places, false, __VA_ARGS__) CONV(tile, threads, taps, true, __VA_ARGS__)

FORMS(128x128, 256, 128, 128, 2, 4)
FORMS(64x64, 128, 64, 64, 2, 2)
