// Stable sort along lines, and the first k of it: tiles of up to TILE elements in shared memory, then passes over what is left.
//
// Elements are sorted as pairs of a key and the place they had (order.h), among which there are no equals: so the network of the tiles
// is as good as a stable sort. Layout: lines one after the other, [lines, n].
//   sort_tiles_T    lines that fit a tile: the first k of each, values and places
//   sort_pairs_T    longer ones: the first `keep` of each tile, as pairs
//   sort_again_K    the same of pairs: for k that is small, a tile's first k are all that matters
//   sort_merge_K    for other k: two sorted runs become one
//   sort_pick_T     the values and places of pairs
// Launch: a block of SORT_THREADS for TILE elements: one tile, or several short lines side by side. Bytes of a merging pass: all pairs
// read and written once, 16 bytes an element with keys of 32 bits.
#include "order.h"
#include "walk.h"

constexpr u32 TILE = 1024;
constexpr u32 SORT_THREADS = 256;

// TILE pairs in shared memory, of which each `size` are sorted by themselves; a power of two.
template <class K> struct Tiles {
    Shared<K> keys;
    Shared<u32> places;
    u32 size;

    // Bitonic: runs of length k alternate in direction, and are merged by comparing over halving distances.
    DEVICE void sort() const {
        for (u32 k = 2; k <= size; k *= 2)
            for (u32 distance = k / 2; distance > 0; distance /= 2) {
                block_sync();
                for (u32 pair = thread_x(); pair < TILE / 2; pair += block_size()) {
                    const u32 i = 2 * pair - (pair & (distance - 1)), j = i + distance;
                    const u32 p = places[i], q = places[j];
                    const K a = keys[i], b = keys[j];
                    const bool upwards = (i & k & (size - 1)) == 0; // the last run of a tile goes upwards
                    if (before(b, q, a, p) == upwards) keys[i] = b, keys[j] = a, places[i] = q, places[j] = p;
                }
            }
        block_sync();
    }
};

// Where an element of a block's tiles belongs: `per_line` tiles make a line of n elements.
struct Spot {
    u32 line, tile, within, at; // `at` in the line

    DEVICE Spot(u32 i, u32 size, const Divisor &per_line) {
        const u32 local = i / size, first = block_x() * (TILE / size);
        line = per_line.quotient(first + local), tile = first + local - line * per_line.divisor;
        within = i - local * size, at = tile * size + within;
    }
};

// Loads pairs by `load(line, at)`, sorts, and hands the first `keep` of each tile to `store(spot, key, place)`.
template <class K, class Load, class Store>
DEVICE void sort_tiles(u32 lines, u32 n, u32 size, u32 keep, const Divisor &per_line, Load load, Store store) {
    SHARED(K, keys, TILE);
    SHARED(u32, places, TILE);
    for (u32 i = thread_x(); i < TILE; i += block_size()) {
        const Spot spot(i, size, per_line);
        K key = LAST<K>;
        u32 place = NOWHERE;
        if (spot.line < lines && spot.at < n) load(i64(spot.line) * n + spot.at, spot.at, key, place);
        keys[i] = key, places[i] = place;
    }
    Tiles<K>{keys, places, size}.sort();
    for (u32 i = thread_x(); i < TILE; i += block_size()) {
        const Spot spot(i, size, per_line);
        if (spot.line < lines && spot.within < keep) store(spot, K(keys[i]), u32(places[i]));
    }
}

#define SORT(T)                                                                                                                  \
    KERNEL_OF(SORT_THREADS, sort_tiles_##T,                                                                                      \
              (PARAMETER Divisor per_line, u32 lines, u32 n, u32 size, u32 keep, u32 descending, Global<T> values,               \
               Global<i64> indices, Global<const T> x)) {                                                                        \
        sort_tiles<Key<T>>(                                                                                                      \
            lines, n, size, keep, per_line,                                                                                      \
            [=](i64 from, u32 at, Key<T> &key, u32 &place) { key = key_of(T(x[from]), descending != 0), place = at; },           \
            [=](const Spot &spot, Key<T>, u32 place) {                                                                           \
                const i64 to = i64(spot.line) * keep + spot.within;                                                              \
                values[to] = x[i64(spot.line) * n + place];                                                                      \
                indices[to] = place;                                                                                             \
            });                                                                                                                  \
    }                                                                                                                            \
    KERNEL_OF(SORT_THREADS, sort_pairs_##T,                                                                                      \
              (PARAMETER Divisor per_line, u32 lines, u32 n, u32 size, u32 keep, u32 descending, Global<Key<T>> keys,            \
               Global<u32> places, Global<const T> x)) {                                                                         \
        sort_tiles<Key<T>>(                                                                                                      \
            lines, n, size, keep, per_line,                                                                                      \
            [=](i64 from, u32 at, Key<T> &key, u32 &place) { key = key_of(T(x[from]), descending != 0), place = at; },           \
            [=](const Spot &spot, Key<T> key, u32 place) {                                                                       \
                if (keep == size && spot.at >= n) return;                                                                        \
                const i64 to = keep == size ? i64(spot.line) * n + spot.at                                                       \
                                            : (i64(spot.line) * per_line.divisor + spot.tile) * keep + spot.within;              \
                keys[to] = key, places[to] = place;                                                                              \
            });                                                                                                                  \
    }                                                                                                                            \
    KERNEL_OF(SORT_THREADS, sort_pick_##T,                                                                                       \
              (PARAMETER Divisor per_line, u32 count, i64 n, i64 pairs, Global<T> values, Global<i64> indices,                   \
               Global<const u32> places, Global<const T> x)) {                                                                   \
        const u32 i = block_x() * block_size() + thread_x();                                                                     \
        if (i >= count) return;                                                                                                  \
        const u32 line = per_line.quotient(i), place = places[line * pairs + (i - line * per_line.divisor)];                     \
        values[i] = x[line * n + place];                                                                                         \
        indices[i] = place;                                                                                                      \
    }

