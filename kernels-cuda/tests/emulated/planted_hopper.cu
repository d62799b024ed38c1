// Kernels for Hopper's units that are right, and the same with a bug planted in each. See planted.cu.
#include "hopper.h"

using u32 = std::uint32_t;
using i32 = std::int32_t;

constexpr u32 TILE = 64 * 128; // bytes of 64 rows of 128

// Writes a thread's sums to rows of N.
template <int N> DEVICE void store_sums(const float (&sums)[N / 2], Global<float> y) {
    const u32 row = thread_x() % 128 / 32 * 16 + lane() / 4;
    UNROLL for (u32 i = 0; i < N / 2; i++) y[(row + 8 * (i / 2 % 2)) * N + 8 * (i / 4) + 2 * (lane() % 4) + i % 2] = sums[i];
}

// What is planted in the kernels below.
enum Bug {
    NONE,
    NO_WGMMA_FENCE,
    READS_TOO_EARLY,
    NEVER_WAITS,
    THREE_WARPS,
    NO_EMPTY_WAIT,
    WRONG_PARITY,
    EMPTY_COUNT,
    NO_INIT_FENCE,
    FEW_BYTES,
    NO_DRAIN,
    EARLY_RELEASE,
    NO_PROXY_FENCE,
    FENCE_AFTER_BARRIER,
    REUSED_TOO_EARLY,
    NEVER_READ,
    MISPLACED_BOX,
};

// C = A B of one tile, 64 x 64 of A and 64 x N of B, each along k or along its rows.
template <class T, int N, bool A_BY_K, bool B_BY_K, int BUG = NONE>
DEVICE void tile(const TensorMap &a, const TensorMap &b, Global<float> y) {
    constexpr u32 K = 128 / sizeof(T), STEPS = 4;
    DYNAMIC_SHARED(T, memory);
    const u32 left = shared_address(memory, 0), right = left + TILE, full = right + N / 64 * TILE;
    if (thread_x() == 0) {
        mbarrier_init(full, 1);
        mbarrier_init_fence();
        mbarrier_arrive_expect(full, (64 + N) * 128);
        tma_load(left, a, full, {0, 0});
        for (i32 part = 0; part < (B_BY_K ? 1 : N / 64); part++) tma_load(right + part * TILE, b, full, {64 * part, 0});
    }
    block_sync();
    mbarrier_wait(full, 0);
    float sums[N / 2];
    if (BUG != NO_WGMMA_FENCE) wgmma_fence();
    if (BUG != THREE_WARPS || warp() < 3) {
        static_assert(K * STEPS > 0, "");
        UNROLL for (u32 step = 0; step < STEPS; step++) {
            const auto from_a = A_BY_K ? descriptor_by_k(left + 32 * step) : descriptor_by_rows(left + 2048 * step, TILE);
            const auto from_b = B_BY_K ? descriptor_by_k(right + 32 * step) : descriptor_by_rows(right + 2048 * step, TILE);
            wgmma<T, N, A_BY_K, B_BY_K>(sums, from_a, from_b, step > 0);
        }
    }
    wgmma_commit();
    if (BUG == READS_TOO_EARLY) store_sums<N>(sums, y);
    if (BUG != NEVER_WAITS) wgmma_wait<0>();
    if (BUG != READS_TOO_EARLY) store_sums<N>(sums, y);
}

#define TILE_KERNEL(name, ...)                                                                                                   \
    KERNEL_OF_CLUSTER(128, 1, name, (PARAMETER TensorMap a, PARAMETER TensorMap b, Global<float> y)) {                           \
        if constexpr (ON_HOPPER) tile<__VA_ARGS__>(a, b, y);                                                                     \
    }

TILE_KERNEL(tile_nt, bf16, 64, true, true)
TILE_KERNEL(tile_nn, bf16, 128, true, false)
TILE_KERNEL(tile_tt, bf16, 128, false, true)
TILE_KERNEL(tile_tn, bf16, 256, false, false)
TILE_KERNEL(tile_f16, f16, 128, true, false)
TILE_KERNEL(tile_tf32, tf32, 64, true, true)
TILE_KERNEL(tile_without_fence, bf16, 64, true, true, NO_WGMMA_FENCE)
TILE_KERNEL(tile_read_too_early, bf16, 64, true, true, READS_TOO_EARLY)
TILE_KERNEL(tile_never_waited_for, bf16, 64, true, true, NEVER_WAITS)
TILE_KERNEL(tile_of_three_warps, bf16, 64, true, true, THREE_WARPS)

