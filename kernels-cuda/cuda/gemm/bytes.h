// Products of bytes on tensor cores, in 32 bits: a block's sums are those of gemm/mma.h, with tiles that lie by k whatever their operands do,
// as there is no instruction that turns bytes.
//
// An operand whose runs of 16 bytes lie along k comes by asynchronous copies. Of any other a thread loads 8 rows of 4 k to registers, turns
// them, and stores them a step later, so that nobody waits for memory; one by one, where runs are not whole or not aligned.
//
// Shared memory: 4 · 64 (BM + BN) bytes, dynamic.
#pragma once

#include "mma.h"

// A takes bytes with or without a sign, and so does B.
template <class A, class B> struct Bytes {
    using Element = u8;
    using Sum = i32;
    static constexpr int K = 32;
    static constexpr bool PICKY = false;
    using Left = Vec<u32, 4>;
    using Right = Vec<u32, 2>;

    // Four matrices of 8 rows and 16 bytes, as in `Halves`.
    template <int ROWS, bool BY_K> DEVICE static Left left(const Shared<u8> &tile, u32 base, u32 row, u32 k) {
        const u32 l = lane();
        return ldmatrix_x4(tile, base + place_of_run<u8, ROWS, BY_K>(row + l % 16, k + l / 16 * 16));
    }

    template <int ROWS, bool BY_K> DEVICE static void right(const Shared<u8> &tile, u32 base, u32 column, u32 k, Right (&pair)[2]) {
        const u32 l = lane();
        const Vec<u32, 4> v = ldmatrix_x4(tile, base + place_of_run<u8, ROWS, BY_K>(column + l % 8 + l / 16 * 8, k + l / 8 % 2 * 16));
        pair[0] = {{v[0], v[1]}}, pair[1] = {{v[2], v[3]}};
    }

    DEVICE static void multiply(i32 (&sums)[4], const Left &a, const Right &b) { mma_16832<A, B>(sums, a, b); }
};

// Four rows of four bytes become its columns.
DEVICE void turn_bytes(u32 (&w)[4]) {
    const u32 even = pick_bytes(w[0], w[1], 0x5140), odd = pick_bytes(w[2], w[3], 0x5140);
    const u32 upper_even = pick_bytes(w[0], w[1], 0x7362), upper_odd = pick_bytes(w[2], w[3], 0x7362);
    w[0] = pick_bytes(even, odd, 0x5410), w[1] = pick_bytes(even, odd, 0x7632);
    w[2] = pick_bytes(upper_even, upper_odd, 0x5410), w[3] = pick_bytes(upper_even, upper_odd, 0x7632);
}

