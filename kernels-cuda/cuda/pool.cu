// Pooling over windows of planes, forward and backward. Layout: [planes, spatial…], or [images, spatial…, c] where channels come last:
// both are [outer, spatial…, inner] in units, which are elements, or vectors of 16 bytes of channels.
//
// Launch: a thread for each unit of what is written. The gradients gather: each place of the input adds what the windows over it
// give, in the order of the windows, so that results do not depend on who comes first. Bytes: each operand once, windows that
// overlap from a cache.
#include "windows.h"

// Whether `value` takes the place of the largest so far.
template <class A> DEVICE bool larger(A value, A best) { return value > best || value != value; }

// The largest of each window and where it stands; the last NaN wins, and the first of equals. `form` says as what: not at all, as the place in
// the plane, or as the number of its tap, which must fit a byte.
enum Place : u32 { NOT_ASKED, INDEX, CODE };

template <class T, int V>
DEVICE void max_pool(const Windows &windows, u32 count, u32 form, Global<T> y, Global<i64> index, Global<u8> code, Global<const T> x) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const auto unit = windows.unit(e, windows.out_volume());
    const u32 taps = windows.kernel_volume();
    const i64 start = windows.start(unit, windows.size_volume());
    Vec<T, V> best;
    i32 where[V];
    Vec<u8, V> which;
    UNROLL for (int v = 0; v < V; v++) best[v] = narrow<T>(-Wide<T>(INFINITY)), where[v] = -1, which[v] = 0;
    for (u32 tap = 0; tap < taps; tap++) {
        const i32 at = windows.under(unit.place, tap);
        if (at < 0) continue;
        const Vec<T, V> values = x.template load_vector<V>((start + windows.step(at)) * V);
        UNROLL for (int v = 0; v < V; v++)
            if (where[v] < 0 || larger(widen(values[v]), widen(best[v]))) best[v] = values[v], where[v] = at, which[v] = u8(tap);
    }
    y.template store_vector<V>(i64(e) * V, best);
    if (form == INDEX)
        UNROLL for (int v = 0; v < V; v++) index[i64(e) * V + v] = where[v] < 0 ? 0 : where[v];
    if (form == CODE) code.template store_vector<V>(i64(e) * V, which);
}

// The places in the plane that codes stand for; 0 for a window without elements.
KERNEL_OF(256, max_pool_index, (PARAMETER Windows windows, u32 count, Global<i64> index, Global<const u8> code)) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const i32 at = windows.under(windows.unit(e, windows.out_volume()).place, code[e]);
    index[e] = at < 0 ? 0 : at;
}

// dx[s] = Σ g[p] over the windows whose largest element stands at s: `code` says so, or `index` if there are no codes.
template <class T, int V>
DEVICE void max_pool_backward(const Windows &windows, u32 count, u32 form, Global<T> dx, Global<const T> g, Global<const i64> index,
                              Global<const u8> code) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const auto unit = windows.unit(e, windows.size_volume());
    const i64 start = windows.start(unit, windows.out_volume());
    Wide<T> sums[V] = {};
    // Later taps lie over the place in earlier windows.
    for (u32 tap = windows.kernel_volume(); tap-- > 0;) {
        const i32 place = windows.over(unit.place, tap);
        if (place < 0) continue;
        const i64 at = (start + windows.step(place)) * V;
        const Vec<T, V> grads = g.template load_vector<V>(at);
        if (form == CODE) {
            const Vec<u8, V> codes = code.template load_vector<V>(at);
            UNROLL for (int v = 0; v < V; v++)
                if (codes[v] == tap) sums[v] += widen(grads[v]);
        } else
            UNROLL for (int v = 0; v < V; v++)
                if (index[at + v] == i64(unit.place)) sums[v] += widen(grads[v]);
    }
    Vec<T, V> results;
    UNROLL for (int v = 0; v < V; v++) results[v] = narrow<T>(sums[v]);
    dx.template store_vector<V>(i64(e) * V, results);
}

// What the mean of a window divides by: the elements in it, or, with `padded`, those and the padding in it, or `fixed` if that is not 0.
struct Mean {
    u32 padded;
    f64 fixed;
};

