// Matrix products by their definition: a thread for each element of the result, which walks along k.
//
// Launch: ceil(matrices m n / 256) blocks of 256. Bytes: 2 k elements for each of the result.
#pragma once

#include "product.h"

template <class T, class B>
DEVICE void multiply_naively(const Product<Strided, B> &p, u32 count, Global<T> y, Global<const T> a, Global<const T> b, Global<const T> bias) {
    const u32 e = block_x() * block_size() + thread_x();
    if (e >= count) return;
    const Output &out = p.out;
    const u32 outer = out.columns.quotient(e), j = e - outer * out.n();
    const u32 z = out.rows.quotient(outer), i = outer - z * out.m();
    i64 at[4];
    out.batch.offsets(z, at);
    const i64 left = at[1] + p.a.row.offset(i);
    const auto right = p.b.row_at(j);
    Sum<T> sum = 0;
    for (u32 k = 0; k < p.k; k++) {
        const auto column = p.b.column_at(k);
        if (!p.b.meet(right, column)) continue;
        const T u = a[left + p.a.column.offset(k)], v = b[at[2] + right.offset + column.offset];
        sum += static_cast<Sum<T>>(widen(u)) * static_cast<Sum<T>>(widen(v));
    }
    if (out.with_bias) sum += static_cast<Sum<T>>(widen(bias[at[3] + i * out.bias_row + j * out.bias_column]));
    const i64 place[1] = {at[0] + out.row.offset(i) + out.column.offset(j)};
    if constexpr (is_float<T>) {
        Wide<T> result[1] = {sum};
        finish_each(out.epilogue, y, place, 1, result);
    } else y[place[0]] = static_cast<T>(sum);
}
