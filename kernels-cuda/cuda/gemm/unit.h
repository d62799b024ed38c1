// What the tensor cores multiply: a unit for each type of numbers, with its fragments, as the PTX manual lays them out.
//
// A unit takes K of k at once, 16 rows of A and 8 columns of B. In a fragment lane l has, of each group of 8 rows (columns), that of
// index l / 4, and of k the elements that its l % 4 names. Tiles lie in shared memory in rows of 64 bytes, or as DEPTH rows of k.
#pragma once

#include "../types.h"

template <class T> constexpr int RUN = 16 / sizeof(T);   // elements that are copied at once
template <class T> constexpr int DEPTH = 64 / sizeof(T); // of k in a tile

// Where the run from (row, k) on lies in a tile, [row][k] or [k][row]. Runs are permuted within a row, so that what a warp reads at once
// lies in different banks.
template <class T, int ROWS, bool BY_K> DEVICE u32 place_of_run(u32 row, u32 k) {
    constexpr int R = RUN<T>;
    if constexpr (BY_K && sizeof(T) == 1) return row * DEPTH<T> + (k / R ^ (row / 2 ^ row / 8) % 4) * R; // turned bytes come by 8 rows
    else if constexpr (BY_K) return row * DEPTH<T> + (k / R ^ (sizeof(T) == 8 ? row / 2 % 2 * 2 : row / 2 % 4)) * R;
    else return k * ROWS + (row / R ^ (sizeof(T) == 2 ? k % 8 : k % 4 * 2)) * R;
}

template <class T, int ROWS, bool BY_K> DEVICE u32 place_of(u32 row, u32 k) {
    constexpr int R = RUN<T>;
    if constexpr (BY_K) return place_of_run<T, ROWS, BY_K>(row, k / R * R) + k % R;
    else return place_of_run<T, ROWS, BY_K>(row / R * R, k) + row % R;
}

// f16 and bf16: four matrices of 8 x 8 for the left operand, of rows 0-7 and 8-15, then the same of k 8-15; two for the right one.
template <class T> struct Halves {
    using Element = T;
    using Sum = f32;
    static constexpr int K = 16;
    static constexpr bool PICKY = false;
    using Left = Vec<u32, 4>;
    using Right = Vec<u32, 2>;

    template <int ROWS, bool BY_K> DEVICE static Left left(const Shared<T> &tile, u32 base, u32 row, u32 k) {
        const u32 l = lane();
        if constexpr (BY_K) return ldmatrix_x4(tile, base + place_of_run<T, ROWS, BY_K>(row + l % 16, k + l / 16 * 8));
        else return ldmatrix_x4_trans(tile, base + place_of_run<T, ROWS, BY_K>(row + l / 8 % 2 * 8, k + l % 8 + l / 16 * 8));
    }

    // Of 16 columns: the second of each pair of matrices is that of k 8-15.
    template <int ROWS, bool BY_K> DEVICE static void right(const Shared<T> &tile, u32 base, u32 column, u32 k, Right (&pair)[2]) {
        const u32 l = lane();
        Vec<u32, 4> v;
        if constexpr (BY_K) v = ldmatrix_x4(tile, base + place_of_run<T, ROWS, BY_K>(column + l % 8 + l / 16 * 8, k + l / 8 % 2 * 8));
        else v = ldmatrix_x4_trans(tile, base + place_of_run<T, ROWS, BY_K>(column + l / 16 * 8, k + l % 8 + l / 8 % 2 * 8));
        pair[0] = {{v[0], v[1]}}, pair[1] = {{v[2], v[3]}};
    }

    DEVICE static void multiply(f32 (&sums)[4], const Left &a, const Right &b) { mma_16816<T>(sums, a, b); }
};

// One product of f32 rounded to tf32, which has 11 significant bits: matrices of 8 x 4, in the order of those above. Infinities and NaN stay
// what they are.
struct Tf32 {
    using Element = f32;
    using Sum = f32;
    static constexpr int K = 8;
    static constexpr bool PICKY = false;
    using Left = Vec<u32, 4>;
    using Right = Vec<u32, 2>;

    // To the nearest, ties away from zero: the tensor cores ignore the lower 13 bits.
    DEVICE static u32 rounded(u32 bits) { return (bits & 0x7F800000) == 0x7F800000 ? bits : bits + 0x1000; }

    template <int ROWS, bool BY_K> DEVICE static Left left(const Shared<f32> &tile, u32 base, u32 row, u32 k) {
        const u32 l = lane();
        Left v;
        if constexpr (BY_K) v = ldmatrix_x4(tile, base + place_of_run<f32, ROWS, BY_K>(row + l % 16, k + l / 16 * 4));
        else UNROLL for (int i = 0; i < 4; i++)
            v[i] = bits_of(tile[base + place_of<f32, ROWS, BY_K>(row + l / 4 + i % 2 * 8, k + l % 4 + i / 2 * 4)]);
        UNROLL for (int i = 0; i < 4; i++) v[i] = rounded(v[i]);
        return v;
    }

    template <int ROWS, bool BY_K> DEVICE static void right(const Shared<f32> &tile, u32 base, u32 column, u32 k, Right (&pair)[2]) {
        const u32 l = lane();
        Vec<u32, 4> v;
        if constexpr (BY_K) v = ldmatrix_x4(tile, base + place_of_run<f32, ROWS, BY_K>(column + l % 8 + l / 16 * 8, k + l / 8 % 2 * 4));
        else UNROLL for (int i = 0; i < 4; i++)
            v[i] = bits_of(tile[base + place_of<f32, ROWS, BY_K>(column + l / 4 + i / 2 * 8, k + l % 4 + i % 2 * 4)]);
        UNROLL for (int i = 0; i < 4; i++) pair[i / 2][i % 2] = rounded(v[i]);
    }

