// The primitives of device.h for nvcc. The only file with builtin variables, intrinsics and inline assembly.
#pragma once

#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#define DEVICE __device__ __forceinline__
#define KERNEL_OF(threads, name, parameters) extern "C" __global__ void __launch_bounds__(threads) name parameters
#define KERNEL(name, parameters) KERNEL_OF(1024, name, parameters)
#define KERNEL_WIDE(threads, blocks, name, parameters) extern "C" __global__ void __launch_bounds__(threads, blocks) name parameters
#define PARAMETER const __grid_constant__
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

// --- numbers ---

// Half precision: 1 sign, 5 exponent and 10 mantissa bits.
struct f16 {
    std::uint16_t bits;
};

// The upper half of a float.
struct bf16 {
    std::uint16_t bits;
};

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __uint_as_float(std::uint32_t{x.bits} << 16); }
DEVICE float to_float(f16 x) { return __half2float(__ushort_as_half(x.bits)); }

template <class T> DEVICE T from_float(float x);
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE bf16 from_float<bf16>(float x) { return {__bfloat16_as_ushort(__float2bfloat16_rn(x))}; }
template <> DEVICE f16 from_float<f16>(float x) { return {__half_as_ushort(__float2half_rn(x))}; }

// 16-bit floats by way of a float, as everywhere in this field.
template <class T> DEVICE T from_double(double x) {
    if constexpr (std::is_same_v<T, double>) return x;
    else return from_float<T>(static_cast<float>(x));
}

// The bits of a float, and the float of bits.
DEVICE std::uint32_t bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(std::uint32_t bits) { return __uint_as_float(bits); }

// Four bytes out of eight, those of x and then those of y: digit i of `which`, in hexadecimal, says which becomes byte i.
DEVICE std::uint32_t pick_bytes(std::uint32_t x, std::uint32_t y, std::uint32_t which) { return __byte_perm(x, y, which); }

// --- where a thread is ---

DEVICE unsigned thread_x() { return threadIdx.x; }
DEVICE unsigned block_x() { return blockIdx.x; }
DEVICE unsigned block_y() { return blockIdx.y; }
DEVICE unsigned block_z() { return blockIdx.z; }
DEVICE unsigned block_size() { return blockDim.x; }
DEVICE unsigned grid_x() { return gridDim.x; }
DEVICE unsigned grid_y() { return gridDim.y; }
DEVICE unsigned grid_z() { return gridDim.z; }
DEVICE unsigned lane() { return threadIdx.x % 32; }
DEVICE unsigned warp() { return threadIdx.x / 32; }

// --- memory ---

template <class T, int N> struct alignas(sizeof(T) * N) Vec {
    T at[N];
    DEVICE T &operator[](int i) { return at[i]; }
    DEVICE const T &operator[](int i) const { return at[i]; }
};

// Global memory. Passed to kernels as the pointer that it is.
template <class T> struct Global {
    T *pointer;

    DEVICE T &operator[](std::int64_t i) const { return pointer[i]; }

    template <int N> DEVICE Vec<std::remove_const_t<T>, N> load_vector(std::int64_t i) const {
        return *reinterpret_cast<const Vec<std::remove_const_t<T>, N> *>(pointer + i);
    }

    template <int N> DEVICE void store_vector(std::int64_t i, const Vec<T, N> &v) const {
        *reinterpret_cast<Vec<T, N> *>(pointer + i) = v;
    }

    DEVICE T atomic_add(std::int64_t i, T value) const { return atomicAdd(pointer + i, value); }

    DEVICE Global operator+(std::int64_t i) const { return {pointer + i}; }
};

// An array in shared memory.
template <class T> struct Shared {
    T *pointer;

    DEVICE T &operator[](std::int64_t i) const { return pointer[i]; }

    template <int N> DEVICE Vec<T, N> load_vector(std::int64_t i) const { return *reinterpret_cast<const Vec<T, N> *>(pointer + i); }
    template <int N> DEVICE void store_vector(std::int64_t i, const Vec<T, N> &v) const { *reinterpret_cast<Vec<T, N> *>(pointer + i) = v; }

    DEVICE T atomic_add(std::int64_t i, T value) const { return atomicAdd(pointer + i, value); }
};

#define SHARED(T, name, count)                                                                                                   \
    __shared__ __align__(16) T memory_of_##name[count];                                                                          \
    const Shared<T> name{memory_of_##name}
#define DYNAMIC_SHARED(T, name)                                                                                                  \
    extern __shared__ __align__(1024) std::uint8_t dynamic_shared[];                                                             \
    const Shared<T> name{reinterpret_cast<T *>(dynamic_shared)}

// --- barriers and collectives ---

DEVICE void block_sync() { __syncthreads(); }
DEVICE void block_sync(int id, unsigned threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE bool block_any(bool p) { return __syncthreads_or(p); }
DEVICE void warp_sync() { __syncwarp(); }
DEVICE void grid_sync() { cooperative_groups::this_grid().sync(); }

// Adds to a counter of the grid's, once all that the thread wrote, or that others of its block wrote before a barrier, can be seen by all:
// what a release covers includes what was seen by way of the barrier.
DEVICE void release_add(Global<std::uint32_t> at, std::int64_t i, std::uint32_t value) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(at.pointer + i), "r"(value) : "memory");
}

