// Matrix products C[b] = A[b] B[b] (+ bias) of any strides.
//
// matmul_T: tiles of 64 x 64 (tile.h), block_x the tile, block_y and block_z the matrix. matmul_naive_T: a thread for each element, the
// oracle. matmul_tensor_T: 16-bit floats on tensor cores. Layout: C is [batch, m, n]; walks over the batch by C, A and B.
#include "tile.h"
#include "walk.h"

struct Strides {
    i64 row, column;
};

template <class T>
DEVICE void matmul(const Walk<3> &batch, u32 m, u32 n, u32 k, Strides of_a, Strides of_b, Global<T> c, Global<const T> a,
                   Global<const T> b, Global<const T> bias, u32 with_bias) {
    i64 at[3];
    batch.offsets(block_y() + block_z() * grid_y(), at);
    const u32 across = (n + TILE_SIDE - 1) / TILE_SIDE;
    using A = Wide<T>;
    product_tile<A>(
        m, n, 0, k, block_x() / across * TILE_SIDE, block_x() % across * TILE_SIDE, of_a.column == 1, of_b.row == 1,
        [&](u32 i, u32 l) { return widen(a[at[1] + i * of_a.row + l * of_a.column]); },
        [&](u32 l, u32 j) { return widen(b[at[2] + l * of_b.row + j * of_b.column]); },
        [&](u32 i, u32 j, A sum) {
            if (with_bias) sum = sum + widen(bias[j]);
            c[at[0] + i64(i) * n + j] = narrow<T>(sum);
        });
}

template <class T>
DEVICE void matmul_naive(const Walk<3> &batch, u32 m, u32 n, u32 k, Strides of_a, Strides of_b, Global<T> c, Global<const T> a,
                         Global<const T> b, Global<const T> bias, u32 with_bias) {
    i64 at[3];
    batch.offsets(block_y() + block_z() * grid_y(), at);
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= m * n) return;
    const u32 i = e / n, j = e % n;
    Wide<T> sum = 0;
    for (u32 l = 0; l < k; l++)
        sum = multiply_add(widen(a[at[1] + i * of_a.row + l * of_a.column]), widen(b[at[2] + l * of_b.row + j * of_b.column]), sum);
    if (with_bias) sum = sum + widen(bias[j]);
    c[at[0] + i64(i) * n + j] = narrow<T>(sum);
}

// Four warps, each with 32 x 32 of a tile of 64 x 64; k goes in steps of 32. Rows of both operands lie along k in shared memory, with
// 8 elements of padding, so that the eight rows that ldmatrix takes together lie in different banks.
constexpr u32 TENSOR_THREADS = 128, TENSOR_DEPTH = 32, TENSOR_PITCH = TENSOR_DEPTH + 8;

template <class T>
DEVICE void matmul_tensor(const Walk<3> &batch, u32 m, u32 n, u32 k, Strides of_a, Strides of_b, Global<T> c, Global<const T> a,
                          Global<const T> b, Global<const T> bias, u32 with_bias) {
    SHARED(T, left, TILE_SIDE *TENSOR_PITCH);
    SHARED(T, right, TILE_SIDE *TENSOR_PITCH); // [column][k]
    i64 at[3];
    batch.offsets(block_y() + block_z() * grid_y(), at);
    const u32 across = (n + TILE_SIDE - 1) / TILE_SIDE;
    const u32 row0 = block_x() / across * TILE_SIDE, column0 = block_x() % across * TILE_SIDE;
    const u32 warp_row = warp() / 2 * 32, warp_column = warp() % 2 * 32;
    const bool rows_by_k = of_a.column == 1, columns_by_k = of_b.row == 1;
    float sums[2][4][4] = {};
    for (u32 k0 = 0; k0 < k; k0 += TENSOR_DEPTH) {
        ROLLED for (u32 part = 0; part < TILE_SIDE * TENSOR_DEPTH / TENSOR_THREADS; part++) {
            const u32 e = part * TENSOR_THREADS + thread_x();
            {
                const u32 l = rows_by_k ? e % TENSOR_DEPTH : e / TILE_SIDE, i = rows_by_k ? e / TENSOR_DEPTH : e % TILE_SIDE;
                const bool inside = row0 + i < m && k0 + l < k;
                left[i * TENSOR_PITCH + l] = inside ? T(a[at[1] + (row0 + i) * of_a.row + (k0 + l) * of_a.column]) : T{0};
            }
            {
                const u32 l = columns_by_k ? e % TENSOR_DEPTH : e / TILE_SIDE, j = columns_by_k ? e / TENSOR_DEPTH : e % TILE_SIDE;
                const bool inside = column0 + j < n && k0 + l < k;
                right[j * TENSOR_PITCH + l] = inside ? T(b[at[2] + (k0 + l) * of_b.row + (column0 + j) * of_b.column]) : T{0};
            }
        }
        block_sync();
        UNROLL for (u32 step = 0; step < TENSOR_DEPTH; step += 16) {
            Vec<u32, 4> rows[2], columns[2];
            UNROLL for (u32 i = 0; i < 2; i++)
                rows[i] = ldmatrix_x4(left, (warp_row + 16 * i + lane() % 16) * TENSOR_PITCH + step + lane() / 16 * 8);
            // Each gives the fragments of two groups of 8 columns.
            UNROLL for (u32 j = 0; j < 2; j++)
                columns[j] = ldmatrix_x4(
                    right, (warp_column + 16 * j + lane() % 8 + lane() / 16 * 8) * TENSOR_PITCH + step + lane() / 8 % 2 * 8);
            UNROLL for (u32 i = 0; i < 2; i++)
                UNROLL for (u32 j = 0; j < 4; j++) {
                    const Vec<u32, 2> column{{columns[j / 2][j % 2 * 2], columns[j / 2][j % 2 * 2 + 1]}};
                    mma_16816<T>(sums[i][j], rows[i], column);
                }
        }
        block_sync();
    }
    UNROLL for (u32 i = 0; i < 2; i++)
        UNROLL for (u32 j = 0; j < 4; j++)
            UNROLL for (u32 e = 0; e < 4; e++) {
                const u32 row = row0 + warp_row + 16 * i + lane() / 4 + 8 * (e / 2);
                const u32 column = column0 + warp_column + 8 * j + lane() % 4 * 2 + e % 2;
                if (row >= m || column >= n) continue;
                float sum = sums[i][j][e];
                if (with_bias) sum += to_float(bias[column]);
                c[at[0] + i64(row) * n + column] = from_float<T>(sum);
            }
}

#define MATMUL(form, threads, T)                                                                                                 \
    KERNEL_OF(threads, form##_##T,                                                                                               \
              (PARAMETER Walk<3> batch, u32 m, u32 n, u32 k, i64 a_row, i64 a_column, i64 b_row, i64 b_column, Global<T> c,      \
               Global<const T> a, Global<const T> b, Global<const T> bias, u32 with_bias)) {                                     \
        form(batch, m, n, k, {a_row, a_column}, {b_row, b_column}, c, a, b, bias, with_bias);                                    \
    }
#define MATMULS(T) MATMUL(matmul, TILE_THREADS, T) MATMUL(matmul_naive, 256, T)

FOR_FLOATS(MATMULS)
MATMULS(i32)
MATMULS(i64)
MATMUL(matmul_tensor, TENSOR_THREADS, f16)
MATMUL(matmul_tensor, TENSOR_THREADS, bf16)
