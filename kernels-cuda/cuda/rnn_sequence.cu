// A recurrent layer over a whole sequence in one launch. The input's products are there; each block has some units of all sequences of a
// group of the batch, keeps their recurrent weights in shared memory, and exchanges the hidden state with the others in each step.
//
// The numbers are those of rnn.cu, but for the recurrent products, which are not rounded to the layer's type.
// Launch: cooperative, [units / UNITS, groups of the batch, directions] blocks of SHARE_THREADS; shared memory for ROWS rows of depth + 16 bytes and two
// panels. Bytes: the input's products, what is kept and the output once; in each step the state by every block from the L2 cache.
#include "rnn/share.h"

// `state`: [2][padded rows][depth], the state before the first step in the first half and zeros elsewhere; `counters`: a zero for each
// group; `c`: the cell state, in place.
template <class T> struct Forward {
    Global<T> output;
    Global<Wide<T>> c, kept;
    Global<const T> projected, weight, bias;
    Global<T> state;
    Global<u32> counters;
    u64 options;
};

template <class Cell, class T> DEVICE void sequence(const Sequence &s, const Directions<Forward<T>> &directions) {
    using A = Wide<T>;
    constexpr u32 U = UNITS<Cell, T>, ROWS = PADDED<T, Cell::GATES * U>;
    const auto [output, c, kept, projected, weight, bias, state, counters, given] = directions.of[block_z()];
    const u32 options = u32(given);
    DYNAMIC_SHARED(T, memory);
    SHARED(A, partial, SHARE_WARPS * ROWS * SUM_STRIDE);
    const Share<T, ROWS> share(memory, partial, s.depth);
    // Row gate · U + unit of the weights; rows and terms that do not exist are zeros.
    for (u32 row = warp(); row < ROWS; row += SHARE_WARPS) {
        const u32 gate = row / U, unit = block_x() * U + row % U;
        for (u32 k = lane(); k < s.depth; k += 32) {
            const bool there = gate < Cell::GATES && unit < s.hidden && k < s.hidden;
            memory[row * share.stride + k] = there ? T(weight[(i64(gate) * s.hidden + unit) * s.hidden + k]) : narrow<T>(A(0));
        }
    }
    const Seat<Cell, T> seat(s.hidden);
    A added[Cell::GATES];
    UNROLL for (int k = 0; k < Cell::GATES; k++)
        added[k] = seat.taken && (options & BIASED) ? widen(T(bias[i64(k) * s.hidden + seat.unit])) : A(0);
    const i64 half = i64(grid_y()) * s.tiles * BATCH * s.depth;
    block_sync();
    for (u32 step = 0; step < s.steps; step++) {
        const i64 before = step % 2 ? half : 0, after = step % 2 ? 0 : half, first = i64(s.time(options, step)) * s.rows;
        for (u32 tile = 0; tile < s.tiles; tile++) {
            u32 row;
            const bool mine = seat.has(s, tile, row);
            const i64 at = i64(row) * s.hidden + seat.unit, in_state = i64(row) * s.depth + seat.unit;
            // What does not depend on other blocks is on its way while they are waited for.
            A a[Cell::GATES], b[Cell::GATES], cell = 0;
            UNROLL for (int k = 0; k < Cell::GATES; k++)
                a[k] = mine ? widen(T(projected[first * Cell::GATES * s.hidden + block_of(row, seat.unit, s.hidden, Cell::GATES, k)])) : A(0);
            if constexpr (Cell::CELL) cell = mine ? A(c[at]) : A(0);
            if (tile == 0 && step > 0) wait_for_step(counters, block_y(), grid_x(), step);
            share.multiply({(state + before + i64(block_y() * s.tiles + tile) * BATCH * s.depth).pointer});
            if (mine) {
                UNROLL for (int k = 0; k < Cell::GATES; k++) b[k] = share.sum(k * U + seat.unit_of_block, seat.row_of_tile) + added[k];
                const Next<A, Cell::KEPT> next = Cell::template forward<A>(a, b, widen(T(state[before + in_state])), cell);
                const T h = narrow<T>(next.h);
                state[after + in_state] = h;
                output[first * s.hidden + at] = h;
                if constexpr (Cell::CELL) c[at] = next.c;
                if constexpr (Cell::KEEPS)
                    if (options & KEEPS) {
                        UNROLL for (int k = 0; k < Cell::KEPT; k++)
                            kept[first * Cell::KEPT * s.hidden + block_of(row, seat.unit, s.hidden, Cell::KEPT, k)] = next.kept[k];
                    }
            }
        }
        step_done(counters, block_y());
    }
}

#define SEQUENCE(name, Cell, T)                                                                                                  \
    KERNEL_WIDE(SHARE_THREADS, 2, rnn_sequence_##name##_##T, (PARAMETER Sequence s, PARAMETER Directions<Forward<T>> directions)) { \
        sequence<Cell>(s, directions);                                                                                           \
    }
#define SEQUENCES(T) SEQUENCE(tanh, Tanh, T) SEQUENCE(relu, Relu, T) SEQUENCE(lstm, Lstm, T) SEQUENCE(gru, Gru, T)

SEQUENCES(f32)
SEQUENCES(f16)
SEQUENCES(bf16)
