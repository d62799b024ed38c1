// Products of many small matrices, of at most 32 rows and columns: a block takes as many of them as it has threads and memory for.
//
// Matrices lie in shared memory, [row][k] and [column][k], `depth` of k at a time; a thread has 4 x 4 sums of one of them. Rows are an odd
// number of elements apart, and matrices too, so that threads which read beside each other read different banks.
//
// Launch: SMALL_THREADS threads, a block for each `together` matrices. Bytes: the operands and the result once, element by element, in the order
// in which they lie in memory.
#pragma once

#include "product.h"

constexpr u32 SMALL_THREADS = 256;
constexpr u32 SMALL_BYTES = 48 << 10; // of shared memory

// As `Small` of src/backend/gemm/small.rs.
struct Small {
    u32 count;     // matrices
    u32 together;  // of a block
    Divisor depth; // of k in shared memory
    u32 k;
    Strided a, b; // with `by_k`: whether neighbours in memory are so along k
    Output out;
};

// Brings an operand of `matrices` matrices of `rows` rows, the elements from k0 on.
template <class T>
DEVICE void bring_small(const Small &p, const Strided &o, const Divisor &rows, int operand, u32 first, u32 matrices, u32 k0, Global<const T> x,
                        const Shared<Wide<T>> &memory, u32 base, u32 pitch, u32 between) {
    const Divisor &inner = o.by_k ? p.depth : rows, &outer = o.by_k ? rows : p.depth;
    const i64 step = o.column.strides[0];
    for (u32 e = thread_x(); e < matrices * rows.divisor * p.depth.divisor; e += SMALL_THREADS) {
        const u32 rest = inner.quotient(e), z = outer.quotient(rest);
        const u32 near = e - rest * inner.divisor, far = rest - z * outer.divisor;
        const u32 i = o.by_k ? far : near, k = o.by_k ? near : far;
        if (k0 + k >= p.k) continue;
        i64 at[4];
        p.out.batch.offsets(first + z, at);
        memory[base + z * between + i * pitch + k] = widen(T(x[at[operand] + o.row.offset(i) + (k0 + k) * step]));
    }
}

template <class T> DEVICE void multiply_small(const Small &p, Global<T> y, Global<const T> a, Global<const T> b, Global<const T> bias) {
    using S = Wide<T>;
    SHARED(S, memory, SMALL_BYTES / sizeof(S));
    const Output &out = p.out;
    const u32 m = out.m(), n = out.n(), depth = p.depth.divisor, pitch = depth | 1;
    const u32 between_a = m * pitch | 1, between_b = n * pitch | 1, base_b = p.together * between_a;
    const u32 across = (n + 3) / 4, threads = (m + 3) / 4 * across; // of a matrix
    const u32 z = thread_x() / threads, mine = thread_x() - z * threads, row = mine / across * 4, column = mine % across * 4;
    const u32 first = block_x() * p.together, matrices = p.count - first < p.together ? p.count - first : p.together;
    S sums[4][4] = {};
    for (u32 k0 = 0; k0 < p.k; k0 += depth) {
        bring_small(p, p.a, out.rows, 1, first, matrices, k0, a, memory, 0, pitch, between_a);
        bring_small(p, p.b, out.columns, 2, first, matrices, k0, b, memory, base_b, pitch, between_b);
        block_sync();
        // Rows and columns beyond the last are computed as the last, and not stored.
        u32 rows[4], columns[4];
        UNROLL for (u32 r = 0; r < 4; r++) {
            rows[r] = z * between_a + (row + r < m ? row + r : m - 1) * pitch;
            columns[r] = base_b + z * between_b + (column + r < n ? column + r : n - 1) * pitch;
        }
        const u32 terms = z >= matrices ? 0 : p.k - k0 < depth ? p.k - k0 : depth;
        for (u32 k = 0; k < terms; k++) {
            S u[4], v[4];
            UNROLL for (int r = 0; r < 4; r++) u[r] = memory[rows[r] + k];
            UNROLL for (int r = 0; r < 4; r++) v[r] = memory[columns[r] + k];
            UNROLL for (int i = 0; i < 4; i++)
                UNROLL for (int j = 0; j < 4; j++) sums[i][j] += u[i] * v[j];
        }
        block_sync();
    }
    if (z >= matrices) return;
    i64 at[4];
    out.batch.offsets(first + z, at);
    const u32 count = n - column < 4 ? n - column : 4;
    // A row after the other: a loop that stays one, as it has all activations.
    ROLLED for (u32 i = row; i < row + 4 && i < m; i++) {
        S line[4];
        i64 places[4];
        UNROLL for (u32 j = 0; j < 4; j++) {
            line[j] = sums[0][j];
            places[j] = at[0] + out.row.offset(i) + out.column.offset(column + j);
            if (out.with_bias && j < count) line[j] += widen(bias[at[3] + i * out.bias_row + (column + j) * out.bias_column]);
            UNROLL for (int r = 0; r < 3; r++) sums[r][j] = sums[r + 1][j];
        }
        finish_each(out.epilogue, y, places, count, line);
    }
}
