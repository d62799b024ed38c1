// The machine: runs the threads of a grid as fibers, in an order drawn from a seed, and watches what they do.
//
// Each block has shared memory of its own, poisoned at the start; blocks run one after the other, except in a cooperative
// launch, where all are resident, and those of a cluster, which are so together. A thread runs until it must wait for others; when nobody can go on, that is a deadlock,
// and the report says who waits where. Whatever is found wrong ends the launch with a sentence: the first one counts.
#pragma once

#include "asynchronous.h"
#include "fiber.h"
#include "memory.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace emulator {

constexpr unsigned WARP = 32;
constexpr std::size_t SHARED_BYTES = 232448; // what a block may have on Hopper
constexpr std::uint8_t POISON = 0xFF;         // NaN, and an index that is out of bounds
constexpr unsigned REGISTERS = 65536;         // of a multiprocessor

struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
    unsigned volume() const { return x * y * z; }
};

struct Block;

// What threads gather at: a barrier of a block, a warp, or the grid.
struct Gathering {
    unsigned arrived = 0;
    std::vector<unsigned> waiting; // fibers
};

struct Fiber {
    Place place;
    unsigned thread = 0; // in its block
    Block *block = nullptr;
    bool done = false;
    const char *waits_for = nullptr;
    unsigned warp_epoch = 0;
    std::vector<std::vector<std::function<void()>>> copies; // groups of asynchronous copies; the last is open
    AsynchronousFiber own;
};

// A collective of a warp: each lane leaves a value and takes what the whole warp left.
struct Exchange {
    std::uint32_t mask = 0, arrived = 0;
    std::uint64_t values[WARP] = {};
    std::uint64_t given[WARP] = {}; // what all left in the last round
    const char *name = nullptr;
    std::vector<unsigned> waiting;
};

struct Block {
    Dim3 index;
    unsigned threads = 0, live = 0, epoch = 0;
    std::uint8_t *shared = nullptr; // SHARED_BYTES
    std::size_t shared_used = 0;
    std::map<const void *, std::size_t> arrays; // static arrays by their declaration
    std::map<int, Gathering> barriers;
    unsigned voted = 0, votes_done = 0; // threads in this vote, and votes before it
    bool votes[2] = {};                 // of this one and the last
    std::vector<std::map<std::uint32_t, Exchange>> exchanges; // by warp, then by mask
    RaceRecorder races;
    AsynchronousBlock own;
};

class Machine {
  public:
    Dim3 grid, block;
    std::size_t dynamic_shared = 0;
    unsigned cluster = 0; // blocks of a cluster, 0 for kernels without Hopper's units

    // Runs a grid; what was found wrong, or nothing.
    std::string run(Dim3 grid_, Dim3 block_, std::size_t dynamic, bool cooperative, unsigned cluster_, unsigned seed, std::function<void()> kernel) {
        grid = grid_, block = block_, dynamic_shared = dynamic, cluster = cluster_, body = std::move(kernel);
        order.seed(seed);
        error.clear();
        if (block.volume() == 0 || block.volume() > 1024) return "a block has 1 to 1024 threads";
        if (grid.volume() == 0) return "a grid has at least one block";
        if (dynamic > SHARED_BYTES) return "a block has at most 232448 bytes of shared memory";
        if (cluster > 1 && grid.x % cluster != 0) return "the grid is no whole number of clusters";
        const unsigned blocks = grid.volume(), together = cooperative ? blocks : std::max(cluster, 1u);
        for (unsigned first = 0; first < blocks && error.empty(); first += together) resident(first, together);
        return error;
    }

    Fiber &self() { return fibers[current]; }

    // Ends the launch. Does not return to the kernel.
    [[noreturn]] void fail(const std::string &what) {
        if (error.empty()) {
            std::ostringstream out;
            const Dim3 &b = self().block->index;
            out << what << " (block " << b.x << "," << b.y << "," << b.z << " thread " << self().thread << ")";
            error = out.str();
        }
        if (scheduling) throw Failed{};
        self().place.leave_for(scheduler); // which drops all fibers
        std::abort();
    }

    // Waits until all of `count` threads have arrived at a gathering; the last one wakes the others.
    void gather(Gathering &at, unsigned count, const char *name) {
        if (++at.arrived > count) fail(std::string(name) + ": more threads arrive than it waits for");
        if (at.arrived < count) {
            at.waiting.push_back(current);
            return wait(name);
        }
        release(at);
    }

    // The barrier of a block; named barriers may be for some of its warps.
    void block_barrier(int id, unsigned count) {
        Block &b = *self().block;
        if (count % WARP != 0 && count != b.threads) fail("bar.sync: a named barrier counts whole warps");
        Gathering &at = b.barriers[id];
        // For the recorder a barrier of some warps orders all of them: it misses races then, and accuses nobody wrongly.
        if (at.arrived + 1 == count) b.epoch++;
        gather(at, count, "bar.sync");
    }

