// Running totals along lines: y[i] = x[0] op … op x[i].
//
// Launch: scan_serial a thread for each line, scan_block a block of GROUP_BLOCK for each; short lines and many go to the first.
// Bytes: x and y once. A block takes 256 elements at a time: a scan of each warp by shuffles, then the totals of the warps before
// it and what was carried over.
#include "group.h"
#include "op/reduce.h"
#include "walk.h"

// Lines are walked by y and x.
template <class Op, class T>
DEVICE void scan_serial(const Walk<2> &lines, u32 n, i64 y_stride, i64 x_stride, Global<T> y, Global<const T> x) {
    using A = Wide<T>;
    const u32 line = block_x() * block_size() + thread_x();
    if (line >= lines.count) return;
    i64 at[2];
    lines.offsets(line, at);
    A total = Op::template init<A>();
    for (u32 i = 0; i < n; i++) {
        total = Op::template combine<A>(total, widen(x[at[1] + i * x_stride]));
        y[at[0] + i * y_stride] = narrow<T>(total);
    }
}

template <class Op, class T>
DEVICE void scan_block(const Walk<2> &lines, u32 n, i64 y_stride, i64 x_stride, Global<T> y, Global<const T> x) {
    using A = Wide<T>;
    SHARED(A, totals, GROUP_BLOCK / 32);
    i64 at[2];
    lines.offsets(block_x(), at);
    A carried = Op::template init<A>();
    for (u32 first = 0; first < n; first += GROUP_BLOCK) {
        const u32 i = first + thread_x();
        A value = i < n ? widen(x[at[1] + i * x_stride]) : Op::template init<A>();
        UNROLL for (u32 by = 1; by < 32; by *= 2) {
            const A before = shuffle(value, lane() >= by ? lane() - by : lane());
            if (lane() >= by) value = Op::template combine<A>(before, value);
        }
        if (lane() == 31) totals[warp()] = value;
        block_sync();
        A before = carried;
        for (u32 w = 0; w < GROUP_BLOCK / 32; w++) {
            if (w < warp()) before = Op::template combine<A>(before, A(totals[w]));
            carried = Op::template combine<A>(carried, A(totals[w]));
        }
        if (i < n) y[at[0] + i * y_stride] = narrow<T>(Op::template combine<A>(before, value));
        block_sync();
    }
}

#define SCAN(form, op, T)                                                                                                        \
    KERNEL_OF(GROUP_BLOCK, form##_##op##_##T,                                                                                    \
              (PARAMETER Walk<2> lines, u32 n, i64 y_stride, i64 x_stride, Global<T> y, Global<const T> x)) {                    \
        form<reduction::op>(lines, n, y_stride, x_stride, y, x);                                                                 \
    }
#define SCANS(T) SCAN(scan_serial, sum, T) SCAN(scan_serial, prod, T) SCAN(scan_block, sum, T) SCAN(scan_block, prod, T)

FOR_NUMBERS(SCANS)
