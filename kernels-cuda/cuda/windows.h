// Windows over up to three spatial dims: `Windows` of src/backend/windows.rs. Dims that a tensor lacks have extent 1.
#pragma once

#include "walk.h"

struct Windows {
    Divisor size[3], out[3], kernel[3]; // extents of the input, of the result and of the window
    u32 stride[3], padding[3], dilation[3];
    Divisor inner; // units side by side at a place: 1 in planes, vectors of channels where these come last

    DEVICE u32 size_volume() const { return size[0].divisor * size[1].divisor * size[2].divisor; }
    DEVICE u32 out_volume() const { return out[0].divisor * out[1].divisor * out[2].divisor; }
    DEVICE u32 kernel_volume() const { return kernel[0].divisor * kernel[1].divisor * kernel[2].divisor; }

    // Which unit of [outer, places, inner] a thread has.
    struct Unit {
        u32 outer, place, inner;
    };
    DEVICE Unit unit(u32 e, u32 places) const {
        const u32 rest = inner.quotient(e), outer = rest / places;
        return {outer, rest - outer * places, e - rest * inner.divisor};
    }

    // Where the units of [outer, places, inner] at a unit's inner index begin; from place to place it is `inner` units.
    DEVICE i64 start(const Unit &unit, u32 places) const { return i64(unit.outer) * places * inner.divisor + unit.inner; }
    DEVICE i64 step(i32 place) const { return i64(place) * inner.divisor; }

    // The input's place under tap `tap` of the window of `place`, or -1 in the padding. All three count in row-major order.
    DEVICE i32 under(u32 place, u32 tap) const {
        i32 at = 0, step = 1;
        UNROLL for (int d = 2; d >= 0; d--) {
            const u32 o = out[d].quotient(place), k = kernel[d].quotient(tap);
            const u32 i = (place - o * out[d].divisor) * stride[d] + (tap - k * kernel[d].divisor) * dilation[d] - padding[d];
            place = o, tap = k;
            if (i >= size[d].divisor) return -1; // below 0 too, as numbers wrap
            at += step * i, step *= size[d].divisor;
        }
        return at;
    }

    // The window whose tap `tap` lies over `place` of the input, or -1 if there is none.
    DEVICE i32 over(u32 place, u32 tap) const {
        i32 at = 0, step = 1;
        UNROLL for (int d = 2; d >= 0; d--) {
            const u32 i = size[d].quotient(place), k = kernel[d].quotient(tap);
            const u32 from = place - i * size[d].divisor + padding[d], reach = (tap - k * kernel[d].divisor) * dilation[d];
            place = i, tap = k;
            if (from < reach || (from - reach) % stride[d] != 0) return -1;
            const u32 o = (from - reach) / stride[d];
            if (o >= out[d].divisor) return -1;
            at += step * o, step *= out[d].divisor;
        }
        return at;
    }
};