FOR_NUMBERS(SORT)

// How many of the first `count` elements of two sorted runs together are of the first run.
template <class K>
DEVICE u32 share(u32 count, u32 a_length, u32 b_length, Global<const K> a, Global<const u32> a_places, Global<const K> b,
                 Global<const u32> b_places) {
    u32 low = count > b_length ? count - b_length : 0, high = count < a_length ? count : a_length;
    while (low < high) {
        const u32 at = low + (high - low) / 2, other = count - 1 - at;
        if (before(K(a[at]), u32(a_places[at]), K(b[other]), u32(b_places[other]))) low = at + 1;
        else high = at;
    }
    return low;
}

// Runs of `run` pairs, a multiple of TILE, become runs of twice as many. A block makes TILE pairs of the result: it finds where
// they begin and end in both runs, and then each one's place among them.
template <class K>
DEVICE void merge(const Divisor &per_line, u32 n, u32 run, Global<K> keys, Global<u32> places, Global<const K> old_keys,
                  Global<const u32> old_places) {
    SHARED(K, of_keys, TILE);
    SHARED(u32, of_places, TILE);
    SHARED(u32, shares, 2);
    const u32 line = per_line.quotient(block_x()), start = (block_x() - line * per_line.divisor) * TILE;
    const u32 count = n - start < TILE ? n - start : TILE;
    const u32 first = start / (2 * run) * (2 * run), rest = n - first;
    const u32 a_length = rest < run ? rest : run, b_length = rest < 2 * run ? rest - a_length : run;
    const i64 at_a = i64(line) * n + first, at_b = at_a + a_length;
    if (thread_x() < 2)
        shares[thread_x()] = share<K>(start - first + (thread_x() ? count : 0), a_length, b_length, old_keys + at_a,
                                      old_places + at_a, old_keys + at_b, old_places + at_b);
    block_sync();
    const u32 a_first = shares[0], a_count = u32(shares[1]) - a_first, b_first = start - first - a_first;
    for (u32 i = thread_x(); i < count; i += block_size()) {
        const i64 from = i < a_count ? at_a + a_first + i : at_b + b_first + (i - a_count);
        of_keys[i] = old_keys[from], of_places[i] = old_places[from];
    }
    block_sync();
    for (u32 i = thread_x(); i < count; i += block_size()) {
        const K key = of_keys[i];
        const u32 place = of_places[i];
        // How many of the other run stand before it.
        u32 low = i < a_count ? a_count : 0, high = i < a_count ? count : a_count;
        const u32 from = low;
        while (low < high) {
            const u32 at = low + (high - low) / 2;
            if (before(K(of_keys[at]), u32(of_places[at]), key, place)) low = at + 1;
            else high = at;
        }
        const i64 to = i64(line) * n + start + (i < a_count ? i : i - a_count) + (low - from);
        keys[to] = key, places[to] = place;
    }
}

#define SORT_PAIRS(K)                                                                                                            \
    KERNEL_OF(SORT_THREADS, sort_again_##K,                                                                                      \
              (PARAMETER Divisor per_line, u32 lines, u32 n, u32 size, u32 keep, Global<K> keys, Global<u32> places,             \
               Global<const K> old_keys, Global<const u32> old_places)) {                                                        \
        sort_tiles<K>(                                                                                                           \
            lines, n, size, keep, per_line,                                                                                      \
            [=](i64 from, u32, K &key, u32 &place) { key = old_keys[from], place = old_places[from]; },                          \
            [=](const Spot &spot, K key, u32 place) {                                                                            \
                const i64 to = (i64(spot.line) * per_line.divisor + spot.tile) * keep + spot.within;                             \
                keys[to] = key, places[to] = place;                                                                              \
            });                                                                                                                  \
    }                                                                                                                            \
    KERNEL_OF(SORT_THREADS, sort_merge_##K,                                                                                      \
              (PARAMETER Divisor per_line, u32 n, u32 run, Global<K> keys, Global<u32> places, Global<const K> old_keys,         \
               Global<const u32> old_places)) {                                                                                  \
        merge(per_line, n, run, keys, places, old_keys, old_places);                                                             \
    }

SORT_PAIRS(u32)
SORT_PAIRS(u64)
