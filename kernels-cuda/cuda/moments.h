// Count, mean and sum of squared distances from it of some numbers.
#pragma once

#include "types.h"

template <class A> struct Moments {
    A count, mean, squares;

    // Those of both together (Chan, Golub, LeVeque 1979).
    DEVICE Moments joined(const Moments &other) const {
        if (count + other.count == 0) return *this;
        const A share = other.count / (count + other.count), apart = other.mean - mean;
        return {count + other.count, std::fma(apart, share, mean), squares + other.squares + apart * apart * count * share};
    }
};

template <class A> DEVICE Moments<A> shuffle_xor(const Moments<A> &value, u32 by) {
    return {shuffle_xor(value.count, by), shuffle_xor(value.mean, by), shuffle_xor(value.squares, by)};
}
