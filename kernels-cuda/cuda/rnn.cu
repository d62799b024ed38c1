// One step of a recurrent layer behind its products: the gates of every unit, forwards and backwards. The equations are those of
// `RnnKind` in tensor/src/rnn.rs.
//
// Products, weights and the hidden state have the layer's type T; the cell state, what is kept and the running gradients the wide one,
// so that only the hidden state is rounded from step to step. Layout: rows of units, [n, blocks, hidden].
// Launch: a thread for each unit. Bytes, forward: both products, the state before, what is kept and the states after, once; a step
// of LSTM in f32 that keeps nothing 11 numbers for each unit, 44 bytes.
#include "rnn/cell.h"

constexpr int RNN_THREADS = 256;

// h and, for an LSTM, c after a step; c in place. `kept` is written if `keeps`.
template <class Cell, class T>
DEVICE void forward(u32 rows, u32 hidden, u32 keeps, Global<T> h, Global<Wide<T>> c, Global<Wide<T>> kept, Global<const T> a,
                    Global<const T> b, Global<const T> h_before) {
    using A = Wide<T>;
    const u32 at = block_x() * block_size() + thread_x();
    if (at >= rows * hidden) return;
    const u32 row = at / hidden, unit = at - row * hidden;
    A of_a[Cell::GATES], of_b[Cell::GATES];
    UNROLL for (int k = 0; k < Cell::GATES; k++) {
        const i64 place = block_of(row, unit, hidden, Cell::GATES, k);
        of_a[k] = widen(T(a[place])), of_b[k] = widen(T(b[place]));
    }
    A cell = 0;
    if constexpr (Cell::CELL) cell = c[at];
    const Next<A, Cell::KEPT> next = Cell::template forward<A>(of_a, of_b, widen(T(h_before[at])), cell);
    h[at] = narrow<T>(next.h);
    if constexpr (Cell::CELL) c[at] = next.c;
    if constexpr (Cell::KEEPS)
        if (keeps) {
            UNROLL for (int k = 0; k < Cell::KEPT; k++) kept[block_of(row, unit, hidden, Cell::KEPT, k)] = next.kept[k];
        }
}

// The gradients of both products into `da` and `db`, where these are one only once. The gradient of the state after the step is
// dh + product + grad; the latter two, of type T, are looked at if `has` has bits 1 and 2. dh and dc are changed in place.
template <class Cell, class T>
DEVICE void backward(u32 rows, u32 hidden, u32 has, i64 c_stride, Global<T> da, Global<T> db, Global<Wide<T>> dh, Global<Wide<T>> dc,
                     Global<const Wide<T>> kept, Global<const T> output, Global<const T> h_before, Global<const Wide<T>> c_before,
                     Global<const T> product, Global<const T> grad) {
    using A = Wide<T>;
    const u32 at = block_x() * block_size() + thread_x();
    if (at >= rows * hidden) return;
    const u32 row = at / hidden, unit = at - row * hidden;
    A dh_after = dh[at], dc_after = 0, cell = 0, of[Cell::KEPT];
    if (has & 1) dh_after += widen(T(product[at]));
    if (has & 2) dh_after += widen(T(grad[at]));
    if constexpr (Cell::CELL) dc_after = dc[at], cell = c_before[i64(row) * c_stride + unit];
    UNROLL for (int k = 0; k < Cell::KEPT; k++) {
        if constexpr (Cell::KEEPS) of[k] = kept[block_of(row, unit, hidden, Cell::KEPT, k)];
        else of[k] = widen(T(output[at]));
    }
    const Before<A, Cell::GATES> before = Cell::template backward<A>(of, widen(T(h_before[at])), cell, dh_after, dc_after);
    UNROLL for (int k = 0; k < Cell::GATES; k++) {
        const i64 place = block_of(row, unit, hidden, Cell::GATES, k);
        da[place] = narrow<T>(before.a[k]);
        if constexpr (std::is_same_v<Cell, Gru>) db[place] = narrow<T>(before.b[k]);
    }
    dh[at] = before.h;
    if constexpr (Cell::CELL) dc[at] = before.c;
}

#define RNN(name, Cell, T)                                                                                                       \
    KERNEL_OF(RNN_THREADS, rnn_forward_##name##_##T,                                                                             \
              (u32 rows, u32 hidden, u32 keeps, Global<T> h, Global<Wide<T>> c, Global<Wide<T>> kept, Global<const T> a,         \
               Global<const T> b, Global<const T> h_before)) {                                                                   \
        forward<Cell>(rows, hidden, keeps, h, c, kept, a, b, h_before);                                                          \
    }                                                                                                                            \
    KERNEL_OF(RNN_THREADS, rnn_backward_##name##_##T,                                                                            \
              (u32 rows, u32 hidden, u32 has, i64 c_stride, Global<T> da, Global<T> db, Global<Wide<T>> dh,                      \
               Global<Wide<T>> dc, Global<const Wide<T>> kept, Global<const T> output, Global<const T> h_before,                 \
               Global<const Wide<T>> c_before, Global<const T> product, Global<const T> grad)) {                                 \
        backward<Cell>(rows, hidden, has, c_stride, da, db, dh, dc, kept, output, h_before, c_before, product, grad);            \
    }
#define RNNS(T) RNN(tanh, Tanh, T) RNN(relu, Relu, T) RNN(lstm, Lstm, T) RNN(gru, Gru, T)

FOR_FLOATS(RNNS)
