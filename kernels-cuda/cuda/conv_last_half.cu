// Convolutions of f16 and bf16 whose images have their channels last, on tensor cores (gemm/mma.h): conv_T_TILE_last_FORM, named as in
// conv_last.cu.
#include "gemm/mma.h"

// Threads of a block, and how many blocks a multiprocessor is to have at least.
#define BOUNDS_128x128 256, 2
#define BOUNDS_64x64 128, 4

#define CONV(T, tile, form, A, B, ...)                                                                                           \
    KERNEL_OF(BOUNDS_##tile, conv_##T##_##tile##_last_##form,                                                                    \
              (PARAMETER Product<A, B> p, Global<T> y, Global<f32> partial, Global<const T> a, Global<const T> b,                \
               Global<const T> bias)) {                                                                                          \
        multiply_on_tensor_cores<Halves<T>, __VA_ARGS__>(p, y, partial, a, b, bias);                                                     \
    }
#define FORMS(T, tile, ...)                                                                                                      \
    CONV(T, tile, nt, GatheredLast, Runs, __VA_ARGS__, true, true)                                                               \
    CONV(T, tile, nn, GatheredLast, Runs, __VA_ARGS__, true, false)                                                              \
    CONV(T, tile, taps, Runs, GatheredTaps, __VA_ARGS__, false, false)
#define CONVS(T)                                                                                                                 \
    FORMS(T, 128x128, 128, 128, 2, 4)                                                                                            \
    FORMS(T, 64x64, 64, 64, 2, 2)

CONVS(f16)
CONVS(bf16)
