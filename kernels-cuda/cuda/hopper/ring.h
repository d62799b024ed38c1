// The ring of stages in shared memory through which a matrix product on Hopper takes its operands, and how a producer fills it.
//
// A stage has BM rows of A and BN columns of B, 128 bytes of k each: 64 of k in 16 bits. Where numbers are sums of parts, it has that of
// each plane. One thread asks the tensor memory accelerator for boxes, which arrive in the swizzle of 128 bytes: along k as rows of 128
// bytes, else as 64 rows of the operand for one k. Both blocks of a cluster of two take the same columns: each brings half of them, to both.
//
//   full[s]    ends a phase when the bytes of stage s have come
//   empty[s]   … when the eight warps that multiply, in each block of the cluster, are done with stage s
#pragma once

#include "../gemm/product.h"
#include "../hopper.h"

constexpr u32 ROW_BYTES = 128, CHUNK_BYTES = 64 * ROW_BYTES;

// Of k in a stage.
template <class T> constexpr u32 RING_DEPTH = ROW_BYTES / sizeof(T);

// Two warpgroups multiply, 128 threads each; the first warpgroup brings.
constexpr u32 PRODUCT_THREADS = 384, CONSUMER_WARPS = 8;

// Of the block's dynamic shared memory; `Tile` of src/backend/gemm/hopper.rs has the same sizes.
template <int BM, int BN, int CLUSTER, int PLANES = 1> struct Ring {
    static constexpr u32 BYTES_A = BM * ROW_BYTES, BYTES_B = BN * ROW_BYTES, STAGE = PLANES * (BYTES_A + BYTES_B);
    static constexpr u32 OUT_BYTES = 64 * 64 * 4; // of each consumer: what leaves at once
    static constexpr u32 STAGES = (232448 - 2 * OUT_BYTES - 256) / STAGE;
    static constexpr u32 OUT = STAGES * STAGE, FULL = OUT + 2 * OUT_BYTES, EMPTY = FULL + 8 * STAGES, BYTES = EMPTY + 8 * STAGES;

    u32 base;
    u32 stage = 0, parity = 0; // of the next step

    DEVICE u32 full() const { return base + FULL + 8 * stage; }
    DEVICE u32 empty() const { return base + EMPTY + 8 * stage; }
    DEVICE u32 left(u32 plane = 0) const { return base + stage * STAGE + plane * BYTES_A; }
    DEVICE u32 right(u32 plane = 0) const { return left(PLANES) + plane * BYTES_B; }
    DEVICE void next() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }

    // By one thread, before a barrier of the cluster.
    DEVICE void init() const {
        for (u32 s = 0; s < STAGES; s++) {
            mbarrier_init(base + FULL + 8 * s, 1);
            mbarrier_init(base + EMPTY + 8 * s, CONSUMER_WARPS * CLUSTER);
        }
        mbarrier_init_fence();
    }

    // By all lanes of a warp that is done with a stage.
    DEVICE void release(u32 of) const {
        const u32 at = base + EMPTY + 8 * of;
        if (lane() < CLUSTER) mbarrier_arrive(CLUSTER > 1 ? peer_address(at, lane()) : at);
    }
};

// An operand whose boxes TMA brings: `Mapped` of src/backend/gemm/hopper.rs. Matrix z is number z % inner of number z / inner; a step
// is 1, or 0 where all are one.
struct Mapped {
    Divisor inner;
    u32 steps[2];
    u32 unused;

    // Where a tile begins: its first row, and its matrix.
    struct Place {
        u32 row;
        i32 matrix[2];
    };

    DEVICE Place place(u32 row, u32 z) const {
        const u32 outer = inner.quotient(z);
        return {row, {i32((z - outer * inner.divisor) * steps[0]), i32(outer * steps[1])}};
    }

    // ROWS rows from a place on, for 128 bytes of k from `k` on, to `to` in this block, or in both of the cluster.
    template <int ROWS, bool BY_K, bool MULTICAST> DEVICE void bring(const TensorMap &map, u32 to, u32 arrives, const Place &place, u32 k) const {
        constexpr u32 BOXES = BY_K ? 1 : ROWS / 64;
        UNROLL for (u32 box = 0; box < BOXES; box++) {
            const i32 at[4] = {i32(BY_K ? k : place.row + 64 * box), i32(BY_K ? place.row : k), place.matrix[0], place.matrix[1]};
            if constexpr (MULTICAST) tma_load_multicast(to + box * CHUNK_BYTES, map, arrives, at, 3);
            else tma_load(to + box * CHUNK_BYTES, map, arrives, at);
        }
    }
};
