// Reductions y[o] = op over r of x[o, r], and searches for the place of an extreme.
//
// Layout: y is [outputs, pieces]; x is walked twice, over outputs and over what is reduced. Launch: a group of threads for each
// output, block_y for each piece of `chunk` elements. Bytes: x once. Threads take every size-th element, four at a time, and
// combine in the order of their indices.
#include "group.h"
#include "op/reduce.h"
#include "walk.h"

template <class Op, class Y, class X>
DEVICE void reduce(const Walk<1> &outputs, const Walk<1> &reduced, u32 chunk, u32 log_size, Global<Y> y, Global<const X> x) {
    using A = Wide<X>;
    const auto combine = [](A a, A b) { return Op::template combine<A>(a, b); };
    const Member member(log_size);
    A total = Op::template init<A>();
    if (member.line < outputs.count) {
        i64 start[1];
        outputs.offsets(member.line, start);
        const auto element = [&](u32 r) {
            i64 at[1];
            reduced.offsets(r, at);
            return widen(x[start[0] + at[0]]);
        };
        const u32 first = block_y() * chunk, last = first + chunk < reduced.count ? first + chunk : reduced.count;
        A parts[4] = {total, total, total, total};
        u32 r = first + member.index;
        for (; r + 3 * member.size < last; r += 4 * member.size)
            UNROLL for (u32 j = 0; j < 4; j++) parts[j] = combine(parts[j], element(r + j * member.size));
        for (; r < last; r += member.size) parts[0] = combine(parts[0], element(r));
        total = combine(combine(parts[0], parts[1]), combine(parts[2], parts[3]));
    }
    total = across(member, total, combine);
    if (member.line < outputs.count && member.index == 0) y[i64(member.line) * grid_y() + block_y()] = narrow<Y>(total);
}

#define REDUCE(op, X, Y)                                                                                                         \
    KERNEL_OF(GROUP_BLOCK, reduce_##op##_##X##_##Y,                                                                              \
              (PARAMETER Walk<1> outputs, PARAMETER Walk<1> reduced, u32 chunk, u32 log_size, Global<Y> y, Global<const X> x)) { \
        reduce<reduction::op>(outputs, reduced, chunk, log_size, y, x);                                                          \
    }
#define REDUCTIONS(X, Y) REDUCE(sum, X, Y) REDUCE(prod, X, Y) REDUCE(amax, X, Y) REDUCE(amin, X, Y) REDUCE(any, X, Y) REDUCE(all, X, Y)

REDUCTIONS(f32, f32)
REDUCTIONS(f64, f64)
REDUCTIONS(f16, f16)
REDUCTIONS(bf16, bf16)
REDUCTIONS(i64, i64)
REDUCTIONS(i32, i32)
REDUCTIONS(i8, i8)
REDUCTIONS(u8, u8)
REDUCTIONS(u32, u32)
// Pieces of 16-bit floats stay wide until the last step.
REDUCTIONS(f16, f32)
REDUCTIONS(bf16, f32)
REDUCTIONS(f32, f16)
REDUCTIONS(f32, bf16)

constexpr u32 NOWHERE = ~0u;

// The index of the extreme along a line of n elements: the first of equals, and the first NaN if there is one.
template <bool LARGEST, class T>
DEVICE void search(const Walk<1> &lines, u32 n, i64 stride, u32 log_size, Global<i64> y, Global<const T> x) {
    using R = Wide<T>;
    // Whether a later element takes the place of an earlier one.
    const auto replaces = [](R later, R earlier) {
        return (LARGEST ? later > earlier : later < earlier) || (later != later && earlier == earlier);
    };
    const Member member(log_size);
    R best = R(0);
    u32 place = NOWHERE;
    if (member.line < lines.count) {
        i64 start[1];
        lines.offsets(member.line, start);
        for (u32 i = member.index; i < n; i += member.size) {
            const R value = widen(x[start[0] + i * stride]);
            if (place == NOWHERE || replaces(value, best)) best = value, place = i;
        }
    }
    const auto keep = [&](R value, u32 at) {
        if (at == NOWHERE) return;
        const bool later = at > place;
        if (place == NOWHERE || (later ? replaces(value, best) : !replaces(best, value))) best = value, place = at;
    };
    if (member.size > 1)
        UNROLL for (u32 by = 16; by > 0; by /= 2) {
            const R value = shuffle_xor(best, by);
            const u32 at = shuffle_xor(place, by);
            keep(value, at);
        }
    if (member.size > 32) {
        SHARED(R, values, GROUP_BLOCK / 32);
        SHARED(u32, places, GROUP_BLOCK / 32);
        if (lane() == 0) values[warp()] = best, places[warp()] = place;
        block_sync();
        for (u32 i = 0; i < GROUP_BLOCK / 32; i++) keep(values[i], places[i]);
    }
    if (member.line < lines.count && member.index == 0) y[member.line] = place;
}

#define SEARCH(T)                                                                                                                \
    KERNEL_OF(GROUP_BLOCK, argmax_##T,                                                                                           \
              (PARAMETER Walk<1> lines, u32 n, i64 stride, u32 log_size, Global<i64> y, Global<const T> x)) {                    \
        search<true>(lines, n, stride, log_size, y, x);                                                                          \
    }                                                                                                                            \
    KERNEL_OF(GROUP_BLOCK, argmin_##T,                                                                                           \
              (PARAMETER Walk<1> lines, u32 n, i64 stride, u32 log_size, Global<i64> y, Global<const T> x)) {                    \
        search<false>(lines, n, stride, log_size, y, x);                                                                         \
    }

FOR_NUMBERS(SEARCH)
