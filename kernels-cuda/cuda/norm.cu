// Normalisation of lines (layer_norm) and of channels (batch_norm), forward and backward. Formulas in tensor/src/composed/mod.rs.
//
// Layout: lines [lines, n] and channels [images, c, places], row-major; statistics in the type of the sums.
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

// Joins the moments of pieces in order (Chan, Golub, LeVeque 1979), a thread for each channel: mean and biased variance.
template <class A>
DEVICE void join_moments(u32 channels, u32 pieces, u32 count, u32 chunk, Global<A> mean, Global<A> variance, Global<const A> means,
                         Global<const A> squares) {
    const u32 c = block_x() * block_size() + thread_x();
    if (c >= channels) return;
    A average = 0, sum = 0;
    for (u32 p = 0; p < pieces; p++) {
        const u32 before = p * chunk, here = before + chunk < count ? chunk : count - before;
        const A share = A(here) / A(before + here), apart = means[i64(c) * pieces + p] - average;
        average = std::fma(apart, share, average);
        sum += squares[i64(c) * pieces + p] + apart * apart * A(before) * share;
    }
    mean[c] = average;
    variance[c] = sum / A(count);
}

// y = (x - mean) rstd w + b, a thread for each element.
template <class T>
DEVICE void batch_norm(u32 count, const Divisor &places, const Divisor &channels, u32 affine, Global<T> y, Global<const T> x,
                       Global<const Wide<T>> means, Global<const Wide<T>> rstds, Global<const T> w, Global<const T> b) {
    const u32 i = block_x() * block_size() + thread_x();
    if (i >= count) return;
    const u32 plane = places.quotient(i), c = plane - channels.quotient(plane) * channels.divisor;
    Wide<T> value = (widen(x[i]) - means[c]) * rstds[c];
    if (affine & WEIGHT) value = value * widen(w[c]);
    if (affine & BIAS) value = value + widen(b[c]);
    y[i] = narrow<T>(value);
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

// dx = rstd w (g - db / count - z dw / count), or rstd w g where the statistics are constants.
template <class T>
DEVICE void batch_norm_backward(u32 count, const Divisor &places, const Divisor &channels, u32 affine, u32 training, f64 scale,
                                Global<T> dx, Global<const T> g, Global<const T> x, Global<const Wide<T>> means,
                                Global<const Wide<T>> rstds, Global<const T> w, Global<const Wide<T>> dw, Global<const Wide<T>> db) {
    using A = Wide<T>;
    const u32 i = block_x() * block_size() + thread_x();
    if (i >= count) return;
    const u32 plane = places.quotient(i), c = plane - channels.quotient(plane) * channels.divisor;
    const A rstd = rstds[c];
    A value = widen(g[i]);
    if (training) value -= (db[c] + (widen(x[i]) - means[c]) * rstd * dw[c]) * A(scale);
    if (affine & WEIGHT) value = value * widen(w[c]);
    dx[i] = narrow<T>(value * rstd);
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
    KERNEL_OF(256, batch_norm_##T,                                                                                               \
              (u32 count, PARAMETER Divisor places, PARAMETER Divisor channels, u32 affine, Global<T> y, Global<const T> x,      \
               Global<const Wide<T>> means, Global<const Wide<T>> rstds, Global<const T> w, Global<const T> b)) {                \
        batch_norm(count, places, channels, affine, y, x, means, rstds, w, b);                                                   \
    }                                                                                                                            \
    KERNEL_OF(GROUP_BLOCK, channel_gradients_##T,                                                                                \
              (PARAMETER Divisor places, u32 channels, u32 count, u32 chunk, u32 log_size, Global<Wide<T>> dw,                   \
               Global<Wide<T>> db, Global<const T> g, Global<const T> x, Global<const Wide<T>> means,                            \
               Global<const Wide<T>> rstds)) {                                                                                   \
        channel_gradients(places, channels, count, chunk, log_size, dw, db, g, x, means, rstds);                                 \
    }                                                                                                                            \
    KERNEL_OF(256, batch_norm_backward_##T,                                                                                      \
              (u32 count, PARAMETER Divisor places, PARAMETER Divisor channels, u32 affine, u32 training, f64 scale,             \
               Global<T> dx, Global<const T> g, Global<const T> x, Global<const Wide<T>> means, Global<const Wide<T>> rstds,     \
               Global<const T> w, Global<const Wide<T>> dw, Global<const Wide<T>> db)) {                                         \
        batch_norm_backward(count, places, channels, affine, training, scale, dx, g, x, means, rstds, w, dw, db);                \
    }

FOR_FLOATS(NORM)

#define JOIN(A)                                                                                                                  \
    KERNEL_OF(256, join_moments_##A,                                                                                             \
              (u32 channels, u32 pieces, u32 count, u32 chunk, Global<A> mean, Global<A> variance, Global<const A> means,        \
               Global<const A> squares)) {                                                                                       \
        join_moments(channels, pieces, count, chunk, mean, variance, means, squares);                                            \
    }

JOIN(f32)
JOIN(f64)
