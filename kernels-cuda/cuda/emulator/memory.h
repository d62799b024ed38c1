// What the machine knows of memory: which addresses a kernel may touch, and who touched a shared one since the last barrier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

namespace emulator {

// The blocks of global memory that exist. Changed only while no kernel runs.
class Allocations {
  public:
    void add(std::uintptr_t base, std::size_t bytes) { blocks[base] = bytes, last = {0, 0}; }
    void remove(std::uintptr_t base) { blocks.erase(base), last = {0, 0}; }

    static Allocations &all() {
        static Allocations allocations;
        return allocations;
    }

    // Whether all of the bytes lie in one block.
    bool hold(std::uintptr_t at, std::size_t bytes) {
        if (at - last.first < last.second && bytes <= last.second - (at - last.first)) return true;
        auto next = blocks.upper_bound(at);
        if (next == blocks.begin()) return false;
        last = *--next;
        const auto &[base, size] = last;
        return at - base <= size && bytes <= size - (at - base);
    }

  private:
    std::map<std::uintptr_t, std::size_t> blocks;
    std::pair<std::uintptr_t, std::size_t> last{0, 0}; // where the last access was
};

// Finds two threads of a block that touch one place, one of them writing, with nothing between that orders them: a barrier of the
// block, or for lanes of a warp a collective of the warp.
class RaceRecorder {
  public:
    struct Access {
        unsigned thread = ~0u, block_epoch = 0, warp_epoch = 0;
    };

    // Records an access; what it races with, or nothing.
    std::string touch(std::size_t at, const Access &now, bool writes) {
        Word &word = words[at];
        if (races(word.write, now)) return writes ? "two writes" : "a read and a write";
        if (writes) {
            for (const Access &read : word.reads)
                if (races(read, now)) return "a write and a read";
            word.write = now;
            word.reads[0] = word.reads[1] = {};
        } else if (word.reads[0].thread == ~0u || stale(word.reads[0], now) || word.reads[0].thread == now.thread) {
            word.reads[0] = now;
        } else {
            word.reads[1] = now; // two readers suffice: a writer is another thread than one of them
        }
        return {};
    }

  private:
    struct Word {
        Access write, reads[2];
    };
    std::unordered_map<std::size_t, Word> words;

    static bool stale(const Access &before, const Access &now) { return before.block_epoch != now.block_epoch; }

    static bool races(const Access &before, const Access &now) {
        if (before.thread == ~0u || before.thread == now.thread || stale(before, now)) return false;
        const bool same_warp = before.thread / 32 == now.thread / 32;
        return !(same_warp && before.warp_epoch != now.warp_epoch);
    }
};

} // namespace emulator
