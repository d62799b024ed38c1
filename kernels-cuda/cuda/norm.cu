// Normalisation of lines (layer_norm) and of channels (batch_norm), forward and backward. Formulas in tensor/src/composed/mod.rs.
//
// Layout: lines [lines, n] and channels [images, c, places], row-major, or rows [images · places, c] where channels come last, which are
// channels of one place each; statistics in the type of the sums.
// Launch: a group of threads for each line, and for each channel and piece of its elements (block_y); what pieces give is joined in
// order. Bytes: forward and backward of lines read each operand two or three times, of which all but the
// first come from a cache.
#include "group.h"
#include "walk.h"

constexpr u32 WEIGHT = 1, BIAS = 2; // bits of `affine`

template <class A> DEVICE A total(const Member &member, A value) {
    return across(member, value, [](A a, A b) { return a + b; });
}

// y = (x - mean) rstd w + b, with rstd = 1 / √(var + eps).
template <class T>
DEVICE void layer_norm(u32 lines, u32 n, u32 log_size, f64 eps, u32 affine, Global<T> y, Global<Wide<T>> means, Global<Wide<T>> rstds,
                       Global<const T> x, Global<const T> w, Global<const T> b) {
    using A = Wide<T>;
    const Member member(log_size);
    const bool inside = member.line < lines;
    const u32 end = inside ? n : 0;
    const i64 start = i64(member.line) * n;
    A sum = 0;
    for (u32 i = member.index; i < end; i += member.size) sum += widen(x[start + i]);
    const A mean = total(member, sum) / A(n);
    sum = 0;
    for (u32 i = member.index; i < end; i += member.size) {
        const A centred = widen(x[start + i]) - mean;
        sum = std::fma(centred, centred, sum);
    }
    const A rstd = A(1) / std::sqrt(total(member, sum) / A(n) + A(eps));
    for (u32 i = member.index; i < end; i += member.size) {
        A value = (widen(x[start + i]) - mean) * rstd;
        if (affine & WEIGHT) value = value * widen(w[i]);
        if (affine & BIAS) value = value + widen(b[i]);
        y[start + i] = narrow<T>(value);
    }
    if (inside && member.index == 0) means[member.line] = mean, rstds[member.line] = rstd;
}

// With z = (x - mean) rstd and h = g w: dx = rstd (h - mean(h) - z mean(h z)).
template <class T>
DEVICE void layer_norm_backward(u32 lines, u32 n, u32 log_size, u32 affine, Global<T> dx, Global<const T> g, Global<const T> x,
                                Global<const Wide<T>> means, Global<const Wide<T>> rstds, Global<const T> w) {
    using A = Wide<T>;
    const Member member(log_size);
    const bool inside = member.line < lines;
    const u32 end = inside ? n : 0;
    const i64 start = i64(member.line) * n;
    const A mean = inside ? A(means[member.line]) : A(0), rstd = inside ? A(rstds[member.line]) : A(0);
    const auto pulled = [&](u32 i) { return widen(g[start + i]) * (affine & WEIGHT ? widen(w[i]) : A(1)); };
    const auto normal = [&](u32 i) { return (widen(x[start + i]) - mean) * rstd; };
    A h = 0, hz = 0;
    for (u32 i = member.index; i < end; i += member.size) {
        const A value = pulled(i);
        h += value, hz = std::fma(value, normal(i), hz);
    }
    h = total(member, h) / A(n), hz = total(member, hz) / A(n);
    for (u32 i = member.index; i < end; i += member.size) dx[start + i] = narrow<T>(rstd * (pulled(i) - h - normal(i) * hz));
}

