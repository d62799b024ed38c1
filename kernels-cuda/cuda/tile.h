// A tile of a matrix product, whatever its operands are made of: rows and columns are brought to shared memory by functions.
//
// C[i, j] = Σ_k A(i, k) B(k, j) for a tile of 64 x 64 by 256 threads, each with 4 x 4 sums in registers; k goes in steps of 16.
// Sums are in the order of k, so they do not depend on the tile. Arithmetic: 2 m n k; shared memory: 8 loads for 16 products.
#pragma once

#include "types.h"

constexpr u32 TILE_SIDE = 64, TILE_DEPTH = 16, TILE_THREADS = 256, TILE_PITCH = TILE_SIDE + 4;

// Sums and differences of integers wrap.
template <class A> DEVICE A multiply_add(A x, A y, A sum) {
    if constexpr (std::is_integral_v<A>) return static_cast<A>(static_cast<u64>(x) * static_cast<u64>(y) + static_cast<u64>(sum));
    else return std::fma(x, y, sum);
}

// `rows(i, k)` and `columns(k, j)` give elements within [0, m) x [first, last) x [0, n), `store(i, j, sum)` takes them. Neighbouring
// threads ask for neighbouring k of a row if `rows_by_k`, else for neighbouring rows; columns likewise.
template <class A, class Rows, class Columns, class Store>
DEVICE void product_tile(u32 m, u32 n, u32 first, u32 last, u32 row0, u32 column0, bool rows_by_k, bool columns_by_k, Rows rows,
                         Columns columns, Store store) {
    SHARED(A, left, TILE_DEPTH *TILE_PITCH);
    SHARED(A, right, TILE_DEPTH *TILE_PITCH);
    const u32 t = thread_x(), ty = t / 16, tx = t % 16;
    A sums[4][4] = {};
    for (u32 k0 = first; k0 < last; k0 += TILE_DEPTH) {
        UNROLL for (u32 part = 0; part < 4; part++) {
            const u32 e = part * TILE_THREADS + t;
            {
                const u32 k = rows_by_k ? e % TILE_DEPTH : e / TILE_SIDE, i = rows_by_k ? e / TILE_DEPTH : e % TILE_SIDE;
                left[k * TILE_PITCH + i] = row0 + i < m && k0 + k < last ? A(rows(row0 + i, k0 + k)) : A(0);
            }
            {
                const u32 k = columns_by_k ? e % TILE_DEPTH : e / TILE_SIDE, j = columns_by_k ? e / TILE_DEPTH : e % TILE_SIDE;
                right[k * TILE_PITCH + j] = column0 + j < n && k0 + k < last ? A(columns(k0 + k, column0 + j)) : A(0);
            }
        }
        block_sync();
        const u32 depth = last - k0 < TILE_DEPTH ? last - k0 : TILE_DEPTH;
        for (u32 k = 0; k < depth; k++) {
            A x[4], y[4];
            UNROLL for (u32 i = 0; i < 4; i++) x[i] = left[k * TILE_PITCH + ty * 4 + i];
            UNROLL for (u32 j = 0; j < 4; j++) y[j] = right[k * TILE_PITCH + tx * 4 + j];
            UNROLL for (u32 i = 0; i < 4; i++)
                UNROLL for (u32 j = 0; j < 4; j++) sums[i][j] = multiply_add(x[i], y[j], sums[i][j]);
        }
        block_sync();
    }
    UNROLL for (u32 i = 0; i < 4; i++)
        UNROLL for (u32 j = 0; j < 4; j++)
            if (row0 + ty * 4 + i < m && column0 + tx * 4 + j < n) store(row0 + ty * 4 + i, column0 + tx * 4 + j, sums[i][j]);
}
