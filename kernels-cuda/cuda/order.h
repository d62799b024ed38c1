// Elements as unsigned numbers of the same order, which with their places make an order without equals.
#pragma once

#include "types.h"

#include <cstring>

// Integers of 64 bits need keys of as many, all others have ones of 32.
template <class T> using Key = std::conditional_t<sizeof(T) == 8, u64, u32>;

// The key of an element: NaN is the largest, and zeros are equal whatever their sign. Descending, it is the other way round.
template <class T> DEVICE Key<T> key_of(T x, bool descending) {
    using K = Key<T>;
    constexpr K sign = K(1) << (sizeof(K) * 8 - 1);
    K key;
    if constexpr (is_float<T>) {
        const Wide<T> value = widen(x), number = value == 0 ? Wide<T>(0) : value;
        std::memcpy(&key, &number, sizeof key);
        key = value != value ? ~K(0) : key & sign ? ~key : key | sign;
    } else if constexpr (std::is_signed_v<T>) {
        key = static_cast<K>(x) ^ sign;
    } else {
        key = x;
    }
    return descending ? ~key : key;
}

// Whether the element of key a at place i stands before that of key b at place j: equal ones keep their order.
template <class K> DEVICE bool before(K a, u32 i, K b, u32 j) { return a < b || (a == b && i < j); }

// Behind everything that there is.
template <class K> constexpr K LAST = ~K(0);
constexpr u32 NOWHERE = ~0u;
