// Products with at most 8 columns: a matrix times a few vectors, which takes as long as it takes to read the matrix once.
//
// The matrix is A, whose rows are the result's; the vectors are columns of B, and stay in caches. 2^share threads of a block share the
// sums of some rows, each with a part of k of its own; their sums are added in an order that is always the same.
//
//   by k       runs of 16 bytes of A lie along k: a thread has few_rows rows, and adds by shuffles
//   by rows    they lie along the rows: a thread has a run of few_run rows, and adds by way of shared memory
//
// Launch: 32 to 256 threads, a power of two, a block for each few_rows (by rows: few_run) · threads / 2^share rows, of each part of k, of
// each matrix. Bytes: A and the result once, m n partial sums for each part. Operands that have no whole, aligned runs are read by elements.
#pragma once

#include "product.h"
#include "unit.h"

constexpr u32 FEW_THREADS = 256; // of a block, at most
constexpr int FEW_AT_ONCE = 4;   // runs that a thread asks for at once, by rows

// Rows of a thread, by k and by rows: what registers have room for.
template <int C> constexpr int few_rows = C > 4 ? 2 : 4;
template <class T, int C> constexpr int few_run = RUN<T> * C > 32 ? 32 / C : RUN<T>;

// The run of elements of x from `at` on, `step` apart unless they are whole and aligned: `count` of them, then zeros.
template <bool WHOLE, class T> DEVICE Vec<T, RUN<T>> run_along_k(Global<const T> x, i64 at, i64 step, u32 count) {
    Vec<T, RUN<T>> run;
    if constexpr (WHOLE) run = x.template load_vector<RUN<T>>(at);
    else UNROLL for (u32 v = 0; v < RUN<T>; v++) run[v] = v < count ? T(x[at + v * step]) : T{0};
    return run;
}

// Sums of rows by k, from the thread's `k` on, in steps of `step`.
template <bool WHOLE, class T, int C>
DEVICE void few_sums_by_k(Wide<T> (&sums)[few_rows<C>][C], const Product<Strided, Strided> &p, const Task &task,
                          const i64 (&rows)[few_rows<C>], const i64 (&columns)[C], u32 k, u32 step, Global<const T> a, Global<const T> b) {
    constexpr int R = few_rows<C>;
    const i64 step_a = p.a.column.strides[0], step_b = p.b.column.strides[0];
    ROLLED for (k += task.from; k < task.to; k += step) {
        Vec<T, RUN<T>> u[R];
        UNROLL for (int r = 0; r < R; r++) u[r] = run_along_k<WHOLE>(a, rows[r] + k * step_a, step_a, task.to - k);
        UNROLL for (int c = 0; c < C; c++) {
            const Vec<T, RUN<T>> v = run_along_k<WHOLE>(b, columns[c] + k * step_b, step_b, task.to - k);
            UNROLL for (int e = 0; e < RUN<T>; e++)
                UNROLL for (int r = 0; r < R; r++) sums[r][c] += widen(u[r][e]) * widen(v[e]);
        }
    }
}

template <class T, int C>
DEVICE void multiply_few_by_k(const Product<Strided, Strided> &p, Global<T> y, Global<Wide<T>> partial, Global<const T> a,
                              Global<const T> b, Global<const T> bias) {
    using S = Wide<T>;
    constexpr int R = few_rows<C>;
    const u32 sharing = 1u << p.share, groups = block_size() >> p.share;
    const u32 group = thread_x() >> p.share, member = thread_x() & (sharing - 1);
    const Task task(p);
    const u32 m = p.out.m(), n = p.out.n(), row0 = task.row * groups * R + group;
    // Rows and columns beyond the last are read as the last, and not stored.
    i64 rows[R], columns[C];
    UNROLL for (u32 r = 0; r < R; r++) rows[r] = task.at[1] + p.a.row.offset(row0 + r * groups < m ? row0 + r * groups : m - 1);
    UNROLL for (u32 c = 0; c < C; c++) columns[c] = task.at[2] + p.b.row.offset(c < n ? c : n - 1);
    S sums[R][C] = {};
    if (p.a.vector && p.b.vector) few_sums_by_k<true, T, C>(sums, p, task, rows, columns, member * RUN<T>, sharing * RUN<T>, a, b);
    else few_sums_by_k<false, T, C>(sums, p, task, rows, columns, member * RUN<T>, sharing * RUN<T>, a, b);

    ROLLED for (u32 by = sharing < 32 ? sharing / 2 : 16; by > 0; by /= 2)
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int c = 0; c < C; c++) {
                const S other = shuffle_xor(sums[r][c], by);
                sums[r][c] = lane() & by ? other + sums[r][c] : sums[r][c] + other;
            }
    if (sharing > 32) {
        SHARED(S, of_warps, FEW_THREADS / 32 * R * C);
        if (lane() == 0) UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int c = 0; c < C; c++) of_warps[(warp() * R + r) * C + c] = sums[r][c];
        block_sync();
        const u32 first = group * (sharing / 32);
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int c = 0; c < C; c++) {
                S sum = of_warps[(first * R + r) * C + c];
                ROLLED for (u32 w = 1; w < sharing / 32; w++) sum += of_warps[((first + w) * R + r) * C + c];
                sums[r][c] = sum;
            }
    }
    // A column after the other, by one member of the group each. A loop that stays one, as it has all activations.
    const u32 count = row0 >= m ? 0 : (m - row0 + groups - 1) / groups;
    ROLLED for (u32 c = 0; c < n; c++) {
        if ((c & (sharing - 1)) == member) {
            S column[R];
            i64 at[R];
            UNROLL for (u32 r = 0; r < R; r++) {
                const u32 i = row0 + r * groups;
                column[r] = sums[r][0];
                at[r] = task.at[0] + p.out.row.offset(i) + p.out.column.offset(c);
                if (p.parts.divisor > 1 && r < count) partial[task.partial_row(p, i) + c] = sums[r][0];
                if (p.out.with_bias && r < count) column[r] += widen(bias[task.at[3] + i * p.out.bias_row + c * p.out.bias_column]);
            }
            if (p.parts.divisor == 1) finish_each(p.out.epilogue, y, at, count, column);
        }
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int d = 0; d + 1 < C; d++) sums[r][d] = sums[r][d + 1];
    }
}