    // The barrier of the whole block, which says whether `p` holds for any thread.
    bool block_vote(bool p) {
        Block &b = *self().block;
        const unsigned round = b.votes_done;
        b.votes[round % 2] |= p;
        b.voted = b.voted + 1;
        if (b.voted == b.threads) b.voted = 0, b.votes_done++, b.votes[b.votes_done % 2] = false;
        block_barrier(0, b.threads);
        return b.votes[round % 2];
    }

    // Arrives at a named barrier that others wait at.
    void block_arrival(int id, unsigned count) {
        if (count % WARP != 0) fail("bar.arrive: a named barrier counts whole warps");
        Block &b = *self().block;
        Gathering &at = b.barriers[id];
        if (++at.arrived > count) fail("bar.arrive: more threads arrive than it waits for");
        if (at.arrived < count) return;
        b.epoch++;
        release(at);
    }

    void grid_barrier() {
        unsigned all = 0;
        for (Block &b : blocks) all += b.threads;
        if (blocks.size() != grid.volume()) fail("grid sync in a launch that is not cooperative");
        if (everybody.arrived + 1 == all) for (Block &b : blocks) b.epoch++;
        gather(everybody, all, "grid sync");
    }

    // All threads of the calling block's cluster.
    void cluster_barrier() {
        const unsigned first = self().block->own.cluster;
        for (unsigned i = first; i < first + std::max(cluster, 1u); i++)
            if (clusters[first].arrived + 1 == block.volume() * std::max(cluster, 1u)) blocks[i].epoch++;
        gather(clusters[first], block.volume() * std::max(cluster, 1u), "cluster_sync");
    }

    // The block of this rank in the calling block's cluster.
    Block &peer(unsigned rank) {
        if (rank >= std::max(cluster, 1u)) fail("block " + std::to_string(rank) + " of a cluster of " + std::to_string(std::max(cluster, 1u)));
        return blocks[self().block->own.cluster + rank];
    }

    std::vector<unsigned> watchers; // who waits for a counter of the grid's

    // Waits in a list, until `wake_all`.
    void wait_in(std::vector<unsigned> &waiting, const char *name) {
        waiting.push_back(current);
        wait(name);
    }

    void wake_all(std::vector<unsigned> &waiting) {
        for (unsigned fiber : waiting) wake(fiber);
        waiting.clear();
    }

    // Has something done for the calling thread at a time that nobody knows.
    void later(std::function<void()> act) { under_way.push_back({current, std::move(act)}); }

    // Lets others run, and what is under way arrive.
    void yield() {
        ready.push_back(current);
        self().place.leave_for(scheduler);
    }

    // Leaves `value` and gives what every lane of `mask` left.
    const std::uint64_t *exchange(std::uint32_t mask, std::uint64_t value, const char *name) {
        Fiber &f = self();
        const unsigned lane = f.thread % WARP;
        if (!(mask >> lane & 1)) fail(std::string(name) + ": the mask lacks the calling lane");
        const unsigned first = f.thread / WARP * WARP, size = std::min(WARP, f.block->threads - first);
        if (size < WARP && mask >> size) fail(std::string(name) + ": the mask names lanes that do not exist");
        Exchange &x = f.block->exchanges[f.thread / WARP][mask];
        if (x.arrived == 0) x.name = name;
        if (x.name != name) fail(std::string("lanes of a warp meet in ") + x.name + " and " + name);
        x.values[lane] = value;
        x.arrived |= 1u << lane;
        if (x.arrived != mask) {
            x.waiting.push_back(current);
            wait(name);
        } else {
            std::copy(std::begin(x.values), std::end(x.values), std::begin(x.given));
            x.arrived = 0;
            // All lanes go on from one epoch, later than any that one of them was in.
            unsigned epoch = f.warp_epoch;
            for (unsigned fiber : x.waiting) epoch = std::max(epoch, fibers[fiber].warp_epoch);
            for (unsigned fiber : x.waiting) fibers[fiber].warp_epoch = epoch + 1, wake(fiber);
            f.warp_epoch = epoch + 1;
            x.waiting.clear();
        }
        return x.given;
    }

    // Lets another thread run, now and then: what a kernel may not rely on is order.
    void maybe_yield() {
        if (order() % 8 == 0) {
            ready.push_back(current);
            self().place.leave_for(scheduler);
        }
    }

    unsigned random() { return order(); }

    static Machine &get() {
        static thread_local Machine machine;
        return machine;
    }

  private:
    struct Failed {};
    struct UnderWay {
        unsigned by;
        std::function<void()> act;
    };

    std::vector<Fiber> fibers;
    std::vector<Block> blocks;
    std::vector<std::unique_ptr<std::uint8_t[]>> arenas; // shared memory, kept from launch to launch
    std::vector<std::unique_ptr<std::uint8_t[]>> seen;   // the same as asynchronous units see it
    std::vector<unsigned> ready;
    unsigned current = 0;
    Place scheduler;
    Gathering everybody;
    std::map<unsigned, Gathering> clusters; // by their first block
    std::vector<UnderWay> under_way;
    bool scheduling = false; // whether no thread runs
    Stacks stacks;
    std::mt19937 order;
    std::function<void()> body;
    std::string error;

