// Matrix products on Hopper's tensor cores (wgmma): Y = A B (+ bias), of the numbers of a unit (unit.h).
//
// Launch: one block of three warpgroups on each multiprocessor, in clusters; cluster c computes tiles c, c + clusters, … of all tiles,
// parts and matrices. A thread of the first warpgroup brings operands through the ring, ahead of the two that multiply, each of which
// has half of a tile's BM rows. A matrix instruction is under way while the next ones are issued, and a stage is given back one step later.
//
// Per step of 128 bytes of k: 128 (BM + BN / CLUSTER) bytes from the L2 cache; of 16-bit floats, for 2 · 64 BM BN operations of a block.
#pragma once

#include "store.h"
#include "unit.h"

// The first warpgroup: one thread fills the ring, with what the operands bring.
template <class U, int BM, int BN, int CLUSTER, bool A_BY_K, bool B_BY_K, class P>
DEVICE void produce(const P &p, const TensorMap &a, const TensorMap &b, Ring<BM, BN, CLUSTER, U::PLANES> ring, u32 count) {
    constexpr u32 SHARE = BN / CLUSTER; // of the columns
    const u32 rank = CLUSTER > 1 ? cluster_rank() : 0;
    ROLLED for (u32 t = block_x() / CLUSTER; t < count; t += grid_x() / CLUSTER) {
        const Task task(p, t);
        const u32 row = (task.row * CLUSTER + rank) * BM, column = task.column * BN + rank * SHARE;
        auto left = p.a.place(row, task.matrix);
        auto right = p.b.place(column, task.matrix);
        ROLLED for (u32 k = task.from; k < task.to; k += RING_DEPTH<typename U::Operand>, ring.next()) {
            mbarrier_wait(ring.empty(), ring.parity ^ 1);
            mbarrier_arrive_expect(ring.full(), ring.STAGE);
            UNROLL for (u32 plane = 0; plane < U::PLANES; plane++) {
                if constexpr (U::PLANES > 1) left.matrix[1] = right.matrix[1] = plane;
                p.a.template bring<BM, A_BY_K, false>(a, ring.left(plane), ring.full(), left, k);
                p.b.template bring<SHARE, B_BY_K, (CLUSTER > 1)>(b, ring.right(plane) + rank * SHARE * ROW_BYTES, ring.full(), right, k);
            }
        }
    }
    // The other block's arrivals must not find this one gone.
    if (CLUSTER > 1)
        for (u32 s = 0; s < ring.STAGES; s++, ring.next()) mbarrier_wait(ring.empty(), ring.parity ^ 1);
}

// The sums of a thread: of slices of 64 rows of a warpgroup's.
template <class U, int BM, int BN> using Sums = typename U::Sum[BM / 128][BN / 2];

// Issues the instructions of a stage: the rows of a plane of A that are a warpgroup's times a plane of B.
template <class U, int BM, int BN, bool A_BY_K, bool B_BY_K>
DEVICE void multiply_stage(Sums<U, BM, BN> &sums, u32 left, u32 right, u32 group, bool add) {
    constexpr u32 SLICES = BM / 128;
    UNROLL for (u32 step = 0; step < 4; step++) {
        const u32 columns = right + step * (B_BY_K ? 32 : 2048);
        UNROLL for (u32 s = 0; s < SLICES; s++) {
            const u32 rows = left + (group * SLICES + s) * CHUNK_BYTES + step * (A_BY_K ? 32 : 2048);
            U::template multiply<BN, A_BY_K, B_BY_K>(sums[s], A_BY_K ? descriptor_by_k(rows) : descriptor_by_rows(rows, CHUNK_BYTES),
                                                     B_BY_K ? descriptor_by_k(columns) : descriptor_by_rows(columns, CHUNK_BYTES), add || step > 0);
        }
    }
}

// A tile's sums, of numbers as they are: a stage is given back when the instructions after it are under way.
template <class U, int BM, int BN, int CLUSTER, bool A_BY_K, bool B_BY_K>
DEVICE void multiply_tile(Sums<U, BM, BN> &sums, Ring<BM, BN, CLUSTER, 1> &ring, const Task &task, u32 group) {
    u32 before = 0;
    ROLLED for (u32 k = task.from; k < task.to; k += RING_DEPTH<typename U::Operand>, ring.next()) {
        mbarrier_wait(ring.full(), ring.parity);
        wgmma_fence();
        multiply_stage<U, BM, BN, A_BY_K, B_BY_K>(sums, ring.left(), ring.right(), group, k > task.from);
        wgmma_commit();
        if (k > task.from) { // the step before is done, and its stage free
            wgmma_wait<1>();
            ring.release(before);
        }
        before = ring.stage;
    }
    wgmma_wait<0>();
    ring.release(before);
}

