// Copies that cross: consecutive elements of the result lie far apart in the source, and the other way round.
//
// y[r, c] = x[r, c] with c consecutive in y and r consecutive in x, matrix by matrix, through tiles of 32 x 32 in shared memory, so
// that both sides are read and written in whole lines. Rows of a tile are 33 elements apart: a column then lies in different banks.
// Launch: block_x the tile, block_y and block_z the matrix. Bytes: both operands once.
#include "walk.h"

constexpr u32 SIDE = 32, TRANSPOSE_THREADS = 256;

template <class T>
DEVICE void transpose(const Walk<2> &matrices, u32 rows, u32 columns, i64 y_stride, i64 x_stride, Global<T> y, Global<const T> x) {
    SHARED(T, tile, SIDE *(SIDE + 1));
    i64 at[2];
    matrices.offsets(block_y() + block_z() * grid_y(), at);
    const u32 across = (columns + SIDE - 1) / SIDE, fast = thread_x() % SIDE, slow = thread_x() / SIDE;
    const u32 row0 = block_x() / across * SIDE, column0 = block_x() % across * SIDE;
    UNROLL for (u32 i = 0; i < SIDE; i += TRANSPOSE_THREADS / SIDE) {
        const u32 r = row0 + fast, c = column0 + slow + i;
        if (r < rows && c < columns) tile[(slow + i) * (SIDE + 1) + fast] = x[at[1] + r + c * x_stride];
    }
    block_sync();
    UNROLL for (u32 i = 0; i < SIDE; i += TRANSPOSE_THREADS / SIDE) {
        const u32 r = row0 + slow + i, c = column0 + fast;
        if (r < rows && c < columns) y[at[0] + r * y_stride + c] = tile[fast * (SIDE + 1) + slow + i];
    }
}

#define TRANSPOSE(T)                                                                                                             \
    KERNEL_OF(TRANSPOSE_THREADS, transpose_##T,                                                                                  \
              (PARAMETER Walk<2> matrices, u32 rows, u32 columns, i64 y_stride, i64 x_stride, Global<T> y, Global<const T> x)) { \
        transpose(matrices, rows, columns, y_stride, x_stride, y, x);                                                            \
    }

FOR_SIZES(TRANSPOSE)
