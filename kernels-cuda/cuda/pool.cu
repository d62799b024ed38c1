// Pooling over windows of planes, forward and backward. Layout: [planes, spatial…], row-major.
//
// Launch: a thread for each element of what is written. The gradients gather: each place of the input adds what the windows over it
// give, in the order of the windows, so that results do not depend on who comes first. Bytes: each operand once, windows that
// overlap from a cache.
#include "windows.h"

// The largest of each window and its place in the plane; NaN wins, and the first of equals.
template <class T> DEVICE void max_pool(const Windows &windows, u32 count, Global<T> y, Global<i64> index, Global<const T> x) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 places = windows.out_volume(), plane = e / places, place = e - plane * places, taps = windows.kernel_volume();
    const i64 start = i64(plane) * windows.size_volume();
    Wide<T> best = 0;
    i32 where = -1;
    for (u32 tap = 0; tap < taps; tap++) {
        const i32 at = windows.under(place, tap);
        if (at < 0) continue;
        const Wide<T> value = widen(x[start + at]);
        if (where < 0 || value > best || (value != value && best == best)) best = value, where = at;
    }
    y[e] = where < 0 ? narrow<T>(-Wide<T>(INFINITY)) : T(x[start + where]);
    index[e] = where < 0 ? 0 : where;
}

// dx[s] = Σ g[p] over the windows whose largest element stands at s.
template <class T>
DEVICE void max_pool_places_backward(const Windows &windows, u32 count, Global<T> dx, Global<const T> g, Global<const i64> index) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 size = windows.size_volume(), plane = e / size, place = e - plane * size;
    const i64 start = i64(plane) * windows.out_volume();
    Wide<T> sum = 0;
    // Later taps lie over the place in earlier windows.
    for (u32 tap = windows.kernel_volume(); tap-- > 0;) {
        const i32 at = windows.over(place, tap);
        if (at >= 0 && index[start + at] == i64(place)) sum += widen(g[start + at]);
    }
    dx[e] = narrow<T>(sum);
}

// The same without windows: a thread for each plane, of `places` results and `size` places. `sums` are zero before.
template <class T>
DEVICE void max_pool_backward(u32 planes, u32 places, u32 size, Global<Wide<T>> sums, Global<const T> g, Global<const i64> index) {
    const u32 plane = block_x() * block_size() + thread_x();
    if (plane >= planes) return;
    for (u32 p = 0; p < places; p++) {
        const i64 at = i64(plane) * places + p;
        const i64 to = index[at];
        if (to >= 0 && to < i64(size)) sums[i64(plane) * size + to] = sums[i64(plane) * size + to] + widen(g[at]);
    }
}

// What the mean of a window divides by: the elements in it, or, with `padded`, those and the padding in it, or `fixed` if that is not 0.
struct Mean {
    u32 padded, fixed;
};

DEVICE u32 divisor(const Windows &windows, u32 place, const Mean &mean) {
    if (mean.fixed != 0) return mean.fixed;
    u32 inside = 1;
    UNROLL for (int d = 2; d >= 0; d--) {
        const u32 o = windows.out[d].quotient(place), p = place - o * windows.out[d].divisor;
        place = o;
        const u32 kernel = windows.kernel[d].divisor, size = windows.size[d].divisor, padding = windows.padding[d];
        // The taps of this dim that count: those over the input, and over the padding on both sides.
        u32 taps = 0;
        for (u32 k = 0; k < kernel; k++) {
            const u32 at = p * windows.stride[d] + k * windows.dilation[d]; // counted from the padding's start
            taps += mean.padded ? at < size + 2 * padding : at >= padding && at < size + padding;
        }
        inside *= taps;
    }
    return inside;
}

template <class T> DEVICE void avg_pool(const Windows &windows, u32 count, const Mean &mean, Global<T> y, Global<const T> x) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 places = windows.out_volume(), plane = e / places, place = e - plane * places, taps = windows.kernel_volume();
    const i64 start = i64(plane) * windows.size_volume();
    Wide<T> sum = 0;
    for (u32 tap = 0; tap < taps; tap++) {
        const i32 at = windows.under(place, tap);
        if (at >= 0) sum += widen(x[start + at]);
    }
    y[e] = narrow<T>(sum / Wide<T>(divisor(windows, place, mean)));
}

template <class T> DEVICE void avg_pool_backward(const Windows &windows, u32 count, const Mean &mean, Global<T> dx, Global<const T> g) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 size = windows.size_volume(), plane = e / size, place = e - plane * size;
    const i64 start = i64(plane) * windows.out_volume();
    Wide<T> sum = 0;
    for (u32 tap = windows.kernel_volume(); tap-- > 0;) {
        const i32 at = windows.over(place, tap);
        if (at >= 0) sum += widen(g[start + at]) / Wide<T>(divisor(windows, at, mean));
    }
    dx[e] = narrow<T>(sum);
}

