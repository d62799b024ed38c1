// Philox random bits, as in tensor/src/random.rs: those of an element are made from a seed and a counter alone.
#pragma once

#include "types.h"

struct Bits {
    u32 word[4];
};

DEVICE Bits philox(u64 seed, u64 counter) {
    u32 key[2] = {u32(seed), u32(seed >> 32)};
    Bits c{{u32(counter), u32(counter >> 32), 0, 0}};
    UNROLL for (int round = 0; round < 10; round++) {
        const u64 a = u64(0xD2511F53u) * c.word[0], b = u64(0xCD9E8D57u) * c.word[2];
        c = {{u32(b >> 32) ^ c.word[1] ^ key[0], u32(b), u32(a >> 32) ^ c.word[3] ^ key[1], u32(a)}};
        key[0] += 0x9E3779B9u, key[1] += 0xBB67AE85u;
    }
    return c;
}

// The counter of the first element of a draw: where `begin` leads to a number, as it does in a graph's replays, so much further on.
DEVICE u64 first(u64 offset, Global<const u64> begin) { return begin.pointer ? offset + begin[0] : offset; }
