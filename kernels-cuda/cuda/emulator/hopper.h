// The primitives of hopper.h on the emulated machine.
//
// TMA and wgmma look at a copy of shared memory, into which a proxy fence brings what the calling thread wrote: a thread that lacks
// its fence, or makes it after the barrier, lets them see poison. Copies arrive at random times, and each matrix instruction is
// executed when the last thread issues it or when it is waited for.
#pragma once

#include "im2col.h"

constexpr bool ON_HOPPER = true;

#define KERNEL_OF_CLUSTER(threads, blocks, name, parameters)                                                                     \
    static void name parameters;                                                                                                 \
    static const bool registered_##name = emulator::add(#name, emulator::call_of(&name, blocks));                                \
    static void name parameters

// --- shared memory of a cluster: the block's rank above its offset ---

namespace emulator {

constexpr std::uint32_t RANK_SHIFT = 24, OFFSET_MASK = (1u << RANK_SHIFT) - 1;

// The block whose shared memory an address is in, which must not have ended.
inline Block &owner(std::uint32_t at, const char *what) {
    Block &block = machine().peer(at >> RANK_SHIFT);
    if (block.live == 0) machine().fail(std::string(what) + " of a block that has ended");
    return block;
}

inline Mbarrier &mbarrier(std::uint32_t at, const char *what) {
    Block &block = owner(at, what);
    const auto found = block.own.mbarriers.find(at & OFFSET_MASK);
    if (found == block.own.mbarriers.end()) machine().fail(std::string(what) + ": there is no mbarrier");
    return found->second;
}

// Ends the phase if everything has come.
inline void settle(Mbarrier &barrier) {
    if (barrier.missing > 0 || barrier.bytes != 0) return;
    barrier.parity ^= 1;
    barrier.missing = barrier.count;
    machine().wake_all(barrier.waiting);
}

inline void arrive(Mbarrier &barrier, std::int64_t bytes) {
    if (barrier.missing == 0) machine().fail("mbarrier: more arrivals than its count");
    barrier.bytes += bytes;
    barrier.missing--;
    settle(barrier);
}

// Bytes of a copy have come.
inline void complete(std::uint32_t at, std::int64_t bytes) {
    Mbarrier &barrier = mbarrier(at, "a copy's arrival at an mbarrier");
    if (!barrier.published) machine().fail("a copy arrives at an mbarrier without mbarrier_init_fence");
    barrier.bytes -= bytes;
    if (barrier.bytes <= -(1 << 20)) machine().fail("mbarrier: more bytes arrive than it can count");
    settle(barrier);
}

} // namespace emulator

template <class T> std::uint32_t shared_address(const Shared<T> &array, std::int64_t i) {
    return emulator::machine().self().block->own.rank << emulator::RANK_SHIFT | std::uint32_t(array.offset + i * sizeof(T));
}

inline std::uint32_t peer_address(std::uint32_t at, std::uint32_t rank) {
    emulator::machine().peer(rank);
    return rank << emulator::RANK_SHIFT | (at & emulator::OFFSET_MASK);
}

inline std::uint32_t cluster_rank() { return emulator::machine().self().block->own.rank; }
inline void cluster_sync() { emulator::machine().cluster_barrier(); }
inline void block_arrive(int id, unsigned threads) { emulator::machine().block_arrival(id, threads); }

// --- mbarriers ---

inline void mbarrier_init(std::uint32_t at, std::uint32_t count) {
    emulator::Machine &m = emulator::machine();
    if (at % 8 != 0) m.fail("mbarrier_init: an mbarrier is aligned to 8 bytes");
    if (count == 0 || count >= 1u << 20) m.fail("mbarrier_init: a count is 1 to 1048575");
    auto [place, is_new] = m.self().block->own.mbarriers.try_emplace(at & emulator::OFFSET_MASK);
    if (!is_new) m.fail("mbarrier_init: there is an mbarrier already");
    place->second.count = place->second.missing = count;
    place->second.made_by = m.self().thread;
}

inline void mbarrier_init_fence() {
    emulator::Fiber &f = emulator::machine().self();
    for (auto &[at, barrier] : f.block->own.mbarriers) barrier.published |= barrier.made_by == f.thread;
}

inline void mbarrier_arrive(std::uint32_t at) {
    emulator::Machine &m = emulator::machine();
    m.maybe_yield();
    emulator::Mbarrier &barrier = emulator::mbarrier(at, "an arrival at an mbarrier");
    if (at >> emulator::RANK_SHIFT != cluster_rank() && !barrier.published) m.fail("an arrival from another block without mbarrier_init_fence");
    emulator::arrive(barrier, 0);
}

