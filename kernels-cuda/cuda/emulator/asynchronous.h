// What Hopper's blocks and threads have beyond those of other GPUs: mbarriers, copies under way, matrix instructions of warpgroups,
// and the view of shared memory that asynchronous units have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace emulator {

constexpr unsigned WARPGROUP = 128;

// Counts arrivals and bytes of copies; a phase ends when all have come.
struct Mbarrier {
    std::uint32_t count = 0, missing = 0;
    std::int64_t bytes = 0; // expected and not yet arrived
    std::uint32_t parity = 0;
    unsigned made_by = 0;
    bool published = false; // whether a fence has followed its initialisation
    std::vector<unsigned> waiting;
};

// A store from shared to global memory.
struct BulkStore {
    bool read = false, written = false;
};

// A matrix instruction, which the threads of a warpgroup issue one by one.
struct Wgmma {
    unsigned issued = 0; // by so many threads
    std::uint64_t a = 0, b = 0;
    bool add = false;
    unsigned group = 0;
    void *sums[WARPGROUP] = {}; // of floats, or of 32-bit integers
    std::function<void(Wgmma &)> multiply;
};

// The instructions that have not been executed yet, the oldest of which has the number `first`.
struct Warpgroup {
    std::deque<Wgmma> queue;
    unsigned first = 0;
    std::vector<unsigned> waiting;
};

// A thread's part.
struct AsynchronousFiber {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> written; // shared memory (offset and bytes) since the last proxy fence
    std::vector<std::vector<std::shared_ptr<BulkStore>>> stores;  // groups; the last is open
    unsigned wgmmas = 0, groups = 0, waited = 0;                  // issued, committed, and groups waited for
    bool fenced = false;                                          // since it could last touch the sums
    int registers = 0;
};

// A block's part.
struct AsynchronousBlock {
    unsigned rank = 0, cluster = 0;    // in the cluster, and the index of the cluster's first resident block
    std::uint8_t *seen = nullptr;      // shared memory as TMA and wgmma see it; null where nobody looks
    std::map<std::uint32_t, Mbarrier> mbarriers;
    std::map<unsigned, Warpgroup> warpgroups;
    int registers = 0;                 // that nobody has
    std::vector<unsigned> wants_registers;
};

} // namespace emulator
