// The primitives of device.h on the emulated machine.
#pragma once

#include "machine.h"
#include "registry.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#define DEVICE inline
#define KERNEL(name, parameters)                                                                                                 \
    static void name parameters;                                                                                                 \
    static const bool registered_##name = emulator::add(#name, emulator::call_of(&name));                                                       \
    static void name parameters
#define KERNEL_OF(threads, name, parameters) KERNEL(name, parameters)
#define KERNEL_WIDE(threads, blocks, name, parameters) KERNEL(name, parameters)
#define PARAMETER const
#define UNROLL
#define ROLLED

// --- numbers ---

// Half precision: 1 sign, 5 exponent and 10 mantissa bits.
struct f16 {
    std::uint16_t bits;
};

// The upper half of a float.
struct bf16 {
    std::uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) {
    const std::uint32_t bits = std::uint32_t{x.bits} << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}
inline float to_float(f16 x) {
    const int exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
    float y;
    if (exponent == 31) y = mantissa ? NAN : INFINITY;
    else y = exponent ? std::ldexp(float(1024 + mantissa), exponent - 25) : std::ldexp(float(mantissa), -24);
    return x.bits >> 15 ? -y : y;
}

template <class T> T from_float(float x);
template <> inline float from_float<float>(float x) { return x; }
template <> inline bf16 from_float<bf16>(float x) {
    if (std::isnan(x)) return {0x7FFF};
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return {std::uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
template <> inline f16 from_float<f16>(float x) {
    const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    if (std::isnan(x)) return {0x7FFF};
    x = std::fabs(x);
    if (x >= 65520.0f) return {std::uint16_t(sign | 0x7C00)};
    if (x < std::ldexp(1.0f, -14)) return {std::uint16_t(sign | unsigned(std::nearbyint(std::ldexp(x, 24))))};
    int exponent;
    const float fraction = std::frexp(x, &exponent); // in [0.5, 1)
    const unsigned mantissa = unsigned(std::nearbyint(std::ldexp(fraction, 11)));
    return {std::uint16_t(sign | (((exponent + 13) << 10) + mantissa))};
}

// 16-bit floats by way of a float, as everywhere in this field.
template <class T> T from_double(double x) {
    if constexpr (std::is_same_v<T, double>) return x;
    else return from_float<T>(float(x));
}

// The bits of a float, and the float of bits.
inline std::uint32_t bits_of(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
inline float float_of(std::uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

// Four bytes out of eight, those of x and then those of y: digit i of `which`, in hexadecimal, says which becomes byte i.
inline std::uint32_t pick_bytes(std::uint32_t x, std::uint32_t y, std::uint32_t which) {
    const std::uint64_t all = std::uint64_t(y) << 32 | x;
    std::uint32_t picked = 0;
    for (unsigned i = 0; i < 4; i++) picked |= std::uint32_t(all >> 8 * (which >> 4 * i & 7) & 0xFF) << 8 * i;
    return picked;
}

// --- where a thread is ---

inline unsigned thread_x() { return emulator::machine().self().thread; }
inline unsigned block_x() { return emulator::machine().self().block->index.x; }
inline unsigned block_y() { return emulator::machine().self().block->index.y; }
inline unsigned block_z() { return emulator::machine().self().block->index.z; }
inline unsigned block_size() { return emulator::machine().block.volume(); }
inline unsigned grid_x() { return emulator::machine().grid.x; }
inline unsigned grid_y() { return emulator::machine().grid.y; }
inline unsigned grid_z() { return emulator::machine().grid.z; }
inline unsigned lane() { return thread_x() % emulator::WARP; }
inline unsigned warp() { return thread_x() / emulator::WARP; }

// --- memory ---

template <class T, int N> struct alignas(sizeof(T) * N) Vec {
    T at[N];
    T &operator[](int i) { return at[i]; }
    const T &operator[](int i) const { return at[i]; }
};

namespace emulator {

// Fails unless `count` elements of `size` bytes lie in an allocation, at an address that is aligned to one, or to `alignment`.
__attribute__((noinline)) inline void check_global(std::uintptr_t at, std::size_t size, int count, std::int64_t i, std::size_t alignment = 1) {
    if (!Allocations::all().hold(at, size * count))
        machine().fail("element " + std::to_string(i) + " of global memory lies in no allocation");
    if (at % size != 0) machine().fail("global memory: an address is not aligned to its type");
    if (at % alignment != 0) machine().fail("global memory: a vector of " + std::to_string(alignment) + " bytes is not aligned");
}

} // namespace emulator

// Global memory: every access is checked against the blocks that exist.
template <class T> struct Global {
    T *pointer;

    T &operator[](std::int64_t i) const { return *check(i, 1); }

    template <int N> Vec<std::remove_const_t<T>, N> load_vector(std::int64_t i) const {
        Vec<std::remove_const_t<T>, N> v;
        std::memcpy(&v, aligned<N>(i), sizeof v);
        return v;
    }

    template <int N> void store_vector(std::int64_t i, const Vec<T, N> &v) const { std::memcpy(aligned<N>(i), &v, sizeof v); }

    T atomic_add(std::int64_t i, T value) const {
        emulator::machine().maybe_yield();
        T &at = *check(i, 1), before = at;
        at = before + value;
        return before;
    }

    Global operator+(std::int64_t i) const { return {pointer + i}; }

  private:
    T *check(std::int64_t i, int count) const {
        emulator::check_global(reinterpret_cast<std::uintptr_t>(pointer + i), sizeof(T), count, i);
        return pointer + i;
    }

    template <int N> T *aligned(std::int64_t i) const {
        emulator::check_global(reinterpret_cast<std::uintptr_t>(pointer + i), sizeof(T), N, i, sizeof(T) * N);
        return pointer + i;
    }
};

// Shared memory: every access is checked against the array, and recorded to find races.
template <class T> struct Shared {
    std::size_t offset, count;

    // A place in the array. Reading and writing it are told apart by the recorder.
    struct Ref {
        const Shared &array;
        std::int64_t i;
        operator T() const { return array.read(i); }
        const Ref &operator=(T value) const { return array.write(i, value), *this; }
        const Ref &operator=(const Ref &other) const { return *this = T(other); }
        const Ref &operator+=(T value) const { return *this = T(*this) + value; }
        const Ref &operator*=(T value) const { return *this = T(*this) * value; }
    };

    Ref operator[](std::int64_t i) const { return {*this, i}; }

    T read(std::int64_t i) const {
        touch(i, false);
        return *place(i);
    }

    void write(std::int64_t i, T value) const {
        touch(i, true);
        *place(i) = value;
        wrote(i);
    }

    template <int N> Vec<T, N> load_vector(std::int64_t i) const {
        aligned<N>(i);
        Vec<T, N> v;
        for (int k = 0; k < N; k++) v[k] = read(i + k);
        return v;
    }

    template <int N> void store_vector(std::int64_t i, const Vec<T, N> &v) const {
        aligned<N>(i);
        for (int k = 0; k < N; k++) write(i + k, v[k]);
    }

    T atomic_add(std::int64_t i, T value) const { // atomics race with nobody but plain accesses; the recorder leaves them out
        emulator::machine().maybe_yield();
        bounds(i, 1);
        T before = *place(i);
        *place(i) = before + value;
        wrote(i);
        return before;
    }

    // Notes what asynchronous units do not see before a proxy fence.
    void wrote(std::int64_t i) const {
        emulator::Fiber &f = emulator::machine().self();
        if (f.block->own.seen) f.own.written.emplace_back(offset + i * sizeof(T), sizeof(T));
    }

    T *place(std::int64_t i) const {
        return reinterpret_cast<T *>(emulator::machine().self().block->shared + offset) + i;
    }

    void bounds(std::int64_t i, std::int64_t n) const {
        if (i < 0 || std::size_t(i + n) > count)
            emulator::machine().fail("element " + std::to_string(i) + " of a shared array of " + std::to_string(count));
    }

    template <int N> void aligned(std::int64_t i) const {
        if ((offset + i * sizeof(T)) % (N * sizeof(T)) != 0)
            emulator::machine().fail("shared memory: a vector of " + std::to_string(N * sizeof(T)) + " bytes is not aligned");
    }

    void touch(std::int64_t i, bool writes) const {
        bounds(i, 1);
        emulator::Fiber &f = emulator::machine().self();
        const auto race = f.block->races.touch(offset + i * sizeof(T), {f.thread, f.block->epoch, f.warp_epoch}, writes);
        if (!race.empty()) emulator::machine().fail("race: " + race + " of element " + std::to_string(i) + " of a shared array");
    }
};

namespace emulator {

// The place of a static array, the same for all threads of a block.
template <class T> Shared<T> shared_array(const void *declaration, std::size_t count) {
    Block &b = *machine().self().block;
    auto found = b.arrays.find(declaration);
    if (found == b.arrays.end()) {
        found = b.arrays.emplace(declaration, b.shared_used).first;
        b.shared_used += (count * sizeof(T) + 15) / 16 * 16;
        if (b.shared_used > SHARED_BYTES) machine().fail("the block's arrays exceed 232448 bytes of shared memory");
    }
    return {found->second, count};
}

} // namespace emulator

#define SHARED(T, name, count)                                                                                                   \
    static const char declaration_of_##name = 0;                                                                                 \
    const auto name = emulator::shared_array<T>(&declaration_of_##name, (count))
#define DYNAMIC_SHARED(T, name) const Shared<T> name{0, emulator::machine().dynamic_shared / sizeof(T)}

// --- barriers and collectives ---

inline void block_sync() { emulator::machine().block_barrier(0, emulator::machine().self().block->threads); }
inline void block_sync(int id, unsigned threads) { emulator::machine().block_barrier(id, threads); }
// A barrier that says whether `p` holds for any thread.
inline bool block_any(bool p) { return emulator::machine().block_vote(p); }
inline void grid_sync() { emulator::machine().grid_barrier(); }

// Adds to a counter of the grid's.
inline void release_add(Global<std::uint32_t> at, std::int64_t i, std::uint32_t value) {
    emulator::machine().maybe_yield();
    at[i] = at[i] + value;
    emulator::machine().wake_all(emulator::machine().watchers);
}

// Waits until such a counter has reached a number.
inline void wait_for(Global<std::uint32_t> at, std::int64_t i, std::uint32_t value) {
    emulator::machine().maybe_yield();
    while (at[i] < value) emulator::machine().wait_in(emulator::machine().watchers, "wait_for");
}

namespace emulator {

// The lanes of the calling warp that exist.
inline std::uint32_t whole_warp() {
    const Fiber &f = machine().self();
    const unsigned left = f.block->threads - f.thread / WARP * WARP;
    return left >= WARP ? ~0u : (1u << left) - 1;
}

template <class T> T take(T value, unsigned from, const char *name) {
    static_assert(sizeof(T) <= 8, "a lane gives at most 8 bytes");
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    const std::uint64_t given = machine().exchange(whole_warp(), bits, name)[from];
    std::memcpy(&value, &given, sizeof value);
    return value;
}

} // namespace emulator

inline void warp_sync() { emulator::machine().exchange(emulator::whole_warp(), 0, "warp_sync"); }

inline std::uint32_t warp_ballot(bool p) {
    const std::uint32_t mask = emulator::whole_warp();
    const std::uint64_t *given = emulator::machine().exchange(mask, p, "warp_ballot");
    std::uint32_t bits = 0;
    for (unsigned i = 0; i < emulator::WARP; i++) bits |= std::uint32_t(mask >> i & 1 && given[i]) << i;
    return bits;
}

// A lane that does not exist gives the calling lane's own value, as the hardware does.
template <class T> T shuffle(T value, unsigned from) { return emulator::take(value, from % emulator::WARP, "shuffle"); }
template <class T> T shuffle_down(T value, unsigned by) {
    const unsigned from = lane() + by;
    return emulator::take(value, from < emulator::WARP ? from : lane(), "shuffle_down");
}
template <class T> T shuffle_xor(T value, unsigned mask) { return emulator::take(value, (lane() ^ mask) % emulator::WARP, "shuffle_xor"); }

// --- asynchronous copies ---

// 16 bytes to shared memory, of which the last 16 - bytes become zero. They arrive when they are waited for, or at any time before:
// here as late as possible, or at once, as the seed has it.
template <class T> void copy_async16(const Shared<T> &to, std::int64_t i, Global<const T> from, std::int64_t j, unsigned bytes = 16) {
    emulator::Machine &m = emulator::machine();
    constexpr int N = 16 / sizeof(T);
    if (bytes > 16 || bytes % sizeof(T) != 0) m.fail("copy_async16: copies 0 to 16 bytes, whole elements");
    to.bounds(i, N);
    if ((to.offset + i * sizeof(T)) % 16 != 0) m.fail("copy_async16: the shared address is not aligned to 16 bytes");
    if (bytes > 0 && reinterpret_cast<std::uintptr_t>(from.pointer + j) % 16 != 0) m.fail("copy_async16: the global address is not aligned to 16 bytes");
    for (int k = 0; k < N; k++) to.touch(i + k, true);
    auto copy = [=] {
        for (int k = 0; k < N; k++) {
            T value{};
            if (k * sizeof(T) < bytes) value = from[j + k];
            *to.place(i + k) = value;
            to.wrote(i + k);
        }
    };
    auto &groups = m.self().copies;
    if (groups.empty()) groups.emplace_back();
    if (m.random() % 2) copy();
    else groups.back().push_back(copy);
}

inline void copy_async_commit() {
    auto &groups = emulator::machine().self().copies;
    groups.resize(groups.empty() ? 2 : groups.size() + 1);
}

// Waits until at most `LEFT` of the groups committed last are unfinished.
template <int LEFT> void copy_async_wait() {
    auto &groups = emulator::machine().self().copies;
    while (groups.size() > LEFT + 1) {
        for (auto &copy : groups.front()) copy();
        groups.erase(groups.begin());
    }
}

// --- matrix fragments, as the PTX manual lays them out ---

namespace emulator {

// The 32 lanes' contributions to a collective of up to 8 registers each.
template <int N> struct Registers {
    std::uint32_t of[WARP][N];
};

template <int N> Registers<N> gather_registers(const std::uint32_t (&mine)[N], const char *name) {
    Registers<N> all;
    for (int i = 0; i < N; i++) {
        const std::uint64_t *given = machine().exchange(~0u, mine[i], name);
        for (unsigned l = 0; l < WARP; l++) all.of[l][i] = std::uint32_t(given[l]);
    }
    return all;
}

// Tensor cores drop what does not fit into a float.
inline float truncated(double x) {
    const float nearest = float(x);
    return std::fabs(double(nearest)) > std::fabs(x) ? std::nextafter(nearest, 0.0f) : nearest;
}

template <class T> float half_of(std::uint32_t pair, int which) { return to_float(T{std::uint16_t(pair >> 16 * which)}); }

} // namespace emulator

// Four 8x8 matrices of 16-bit elements: lane l names the row l % 8 of matrix l / 8 and gets, of each matrix, elements
// 2 (l % 4) and 2 (l % 4) + 1 of row l / 4.
template <class T> Vec<std::uint32_t, 4> ldmatrix_x4(const Shared<T> &from, std::int64_t i, bool transposed = false) {
    static_assert(sizeof(T) <= 4, "ldmatrix loads 16-bit elements, pairs of bytes, or halves of 32-bit ones");
    emulator::Machine &m = emulator::machine();
    from.bounds(i, 16 / sizeof(T));
    if ((from.offset + i * sizeof(T)) % 16 != 0) m.fail("ldmatrix: a row is not aligned to 16 bytes");
    const std::uint64_t *given = m.exchange(~0u, std::uint64_t(i), "ldmatrix");
    std::int64_t rows[emulator::WARP];
    std::copy(given, given + emulator::WARP, rows);
    const unsigned l = lane();
    Vec<std::uint32_t, 4> v;
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        std::uint32_t pair = 0;
        if constexpr (sizeof(T) == 4) {
            const T value = from.read(rows[matrix * 8 + l / 4] + l % 4);
            std::memcpy(&pair, &value, 4);
        } else if constexpr (sizeof(T) == 1) {
            if (transposed) m.fail("ldmatrix_trans: pairs of bytes stay pairs");
            for (unsigned k = 0; k < 4; k++) pair |= std::uint32_t(std::uint8_t(from.read(rows[matrix * 8 + l / 4] + l % 4 * 4 + k))) << 8 * k;
        } else for (unsigned k = 0; k < 2; k++) {
            const unsigned row = transposed ? l % 4 * 2 + k : l / 4, column = transposed ? l / 4 : l % 4 * 2 + k;
            const T value = from.read(rows[matrix * 8 + row] + column);
            pair |= std::uint32_t(value.bits) << 16 * k;
        }
        v[matrix] = pair;
    }
    return v;
}

template <class T> Vec<std::uint32_t, 4> ldmatrix_x4_trans(const Shared<T> &from, std::int64_t i) { return ldmatrix_x4(from, i, true); }

// D += A B for A 16x16 by rows, B 16x8 by columns, of T, sums in float (mma.m16n8k16).
template <class T> void mma_16816(float (&d)[4], const Vec<std::uint32_t, 4> &a, const Vec<std::uint32_t, 2> &b) {
    const std::uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const auto all = emulator::gather_registers(mine, "mma");
    auto at_a = [&](unsigned row, unsigned k) {
        const unsigned lane = row % 8 * 4 + k % 8 / 2, which = row / 8 + 2 * (k / 8);
        return emulator::half_of<T>(all.of[lane][which], k % 2);
    };
    auto at_b = [&](unsigned k, unsigned column) { return emulator::half_of<T>(all.of[column * 4 + k % 8 / 2][4 + k / 8], k % 2); };
    const unsigned l = lane();
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = l / 4 + 8 * (i / 2), column = l % 4 * 2 + i % 2;
        double sum = d[i];
        for (unsigned k = 0; k < 16; k++) sum += double(at_a(row, k)) * at_b(k, column);
        d[i] = emulator::truncated(sum);
    }
}

// D += A B for A 16x8 by rows, B 8x8 by columns, of f32 of which the lower 13 bits are ignored (tf32). Their sum, of exact products
// and of what was there, is truncated.
inline void mma_1688(float (&d)[4], const Vec<std::uint32_t, 4> &a, const Vec<std::uint32_t, 2> &b) {
    const std::uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const auto all = emulator::gather_registers(mine, "mma");
    auto number = [&](unsigned lane, unsigned which) { return double(float_of(all.of[lane][which] & 0xFFFFE000)); };
    const unsigned l = lane();
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = l / 4 + 8 * (i / 2), column = l % 4 * 2 + i % 2;
        double sum = d[i];
        for (unsigned k = 0; k < 8; k++) sum += number(row % 8 * 4 + k % 4, row / 8 + k / 4 * 2) * number(column * 4 + k % 4, 4 + k / 4);
        d[i] = emulator::truncated(sum);
    }
}

// The same of f64, by fused multiply-adds in the order of k.
inline void mma_1688(double (&d)[4], const Vec<double, 4> &a, const Vec<double, 2> &b) {
    double all[emulator::WARP][6];
    for (int i = 0; i < 6; i++) {
        std::uint64_t bits;
        std::memcpy(&bits, i < 4 ? &a[i] : &b[i - 4], 8);
        const std::uint64_t *given = emulator::machine().exchange(~0u, bits, "mma");
        for (unsigned l = 0; l < emulator::WARP; l++) std::memcpy(&all[l][i], &given[l], 8);
    }
    const unsigned l = lane();
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = l / 4 + 8 * (i / 2), column = l % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 8; k++) d[i] = std::fma(all[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2], all[column * 4 + k % 4][4 + k / 4], d[i]);
    }
}

// D += A B for A 16x32 by rows, B 32x8 by columns, of bytes of types A and B, each with a sign or without; sums wrap.
template <class A, class B> void mma_16832(std::int32_t (&d)[4], const Vec<std::uint32_t, 4> &a, const Vec<std::uint32_t, 2> &b) {
    const std::uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const auto all = emulator::gather_registers(mine, "mma");
    auto at_a = [&](unsigned row, unsigned k) { return A(all.of[row % 8 * 4 + k % 16 / 4][row / 8 + 2 * (k / 16)] >> 8 * (k % 4)); };
    auto at_b = [&](unsigned k, unsigned column) { return B(all.of[column * 4 + k % 16 / 4][4 + k / 16] >> 8 * (k % 4)); };
    const unsigned l = lane();
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = l / 4 + 8 * (i / 2), column = l % 4 * 2 + i % 2;
        std::uint32_t sum = std::uint32_t(d[i]);
        for (unsigned k = 0; k < 32; k++) sum += std::uint32_t(int(at_a(row, k)) * int(at_b(k, column)));
        d[i] = std::int32_t(sum);
    }
}