// C = A Bᵀ of 128 x 64 with k = 384, by a cluster of two blocks that share B, through a ring of two stages: a warp brings them,
// a warpgroup multiplies.
template <int BUG> DEVICE void ring(const TensorMap &a, const TensorMap &b, Global<float> y) {
    constexpr u32 STAGES = 2, STEPS = 6;
    DYNAMIC_SHARED(bf16, memory);
    const u32 base = shared_address(memory, 0), full = base + STAGES * 2 * TILE, empty = full + 8 * STAGES, rank = cluster_rank();
    if (thread_x() == 0) {
        for (u32 s = 0; s < STAGES; s++) {
            mbarrier_init(full + 8 * s, 1);
            mbarrier_init(empty + 8 * s, BUG == EMPTY_COUNT ? 3 : 2);
        }
        if (BUG != NO_INIT_FENCE) mbarrier_init_fence();
    }
    cluster_sync();
    u32 stage = 0, parity = 0;
    auto next = [&] {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    };
    if (warp() == 4) {
        if (lane() > 0) return;
        for (i32 step = 0; step < i32(STEPS); step++, next()) {
            if (BUG != NO_EMPTY_WAIT) mbarrier_wait(empty + 8 * stage, parity ^ 1);
            const u32 left = base + stage * 2 * TILE, right = left + TILE, arrived = full + 8 * stage;
            mbarrier_arrive_expect(arrived, BUG == FEW_BYTES ? TILE : 2 * TILE);
            tma_load(left + (BUG == MISPLACED_BOX ? 64 : 0), a, arrived, {64 * step, 64 * i32(rank)});
            tma_load_multicast(right + rank * TILE / 2, b, arrived, {64 * step, 32 * i32(rank)}, 3);
        }
        // Arrivals from the other block must not find this one gone.
        if (BUG != NO_DRAIN)
            for (u32 s = 0; s < STAGES; s++, next()) mbarrier_wait(empty + 8 * stage, parity ^ 1);
        return;
    }
    float sums[32];
    for (u32 step = 0; step < STEPS; step++, next()) {
        mbarrier_wait(full + 8 * stage, BUG == WRONG_PARITY ? parity ^ 1 : parity);
        auto release = [&] {
            if (thread_x() < 2) mbarrier_arrive(peer_address(empty + 8 * stage, thread_x()));
        };
        const u32 left = base + stage * 2 * TILE, right = left + TILE;
        wgmma_fence();
        UNROLL for (u32 k = 0; k < 4; k++)
            wgmma<bf16, 64, true, true>(sums, descriptor_by_k(left + 32 * k), descriptor_by_k(right + 32 * k), step + k > 0);
        wgmma_commit();
        if (BUG == EARLY_RELEASE) release();
        wgmma_wait<0>();
        if (BUG != EARLY_RELEASE) release();
    }
    store_sums<64>(sums, y + rank * 64 * 64);
}

#define RING_KERNEL(name, bug)                                                                                                   \
    KERNEL_OF_CLUSTER(160, 2, name, (PARAMETER TensorMap a, PARAMETER TensorMap b, Global<float> y)) {                           \
        if constexpr (ON_HOPPER) ring<bug>(a, b, y);                                                                             \
    }

RING_KERNEL(ring_right, NONE)
RING_KERNEL(ring_without_empty_wait, NO_EMPTY_WAIT)
RING_KERNEL(ring_with_wrong_parity, WRONG_PARITY)
RING_KERNEL(ring_with_wrong_count, EMPTY_COUNT)
RING_KERNEL(ring_without_init_fence, NO_INIT_FENCE)
RING_KERNEL(ring_with_few_bytes, FEW_BYTES)
RING_KERNEL(ring_without_drain, NO_DRAIN)
RING_KERNEL(ring_released_early, EARLY_RELEASE)
RING_KERNEL(ring_with_misplaced_box, MISPLACED_BOX)

// Y = 2 X for three tiles of 64 x 64: loaded, doubled by threads in another place, and stored, through one buffer each.
template <int BUG> DEVICE void twice(const TensorMap &x, const TensorMap &y) {
    DYNAMIC_SHARED(bf16, memory);
    const u32 base = shared_address(memory, 0), full = base + 2 * TILE, t = thread_x();
    if (t == 0) {
        mbarrier_init(full, 1);
        mbarrier_init_fence();
    }
    block_sync();
    for (i32 tile = 0; tile < 3; tile++) {
        if (t == 0) {
            mbarrier_arrive_expect(full, TILE);
            tma_load(base, x, full, {0, 64 * tile});
        }
        mbarrier_wait(full, tile % 2);
        if (t == 0 && BUG != REUSED_TOO_EARLY) tma_wait_read<0>(); // of the last tile
        block_sync(1, 128);
        // Lane l of warp w has, of rows 16 w and later, four matrices of 8 x 8 a time.
        for (u32 column = 0; column < 64; column += 16) {
            Vec<u32, 4> v;
            const u32 row = 16 * warp() + lane() / 4;
            UNROLL for (u32 matrix = 0; matrix < 4; matrix++) {
                const u32 at = swizzled(row + matrix % 2 * 8, 2 * (column + matrix / 2 * 8 + lane() % 4 * 2)) / 2;
                const bf16 first = memory[at], second = memory[at + 1];
                v[matrix] = from_float<bf16>(2 * to_float(first)).bits | u32{from_float<bf16>(2 * to_float(second)).bits} << 16;
            }
            const u32 to = swizzled(16 * warp() + lane() % 16, 2 * (column + lane() / 16 * 8));
            stmatrix_x4(memory, (TILE + to) / 2, v);
        }
        if (BUG != NO_PROXY_FENCE && BUG != FENCE_AFTER_BARRIER) proxy_fence();
        block_sync(1, 128);
        if (t == 0) {
            if (BUG == FENCE_AFTER_BARRIER) proxy_fence();
            tma_store(y, {0, 64 * tile}, base + TILE);
            tma_commit();
        }
    }
    if (t == 0 && BUG != NEVER_READ) tma_wait<0>();
}

