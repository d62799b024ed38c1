// Convolutions with one channel for each group, directly: y[p, c] = Σ over taps r of x[under(p, r), c] w[r, c] (+ b[c]), and gradients.
//
// Layout: images [outer, spatial…, inner] in units as for pooling, which are vectors of V channels where these come last, else elements
// of planes; weights [taps, c] or [c, taps], by their strides. Each sum is one thread's, over taps in their order, in the type of sums.
//
// Launch: a thread for each unit of a run of P places of the result along a dim, which reads what the windows of the run share once:
// along the last dim for channels that come last, else along the one before it, so that neighbours read neighbouring elements.
// Bytes: each operand once, rows that windows share from a cache.
#include "gemm/epilogue.h"
#include "group.h"
#include "windows.h"

// What is the same for all threads: `Depthwise` of src/backend/conv/depthwise.rs.
struct Depthwise {
    Windows windows;
    Divisor channels; // of an image in planes, 1 otherwise
    Divisor runs;     // along the dim of runs
    u32 count;        // threads
    i64 w_tap, w_channel; // strides of the weight
};

constexpr int RUN = 4;

// A run of places of the result along dim D, each S further on in the input, in windows of K taps next to each other along D, or of any
// number anywhere if K is 0.
template <class T, int V, int D, int K, int S>
DEVICE void depthwise(const Depthwise &d, Global<T> y, Global<const T> x, Global<const T> w, u32 with_bias, Global<const T> bias,
                      const Epilogue &epilogue) {
    using A = Wide<T>;
    constexpr int OTHER = 3 - D; // the other one of the last two dims
    const Windows &s = d.windows;
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= d.count) return;
    // Where the run begins.
    u32 rest = s.inner.quotient(e), o[3];
    const u32 unit = e - rest * s.inner.divisor;
    UNROLL for (int k = 2; k >= 0; k--) {
        const Divisor &extent = k == D ? d.runs : s.out[k];
        const u32 outer = extent.quotient(rest);
        o[k] = rest - outer * extent.divisor;
        rest = outer;
    }
    o[D] *= RUN;
    const u32 c = d.channels.divisor > 1 ? rest - d.channels.quotient(rest) * d.channels.divisor : unit * V;
    const i64 from = i64(rest) * s.size_volume() * s.inner.divisor + unit;
    const u32 stride = K > 0 ? S : s.stride[D], taps = K > 0 ? K : s.kernel[D].divisor, dilation = K > 0 ? 1 : s.dilation[D];
    const u32 step = D == 2 ? 1 : s.size[2].divisor, begin = o[D] * stride - s.padding[D];

    A sums[RUN][V] = {};
    for (u32 a = 0; a < s.kernel[0].divisor; a++) {
        const u32 i = o[0] * s.stride[0] + a * s.dilation[0] - s.padding[0];
        if (i >= s.size[0].divisor) continue; // below 0 too, as numbers wrap
        for (u32 b = 0; b < s.kernel[OTHER].divisor; b++) {
            const u32 j = o[OTHER] * s.stride[OTHER] + b * s.dilation[OTHER] - s.padding[OTHER];
            if (j >= s.size[OTHER].divisor) continue;
            const i64 line = i64(i) * s.size[1].divisor * s.size[2].divisor + i64(j) * (D == 2 ? s.size[2].divisor : 1);
            const u32 before = a * s.kernel[1].divisor * s.kernel[2].divisor + b * (D == 2 ? s.kernel[2].divisor : 1);
            const i64 weights = i64(before) * d.w_tap + i64(c) * d.w_channel, next = D == 2 ? d.w_tap : d.w_tap * s.kernel[2].divisor;
            const auto load = [&](u32 at) -> Vec<T, V> {
                if (at >= s.size[D].divisor) return {};
                return x.template load_vector<V>((from + (line + i64(at) * step) * s.inner.divisor) * V);
            };
            if constexpr (K > 0) {
                Vec<T, V> tap[K];
                UNROLL for (int k = 0; k < K; k++) tap[k] = w.template load_vector<V>(weights + k * next);
                UNROLL for (int at = 0; at < (RUN - 1) * S + K; at++) {
                    const Vec<T, V> values = load(begin + at);
                    UNROLL for (int p = 0; p < RUN; p++)
                        if (at >= p * S && at < p * S + K)
                            UNROLL for (int v = 0; v < V; v++) sums[p][v] = std::fma(widen(values[v]), widen(tap[at - p * S][v]), sums[p][v]);
                }
            } else
                for (u32 k = 0; k < taps; k++) {
                    const Vec<T, V> tap = w.template load_vector<V>(weights + k * next);
                    UNROLL for (int p = 0; p < RUN; p++) {
                        const Vec<T, V> values = load(begin + p * stride + k * dilation);
                        UNROLL for (int v = 0; v < V; v++) sums[p][v] = std::fma(widen(values[v]), widen(tap[v]), sums[p][v]);
                    }
                }
        }
    }
    if (with_bias) {
        const Vec<T, V> b = bias.template load_vector<V>(c);
        UNROLL for (int p = 0; p < RUN; p++)
            UNROLL for (int v = 0; v < V; v++) sums[p][v] += widen(b[v]);
    }
    const u32 first = (o[0] * s.out[1].divisor + o[1]) * s.out[2].divisor + o[2], over = D == 2 ? 1 : s.out[2].divisor;
    const i64 to = i64(rest) * s.out_volume() * s.inner.divisor + unit;
    UNROLL for (int p = 0; p < RUN; p++) {
        if (o[D] + p >= s.out[D].divisor) break;
        finish_run<V>(epilogue, y, (to + i64(first + p * over) * s.inner.divisor) * V, sums[p]);
    }
}

