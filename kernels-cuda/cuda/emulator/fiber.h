// A fiber: a stack of its own, entered and left by hand. One stands for each CUDA thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

#if defined(__x86_64__)

extern "C" void gradus_emulator_switch(void **from, void *to);

// Saves what the calling convention asks a callee to save, and changes stacks. Weak, because several translation units hold it.
asm(R"(
    .text
    .weak gradus_emulator_switch
    .type gradus_emulator_switch, @function
gradus_emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size gradus_emulator_switch, .-gradus_emulator_switch
)");

// Where a flow of control goes on.
struct Place {
    void *stack = nullptr;

    void leave_for(Place &other) { gradus_emulator_switch(&stack, other.stack); }

    // Starts `entry` on `memory` when next entered.
    void prepare(std::uint8_t *memory, std::size_t size, void (*entry)()) {
        auto top = (reinterpret_cast<std::uintptr_t>(memory) + size) & ~std::uintptr_t{15};
        void **at = reinterpret_cast<void **>(top);
        *--at = nullptr; // what `entry` would return to, and what aligns the stack for it
        *--at = reinterpret_cast<void *>(entry);
        for (int saved = 0; saved < 6; saved++) *--at = nullptr;
        stack = at;
    }
};

#else

struct Place {
    ucontext_t context;

    void leave_for(Place &other) { swapcontext(&context, &other.context); }

    void prepare(std::uint8_t *memory, std::size_t size, void (*entry)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = memory;
        context.uc_stack.ss_size = size;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
};

#endif

// Stacks, kept from launch to launch.
class Stacks {
  public:
    static constexpr std::size_t SIZE = 64 * 1024;

    std::uint8_t *at(std::size_t i) {
        while (stacks.size() <= i) stacks.emplace_back(new std::uint8_t[SIZE]);
        return stacks[i].get();
    }

  private:
    std::vector<std::unique_ptr<std::uint8_t[]>> stacks;
};

} // namespace emulator
