// Matrix products of f32 on Hopper as six products of bf16 parts (hopper/gemm.h), which split.cu has made: as exact as those of f32. If it
// found a number that has no parts, this does nothing, and gemm_f32_6xbf16_… (gemm_tf32.cu) does it in its stead.
// archs: sm_90a
#include "hopper/gemm.h"

#define HOPPER_PARTS(tile, cluster, layout, by_k, b_by_k, ...)                                                                   \
    KERNEL_OF_CLUSTER(PRODUCT_THREADS, cluster, hopper_f32_6xbf16_##tile##_##cluster##_##layout,                                 \
                      (PARAMETER Product<Mapped, Mapped> p, PARAMETER TensorMap a, PARAMETER TensorMap b, PARAMETER TensorMap out, \
                       u32 count, u32 by_tma, Global<f32> y, Global<f32> partial, Global<const f32> bias, Global<const u32> strange)) { \
        if constexpr (ON_HOPPER) {                                                                                               \
            if (strange[0] == 0)                                                                                                 \
                multiply_on_hopper<hopper::SixHalves, __VA_ARGS__, cluster, by_k, b_by_k>(p, a, b, out, count, by_tma, y, partial, bias); \
        }                                                                                                                        \
    }
#define LAYOUTS(tile, cluster, ...)                                                                                              \
    HOPPER_PARTS(tile, cluster, nn, true, false, __VA_ARGS__) HOPPER_PARTS(tile, cluster, nt, true, true, __VA_ARGS__)           \
    HOPPER_PARTS(tile, cluster, tn, false, false, __VA_ARGS__) HOPPER_PARTS(tile, cluster, tt, false, true, __VA_ARGS__)

LAYOUTS(128x128, 1, 128, 128)
LAYOUTS(128x128, 2, 128, 128)
LAYOUTS(128x64, 1, 128, 64)
