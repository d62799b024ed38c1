// The formulas of functions of one element: those of the table in tensor/src/op/unary.rs, row by row.
#pragma once

#include "../types.h"

namespace unary {

// Integers wrap: their arithmetic is that of unsigned ones.
template <class R> DEVICE R product(R a, R b) {
    if constexpr (std::is_integral_v<R>) return static_cast<R>(static_cast<u64>(a) * static_cast<u64>(b));
    else return a * b;
}

template <class R> DEVICE R neg(R x) {
    if constexpr (std::is_integral_v<R>) return static_cast<R>(0 - static_cast<u64>(x));
    else return -x;
}
template <class R> DEVICE R abs(R x) {
    if constexpr (std::is_integral_v<R>) return x < R(0) ? neg(x) : x;
    else return std::fabs(x);
}
template <class R> DEVICE R sign(R x) { return static_cast<R>((x > R(0)) - (x < R(0))); }
template <class R> DEVICE R square(R x) { return product(x, x); }
template <class R> DEVICE R relu(R x) { return x <= R(0) ? R(0) : x; }

template <class R> DEVICE R reciprocal(R x) { return R(1) / x; }
template <class R> DEVICE R sqrt(R x) { return std::sqrt(x); }
template <class R> DEVICE R rsqrt(R x) { return R(1) / std::sqrt(x); }
template <class R> DEVICE R exp(R x) { return std::exp(x); }
template <class R> DEVICE R exp2(R x) { return std::exp2(x); }
template <class R> DEVICE R expm1(R x) { return std::expm1(x); }
template <class R> DEVICE R log(R x) { return std::log(x); }
template <class R> DEVICE R log2(R x) { return std::log2(x); }
template <class R> DEVICE R log10(R x) { return std::log10(x); }
template <class R> DEVICE R log1p(R x) { return std::log1p(x); }
template <class R> DEVICE R sin(R x) { return std::sin(x); }
template <class R> DEVICE R cos(R x) { return std::cos(x); }
template <class R> DEVICE R tan(R x) { return std::tan(x); }
template <class R> DEVICE R asin(R x) { return std::asin(x); }
template <class R> DEVICE R acos(R x) { return std::acos(x); }
template <class R> DEVICE R atan(R x) { return std::atan(x); }
template <class R> DEVICE R sinh(R x) { return std::sinh(x); }
template <class R> DEVICE R cosh(R x) { return std::cosh(x); }
template <class R> DEVICE R tanh(R x) { return std::tanh(x); }
template <class R> DEVICE R erf(R x) { return std::erf(x); }
template <class R> DEVICE R floor(R x) { return std::floor(x); }
template <class R> DEVICE R ceil(R x) { return std::ceil(x); }
template <class R> DEVICE R round(R x) { return std::rint(x); }
template <class R> DEVICE R trunc(R x) { return std::trunc(x); }

// 1 / (1 + e^-x), without overflow.
template <class R> DEVICE R sigmoid(R x) {
    const R e = std::exp(-std::fabs(x));
    return (x < R(0) ? e : R(1)) / (R(1) + e);
}

// The share of a standard normal below x, accurate far into the lower tail.
template <class R> DEVICE R normal_cdf(R x) { return R(0.5) * std::erfc(-x * R(0.70710678118654752440)); }

template <class R> DEVICE R clamp_to_6(R x) { return x <= R(0) ? R(0) : x > R(6) ? R(6) : x; }

template <class R> DEVICE R relu6(R x) { return clamp_to_6(x); }
template <class R> DEVICE R gelu(R x) { return x * normal_cdf(x); }
template <class R> DEVICE R gelu_tanh(R x) {
    const R cubic = std::fma(x * x * R(0.044715), x, x);
    return x * sigmoid(cubic * R(1.5957691216057307));
}
template <class R> DEVICE R silu(R x) { return x * sigmoid(x); }
template <class R> DEVICE R softplus(R x) { return x > R(20) ? x : std::log1p(std::exp(x)); }
template <class R> DEVICE R mish(R x) {
    const R e = std::exp(x), n = e * (e + R(2));
    return x * (x > R(20) ? R(1) : n / (n + R(2)));
}
template <class R> DEVICE R hardswish(R x) { return x * (clamp_to_6(x + R(3)) / R(6)); }
template <class R> DEVICE R hardsigmoid(R x) { return clamp_to_6(x + R(3)) / R(6); }
template <class R> DEVICE R logsigmoid(R x) { return (x < R(0) || x != x ? x : R(0)) - std::log1p(std::exp(-std::fabs(x))); }

} // namespace unary

// X(op, T) for each op that floats have.
#define FLOAT_UNARY(X, T)                                                                                                        \
    X(neg, T) X(abs, T) X(sign, T) X(reciprocal, T) X(square, T) X(sqrt, T) X(rsqrt, T) X(exp, T) X(exp2, T) X(expm1, T)         \
    X(log, T) X(log2, T) X(log10, T) X(log1p, T) X(sin, T) X(cos, T) X(tan, T) X(asin, T) X(acos, T) X(atan, T) X(sinh, T)       \
    X(cosh, T) X(tanh, T) X(sigmoid, T) X(relu, T) X(relu6, T) X(gelu, T) X(gelu_tanh, T) X(silu, T) X(softplus, T) X(mish, T)   \
    X(hardswish, T) X(hardsigmoid, T) X(logsigmoid, T) X(erf, T) X(floor, T) X(ceil, T) X(round, T) X(trunc, T)

// … and integers; what rounds them leaves them as they are, and is no kernel.
#define INTEGER_UNARY(X, T) X(neg, T) X(abs, T) X(sign, T) X(square, T) X(relu, T)
