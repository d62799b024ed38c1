// Normalisation of lines, forward and backward: layer_norm, rms_norm, whose mean is taken for 0, and group_norm, whose lines are the
// channels of a group. Formulas in tensor/src/composed.
//
// Layout: lines [lines, n], row-major; statistics in the type of the sums. No `means` make it rms_norm.
// Launch: a group of threads for each line. Bytes: each operand once, as a thread holds some 128 bytes of its line in registers; what lines
// have beyond (from 8,192 numbers of 32 bits on, from half of that in the gradient) is read again from a cache.
#include "group.h"
#include "map.h"

constexpr u32 WEIGHT = 1, BIAS = 2; // bits of `given`

template <class A> DEVICE A total(const Member &member, A value) {
    return across(member, value, [](A a, A b) { return a + b; });
}

// Which weight and bias an element has: that of its channel.
struct Affine {
    u32 given, channels;   // what there is, and channels of a line
    Divisor groups, places; // lines that have other channels, and elements of a channel

    DEVICE i64 first(u32 line) const { return i64(line - groups.quotient(line) * groups.divisor) * channels; }

    // Those of V elements: of one channel, or, with one place, of as many.
    template <int V, class T> DEVICE Vec<T, V> of(Global<const T> w, i64 first, u32 i) const {
        return fetch<V>(w, first + places.quotient(i), places.divisor > 1);
    }
};

// A line of N operands that a group of threads shares, V elements at a time: those that a thread has first it holds in registers.
template <class T, int V, int N> struct Line {
    static constexpr u32 HELD = (V > 1 ? 8 : 16) / N;
    Member member;
    u32 end;
    i64 start;
    Global<const T> from[N];
    Vec<T, V> held[HELD][N];

    DEVICE u32 place(u32 k) const { return (k * member.size + member.index) * V; }

    DEVICE void read(u32 k, Vec<T, V> (&to)[N]) const {
        UNROLL for (int j = 0; j < N; j++) to[j] = from[j].template load_vector<V>(start + place(k));
    }

    DEVICE void hold() {
        UNROLL for (u32 k = 0; k < HELD; k++)
            if (place(k) < end) read(k, held[k]);
    }

    // Calls f(i, operands) for the elements from i on that the thread has.
    template <class F> DEVICE void each(F f) const {
        UNROLL for (u32 k = 0; k < HELD; k++)
            if (place(k) < end) f(place(k), held[k]);
        ROLLED for (u32 k = HELD; place(k) < end; k++) {
            Vec<T, V> again[N];
            read(k, again);
            f(place(k), again);
        }
    }
};

// y = (x - mean) rstd w + b, with rstd = 1 / √(var + eps).
template <class T, int V>
DEVICE void layer_norm(u32 lines, u32 n, u32 log_size, const Affine &affine, f64 eps, Global<T> y, Global<Wide<T>> means,
                       Global<Wide<T>> rstds, Global<const T> x, Global<const T> w, Global<const T> b) {
    using A = Wide<T>;
    using Operands = const Vec<T, V> (&)[1];
    const Member member(log_size);
    const bool inside = member.line < lines;
    Line<T, V, 1> line{member, inside ? n : 0, i64(member.line) * n, {x}};
    line.hold();
    A mean = 0, squares = 0;
    if (means.pointer) {
        line.each([&](u32, Operands v) { UNROLL for (int j = 0; j < V; j++) mean += widen(v[0][j]); });
        mean = total(member, mean) / A(n);
    }
    line.each([&](u32, Operands v) {
        UNROLL for (int j = 0; j < V; j++) {
            const A centred = widen(v[0][j]) - mean;
            squares = std::fma(centred, centred, squares);
        }
    });
    const A rstd = A(1) / std::sqrt(total(member, squares) / A(n) + A(eps));
    const i64 first = affine.first(member.line);
    line.each([&](u32 i, Operands v) {
        A values[V];
        UNROLL for (int j = 0; j < V; j++) values[j] = (widen(v[0][j]) - mean) * rstd;
        if (affine.given & WEIGHT) {
            const Vec<T, V> weight = affine.template of<V>(w, first, i);
            UNROLL for (int j = 0; j < V; j++) values[j] = values[j] * widen(weight[j]);
        }
        if (affine.given & BIAS) {
            const Vec<T, V> bias = affine.template of<V>(b, first, i);
            UNROLL for (int j = 0; j < V; j++) values[j] = values[j] + widen(bias[j]);
        }
        Vec<T, V> results;
        UNROLL for (int j = 0; j < V; j++) results[j] = narrow<T>(values[j]);
        y.template store_vector<V>(line.start + i, results);
    });
    if (!inside || member.index != 0) return;
    if (means.pointer) means[member.line] = mean;
    rstds[member.line] = rstd;
}

