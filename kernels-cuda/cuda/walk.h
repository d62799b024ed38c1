// Where the elements of strided operands lie: `Walk` of src/backend/walk.rs.
#pragma once

#include "types.h"

constexpr int MAX_RANK = 8;

// Division of numbers below 2^31 by a number that is known at the launch: a multiplication and a shift.
struct Divisor {
    u32 divisor, multiplier, shift;

    DEVICE u32 quotient(u32 n) const {
        return static_cast<u32>((static_cast<u64>(n) * multiplier >> 32) + n) >> shift;
    }
};

// N operands of one shape, its dims innermost first. Strides count elements.
template <int N> struct Walk {
    u32 count;  // elements, or vectors of them
    u32 rank;
    u32 vector; // whether the innermost dim is taken by whole vectors
    u32 splat;  // bit k: operand k repeats one element along a vector
    Divisor extents[MAX_RANK];
    i64 strides[N][MAX_RANK];

    // The offset of each operand at a place. A loop that stays one: mostly there is one dim, or two.
    DEVICE void offsets(u32 place, i64 (&at)[N]) const {
        UNROLL for (int k = 0; k < N; k++) at[k] = 0;
        u32 d = 0;
        ROLLED for (; d + 1 < rank; d++) {
            const u32 outer = extents[d].quotient(place), i = place - outer * extents[d].divisor;
            UNROLL for (int k = 0; k < N; k++) at[k] += i * strides[k][d];
            place = outer;
        }
        UNROLL for (int k = 0; k < N; k++) at[k] += place * strides[k][d];
    }
};
