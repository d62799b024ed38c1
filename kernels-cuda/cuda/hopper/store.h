// How a warpgroup's sums leave it, 64 columns at a time: through shared memory, and by TMA where nothing but a bias is to be done.
#pragma once

#include "ring.h"

// The tile of a warpgroup that is to be stored: 64 rows from `row` on, of the columns from `column` on.
struct Place {
    u32 row, column;
    u32 group; // which of the two warpgroups, each of which has a barrier and memory of its own
};

DEVICE void group_sync(u32 group) { block_sync(1 + group, 128); }

// Results as they are, with the bias of each column, by TMA from two buffers of 64 rows of 128 bytes in turn; `turn` counts the uses.
template <class T, int BN, class P>
DEVICE void store_by_tma(const P &p, const Task &task, const TensorMap &map, const Shared<T> &memory, u32 at, const Place &place,
                         u32 &turn, Global<const T> bias, const f32 (&sums)[BN / 2]) {
    const u32 t = thread_x() % 128, columns = p.out.n();
    UNROLL for (u32 part = 0; part < BN / 64; part++, turn++) {
        const u32 buffer = at + turn % 2 * CHUNK_BYTES;
        if (t == 0) tma_wait_read<1>(); // what the buffer held before has left it
        group_sync(place.group);
        UNROLL for (u32 j = 8 * part; j < 8 * part + 8; j += 2) { // 8 columns each
            Vec<u32, 4> v;
            UNROLL for (u32 half = 0; half < 2; half++) {
                f32 more[2] = {0, 0};
                if (p.out.with_bias) {
                    const u32 column = place.column + 8 * (j + half) + lane() % 4 * 2;
                    UNROLL for (u32 e = 0; e < 2; e++)
                        if (column + e < columns) more[e] = widen(bias[task.at[3] + (column + e) * p.out.bias_column]);
                }
                UNROLL for (u32 rows = 0; rows < 2; rows++) {
                    const f32 *pair = sums + 4 * (j + half) + 2 * rows;
                    v[2 * half + rows] = narrow<T>(pair[0] + more[0]).bits | u32{narrow<T>(pair[1] + more[1]).bits} << 16;
                }
            }
            const u32 to = buffer + swizzled(t / 32 * 16 + lane() % 16, 16 * (j % 8 + lane() / 16));
            stmatrix_x4(memory, to / 2, v);
        }
        proxy_fence();
        group_sync(place.group);
        if (t == 0) {
            if (place.column + 64 * part < columns)
                tma_store(map, {i32(place.column + 64 * part), i32(place.row), i32(task.matrix)}, shared_address(memory, buffer / 2));
            tma_commit();
        }
    }
}

// Where a run of 8 sums lies among 64 rows of 64: permuted, so that rows that are written together lie in different banks.
DEVICE u32 place_of_sums(u32 row, u32 column) { return row * 64 + (column ^ row % 8 * 8); }

// Stores 8 sums of row i from column j on, as partial sums or as results; columns beyond the last are left out.
template <class T, class P>
DEVICE void store_sums(const P &p, const Task &task, Global<T> y, Global<f32> partial, Global<const T> bias, u32 i, u32 j, const f32 (&sums)[8]) {
    const Output &out = p.out;
    const u32 count = out.n() - j < 8 ? out.n() - j : 8;
    if (p.parts.divisor > 1) {
        const i64 at = task.partial_row(p, i) + j;
        if (out.n() % 4 == 0) {
            UNROLL for (u32 v = 0; v < 8; v += 4)
                if (v < count) partial.template store_vector<4>(at + v, {{sums[v], sums[v + 1], sums[v + 2], sums[v + 3]}});
        } else UNROLL for (u32 v = 0; v < 8; v++)
            if (v < count) partial[at + v] = sums[v];
        return;
    }
    f32 results[8];
    UNROLL for (u32 v = 0; v < 8; v++) {
        results[v] = sums[v];
        if (out.with_bias && v < count) results[v] += widen(bias[task.at[3] + i * out.bias_row + (j + v) * out.bias_column]);
    }
    const i64 row = task.at[0] + out.row.offset(i);
    if (out.vector) { // the columns are whole runs
        finish_run<8>(out.epilogue, y, row + out.column.offset(j), results);
        return;
    }
    i64 places[8];
    UNROLL for (u32 v = 0; v < 8; v++) places[v] = row + out.column.offset(j + v);
    finish_each<8>(out.epilogue, y, places, count, results);
}

// Partial sums, or results that are finished by the epilogue, in runs of 8 columns.
template <class T, int BN, class P>
DEVICE void store_by_threads(const P &p, const Task &task, const Shared<f32> &memory, u32 at, const Place &place, Global<T> y, Global<f32> partial,
                             Global<const T> bias, const f32 (&sums)[BN / 2]) {
    const u32 t = thread_x() % 128, base = at / 4;
    ROLLED for (u32 part = 0; part < BN / 64; part++) {
        group_sync(place.group); // the memory is free
        UNROLL for (u32 i = 0; i < BN / 64; i++)
            if (i == part) UNROLL for (u32 j = 0; j < 8; j++)
                UNROLL for (u32 rows = 0; rows < 2; rows++) {
                    const Vec<f32, 2> pair{{sums[32 * i + 4 * j + 2 * rows], sums[32 * i + 4 * j + 2 * rows + 1]}};
                    memory.template store_vector<2>(base + place_of_sums(t / 32 * 16 + lane() / 4 + 8 * rows, 8 * j + lane() % 4 * 2), pair);
                }
        group_sync(place.group);
        const u32 j = place.column + 64 * part + t % 8 * 8;
        if (j < p.out.n()) ROLLED for (u32 r = t / 8; r < 64; r += 16) {
            const u32 i = place.row + r;
            if (i >= p.out.m()) break;
            f32 run[8];
            UNROLL for (u32 half = 0; half < 2; half++) {
                const auto four = memory.template load_vector<4>(base + place_of_sums(r, t % 8 * 8) + 4 * half);
                UNROLL for (u32 e = 0; e < 4; e++) run[4 * half + e] = four[e];
            }
            store_sums(p, task, y, partial, bias, i, j, run);
        }
    }
}
