// Cross-entropy of logits with one class for each line, and its gradient: what softmax.cu computes, never written out.
//
// With w the weight of a class, e the label smoothing, p the softmax of a line of c logits, t its class, and a = (1 - e) w[t]:
//   loss  = -a log p[t] - e / c Σ w[k] log p[k]
//   dx[k] = p[k] (a + e / c Σ w) - (a if k = t) - e / c w[k], over the sum of w[t] where losses become their mean
// Both are 0 where t is `ignore`; for another class that does not exist bad[0] becomes 1. Launch: a group of threads for each line.
// Bytes: x four times, of which all but the first come from a cache; dx once.
#include "group.h"
#include "op/reduce.h"
#include "walk.h"

constexpr u32 WEIGHTED = 1, MEAN = 2; // bits of `options`

template <class T> struct Logits {
    using A = Wide<T>;
    Global<const T> x, weight;
    i64 at, stride;
    u32 end, options;

    DEVICE A value(u32 k) const { return widen(x[at + k * stride]); }
    DEVICE A weight_of(u32 k) const { return options & WEIGHTED ? widen(weight[k]) : A(1); }
};

template <class A> struct Normaliser {
    A largest, sum;
};

// The largest of a line, and the sum of e^(x - m).
template <class T> DEVICE Normaliser<Wide<T>> normaliser(const Member &member, const Logits<T> &line) {
    using A = Wide<T>;
    A largest = -A(INFINITY);
    for (u32 k = member.index; k < line.end; k += member.size) largest = binary::maximum(largest, line.value(k));
    largest = across(member, largest, [](A a, A b) { return binary::maximum(a, b); });
    A sum = 0;
    for (u32 k = member.index; k < line.end; k += member.size) sum += std::exp(line.value(k) - largest);
    return {largest, across(member, sum, [](A a, A b) { return a + b; })};
}

// Lines are walked by the target and x. Layout: losses and factors w[t] are [lines].
template <class T>
DEVICE void cross_entropy(const Walk<2> &lines, u32 n, i64 x_stride, u32 log_size, i64 ignore, f64 smoothing, u32 options,
                          Global<Wide<T>> losses, Global<Wide<T>> factors, Global<const T> x, Global<const i64> target,
                          Global<const T> weight, Global<u32> bad) {
    using A = Wide<T>;
    const Member member(log_size);
    const bool inside = member.line < lines.count;
    i64 at[2] = {0, 0};
    if (inside) lines.offsets(member.line, at);
    const Logits<T> line{x, weight, at[1], x_stride, inside ? n : 0, options};
    const auto norm = normaliser(member, line);
    const A shift = norm.largest + std::log(norm.sum), share = A(smoothing) / A(n);
    A spread = 0;
    if (smoothing > 0) {
        for (u32 k = member.index; k < line.end; k += member.size) spread += line.weight_of(k) * (line.value(k) - shift);
        spread = across(member, spread, [](A a, A b) { return a + b; });
    }
    if (!inside || member.index != 0) return;
    const i64 t = target[at[0]];
    const bool exists = t >= 0 && t < i64(n), counts = t != ignore && exists;
    if (t != ignore && !exists) bad[0] = 1;
    const A factor = counts ? line.weight_of(u32(t)) : A(0);
    factors[member.line] = factor;
    losses[member.line] = counts ? -(A(1 - smoothing) * factor * (line.value(u32(t)) - shift) + share * spread) : A(0);
}

// Lines are walked by dx, the target and x. `sum` holds the sum of all factors.
template <class T>
DEVICE void cross_entropy_gradient(const Walk<3> &lines, u32 n, i64 dx_stride, i64 x_stride, u32 log_size, i64 ignore, f64 smoothing,
                                   u32 options, Global<T> dx, Global<const T> x, Global<const i64> target, Global<const T> weight,
                                   Global<const Wide<T>> sum) {
    using A = Wide<T>;
    const Member member(log_size);
    const bool inside = member.line < lines.count;
    i64 at[3] = {0, 0, 0};
    if (inside) lines.offsets(member.line, at);
    const Logits<T> line{x, weight, at[2], x_stride, inside ? n : 0, options};
    const auto norm = normaliser(member, line);
    const A share = A(smoothing) / A(n);
    A weights = A(n);
    if (smoothing > 0 && (options & WEIGHTED)) {
        weights = 0;
        for (u32 k = member.index; k < line.end; k += member.size) weights += line.weight_of(k);
        weights = across(member, weights, [](A a, A b) { return a + b; });
    }
    const i64 t = inside ? i64(target[at[1]]) : 0;
    const bool counts = inside && t != ignore && t >= 0 && t < i64(n);
    const A own = counts ? A(1 - smoothing) * line.weight_of(u32(t)) : A(0);
    const A mass = own + share * weights, scale = options & MEAN ? A(1) / A(sum[0]) : A(1);
    for (u32 k = member.index; k < line.end; k += member.size) {
        const A p = std::exp(line.value(k) - norm.largest) / norm.sum;
        const A slope = p * mass - (i64(k) == t ? own : A(0)) - share * line.weight_of(k);
        dx[at[0] + k * dx_stride] = narrow<T>(counts ? slope * scale : A(0));
    }
}

#define CROSS_ENTROPY(T)                                                                                                         \
    KERNEL_OF(GROUP_BLOCK, cross_entropy_##T,                                                                                    \
              (PARAMETER Walk<2> lines, u32 n, i64 x_stride, u32 log_size, i64 ignore, f64 smoothing, u32 options,               \
               Global<Wide<T>> losses, Global<Wide<T>> factors, Global<const T> x, Global<const i64> target,                     \
               Global<const T> weight, Global<u32> bad)) {                                                                       \
        cross_entropy(lines, n, x_stride, log_size, ignore, smoothing, options, losses, factors, x, target, weight, bad);        \
    }                                                                                                                            \
    KERNEL_OF(GROUP_BLOCK, cross_entropy_gradient_##T,                                                                           \
              (PARAMETER Walk<3> lines, u32 n, i64 dx_stride, i64 x_stride, u32 log_size, i64 ignore, f64 smoothing,             \
               u32 options, Global<T> dx, Global<const T> x, Global<const i64> target, Global<const T> weight,                   \
               Global<const Wide<T>> sum)) {                                                                                     \
        cross_entropy_gradient(lines, n, dx_stride, x_stride, log_size, ignore, smoothing, options, dx, x, target, weight, sum); \
    }

FOR_FLOATS(CROSS_ENTROPY)