inline void mbarrier_arrive_expect(std::uint32_t at, std::uint32_t bytes) {
    if (at >> emulator::RANK_SHIFT != cluster_rank()) emulator::machine().fail("mbarrier_arrive_expect: of the calling block's own");
    emulator::arrive(emulator::mbarrier(at, "an arrival at an mbarrier"), bytes);
}

inline void mbarrier_wait(std::uint32_t at, std::uint32_t parity) {
    emulator::Machine &m = emulator::machine();
    if (at >> emulator::RANK_SHIFT != cluster_rank()) m.fail("mbarrier_wait: at the calling block's own");
    emulator::Mbarrier &barrier = emulator::mbarrier(at, "a wait at an mbarrier");
    while (barrier.parity == parity) m.wait_in(barrier.waiting, "mbarrier_wait");
}

// --- the tensor memory accelerator ---

namespace emulator {

// Calls f(element or null, offset in the box) for each element of the box from `at` on.
template <class F> void each_of_box(const TensorMap &map, const std::int32_t *at, F f) {
    if (map.im2col) return each_of_pixels(map, at, f);
    std::uint32_t inside[5] = {}, offset = 0;
    const std::uint32_t count = map.box_bytes() / map.size;
    for (std::uint32_t i = 0; i < count; i++, offset += map.size) {
        std::uint64_t address = map.base;
        bool exists = true;
        for (unsigned d = 0; d < map.rank; d++) {
            const std::int64_t index = std::int64_t{at[d]} + inside[d];
            exists = exists && index >= 0 && index <= map.last[d];
            address += index * (d == 0 ? map.size : map.strides[d - 1]);
        }
        if (exists && !Allocations::all().hold(address, map.size)) machine().fail("TMA: an element of the tensor lies in no allocation");
        f(exists ? reinterpret_cast<std::uint8_t *>(address) : nullptr, offset);
        for (unsigned d = 0; d < map.rank && ++inside[d] == map.box[d]; d++) inside[d] = 0;
    }
}

// Where a byte of a box lies, by the permutation of its rows that the map has.
inline std::uint32_t permuted(std::uint32_t at, unsigned swizzle) {
    const std::uint32_t mask = swizzle == 3 ? 0x70 : swizzle == 2 ? 0x30 : swizzle == 1 ? 0x10 : 0;
    return at ^ (at >> 3 & mask);
}

// What the map and the place must be, for a rank and a mode.
inline void check_box(const TensorMap &map, unsigned rank, std::uint32_t at, const char *what, bool im2col = false) {
    Machine &m = machine();
    if (map.mark != TensorMap::MARK) m.fail(std::string(what) + ": no tensor map");
    if (map.rank != rank) m.fail(std::string(what) + ": the map has another rank");
    if (map.im2col != im2col) m.fail(std::string(what) + ": the map is for the other kind of copies");
    if (at % 128 != 0) m.fail(std::string(what) + ": the shared address is not aligned to 128 bytes");
    const std::uint32_t offset = at & OFFSET_MASK;
    if (offset + map.box_bytes() > m.dynamic_shared) m.fail(std::string(what) + ": the box exceeds shared memory");
}

// A float as copies of type tf32 bring it: rounded to 10 bits of mantissa, to the nearest.
inline void round_to_tf32(std::uint8_t *value) {
    std::uint32_t bits;
    std::memcpy(&bits, value, 4);
    if ((bits & 0x7F800000) != 0x7F800000) bits = (bits + 0xFFF + (bits >> 13 & 1)) & ~0x1FFFu;
    std::memcpy(value, &bits, 4);
}

inline void load_box(std::uint32_t to, const TensorMap &map, std::uint32_t barrier, const std::int32_t *at) {
    Block &block = owner(to, "a copy to shared memory");
    each_of_box(map, at, [&](const std::uint8_t *from, std::uint32_t offset) {
        const std::uint32_t place = permuted((to & OFFSET_MASK) + offset, map.swizzle);
        std::uint8_t value[8] = {};
        if (from) std::memcpy(value, from, map.size);
        if (map.type == TensorMap::TF32) round_to_tf32(value);
        std::memcpy(block.shared + place, value, map.size);
        std::memcpy(block.own.seen + place, value, map.size);
    });
    complete(barrier, map.box_bytes());
}

} // namespace emulator

