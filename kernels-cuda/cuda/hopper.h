// What kernels may use of Hopper (sm_90a) beyond device.h: one list of primitives with two meanings, gpu/hopper.h and emulator/hopper.h.
//
//   KERNEL_OF_CLUSTER(T, C, name, (parameters))   a kernel of T threads a block, one block a multiprocessor, in clusters of C blocks
//   ON_HOPPER     whether this is compiled for sm_90a: kernels do their work inside `if constexpr (ON_HOPPER)`
//
//   shared_address(array, i)   where an element lies, as the primitives below take it: 32 bits, valid in the whole cluster
//   peer_address(at, rank)     the same place in the shared memory of another block of the cluster
//   cluster_rank()  cluster_sync()     ordering everything before it in all blocks of the cluster
//   block_arrive(id, threads)          arrives at a named barrier that others wait at by block_sync(id, threads)
//
//   An mbarrier, 8 bytes of shared memory, counts arrivals and bytes. Its phases alternate between parity 0 and 1.
//   mbarrier_init(at, count)  mbarrier_init_fence()   then a barrier of all threads that use it
//   mbarrier_arrive(at)                by count; `at` may lie in another block of the cluster, to which it hands over no more than what
//                                      asynchronous units have read: releasing ordinary writes to it would cost a fence
//   mbarrier_arrive_expect(at, bytes)  … and expects so many bytes of copies in this phase
//   mbarrier_wait(at, parity)          until the phase of this parity has ended; at first, that of parity 1 counts as ended
//
//   PARAMETER TensorMap name    describes a tensor of up to five dims and a box of it, made by the driver
//   tma_load(to, map, mbarrier, at)    a box from the coordinates `at` on to shared memory; what lies outside the tensor is 0
//   tma_load_multicast(to, map, mbarrier, at, blocks)   … to the same place in each block of the cluster that has a bit
//   tma_load_im2col(to, map, mbarrier, at, offsets)     one pixel, `offsets` from its corner, of each of a run of windows over images with
//   tma_load_im2col_multicast(…, offsets, blocks)       their channels last; the first window and its channels begin at `at`: see emulator/im2col.h
//   tma_store(map, at, from)           a box from shared memory; what lies outside the tensor is left out
//   tma_commit()  tma_wait_read<N>()  tma_wait<N>()     until all groups of stores but the last N have been read, or are done
//   tma_prefetch(map)
//   proxy_fence()   by each thread that wrote shared memory, before the barrier after which TMA or wgmma reads it
//
//   registers_shrink<R>()  registers_grow<R>()     by all threads of a warpgroup (128): how many registers each has
//   wgmma<T, N, A_BY_K, B_BY_K>(sums, a, b, add)   sums[64][N] (+)= a[64][K] b[N][K]ᵀ, K of 32 bytes, by a warpgroup
//   wgmma_of_bytes<A, B, N>(sums, a, b, add)       the same of bytes along k, with or without a sign, in 32 bits
//   wgmma_fence()  wgmma_commit()  wgmma_wait<N>()    before the first of a batch; a group ends; until all but N groups are done
//   stmatrix_x4(shared, i, v)  stmatrix_x4_trans       four 8 x 8 matrices of 16-bit elements, the inverse of ldmatrix_x4
//   tf32                       a float that wgmma rounds to 10 bits of mantissa
#pragma once

#include "device.h"

#if defined(GRADUS_EMULATOR)
#include "emulator/hopper.h"
#else
#include "gpu/hopper.h"
#include "gpu/im2col.h"
#endif

// Where one operand of a wgmma lies: rows of 128 bytes whose runs of 16 bytes are permuted as TMA's swizzle of 128 bytes does it, from
// a multiple of 1024 bytes on.
//
// Along k, a row of the tile is 128 bytes of k; eight rows are a unit of 1024 bytes. The next K is 32 bytes further.
DEVICE std::uint64_t descriptor_by_k(std::uint32_t at) {
    return (at & 0x3FFFF) >> 4 | std::uint64_t{1} << 16 | std::uint64_t{1024 >> 4} << 32 | std::uint64_t{1} << 62;
}

// Along the rows, 64 of them (16-bit elements) are the 128 bytes of one k; eight k are a unit, and the next 64 rows come `step` bytes
// later. The next K = 16 is 2048 bytes further.
DEVICE std::uint64_t descriptor_by_rows(std::uint32_t at, std::uint32_t step) {
    return (at & 0x3FFFF) >> 4 | std::uint64_t{step >> 4} << 16 | std::uint64_t{1024 >> 4} << 32 | std::uint64_t{1} << 62;
}

// The byte at (row, byte) of a tile of rows of 128 bytes, under the same permutation.
DEVICE std::uint32_t swizzled(std::uint32_t row, std::uint32_t byte) { return row * 128 + (byte ^ row % 8 * 16); }
