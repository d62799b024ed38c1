// What a kernel of one's own gets for a tensor: its elements, and how many there are. `Takes` of src/own/signature.rs.
#pragma once

#include "device.h"

// A `Slice<const T>` is read, a `Slice<T>` is read and written. The elements lie one after the other.
template <class T> struct Slice {
    Global<T> at;
    std::int64_t count;

    DEVICE T &operator[](std::int64_t i) const { return at[i]; }
};

// The place of a thread in the whole grid along x.
DEVICE std::int64_t global_thread() { return std::int64_t{block_x()} * block_size() + thread_x(); }
