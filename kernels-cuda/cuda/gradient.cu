// dx = back(g, s): a kernel gradient_OP_T for each row of op/gradient.h.
#include "map.h"
#include "op/gradient.h"

#define GRADIENT(op, function, T)                                                                                                \
    KERNEL_OF(MAP_THREADS, gradient_##op##_##T, (PARAMETER Walk<3> walk, Global<T> dx, Global<const T> g, Global<const T> s)) {  \
        map2(walk, dx, g, s, [](T v, T w) { return narrow<T>(gradient::function(widen(v), widen(w))); });                        \
    }

GRADIENTS(GRADIENT, f32)
GRADIENTS(GRADIENT, f64)
GRADIENTS(GRADIENT, f16)
GRADIENTS(GRADIENT, bf16)
