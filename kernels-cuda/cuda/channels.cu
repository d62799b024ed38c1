// Images of few channels with their channels last: y[place, c] = x[place, c] for c below `given`, else 0, up to `channels`, which are
// whole vectors of 16 bytes.
//
// Launch: a thread for each vector, neighbours at neighbouring places, so that planes are read in whole lines. Bytes: both once.
#include "walk.h"

template <class T>
DEVICE void channels_last(const Walk<1> &places, u32 count, u32 given, u32 channels, i64 stride, Global<T> y, Global<const T> x) {
    constexpr int V = 16 / sizeof(T);
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 run = e / places.count, place = e - run * places.count, c = run * V;
    i64 at[1];
    places.offsets(place, at);
    Vec<T, V> v;
    UNROLL for (int i = 0; i < V; i++) v[i] = c + i < given ? x[at[0] + (c + i) * stride] : T{};
    y.template store_vector<V>(i64(place) * channels + c, v);
}

#define CHANNELS_LAST(T)                                                                                                         \
    KERNEL_OF(256, channels_last_##T,                                                                                            \
              (PARAMETER Walk<1> places, u32 count, u32 given, u32 channels, i64 stride, Global<T> y, Global<const T> x)) {      \
        channels_last(places, count, given, channels, stride, y, x);                                                             \
    }

CHANNELS_LAST(u16)
CHANNELS_LAST(u32)
