// Convolutions of f16 and bf16 on tensor cores (gemm/mma.h): conv_T_TILE_FORM, named as in conv.cu.
#include "gemm/mma.h"

#define CONV(T, tile, threads, form, b_by_k, ...)                                                                                \
    KERNEL_OF(threads, conv_##T##_##tile##_##form,                                                                               \
              (PARAMETER Product<Strided, Gathered> p, Global<T> y, Global<f32> partial, Global<const T> a, Global<const T> b,   \
               Global<const T> bias)) {                                                                                          \
        multiply_on_tensor_cores<Halves<T>, __VA_ARGS__, true, b_by_k>(p, y, partial, a, b, bias);                                       \
    }
#define FORMS(T, tile, threads, ...)                                                                                             \
    CONV(T, tile, threads, places, false, __VA_ARGS__) CONV(T, tile, threads, taps, true, __VA_ARGS__)
#define CONVS(T)                                                                                                                 \
    FORMS(T, 128x128, 256, 128, 128, 2, 4)                                                                                       \
    FORMS(T, 64x64, 128, 64, 64, 2, 2)

CONVS(f16)
CONVS(bf16)