// dx[i, c] = Σ over taps r of g[over(i, r), c] w[r, c]: a thread for each unit of the input. For strides: without them it is a
// convolution with the taps in reverse.
template <class T, int V> DEVICE void depthwise_grad_input(const Depthwise &d, Global<T> dx, Global<const T> g, Global<const T> w) {
    const Windows &s = d.windows;
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= d.count) return;
    const auto unit = s.unit(e, s.size_volume());
    const u32 c = d.channels.divisor > 1 ? unit.outer - d.channels.quotient(unit.outer) * d.channels.divisor : unit.inner * V;
    const i64 start = s.start(unit, s.out_volume());
    Wide<T> sums[V] = {};
    for (u32 tap = s.kernel_volume(); tap-- > 0;) {
        const i32 at = s.over(unit.place, tap);
        if (at < 0) continue;
        const Vec<T, V> grads = g.template load_vector<V>((start + s.step(at)) * V);
        const Vec<T, V> weights = w.template load_vector<V>(tap * d.w_tap + i64(c) * d.w_channel);
        UNROLL for (int v = 0; v < V; v++) sums[v] = std::fma(widen(grads[v]), widen(weights[v]), sums[v]);
    }
    Vec<T, V> results;
    UNROLL for (int v = 0; v < V; v++) results[v] = narrow<T>(sums[v]);
    dx.template store_vector<V>(i64(e) * V, results);
}