    DEVICE static void multiply(f32 (&sums)[4], const Left &a, const Right &b) { mma_1688(sums, a, b); }
};

// Six products of bf16, as exact as one of f32. A number is the sum of three of 8 significant bits, x = h + m + l, without error; of the
// nine products of two numbers the largest six are taken, and what is left out is below the rounding of f32.
//
// Tensor cores truncate as they add: so they add the terms of 16 of k only, the small ones first, and the sum over k is one of f32 numbers.
// Parts and products must be far from both ends of the range: a step of k that has other numbers is multiplied by ordinary multiply-adds.
struct SixHalves {
    using Element = f32;
    using Sum = f32;
    static constexpr int K = 16;
    static constexpr bool PICKY = true;
    static constexpr u32 LOW = (127 - 100) << 23, HIGH = (127 + 60) << 23;
    template <int N> struct Parts {
        Vec<u32, N> h, m, l; // pairs of neighbours along k
    };
    using Left = Parts<4>;
    using Right = Parts<2>;

    // Whether a number may be split: 0, or 2^-100 up to 2^60.
    DEVICE static bool picks(f32 x) {
        const u32 size = bits_of(x) & 0x7FFFFFFF;
        return size == 0 || size - LOW < HIGH - LOW;
    }

    // The upper half of a number, rounded to the nearest, as a float; and what is left.
    DEVICE static u32 take(f32 &x) {
        const u32 upper = (bits_of(x) + 0x8000) & 0xFFFF0000;
        x -= float_of(upper);
        return upper;
    }

    template <int N> DEVICE static void split(Parts<N> &parts, int i, f32 x, f32 y) {
        parts.h[i] = take(x) >> 16 | take(y);
        parts.m[i] = take(x) >> 16 | take(y);
        parts.l[i] = bits_of(x) >> 16 | (bits_of(y) & 0xFFFF0000);
    }

    // Elements (row, k) and (row, k + 1), for an even k.
    template <int N, int ROWS, bool BY_K> DEVICE static void load(Parts<N> &parts, int i, const Shared<f32> &tile, u32 base, u32 row, u32 k) {
        if constexpr (BY_K) {
            const Vec<f32, 2> pair = tile.template load_vector<2>(base + place_of<f32, ROWS, BY_K>(row, k));
            split(parts, i, pair[0], pair[1]);
        } else split<N>(parts, i, tile[base + place_of<f32, ROWS, BY_K>(row, k)], tile[base + place_of<f32, ROWS, BY_K>(row, k + 1)]);
    }

    template <int ROWS, bool BY_K> DEVICE static Left left(const Shared<f32> &tile, u32 base, u32 row, u32 k) {
        Left parts;
        UNROLL for (int i = 0; i < 4; i++) load<4, ROWS, BY_K>(parts, i, tile, base, row + lane() / 4 + i % 2 * 8, k + lane() % 4 * 2 + i / 2 * 8);
        return parts;
    }

    template <int ROWS, bool BY_K> DEVICE static void right(const Shared<f32> &tile, u32 base, u32 column, u32 k, Right (&pair)[2]) {
        UNROLL for (int i = 0; i < 4; i++)
            load<2, ROWS, BY_K>(pair[i / 2], i % 2, tile, base, column + lane() / 4 + i / 2 * 8, k + lane() % 4 * 2 + i % 2 * 8);
    }

    DEVICE static void multiply(f32 (&sums)[4], const Left &a, const Right &b) {
        f32 terms[4] = {};
        mma_16816<bf16>(terms, a.l, b.h);
        mma_16816<bf16>(terms, a.h, b.l);
        mma_16816<bf16>(terms, a.m, b.m);
        mma_16816<bf16>(terms, a.m, b.h);
        mma_16816<bf16>(terms, a.h, b.m);
        mma_16816<bf16>(terms, a.h, b.h);
        UNROLL for (int i = 0; i < 4; i++) sums[i] += terms[i];
    }
};

// f64: a lane has one element of each 8 rows (columns) and 4 of k. Sums are those of fused multiply-adds.
struct Doubles {
    using Element = f64;
    using Sum = f64;
    static constexpr int K = 8;
    static constexpr bool PICKY = false;
    using Left = Vec<f64, 4>;
    using Right = Vec<f64, 2>;

    template <int ROWS, bool BY_K> DEVICE static Left left(const Shared<f64> &tile, u32 base, u32 row, u32 k) {
        Left v;
        UNROLL for (int i = 0; i < 4; i++)
            v[i] = tile[base + place_of<f64, ROWS, BY_K>(row + lane() / 4 + i % 2 * 8, k + lane() % 4 + i / 2 * 4)];
        return v;
    }

    template <int ROWS, bool BY_K> DEVICE static void right(const Shared<f64> &tile, u32 base, u32 column, u32 k, Right (&pair)[2]) {
        UNROLL for (int i = 0; i < 4; i++)
            pair[i / 2][i % 2] = tile[base + place_of<f64, ROWS, BY_K>(column + lane() / 4 + i / 2 * 8, k + lane() % 4 + i % 2 * 4)];
    }

    DEVICE static void multiply(f64 (&sums)[4], const Left &a, const Right &b) { mma_1688(sums, a, b); }
};
