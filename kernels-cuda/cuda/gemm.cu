// Matrix products of f32 and f64 (gemm/simt.h): gemm_T_TILE_LAYOUT, where the layout says along which index the runs of 16 bytes lie
// that are loaded at once: k of A or its rows, k of B or its columns (t, turned, is along k: kt is NT). And the sums of parts of k.
#include "gemm/simt.h"

#define GEMM(T, tile, layout, by_k, b_by_k, ...)                                                                                 \
    KERNEL_WIDE(256, 1, gemm_##T##_##tile##_##layout,                                                                            \
              (PARAMETER Product<Strided, Strided> p, Global<T> y, Global<T> partial, Global<const T> a, Global<const T> b,      \
               Global<const T> bias)) {                                                                                          \
        multiply<T, __VA_ARGS__, by_k, b_by_k>(p, y, partial, a, b, bias);                                                       \
    }
#define GEMMS(T, tile, ...)                                                                                                      \
    GEMM(T, tile, nn, true, false, __VA_ARGS__) GEMM(T, tile, nt, true, true, __VA_ARGS__)                                       \
    GEMM(T, tile, tn, false, false, __VA_ARGS__) GEMM(T, tile, tt, false, true, __VA_ARGS__)

GEMMS(f32, 128x128, 128, 128, 16, 2, 2)
GEMMS(f32, 64x64, 64, 64, 16, 1, 1)

// Adds the parts of each sum, in their order, and finishes it. A thread for each element of the result.
template <class T> DEVICE void sum_parts(const Output &out, u32 count, u32 parts, Global<T> y, Global<const Wide<T>> partial, Global<const T> bias) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const u32 outer = out.columns.quotient(e), j = e - outer * out.n();
    const u32 z = out.rows.quotient(outer), i = outer - z * out.m();
    const i64 size = i64(out.m()) * out.n();
    i64 at = z * size * parts + i64(i) * out.n() + j, places[4];
    Sum<T> sum = 0;
    for (u32 part = 0; part < parts; part++, at += size) sum += static_cast<Sum<T>>(partial[at]);
    out.batch.offsets(z, places);
    if (out.with_bias) sum += static_cast<Sum<T>>(widen(bias[places[3] + i * out.bias_row + j * out.bias_column]));
    const i64 place[1] = {places[0] + out.row.offset(i) + out.column.offset(j)};
    Wide<T> result[1] = {static_cast<Wide<T>>(sum)};
    finish_each(out.epilogue, y, place, 1, result);
}

#define SUM_PARTS(T)                                                                                                             \
    KERNEL_OF(256, sum_parts_##T,                                                                                                \
              (PARAMETER Output out, u32 count, u32 parts, Global<T> y, Global<const Wide<T>> partial, Global<const T> bias)) {  \
        sum_parts(out, count, parts, y, partial, bias);                                                                          \
    }

FOR_FLOATS(SUM_PARTS)
SUM_PARTS(i32)
