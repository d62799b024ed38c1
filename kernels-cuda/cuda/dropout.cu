// Dropout: y = x f where a number that is drawn for the element is below the probability, else x · 0, and which were kept; and its
// gradient, g f where it was kept, else g · 0. f is 1 / probability as an element.
//
// The numbers are those of random.cu: 53 bits in [0, 1), which are compared as integers. `begin` as there.
// Launch: a thread for each 16 bytes of x where all begin at a multiple of 16, else for each element; the gradient as in map.h.
// Bytes: x and y once and a byte an element; some 60 integer multiplications an element.
#include "map.h"
#include "philox.h"

template <class T>
DEVICE void dropout(u32 n, u32 vector, u64 limit, u64 factor, u64 seed, u64 offset, Global<const u64> begin, Global<T> y,
                    Global<boolean> kept, Global<const T> x) {
    constexpr u32 V = 16 / sizeof(T);
    const u32 step = vector ? V : 1, i = place() * step;
    if (i >= n) return;
    const u64 counter = first(offset, begin) + i;
    const Wide<T> scale = widen(unpacked<T>(factor));
    const auto keeps = [&](u32 v) {
        const Bits bits = philox(seed, counter + v);
        return (u64(bits.word[0]) << 21 | bits.word[1] >> 11) < limit;
    };
    if (i + V <= n && vector) {
        const Vec<T, V> given = x.template load_vector<V>(i);
        Vec<T, V> results;
        Vec<boolean, V> which;
        UNROLL for (u32 v = 0; v < V; v++) {
            const bool keep = keeps(v);
            results[v] = narrow<T>(widen(given[v]) * (keep ? scale : Wide<T>(0)));
            which[v] = {u8(keep)};
        }
        y.template store_vector<V>(i, results);
        kept.template store_vector<V>(i, which);
        return;
    }
    ROLLED for (u32 v = 0; v < step && i + v < n; v++) {
        const bool keep = keeps(v);
        y[i + v] = narrow<T>(widen(x[i + v]) * (keep ? scale : Wide<T>(0)));
        kept[i + v] = boolean{u8(keep)};
    }
}

#define DROPOUT(T)                                                                                                               \
    KERNEL_OF(MAP_THREADS, dropout_##T,                                                                                          \
              (u32 n, u32 vector, u64 limit, u64 factor, u64 seed, u64 offset, Global<const u64> begin, Global<T> y,             \
               Global<boolean> kept, Global<const T> x)) {                                                                       \
        dropout(n, vector, limit, factor, seed, offset, begin, y, kept, x);                                                      \
    }                                                                                                                            \
    KERNEL_OF(MAP_THREADS, dropout_backward_##T,                                                                                 \
              (PARAMETER Walk<3> walk, u64 factor, Global<T> dx, Global<const T> g, Global<const boolean> kept)) {               \
        const Wide<T> scale = widen(unpacked<T>(factor));                                                                        \
        map2(walk, dx, g, kept, [&](T g, boolean k) { return narrow<T>(widen(g) * (k.value ? scale : Wide<T>(0))); });           \
    }

FOR_FLOATS(DROPOUT)
