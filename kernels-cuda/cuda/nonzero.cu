// The places of elements that are not zero, in row-major order: nonzero_count_T counts those of each TILE elements, nonzero_ends makes
// running totals of the counts, nonzero_places_T writes the places of each, from where those before it end. Layout: places are
// [found, rank].
//
// Launch: a block of NONZERO_THREADS for TILE elements, ITEMS that follow each other for each thread; nonzero_ends is one block.
// Bytes: x twice, the places once.
#include "walk.h"

constexpr u32 NONZERO_THREADS = 256;
constexpr u32 ITEMS = 4;
constexpr u32 TILE = NONZERO_THREADS * ITEMS;

// A bit for each of the thread's elements that is not zero. NaN is not.
template <class T> DEVICE u32 found(const Walk<1> &walk, u32 first, Global<const T> x) {
    u32 bits = 0;
    UNROLL for (u32 i = 0; i < ITEMS; i++) {
        if (first + i >= walk.count) break;
        i64 at[1];
        walk.offsets(first + i, at);
        bits |= u32(widen(T(x[at[0]])) != 0) << i;
    }
    return bits;
}

DEVICE u32 ones(u32 bits) {
    u32 count = 0;
    UNROLL for (u32 i = 0; i < ITEMS; i++) count += bits >> i & 1;
    return count;
}

// The sum of the threads' numbers up to each thread's own.
DEVICE u32 running_total(u32 value) {
    SHARED(u32, of_warps, NONZERO_THREADS / 32);
    UNROLL for (u32 by = 1; by < 32; by *= 2) {
        const u32 before = shuffle(value, lane() >= by ? lane() - by : lane());
        if (lane() >= by) value += before;
    }
    block_sync(); // what was there before has been read
    if (lane() == 31) of_warps[warp()] = value;
    block_sync();
    for (u32 w = 0; w < warp(); w++) value += of_warps[w];
    return value;
}

// In place: counts become their running totals.
KERNEL_OF(NONZERO_THREADS, nonzero_ends, (u32 n, Global<i64> counts)) {
    SHARED(u32, all, 1);
    i64 before = 0;
    for (u32 first = 0; first < n; first += NONZERO_THREADS) {
        const u32 i = first + thread_x(), total = running_total(i < n ? u32(counts[i]) : 0);
        if (i < n) counts[i] = before + total;
        if (thread_x() == NONZERO_THREADS - 1) all[0] = total;
        block_sync();
        before += all[0];
        block_sync();
    }
}

#define NONZERO(T)                                                                                                               \
    KERNEL_OF(NONZERO_THREADS, nonzero_count_##T, (PARAMETER Walk<1> walk, Global<i64> counts, Global<const T> x)) {             \
        const u32 total = running_total(ones(found(walk, block_x() * TILE + thread_x() * ITEMS, x)));                            \
        if (thread_x() == NONZERO_THREADS - 1) counts[block_x()] = total;                                                        \
    }                                                                                                                            \
    KERNEL_OF(NONZERO_THREADS, nonzero_places_##T,                                                                               \
              (PARAMETER Walk<1> walk, PARAMETER Walk<1> shape, Global<i64> y, Global<const i64> ends, Global<const T> x)) {     \
        const u32 first = block_x() * TILE + thread_x() * ITEMS, bits = found(walk, first, x), rank = shape.rank;                \
        i64 to = running_total(ones(bits)) - ones(bits);                                                                         \
        if (block_x() > 0) to += ends[block_x() - 1];                                                                            \
        UNROLL for (u32 i = 0; i < ITEMS; i++) {                                                                                 \
            if (!(bits >> i & 1)) continue;                                                                                      \
            u32 place = first + i;                                                                                               \
            ROLLED for (u32 d = 0; d < rank; d++) {                                                                              \
                const u32 outer = shape.extents[d].quotient(place);                                                              \
                y[to * rank + (rank - 1 - d)] = place - outer * shape.extents[d].divisor;                                        \
                place = outer;                                                                                                   \
            }                                                                                                                    \
            to++;                                                                                                                \
        }                                                                                                                        \
    }

FOR_NUMBERS(NONZERO)
