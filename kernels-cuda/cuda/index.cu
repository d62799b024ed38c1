// Elements by index along a dim. An index outside of 0..size is left alone, and bad[0] becomes 1 for the host to see.
//
// gather_SIZE: y[…, j, …] = x[…, index[…, j, …], …], a thread for each element of y; the walk is over y, index and x without the dim.
// scatter_…: y[…, index[…, j, …], …] (=|+=) src[…, j, …], a thread for each line along the dim, which takes j in order: results do
// not depend on who comes first.
// group_…: the same for long lines, whose indices were sorted before: those of one target follow each other, in the order of j, and
// a thread for the first of them (=: the last) takes them all. Bytes: each operand once, in whatever order the indices have.
#include "op/binary.h"
#include "walk.h"

DEVICE bool valid(i64 at, i64 size, Global<u32> bad) {
    if (at >= 0 && at < size) return true;
    bad[0] = 1;
    return false;
}

#define GATHER(T)                                                                                                                \
    KERNEL_OF(256, gather_##T,                                                                                                   \
              (PARAMETER Walk<3> walk, i64 size, i64 stride, Global<T> y, Global<const i64> index, Global<const T> x,            \
               Global<u32> bad)) {                                                                                               \
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
                    Global<const i64> index, Global<const T> src, Global<u32> bad, F f) {
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
     Global<const i64> index, Global<const T> src, Global<u32> bad)

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

// Lines in which `sorted` are the indices in order, and order[j] says where the j-th stood. The walk is over y and src without the dim,
// both of those, and j itself; strides are those along the dim.
struct Groups {
    i64 n, size, y_stride, sorted_stride, order_stride, src_stride;
};

// With `rounds` each sum is rounded to T, as a scatter has it; else only the last.
template <class T>
DEVICE void group_add(const Walk<5> &walk, const Groups &groups, u32 rounds, Global<T> y, Global<const i64> sorted,
                      Global<const i64> order, Global<const T> src, Global<u32> bad) {
    const u32 unit = block_x() * block_size() + thread_x();
    if (unit >= walk.count) return;
    i64 at[5];
    walk.offsets(unit, at);
    const i64 target = sorted[at[1]], j = at[4];
    if (!valid(target, groups.size, bad)) return;
    if (j > 0 && sorted[at[1] - groups.sorted_stride] == target) return;
    Wide<T> sum = widen(T(y[at[0] + target * groups.y_stride]));
    for (i64 k = 0; j + k < groups.n && sorted[at[1] + k * groups.sorted_stride] == target; k++) {
        sum = binary::add(sum, widen(T(src[at[3] + order[at[2] + k * groups.order_stride] * groups.src_stride])));
        if (rounds) sum = widen(narrow<T>(sum));
    }
    y[at[0] + target * groups.y_stride] = narrow<T>(sum);
}

#define GROUP_ADD(T)                                                                                                             \
    KERNEL_OF(256, group_add_##T,                                                                                                \
              (PARAMETER Walk<5> walk, PARAMETER Groups groups, u32 rounds, Global<T> y, Global<const i64> sorted,               \
               Global<const i64> order, Global<const T> src, Global<u32> bad)) {                                                 \
        group_add(walk, groups, rounds, y, sorted, order, src, bad);                                                             \
    }

FOR_NUMBERS(GROUP_ADD)

// The sum of bools is whether one is true.
KERNEL_OF(256, group_add_boolean,
          (PARAMETER Walk<5> walk, PARAMETER Groups groups, u32, Global<u8> y, Global<const i64> sorted, Global<const i64> order,
           Global<const u8> src, Global<u32> bad)) {
    const u32 unit = block_x() * block_size() + thread_x();
    if (unit >= walk.count) return;
    i64 at[5];
    walk.offsets(unit, at);
    const i64 target = sorted[at[1]];
    // All that write to one place write the same.
    if (valid(target, groups.size, bad) && src[at[3] + order[at[2]] * groups.src_stride]) y[at[0] + target * groups.y_stride] = 1;
}

#define GROUP_SET(T)                                                                                                             \
    KERNEL_OF(256, group_set_##T,                                                                                                \
              (PARAMETER Walk<5> walk, PARAMETER Groups groups, u32, Global<T> y, Global<const i64> sorted,                      \
               Global<const i64> order, Global<const T> src, Global<u32> bad)) {                                                 \
        const u32 unit = block_x() * block_size() + thread_x();                                                                  \
        if (unit >= walk.count) return;                                                                                          \
        i64 at[5];                                                                                                               \
        walk.offsets(unit, at);                                                                                                  \
        const i64 target = sorted[at[1]];                                                                                        \
        if (!valid(target, groups.size, bad)) return;                                                                            \
        if (at[4] + 1 < groups.n && sorted[at[1] + groups.sorted_stride] == target) return;                                      \
        y[at[0] + target * groups.y_stride] = src[at[3] + order[at[2]] * groups.src_stride];                                     \
    }

FOR_SIZES(GROUP_SET)
