// Convolutions of f32 whose images have their channels last, on tensor cores (gemm/mma.h): conv_f32_tf32_TILE_last_FORM rounds operands to
// tf32, and conv_f32_6xbf16_TILE_last_FORM adds six products of bf16 parts, which are as exact as f32. FORM as in conv_last.cu.
#include "gemm/mma.h"

// Threads of a block, and how many blocks a multiprocessor is to have at least, where registers suffice for that.
#define BOUNDS_tf32_128x128_nt 256, 2
#define BOUNDS_tf32_128x128_nn 256, 2
#define BOUNDS_tf32_128x128_taps 256
#define BOUNDS_tf32_64x64_nt 128, 4
#define BOUNDS_tf32_64x64_nn 128, 4
#define BOUNDS_tf32_64x64_taps 128, 4
#define BOUNDS_6xbf16_128x128_nt 256
#define BOUNDS_6xbf16_128x128_nn 256
#define BOUNDS_6xbf16_128x128_taps 256
#define BOUNDS_6xbf16_64x64_nt 128
#define BOUNDS_6xbf16_64x64_nn 128
#define BOUNDS_6xbf16_64x64_taps 128

#define CONV(unit, name, tile, form, A, B, ...)                                                                                  \
    KERNEL_OF(BOUNDS_##name##_##tile##_##form, conv_f32_##name##_##tile##_last_##form,                                           \
              (PARAMETER Product<A, B> p, Global<f32> y, Global<f32> partial, Global<const f32> a, Global<const f32> b,          \
               Global<const f32> bias)) {                                                                                        \
        multiply_on_tensor_cores<unit, __VA_ARGS__>(p, y, partial, a, b, bias);                                                  \
    }
#define FORMS(unit, name, tile, ...)                                                                                             \
    CONV(unit, name, tile, nt, GatheredLast, Runs, __VA_ARGS__, true, true)                                                      \
    CONV(unit, name, tile, nn, GatheredLast, Runs, __VA_ARGS__, true, false)                                                     \
    CONV(unit, name, tile, taps, Runs, GatheredTaps, __VA_ARGS__, false, false)

FORMS(Tf32, tf32, 128x128, 128, 128, 2, 4)
FORMS(Tf32, tf32, 64x64, 64, 64, 2, 2)
FORMS(SixHalves, 6xbf16, 128x128, 128, 128, 2, 4)
FORMS(SixHalves, 6xbf16, 64x64, 64, 64, 2, 2)
