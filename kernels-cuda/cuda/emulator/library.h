// What the emulated driver calls, with C names. Included once, after the kernels.
#pragma once

#include "machine.h"
#include "registry.h"

#include <cstdio>

extern "C" {

// The kernel of this name, or null.
const void *gradus_emulator_find(const char *name) {
    auto found = emulator::kernels().find(name);
    return found == emulator::kernels().end() ? nullptr : &found->second;
}

// How many parameters a kernel has; the sizes of the first `most` of them, in bytes.
std::size_t gradus_emulator_parameters(const void *kernel, std::size_t *sizes, std::size_t most) {
    const auto &all = static_cast<const emulator::Call *>(kernel)->sizes;
    for (std::size_t i = 0; i < all.size() && i < most; i++) sizes[i] = all[i];
    return all.size();
}

// A block of global memory begins or ceases to exist.
void gradus_emulator_allocate(std::uintptr_t base, std::size_t bytes) { emulator::Allocations::all().add(base, bytes); }
void gradus_emulator_free(std::uintptr_t base) { emulator::Allocations::all().remove(base); }

// Runs a grid to its end. 0, or 1 with a sentence on what is wrong.
int gradus_emulator_launch(const void *kernel, const unsigned *grid, const unsigned *block, std::size_t shared, int cooperative,
                           unsigned seed, void **arguments, char *message, std::size_t length) {
    const auto &call = *static_cast<const emulator::Call *>(kernel);
    const std::string wrong = emulator::machine().run({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared,
                                                      cooperative != 0, call.cluster, seed, [&] { call(arguments); });
    std::snprintf(message, length, "%s", wrong.c_str());
    return wrong.empty() ? 0 : 1;
}
}
