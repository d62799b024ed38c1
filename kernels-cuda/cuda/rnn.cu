// One step of a recurrent layer behind its products: the gates of every unit, forwards and backwards. The equations are those of
// `RnnKind` in tensor/src/rnn.rs.
//
// Products, weights and the hidden state have the layer's type T; the cell state, what is kept and the running gradients the wide one,
// so that only the hidden state is rounded from step to step. Layout: rows of units, [n, blocks, hidden].
// Launch: a thread for each unit. Bytes, forward: both products, the state before, what is kept and the states after, once; a step
// of LSTM in f32 that keeps nothing 11 numbers for each unit, 44 bytes.
#include "op/unary.h"

constexpr int RNN_THREADS = 256;

// The derivatives of the sigmoid where its value is s, and of tanh where its value is y.
template <class A> DEVICE A sigmoid_slope(A s) { return s * (A(1) - s); }
template <class A> DEVICE A tanh_slope(A y) { return A(1) - y * y; }

// What a unit has after a step; `kept` are the blocks for the backward pass.
template <class A, int KEPT> struct Next {
    A h, c, kept[KEPT];
};

// The gradients of a unit: of both products, of the state before as far as it does not go through a product, and of the cell state.
template <class A, int GATES> struct Before {
    A a[GATES], b[GATES], h, c;
};

// Plain layers keep nothing but their output, which the backward pass gets as `kept`.
template <bool RELU> struct Plain {
    static constexpr int GATES = 1, KEPT = 1;
    static constexpr bool CELL = false, KEEPS = false;

    template <class A> DEVICE static Next<A, 1> forward(const A (&a)[1], const A (&b)[1], A, A) {
        const A h = RELU ? unary::relu(a[0] + b[0]) : std::tanh(a[0] + b[0]);
        return {h, A(0), {h}};
    }
    template <class A> DEVICE static Before<A, 1> backward(const A (&kept)[1], A, A, A dh, A) {
        const A d = RELU ? (kept[0] <= A(0) ? A(0) : dh) : dh * tanh_slope(kept[0]);
        return {{d}, {d}, A(0), A(0)};
    }
};
using Tanh = Plain<false>;
using Relu = Plain<true>;

// Gates i, f, g, o; keeps them and the cell state.
struct Lstm {
    static constexpr int GATES = 4, KEPT = 5;
    static constexpr bool CELL = true, KEEPS = true;

    template <class A> DEVICE static Next<A, 5> forward(const A (&a)[4], const A (&b)[4], A, A c) {
        const A i = unary::sigmoid(a[0] + b[0]), f = unary::sigmoid(a[1] + b[1]);
        const A g = std::tanh(a[2] + b[2]), o = unary::sigmoid(a[3] + b[3]);
        const A after = std::fma(f, c, i * g);
        return {o * std::tanh(after), after, {i, f, g, o, after}};
    }
    template <class A> DEVICE static Before<A, 4> backward(const A (&kept)[5], A, A c, A dh, A dc) {
        const A i = kept[0], f = kept[1], g = kept[2], o = kept[3], t = std::tanh(kept[4]);
        const A d = std::fma(dh * o, tanh_slope(t), dc);
        const A di = d * g * sigmoid_slope(i), df = d * c * sigmoid_slope(f);
        const A dg = d * i * tanh_slope(g), d_o = dh * t * sigmoid_slope(o);
        return {{di, df, dg, d_o}, {di, df, dg, d_o}, A(0), d * f};
    }
};

// Gates r, z, n; keeps them and the recurrent share of n.
struct Gru {
    static constexpr int GATES = 3, KEPT = 4;
    static constexpr bool CELL = false, KEEPS = true;

    template <class A> DEVICE static Next<A, 4> forward(const A (&a)[3], const A (&b)[3], A h, A) {
        const A r = unary::sigmoid(a[0] + b[0]), z = unary::sigmoid(a[1] + b[1]);
        const A n = std::tanh(std::fma(r, b[2], a[2]));
        return {std::fma(z, h, (A(1) - z) * n), A(0), {r, z, n, b[2]}};
    }
    template <class A> DEVICE static Before<A, 3> backward(const A (&kept)[4], A h, A, A dh, A) {
        const A r = kept[0], z = kept[1], n = kept[2];
        const A dn = dh * (A(1) - z) * tanh_slope(n), dz = dh * (h - n) * sigmoid_slope(z);
        const A dr = dn * kept[3] * sigmoid_slope(r);
        return {{dr, dz, dn}, {dr, dz, dn * r}, dh * z, A(0)};
    }
};

// Where block `block` of a unit lies in rows of `blocks` of them.
DEVICE i64 block_of(u32 row, u32 unit, u32 hidden, u32 blocks, u32 block) { return (i64(row) * blocks + block) * hidden + unit; }

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
