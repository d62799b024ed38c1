// Kernels that are right, and the same with a bug planted in each: what the emulator must let pass, and what it must find.
#include "device.h"

// The sum of 256 numbers by a tree in shared memory.
KERNEL(sum_right, (Global<const float> x, Global<float> y)) {
    SHARED(float, sums, 256);
    const unsigned t = thread_x();
    sums[t] = x[t];
    for (unsigned half = 128; half > 0; half /= 2) {
        block_sync();
        if (t < half) sums[t] += sums[t + half];
    }
    if (t == 0) y[0] = sums[0];
}

KERNEL(sum_without_barrier, (Global<const float> x, Global<float> y)) {
    SHARED(float, sums, 256);
    const unsigned t = thread_x();
    sums[t] = x[t];
    block_sync();
    for (unsigned half = 128; half > 0; half /= 2)
        if (t < half) sums[t] += sums[t + half];
    if (t == 0) y[0] = sums[0];
}

KERNEL(sum_with_barrier_in_branch, (Global<const float> x, Global<float> y)) {
    SHARED(float, sums, 256);
    const unsigned t = thread_x();
    sums[t] = x[t];
    for (unsigned half = 128; half > 0; half /= 2)
        if (t < half) {
            block_sync();
            sums[t] += sums[t + half];
        }
    if (t == 0) y[0] = sums[0];
}

KERNEL(sum_past_the_array, (Global<const float> x, Global<float> y)) {
    SHARED(float, sums, 256);
    const unsigned t = thread_x();
    sums[t + 1] = x[t];
    block_sync();
    if (t == 0) y[0] = sums[0];
}

// y = 2 x with a tail.
KERNEL(twice_right, (Global<const float> x, Global<float> y, int n)) {
    const int i = block_x() * block_size() + thread_x();
    if (i < n) y[i] = 2 * x[i];
}

KERNEL(twice_with_long_tail, (Global<const float> x, Global<float> y, int n)) {
    const int i = block_x() * block_size() + thread_x();
    if (i <= n) y[i] = 2 * x[i];
}

KERNEL(twice_with_unaligned_vectors, (Global<const float> x, Global<float> y, int n)) {
    const int i = 4 * (block_x() * block_size() + thread_x());
    if (i + 4 < n) y.store_vector(i, (x + 1).load_vector<4>(i));
}

// The sum of a warp by shuffles.
KERNEL(warp_sum_right, (Global<const float> x, Global<float> y)) {
    float v = x[thread_x()];
    for (unsigned by = 16; by > 0; by /= 2) v += shuffle_xor(v, by);
    if (lane() == 0) y[warp()] = v;
}

KERNEL(warp_sum_in_half_a_warp, (Global<const float> x, Global<float> y)) {
    float v = x[thread_x()];
    if (lane() < 16)
        for (unsigned by = 8; by > 0; by /= 2) v += shuffle_xor(v, by);
    if (lane() == 0) y[warp()] = v;
}

// A warp hands numbers on through shared memory.
KERNEL(hand_over_right, (Global<const float> x, Global<float> y)) {
    SHARED(float, box, 32);
    box[lane()] = x[lane()];
    warp_sync();
    y[lane()] = box[31 - lane()];
}

KERNEL(hand_over_without_sync, (Global<const float> x, Global<float> y)) {
    SHARED(float, box, 32);
    box[lane()] = x[lane()];
    y[lane()] = box[31 - lane()];
}

// Two groups of asynchronous copies; the second may still be under way when the first is read.
KERNEL(copies_right, (Global<const float> x, Global<float> y)) {
    SHARED(float, box, 256);
    const unsigned t = thread_x();
    copy_async16(box, 4 * t, x, 4 * t);
    copy_async_commit();
    copy_async16(box, 128 + 4 * t, x, 128 + 4 * t);
    copy_async_commit();
    copy_async_wait<0>();
    block_sync();
    for (unsigned i = t; i < 256; i += 32) y[i] = box[i];
}

KERNEL(copies_waited_for_too_little, (Global<const float> x, Global<float> y)) {
    SHARED(float, box, 256);
    const unsigned t = thread_x();
    copy_async16(box, 4 * t, x, 4 * t);
    copy_async_commit();
    copy_async16(box, 128 + 4 * t, x, 128 + 4 * t);
    copy_async_commit();
    copy_async_wait<1>();
    block_sync();
    for (unsigned i = t; i < 256; i += 32) y[i] = box[i];
}

// The sum of a grid: partial sums, a grid barrier, then one block adds them.
KERNEL(grid_sum_right, (Global<const float> x, Global<float> partial, Global<float> y)) {
    if (thread_x() == 0) {
        float sum = 0;
        for (unsigned i = 0; i < block_size(); i++) sum += x[block_x() * block_size() + i];
        partial[block_x()] = sum;
    }
    grid_sync();
    if (block_x() == 0 && thread_x() == 0) {
        float sum = 0;
        for (unsigned i = 0; i < grid_x(); i++) sum += partial[i];
        y[0] = sum;
    }
}

// C = A B of one 16x8x16 tile on the tensor cores.
KERNEL(tile_right, (Global<const bf16> a, Global<const bf16> b, Global<float> c)) {
    SHARED(bf16, rows, 256);
    SHARED(bf16, columns, 256); // [n][k], the upper half unused
    for (unsigned i = lane(); i < 256; i += 32) rows[i] = a[i];
    for (unsigned i = lane(); i < 256; i += 32) columns[i] = i < 128 ? bf16(b[i]) : bf16{0};
    warp_sync();
    const auto fa = ldmatrix_x4(rows, lane() % 16 * 16 + lane() / 16 * 8);
    const auto fb = ldmatrix_x4(columns, (lane() % 8 + lane() / 16 * 8) * 16 + lane() / 8 % 2 * 8);
    float d[4] = {0, 0, 0, 0};
    mma_16816<bf16>(d, fa, Vec<std::uint32_t, 2>{{fb[0], fb[1]}});
    for (unsigned i = 0; i < 4; i++) c[(lane() / 4 + 8 * (i / 2)) * 8 + lane() % 4 * 2 + i % 2] = d[i];
}
