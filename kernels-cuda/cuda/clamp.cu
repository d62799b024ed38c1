// y = min(max(x, low), high), NaN where x is NaN; and its gradient, g where low < x < high, else 0. A bound that is absent does not bind.
#include "map.h"
#include "op/binary.h"

constexpr u32 LOW = 1, HIGH = 2; // bits of `bounds`

#define CLAMP(T)                                                                                                                 \
    KERNEL_OF(MAP_THREADS, clamp_##T,                                                                                            \
              (PARAMETER Walk<2> walk, u32 bounds, u64 low, u64 high, Global<T> y, Global<const T> x)) {                         \
        const Wide<T> least = widen(unpacked<T>(low)), most = widen(unpacked<T>(high));                                          \
        map1(walk, y, x, [&](T x) {                                                                                              \
            Wide<T> value = widen(x);                                                                                            \
            if (bounds & LOW) value = binary::maximum(value, least);                                                             \
            if (bounds & HIGH) value = binary::minimum(value, most);                                                             \
            return narrow<T>(value);                                                                                             \
        });                                                                                                                      \
    }
#define CLAMP_BACKWARD(T)                                                                                                        \
    KERNEL_OF(MAP_THREADS, clamp_backward_##T,                                                                                   \
              (PARAMETER Walk<3> walk, u32 bounds, u64 low, u64 high, Global<T> dx, Global<const T> g, Global<const T> x)) {     \
        const Wide<T> least = widen(unpacked<T>(low)), most = widen(unpacked<T>(high));                                          \
        map2(walk, dx, g, x, [&](T g, T x) {                                                                                     \
            const Wide<T> value = widen(x);                                                                                      \
            const bool within = (!(bounds & LOW) || value > least) && (!(bounds & HIGH) || value < most);                        \
            return within ? g : narrow<T>(Wide<T>(0));                                                                           \
        });                                                                                                                      \
    }

FOR_NUMBERS(CLAMP)
FOR_FLOATS(CLAMP_BACKWARD)
