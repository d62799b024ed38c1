// The primitives of hopper.h for nvcc.
#pragma once

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool ON_HOPPER = true;
#else
constexpr bool ON_HOPPER = false;
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define CLUSTER_OF(blocks)
#else
#define CLUSTER_OF(blocks) __cluster_dims__(blocks, 1, 1)
#endif
#define KERNEL_OF_CLUSTER(threads, blocks, name, parameters)                                                                     \
    extern "C" __global__ void CLUSTER_OF(blocks) __launch_bounds__(threads, 1) name parameters

// --- clusters and barriers ---

DEVICE std::uint32_t cluster_rank() {
    std::uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

DEVICE void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

DEVICE std::uint32_t peer_address(std::uint32_t at, std::uint32_t rank) {
    std::uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    return there;
}

DEVICE void block_arrive(int id, unsigned threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

DEVICE void mbarrier_init(std::uint32_t at, std::uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}

DEVICE void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

DEVICE void mbarrier_arrive(std::uint32_t at) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(at) : "memory");
}

DEVICE void mbarrier_arrive_expect(std::uint32_t at, std::uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}

DEVICE void mbarrier_wait(std::uint32_t at, std::uint32_t parity) {
    asm volatile("{\n.reg .pred done;\n"
                 "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra.uni over;\n"
                 "bra.uni again;\n"
                 "over:\n}" ::"r"(at), "r"(parity)
                 : "memory");
}

// --- the tensor memory accelerator ---

struct alignas(128) TensorMap {
    std::uint64_t opaque[16];
};

#define TMA_LOAD(rank, coordinates, ...)                                                                                         \
    asm volatile("cp.async.bulk.tensor." rank ".shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, " coordinates "], [%2];" ::"r"(to), \
                 "l"(&map), "r"(mbarrier), __VA_ARGS__                                                                           \
                 : "memory")

template <int RANK> DEVICE void tma_load(std::uint32_t to, const TensorMap &map, std::uint32_t mbarrier, const std::int32_t (&at)[RANK]) {
    static_assert(RANK >= 2 && RANK <= 4, "matrices, and up to two dims of them");
    if constexpr (RANK == 2) TMA_LOAD("2d", "{%3, %4}", "r"(at[0]), "r"(at[1]));
    if constexpr (RANK == 3) TMA_LOAD("3d", "{%3, %4, %5}", "r"(at[0]), "r"(at[1]), "r"(at[2]));
    if constexpr (RANK == 4) TMA_LOAD("4d", "{%3, %4, %5, %6}", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]));
}

#define TMA_MULTICAST(rank, coordinates, ...)                                                                                    \
    asm volatile("cp.async.bulk.tensor." rank                                                                                    \
                 ".shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, " coordinates "], [%2], %3;" ::"r"(to), \
                 "l"(&map), "r"(mbarrier), "h"(blocks), __VA_ARGS__                                                              \
                 : "memory")

template <int RANK>
DEVICE void tma_load_multicast(std::uint32_t to, const TensorMap &map, std::uint32_t mbarrier, const std::int32_t (&at)[RANK], std::uint16_t blocks) {
    static_assert(RANK >= 2 && RANK <= 4, "matrices, and up to two dims of them");
    if constexpr (RANK == 2) TMA_MULTICAST("2d", "{%4, %5}", "r"(at[0]), "r"(at[1]));
    if constexpr (RANK == 3) TMA_MULTICAST("3d", "{%4, %5, %6}", "r"(at[0]), "r"(at[1]), "r"(at[2]));
    if constexpr (RANK == 4) TMA_MULTICAST("4d", "{%4, %5, %6, %7}", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]));
}

#define TMA_STORE(rank, coordinates, ...)                                                                                        \
    asm volatile("cp.async.bulk.tensor." rank ".global.shared::cta.tile.bulk_group [%0, " coordinates "], [%1];" ::"l"(&map), "r"(from), __VA_ARGS__ : "memory")

template <int RANK> DEVICE void tma_store(const TensorMap &map, const std::int32_t (&at)[RANK], std::uint32_t from) {
    static_assert(RANK >= 2 && RANK <= 4, "matrices, and up to two dims of them");
    if constexpr (RANK == 2) TMA_STORE("2d", "{%2, %3}", "r"(at[0]), "r"(at[1]));
    if constexpr (RANK == 3) TMA_STORE("3d", "{%2, %3, %4}", "r"(at[0]), "r"(at[1]), "r"(at[2]));
    if constexpr (RANK == 4) TMA_STORE("4d", "{%2, %3, %4, %5}", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]));
}

DEVICE void tma_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int LEFT> DEVICE void tma_wait_read() { asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(LEFT) : "memory"); }
template <int LEFT> DEVICE void tma_wait() { asm volatile("cp.async.bulk.wait_group %0;" ::"n"(LEFT) : "memory"); }
DEVICE void tma_prefetch(const TensorMap &map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }
DEVICE void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- matrices of a warpgroup ---

template <int COUNT> DEVICE void registers_shrink() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT> DEVICE void registers_grow() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }

struct tf32 {
    float value;
};

DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory"); }