// The same of numbers in parts. Tensor cores truncate as they add: they add the terms of a stage only, the small ones first, and the sum over
// stages is one of f32 numbers. While one warpgroup adds, the other multiplies.
template <class U, int BM, int BN, int CLUSTER, bool A_BY_K, bool B_BY_K>
DEVICE void multiply_tile(Sums<U, BM, BN> &sums, Ring<BM, BN, CLUSTER, 3> &ring, const Task &task, u32 group) {
    UNROLL for (u32 s = 0; s < BM / 128; s++) UNROLL for (u32 i = 0; i < BN / 2; i++) sums[s][i] = 0;
    ROLLED for (u32 k = task.from; k < task.to; k += RING_DEPTH<typename U::Operand>, ring.next()) {
        Sums<U, BM, BN> terms;
        mbarrier_wait(ring.full(), ring.parity);
        wgmma_fence();
        UNROLL for (u32 pair = 0; pair < U::PAIRS; pair++)
            multiply_stage<U, BM, BN, A_BY_K, B_BY_K>(terms, ring.left(U::left(pair)), ring.right(U::right(pair)), group, pair > 0);
        wgmma_commit();
        wgmma_wait<0>();
        ring.release(ring.stage);
        UNROLL for (u32 s = 0; s < BM / 128; s++) UNROLL for (u32 i = 0; i < BN / 2; i++) sums[s][i] += terms[s][i];
    }
}

// The others: a tile's sums, then what becomes of them.
template <class U, int BM, int BN, int CLUSTER, bool A_BY_K, bool B_BY_K, class P>
DEVICE void consume(const P &p, const TensorMap &out, Ring<BM, BN, CLUSTER, U::PLANES> ring, u32 group, u32 count, u32 by_tma,
                    Global<typename U::Result> y, Global<typename U::Sum> partial, Global<const typename U::Result> bias) {
    using T = typename U::Result;
    constexpr u32 SLICES = BM / 128;
    DYNAMIC_SHARED(T, memory);
    DYNAMIC_SHARED(typename U::Sum, kept);
    const u32 rank = CLUSTER > 1 ? cluster_rank() : 0;
    Sums<U, BM, BN> sums;
    u32 turn = 0;
    ROLLED for (u32 t = block_x() / CLUSTER; t < count; t += grid_x() / CLUSTER) {
        const Task task(p, t);
        multiply_tile<U, BM, BN, CLUSTER, A_BY_K, B_BY_K>(sums, ring, task, group);
        const u32 at = ring.OUT + group * ring.OUT_BYTES;
        UNROLL for (u32 s = 0; s < SLICES; s++) {
            const Place place{(task.row * CLUSTER + rank) * BM + (group * SLICES + s) * 64, task.column * BN, group};
            if (by_tma) store_by_tma<T, BN>(p, task, out, memory, at, place, turn, bias, sums[s]);
            else store_by_threads<T, BN>(p, task, kept, at, place, y, partial, bias, sums[s]);
        }
    }
    if (by_tma && thread_x() % 128 == 0) tma_wait_read<0>();
}

template <class U, int BM, int BN, int CLUSTER, bool A_BY_K, bool B_BY_K, class P>
DEVICE void multiply_on_hopper(const P &p, const TensorMap &a, const TensorMap &b, const TensorMap &out, u32 count, u32 by_tma,
                               Global<typename U::Result> y, Global<typename U::Sum> partial, Global<const typename U::Result> bias) {
    DYNAMIC_SHARED(u8, memory);
    const Ring<BM, BN, CLUSTER, U::PLANES> ring{shared_address(memory, 0)};
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
        if (thread_x() == 0) produce<U, BM, BN, CLUSTER, A_BY_K, B_BY_K>(p, a, b, ring, count);
    } else {
        registers_grow<232>();
        consume<U, BM, BN, CLUSTER, A_BY_K, B_BY_K>(p, out, ring, group - 1, count, by_tma, y, partial, bias);
    }
}

// hopper_NAME_TILE_CLUSTER_LAYOUT, the layout as in gemm.cu, of operands that TMA brings.
#define HOPPER(U, name, tile, cluster, layout, by_k, b_by_k, ...)                                                                \
    KERNEL_OF_CLUSTER(PRODUCT_THREADS, cluster, hopper_##name##_##tile##_##cluster##_##layout,                                   \
                      (PARAMETER Product<Mapped, Mapped> p, PARAMETER TensorMap a, PARAMETER TensorMap b, PARAMETER TensorMap out, \
                       u32 count, u32 by_tma, Global<typename U::Result> y, Global<typename U::Sum> partial,                     \
                       Global<const typename U::Result> bias)) {                                                                 \
        if constexpr (ON_HOPPER) multiply_on_hopper<U, __VA_ARGS__, cluster, by_k, b_by_k>(p, a, b, out, count, by_tma, y, partial, bias); \
    }
#define HOPPER_NT(U, name, tile, cluster, ...) HOPPER(U, name, tile, cluster, nt, true, true, __VA_ARGS__)
#define HOPPER_LAYOUTS(U, name, tile, cluster, ...)                                                                              \
    HOPPER(U, name, tile, cluster, nn, true, false, __VA_ARGS__) HOPPER_NT(U, name, tile, cluster, __VA_ARGS__)                  \
    HOPPER(U, name, tile, cluster, tn, false, false, __VA_ARGS__) HOPPER(U, name, tile, cluster, tt, false, true, __VA_ARGS__)

// FORMS is HOPPER_LAYOUTS, or HOPPER_NT where both operands lie along k.
#define HOPPER_TILES(FORMS, U, name)                                                                                             \
    FORMS(U, name, 128x256, 1, 128, 256) FORMS(U, name, 128x256, 2, 128, 256)                                                    \
    FORMS(U, name, 128x128, 1, 128, 128) FORMS(U, name, 128x128, 2, 128, 128)                                                    \
    FORMS(U, name, 128x64, 1, 128, 64)
