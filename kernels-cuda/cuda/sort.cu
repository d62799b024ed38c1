// Stable sort along lines: tiles of up to TILE elements in shared memory, then passes that merge two runs into one.
//
// Elements are ordered by value, NaN last (descending: the reverse), and equal ones by their index, so that no two are equal and the
// network of the tiles is as good as a stable sort. Layout: [lines, n], values and their indices beside them.
// Launch: sort_tiles a block for each tile of each line, block_y the line; merge_runs a thread for each element.
// Bytes: values and indices once for each pass; merge_runs looks for each element's place by a binary search of the other run.
#include "types.h"

constexpr u32 TILE = 1024;
constexpr u32 SORT_THREADS = TILE / 2;

// Whether element (a, i) stands before (b, j).
template <class T> DEVICE bool precedes(T a, u32 i, T b, u32 j, bool descending) {
    const auto v = widen(a), w = widen(b);
    const bool v_nan = v != v, w_nan = w != w;
    const bool less = v < w || (w_nan && !v_nan), greater = w < v || (v_nan && !w_nan);
    if (less || greater) return descending ? greater : less;
    return i < j;
}

// A power of two `size` of places, of which those from n on are behind all others.
template <class T> DEVICE void sort_tiles(u32 n, u32 size, u32 descending, Global<T> values, Global<i64> indices, Global<const T> x) {
    SHARED(T, keys, TILE);
    SHARED(u32, places, TILE);
    const i64 line = i64(block_y() + block_z() * grid_y()) * n;
    const u32 first = block_x() * size;
    for (u32 i = thread_x(); i < size; i += block_size()) {
        const u32 at = first + i;
        keys[i] = at < n ? T(x[line + at]) : T{};
        places[i] = at;
    }
    // Bitonic: runs of length k alternate in direction, and are merged by comparing over halving distances.
    for (u32 k = 2; k <= size; k *= 2)
        for (u32 distance = k / 2; distance > 0; distance /= 2) {
            block_sync();
            for (u32 pair = thread_x(); pair < size / 2; pair += block_size()) {
                const u32 i = 2 * pair - (pair & (distance - 1)), j = i + distance;
                const u32 p = places[i], q = places[j];
                const T a = keys[i], b = keys[j];
                // Places behind the end come last.
                const bool ordered = q >= n || (p < n && precedes(a, p, b, q, descending));
                const bool upwards = (i & k) == 0;
                if (p != q && ordered != upwards) keys[i] = b, keys[j] = a, places[i] = q, places[j] = p;
            }
        }
    block_sync();
    for (u32 i = thread_x(); i < size; i += block_size())
        if (first + i < n) values[line + first + i] = keys[i], indices[line + first + i] = i64(u32(places[i]));
}

// Runs of `run` elements become runs of twice as many.
template <class T>
DEVICE void merge_runs(u32 total, u32 n, u32 run, u32 descending, Global<T> values, Global<i64> indices, Global<const T> old_values,
                       Global<const i64> old_indices) {
    const u32 place = block_x() * block_size() + thread_x();
    if (place >= total) return;
    const i64 line = i64(place / n) * n;
    const u32 i = place % n, first = i / (2 * run) * (2 * run);
    const u32 middle = first + run < n ? first + run : n, end = first + 2 * run < n ? first + 2 * run : n;
    const T value = old_values[line + i];
    const u32 index = u32(i64(old_indices[line + i]));
    // How many of the other run stand before this element.
    const bool left = i < middle;
    u32 low = left ? middle : first, high = left ? end : middle;
    const u32 start = low;
    while (low < high) {
        const u32 at = low + (high - low) / 2;
        if (precedes(T(old_values[line + at]), u32(i64(old_indices[line + at])), value, index, descending)) low = at + 1;
        else high = at;
    }
    const i64 to = line + first + (i - (left ? first : middle)) + (low - start);
    values[to] = value;
    indices[to] = index;
}

#define SORT(T)                                                                                                                  \
    KERNEL_OF(SORT_THREADS, sort_tiles_##T,                                                                                      \
              (u32 n, u32 size, u32 descending, Global<T> values, Global<i64> indices, Global<const T> x)) {                     \
        sort_tiles(n, size, descending, values, indices, x);                                                                     \
    }                                                                                                                            \
    KERNEL_OF(256, merge_runs_##T,                                                                                               \
              (u32 total, u32 n, u32 run, u32 descending, Global<T> values, Global<i64> indices, Global<const T> old_values,     \
               Global<const i64> old_indices)) {                                                                                 \
        merge_runs(total, n, run, descending, values, indices, old_values, old_indices);                                         \
    }

FOR_NUMBERS(SORT)