namespace emulator {

// Copies what begins at `from` to the same place of the given blocks, at some time.
inline void load_later(std::uint32_t to, const TensorMap &map, std::uint32_t mbarrier, const std::vector<std::int32_t> &from, std::uint16_t blocks) {
    Machine &m = machine();
    if (blocks == 0) m.fail("tma_load: to no block");
    for (unsigned rank = 0; rank < 16; rank++)
        if (blocks >> rank & 1) {
            const std::uint32_t there = peer_address(to, rank), barrier = peer_address(mbarrier, rank);
            m.later([=] { load_box(there, map, barrier, from.data()); });
        }
}

// The one block that a copy without multicast goes to.
inline std::uint16_t own_block(std::uint32_t to, std::uint32_t mbarrier) {
    if ((to ^ mbarrier) >> RANK_SHIFT != 0) machine().fail("tma_load: memory and mbarrier of different blocks");
    return std::uint16_t(1u << (to >> RANK_SHIFT));
}

} // namespace emulator

template <int RANK>
void tma_load_multicast(std::uint32_t to, const TensorMap &map, std::uint32_t mbarrier, const std::int32_t (&at)[RANK], std::uint16_t blocks) {
    emulator::check_box(map, RANK, to, "tma_load");
    emulator::load_later(to, map, mbarrier, {at, at + RANK}, blocks);
}

template <int RANK> void tma_load(std::uint32_t to, const TensorMap &map, std::uint32_t mbarrier, const std::int32_t (&at)[RANK]) {
    tma_load_multicast(to, map, mbarrier, at, emulator::own_block(to, mbarrier));
}

template <int RANK>
void tma_load_im2col_multicast(std::uint32_t to, const TensorMap &map, std::uint32_t mbarrier, const std::int32_t (&at)[RANK],
                               const std::uint16_t (&offsets)[RANK - 2], std::uint16_t blocks) {
    emulator::check_box(map, RANK, to, "tma_load_im2col", true);
    std::vector<std::int32_t> from(at, at + RANK);
    from.insert(from.end(), offsets, offsets + RANK - 2);
    emulator::check_pixels(map, from.data());
    emulator::load_later(to, map, mbarrier, from, blocks);
}

template <int RANK>
void tma_load_im2col(std::uint32_t to, const TensorMap &map, std::uint32_t mbarrier, const std::int32_t (&at)[RANK], const std::uint16_t (&offsets)[RANK - 2]) {
    tma_load_im2col_multicast(to, map, mbarrier, at, offsets, emulator::own_block(to, mbarrier));
}

template <int RANK> void tma_store(const TensorMap &map, const std::int32_t (&at)[RANK], std::uint32_t from) {
    emulator::Machine &m = emulator::machine();
    emulator::check_box(map, RANK, from, "tma_store");
    auto store = std::make_shared<emulator::BulkStore>();
    auto &groups = m.self().own.stores;
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back(store);
    const std::vector<std::int32_t> to(at, at + RANK);
    m.later([=, &m] {
        emulator::Block &block = emulator::owner(from, "a store reads shared memory");
        std::vector<std::uint8_t> box(map.box_bytes());
        for (std::uint32_t i = 0; i < box.size(); i++) box[i] = block.own.seen[emulator::permuted((from & emulator::OFFSET_MASK) + i, map.swizzle)];
        store->read = true;
        m.later([=] {
            emulator::each_of_box(map, to.data(), [&](std::uint8_t *place, std::uint32_t offset) {
                if (place) std::memcpy(place, box.data() + offset, map.size);
            });
            store->written = true;
        });
    });
}

inline void tma_commit() {
    auto &groups = emulator::machine().self().own.stores;
    groups.resize(groups.empty() ? 2 : groups.size() + 1);
}

namespace emulator {

template <class Done> void wait_for_stores(unsigned left, Done done) {
    auto &groups = machine().self().own.stores;
    for (std::size_t g = 0; g + left + 1 < groups.size(); g++)
        for (const auto &store : groups[g])
            while (!done(*store)) machine().yield();
}

} // namespace emulator

template <int LEFT> void tma_wait_read() {
    emulator::wait_for_stores(LEFT, [](const emulator::BulkStore &store) { return store.read; });
}
template <int LEFT> void tma_wait() {
    emulator::wait_for_stores(LEFT, [](const emulator::BulkStore &store) { return store.written; });
}

inline void tma_prefetch(const TensorMap &map) { emulator::check_box(map, map.rank, 0, "tma_prefetch", map.im2col); }

inline void proxy_fence() {
    emulator::Fiber &f = emulator::machine().self();
    for (const auto &[offset, bytes] : f.own.written) std::memcpy(f.block->own.seen + offset, f.block->shared + offset, bytes);
    f.own.written.clear();
}

