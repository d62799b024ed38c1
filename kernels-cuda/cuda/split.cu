// Numbers as the sum of three of 8 significant bits, for products of them on tensor cores (hopper_6xbf16.cu):
//
//   y[0] + y[1] + y[2] = x, without error, for 0 and numbers from 2^-100 up to 2^60; what others there are, is counted
//
// each part in a plane of its own, whose rows are those of x, filled up with 0 to whole runs of 8. Launch: a thread for each run.
// Bytes: 10 for a number.
// archs: sm_90a
#include "gemm/unit.h"
#include "walk.h"

KERNEL_OF(256, split_f32,
          (PARAMETER Walk<1> rows, u32 count, Divisor runs, u32 columns, i64 stride, u32 vector, i64 plane, Global<bf16> y,
           Global<u32> strange, Global<const f32> x)) {
    const u32 i = block_x() * block_size() + thread_x();
    bool picks = true;
    if (i < count) {
        const u32 row = runs.quotient(i), first = (i - row * runs.divisor) * 8;
        i64 at[1];
        rows.offsets(row, at);
        f32 numbers[8];
        UNROLL for (u32 four = 0; four < 8; four += 4) {
            if (vector && first + four + 4 <= columns) {
                const Vec<f32, 4> v = x.load_vector<4>(at[0] + first + four);
                UNROLL for (u32 e = 0; e < 4; e++) numbers[four + e] = v[e];
            } else UNROLL for (u32 e = four; e < four + 4; e++)
                numbers[e] = first + e < columns ? x[at[0] + (first + e) * stride] : 0;
        }
        UNROLL for (u32 e = 0; e < 8; e++) picks = picks && SixHalves::picks(numbers[e]);
        UNROLL for (u32 part = 0; part < 3; part++) {
            Vec<bf16, 8> parts;
            // What two roundings leave has no more bits than a part.
            UNROLL for (u32 e = 0; e < 8; e++) parts[e] = {u16((part < 2 ? SixHalves::take(numbers[e]) : bits_of(numbers[e])) >> 16)};
            y.store_vector(part * plane + i64{i} * 8, parts);
        }
    }
    if (block_any(!picks) && thread_x() == 0) strange.atomic_add(0, 1);
}
