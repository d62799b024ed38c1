// Reductions: what they start from, and how two results become one. Those of the table in tensor/src/op/reduce.rs, row by row.
#pragma once

#include "binary.h"

namespace reduction {

struct sum {
    template <class R> static DEVICE R init() { return R(0); }
    template <class R> static DEVICE R combine(R a, R b) { return binary::add(a, b); }
};
struct prod {
    template <class R> static DEVICE R init() { return R(1); }
    template <class R> static DEVICE R combine(R a, R b) { return binary::mul(a, b); }
};
struct amax {
    template <class R> static DEVICE R init() {
        if constexpr (std::is_integral_v<R>) return std::numeric_limits<R>::min();
        else return -R(INFINITY);
    }
    template <class R> static DEVICE R combine(R a, R b) { return binary::maximum(a, b); }
};
struct amin {
    template <class R> static DEVICE R init() {
        if constexpr (std::is_integral_v<R>) return std::numeric_limits<R>::max();
        else return R(INFINITY);
    }
    template <class R> static DEVICE R combine(R a, R b) { return binary::minimum(a, b); }
};
struct any {
    template <class R> static DEVICE R init() { return R(0); }
    template <class R> static DEVICE R combine(R a, R b) { return R(a != R(0) || b != R(0)); }
};
struct all {
    template <class R> static DEVICE R init() { return R(1); }
    template <class R> static DEVICE R combine(R a, R b) { return R(a != R(0) && b != R(0)); }
};

} // namespace reduction