// --- matrices of a warpgroup ---

namespace emulator {

inline void check_registers(int count) {
    if (count < 24 || count > 256 || count % 8 != 0) machine().fail("registers: a thread has 24 to 256, a multiple of 8");
}

} // namespace emulator

template <int COUNT> void registers_shrink() {
    emulator::Fiber &f = emulator::machine().self();
    emulator::check_registers(COUNT);
    if (COUNT > f.own.registers) emulator::machine().fail("registers_shrink: the thread has fewer");
    f.block->own.registers += f.own.registers - COUNT;
    f.own.registers = COUNT;
    emulator::machine().wake_all(f.block->own.wants_registers);
}

template <int COUNT> void registers_grow() {
    emulator::Fiber &f = emulator::machine().self();
    emulator::check_registers(COUNT);
    const int more = COUNT - f.own.registers;
    if (more < 0) emulator::machine().fail("registers_grow: the thread has more");
    while (f.block->own.registers < more) emulator::machine().wait_in(f.block->own.wants_registers, "registers_grow");
    f.block->own.registers -= more;
    f.own.registers = COUNT;
}

struct tf32 {
    float value;
};

namespace emulator {

// Where an element of a wgmma's operand lies, as its descriptor says: row `row` of 64 or N, and k.
template <unsigned SIZE> const std::uint8_t *element(const Block &block, std::uint64_t descriptor, unsigned row, unsigned k, bool by_k) {
    const std::uint32_t start = (descriptor & 0x3FFF) << 4, leading = (descriptor >> 16 & 0x3FFF) << 4, stride = (descriptor >> 32 & 0x3FFF) << 4;
    const unsigned width = descriptor >> 62 == 1 ? 128 : descriptor >> 62 == 2 ? 64 : descriptor >> 62 == 3 ? 32 : 16; // bytes of a permuted row
    std::uint32_t at = start;
    if (by_k && width > 16) at += row / 8 * stride + row % 8 * width + k * SIZE;
    else if (by_k) at += row / 8 * stride + k * SIZE / 16 * leading + row % 8 * 16 + k * SIZE % 16;
    else at += row * SIZE % width + row * SIZE / width * leading + k % 8 * width + k / 8 * stride;
    at = permuted(at, width == 128 ? 3 : width == 64 ? 2 : width == 32 ? 1 : 0);
    if (at + SIZE > machine().dynamic_shared) machine().fail("wgmma: a descriptor leads beyond shared memory");
    return block.own.seen + at;
}

// The number there, as the instructions multiply it: of tf32 the upper bits.
template <class T> auto number(const std::uint8_t *at) {
    std::conditional_t<sizeof(T) == 4, std::uint32_t, T> value;
    std::memcpy(&value, at, sizeof(T));
    if constexpr (sizeof(T) == 4) return float_of(value & ~0x1FFFu);
    else if constexpr (sizeof(T) == 2) return to_float(value);
    else return int(value);
}

// Floats are summed exactly, and the sum is truncated; integers wrap.
inline float sum_of(const float *a, const float *b, unsigned count, float before) {
    double sum = before;
    for (unsigned k = 0; k < count; k++) sum += double(a[k]) * b[k];
    return truncated(sum);
}
inline std::int32_t sum_of(const int *a, const int *b, unsigned count, std::int32_t before) {
    std::uint32_t sum = std::uint32_t(before);
    for (unsigned k = 0; k < count; k++) sum += std::uint32_t(a[k] * b[k]);
    return std::int32_t(sum);
}

template <class A, class B, class Sum, int N> void multiply(const Block &block, Wgmma &w, bool a_by_k, bool b_by_k) {
    constexpr unsigned K = 32 / sizeof(A);
    decltype(number<A>(nullptr)) a[64][K];
    decltype(number<B>(nullptr)) b[N][K];
    for (unsigned k = 0; k < K; k++) {
        for (unsigned i = 0; i < 64; i++) a[i][k] = number<A>(element<sizeof(A)>(block, w.a, i, k, a_by_k));
        for (unsigned j = 0; j < N; j++) b[j][k] = number<B>(element<sizeof(B)>(block, w.b, j, k, b_by_k));
    }
    for (unsigned t = 0; t < WARPGROUP; t++)
        for (unsigned i = 0; i < N / 2; i++) {
            const unsigned row = t / 32 * 16 + t % 32 / 4 + 8 * (i / 2 % 2), column = i / 4 * 8 + t % 4 * 2 + i % 2;
            Sum &sum = static_cast<Sum *>(w.sums[t])[i];
            sum = sum_of(a[row], b[column], K, w.add ? sum : 0);
        }
}

// Executes the oldest instruction of a warpgroup.
inline void execute_oldest(Warpgroup &group) {
    group.queue.front().multiply(group.queue.front());
    group.queue.pop_front();
    group.first++;
}

} // namespace emulator

