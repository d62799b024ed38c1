// Elementwise loops: y = f(x, …) over a walk, a thread for each element or for each vector of 16 bytes of the widest operand.
//
// Launch: ceil(count / THREADS) blocks of THREADS. Bytes: each operand once.
#pragma once

#include "walk.h"

template <class... T> constexpr int lanes() {
    std::size_t widest = 1;
    ((widest = sizeof(T) > widest ? sizeof(T) : widest), ...);
    return static_cast<int>(16 / widest);
}

// V elements from `at` on, or one of them V times.
template <int V, class T> DEVICE Vec<T, V> fetch(Global<const T> x, i64 at, bool splat) {
    if (!splat) return x.template load_vector<V>(at);
    Vec<T, V> v;
    const T one = x[at];
    UNROLL for (int i = 0; i < V; i++) v[i] = one;
    return v;
}

DEVICE u32 place() { return block_x() * block_size() + thread_x(); }

template <class Y, class F> DEVICE void map0(const Walk<1> &walk, Global<Y> y, F f) {
    const u32 unit = place();
    if (unit >= walk.count) return;
    i64 at[1];
    walk.offsets(unit, at);
    if (!walk.vector) {
        y[at[0]] = f();
        return;
    }
    constexpr int V = lanes<Y>();
    Vec<Y, V> r;
    UNROLL for (int i = 0; i < V; i++) r[i] = f();
    y.template store_vector<V>(at[0], r);
}

template <class Y, class A, class F> DEVICE void map1(const Walk<2> &walk, Global<Y> y, Global<const A> a, F f) {
    const u32 unit = place();
    if (unit >= walk.count) return;
    i64 at[2];
    walk.offsets(unit, at);
    if (!walk.vector) {
        y[at[0]] = f(a[at[1]]);
        return;
    }
    constexpr int V = lanes<Y, A>();
    const auto v = fetch<V>(a, at[1], walk.splat & 2);
    Vec<Y, V> r;
    UNROLL for (int i = 0; i < V; i++) r[i] = f(v[i]);
    y.template store_vector<V>(at[0], r);
}

template <class Y, class A, class B, class F>
DEVICE void map2(const Walk<3> &walk, Global<Y> y, Global<const A> a, Global<const B> b, F f) {
    const u32 unit = place();
    if (unit >= walk.count) return;
    i64 at[3];
    walk.offsets(unit, at);
    if (!walk.vector) {
        y[at[0]] = f(a[at[1]], b[at[2]]);
        return;
    }
    constexpr int V = lanes<Y, A, B>();
    const auto v = fetch<V>(a, at[1], walk.splat & 2);
    const auto w = fetch<V>(b, at[2], walk.splat & 4);
    Vec<Y, V> r;
    UNROLL for (int i = 0; i < V; i++) r[i] = f(v[i], w[i]);
    y.template store_vector<V>(at[0], r);
}

template <class Y, class A, class B, class C, class F>
DEVICE void map3(const Walk<4> &walk, Global<Y> y, Global<const A> a, Global<const B> b, Global<const C> c, F f) {
    const u32 unit = place();
    if (unit >= walk.count) return;
    i64 at[4];
    walk.offsets(unit, at);
    if (!walk.vector) {
        y[at[0]] = f(a[at[1]], b[at[2]], c[at[3]]);
        return;
    }
    constexpr int V = lanes<Y, A, B, C>();
    const auto v = fetch<V>(a, at[1], walk.splat & 2);
    const auto w = fetch<V>(b, at[2], walk.splat & 4);
    const auto u = fetch<V>(c, at[3], walk.splat & 8);
    Vec<Y, V> r;
    UNROLL for (int i = 0; i < V; i++) r[i] = f(v[i], w[i], u[i]);
    y.template store_vector<V>(at[0], r);
}

constexpr int MAP_THREADS = 256;
