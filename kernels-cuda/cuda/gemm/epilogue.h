// What becomes of sums before they are stored, the same for all products and convolutions:
//
//   Y = activation(sum + bias + residual)
//
// in the type that was summed in, and rounded once. The activation is chosen at run time: a kernel holds the code of each once.
#pragma once

#include "../op/unary.h"

// `Activation` of src/backend/gemm/epilogue.rs.
enum Activation : u32 { NONE, RELU, RELU6, GELU, GELU_TANH, SILU, SIGMOID, TANH, HARDSWISH };

// As `Epilogue` of src/backend/gemm/epilogue.rs. The residual lies as the result does, so that its elements have the same offsets
// from its first; results may be stored over it, which makes it the way to accumulate.
struct Epilogue {
    u64 residual; // address, 0 for none
    u32 activation;
    u32 unused;

    template <class T> DEVICE Global<const T> residual_of() const { return {reinterpret_cast<const T *>(residual)}; }
};

// activation(x).
template <class S> DEVICE S activated(u32 activation, S x) {
    switch (activation) {
    case RELU: return unary::relu(x);
    case RELU6: return unary::relu6(x);
    case GELU: return unary::gelu(x);
    case GELU_TANH: return unary::gelu_tanh(x);
    case SILU: return unary::silu(x);
    case SIGMOID: return unary::sigmoid(x);
    case TANH: return unary::tanh(x);
    case HARDSWISH: return unary::hardswish(x);
    default: return x;
    }
}

// activation(x) of each of V numbers, which pass by one place of the code: a loop that stays one, without indices into registers.
template <int V, class S> DEVICE void activate(u32 activation, S (&x)[V]) {
    if (activation == NONE) return;
    if constexpr (is_float<S>) ROLLED for (int turn = 0; turn < V; turn++) {
        const S y = activated(activation, x[0]);
        UNROLL for (int v = 0; v + 1 < V; v++) x[v] = x[v + 1];
        x[V - 1] = y;
    }
}

// Finishes V neighbouring results and stores them, from `at` on; aligned to V elements, as the residual is.
template <int V, class T> DEVICE void finish_run(const Epilogue &e, Global<T> y, i64 at, Wide<T> (&sums)[V]) {
    if (e.residual != 0) {
        const Vec<T, V> more = e.residual_of<T>().template load_vector<V>(at);
        UNROLL for (int v = 0; v < V; v++) sums[v] += widen(more[v]);
    }
    activate(e.activation, sums);
    Vec<T, V> results;
    UNROLL for (int v = 0; v < V; v++) results[v] = narrow<T>(sums[v]);
    y.template store_vector<V>(at, results);
}

// Finishes the first `count` of V results and stores each at its place.
template <int V, class T>
DEVICE void finish_each(const Epilogue &e, Global<T> y, const i64 (&at)[V], u32 count, Wide<T> (&sums)[V]) {
    if (e.residual != 0) {
        UNROLL for (u32 v = 0; v < V; v++)
            if (v < count) sums[v] += widen(e.residual_of<T>()[at[v]]);
    }
    activate(e.activation, sums);
    UNROLL for (u32 v = 0; v < V; v++)
        if (v < count) y[at[v]] = narrow<T>(sums[v]);
}
