// Normalisation of channels (batch_norm), forward and backward. Formulas in tensor/src/composed/mod.rs.
//
// Layout: [images, c, places], row-major, or rows [images · places, c] where channels come last, which are channels of one place each;
// statistics in the type of the sums; those of planes come from moments.cu.
// Launch: a group of threads for each channel and piece of its elements (block_y); what pieces give is joined in order. Bytes: each operand
// once in a kernel, but those of channels that come last twice for their moments, of which the second comes from a cache.
#include "group.h"
#include "walk.h"

constexpr u32 WEIGHT = 1, BIAS = 2; // bits of `affine`

template <class A> DEVICE A total(const Member &member, A value) {
    return across(member, value, [](A a, A b) { return a + b; });
}

// The elements of a channel in order: image after image.
struct Channel {
    Divisor places;
    u32 channels, channel;

    DEVICE i64 at(u32 i) const {
        const u32 image = places.quotient(i), place = i - image * places.divisor;
        return (i64(image) * channels + channel) * places.divisor + place;
    }
};

// y = (x - mean) rstd w + b, a thread for each V elements: of one channel if places are whole vectors, or, with one place, of as many
// channels.
template <class T, int V>
DEVICE void batch_norm(u32 count, const Divisor &places, const Divisor &channels, u32 affine, Global<T> y, Global<const T> x,
                       Global<const Wide<T>> means, Global<const Wide<T>> rstds, Global<const T> w, Global<const T> b) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 plane = places.quotient(e * V), first = plane - channels.quotient(plane) * channels.divisor, step = places.divisor == 1;
    const Vec<T, V> given = x.template load_vector<V>(i64(e) * V);
    Vec<T, V> results;
    UNROLL for (int v = 0; v < V; v++) {
        const u32 c = first + v * step;
        Wide<T> value = (widen(given[v]) - means[c]) * rstds[c];
        if (affine & WEIGHT) value = value * widen(w[c]);
        if (affine & BIAS) value = value + widen(b[c]);
        results[v] = narrow<T>(value);
    }
    y.template store_vector<V>(i64(e) * V, results);
}

// Σ g z and Σ g over each piece of a channel; so many channels side by side share their statistics. Layout: [c, pieces] each.
template <class T>
DEVICE void channel_gradients(const Divisor &places, u32 channels, u32 count, u32 chunk, u32 log_size, const Divisor &sharing,
                              Global<Wide<T>> dw, Global<Wide<T>> db, Global<const T> g, Global<const T> x, Global<const Wide<T>> means, Global<const Wide<T>> rstds) {
    using A = Wide<T>;
    const Member member(log_size);
    const Channel channel{places, channels, member.line};
    const bool inside = member.line < channels;
    const u32 first = block_y() * chunk, last = first + chunk < count ? first + chunk : count;
    const u32 statistic = inside ? sharing.quotient(member.line) : 0;
    const A mean = means[statistic], rstd = rstds[statistic];
    A weight = 0, bias = 0;
    for (u32 i = inside ? first + member.index : last; i < last; i += member.size) {
        const i64 at = channel.at(i);
        const A grad = widen(g[at]);
        weight = std::fma(grad, (widen(x[at]) - mean) * rstd, weight);
        bias += grad;
    }
    weight = total(member, weight), bias = total(member, bias);
    const i64 to = i64(member.line) * grid_y() + block_y();
    if (inside && member.index == 0) dw[to] = weight, db[to] = bias;
}

// dx = rstd w (g - db / count - z dw / count), or rstd w g where the statistics are constants. Threads as for batch_norm.
template <class T, int V>
DEVICE void batch_norm_backward(u32 count, const Divisor &places, const Divisor &channels, u32 affine, u32 training, f64 scale,
                                Global<T> dx, Global<const T> g, Global<const T> x, Global<const Wide<T>> means,
                                Global<const Wide<T>> rstds, Global<const T> w, Global<const Wide<T>> dw, Global<const Wide<T>> db) {
    using A = Wide<T>;
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 plane = places.quotient(e * V), first = plane - channels.quotient(plane) * channels.divisor, step = places.divisor == 1;
    const Vec<T, V> grads = g.template load_vector<V>(i64(e) * V), given = x.template load_vector<V>(i64(e) * V);
    Vec<T, V> results;
    UNROLL for (int v = 0; v < V; v++) {
        const u32 c = first + v * step;
        const A rstd = rstds[c];
        A value = widen(grads[v]);
        if (training) value -= (db[c] + (widen(given[v]) - means[c]) * rstd * dw[c]) * A(scale);
        if (affine & WEIGHT) value = value * widen(w[c]);
        results[v] = narrow<T>(value * rstd);
    }
    dx.template store_vector<V>(i64(e) * V, results);
}