// Brings the tiles of an operand of bytes.
template <int ROWS, int THREADS> struct ByteCopier {
    static constexpr int D = DEPTH<u8>;
    using Part = Share<u8, ROWS, D, THREADS, true>;
    static_assert(ROWS * D == 32 * THREADS, "a thread turns 8 rows of 4 k");

    bool turns;                // or copies along k
    i64 places[Part::CHUNKS];  // of the rows that it copies
    u32 row, k;                // of the 32 bytes that it turns, in a tile
    u32 first, rows;           // the tile's first row, and all rows
    u32 held, words[2][4];

    DEVICE void begin(const Strided &o, u32 row0, u32 rows_) {
        turns = !(o.by_k && o.vector);
        first = row0, rows = rows_, held = 0;
        // Neighbours along both, so that rows of 64 bytes are read and few banks are written by several at once.
        const u32 t = thread_x();
        row = (t / 4 % 8 + t / 128 * 8) * 8, k = (t % 4 + t / 32 % 4 * 4) * 4;
        UNROLL for (int c = 0; c < Part::CHUNKS; c++) places[c] = o.row.offset(row0 + Part::row(c));
    }

    // Asks for the tile from k0 on, once what was asked for before has been put into its place.
    DEVICE void fetch(const Strided &o, Global<const u8> x, u32 k0, u32 to, const Shared<u8> &ring, u32 base) {
        if (!turns) UNROLL for (int c = 0; c < Part::CHUNKS; c++) {
            const u32 from = k0 + Part::k(c), at = base + place_of_run<u8, ROWS, true>(Part::row(c), Part::k(c));
            const bool inside = first + Part::row(c) < rows && from < to;
            copy_async16(ring, at, x, inside ? places[c] + from : 0, inside ? 16 : 0);
        } else {
            put(ring);
            load(o, x, k0 + k, to);
            held = base + 1;
        }
    }

    // Puts what was asked for last into its place.
    DEVICE void put(const Shared<u8> &ring) {
        if (held == 0) return;
        UNROLL for (u32 half = 0; half < 2; half++) {
            turn_bytes(words[half]);
            UNROLL for (u32 r = 0; r < 4; r++) {
                Vec<u8, 4> four;
                UNROLL for (int i = 0; i < 4; i++) four[i] = u8(words[half][r] >> 8 * i);
                ring.template store_vector<4>(held - 1 + place_of<u8, ROWS, true>(row + 4 * half + r, k), four);
            }
        }
        held = 0;
    }

  private:
    DEVICE void load(const Strided &o, Global<const u8> x, u32 from, u32 to) {
        const i64 step = o.column.strides[0];
        const u32 i = first + row;
        if (o.vector) {
            const i64 at = o.row.offset(i);
            UNROLL for (u32 q = 0; q < 4; q++) {
                Vec<u32, 2> run = {};
                if (i < rows && from + q < to) run = eight(x, at + (from + q) * step);
                words[0][q] = run[0], words[1][q] = run[1];
            }
            return;
        }
        UNROLL for (int half = 0; half < 2; half++)
            UNROLL for (int q = 0; q < 4; q++) words[half][q] = 0;
        UNROLL for (u32 r = 0; r < 8; r++) {
            if (i + r >= rows) continue;
            const i64 at = o.row.offset(i + r);
            UNROLL for (u32 q = 0; q < 4; q++)
                if (from + q < to) words[r / 4][q] |= u32(x[at + (from + q) * step]) << 8 * (r % 4);
        }
    }

    DEVICE static Vec<u32, 2> eight(Global<const u8> x, i64 at) {
        const Vec<u8, 8> run = x.template load_vector<8>(at);
        Vec<u32, 2> words = {};
        UNROLL for (int i = 0; i < 8; i++) words[i / 4] |= u32(run[i]) << 8 * (i % 4);
        return words;
    }
};

template <class A, class B, int BM, int BN, int WARPS_M, int WARPS_N>
DEVICE void multiply_bytes(const Product<Strided, Strided> &p, Global<i32> y, Global<i32> partial, Global<const u8> a, Global<const u8> b) {
    using Of = Block<Bytes<A, B>, BM, BN, WARPS_M, WARPS_N, true, true>;
    DYNAMIC_SHARED(u8, ring);

    const Task task(p);
    const u32 row = warp() / WARPS_N * Of::WARP_ROWS, column = warp() % WARPS_N * Of::WARP_COLUMNS;
    const Global<const u8> x = a + task.at[1], w = b + task.at[2];
    ByteCopier<BM, Of::THREADS> of_a;
    ByteCopier<BN, Of::THREADS> of_b;
    of_a.begin(p.a, task.row * BM, p.out.m());
    of_b.begin(p.b, task.column * BN, p.out.n());
    auto fetch = [&](u32 k0, u32 stage) {
        if (k0 < task.to) {
            of_a.fetch(p.a, x, k0, task.to, ring, stage * Of::STAGE);
            of_b.fetch(p.b, w, k0, task.to, ring, stage * Of::STAGE + Of::SIZE_A);
        } else of_a.put(ring), of_b.put(ring);
        copy_async_commit(); // an empty group counts too
    };
    ROLLED for (u32 stage = 0; stage + 1 < MMA_STAGES; stage++) fetch(task.from + stage * Of::D, stage);

    typename Of::Sums sums = {};
    u32 stage = 0;
    ROLLED for (u32 k0 = task.from; k0 < task.to; k0 += Of::D) {
        copy_async_wait<MMA_STAGES - 2>();
        // Everybody's copies have arrived, and so has what was turned two steps ago; the stages of the last two steps are free.
        block_sync();
        fetch(k0 + (MMA_STAGES - 1) * Of::D, (stage + MMA_STAGES - 1) % MMA_STAGES);
        Of::multiply(sums, ring, stage * Of::STAGE, row, column);
        stage = (stage + 1) % MMA_STAGES;
    }
    copy_async_wait<0>();
    block_sync(); // the ring is free
    Of::store(sums, p, task, column, y, partial, Global<const i32>{nullptr});
}
