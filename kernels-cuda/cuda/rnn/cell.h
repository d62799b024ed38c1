// The cells of recurrent layers, for one unit: the equations of `RnnKind` in tensor/src/rnn.rs and their gradients, and where a unit's
// numbers lie: rows of units, [n, blocks, hidden].
#pragma once

#include "../op/unary.h"

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
