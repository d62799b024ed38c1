// Convolutions of f32 whose images have their channels last, as matrix products of windows that are never written out (gemm/simt.h):
// conv_f32_TILE_last_FORM. A tap of a window is a run of channels, in vectors of 16 bytes.
//
// FORM is the kind of product:
//   nt, nn   rows are places of the result, columns its channels; the windows are on the left, and the weight's runs lie along k
//            (channels of the input: forward) or along the columns (the gradient of the input)
//   taps     rows are channels of the result, columns channels of the input for each tap, sums run over places: the gradient of the weight
#include "gemm/simt.h"

#define CONV(tile, form, A, B, ...)                                                                                              \
    KERNEL_OF(256, conv_f32_##tile##_last_##form,                                                                                \
              (PARAMETER Product<A, B> p, Global<f32> y, Global<f32> partial, Global<const f32> a, Global<const f32> b,          \
               Global<const f32> bias)) {                                                                                        \
        multiply<f32, __VA_ARGS__>(p, y, partial, a, b, bias);                                                                   \
    }
#define CONVS(tile, ...)                                                                                                         \
    CONV(tile, nt, GatheredLast, Runs, __VA_ARGS__, true, true) CONV(tile, nn, GatheredLast, Runs, __VA_ARGS__, true, false) \
    CONV(tile, taps, Runs, GatheredTaps, __VA_ARGS__, false, false)

CONVS(128x128, 128, 128, 16, 2, 2)
CONVS(64x64, 64, 64, 16, 1, 1)