inline void wgmma_fence() { emulator::machine().self().own.fenced = true; }

namespace emulator {

// One thread's part of issuing an instruction.
template <class A, class B, int N, class Sum> void issue(Sum (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool add, bool a_by_k, bool b_by_k) {
    Machine &m = machine();
    Fiber &f = m.self();
    if (!f.own.fenced) m.fail("wgmma without wgmma_fence");
    Warpgroup &group = f.block->own.warpgroups[f.thread / WARPGROUP];
    const unsigned at = f.own.wgmmas++ - group.first;
    if (at == group.queue.size()) group.queue.emplace_back();
    Wgmma &w = group.queue[at];
    if (w.issued == 0) {
        w.a = a, w.b = b, w.add = add, w.group = f.own.groups;
        w.multiply = [block = f.block, a_by_k, b_by_k](Wgmma &all) { multiply<A, B, Sum, N>(*block, all, a_by_k, b_by_k); };
    } else if (w.a != a || w.b != b || w.add != add || w.group != f.own.groups) m.fail("wgmma: the threads of a warpgroup disagree");
    w.sums[f.thread % WARPGROUP] = d;
    if (++w.issued < WARPGROUP) return;
    m.wake_all(group.waiting);
    if (at == 0 && m.random() % 2) execute_oldest(group);
}

} // namespace emulator

template <class T, int N, bool A_BY_K, bool B_BY_K> void wgmma(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool add) {
    static_assert(sizeof(T) == 2 || (A_BY_K && B_BY_K), "32-bit operands lie along k");
    emulator::issue<T, T, N>(d, a, b, add, A_BY_K, B_BY_K);
}

template <class A, class B, int N> void wgmma_of_bytes(std::int32_t (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool add) {
    static_assert(sizeof(A) == 1 && sizeof(B) == 1, "bytes, with a sign or without");
    emulator::issue<A, B, N>(d, a, b, add, true, true);
}

inline void wgmma_commit() { emulator::machine().self().own.groups++; }

template <int LEFT> void wgmma_wait() {
    emulator::Machine &m = emulator::machine();
    emulator::Fiber &f = m.self();
    f.own.fenced = false;
    if (f.own.groups > LEFT) f.own.waited = std::max(f.own.waited, f.own.groups - LEFT);
    emulator::Warpgroup &group = f.block->own.warpgroups[f.thread / emulator::WARPGROUP];
    while (!group.queue.empty() && group.queue.front().group < f.own.waited) {
        if (group.queue.front().issued < emulator::WARPGROUP) m.wait_in(group.waiting, "wgmma, which all four warps of a warpgroup issue");
        else emulator::execute_oldest(group);
    }
}

// The inverse of ldmatrix_x4: lane l names the row l % 8 of matrix l / 8 and gives, of each matrix, elements 2 (l % 4) and
// 2 (l % 4) + 1 of row l / 4.
template <class T> void stmatrix_x4(const Shared<T> &to, std::int64_t i, const Vec<std::uint32_t, 4> &v, bool transposed = false) {
    static_assert(sizeof(T) == 2, "stmatrix stores 16-bit elements");
    emulator::Machine &m = emulator::machine();
    to.bounds(i, 8);
    if ((to.offset + i * 2) % 16 != 0) m.fail("stmatrix: a row is not aligned to 16 bytes");
    const std::uint64_t *given = m.exchange(~0u, std::uint64_t(i), "stmatrix");
    std::int64_t rows[emulator::WARP];
    std::copy(given, given + emulator::WARP, rows);
    const unsigned l = lane();
    for (unsigned matrix = 0; matrix < 4; matrix++)
        for (unsigned k = 0; k < 2; k++) {
            const unsigned row = transposed ? l % 4 * 2 + k : l / 4, column = transposed ? l / 4 : l % 4 * 2 + k;
            to.write(rows[matrix * 8 + row] + column, T{std::uint16_t(v[matrix] >> 16 * k)});
        }
}

template <class T> void stmatrix_x4_trans(const Shared<T> &to, std::int64_t i, const Vec<std::uint32_t, 4> &v) { stmatrix_x4(to, i, v, true); }