// Registers of the sums by their numbers, and as operands.
#define SUMS_32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SUMS_64 SUMS_32 \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SUMS_128 SUMS_64 \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95" \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SUM_4(c, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define SUM_16(c, i) SUM_4(c, i), SUM_4(c, i + 4), SUM_4(c, i + 8), SUM_4(c, i + 12)
#define OPERANDS_32(c) SUM_16(c, 0), SUM_16(c, 16)
#define OPERANDS_64(c) OPERANDS_32(c), SUM_16(c, 32), SUM_16(c, 48)
#define OPERANDS_128(c) OPERANDS_64(c), SUM_16(c, 64), SUM_16(c, 80), SUM_16(c, 96), SUM_16(c, 112)

// One instruction: `count` sums a thread, then the numbers of the operands after them.
#define WGMMA_16_BITS(type, n, count, a_, b_, add_, turn_a, turn_b)                                                              \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" add_ ", 0;\n"                                                             \
                 "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" SUMS_##count "}, %" a_ ", %" b_ ", p, 1, 1, %" turn_a ", %" turn_b ";\n}" \
                 : OPERANDS_##count("+f")                                                                                        \
                 : "l"(a), "l"(b), "r"(std::uint32_t{add}), "n"(A_BY_K ? 0 : 1), "n"(B_BY_K ? 0 : 1))
#define WGMMA_TF32(n, count, a_, b_, add_)                                                                                       \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" add_ ", 0;\n"                                                             \
                 "wgmma.mma_async.sync.aligned.m64n" n "k8.f32.tf32.tf32 {" SUMS_##count "}, %" a_ ", %" b_ ", p, 1, 1;\n}"       \
                 : OPERANDS_##count("+f")                                                                                        \
                 : "l"(a), "l"(b), "r"(std::uint32_t{add}))
#define WGMMA(n, count, a_, b_, add_, turn_a, turn_b)                                                                            \
    if constexpr (std::is_same_v<T, f16>) WGMMA_16_BITS("f16", n, count, a_, b_, add_, turn_a, turn_b);                          \
    else if constexpr (std::is_same_v<T, bf16>) WGMMA_16_BITS("bf16", n, count, a_, b_, add_, turn_a, turn_b);                   \
    else WGMMA_TF32(n, count, a_, b_, add_)
#define WGMMA_8_BITS(A_, B_, n, count, a_, b_, add_)                                                                             \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" add_ ", 0;\n"                                                             \
                 "wgmma.mma_async.sync.aligned.m64n" n "k32.s32." A_ "." B_ " {" SUMS_##count "}, %" a_ ", %" b_ ", p;\n}"        \
                 : OPERANDS_##count("+r")                                                                                        \
                 : "l"(a), "l"(b), "r"(std::uint32_t{add}))
#define WGMMA_BYTES(n, count, a_, b_, add_)                                                                                      \
    if constexpr (std::is_signed_v<A> && std::is_signed_v<B>) WGMMA_8_BITS("s8", "s8", n, count, a_, b_, add_);                  \
    else if constexpr (std::is_signed_v<A>) WGMMA_8_BITS("s8", "u8", n, count, a_, b_, add_);                                    \
    else if constexpr (std::is_signed_v<B>) WGMMA_8_BITS("u8", "s8", n, count, a_, b_, add_);                                    \
    else WGMMA_8_BITS("u8", "u8", n, count, a_, b_, add_)

// The sums of a thread: d[i] is that of row 16 warp + lane / 4 + 8 (i / 2 % 2), column 8 (i / 4) + 2 (lane % 4) + i % 2.
template <class T, int N, bool A_BY_K, bool B_BY_K> DEVICE void wgmma(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool add) {
    static_assert(N == 64 || N == 128 || N == 256, "the widths that there are instructions for here");
    static_assert(sizeof(T) == 2 || A_BY_K && B_BY_K, "32-bit operands lie along k");
    if constexpr (N == 64) { WGMMA("64", 32, "32", "33", "34", "35", "36"); }
    if constexpr (N == 128) { WGMMA("128", 64, "64", "65", "66", "67", "68"); }
    if constexpr (N == 256) { WGMMA("256", 128, "128", "129", "130", "131", "132"); }
}

// The same of bytes of types A and B, along k.
template <class A, class B, int N> DEVICE void wgmma_of_bytes(std::int32_t (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool add) {
    static_assert(sizeof(A) == 1 && sizeof(B) == 1, "bytes, with a sign or without");
    static_assert(N == 64 || N == 128 || N == 256, "the widths that there are instructions for here");
    if constexpr (N == 64) { WGMMA_BYTES("64", 32, "32", "33", "34"); }
    if constexpr (N == 128) { WGMMA_BYTES("128", 64, "64", "65", "66"); }
    if constexpr (N == 256) { WGMMA_BYTES("256", 128, "128", "129", "130"); }
}

template <class T> DEVICE void stmatrix_x4(const Shared<T> &to, std::int64_t i, const Vec<std::uint32_t, 4> &v) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(to, i)), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3])
                 : "memory");
}

template <class T> DEVICE void stmatrix_x4_trans(const Shared<T> &to, std::int64_t i, const Vec<std::uint32_t, 4> &v) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(to, i)), "r"(v[0]), "r"(v[1]), "r"(v[2]),
                 "r"(v[3])
                 : "memory");
}
