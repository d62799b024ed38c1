// Matrix products on Hopper's tensor cores (wgmma): Y = A B (+ bias), of f16 or bf16, sums in float.
//
// Launch: one block of three warpgroups on each multiprocessor, in clusters; cluster c computes tiles c, c + clusters, … of all tiles,
// parts and matrices. A thread of the first warpgroup brings operands through the ring, ahead of the two that multiply, each of which
// has half of a tile's BM rows. A matrix instruction is under way while the next ones are issued, and a stage is given back one step later.
//
// Per step of 64 of k: 128 (BM + BN / CLUSTER) bytes from the L2 cache for 2 · 64 BM BN operations of a block.
#pragma once

#include "store.h"

// The first warpgroup: one thread fills the ring, with what the operands bring.
template <int BM, int BN, int CLUSTER, bool A_BY_K, bool B_BY_K, class P>
DEVICE void produce(const P &p, const TensorMap &a, const TensorMap &b, Ring<BM, BN, CLUSTER> ring, u32 count) {
    constexpr u32 SHARE = BN / CLUSTER; // of the columns
    const u32 rank = CLUSTER > 1 ? cluster_rank() : 0;
    ROLLED for (u32 t = block_x() / CLUSTER; t < count; t += grid_x() / CLUSTER) {
        const Task task(p, t);
        const u32 row = (task.row * CLUSTER + rank) * BM, column = task.column * BN + rank * SHARE;
        const auto left = p.a.place(row, task.matrix);
        const auto right = p.b.place(column, task.matrix);
        ROLLED for (u32 k = task.from; k < task.to; k += RING_DEPTH, ring.next()) {
            mbarrier_wait(ring.empty(), ring.parity ^ 1);
            mbarrier_arrive_expect(ring.full(), ring.STAGE);
            p.a.template bring<BM, A_BY_K, false>(a, ring.left(), ring.full(), left, k);
            p.b.template bring<SHARE, B_BY_K, (CLUSTER > 1)>(b, ring.right() + rank * SHARE * ROW_BYTES, ring.full(), right, k);
        }
    }
    // The other block's arrivals must not find this one gone.
    if (CLUSTER > 1)
        for (u32 s = 0; s < ring.STAGES; s++, ring.next()) mbarrier_wait(ring.empty(), ring.parity ^ 1);
}

// The others: a tile's sums, then what becomes of them.
template <class T, int BM, int BN, int CLUSTER, bool A_BY_K, bool B_BY_K, class P>
DEVICE void consume(const P &p, const TensorMap &out, Ring<BM, BN, CLUSTER> ring, u32 group, u32 count, u32 by_tma, Global<T> y, Global<f32> partial,
                    Global<const T> bias) {
    constexpr u32 SLICES = BM / 128; // of 64 rows, for a warpgroup
    DYNAMIC_SHARED(T, memory);
    DYNAMIC_SHARED(f32, floats);
    const u32 rank = CLUSTER > 1 ? cluster_rank() : 0;
    f32 sums[SLICES][BN / 2];
    u32 turn = 0;
    ROLLED for (u32 t = block_x() / CLUSTER; t < count; t += grid_x() / CLUSTER) {
        const Task task(p, t);
        u32 before = 0;
        ROLLED for (u32 k = task.from; k < task.to; k += RING_DEPTH, ring.next()) {
            mbarrier_wait(ring.full(), ring.parity);
            wgmma_fence();
            UNROLL for (u32 step = 0; step < RING_DEPTH / 16; step++) {
                const u32 right = ring.right() + step * (B_BY_K ? 32 : 2048);
                UNROLL for (u32 s = 0; s < SLICES; s++) {
                    const u32 left = ring.left() + (group * SLICES + s) * CHUNK_BYTES + step * (A_BY_K ? 32 : 2048);
                    wgmma<T, BN, A_BY_K, B_BY_K>(sums[s], A_BY_K ? descriptor_by_k(left) : descriptor_by_rows(left, CHUNK_BYTES),
                                                 B_BY_K ? descriptor_by_k(right) : descriptor_by_rows(right, CHUNK_BYTES), k > task.from || step > 0);
                }
            }
            wgmma_commit();
            if (k > task.from) { // the step before is done, and its stage free
                wgmma_wait<1>();
                ring.release(before);
            }
            before = ring.stage;
        }
        wgmma_wait<0>();
        ring.release(before);
        const u32 at = ring.OUT + group * ring.OUT_BYTES;
        UNROLL for (u32 s = 0; s < SLICES; s++) {
            const Place place{(task.row * CLUSTER + rank) * BM + (group * SLICES + s) * 64, task.column * BN, group};
            if (by_tma) store_by_tma<T, BN>(p, task, out, memory, at, place, turn, bias, sums[s]);
            else store_by_threads<T, BN>(p, task, floats, at, place, y, partial, bias, sums[s]);
        }
    }
    if (by_tma && thread_x() % 128 == 0) tma_wait_read<0>();
}

