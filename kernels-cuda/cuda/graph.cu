// Numbers that change from one replay of a graph to the next, written where its kernels find them.
//
// Launch: a block of NUMBERS threads for as many numbers, which come as a parameter: so the host waits for nothing.
#include "types.h"

constexpr int NUMBERS = 32;

struct Numbers {
    u64 of[NUMBERS];
};

KERNEL_OF(NUMBERS, set_numbers, (PARAMETER Numbers numbers, u32 count, Global<u64> y)) {
    const u32 i = thread_x();
    if (i < count) y[i] = numbers.of[i];
}
