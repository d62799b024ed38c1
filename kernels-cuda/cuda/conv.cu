// Convolutions as matrix products whose operands are never written out (implicit GEMM), in tiles of 64 x 64 (tile.h).
//
// Layout: everything row-major, x [n, c, spatial…], w [o, c / groups, kernel…], y [n, o, spatial…]. With P the places of the result,
// S those of the input and R the taps of the kernel:
//   conv_T              y[n p, o] = Σ over (c, r) of x[n, c, p under r] w[o, c, r]    m = n P   n = o / groups   k = (c / groups) R
//   conv_grad_input_T   dx[n s, c] = Σ over (o, r) of g[n, o, s over r] w[o, c, r]    m = n S   n = c / groups   k = (o / groups) R
//   conv_grad_weight_T  dw[o, c r] = Σ over (n, p) of g[n, o, p] x[n, c, p under r]   m = o / groups   n = (c / groups) R   k = n P
// Launch: block_x the tile, block_y the group, block_z (of the gradient of weights) a piece of k, whose sums are added in order later.
#include "tile.h"
#include "windows.h"

struct Channels {
    u32 batch, in, out, groups; // images, channels of x, channels of y
};

template <class T>
DEVICE void conv(const Windows &windows, const Channels &c, u32 with_bias, Global<T> y, Global<const T> x, Global<const T> w,
                 Global<const T> bias) {
    using A = Wide<T>;
    const u32 places = windows.out_volume(), taps = windows.kernel_volume(), size = windows.size_volume();
    const u32 in = c.in / c.groups, out = c.out / c.groups, group = block_y(), across = (out + TILE_SIDE - 1) / TILE_SIDE;
    product_tile<A>(
        c.batch * places, out, 0, in * taps, block_x() / across * TILE_SIDE, block_x() % across * TILE_SIDE, false, true,
        [&](u32 i, u32 k) {
            const u32 image = i / places, channel = k / taps;
            const i32 at = windows.under(i - image * places, k - channel * taps);
            return at < 0 ? A(0) : widen(x[(i64(image) * c.in + group * in + channel) * size + at]);
        },
        [&](u32 k, u32 j) { return widen(w[i64(group * out + j) * in * taps + k]); },
        [&](u32 i, u32 j, A sum) {
            const u32 image = i / places, channel = group * out + j;
            if (with_bias) sum += widen(bias[channel]);
            y[(i64(image) * c.out + channel) * places + (i - image * places)] = narrow<T>(sum);
        });
}

template <class T>
DEVICE void conv_grad_input(const Windows &windows, const Channels &c, Global<T> dx, Global<const T> g, Global<const T> w) {
    using A = Wide<T>;
    const u32 places = windows.out_volume(), taps = windows.kernel_volume(), size = windows.size_volume();
    const u32 in = c.in / c.groups, out = c.out / c.groups, group = block_y(), across = (in + TILE_SIDE - 1) / TILE_SIDE;
    product_tile<A>(
        c.batch * size, in, 0, out * taps, block_x() / across * TILE_SIDE, block_x() % across * TILE_SIDE, false, true,
        [&](u32 i, u32 k) {
            const u32 image = i / size, channel = k / taps;
            const i32 at = windows.over(i - image * size, k - channel * taps);
            return at < 0 ? A(0) : widen(g[(i64(image) * c.out + group * out + channel) * places + at]);
        },
        [&](u32 k, u32 j) {
            const u32 channel = k / taps;
            return widen(w[(i64(group * out + channel) * in + j) * taps + (k - channel * taps)]);
        },
        [&](u32 i, u32 j, A sum) {
            const u32 image = i / size;
            dx[(i64(image) * c.in + group * in + j) * size + (i - image * size)] = narrow<T>(sum);
        });
}

// dw is [pieces, o, c / groups, kernel…], in the type of the sums.
template <class T>
DEVICE void conv_grad_weight(const Windows &windows, const Channels &c, u32 chunk, Global<Wide<T>> dw, Global<const T> g,
                             Global<const T> x) {
    using A = Wide<T>;
    const u32 places = windows.out_volume(), taps = windows.kernel_volume(), size = windows.size_volume();
    const u32 in = c.in / c.groups, out = c.out / c.groups, group = block_y(), across = (in * taps + TILE_SIDE - 1) / TILE_SIDE;
    const u32 all = c.batch * places, first = block_z() * chunk, last = first + chunk < all ? first + chunk : all;
    product_tile<A>(
        out, in * taps, first, last, block_x() / across * TILE_SIDE, block_x() % across * TILE_SIDE, true, true,
        [&](u32 i, u32 k) {
            const u32 image = k / places;
            return widen(g[(i64(image) * c.out + group * out + i) * places + (k - image * places)]);
        },
        [&](u32 k, u32 j) {
            const u32 image = k / places, channel = j / taps;
            const i32 at = windows.under(k - image * places, j - channel * taps);
            return at < 0 ? A(0) : widen(x[(i64(image) * c.in + group * in + channel) * size + at]);
        },
        [&](u32 i, u32 j, A sum) { dw[(i64(block_z()) * c.out + group * out + i) * in * taps + j] = sum; });
}

#define CONV(T)                                                                                                                  \
    KERNEL_OF(TILE_THREADS, conv_##T,                                                                                            \
              (PARAMETER Windows windows, u32 batch, u32 in, u32 out, u32 groups, u32 with_bias, Global<T> y, Global<const T> x, \
               Global<const T> w, Global<const T> bias)) {                                                                       \
        conv(windows, {batch, in, out, groups}, with_bias, y, x, w, bias);                                                       \
    }                                                                                                                            \
    KERNEL_OF(TILE_THREADS, conv_grad_input_##T,                                                                                 \
              (PARAMETER Windows windows, u32 batch, u32 in, u32 out, u32 groups, Global<T> dx, Global<const T> g,               \
               Global<const T> w)) {                                                                                             \
        conv_grad_input(windows, {batch, in, out, groups}, dx, g, w);                                                            \
    }                                                                                                                            \
    KERNEL_OF(TILE_THREADS, conv_grad_weight_##T,                                                                                \
              (PARAMETER Windows windows, u32 batch, u32 in, u32 out, u32 groups, u32 chunk, Global<Wide<T>> dw,                 \
               Global<const T> g, Global<const T> x)) {                                                                          \
        conv_grad_weight(windows, {batch, in, out, groups}, chunk, dw, g, x);                                                    \
    }

FOR_FLOATS(CONV)