// With z = (x - mean) rstd and h = g w: dx = rstd (h - mean(h) - z mean(h z)); without means dx = rstd (h - z mean(h z)).
template <class T, int V>
DEVICE void layer_norm_backward(u32 lines, u32 n, u32 log_size, const Affine &affine, Global<T> dx, Global<const T> g, Global<const T> x,
                                Global<const Wide<T>> means, Global<const Wide<T>> rstds, Global<const T> w) {
    using A = Wide<T>;
    const Member member(log_size);
    const bool inside = member.line < lines;
    Line<T, V, 2> line{member, inside ? n : 0, i64(member.line) * n, {g, x}};
    line.hold();
    const A mean = inside && means.pointer ? A(means[member.line]) : A(0), rstd = inside ? A(rstds[member.line]) : A(0);
    const i64 first = affine.first(member.line);
    const auto each = [&](auto f) {
        line.each([&](u32 i, const Vec<T, V>(&v)[2]) {
            A h[V], z[V];
            UNROLL for (int j = 0; j < V; j++) h[j] = widen(v[0][j]), z[j] = (widen(v[1][j]) - mean) * rstd;
            if (affine.given & WEIGHT) {
                const Vec<T, V> weight = affine.template of<V>(w, first, i);
                UNROLL for (int j = 0; j < V; j++) h[j] = h[j] * widen(weight[j]);
            }
            f(i, h, z);
        });
    };
    A along = 0, across_z = 0;
    each([&](u32, const A(&h)[V], const A(&z)[V]) {
        UNROLL for (int j = 0; j < V; j++) along += h[j], across_z = std::fma(h[j], z[j], across_z);
    });
    along = means.pointer ? total(member, along) / A(n) : A(0);
    across_z = total(member, across_z) / A(n);
    each([&](u32 i, const A(&h)[V], const A(&z)[V]) {
        Vec<T, V> results;
        UNROLL for (int j = 0; j < V; j++) results[j] = narrow<T>(rstd * (h[j] - along - z[j] * across_z));
        dx.template store_vector<V>(line.start + i, results);
    });
}

// dw = Σ g z and, if asked for, db = Σ g over lines: a thread for each place of a line, block_y the piece of `chunk` lines.
// Layout: [pieces, n].
template <class T>
DEVICE void layer_norm_weights(u32 lines, u32 n, u32 chunk, Global<Wide<T>> dw, Global<Wide<T>> db, Global<const T> g,
                               Global<const T> x, Global<const Wide<T>> means, Global<const Wide<T>> rstds) {
    using A = Wide<T>;
    const u32 i = block_x() * block_size() + thread_x();
    if (i >= n) return;
    const u32 first = block_y() * chunk, last = first + chunk < lines ? first + chunk : lines;
    A weight = 0, bias = 0;
    for (u32 line = first; line < last; line++) {
        const A grad = widen(g[i64(line) * n + i]), mean = means.pointer ? A(means[line]) : A(0);
        weight = std::fma(grad, (widen(x[i64(line) * n + i]) - mean) * rstds[line], weight);
        bias += grad;
    }
    dw[i64(block_y()) * n + i] = weight;
    if (db.pointer) db[i64(block_y()) * n + i] = bias;
}

// An element at a time, and with _v in vectors of 16 bytes.
#define LINES(T, suffix, V)                                                                                                      \
    KERNEL_WIDE(GROUP_BLOCK, 1, layer_norm##suffix##_##T,                                                                        \
              (u32 lines, u32 n, u32 log_size, PARAMETER Affine affine, f64 eps, Global<T> y, Global<Wide<T>> means,             \
               Global<Wide<T>> rstds, Global<const T> x, Global<const T> w, Global<const T> b)) {                                \
        layer_norm<T, V>(lines, n, log_size, affine, eps, y, means, rstds, x, w, b);                                             \
    }                                                                                                                            \
    KERNEL_WIDE(GROUP_BLOCK, 1, layer_norm_backward##suffix##_##T,                                                               \
              (u32 lines, u32 n, u32 log_size, PARAMETER Affine affine, Global<T> dx, Global<const T> g, Global<const T> x,      \
               Global<const Wide<T>> means, Global<const Wide<T>> rstds, Global<const T> w)) {                                   \
        layer_norm_backward<T, V>(lines, n, log_size, affine, dx, g, x, means, rstds, w);                                        \
    }
#define NORM(T)                                                                                                                  \
    LINES(T, , 1)                                                                                                                \
    LINES(T, _v, 16 / sizeof(T))                                                                                                 \
    KERNEL_OF(256, layer_norm_weights_##T,                                                                                       \
              (u32 lines, u32 n, u32 chunk, Global<Wide<T>> dw, Global<Wide<T>> db, Global<const T> g, Global<const T> x,        \
               Global<const Wide<T>> means, Global<const Wide<T>> rstds)) {                                                      \
        layer_norm_weights(lines, n, chunk, dw, db, g, x, means, rstds);                                                         \
    }

FOR_FLOATS(NORM)
