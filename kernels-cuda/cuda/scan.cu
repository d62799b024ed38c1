// Running results along lines: y[i] of x[0] … x[i]; totals, the index of the extreme, the logarithm of the sum of exponentials.
//
// Launch: scan_serial a thread for each line, scan_block a block of GROUP_BLOCK for each; short lines and many go to the first. Long lines
// and few are cut into pieces: scan_ends and then scan_pieces, with a row of blocks for each piece.
// Bytes: x and y once; x twice in pieces. Each warp of a block takes SCAN_ITEMS · 32 neighbours at a time: scans of 32 by shuffles, one after the other, then
// the totals of the warps before it and what was carried over.
#include "group.h"
#include "op/reduce.h"
#include "walk.h"

constexpr u32 SCAN_ITEMS = 4;

// What is carried along a line, of elements T to results R:
//   State                what stands for some elements; none() for none of them
//   of(x, i)             for element i
//   combine(a, b)        for those of a, and those of b behind them
//   result(s)            the element of y
//   of_lane(s, l)        what lane l has

// x[0] op … op x[i].
template <class Op, class T> struct Total {
    using In = T;
    using Out = T;
    using State = Wide<T>;
    DEVICE static State none() { return Op::template init<State>(); }
    DEVICE static State of(T x, u32) { return widen(x); }
    DEVICE static State combine(State a, State b) { return Op::template combine<State>(a, b); }
    DEVICE static T result(State s) { return narrow<T>(s); }
    DEVICE static State of_lane(State s, u32 l) { return shuffle(s, l); }
};

// The index of the largest or least so far: the last of equals, the last NaN if there is one.
template <class T, bool LEAST> struct Extreme {
    using In = T;
    using Out = i64;
    static constexpr u32 NOWHERE = ~0u;
    struct State {
        Wide<T> value;
        u32 index;
    };
    DEVICE static State none() { return {Wide<T>(0), NOWHERE}; }
    DEVICE static State of(T x, u32 i) { return {widen(x), i}; }
    DEVICE static State combine(State a, State b) {
        const bool as_far = LEAST ? b.value <= a.value : b.value >= a.value;
        const bool wins = a.index == NOWHERE || (b.index != NOWHERE && (as_far || b.value != b.value));
        return {wins ? b.value : a.value, wins ? b.index : a.index};
    }
    DEVICE static i64 result(State s) { return s.index; }
    DEVICE static State of_lane(State s, u32 l) { return {shuffle(s.value, l), shuffle(s.index, l)}; }
};
template <class T> using Largest = Extreme<T, false>;
template <class T> using Least = Extreme<T, true>;

// log Σ e^x: the largest, and the sum of e^(x - largest).
template <class T> struct LogSum {
    using In = T;
    using Out = T;
    using S = Wide<T>;
    struct State {
        S top, sum;
    };
    DEVICE static State none() { return {-S(INFINITY), S(0)}; }
    DEVICE static State of(T x, u32) { return {widen(x), S(1)}; }
    DEVICE static State combine(State a, State b) {
        const bool above = b.top > a.top || b.top != b.top;
        const State high = above ? b : a, low = above ? a : b;
        // ∞ - ∞ has no value.
        return {high.top, high.sum + (low.top == high.top ? low.sum : low.sum * std::exp(low.top - high.top))};
    }
    // Nothing so far but -∞, an infinity, or NaN: that is the result.
    DEVICE static T result(State s) { return narrow<T>(std::fabs(s.top) < S(INFINITY) ? s.top + std::log(s.sum) : s.top); }
    DEVICE static State of_lane(State s, u32 l) { return {shuffle(s.top, l), shuffle(s.sum, l)}; }
};

// Lines are walked by y and x.
template <class R>
DEVICE void scan_serial(const Walk<2> &lines, u32 n, i64 y_stride, i64 x_stride, Global<typename R::Out> y, Global<const typename R::In> x) {
    const u32 line = block_x() * block_size() + thread_x();
    if (line >= lines.count) return;
    i64 at[2];
    lines.offsets(line, at);
    typename R::State state = R::none();
    for (u32 i = 0; i < n; i++) {
        state = R::combine(state, R::of(x[at[1] + i * x_stride], i));
        y[at[0] + i * y_stride] = R::result(state);
    }
}

// What a warp's lanes have, each with those of the lanes before it.
template <class R> DEVICE typename R::State scan_warp(typename R::State state) {
    UNROLL for (u32 by = 1; by < 32; by *= 2) {
        const typename R::State before = R::of_lane(state, lane() >= by ? lane() - by : lane());
        if (lane() >= by) state = R::combine(before, state);
    }
    return state;
}

