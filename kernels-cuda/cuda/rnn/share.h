// What a block of a persistent recurrent layer has of a product, and how blocks wait for each other.
//
// The block keeps the weights of its units in shared memory from the first step to the last: ROWS rows of `depth` terms. A step's other
// operand, 16 rows of a batch, comes from all blocks by way of global memory, in panels that are copied while the one before is multiplied.
// Each of the eight warps takes its share of the terms of a panel; their sums are added in the order of the warps.
#pragma once

#include "cell.h"

constexpr u32 SHARE_THREADS = 256, SHARE_WARPS = SHARE_THREADS / 32;
constexpr u32 BATCH = 16; // rows of a batch that are multiplied together

// Terms of one vector, of a warp's share of a chunk, of a chunk, and of a panel.
template <class T> constexpr u32 VECTOR = 16 / sizeof(T);
template <class T> constexpr u32 STRETCH = 32 / sizeof(T);
template <class T> constexpr u32 CHUNK = STRETCH<T> * SHARE_WARPS;
template <class T> constexpr u32 PANEL = 4 * CHUNK<T>;

// Rows in shared memory are a vector longer than they need be, so that those below each other lie in different banks.
template <class T> constexpr u32 PANEL_STRIDE = PANEL<T> + VECTOR<T>;

// How many rows a block's units have, padded for the way they are multiplied.
template <class T, u32 UNPADDED> constexpr u32 PADDED = is_half<T> ? (UNPADDED + 15) / 16 * 16 : (UNPADDED + 7) / 8 * 8;

// Of partial sums, for the same reason.
constexpr u32 SUM_STRIDE = BATCH + 1;

template <class T, u32 ROWS> struct Share {
    using A = Wide<T>;

    Shared<T> memory;   // ROWS rows of weights, then two panels
    Shared<A> partial;  // [warps][ROWS][SUM_STRIDE]
    u32 depth, stride;  // terms, a multiple of CHUNK; of a row of weights in memory

    DEVICE Share(const Shared<T> &memory_, const Shared<A> &partial_, u32 depth_)
        : memory(memory_), partial(partial_), depth(depth_), stride(depth_ + VECTOR<T>) {}

    DEVICE u32 panel_at(u32 which) const { return ROWS * stride + which * BATCH * PANEL_STRIDE<T>; }

    // Leaves the partial sums of the weights with BATCH rows of `from`, for all threads of the block to see.
    DEVICE void multiply(Global<const T> from) const {
        Sums sums{};
        fetch(from, 0, 0);
        for (u32 first = 0, which = 0; first < depth; first += PANEL<T>, which ^= 1) {
            if (first + PANEL<T> < depth) fetch(from, first + PANEL<T>, which ^ 1);
            else copy_async_commit();
            copy_async_wait<1>();
            block_sync(); // the panel is there
            const u32 end = depth - first < PANEL<T> ? depth - first : PANEL<T>;
            for (u32 term = warp() * STRETCH<T>; term < end; term += CHUNK<T>) add(sums, first + term, panel_at(which) + term);
            block_sync(); // and was read
        }
        leave(sums);
        block_sync();
    }

    // The sum of a row of weights with row `row` of the batch.
    DEVICE A sum(u32 weight, u32 row) const {
        A total = 0;
        UNROLL for (u32 w = 0; w < SHARE_WARPS; w++) total += A(partial[(w * ROWS + weight) * SUM_STRIDE + row]);
        return total;
    }

  private:
    // Of tensor cores: blocks of 16 rows by 8 of the batch; else every eighth row by every fourth of the batch.
    struct Sums {
        f32 of_cores[is_half<T> ? ROWS / 16 : 1][2][4];
        A of_threads[is_half<T> ? 1 : ROWS / 8][4];
    };

    DEVICE void fetch(Global<const T> from, u32 first, u32 which) const {
        const u32 vectors = (depth - first < PANEL<T> ? depth - first : PANEL<T>) / VECTOR<T>;
        for (u32 row = warp(); row < BATCH; row += SHARE_WARPS)
            for (u32 v = lane(); v < vectors; v += 32)
                copy_async16(memory, panel_at(which) + row * PANEL_STRIDE<T> + v * VECTOR<T>, from, i64(row) * depth + first + v * VECTOR<T>);
        copy_async_commit();
    }

    // Adds the products of STRETCH terms, those of the weights from `term` on and those of the panel's first row from `at` on.
    DEVICE void add(Sums &sums, u32 term, u32 at) const {
        const u32 l = lane();
        if constexpr (is_half<T>) {
            const auto b = ldmatrix_x4(memory, at + (l % 8 + l / 16 * 8) * PANEL_STRIDE<T> + l / 8 % 2 * 8);
            UNROLL for (u32 m = 0; m < ROWS / 16; m++) {
                const auto a = ldmatrix_x4(memory, (m * 16 + l % 16) * stride + term + l / 16 * 8);
                mma_16816<T>(sums.of_cores[m][0], a, {{b[0], b[1]}});
                mma_16816<T>(sums.of_cores[m][1], a, {{b[2], b[3]}});
            }
        } else {
            UNROLL for (u32 v = 0; v < STRETCH<T>; v += VECTOR<T>) {
                Vec<T, VECTOR<T>> b[4];
                UNROLL for (u32 j = 0; j < 4; j++) b[j] = memory.template load_vector<VECTOR<T>>(at + (l % 4 + 4 * j) * PANEL_STRIDE<T> + v);
                UNROLL for (u32 i = 0; i < ROWS / 8; i++) {
                    const auto a = memory.template load_vector<VECTOR<T>>((l / 4 + 8 * i) * stride + term + v);
                    UNROLL for (u32 j = 0; j < 4; j++)
                        UNROLL for (u32 k = 0; k < VECTOR<T>; k++) sums.of_threads[i][j] = std::fma(a[k], b[j][k], sums.of_threads[i][j]);
                }
            }
        }
    }

    DEVICE void leave(const Sums &sums) const {
        const u32 l = lane(), first = warp() * ROWS;
        if constexpr (is_half<T>) {
            UNROLL for (u32 m = 0; m < ROWS / 16; m++)
                UNROLL for (u32 n = 0; n < 2; n++)
                    UNROLL for (u32 i = 0; i < 4; i++)
                        partial[(first + m * 16 + l / 4 + i / 2 * 8) * SUM_STRIDE + n * 8 + l % 4 * 2 + i % 2] = sums.of_cores[m][n][i];
        } else {
            UNROLL for (u32 i = 0; i < ROWS / 8; i++)
                UNROLL for (u32 j = 0; j < 4; j++) partial[(first + l / 4 + 8 * i) * SUM_STRIDE + l % 4 + 4 * j] = sums.of_threads[i][j];
        }
    }
};

