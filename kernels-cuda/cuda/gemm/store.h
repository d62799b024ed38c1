// How a block's sums leave it: from registers to shared memory, and from there, row by row, to where results belong. Threads
// that are neighbours then store neighbouring runs of 16 bytes, and the code of the epilogue is there once.
#pragma once

#include "product.h"

// A tile of ROWS x COLUMNS sums in shared memory, as far as it is taken out at once: in row r, groups of 8 columns are exchanged by
// the bits of r, so that threads which store to different rows store to different banks.
template <int ROWS, int COLUMNS, int THREADS, class S> struct Stage {
    static constexpr int V = 16 / sizeof(S), ROW_RUNS = COLUMNS / V, STEP = THREADS / ROW_RUNS;
    static_assert(COLUMNS % 32 == 0 && THREADS % ROW_RUNS == 0 && ROWS % STEP == 0, "threads share a tile evenly");
    static constexpr int SIZE = ROWS * COLUMNS;

    DEVICE static u32 place(u32 row, u32 column) { return row * COLUMNS + (column ^ (row ^ row / 4) % 4 * 8); }

    // V sums, or 2, beside each other.
    template <int N> DEVICE static void put(const Shared<S> &tile, u32 row, u32 column, const S (&sums)[N]) {
        Vec<S, N> run;
        UNROLL for (int v = 0; v < N; v++) run[v] = sums[v];
        tile.template store_vector<N>(place(row, column), run);
    }

    // Stores all of them as results, or as partial sums: row r of the stage is row `row_of(r)` of the result.
    template <class T, class P, class RowOf>
    DEVICE static void store(const Shared<S> &tile, const P &p, const Task &task, Global<T> y, Global<S> partial, Global<const T> bias,
                             u32 column0, const RowOf &row_of) {
        const Output &out = p.out;
        const u32 column = thread_x() % ROW_RUNS * V, j = column0 + column;
        if (j >= out.n()) return;
        const u32 count = out.n() - j < V ? out.n() - j : V;
        i64 places[V];
        UNROLL for (int v = 0; v < V; v++) places[v] = task.at[0] + out.column.offset(j + v);
        ROLLED for (u32 r = thread_x() / ROW_RUNS; r < ROWS; r += STEP) {
            const u32 i = row_of(r);
            if (i >= out.m()) continue;
            const Vec<S, V> taken = tile.template load_vector<V>(place(r, column));
            if (p.parts.divisor > 1) {
                const i64 at = task.partial_row(p, i) + j;
                if (out.n() % V == 0) partial.template store_vector<V>(at, taken);
                else UNROLL for (u32 v = 0; v < V; v++)
                    if (v < count) partial[at + v] = taken[v];
                continue;
            }
            S sums[V];
            UNROLL for (u32 v = 0; v < V; v++) {
                sums[v] = taken[v];
                if (out.with_bias && v < count) sums[v] += widen(bias[task.at[3] + i * out.bias_row + (j + v) * out.bias_column]);
            }
            const i64 row = out.row.offset(i);
            if (out.vector) { // the columns are whole runs
                finish_run<V>(out.epilogue, y, row + places[0], sums);
                continue;
            }
            i64 at[V];
            UNROLL for (int v = 0; v < V; v++) at[v] = row + places[v];
            finish_each<V>(out.epilogue, y, at, count, sums);
        }
    }
};
