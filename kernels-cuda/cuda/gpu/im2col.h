// Copies of TMA that gather the pixels of images (im2col), for nvcc.
#pragma once

#define TMA_IM2COL(rank, coordinates, shifts, ...)                                                                               \
    asm volatile("cp.async.bulk.tensor." rank ".shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, " coordinates "], [%2], " shifts ";" \
                 ::"r"(to), "l"(&map), "r"(mbarrier), __VA_ARGS__                                                                \
                 : "memory")

template <int RANK>
DEVICE void tma_load_im2col(std::uint32_t to, const TensorMap &map, std::uint32_t mbarrier, const std::int32_t (&at)[RANK],
                            const std::uint16_t (&offsets)[RANK - 2]) {
    static_assert(RANK >= 3 && RANK <= 5, "images of one to three dims");
    if constexpr (RANK == 3) TMA_IM2COL("3d", "{%3, %4, %5}", "{%6}", "r"(at[0]), "r"(at[1]), "r"(at[2]), "h"(offsets[0]));
    if constexpr (RANK == 4)
        TMA_IM2COL("4d", "{%3, %4, %5, %6}", "{%7, %8}", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "h"(offsets[0]), "h"(offsets[1]));
    if constexpr (RANK == 5)
        TMA_IM2COL("5d", "{%3, %4, %5, %6, %7}", "{%8, %9, %10}", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "h"(offsets[0]),
                   "h"(offsets[1]), "h"(offsets[2]));
}

#define TMA_IM2COL_MULTICAST(rank, coordinates, shifts, ...)                                                                     \
    asm volatile("cp.async.bulk.tensor." rank                                                                                    \
                 ".shared::cluster.global.im2col.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, " coordinates "], [%2], " shifts ", %3;" \
                 ::"r"(to), "l"(&map), "r"(mbarrier), "h"(blocks), __VA_ARGS__                                                   \
                 : "memory")

template <int RANK>
DEVICE void tma_load_im2col_multicast(std::uint32_t to, const TensorMap &map, std::uint32_t mbarrier, const std::int32_t (&at)[RANK],
                                      const std::uint16_t (&offsets)[RANK - 2], std::uint16_t blocks) {
    static_assert(RANK >= 3 && RANK <= 5, "images of one to three dims");
    if constexpr (RANK == 3) TMA_IM2COL_MULTICAST("3d", "{%4, %5, %6}", "{%7}", "r"(at[0]), "r"(at[1]), "r"(at[2]), "h"(offsets[0]));
    if constexpr (RANK == 4)
        TMA_IM2COL_MULTICAST("4d", "{%4, %5, %6, %7}", "{%8, %9}", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "h"(offsets[0]), "h"(offsets[1]));
    if constexpr (RANK == 5)
        TMA_IM2COL_MULTICAST("5d", "{%4, %5, %6, %7, %8}", "{%9, %10, %11}", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]),
                             "h"(offsets[0]), "h"(offsets[1]), "h"(offsets[2]));
}