// dw = Σ g z and db = Σ g over lines: a thread for each place of a line, block_y the piece of `chunk` lines. Layout: [pieces, n].
template <class T>
DEVICE void layer_norm_weights(u32 lines, u32 n, u32 chunk, Global<Wide<T>> dw, Global<Wide<T>> db, Global<const T> g,
                               Global<const T> x, Global<const Wide<T>> means, Global<const Wide<T>> rstds) {
    using A = Wide<T>;
    const u32 i = block_x() * block_size() + thread_x();
    if (i >= n) return;
    const u32 first = block_y() * chunk, last = first + chunk < lines ? first + chunk : lines;
    A weight = 0, bias = 0;
    for (u32 line = first; line < last; line++) {
        const A grad = widen(g[i64(line) * n + i]);
        weight = std::fma(grad, (widen(x[i64(line) * n + i]) - means[line]) * rstds[line], weight);
        bias += grad;
    }
    dw[i64(block_y()) * n + i] = weight;
    db[i64(block_y()) * n + i] = bias;
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

// Mean and sum of squared distances from it of each piece of a channel. Layout: [c, pieces] each.
template <class T>
DEVICE void channel_moments(const Divisor &places, u32 channels, u32 count, u32 chunk, u32 log_size, Global<Wide<T>> means, Global<Wide<T>> squares,
                            Global<const T> x) {
    using A = Wide<T>;
    const Member member(log_size);
    const Channel channel{places, channels, member.line};
    const bool inside = member.line < channels;
    const u32 first = block_y() * chunk, last = first + chunk < count ? first + chunk : count;
    const u32 begin = inside ? first + member.index : last;
    A sum = 0;
    for (u32 i = begin; i < last; i += member.size) sum += widen(x[channel.at(i)]);
    const A mean = total(member, sum) / A(last - first);
    sum = 0;
    for (u32 i = begin; i < last; i += member.size) {
        const A centred = widen(x[channel.at(i)]) - mean;
        sum = std::fma(centred, centred, sum);
    }
    sum = total(member, sum);
    const i64 to = i64(member.line) * grid_y() + block_y();
    if (inside && member.index == 0) means[to] = mean, squares[to] = sum;
}

// Count, mean and sum of squared distances from it of some numbers.
template <class A> struct Moments {
    A count, mean, squares;

    // Those of both together (Chan, Golub, LeVeque 1979).
    DEVICE Moments joined(const Moments &other) const {
        if (count + other.count == 0) return *this;
        const A share = other.count / (count + other.count), apart = other.mean - mean;
        return {count + other.count, std::fma(apart, share, mean), squares + other.squares + apart * apart * count * share};
    }
};

// Joins the moments of pieces, a warp for each channel, always in the same order: mean and biased variance.
template <class A>
DEVICE void join_moments(u32 channels, u32 pieces, u32 count, u32 chunk, Global<A> mean, Global<A> variance, Global<const A> means,
                         Global<const A> squares) {
    const u32 c = (block_x() * block_size() + thread_x()) / 32;
    Moments<A> all{0, 0, 0};
    for (u32 p = lane(); p < (c < channels ? pieces : 0); p += 32) {
        const u32 before = p * chunk, here = before + chunk < count ? chunk : count - before;
        all = all.joined({A(here), means[i64(c) * pieces + p], squares[i64(c) * pieces + p]});
    }
    UNROLL for (u32 by = 16; by > 0; by /= 2) {
        const Moments<A> other{shuffle_xor(all.count, by), shuffle_xor(all.mean, by), shuffle_xor(all.squares, by)};
        // The lower lane's stand on the left in both.
        all = (lane() & by) ? other.joined(all) : all.joined(other);
    }
    if (c >= channels || lane() != 0) return;
    mean[c] = all.mean;
    variance[c] = all.squares / all.count;
}

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

// Σ g z and Σ g over each piece of a channel. Layout: [c, pieces] each.
template <class T>
DEVICE void channel_gradients(const Divisor &places, u32 channels, u32 count, u32 chunk, u32 log_size, Global<Wide<T>> dw,
                              Global<Wide<T>> db, Global<const T> g, Global<const T> x, Global<const Wide<T>> means, Global<const Wide<T>> rstds) {
    using A = Wide<T>;
    const Member member(log_size);
    const Channel channel{places, channels, member.line};
    const bool inside = member.line < channels;
    const u32 first = block_y() * chunk, last = first + chunk < count ? first + chunk : count;
    const A mean = inside ? A(means[member.line]) : A(0), rstd = inside ? A(rstds[member.line]) : A(0);
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

// As channel_moments, for channels that come last.
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

#define NORM(T)                                                                                                                  \
    KERNEL_OF(GROUP_BLOCK, layer_norm_##T,                                                                                       \
              (u32 lines, u32 n, u32 log_size, f64 eps, u32 affine, Global<T> y, Global<Wide<T>> means, Global<Wide<T>> rstds,   \
               Global<const T> x, Global<const T> w, Global<const T> b)) {                                                       \
        layer_norm(lines, n, log_size, eps, affine, y, means, rstds, x, w, b);                                                   \
    }                                                                                                                            \
    KERNEL_OF(GROUP_BLOCK, layer_norm_backward_##T,                                                                              \
              (u32 lines, u32 n, u32 log_size, u32 affine, Global<T> dx, Global<const T> g, Global<const T> x,                   \
               Global<const Wide<T>> means, Global<const Wide<T>> rstds, Global<const T> w)) {                                   \
        layer_norm_backward(lines, n, log_size, affine, dx, g, x, means, rstds, w);                                              \
    }                                                                                                                            \
    KERNEL_OF(256, layer_norm_weights_##T,                                                                                       \
              (u32 lines, u32 n, u32 chunk, Global<Wide<T>> dw, Global<Wide<T>> db, Global<const T> g, Global<const T> x,        \
               Global<const Wide<T>> means, Global<const Wide<T>> rstds)) {                                                      \
        layer_norm_weights(lines, n, chunk, dw, db, g, x, means, rstds);                                                         \
    }                                                                                                                            \
    KERNEL_OF(GROUP_BLOCK, channel_moments_##T,                                                                                  \
              (PARAMETER Divisor places, u32 channels, u32 count, u32 chunk, u32 log_size, Global<Wide<T>> means,                \
               Global<Wide<T>> squares, Global<const T> x)) {                                                                    \
        channel_moments(places, channels, count, chunk, log_size, means, squares, x);                                            \
    }                                                                                                                            \
    KERNEL_OF(GROUP_BLOCK, channel_gradients_##T,                                                                                \
              (PARAMETER Divisor places, u32 channels, u32 count, u32 chunk, u32 log_size, Global<Wide<T>> dw,                   \
               Global<Wide<T>> db, Global<const T> g, Global<const T> x, Global<const Wide<T>> means,                            \
               Global<const Wide<T>> rstds)) {                                                                                   \
        channel_gradients(places, channels, count, chunk, log_size, dw, db, g, x, means, rstds);                                 \
    }

FOR_FLOATS(NORM)

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

#define JOIN(A)                                                                                                                  \
    KERNEL_OF(256, join_moments_##A,                                                                                             \
              (u32 channels, u32 pieces, u32 count, u32 chunk, Global<A> mean, Global<A> variance, Global<const A> means,        \
               Global<const A> squares)) {                                                                                       \
        join_moments(channels, pieces, count, chunk, mean, variance, means, squares);                                            \
    }

JOIN(f32)
JOIN(f64)
