// Threads that work on one line of elements together: 1, the 32 of a warp, or a whole block of GROUP_BLOCK.
//
// How many is chosen by the shape alone (`Group` of src/backend/lines.rs), so that a result depends on nothing else.
#pragma once

#include "types.h"

constexpr u32 GROUP_BLOCK = 256;

// The place of a thread: which line its group has, and which of the group it is.
struct Member {
    u32 size, line, index;

    DEVICE explicit Member(u32 log_size) {
        size = 1u << log_size;
        const u32 thread = block_x() * block_size() + thread_x();
        line = thread >> log_size;
        index = thread & (size - 1);
    }
};

// What `combine` makes of the group's values, in an order that is always the same; each thread gets it. All threads of the block
// come here, together.
template <class T, class F> DEVICE T across(const Member &member, T value, F combine) {
    if (member.size == 1) return value;
    UNROLL for (u32 by = 16; by > 0; by /= 2) {
        const T other = shuffle_xor(value, by);
        // The lower lane's value stands on the left in both.
        value = (lane() & by) ? combine(other, value) : combine(value, other);
    }
    if (member.size == 32) return value;
    SHARED(T, of_warps, GROUP_BLOCK / 32);
    block_sync(); // what was there before has been read
    if (lane() == 0) of_warps[warp()] = value;
    block_sync();
    value = of_warps[0];
    for (u32 i = 1; i < GROUP_BLOCK / 32; i++) value = combine(value, T(of_warps[i]));
    return value;
}
