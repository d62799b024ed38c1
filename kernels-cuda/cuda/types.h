// Element types by their short names, and how one becomes another.
#pragma once

#include "device.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

using f32 = float;
using f64 = double;
using i8 = std::int8_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// A byte that holds 0 or 1.
struct boolean {
    u8 value;
};

template <class T> constexpr bool is_half = std::is_same_v<T, f16> || std::is_same_v<T, bf16>;
template <class T> constexpr bool is_float = std::is_floating_point_v<T> || is_half<T>;

// The type that numbers of type T are computed in: float for 16-bit floats, else T itself.
template <class T> using Wide = std::conditional_t<is_half<T>, f32, T>;

template <class T> DEVICE Wide<T> widen(T x) {
    if constexpr (is_half<T>) return to_float(x);
    else return x;
}

template <class T> DEVICE T narrow(Wide<T> x) {
    if constexpr (is_half<T>) return from_float<T>(x);
    else return x;
}

// Truncated, saturated, and 0 for NaN.
DEVICE i64 to_integer(f64 x) {
    constexpr f64 end = 9223372036854775808.0; // 2^63
    if (!(x == x)) return 0;
    return x >= end ? std::numeric_limits<i64>::max() : x < -end ? std::numeric_limits<i64>::min() : static_cast<i64>(x);
}

// One element as another type: integers wrap, floats become integers by truncation, anything but zero is true.
template <class To, class From> DEVICE To cast(From x) {
    if constexpr (std::is_same_v<From, boolean>) return cast<To>(x.value);
    else if constexpr (std::is_same_v<To, boolean>) return {static_cast<u8>(widen(x) != 0)};
    else if constexpr (std::is_same_v<To, From>) return x;
    else if constexpr (!is_float<To> && is_float<From>) return static_cast<To>(to_integer(widen(x)));
    else if constexpr (!is_float<To>) return static_cast<To>(x);
    else if constexpr (std::is_same_v<To, f32> && !is_float<From>) return static_cast<f32>(x);
    else if constexpr (is_half<From> && !std::is_same_v<To, f64>) return from_float<To>(to_float(x));
    else return from_double<To>(static_cast<f64>(widen(x)));
}

// The element in the low bytes of `bits`, as both sides are little-endian.
template <class T> DEVICE T unpacked(u64 bits) {
    T x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#define FOR_FLOATS(X, ...) X(f32, ##__VA_ARGS__) X(f64, ##__VA_ARGS__) X(f16, ##__VA_ARGS__) X(bf16, ##__VA_ARGS__)
#define FOR_INTEGERS(X, ...) X(i64, ##__VA_ARGS__) X(i32, ##__VA_ARGS__) X(i8, ##__VA_ARGS__) X(u8, ##__VA_ARGS__) X(u32, ##__VA_ARGS__)
#define FOR_NUMBERS(X, ...) FOR_FLOATS(X, ##__VA_ARGS__) FOR_INTEGERS(X, ##__VA_ARGS__)
// By size alone: for what only moves.
#define FOR_SIZES(X) X(u8) X(u16) X(u32) X(u64)