template <class T, int BM, int BN, int CLUSTER, bool A_BY_K, bool B_BY_K, class P>
DEVICE void multiply_on_hopper(const P &p, const TensorMap &a, const TensorMap &b, const TensorMap &out, u32 count, u32 by_tma, Global<T> y,
                               Global<f32> partial, Global<const T> bias) {
    DYNAMIC_SHARED(T, memory);
    const Ring<BM, BN, CLUSTER> ring{shared_address(memory, 0)};
    const u32 group = shuffle(thread_x() / 128, 0);
    if (thread_x() == 0) {
        ring.init();
        tma_prefetch(a);
        tma_prefetch(b);
        if (by_tma) tma_prefetch(out);
    }
    if (CLUSTER > 1) cluster_sync();
    else block_sync();
    if (group == 0) {
        registers_shrink<40>();
        if (thread_x() == 0) produce<BM, BN, CLUSTER, A_BY_K, B_BY_K>(p, a, b, ring, count);
    } else {
        registers_grow<232>();
        consume<T, BM, BN, CLUSTER, A_BY_K, B_BY_K>(p, out, ring, group - 1, count, by_tma, y, partial, bias);
    }
}

// hopper_T_TILE_CLUSTER_LAYOUT, the layout as in gemm.cu.
#define HOPPER(T, tile, cluster, layout, by_k, b_by_k, ...)                                                                      \
    KERNEL_OF_CLUSTER(PRODUCT_THREADS, cluster, hopper_##T##_##tile##_##cluster##_##layout,                                      \
                      (PARAMETER Product<Mapped, Mapped> p, PARAMETER TensorMap a, PARAMETER TensorMap b, PARAMETER TensorMap out, \
                       u32 count, u32 by_tma, Global<T> y, Global<f32> partial, Global<const T> bias)) {                         \
        if constexpr (ON_HOPPER) multiply_on_hopper<T, __VA_ARGS__, cluster, by_k, b_by_k>(p, a, b, out, count, by_tma, y, partial, bias); \
    }
#define HOPPER_LAYOUTS(T, tile, cluster, ...)                                                                                    \
    HOPPER(T, tile, cluster, nn, true, false, __VA_ARGS__) HOPPER(T, tile, cluster, nt, true, true, __VA_ARGS__)                 \
    HOPPER(T, tile, cluster, tn, false, false, __VA_ARGS__) HOPPER(T, tile, cluster, tt, false, true, __VA_ARGS__)
#define HOPPER_TILES(T)                                                                                                          \
    HOPPER_LAYOUTS(T, 128x256, 1, 128, 256) HOPPER_LAYOUTS(T, 128x256, 2, 128, 256)                                              \
    HOPPER_LAYOUTS(T, 128x128, 1, 128, 128) HOPPER_LAYOUTS(T, 128x128, 2, 128, 128)                                              \
    HOPPER_LAYOUTS(T, 128x64, 1, 128, 64)