#define TWICE_KERNEL(name, bug)                                                                                                  \
    KERNEL_OF_CLUSTER(128, 1, name, (PARAMETER TensorMap x, PARAMETER TensorMap y)) {                                            \
        if constexpr (ON_HOPPER) twice<bug>(x, y);                                                                               \
    }

TWICE_KERNEL(twice_right, NONE)
TWICE_KERNEL(twice_without_proxy_fence, NO_PROXY_FENCE)
TWICE_KERNEL(twice_with_fence_after_barrier, FENCE_AFTER_BARRIER)
TWICE_KERNEL(twice_reused_too_early, REUSED_TOO_EARLY)
TWICE_KERNEL(twice_never_read, NEVER_READ)

// A warpgroup of three gives registers to the others: 168 each at first.
#define REGISTERS_KERNEL(name, more)                                                                                             \
    KERNEL_OF_CLUSTER(384, 1, name, (Global<float> y)) {                                                                         \
        if constexpr (ON_HOPPER) {                                                                                               \
            if (warp() < 4) registers_shrink<40>();                                                                              \
            else registers_grow<more>();                                                                                         \
            y[thread_x()] = 1;                                                                                                   \
        }                                                                                                                        \
    }

REGISTERS_KERNEL(registers_right, 232)
REGISTERS_KERNEL(registers_too_many, 240)

// What a copy gathers of images, 64 pixels of 64 channels, as `at` and the offsets after it say.
enum Gathering { RIGHT, OUTSIDE, TOO_FAR, AS_A_BOX };

DEVICE float bits_of(const Shared<bf16> &memory, u32 i) {
    const bf16 element = memory[i];
    return element.bits;
}

template <int RANK, int BUG = RIGHT> DEVICE void gather(const TensorMap &images, Global<const i32> at, Global<float> y) {
    DYNAMIC_SHARED(bf16, memory);
    const u32 base = shared_address(memory, 0), full = base + TILE;
    if (thread_x() == 0) {
        mbarrier_init(full, 1);
        mbarrier_init_fence();
        mbarrier_arrive_expect(full, TILE);
        i32 from[RANK];
        std::uint16_t offsets[RANK - 2];
        UNROLL for (int d = 0; d < RANK; d++) from[d] = at[d];
        UNROLL for (int d = 0; d < RANK - 2; d++) offsets[d] = std::uint16_t(at[RANK + d]);
        if (BUG == OUTSIDE) from[1] = -9;
        if (BUG == TOO_FAR) offsets[0] = 256;
        if constexpr (BUG == AS_A_BOX) tma_load(base, images, full, from);
        else tma_load_im2col(base, images, full, from, offsets);
    }
    block_sync();
    mbarrier_wait(full, 0);
    for (u32 i = thread_x(); i < 64 * 64; i += 128) y[i] = bits_of(memory, swizzled(i / 64, 2 * (i % 64)) / 2);
}

#define GATHER_KERNEL(name, ...)                                                                                                 \
    KERNEL_OF_CLUSTER(128, 1, name, (PARAMETER TensorMap images, Global<const i32> at, Global<float> y)) {                         \
        if constexpr (ON_HOPPER) gather<__VA_ARGS__>(images, at, y);                                                             \
    }

GATHER_KERNEL(gather_3, 3)
GATHER_KERNEL(gather_4, 4)
GATHER_KERNEL(gather_5, 5)
GATHER_KERNEL(gather_outside, 4, OUTSIDE)
GATHER_KERNEL(gather_too_far, 4, TOO_FAR)
GATHER_KERNEL(gather_as_a_box, 4, AS_A_BOX)

// The same by a cluster: each block brings 64 pixels to both, and stores what the other has brought.
KERNEL_OF_CLUSTER(128, 2, gather_shared, (PARAMETER TensorMap images, Global<const i32> at, Global<float> y)) {
    if constexpr (ON_HOPPER) {
        DYNAMIC_SHARED(bf16, memory);
        const u32 base = shared_address(memory, 0), full = base + 2 * TILE, rank = cluster_rank();
        if (thread_x() == 0) {
            mbarrier_init(full, 1);
            mbarrier_init_fence();
        }
        cluster_sync();
        if (thread_x() == 0) {
            mbarrier_arrive_expect(full, 2 * TILE);
            tma_load_im2col_multicast(base + rank * TILE, images, full, {at[0], at[1], at[2], at[3] + i32(rank)},
                                      {std::uint16_t(at[4]), std::uint16_t(at[5])}, 3);
        }
        mbarrier_wait(full, 0);
        for (u32 i = thread_x(); i < 64 * 64; i += 128) y[rank * 64 * 64 + i] = bits_of(memory, (1 - rank) * 64 * 64 + swizzled(i / 64, 2 * (i % 64)) / 2);
        cluster_sync();
    }
}
