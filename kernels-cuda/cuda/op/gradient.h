// The gradients of functions of one element, from that of the result, g, and from the input x or the result y: the column `back`
// of the table in tensor/src/op/unary.rs.
#pragma once

#include "unary.h"

namespace gradient {

using unary::sigmoid;

// sigmoid and its slope s (1 - s), whose factors are both accurate far out.
template <class R> struct Slope {
    R s, slope;
    DEVICE explicit Slope(R x) {
        const R e = std::exp(-std::fabs(x)), inverse = R(1) / (R(1) + e);
        s = (x < R(0) ? e : R(1)) * inverse;
        slope = e * inverse * inverse;
    }
};

template <class R> DEVICE R abs(R g, R x) { return g * unary::sign(x); }
template <class R> DEVICE R reciprocal(R g, R y) { return -(g * (y * y)); }
template <class R> DEVICE R square(R g, R x) { return g * (x + x); }
template <class R> DEVICE R sqrt(R g, R y) { return g / (y + y); }
template <class R> DEVICE R rsqrt(R g, R y) { return g * (y * y * y) * R(-0.5); }
template <class R> DEVICE R log1p(R g, R x) { return g / (x + R(1)); }
template <class R> DEVICE R sin(R g, R x) { return g * std::cos(x); }
template <class R> DEVICE R cos(R g, R x) { return -(g * std::sin(x)); }
template <class R> DEVICE R tanh(R g, R y) { return g * std::fma(-y, y, R(1)); }
template <class R> DEVICE R sigmoid_(R g, R y) { return g * ((R(1) - y) * y); }
template <class R> DEVICE R relu(R g, R y) { return y <= R(0) ? R(0) : g; }
template <class R> DEVICE R relu6(R g, R x) { return x <= R(0) || x >= R(6) ? R(0) : g; }
template <class R> DEVICE R gelu(R g, R x) {
    const R density = std::exp(x * x * R(-0.5)) * R(0.3989422804014327);
    return g * std::fma(x, density, unary::normal_cdf(x));
}
template <class R> DEVICE R gelu_tanh(R g, R x) {
    const R square = x * x, u = std::fma(square * R(0.044715), x, x) * R(1.5957691216057307);
    const Slope<R> at(u);
    const R steep = std::fma(square, R(0.2140644488178007), R(1.5957691216057307));
    return g * std::fma(x * at.slope, steep, at.s);
}
template <class R> DEVICE R silu(R g, R x) {
    const Slope<R> at(x);
    return g * std::fma(x, at.slope, at.s);
}
template <class R> DEVICE R softplus(R g, R x) { return g * (x > R(20) ? R(1) : sigmoid(x)); }
template <class R> DEVICE R mish(R g, R x) {
    const R e = std::exp(x), n = e * (e + R(2)), inverse = R(1) / (n + R(2));
    const R slope = R(4) * e * (R(1) + e) * inverse * inverse;
    return g * (x > R(20) ? R(1) : std::fma(x, slope, n * inverse));
}
template <class R> DEVICE R hardswish(R g, R x) {
    return x <= R(-3) ? R(0) : x < R(3) ? g * (x / R(3) + R(0.5)) : g;
}
template <class R> DEVICE R hardsigmoid(R g, R x) { return x > R(-3) && x < R(3) ? g / R(6) : R(0); }
template <class R> DEVICE R logsigmoid(R g, R x) { return g * sigmoid(-x); }
template <class R> DEVICE R erf(R g, R x) { return g * std::exp(-(x * x)) * R(1.1283791670955126); }

} // namespace gradient

// X(op, function, T) for each op with a gradient.
#define GRADIENTS(X, T)                                                                                                          \
    X(abs, abs, T) X(reciprocal, reciprocal, T) X(square, square, T) X(sqrt, sqrt, T) X(rsqrt, rsqrt, T) X(log1p, log1p, T)      \
    X(sin, sin, T) X(cos, cos, T) X(tanh, tanh, T) X(sigmoid, sigmoid_, T) X(relu, relu, T) X(relu6, relu6, T) X(gelu, gelu, T)  \
    X(gelu_tanh, gelu_tanh, T) X(silu, silu, T) X(softplus, softplus, T) X(mish, mish, T) X(hardswish, hardswish, T)             \
    X(hardsigmoid, hardsigmoid, T) X(logsigmoid, logsigmoid, T) X(erf, erf, T)
