// Convolutions of f32 and f64 as matrix products of windows that are never written out (gemm/simt.h): conv_T_TILE_FORM. And conv_naive_T,
// by the definition: the oracle, and what depthwise convolutions run, whose sums are short and whose groups have one channel.
//
// FORM is the kind of product, with the windows on the right:
//   places   rows are channels of the result, columns its places: forward, and the gradient of the input
//   taps     rows are channels of the result, columns taps of the window, sums run over places: the gradient of the weight
#include "gemm/naive.h"
#include "gemm/simt.h"

#define CONV(T, tile, form, b_by_k, ...)                                                                                         \
    KERNEL_OF(256, conv_##T##_##tile##_##form,                                                                                   \
              (PARAMETER Product<Strided, Gathered> p, Global<T> y, Global<T> partial, Global<const T> a, Global<const T> b,     \
               Global<const T> bias)) {                                                                                          \
        multiply<T, __VA_ARGS__, true, b_by_k>(p, y, partial, a, b, bias);                                                       \
    }
#define CONVS(T, tile, ...) CONV(T, tile, places, false, __VA_ARGS__) CONV(T, tile, taps, true, __VA_ARGS__)

CONVS(f32, 128x128, 128, 128, 16, 2, 2)
CONVS(f32, 64x64, 64, 64, 16, 1, 1)
CONVS(f64, 64x64, 64, 64, 16, 2, 2)

#define NAIVE(T)                                                                                                                 \
    KERNEL_OF(256, conv_naive_##T,                                                                                               \
              (PARAMETER Product<Strided, Gathered> p, u32 count, Global<T> y, Global<const T> a, Global<const T> b,             \
               Global<const T> bias)) {                                                                                          \
        multiply_naively(p, count, y, a, b, bias);                                                                               \
    }

FOR_FLOATS(NAIVE)