// dw[r, c] = Σ over images and places p of g[p, c] x[under(p, r), c], for channels that come last, in pieces of `chunk` places:
// [piece, taps, c]. A block has a row of K taps along the last dim (block_x), some vectors of channels (block_y), and a piece (block_z);
// its threads of the same channels are added up in shared memory, always in the same order. `count` is images times places.
template <class T, int K>
DEVICE void depthwise_grad_weight(const Depthwise &d, u32 chunk, u32 log_across, Global<Wide<T>> dw, Global<const T> g, Global<const T> x) {
    using A = Wide<T>;
    constexpr int V = 16 / sizeof(T);
    SHARED(A, memory, GROUP_BLOCK *V);
    const Windows &s = d.windows;
    const u32 across = 1u << log_across, down = GROUP_BLOCK >> log_across;
    const u32 i = thread_x() & (across - 1), j = thread_x() >> log_across;
    const u32 unit = block_y() * across + i, inner = s.inner.divisor;
    const bool inside = unit < inner;
    const u32 first = block_z() * chunk, last = d.count - first < chunk ? d.count : first + chunk;
    const u32 places = s.out_volume(), size = s.size_volume(), tap = block_x() * K;
    A sums[K][V] = {};
    for (u32 p = first + j; p < (inside ? last : first); p += down) {
        const u32 image = p / places, place = p - image * places;
        const Vec<T, V> grads = g.template load_vector<V>((i64(p) * inner + unit) * V);
        UNROLL for (int k = 0; k < K; k++) {
            const i32 at = s.under(place, tap + k);
            if (at < 0) continue;
            const Vec<T, V> values = x.template load_vector<V>(((i64(image) * size + at) * inner + unit) * V);
            UNROLL for (int v = 0; v < V; v++) sums[k][v] = std::fma(widen(grads[v]), widen(values[v]), sums[k][v]);
        }
    }
    UNROLL for (int k = 0; k < K; k++) {
        block_sync(); // what was there before has been read
        UNROLL for (int v = 0; v < V; v++) memory[(j * V + v) * across + i] = sums[k][v];
        block_sync();
        for (u32 half = down / 2; half > 0; half /= 2) {
            if (j < half)
                UNROLL for (int v = 0; v < V; v++) memory[(j * V + v) * across + i] = memory[(j * V + v) * across + i] + memory[((j + half) * V + v) * across + i];
            block_sync();
        }
        if (inside && j == 0)
            UNROLL for (int v = 0; v < V; v++)
                dw[((i64(block_z()) * s.kernel_volume() + tap + k) * inner + unit) * V + v] = memory[v * across + i];
    }
}

// Threads of a block, and how many blocks a multiprocessor is to have at least.
#define BOUNDS 256, 2

#define FORWARD(T, name, V, D, K, S)                                                                                             \
    KERNEL_OF(BOUNDS, depthwise_##name##_##T,                                                                                       \
              (PARAMETER Depthwise d, Global<T> y, Global<const T> x, Global<const T> w, u32 with_bias, Global<const T> bias,    \
               PARAMETER Epilogue epilogue)) {                                                                                   \
        depthwise<T, V, D, K, S>(d, y, x, w, with_bias, bias, epilogue);                                                         \
    }
#define UNROLLED(T, name, V, D)                                                                                                  \
    FORWARD(T, name##_3_1, V, D, 3, 1) FORWARD(T, name##_3_2, V, D, 3, 2) FORWARD(T, name##_5_1, V, D, 5, 1)
#define ORDER(T, name, V, D)                                                                                                     \
    FORWARD(T, name##_any, V, D, 0, 1)                                                                                           \
    KERNEL_OF(256, depthwise_grad_input_##name##_##T,                                                                            \
              (PARAMETER Depthwise d, Global<T> dx, Global<const T> g, Global<const T> w)) {                                     \
        depthwise_grad_input<T, V>(d, dx, g, w);                                                                                 \
    }
#define GRAD_WEIGHT(T, K)                                                                                                        \
    KERNEL_OF(GROUP_BLOCK, depthwise_grad_weight_##K##_##T,                                                                      \
              (PARAMETER Depthwise d, u32 chunk, u32 log_across, Global<Wide<T>> dw, Global<const T> g, Global<const T> x)) {    \
        depthwise_grad_weight<T, K>(d, chunk, log_across, dw, g, x);                                                             \
    }
#define DEPTHWISE(T)                                                                                                             \
    ORDER(T, planes, 1, 1) ORDER(T, last, 16 / sizeof(T), 2) GRAD_WEIGHT(T, 1) GRAD_WEIGHT(T, 3) GRAD_WEIGHT(T, 5)

FOR_FLOATS(DEPTHWISE)

// Windows of which a thread has all taps in registers.
#define WINDOWS(T) UNROLLED(T, planes, 1, 1) UNROLLED(T, last, 16 / sizeof(T), 2)

WINDOWS(f32)
WINDOWS(f16)
WINDOWS(bf16)
