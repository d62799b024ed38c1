// What the tensor cores of Hopper multiply: a unit for each type of numbers, with the instruction that takes 32 bytes of k of each operand.
#pragma once

#include "ring.h"

namespace hopper {

// f16 and bf16, whose operands may lie along either index.
template <class T> struct Halves {
    using Operand = T;
    using Result = T;
    using Sum = f32;
    static constexpr u32 PLANES = 1;

    template <int N, bool A_BY_K, bool B_BY_K> DEVICE static void multiply(f32 (&sums)[N / 2], u64 a, u64 b, bool add) {
        wgmma<T, N, A_BY_K, B_BY_K>(sums, a, b, add);
    }
};

// f32 rounded to tf32, by the copies that bring them. Both operands lie along k, as those of bytes do: there is no other instruction.
struct Tf32 {
    using Operand = tf32;
    using Result = f32;
    using Sum = f32;
    static constexpr u32 PLANES = 1;

    template <int N, bool A_BY_K, bool B_BY_K> DEVICE static void multiply(f32 (&sums)[N / 2], u64 a, u64 b, bool add) {
        wgmma<tf32, N, A_BY_K, B_BY_K>(sums, a, b, add);
    }
};

// Bytes with or without a sign, in 32 bits.
template <class A, class B> struct Bytes {
    using Operand = u8;
    using Result = i32;
    using Sum = i32;
    static constexpr u32 PLANES = 1;

    template <int N, bool A_BY_K, bool B_BY_K> DEVICE static void multiply(i32 (&sums)[N / 2], u64 a, u64 b, bool add) {
        static_assert(A_BY_K && B_BY_K, "bytes lie along k");
        wgmma_of_bytes<A, B, N>(sums, a, b, add);
    }
};

// f32 as the sum of three bf16, x = h + m + l, which lie in three planes (split.h): the largest six of the nine products of two numbers,
// as `SixHalves` of gemm/unit.h has them.
struct SixHalves : Halves<bf16> {
    using Result = f32;
    static constexpr u32 PLANES = 3, PAIRS = 6;

    // The planes of A and B of a pair, small products first.
    DEVICE static constexpr u32 left(u32 pair) { return pair == 0 ? 2 : pair == 2 || pair == 3 ? 1 : 0; }
    DEVICE static constexpr u32 right(u32 pair) { return pair == 1 ? 2 : pair == 2 || pair == 4 ? 1 : 0; }
};

} // namespace hopper
