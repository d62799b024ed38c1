// Elements by index along a dim. An index outside of 0..size is left alone and reported in bad[0], for the host to see.
//
// gather_SIZE: y[…, j, …] = x[…, index[…, j, …], …], a thread for each element of y; the walk is over y, index and x without the dim.
// scatter_…: y[…, index[…, j, …], …] (=|+=) src[…, j, …], a thread for each line along the dim, which takes j in order: results do
// not depend on who comes first. Bytes: each operand once, in whatever order the indices have.
#include "op/binary.h"
#include "walk.h"

DEVICE bool valid(i64 at, i64 size, Global<i64> bad) {
    if (at >= 0 && at < size) return true;
    bad[0] = at;
    return false;
}

#define GATHER(T)                                                                                                                \
    KERNEL_OF(256, gather_##T,                                                                                                   \
              (PARAMETER Walk<3> walk, i64 size, i64 stride, Global<T> y, Global<const i64> index, Global<const T> x,            \
               Global<i64> bad)) {                                                                                               \
        const u32 unit = block_x() * block_size() + thread_x();                                                                  \
        if (unit >= walk.count) return;                                                                                          \
        i64 at[3];                                                                                                               \
        walk.offsets(unit, at);                                                                                                  \
        const i64 i = index[at[1]];                                                                                              \
        if (valid(i, size, bad)) y[at[0]] = x[at[2] + i * stride];                                                               \
    }

FOR_SIZES(GATHER)

// Lines are walked by y, index and src; `strides` of these along the dim.
template <class T, class F>
DEVICE void scatter(const Walk<3> &lines, u32 n, i64 size, i64 y_stride, i64 index_stride, i64 src_stride, Global<T> y,
                    Global<const i64> index, Global<const T> src, Global<i64> bad, F f) {
    const u32 line = block_x() * block_size() + thread_x();
    if (line >= lines.count) return;
    i64 at[3];
    lines.offsets(line, at);
    for (u32 j = 0; j < n; j++) {
        const i64 i = index[at[1] + j * index_stride];
        if (!valid(i, size, bad)) continue;
        const i64 to = at[0] + i * y_stride;
        y[to] = f(T(y[to]), T(src[at[2] + j * src_stride]));
    }
}

#define SCATTER_PARAMETERS(T)                                                                                                    \
    (PARAMETER Walk<3> lines, u32 n, i64 size, i64 y_stride, i64 index_stride, i64 src_stride, Global<T> y,                      \
     Global<const i64> index, Global<const T> src, Global<i64> bad)

#define SCATTER_SET(T)                                                                                                           \
    KERNEL_OF(256, scatter_set_##T, SCATTER_PARAMETERS(T)) {                                                                     \
        scatter(lines, n, size, y_stride, index_stride, src_stride, y, index, src, bad, [](T, T b) { return b; });               \
    }

FOR_SIZES(SCATTER_SET)

#define SCATTER_ADD(T)                                                                                                           \
    KERNEL_OF(256, scatter_add_##T, SCATTER_PARAMETERS(T)) {                                                                     \
        scatter(lines, n, size, y_stride, index_stride, src_stride, y, index, src, bad,                                          \
                [](T a, T b) { return narrow<T>(binary::add(widen(a), widen(b))); });                                            \
    }

FOR_NUMBERS(SCATTER_ADD)

// The sum of bools is whether one is true.
KERNEL_OF(256, scatter_add_boolean, SCATTER_PARAMETERS(u8)) {
    scatter(lines, n, size, y_stride, index_stride, src_stride, y, index, src, bad, [](u8 a, u8 b) { return u8(a | b); });
}

// 1 where x is not zero, in the order of the walk; x of f16 and bf16 are zero by their bits, but for the sign.
#define NONZERO(T)                                                                                                               \
    KERNEL_OF(256, nonzero_##T, (PARAMETER Walk<2> walk, Global<i32> y, Global<const T> x)) {                                    \
        const u32 unit = block_x() * block_size() + thread_x();                                                                  \
        if (unit >= walk.count) return;                                                                                          \
        i64 at[2];                                                                                                               \
        walk.offsets(unit, at);                                                                                                  \
        y[at[0]] = widen(x[at[1]]) != 0;                                                                                         \
    }

FOR_NUMBERS(NONZERO)

// The place of each element that is counted: `counts` are running totals, `shape` the walk of the tensor's dims, innermost first.
// Layout: y is [found, rank].
KERNEL_OF(256, nonzero_places, (PARAMETER Walk<1> shape, u32 rank, Global<i64> y, Global<const i32> counts)) {
    u32 i = block_x() * block_size() + thread_x();
    if (i >= shape.count) return;
    const i32 count = counts[i], before = i > 0 ? i32(counts[i64(i) - 1]) : 0;
    if (count == before) return;
    ROLLED for (u32 d = 0; d < rank; d++) {
        const u32 outer = shape.extents[d].quotient(i);
        y[i64(before) * rank + (rank - 1 - d)] = i - outer * shape.extents[d].divisor;
        i = outer;
    }
}