// Sums of the run of rows from `row` on, over every `slices`th k from the thread's on.
template <bool WHOLE, class T, int C>
DEVICE void few_sums_by_rows(Wide<T> (&sums)[few_run<T, C>][C], const Product<Strided, Strided> &p, const Task &task, u32 row,
                             const i64 (&columns)[C], u32 slice, u32 slices, Global<const T> a, Global<const T> b) {
    constexpr int V = few_run<T, C>, AT_ONCE = FEW_AT_ONCE;
    const i64 step_a = p.a.column.strides[0], step_b = p.b.column.strides[0];
    const u32 m = p.out.m();
    if (row >= m) return;
    i64 rows[WHOLE ? 1 : V];
    UNROLL for (u32 v = 0; v < (WHOLE ? 1 : V); v++) rows[v] = task.at[1] + p.a.row.offset(row + v < m ? row + v : m - 1);
    ROLLED for (u32 first = task.from + slice; first < task.to; first += AT_ONCE * slices) {
        Vec<T, V> u[AT_ONCE];
        UNROLL for (u32 q = 0; q < AT_ONCE; q++) {
            const u32 k = first + q * slices;
            u[q] = {};
            if (k < task.to) {
                if constexpr (WHOLE) u[q] = a.template load_vector<V>(rows[0] + k * step_a);
                else UNROLL for (int v = 0; v < V; v++) u[q][v] = a[rows[v] + k * step_a];
            }
        }
        UNROLL for (u32 q = 0; q < AT_ONCE; q++) {
            const u32 k = first + q * slices;
            if (k < task.to) UNROLL for (int c = 0; c < C; c++) {
                const Wide<T> x = widen(T(b[columns[c] + k * step_b]));
                UNROLL for (int v = 0; v < V; v++) sums[v][c] += widen(u[q][v]) * x;
            }
        }
    }
}

template <class T, int C>
DEVICE void multiply_few_by_rows(const Product<Strided, Strided> &p, Global<T> y, Global<Wide<T>> partial, Global<const T> a,
                                 Global<const T> b, Global<const T> bias) {
    using S = Wide<T>;
    constexpr int V = few_run<T, C>, W = 16 / sizeof(S);
    SHARED(S, memory, FEW_THREADS * V);
    const u32 slices = 1u << p.share, across = block_size() >> p.share, slice = thread_x() / across, lot = thread_x() % across * V;
    const Task task(p);
    const u32 n = p.out.n(), row0 = task.row * across * V;
    i64 columns[C];
    UNROLL for (u32 c = 0; c < C; c++) columns[c] = task.at[2] + p.b.row.offset(c < n ? c : n - 1);
    S sums[V][C] = {};
    if (p.a.vector) few_sums_by_rows<true, T, C>(sums, p, task, row0 + lot, columns, slice, slices, a, b);
    else few_sums_by_rows<false, T, C>(sums, p, task, row0 + lot, columns, slice, slices, a, b);

    // A column after the other, as there is memory for one.
    ROLLED for (u32 c = 0; c < n; c++) {
        UNROLL for (int v = 0; v < V; v += W) {
            Vec<S, W> run;
            UNROLL for (int w = 0; w < W; w++) run[w] = sums[v + w][0];
            memory.template store_vector<W>(slice * across * V + lot + v, run);
        }
        block_sync();
        ROLLED for (u32 e = thread_x(); e < across * V; e += block_size()) {
            const u32 i = row0 + e;
            if (i >= p.out.m()) continue;
            S sum[1] = {memory[e]};
            ROLLED for (u32 s = 1; s < slices; s++) sum[0] += memory[s * across * V + e];
            if (p.parts.divisor > 1) {
                partial[task.partial_row(p, i) + c] = sum[0];
                continue;
            }
            if (p.out.with_bias) sum[0] += widen(bias[task.at[3] + i * p.out.bias_row + c * p.out.bias_column]);
            const i64 at[1] = {task.at[0] + p.out.row.offset(i) + p.out.column.offset(c)};
            finish_each(p.out.epilogue, y, at, 1, sum);
        }
        block_sync();
        UNROLL for (int v = 0; v < V; v++)
            UNROLL for (int d = 0; d + 1 < C; d++) sums[v][d] = sums[v][d + 1];
    }
}