template <class A> DEVICE A divisor(const Windows &windows, u32 place, const Mean &mean) {
    if (mean.fixed != 0) return A(mean.fixed);
    u32 inside = 1;
    UNROLL for (int d = 2; d >= 0; d--) {
        const u32 o = windows.out[d].quotient(place), size = windows.size[d].divisor, padding = windows.padding[d];
        // Counted from where the padding starts.
        const u32 from = (place - o * windows.out[d].divisor) * windows.stride[d], to = from + windows.kernel[d].divisor;
        const u32 low = mean.padded || from > padding ? from : padding, end = size + (mean.padded ? 2 * padding : padding);
        const u32 high = to < end ? to : end;
        place = o;
        inside *= high > low ? high - low : 0;
    }
    return A(inside);
}

template <class T, int V> DEVICE void avg_pool(const Windows &windows, u32 count, const Mean &mean, Global<T> y, Global<const T> x) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const auto unit = windows.unit(e, windows.out_volume());
    const u32 taps = windows.kernel_volume();
    const i64 start = windows.start(unit, windows.size_volume());
    Wide<T> sums[V] = {};
    for (u32 tap = 0; tap < taps; tap++) {
        const i32 at = windows.under(unit.place, tap);
        if (at < 0) continue;
        const Vec<T, V> values = x.template load_vector<V>((start + windows.step(at)) * V);
        UNROLL for (int v = 0; v < V; v++) sums[v] += widen(values[v]);
    }
    const Wide<T> by = divisor<Wide<T>>(windows, unit.place, mean);
    Vec<T, V> results;
    UNROLL for (int v = 0; v < V; v++) results[v] = narrow<T>(sums[v] / by);
    y.template store_vector<V>(i64(e) * V, results);
}

template <class T, int V> DEVICE void avg_pool_backward(const Windows &windows, u32 count, const Mean &mean, Global<T> dx, Global<const T> g) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const auto unit = windows.unit(e, windows.size_volume());
    const i64 start = windows.start(unit, windows.out_volume());
    Wide<T> sums[V] = {};
    for (u32 tap = windows.kernel_volume(); tap-- > 0;) {
        const i32 at = windows.over(unit.place, tap);
        if (at < 0) continue;
        const Wide<T> by = divisor<Wide<T>>(windows, at, mean);
        const Vec<T, V> grads = g.template load_vector<V>((start + windows.step(at)) * V);
        UNROLL for (int v = 0; v < V; v++) sums[v] += widen(grads[v]) / by;
    }
    Vec<T, V> results;
    UNROLL for (int v = 0; v < V; v++) results[v] = narrow<T>(sums[v]);
    dx.template store_vector<V>(i64(e) * V, results);
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

template <class T>
DEVICE void adaptive_max_pool(const Windows &windows, u32 count, Global<T> y, Global<i64> index, Global<const T> x) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const auto unit = windows.unit(e, windows.out_volume());
    const i64 start = windows.start(unit, windows.size_volume());
    const Cell cell(windows, unit.place);
    Wide<T> best = 0;
    i64 where = -1;
    for (u32 a = cell.from[0]; a < cell.to[0]; a++)
        for (u32 b = cell.from[1]; b < cell.to[1]; b++)
            for (u32 c = cell.from[2]; c < cell.to[2]; c++) {
                const i64 at = (i64(a) * windows.size[1].divisor + b) * windows.size[2].divisor + c;
                const Wide<T> value = widen(T(x[start + at * windows.inner.divisor]));
                if (where < 0 || larger(value, best)) best = value, where = at;
            }
    y[e] = narrow<T>(best); // no cell is empty
    index[e] = where;
}

