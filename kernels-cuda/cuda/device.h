// What kernels may use of a device. One list of primitives with two meanings: nvcc's (gpu/device.h) and a processor's
// (emulator/device.h). A kernel includes this file alone, and names no builtin variable, intrinsic or inline assembly itself:
// that is what lets the same source run in the emulator.
//
//   KERNEL(name, (parameters)) { … }     a kernel that can be launched by its name, at most 1024 threads a block
//   KERNEL_OF(T, name, (parameters))     … of which at most T threads a block are launched
//   KERNEL_WIDE(T, B, name, (parameters))   … that would rather have registers than share a multiprocessor with more than B blocks
//
//   thread_x()  block_x() block_y() block_z()  block_size()  grid_x() grid_y() grid_z()  lane()  warp()
//   Global<T>           a pointer to global memory; [i], load_vector<N>(i), store_vector(i, v), atomic_add(i, v)
//   SHARED(T, name, N)  an array in the block's shared memory; [i], load_vector<N>(i), store_vector(i, v), atomic_add(i, v)
//   DYNAMIC_SHARED(T, name)   the dynamic part of it
//   Vec<T, N>           N elements that are loaded and stored at once, aligned to their size
//
//   block_sync()  block_sync(id, threads)  block_any(p)  warp_sync()  grid_sync()
//   release_add(at, i, v)  wait_for(at, i, v)    a counter of blocks that are resident together: what they wrote is there
//   shuffle(v, lane)  shuffle_down(v, by)  shuffle_xor(v, mask)  warp_ballot(p)      by all lanes of a warp
//   copy_async16(shared, i, global, j, bytes)  copy_async_commit()  copy_async_wait<N>()
//   ldmatrix_x4(shared, i)  ldmatrix_x4_trans(shared, i)  mma_16816(d, a, b)    fragments as in the PTX manual
//   mma_1688(d, a, b)    of tf32 and of f64
//   mma_16832<A, B>(d, a, b)    of bytes, with or without a sign
//   bits_of(x)  float_of(bits)  pick_bytes(x, y, which)
//   to_float(x)  from_float<T>(x)  from_double<T>(x)  f16  bf16
//
//   PARAMETER T name    a structure as a kernel's parameter, which stays where the driver put it
//   UNROLL for (…)      a loop whose passes are known; ROLLED for (…) one that stays a loop
//
// What Hopper has beyond this is in hopper.h.
//
// Functions of one and two numbers are those of <cmath>: std::exp and so on, for float and double.
#pragma once

#include <cstdint>

#if defined(GRADUS_EMULATOR)
#include "emulator/device.h"
#else
#include "gpu/device.h"
#endif
