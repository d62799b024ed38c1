// The formulas of functions of two elements: those of the table in tensor/src/op/binary.rs, row by row.
#pragma once

#include "unary.h"

namespace binary {

template <class R> DEVICE R add(R a, R b) {
    if constexpr (std::is_integral_v<R>) return static_cast<R>(static_cast<u64>(a) + static_cast<u64>(b));
    else return a + b;
}
template <class R> DEVICE R sub(R a, R b) {
    if constexpr (std::is_integral_v<R>) return static_cast<R>(static_cast<u64>(a) - static_cast<u64>(b));
    else return a - b;
}
template <class R> DEVICE R mul(R a, R b) { return unary::product(a, b); }
template <class R> DEVICE R div(R a, R b) { return a / b; }

// The larger and the smaller one; NaN if either is NaN.
template <class R> DEVICE R maximum(R a, R b) { return a > b || a != a ? a : b; }
template <class R> DEVICE R minimum(R a, R b) { return a < b || a != a ? a : b; }

// The quotient towards zero; of anything by 0 it is 0. The least number divided by -1 wraps.
template <class R> DEVICE R quotient(R a, R b) {
    if (b == R(0)) return R(0);
    if constexpr (std::is_signed_v<R>)
        if (b == R(-1)) return unary::neg(a);
    return static_cast<R>(a / b);
}

// The remainder with the sign of a; 0 for b = 0.
template <class R> DEVICE R fmod(R a, R b) {
    if constexpr (std::is_integral_v<R>) {
        if (b == R(0)) return R(0);
        if constexpr (std::is_signed_v<R>)
            if (b == R(-1)) return R(0);
        return static_cast<R>(a % b);
    } else {
        return std::fmod(a, b);
    }
}

template <class R> DEVICE bool signs_differ(R a, R b) { return (a < R(0) && b > R(0)) || (a > R(0) && b < R(0)); }

template <class R> DEVICE R remainder(R a, R b) {
    const R rest = fmod(a, b);
    return signs_differ(rest, b) ? add(rest, b) : rest;
}

template <class R> DEVICE R floor_divide(R a, R b) {
    if constexpr (std::is_integral_v<R>) {
        const bool rounded_up = fmod(a, b) != R(0) && (a < R(0)) != (b < R(0));
        return sub(quotient(a, b), static_cast<R>(rounded_up));
    } else {
        // What is left after the remainder divides evenly, up to rounding, unlike a itself.
        const R rest = std::fmod(a, b), towards_zero = (a - rest) / b;
        const R q = std::rint(signs_differ(rest, b) ? towards_zero - R(1) : towards_zero);
        if (b == R(0)) return a / b;
        return q == R(0) ? std::copysign(R(0), a / b) : q;
    }
}

template <class R> DEVICE R pow(R a, R b) {
    if constexpr (std::is_integral_v<R>) {
        if (b < R(0)) {
            if (a == R(1)) return R(1);
            return unary::abs(a) == R(1) ? ((b & R(1)) != R(0) ? a : R(1)) : R(0);
        }
        R power = R(1), base = a;
        for (R left = b; left > R(0); left = static_cast<R>(left >> 1)) {
            if ((left & R(1)) != R(0)) power = mul(power, base);
            base = mul(base, base);
        }
        return power;
    } else {
        return std::pow(a, b);
    }
}

template <class R> DEVICE R atan2(R a, R b) { return std::atan2(a, b); }
template <class R> DEVICE R hypot(R a, R b) {
    a = std::fabs(a), b = std::fabs(b);
    const R longer = maximum(a, b), ratio = minimum(a, b) / longer;
    if (std::isinf(a) || std::isinf(b)) return R(INFINITY);
    return longer == R(0) ? longer : longer * std::sqrt(std::fma(ratio, ratio, R(1)));
}
template <class R> DEVICE R logaddexp(R a, R b) {
    // Equal infinities have no difference.
    return maximum(a, b) + (a == b ? R(0.69314718055994530942) : std::log1p(std::exp(-std::fabs(a - b))));
}
template <class R> DEVICE R xlogy(R a, R b) { return a == R(0) && b == b ? R(0) : a * std::log(b); }
template <class R> DEVICE R leaky_relu(R a, R b) { return a > R(0) ? a : a * b; }
template <class R> DEVICE R elu(R a, R b) { return a > R(0) ? a : b * std::expm1(a); }

} // namespace binary

// X(op, T) for each op that integers have …
#define INTEGER_BINARY(X, T)                                                                                                     \
    X(add, T) X(sub, T) X(mul, T) X(floor_divide, T) X(remainder, T) X(fmod, T) X(pow, T) X(maximum, T) X(minimum, T)
// … and floats.
#define FLOAT_BINARY(X, T)                                                                                                       \
    INTEGER_BINARY(X, T) X(div, T) X(atan2, T) X(hypot, T) X(logaddexp, T) X(xlogy, T) X(leaky_relu, T) X(elu, T)