template <class T> DEVICE void adaptive_avg_pool(const Windows &windows, u32 count, Global<T> y, Global<const T> x) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const auto unit = windows.unit(e, windows.out_volume());
    const i64 start = windows.start(unit, windows.size_volume());
    const Cell cell(windows, unit.place);
    Wide<T> sum = 0;
    for (u32 a = cell.from[0]; a < cell.to[0]; a++)
        for (u32 b = cell.from[1]; b < cell.to[1]; b++)
            for (u32 c = cell.from[2]; c < cell.to[2]; c++)
                sum += widen(x[start + ((i64(a) * windows.size[1].divisor + b) * windows.size[2].divisor + c) * windows.inner.divisor]);
    y[e] = narrow<T>(sum / Wide<T>(cell.volume()));
}

// The cells over a place of the input are those from ⌊i out / size⌋ to ⌈(i + 1) out / size⌉: `across` has size and out exchanged.
template <class T>
DEVICE void adaptive_avg_pool_backward(const Windows &windows, const Windows &across, u32 count, Global<T> dx, Global<const T> g) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const auto unit = windows.unit(e, windows.size_volume());
    const i64 start = windows.start(unit, windows.out_volume());
    const Cell over(across, unit.place);
    Wide<T> sum = 0;
    for (u32 a = over.from[0]; a < over.to[0]; a++)
        for (u32 b = over.from[1]; b < over.to[1]; b++)
            for (u32 c = over.from[2]; c < over.to[2]; c++) {
                const u32 place = (a * windows.out[1].divisor + b) * windows.out[2].divisor + c;
                sum += widen(g[start + windows.step(place)]) / Wide<T>(Cell(windows, place).volume());
            }
    dx[e] = narrow<T>(sum);
}

// In elements, and with _v in vectors of 16 bytes.
#define POOL_OF(T, suffix, V)                                                                                                   \
    KERNEL_OF(256, max_pool##suffix##_##T,                                                                                      \
              (PARAMETER Windows windows, u32 count, u32 form, Global<T> y, Global<i64> index, Global<u8> code,                 \
               Global<const T> x)) {                                                                                            \
        max_pool<T, V>(windows, count, form, y, index, code, x);                                                                \
    }                                                                                                                           \
    KERNEL_OF(256, max_pool_backward##suffix##_##T,                                                                             \
              (PARAMETER Windows windows, u32 count, u32 form, Global<T> dx, Global<const T> g, Global<const i64> index,        \
               Global<const u8> code)) {                                                                                        \
        max_pool_backward<T, V>(windows, count, form, dx, g, index, code);                                                      \
    }                                                                                                                           \
    KERNEL_OF(256, avg_pool##suffix##_##T,                                                                                      \
              (PARAMETER Windows windows, u32 count, u32 padded, f64 fixed, Global<T> y, Global<const T> x)) {                  \
        avg_pool<T, V>(windows, count, {padded, fixed}, y, x);                                                                  \
    }                                                                                                                           \
    KERNEL_OF(256, avg_pool_backward##suffix##_##T,                                                                             \
              (PARAMETER Windows windows, u32 count, u32 padded, f64 fixed, Global<T> dx, Global<const T> g)) {                 \
        avg_pool_backward<T, V>(windows, count, {padded, fixed}, dx, g);                                                        \
    }

#define POOL(T)                                                                                                                 \
    POOL_OF(T, , 1)                                                                                                             \
    POOL_OF(T, _v, 16 / sizeof(T))                                                                                              \
    KERNEL_OF(256, adaptive_max_pool_##T,                                                                                       \
              (PARAMETER Windows windows, u32 count, Global<T> y, Global<i64> index, Global<const T> x)) {                      \
        adaptive_max_pool(windows, count, y, index, x);                                                                         \
    }                                                                                                                           \
    KERNEL_OF(256, adaptive_avg_pool_##T, (PARAMETER Windows windows, u32 count, Global<T> y, Global<const T> x)) {             \
        adaptive_avg_pool(windows, count, y, x);                                                                                \
    }                                                                                                                           \
    KERNEL_OF(256, adaptive_avg_pool_backward_##T,                                                                              \
              (PARAMETER Windows windows, PARAMETER Windows across, u32 count, Global<T> dx, Global<const T> g)) {              \
        adaptive_avg_pool_backward(windows, across, count, dx, g);                                                              \
    }

FOR_FLOATS(POOL)
