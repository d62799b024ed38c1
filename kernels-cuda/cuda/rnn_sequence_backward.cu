// The gradients of a recurrent layer's products over a whole sequence in one launch: each block has the gradients of some units, keeps the
// recurrent weights that lead to them in shared memory, and exchanges the gradients of the products with the others in each step.
//
// Launch and numbers as in rnn_sequence.cu. Bytes: what was kept, the output and its gradient, and the products' gradients once; in each step the
// latter by every block from the L2 cache.
#include "rnn/share.h"

// `grads`: [2][padded rows][depth], zeros; `counters`: a zero for each group; `dh` and `dc`: the gradients of the states, in place. Where
// both products have the same gradients only those of the recurrent one are written.
template <class T> struct Backward {
    Global<T> da, db;
    Global<Wide<T>> dh, dc;
    Global<const Wide<T>> kept;
    Global<const T> output, h0;
    Global<const Wide<T>> c0;
    Global<const T> grad, weight;
    Global<T> grads;
    Global<u32> counters;
    u64 options;
};

template <class Cell, class T> DEVICE void sequence_backward(const Sequence &s, const Directions<Backward<T>> &directions) {
    using A = Wide<T>;
    constexpr u32 U = UNITS<Cell, T>, ROWS = PADDED<T, U>;
    const auto [da, db, dh, dc, kept, output, h0, c0, grad, weight, grads, counters, given] = directions.of[block_z()];
    const u32 options = u32(given);
    DYNAMIC_SHARED(T, memory);
    SHARED(A, partial, SHARE_WARPS * ROWS * SUM_STRIDE);
    const Share<T, ROWS> share(memory, partial, s.depth);
    // A row for each unit: a column of the weights.
    for (u32 i = thread_x(); i < ROWS * s.depth; i += SHARE_THREADS) {
        const u32 k = i / ROWS, row = i % ROWS, unit = block_x() * U + row;
        const bool there = row < U && unit < s.hidden && k < Cell::GATES * s.hidden;
        memory[row * share.stride + k] = there ? T(weight[i64(k) * s.hidden + unit]) : narrow<T>(A(0));
    }
    const Seat<Cell, T> seat(s.hidden);
    const i64 half = i64(grid_y()) * s.tiles * BATCH * s.depth;
    block_sync();
    for (u32 step = 0; step < s.steps; step++) {
        // From the step taken last to the first.
        const u32 taken = s.steps - 1 - step;
        const i64 first = i64(s.time(options, taken)) * s.rows, first_before = taken ? i64(s.time(options, taken - 1)) * s.rows : 0, exchanged = step % 2 ? half : 0;
        for (u32 tile = 0; tile < s.tiles; tile++) {
            u32 row;
            if (!seat.has(s, tile, row)) continue;
            const i64 at = i64(row) * s.hidden + seat.unit;
            A dh_after = dh[at], dc_after = 0, cell = 0, of[Cell::KEPT];
            if (options & GRADED) dh_after += widen(T(grad[first * s.hidden + at]));
            if constexpr (Cell::CELL) {
                // The cell state is the last of what was kept.
                dc_after = dc[at];
                cell = taken ? kept[first_before * Cell::KEPT * s.hidden + block_of(row, seat.unit, s.hidden, Cell::KEPT, Cell::KEPT - 1)] : c0[at];
            }
            UNROLL for (int k = 0; k < Cell::KEPT; k++) {
                if constexpr (Cell::KEEPS) of[k] = kept[first * Cell::KEPT * s.hidden + block_of(row, seat.unit, s.hidden, Cell::KEPT, k)];
                else of[k] = widen(T(output[first * s.hidden + at]));
            }
            const A h_before = widen(taken ? T(output[first_before * s.hidden + at]) : T(h0[at]));
            const Before<A, Cell::GATES> next = Cell::template backward<A>(of, h_before, cell, dh_after, dc_after);
            UNROLL for (int k = 0; k < Cell::GATES; k++) {
                const i64 place = first * Cell::GATES * s.hidden + block_of(row, seat.unit, s.hidden, Cell::GATES, k);
                const T b = narrow<T>(next.b[k]);
                db[place] = b;
                if (da.pointer != db.pointer) da[place] = narrow<T>(next.a[k]);
                grads[exchanged + i64(row) * s.depth + i64(k) * s.hidden + seat.unit] = b;
            }
            dh[at] = next.h;
            if constexpr (Cell::CELL) dc[at] = next.c;
        }
        step_done(counters, block_y());
        wait_for_step(counters, block_y(), grid_x(), step + 1);
        for (u32 tile = 0; tile < s.tiles; tile++) {
            u32 row;
            const bool mine = seat.has(s, tile, row);
            share.multiply({(grads + exchanged + i64(block_y() * s.tiles + tile) * BATCH * s.depth).pointer});
            if (mine) dh[i64(row) * s.hidden + seat.unit] += share.sum(seat.unit_of_block, seat.row_of_tile);
        }
    }
}

#define SEQUENCE(name, Cell, T)                                                                                                  \
    KERNEL_OF(SHARE_THREADS, rnn_sequence_backward_##name##_##T,                                                                 \
              (PARAMETER Sequence s, PARAMETER Directions<Backward<T>> directions)) {                                            \
        sequence_backward<Cell>(s, directions);                                                                                  \
    }
#define SEQUENCES(T) SEQUENCE(tanh, Tanh, T) SEQUENCE(relu, Relu, T) SEQUENCE(lstm, Lstm, T) SEQUENCE(gru, Gru, T)

SEQUENCES(f32)
SEQUENCES(f16)
SEQUENCES(bf16)