// The elements of a line from `from` to `to`, behind what was carried over, by a block; what is carried over from them.
template <class R, bool STORES>
DEVICE typename R::State scan_range(u32 from, u32 to, typename R::State carried, const Shared<typename R::State> &totals, i64 y_stride,
                                    i64 x_stride, Global<typename R::Out> y, Global<const typename R::In> x) {
    using State = typename R::State;
    for (u32 first = from; first < to; first += SCAN_ITEMS * GROUP_BLOCK) {
        const u32 begin = first + warp() * (SCAN_ITEMS * 32) + lane();
        State states[SCAN_ITEMS], total = R::none();
        UNROLL for (u32 j = 0; j < SCAN_ITEMS; j++) {
            const u32 i = begin + j * 32;
            states[j] = i < to ? R::of(x[i * x_stride], i) : R::none();
        }
        UNROLL for (u32 j = 0; j < SCAN_ITEMS; j++) {
            states[j] = R::combine(total, scan_warp<R>(states[j]));
            total = R::of_lane(states[j], 31);
        }
        if (lane() == 31) totals[warp()] = total;
        block_sync();
        State before = carried;
        for (u32 w = 0; w < GROUP_BLOCK / 32; w++) {
            if (w < warp()) before = R::combine(before, State(totals[w]));
            carried = R::combine(carried, State(totals[w]));
        }
        if constexpr (STORES) UNROLL for (u32 j = 0; j < SCAN_ITEMS; j++) {
            const u32 i = begin + j * 32;
            if (i < to) y[i * y_stride] = R::result(R::combine(before, states[j]));
        }
        block_sync();
    }
    return carried;
}

template <class R>
DEVICE void scan_block(const Walk<2> &lines, u32 n, i64 y_stride, i64 x_stride, Global<typename R::Out> y, Global<const typename R::In> x) {
    SHARED(typename R::State, totals, GROUP_BLOCK / 32);
    i64 at[2];
    lines.offsets(block_x(), at);
    scan_range<R, true>(0, n, R::none(), totals, y_stride, x_stride, y + at[0], x + at[1]);
}

// A line in pieces of `chunk`, a block for each: first what stands for each piece, ends[line, piece], …
template <class R>
DEVICE void scan_ends(const Walk<2> &lines, u32 n, u32 chunk, i64 x_stride, Global<typename R::State> ends, Global<const typename R::In> x) {
    SHARED(typename R::State, totals, GROUP_BLOCK / 32);
    i64 at[2];
    lines.offsets(block_x(), at);
    const u32 from = block_y() * chunk, to = n - from < chunk ? n : from + chunk;
    const auto end = scan_range<R, false>(from, to, R::none(), totals, 0, x_stride, Global<typename R::Out>{nullptr}, x + at[1]);
    if (thread_x() == 0) ends[i64(block_x()) * grid_y() + block_y()] = end;
}

// … and then the piece itself, behind those before it. There are at most GROUP_BLOCK.
template <class R>
DEVICE void scan_pieces(const Walk<2> &lines, u32 n, u32 chunk, i64 y_stride, i64 x_stride, Global<typename R::Out> y,
                        Global<const typename R::In> x, Global<const typename R::State> ends) {
    using State = typename R::State;
    SHARED(State, totals, GROUP_BLOCK / 32);
    i64 at[2];
    lines.offsets(block_x(), at);
    State before = R::none();
    if (thread_x() < block_y()) before = ends[i64(block_x()) * grid_y() + thread_x()];
    before = scan_warp<R>(before);
    if (lane() == 31) totals[warp()] = before;
    block_sync();
    State carried = R::none();
    for (u32 w = 0; w < GROUP_BLOCK / 32; w++) carried = R::combine(carried, State(totals[w]));
    block_sync();
    const u32 from = block_y() * chunk, to = n - from < chunk ? n : from + chunk;
    scan_range<R, true>(from, to, carried, totals, y_stride, x_stride, y + at[0], x + at[1]);
}

#define SCAN(form, op, T, ...)                                                                                                   \
    KERNEL_OF(GROUP_BLOCK, form##_##op##_##T,                                                                                    \
              (PARAMETER Walk<2> lines, u32 n, i64 y_stride, i64 x_stride, Global<__VA_ARGS__::Out> y,                           \
               Global<const T> x)) {                                                                                             \
        form<__VA_ARGS__>(lines, n, y_stride, x_stride, y, x);                                                                   \
    }
#define IN_PIECES(op, T, ...)                                                                                                    \
    KERNEL_OF(GROUP_BLOCK, scan_ends_##op##_##T,                                                                                 \
              (PARAMETER Walk<2> lines, u32 n, u32 chunk, i64 x_stride, Global<__VA_ARGS__::State> ends, Global<const T> x)) {   \
        scan_ends<__VA_ARGS__>(lines, n, chunk, x_stride, ends, x);                                                              \
    }                                                                                                                            \
    KERNEL_OF(GROUP_BLOCK, scan_pieces_##op##_##T,                                                                               \
              (PARAMETER Walk<2> lines, u32 n, u32 chunk, i64 y_stride, i64 x_stride, Global<__VA_ARGS__::Out> y,                \
               Global<const T> x, Global<const __VA_ARGS__::State> ends)) {                                                      \
        scan_pieces<__VA_ARGS__>(lines, n, chunk, y_stride, x_stride, y, x, ends);                                               \
    }
#define FORMS(op, T, ...)                                                                                                        \
    SCAN(scan_serial, op, T, __VA_ARGS__) SCAN(scan_block, op, T, __VA_ARGS__) IN_PIECES(op, T, __VA_ARGS__)
#define SCANS(T)                                                                                                                 \
    FORMS(sum, T, Total<reduction::sum, T>) FORMS(prod, T, Total<reduction::prod, T>)                                            \
    FORMS(argmax, T, Largest<T>) FORMS(argmin, T, Least<T>)
#define LOG_SUMS(T) FORMS(logsumexp, T, LogSum<T>)

FOR_NUMBERS(SCANS)
FOR_FLOATS(LOG_SUMS)