// Waits until such a counter has reached a number: then what was written before it was added to can be seen by this thread, and after a
// barrier by its block. Only blocks that are resident together may wait for each other.
DEVICE void wait_for(Global<std::uint32_t> at, std::int64_t i, std::uint32_t value) {
    std::uint32_t found;
    do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(found) : "l"(at.pointer + i) : "memory");
    } while (found < value);
}

DEVICE std::uint32_t warp_ballot(bool p) { return __ballot_sync(~0u, p); }
template <class T> DEVICE T shuffle(T value, unsigned from) { return __shfl_sync(~0u, value, from); }
template <class T> DEVICE T shuffle_down(T value, unsigned by) { return __shfl_down_sync(~0u, value, by); }
template <class T> DEVICE T shuffle_xor(T value, unsigned mask) { return __shfl_xor_sync(~0u, value, mask); }

// --- asynchronous copies ---

template <class T> DEVICE std::uint32_t shared_address(const Shared<T> &array, std::int64_t i) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(array.pointer + i));
}

// 16 bytes to shared memory, of which the last 16 - bytes become zero.
template <class T> DEVICE void copy_async16(const Shared<T> &to, std::int64_t i, Global<const T> from, std::int64_t j, unsigned bytes = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to, i)), "l"(from.pointer + j), "r"(bytes) : "memory");
}

DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `LEFT` of the groups committed last are unfinished.
template <int LEFT> DEVICE void copy_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

// --- matrix fragments, as the PTX manual lays them out ---

template <class T> DEVICE Vec<std::uint32_t, 4> ldmatrix_x4(const Shared<T> &from, std::int64_t i) {
    Vec<std::uint32_t, 4> v;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(shared_address(from, i))
                 : "memory");
    return v;
}

template <class T> DEVICE Vec<std::uint32_t, 4> ldmatrix_x4_trans(const Shared<T> &from, std::int64_t i) {
    Vec<std::uint32_t, 4> v;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(shared_address(from, i))
                 : "memory");
    return v;
}

// D += A B for A 16x16 by rows, B 16x8 by columns, of T, sums in float.
template <class T> DEVICE void mma_16816(float (&d)[4], const Vec<std::uint32_t, 4> &a, const Vec<std::uint32_t, 2> &b);

template <> DEVICE void mma_16816<bf16>(float (&d)[4], const Vec<std::uint32_t, 4> &a, const Vec<std::uint32_t, 2> &b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <> DEVICE void mma_16816<f16>(float (&d)[4], const Vec<std::uint32_t, 4> &a, const Vec<std::uint32_t, 2> &b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// D += A B for A 16x8 by rows, B 8x8 by columns, of f32 of which the lower 13 bits are ignored (tf32), sums in float.
DEVICE void mma_1688(float (&d)[4], const Vec<std::uint32_t, 4> &a, const Vec<std::uint32_t, 2> &b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same of f64: one instruction on sm_90, four of 8x4 and 4x8 before.
DEVICE void mma_1688(double (&d)[4], const Vec<double, 4> &a, const Vec<double, 2> &b) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+d"(d[0]), "+d"(d[1]), "+d"(d[2]), "+d"(d[3])
                 : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(b[0]), "d"(b[1]));
#else
#pragma unroll
    for (int i = 0; i < 4; i++) // rows 0-7 and 8-15, and then the second half of k
        asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
                     : "+d"(d[i % 2 * 2]), "+d"(d[i % 2 * 2 + 1])
                     : "d"(a[i]), "d"(b[i / 2]));
#endif
}

// D += A B for A 16x32 by rows, B 32x8 by columns, of bytes of types A and B, each with a sign or without; sums wrap.
template <class A, class B> DEVICE void mma_16832(std::int32_t (&d)[4], const Vec<std::uint32_t, 4> &a, const Vec<std::uint32_t, 2> &b) {
#define MMA_OF_BYTES(types)                                                                                                      \
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32." types ".s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])                                                                \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
    constexpr bool sign_a = std::is_signed_v<A>, sign_b = std::is_signed_v<B>;
    if constexpr (sign_a && sign_b) MMA_OF_BYTES("s8.s8");
    else if constexpr (sign_a) MMA_OF_BYTES("s8.u8");
    else if constexpr (sign_b) MMA_OF_BYTES("u8.s8");
    else MMA_OF_BYTES("u8.u8");
#undef MMA_OF_BYTES
}