// Cells from ⌊i size / out⌋ to ⌈(i + 1) size / out⌉ along each dim; the sizes stand in `windows`.
struct Cell {
    u32 from[3], to[3];

    DEVICE Cell(const Windows &windows, u32 place) {
        UNROLL for (int d = 2; d >= 0; d--) {
            const u32 o = windows.out[d].quotient(place), p = place - o * windows.out[d].divisor;
            const u64 size = windows.size[d].divisor, out = windows.out[d].divisor;
            place = o;
            from[d] = u32(p * size / out), to[d] = u32(((p + 1) * size + out - 1) / out);
        }
    }
    DEVICE u32 volume() const { return (to[0] - from[0]) * (to[1] - from[1]) * (to[2] - from[2]); }
};

template <class T> DEVICE void adaptive_avg_pool(const Windows &windows, u32 count, Global<T> y, Global<const T> x) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 places = windows.out_volume(), plane = e / places;
    const i64 start = i64(plane) * windows.size_volume();
    const Cell cell(windows, e - plane * places);
    Wide<T> sum = 0;
    for (u32 a = cell.from[0]; a < cell.to[0]; a++)
        for (u32 b = cell.from[1]; b < cell.to[1]; b++)
            for (u32 c = cell.from[2]; c < cell.to[2]; c++)
                sum += widen(x[start + (i64(a) * windows.size[1].divisor + b) * windows.size[2].divisor + c]);
    y[e] = narrow<T>(sum / Wide<T>(cell.volume()));
}

// The cells over a place of the input are those from ⌊i out / size⌋ to ⌈(i + 1) out / size⌉: `across` has size and out exchanged.
template <class T>
DEVICE void adaptive_avg_pool_backward(const Windows &windows, const Windows &across, u32 count, Global<T> dx, Global<const T> g) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 size = windows.size_volume(), plane = e / size;
    const i64 start = i64(plane) * windows.out_volume();
    const Cell over(across, e - plane * size);
    Wide<T> sum = 0;
    for (u32 a = over.from[0]; a < over.to[0]; a++)
        for (u32 b = over.from[1]; b < over.to[1]; b++)
            for (u32 c = over.from[2]; c < over.to[2]; c++) {
                const u32 place = (a * windows.out[1].divisor + b) * windows.out[2].divisor + c;
                sum += widen(g[start + place]) / Wide<T>(Cell(windows, place).volume());
            }
    dx[e] = narrow<T>(sum);
}

#define POOL(T)                                                                                                                  \
    KERNEL_OF(256, max_pool_##T, (PARAMETER Windows windows, u32 count, Global<T> y, Global<i64> index, Global<const T> x)) {    \
        max_pool(windows, count, y, index, x);                                                                                   \
    }                                                                                                                            \
    KERNEL_OF(256, max_pool_places_backward_##T,                                                                                 \
              (PARAMETER Windows windows, u32 count, Global<T> dx, Global<const T> g, Global<const i64> index)) {                \
        max_pool_places_backward(windows, count, dx, g, index);                                                                  \
    }                                                                                                                            \
    KERNEL_OF(256, max_pool_backward_##T,                                                                                        \
              (u32 planes, u32 places, u32 size, Global<Wide<T>> sums, Global<const T> g, Global<const i64> index)) {            \
        max_pool_backward<T>(planes, places, size, sums, g, index);                                                              \
    }                                                                                                                            \
    KERNEL_OF(256, avg_pool_##T,                                                                                                 \
              (PARAMETER Windows windows, u32 count, u32 padded, u32 fixed, Global<T> y, Global<const T> x)) {                   \
        avg_pool(windows, count, {padded, fixed}, y, x);                                                                                  \
    }                                                                                                                            \
    KERNEL_OF(256, avg_pool_backward_##T,                                                                                        \
              (PARAMETER Windows windows, u32 count, u32 padded, u32 fixed, Global<T> dx, Global<const T> g)) {                  \
        avg_pool_backward(windows, count, {padded, fixed}, dx, g);                                                                        \
    }                                                                                                                            \
    KERNEL_OF(256, adaptive_avg_pool_##T, (PARAMETER Windows windows, u32 count, Global<T> y, Global<const T> x)) {              \
        adaptive_avg_pool(windows, count, y, x);                                                                                 \
    }                                                                                                                            \
    KERNEL_OF(256, adaptive_avg_pool_backward_##T,                                                                               \
              (PARAMETER Windows windows, PARAMETER Windows across, u32 count, Global<T> dx, Global<const T> g)) {               \
        adaptive_avg_pool_backward(windows, across, count, dx, g);                                                               \
    }

FOR_FLOATS(POOL)