    static void entry() {
        Machine &machine = get();
        machine.body();
        Fiber &f = machine.self();
        if (f.own.groups != f.own.waited || f.own.wgmmas != machine.wgmmas_of(f)) machine.fail("a thread ends before its wgmma are waited for");
        f.done = true;
        f.block->live--;
        f.place.leave_for(machine.scheduler);
        std::abort();
    }

    void wait(const char *name) {
        self().waits_for = name;
        self().place.leave_for(scheduler);
        self().waits_for = nullptr;
    }

    // The shared memory of the i-th resident block.
    static std::uint8_t *poisoned(std::vector<std::unique_ptr<std::uint8_t[]>> &of, std::size_t i) {
        while (of.size() <= i) {
            of.emplace_back(new std::uint8_t[SHARED_BYTES]);
            std::memset(of.back().get(), POISON, SHARED_BYTES);
        }
        return of[i].get();
    }

    static unsigned wgmmas_of(const Fiber &f) {
        const auto found = f.block->own.warpgroups.find(f.thread / WARPGROUP);
        return found == f.block->own.warpgroups.end() ? 0 : found->second.first;
    }

    void release(Gathering &at) {
        at.arrived = 0;
        wake_all(at.waiting);
    }

    void wake(unsigned fiber) { ready.push_back(fiber); }

    void resident(unsigned first, unsigned count) {
        const unsigned threads = block.volume();
        // What the last blocks used of their memory is poisoned again; the rest still is.
        for (std::size_t i = 0; i < blocks.size(); i++) {
            std::memset(arenas[i].get(), POISON, std::min(SHARED_BYTES, blocks[i].shared_used));
            if (i < seen.size()) std::memset(seen[i].get(), POISON, std::min(SHARED_BYTES, blocks[i].shared_used));
        }
        blocks.clear();
        blocks.resize(count);
        fibers.clear();
        fibers.resize(count * threads);
        ready.clear();
        watchers.clear();
        everybody = {};
        clusters.clear();
        under_way.clear();
        for (unsigned i = 0; i < count; i++) {
            Block &b = blocks[i];
            const unsigned at = first + i;
            b.index = {at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y};
            b.threads = b.live = threads;
            b.shared = poisoned(arenas, i);
            b.own.rank = cluster > 1 ? i % cluster : 0;
            b.own.cluster = i - b.own.rank;
            if (cluster > 0) b.own.seen = poisoned(seen, i);
            b.shared_used = (dynamic_shared + 127) / 128 * 128;
            b.exchanges.resize((threads + WARP - 1) / WARP);
        }
        for (unsigned i = 0; i < fibers.size(); i++) {
            Fiber &f = fibers[i];
            f.thread = i % threads;
            f.block = &blocks[i / threads];
            f.own.registers = int(std::min(REGISTERS / threads / 8 * 8, 256u));
            f.place.prepare(stacks.at(i), Stacks::SIZE, entry);
            ready.push_back(i);
        }
        schedule();
    }

    void schedule() {
        unsigned left = fibers.size();
        const unsigned lateness = 8u << 4 * (order() % 3); // up to 2048: mostly when nobody can go on
        while (left > 0 && error.empty()) {
            if (!under_way.empty() && (ready.empty() || order() % lateness == 0)) {
                arrive();
                continue;
            }
            if (ready.empty()) {
                error = deadlock();
                return;
            }
            const unsigned pick = order() % ready.size();
            current = ready[pick];
            ready[pick] = ready.back();
            ready.pop_back();
            scheduler.leave_for(fibers[current].place);
            if (fibers[current].done) left--;
        }
        while (!under_way.empty() && error.empty()) arrive();
    }

    // Something that is under way is done.
    void arrive() {
        const unsigned pick = order() % under_way.size();
        const UnderWay next = std::move(under_way[pick]);
        under_way[pick] = std::move(under_way.back());
        under_way.pop_back();
        current = next.by;
        scheduling = true;
        try {
            next.act();
        } catch (const Failed &) { // said in `error`
        }
        scheduling = false;
    }

    std::string deadlock() {
        std::map<std::string, unsigned> who;
        for (const Fiber &f : fibers)
            if (!f.done) {
                std::ostringstream out;
                out << (f.waits_for ? f.waits_for : "nothing") << " in block " << f.block->index.x << " warp " << f.thread / WARP;
                who[out.str()]++;
            }
        std::ostringstream out;
        out << "deadlock:";
        for (const auto &[what, count] : who) out << " " << count << " threads wait for " << what << ";";
        return out.str();
    }
};

inline Machine &machine() { return Machine::get(); }

} // namespace emulator