// Sums over rows of images with their channels last, x[row, channels]: V channels for each thread, which takes every rows_of_block-th
// row of a piece; those of a block that have the same channels are added up in shared memory, always in the same order.
//
// Launch: blocks of GROUP_BLOCK, block_x the channels, 2^log_across vectors of them, block_y the piece of `chunk` rows.
template <class T> struct Columns {
    static constexpr int V = 16 / sizeof(T);
    using A = Wide<T>;

    u32 across, down; // threads of a row of the block, and its rows
    u32 x, y;         // of the thread
    u32 channel;      // first of the thread
    u32 first, last;  // rows of the piece
    bool inside;

    DEVICE Columns(u32 rows, u32 channels, u32 chunk, u32 log_across) {
        across = 1u << log_across, down = GROUP_BLOCK >> log_across;
        x = thread_x() & (across - 1), y = thread_x() >> log_across;
        channel = (block_x() * across + x) * V;
        first = block_y() * chunk, last = first + chunk < rows ? first + chunk : rows;
        inside = channel < channels;
    }

    // The sum of `values` over the threads of the block with the same channels; each gets it.
    DEVICE void total(const Shared<A> &memory, A (&values)[V]) const {
        block_sync(); // what was there before has been read
        UNROLL for (int v = 0; v < V; v++) memory[(y * V + v) * across + x] = values[v];
        block_sync();
        for (u32 half = down / 2; half > 0; half /= 2) {
            if (y < half)
                UNROLL for (int v = 0; v < V; v++) memory[(y * V + v) * across + x] = memory[(y * V + v) * across + x] + memory[((y + half) * V + v) * across + x];
            block_sync();
        }
        UNROLL for (int v = 0; v < V; v++) values[v] = memory[v * across + x];
    }
};

// Mean and sum of squared distances from it of each piece of channels that come last. Layout: [c, pieces] each.
template <class T>
DEVICE void column_moments(u32 rows, u32 channels, u32 chunk, u32 log_across, Global<Wide<T>> means, Global<Wide<T>> squares, Global<const T> x) {
    using A = Wide<T>;
    constexpr int V = Columns<T>::V;
    SHARED(A, memory, GROUP_BLOCK *V);
    const Columns<T> at(rows, channels, chunk, log_across);
    const u32 end = at.inside ? at.last : at.first;
    A mean[V] = {}, sum[V] = {};
    for (u32 row = at.first + at.y; row < end; row += at.down) {
        const Vec<T, V> values = x.template load_vector<V>(i64(row) * channels + at.channel);
        UNROLL for (int v = 0; v < V; v++) mean[v] += widen(values[v]);
    }
    at.total(memory, mean);
    UNROLL for (int v = 0; v < V; v++) mean[v] = mean[v] / A(at.last - at.first);
    for (u32 row = at.first + at.y; row < end; row += at.down) {
        const Vec<T, V> values = x.template load_vector<V>(i64(row) * channels + at.channel);
        UNROLL for (int v = 0; v < V; v++) {
            const A centred = widen(values[v]) - mean[v];
            sum[v] = std::fma(centred, centred, sum[v]);
        }
    }
    at.total(memory, sum);
    if (!at.inside || at.y != 0) return;
    UNROLL for (int v = 0; v < V; v++) {
        const i64 to = i64(at.channel + v) * grid_y() + block_y();
        means[to] = mean[v], squares[to] = sum[v];
    }
}

