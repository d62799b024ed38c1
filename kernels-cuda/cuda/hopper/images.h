// The operands of convolutions on Hopper: windows over images, of which TMA gathers the pixels (im2col), and weights. Both lie with their
// channels last.
#pragma once

#include "gemm.h"

// The channels of all taps of a window, in blocks of 64 channels of one tap: `Blocks` of src/backend/conv/hopper.rs.
struct Blocks {
    Divisor chunks;  // blocks of a tap
    Divisor taps[2]; // of a row of the window, and rows of a plane of it
    u32 last;        // block, which those beyond it are taken as

    // The channel that a block begins with, and the indices of its tap, that of the last dim first.
    DEVICE u32 split(u32 block, u32 (&tap)[3]) const {
        block = block < last ? block : last;
        const u32 number = chunks.quotient(block), row = taps[0].quotient(number);
        tap[0] = number - row * taps[0].divisor;
        tap[2] = taps[1].quotient(row);
        tap[1] = row - tap[2] * taps[1].divisor;
        return (block - number * chunks.divisor) * 64;
    }
};

// Images: windows are the rows and blocks are k, or blocks are the rows and windows k. `Images` of src/backend/conv/hopper.rs.
struct Images {
    Blocks blocks;
    Divisor windows[3];      // of a row, rows of a plane, planes of an image
    i32 first[3], steps[3];  // pixels: where the first window begins, and from window to window
    u32 offsets[3];          // from tap to tap
    u32 channels;            // of a group
    u32 rank;                // of the map

    struct Window {
        i32 at[3], image;
    };
    struct Place {
        Window window; // of the first row, if windows are the rows
        u32 row, channel;
    };

    DEVICE Place place(u32 row, u32 group) const { return {window(row), row, group * channels}; }

    template <int ROWS, bool BY_K, bool MULTICAST> DEVICE void bring(const TensorMap &map, u32 to, u32 arrives, const Place &place, u32 k) const {
        if constexpr (BY_K) gather<MULTICAST>(map, to, arrives, place.window, place.channel, k / 64);
        else {
            const Window from = window(k);
            UNROLL for (u32 box = 0; box < ROWS / 64; box++)
                gather<MULTICAST>(map, to + box * CHUNK_BYTES, arrives, from, place.channel, place.row / 64 + box);
        }
    }

  private:
    DEVICE Window window(u32 i) const {
        Window w;
        UNROLL for (int s = 0; s < 3; s++) {
            const u32 outer = windows[s].quotient(i);
            w.at[s] = first[s] + i32(i - outer * windows[s].divisor) * steps[s];
            i = outer;
        }
        w.image = i32(i);
        return w;
    }

    // A block of the windows from one on.
    template <bool MULTICAST> DEVICE void gather(const TensorMap &map, u32 to, u32 arrives, const Window &w, u32 channel, u32 block) const {
        u32 tap[3];
        const i32 c = i32(channel + blocks.split(block, tap));
        std::uint16_t by[3];
        UNROLL for (int s = 0; s < 3; s++) by[s] = std::uint16_t(tap[s] * offsets[s]);
        if (rank == 3) copy<MULTICAST, 3>(map, to, arrives, {c, w.at[0], w.image}, {by[0]});
        else if (rank == 4) copy<MULTICAST, 4>(map, to, arrives, {c, w.at[0], w.at[1], w.image}, {by[0], by[1]});
        else copy<MULTICAST, 5>(map, to, arrives, {c, w.at[0], w.at[1], w.at[2], w.image}, {by[0], by[1], by[2]});
    }

    template <bool MULTICAST, int RANK>
    DEVICE static void copy(const TensorMap &map, u32 to, u32 arrives, const i32 (&at)[RANK], const std::uint16_t (&by)[RANK - 2]) {
        if constexpr (MULTICAST) tma_load_im2col_multicast(to, map, arrives, at, by, 3);
        else tma_load_im2col(to, map, arrives, at, by);
    }
};

// A weight, [channels of the result, taps, channels]: blocks are k, of the channels along k. `Weight` of src/backend/conv/hopper.rs.
struct Weight {
    Blocks blocks;
    i32 first, steps[3]; // numbers of taps in memory: of the first one of windows, and from tap to tap
    u32 results;         // channels of the result in a group
    u32 unused;

    struct Place {
        u32 row, result;
    };

    DEVICE Place place(u32 row, u32 group) const { return {row, group * results}; }

    template <int ROWS, bool BY_K, bool MULTICAST> DEVICE void bring(const TensorMap &map, u32 to, u32 arrives, const Place &place, u32 k) const {
        u32 tap[3];
        const u32 channel = blocks.split(k / 64, tap);
        const i32 number = first + i32(tap[0]) * steps[0] + i32(tap[1]) * steps[1] + i32(tap[2]) * steps[2];
        UNROLL for (u32 box = 0; box < (BY_K ? 1 : ROWS / 64); box++) {
            const u32 near = BY_K ? channel : place.row + 64 * box, far = place.result + (BY_K ? place.row : channel);
            const i32 at[3] = {i32(near), number, i32(far)};
            if constexpr (MULTICAST) tma_load_multicast(to + box * CHUNK_BYTES, map, arrives, at, 3);
            else tma_load(to + box * CHUNK_BYTES, map, arrives, at);
        }
    }
};

// hopper_conv_T_TILE_CLUSTER_FORM:
//
//   form    rows of A             columns of B           sums over
//   places  windows over x        channels of y          taps, channels of x      forward
//   back    windows over grad y   channels of x          taps, channels of y      the gradient of the input
//   taps    channels of y         taps, channels of x    windows over x           the gradient of the weight
//   turned  taps, channels of x   channels of y          windows over x           the same, where tiles fit better
#define HOPPER_CONV(T, tile, cluster, form, A, B, a_by_k, b_by_k, ...)                                                           \
    KERNEL_OF_CLUSTER(PRODUCT_THREADS, cluster, hopper_conv_##T##_##tile##_##cluster##_##form,                                   \
                      (PARAMETER Product<A, B> p, PARAMETER TensorMap a, PARAMETER TensorMap b, PARAMETER TensorMap out, u32 count, \
                       u32 by_tma, Global<T> y, Global<f32> partial, Global<const T> bias)) {                                    \
        if constexpr (ON_HOPPER)                                                                                                 \
            multiply_on_hopper<hopper::Halves<T>, __VA_ARGS__, cluster, a_by_k, b_by_k>(p, a, b, out, count, by_tma, y, partial, bias); \
    }
#define HOPPER_CONV_FORMS(T, tile, cluster, ...)                                                                                 \
    HOPPER_CONV(T, tile, cluster, places, Images, Weight, true, true, __VA_ARGS__)                                               \
    HOPPER_CONV(T, tile, cluster, back, Images, Weight, true, false, __VA_ARGS__)                                                \
    HOPPER_CONV(T, tile, cluster, taps, Mapped, Images, false, false, __VA_ARGS__)                                               \
    HOPPER_CONV(T, tile, cluster, turned, Images, Mapped, false, false, __VA_ARGS__)
#define HOPPER_CONV_TILES(T)                                                                                                     \
    HOPPER_CONV_FORMS(T, 128x256, 1, 128, 256) HOPPER_CONV_FORMS(T, 128x256, 2, 128, 256)                                        \
    HOPPER_CONV_FORMS(T, 128x128, 1, 128, 128) HOPPER_CONV_FORMS(T, 128x128, 2, 128, 128)                                        \
    HOPPER_CONV_FORMS(T, 128x64, 1, 128, 64)