// Says that the block has done a step.
DEVICE void step_done(Global<u32> counter, u32 which) {
    block_sync();
    if (thread_x() == 0) release_add(counter, which, 1);
}

// Waits until `blocks` blocks have done `steps` steps.
DEVICE void wait_for_step(Global<u32> counter, u32 which, u32 blocks, u32 steps) {
    if (thread_x() == 0) wait_for(counter, which, blocks * steps);
    block_sync();
}

// Bits of the options of a direction: it keeps what the backward pass needs, goes backwards in time, has the recurrent bias, has a gradient of
// the output.
constexpr u32 KEEPS = 1, REVERSE = 2, BIASED = 4, GRADED = 8;

// A whole layer, as blocks see it: `Sequence` of src/backend/rnn/sequence.rs.
struct Sequence {
    u32 steps, rows, hidden;
    u32 tiles; // of BATCH rows, that a block has
    u32 depth; // terms of a product, padded

    // The place in time of a step of a direction with these options.
    DEVICE u32 time(u32 options, u32 step) const { return options & REVERSE ? steps - 1 - step : step; }
};

// The operands of two layers of the same extents, whose blocks know nothing of each other's: block_z is which one they are of.
template <class Operands> struct Directions {
    Operands of[2];
};

// Units of a block.
template <class Cell, class T> constexpr u32 UNITS = is_half<T> ? 16 : 8;

// A thread's unit and row of the batch, the same in every step and tile.
template <class Cell, class T> struct Seat {
    u32 unit_of_block, row_of_tile, unit;
    bool taken; // by a thread and a unit of the layer

    DEVICE explicit Seat(u32 hidden) {
        unit_of_block = thread_x() % UNITS<Cell, T>, row_of_tile = thread_x() / UNITS<Cell, T>;
        unit = block_x() * UNITS<Cell, T> + unit_of_block;
        taken = row_of_tile < BATCH && unit < hidden;
    }

    // The row of the batch in a tile, if there is one.
    DEVICE bool has(const Sequence &s, u32 tile, u32 &row) const {
        row = (block_y() * s.tiles + tile) * BATCH + row_of_tile;
        return taken && row < s.rows;
    }
};