// As channel_gradients, for channels that come last.
template <class T>
DEVICE void column_gradients(u32 rows, u32 channels, u32 chunk, u32 log_across, Global<Wide<T>> dw, Global<Wide<T>> db, Global<const T> g,
                             Global<const T> x, Global<const Wide<T>> means, Global<const Wide<T>> rstds) {
    using A = Wide<T>;
    constexpr int V = Columns<T>::V;
    SHARED(A, memory, GROUP_BLOCK *V);
    const Columns<T> at(rows, channels, chunk, log_across);
    const u32 end = at.inside ? at.last : at.first;
    A mean[V] = {}, rstd[V] = {}, weight[V] = {}, bias[V] = {};
    if (at.inside)
        UNROLL for (int v = 0; v < V; v++) mean[v] = means[at.channel + v], rstd[v] = rstds[at.channel + v];
    for (u32 row = at.first + at.y; row < end; row += at.down) {
        const i64 place = i64(row) * channels + at.channel;
        const Vec<T, V> grads = g.template load_vector<V>(place), values = x.template load_vector<V>(place);
        UNROLL for (int v = 0; v < V; v++) {
            const A grad = widen(grads[v]);
            weight[v] = std::fma(grad, (widen(values[v]) - mean[v]) * rstd[v], weight[v]);
            bias[v] += grad;
        }
    }
    at.total(memory, weight);
    at.total(memory, bias);
    if (!at.inside || at.y != 0) return;
    UNROLL for (int v = 0; v < V; v++) {
        const i64 to = i64(at.channel + v) * grid_y() + block_y();
        dw[to] = weight[v], db[to] = bias[v];
    }
}

#define PLANES(T)                                                                                                               \
    KERNEL_OF(GROUP_BLOCK, channel_gradients_##T,                                                                               \
              (PARAMETER Divisor places, u32 channels, u32 count, u32 chunk, u32 log_size, PARAMETER Divisor sharing,           \
               Global<Wide<T>> dw, Global<Wide<T>> db, Global<const T> g, Global<const T> x, Global<const Wide<T>> means,       \
               Global<const Wide<T>> rstds)) {                                                                                  \
        channel_gradients(places, channels, count, chunk, log_size, sharing, dw, db, g, x, means, rstds);                       \
    }

FOR_FLOATS(PLANES)

// batch_norm_T and batch_norm_backward_T an element at a time, and with _v in vectors of 16 bytes.
#define CHANNELS(T, suffix, V)                                                                                                  \
    KERNEL_OF(256, batch_norm##suffix##_##T,                                                                                    \
              (u32 count, PARAMETER Divisor places, PARAMETER Divisor channels, u32 affine, Global<T> y, Global<const T> x,     \
               Global<const Wide<T>> means, Global<const Wide<T>> rstds, Global<const T> w, Global<const T> b)) {               \
        batch_norm<T, V>(count, places, channels, affine, y, x, means, rstds, w, b);                                            \
    }                                                                                                                           \
    KERNEL_OF(256, batch_norm_backward##suffix##_##T,                                                                           \
              (u32 count, PARAMETER Divisor places, PARAMETER Divisor channels, u32 affine, u32 training, f64 scale,            \
               Global<T> dx, Global<const T> g, Global<const T> x, Global<const Wide<T>> means, Global<const Wide<T>> rstds,    \
               Global<const T> w, Global<const Wide<T>> dw, Global<const Wide<T>> db)) {                                        \
        batch_norm_backward<T, V>(count, places, channels, affine, training, scale, dx, g, x, means, rstds, w, dw, db);         \
    }
#define COLUMNS(T)                                                                                                              \
    CHANNELS(T, , 1)                                                                                                            \
    CHANNELS(T, _v, 16 / sizeof(T))                                                                                             \
    KERNEL_OF(GROUP_BLOCK, column_moments_##T,                                                                                  \
              (u32 rows, u32 channels, u32 chunk, u32 log_across, Global<Wide<T>> means, Global<Wide<T>> squares,               \
               Global<const T> x)) {                                                                                            \
        column_moments(rows, channels, chunk, log_across, means, squares, x);                                                   \
    }                                                                                                                           \
    KERNEL_OF(GROUP_BLOCK, column_gradients_##T,                                                                                \
              (u32 rows, u32 channels, u32 chunk, u32 log_across, Global<Wide<T>> dw, Global<Wide<T>> db, Global<const T> g,    \
               Global<const T> x, Global<const Wide<T>> means, Global<const Wide<T>> rstds)) {                                  \
        column_gradients(rows, channels, chunk, log_across, dw, db, g, x, means, rstds);                                        \
    }

FOR_FLOATS(COLUMNS)
