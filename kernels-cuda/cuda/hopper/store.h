// How a warpgroup's sums leave it, some columns at a time: through shared memory, and by TMA where nothing but a bias is to be done.
#pragma once

#include "ring.h"

// The tile of a warpgroup that is to be stored: 64 rows from `row` on, of the columns from `column` on.
struct Place {
    u32 row, column;
    u32 group; // which of the two warpgroups, each of which has a barrier and memory of its own
};

DEVICE void group_sync(u32 group) { block_sync(1 + group, 128); }

// Results as they are, with the bias of each column, by TMA from two buffers of 64 rows of 128 bytes in turn; `turn` counts the uses.
template <class T, int BN, class P, class S>
DEVICE void store_by_tma(const P &p, const Task &task, const TensorMap &map, const Shared<T> &memory, u32 at, const Place &place,
                         u32 &turn, Global<const T> bias, const S (&sums)[BN / 2]) {
    constexpr u32 PART = ROW_BYTES / sizeof(T); // columns
    const u32 t = thread_x() % 128, columns = p.out.n();
    UNROLL for (u32 part = 0; part < BN / PART; part++, turn++) {
        const u32 buffer = at + turn % 2 * CHUNK_BYTES;
        if (t == 0) tma_wait_read<1>(); // what the buffer held before has left it
        group_sync(place.group);
        UNROLL for (u32 j = part * PART / 8; j < (part + 1) * PART / 8; j += 2) { // 8 columns each
            Vec<u32, 4> halves;
            UNROLL for (u32 half = 0; half < 2; half++) {
                Wide<T> more[2] = {0, 0};
                if (p.out.with_bias) {
                    const u32 column = place.column + 8 * (j + half) + lane() % 4 * 2;
                    UNROLL for (u32 e = 0; e < 2; e++)
                        if (column + e < columns) more[e] = widen(bias[task.at[3] + (column + e) * p.out.bias_column]);
                }
                UNROLL for (u32 rows = 0; rows < 2; rows++) {
                    const S *pair = sums + 4 * (j + half) + 2 * rows;
                    const Vec<T, 2> results{{narrow<T>(pair[0] + more[0]), narrow<T>(pair[1] + more[1])}};
                    if constexpr (sizeof(T) == 2) halves[2 * half + rows] = results[0].bits | u32{results[1].bits} << 16;
                    else {
                        const u32 row = t / 32 * 16 + lane() / 4 + 8 * rows, byte = (8 * (j + half) - part * PART + lane() % 4 * 2) * sizeof(T);
                        memory.template store_vector<2>((buffer + swizzled(row, byte)) / sizeof(T), results);
                    }
                }
            }
            if constexpr (sizeof(T) == 2)
                stmatrix_x4(memory, (buffer + swizzled(t / 32 * 16 + lane() % 16, 16 * (j % 8 + lane() / 16))) / 2, halves);
        }
        proxy_fence();
        group_sync(place.group);
        if (t == 0) {
            if (place.column + PART * part < columns)
                tma_store(map, {i32(place.column + PART * part), i32(place.row), i32(task.matrix)}, shared_address(memory, buffer / sizeof(T)));
            tma_commit();
        }
    }
}

// Where a run of 8 sums lies among 64 rows of 64: permuted, so that rows that are written together lie in different banks.
DEVICE u32 place_of_sums(u32 row, u32 column) { return row * 64 + (column ^ row % 8 * 8); }

// Stores V sums of row i from column j on, as partial sums or as results; columns beyond the last are left out.
template <class T, int V, class P, class S>
DEVICE void store_sums(const P &p, const Task &task, Global<T> y, Global<S> partial, Global<const T> bias, u32 i, u32 j, const S (&sums)[V]) {
    const Output &out = p.out;
    const u32 count = out.n() - j < V ? out.n() - j : V;
    if (p.parts.divisor > 1) {
        const i64 at = task.partial_row(p, i) + j;
        if (out.n() % 4 == 0) {
            UNROLL for (u32 v = 0; v < V; v += 4)
                if (v < count) partial.template store_vector<4>(at + v, {{sums[v], sums[v + 1], sums[v + 2], sums[v + 3]}});
        } else UNROLL for (u32 v = 0; v < V; v++)
            if (v < count) partial[at + v] = sums[v];
        return;
    }
    Wide<T> results[V];
    UNROLL for (u32 v = 0; v < V; v++) {
        results[v] = sums[v];
        if (out.with_bias && v < count) results[v] += widen(bias[task.at[3] + i * out.bias_row + (j + v) * out.bias_column]);
    }
    const i64 row = task.at[0] + out.row.offset(i);
    if (out.vector) { // the columns are whole runs
        finish_run<V>(out.epilogue, y, row + out.column.offset(j), results);
        return;
    }
    i64 places[V];
    UNROLL for (u32 v = 0; v < V; v++) places[v] = row + out.column.offset(j + v);
    finish_each<V>(out.epilogue, y, places, count, results);
}

// Partial sums, or results that are finished by the epilogue, in runs of 16 bytes of them.
template <class T, int BN, class P, class S>
DEVICE void store_by_threads(const P &p, const Task &task, const Shared<S> &memory, u32 at, const Place &place, Global<T> y, Global<S> partial,
                             Global<const T> bias, const S (&sums)[BN / 2]) {
    constexpr u32 V = 16 / sizeof(T), RUNS = 64 / V;
    const u32 t = thread_x() % 128, base = at / 4;
    ROLLED for (u32 part = 0; part < BN / 64; part++) {
        group_sync(place.group); // the memory is free
        UNROLL for (u32 i = 0; i < BN / 64; i++)
            if (i == part) UNROLL for (u32 j = 0; j < 8; j++)
                UNROLL for (u32 rows = 0; rows < 2; rows++) {
                    const Vec<S, 2> pair{{sums[32 * i + 4 * j + 2 * rows], sums[32 * i + 4 * j + 2 * rows + 1]}};
                    memory.template store_vector<2>(base + place_of_sums(t / 32 * 16 + lane() / 4 + 8 * rows, 8 * j + lane() % 4 * 2), pair);
                }
        group_sync(place.group);
        const u32 column = t % RUNS * V, j = place.column + 64 * part + column;
        if (j < p.out.n()) ROLLED for (u32 r = t / RUNS; r < 64; r += 128 / RUNS) {
            const u32 i = place.row + r;
            if (i >= p.out.m()) break;
            S run[V];
            UNROLL for (u32 first = 0; first < V; first += 4) {
                const auto four = memory.template load_vector<4>(base + place_of_sums(r, column + first));
                UNROLL for (u32 e = 0; e < 4; e++) run[first + e] = four[e];
            }
            store_sums<T, int(V)>(p, task, y, partial, bias, i, j, run);
        }
    }
}
