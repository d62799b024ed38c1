// Steps of optimizers in one pass over memory, in place. The formulas are those of tensor/src/cpu/optim.rs, whose results these are to
// the last bit: products are not fused with sums.
// nvcc: -fmad=false
//
// Launch: a thread for each element or vector of 16 bytes. Bytes: parameter and state read and written once, the gradient read once.
#include "map.h"

// Elements of up to four arrays at a place: the first `WRITTEN` are written back.
template <int WRITTEN, int N, class T, class F> DEVICE void step(const Walk<N> &walk, const Global<T> (&arrays)[N], F f) {
    const u32 unit = place();
    if (unit >= walk.count) return;
    i64 at[N];
    walk.offsets(unit, at);
    T values[N];
    if (!walk.vector) {
        UNROLL for (int k = 0; k < N; k++) values[k] = arrays[k][at[k]];
        f(values);
        UNROLL for (int k = 0; k < WRITTEN; k++) arrays[k][at[k]] = values[k];
        return;
    }
    constexpr int V = lanes<T>();
    Vec<T, V> vectors[N];
    UNROLL for (int k = 0; k < N; k++) vectors[k] = arrays[k].template load_vector<V>(at[k]);
    UNROLL for (int i = 0; i < V; i++) {
        UNROLL for (int k = 0; k < N; k++) values[k] = vectors[k][i];
        f(values);
        UNROLL for (int k = 0; k < WRITTEN; k++) vectors[k][i] = values[k];
    }
    UNROLL for (int k = 0; k < WRITTEN; k++) arrays[k].template store_vector<V>(at[k], vectors[k]);
}

// The scaled gradient with its L2 penalty. Without one the parameter is not looked at: an infinite one would make it NaN.
template <class T> DEVICE T penalised(T g, T p, T factor, T decay) { return decay == T(0) ? g * factor : g * factor + p * decay; }

// p -= lr (g + decay p).
#define SGD(T)                                                                                                                   \
    KERNEL_OF(MAP_THREADS, sgd_##T, (PARAMETER Walk<2> walk, Global<T> p, Global<T> g, f64 lr, f64 decay, f64 scale)) {          \
        const T rate = T(lr), shrink = T(decay), factor = T(scale);                                                              \
        step<1, 2, T>(walk, {p, g}, [=](T(&v)[2]) {                                                                              \
            const T grad = penalised(v[1], v[0], factor, shrink);                                                                \
            v[0] = v[0] - grad * rate;                                                                                           \
        });                                                                                                                      \
    }

// m = momentum m + (1 - dampening) g, or g in the first step; p -= lr m, or lr (g + momentum m) with Nesterov's.
#define MOMENTUM(T)                                                                                                              \
    KERNEL_OF(MAP_THREADS, momentum_##T,                                                                                         \
              (PARAMETER Walk<3> walk, Global<T> p, Global<T> m, Global<T> g, f64 lr, f64 decay, f64 scale, f64 momentum,        \
               f64 share, u32 first, u32 nesterov)) {                                                                            \
        const T rate = T(lr), shrink = T(decay), factor = T(scale), keep = T(momentum), take = T(share);                         \
        step<2, 3, T>(walk, {p, m, g}, [=](T(&v)[3]) {                                                                           \
            const T grad = penalised(v[2], v[0], factor, shrink);                                                                \
            const T velocity = first ? grad : v[1] * keep + grad * take;                                                         \
            const T direction = nesterov ? grad + velocity * keep : velocity;                                                    \
            v[0] = v[0] - direction * rate;                                                                                      \
            v[1] = velocity;                                                                                                     \
        });                                                                                                                      \
    }

// m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g², p = shrunk p - rate m / (√v / root + eps). `corrections` may lead to
// root and rate, which differ from step to step: that is how a graph's replays get them.
#define ADAM(T)                                                                                                                  \
    KERNEL_OF(MAP_THREADS, adam_##T,                                                                                             \
              (PARAMETER Walk<4> walk, Global<T> p, Global<T> m, Global<T> s, Global<T> g, f64 scale, f64 decay, f64 shrunk,     \
               f64 beta1, f64 beta2, f64 root, f64 eps, f64 rate, Global<const f64> corrections)) {                              \
        if (corrections.pointer) root = corrections[0], rate = corrections[1];                                                   \
        const T factor = T(scale), added = T(decay), kept = T(shrunk), b1 = T(beta1), b2 = T(beta2), c1 = T(1 - beta1),          \
                c2 = T(1 - beta2), r = T(root), e = T(eps), by = T(rate);                                                        \
        step<3, 4, T>(walk, {p, m, s, g}, [=](T(&v)[4]) {                                                                        \
            const T grad = penalised(v[3], v[0], factor, added);                                                                 \
            v[1] = v[1] * b1 + grad * c1;                                                                                        \
            v[2] = v[2] * b2 + grad * grad * c2;                                                                                 \
            v[0] = v[0] * kept - v[1] / (std::sqrt(v[2]) / r + e) * by;                                                          \
        });                                                                                                                      \
    }

SGD(f32)
SGD(f64)
MOMENTUM(f32)
MOMENTUM(f64)
ADAM(f32)
ADAM(f64)
