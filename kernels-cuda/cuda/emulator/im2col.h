// Which pixels of images a copy of TMA gathers (im2col), on the emulated machine.
//
// A window begins in the bounding box, which reaches from `lower` to `upper` beyond the last pixel. The copy begins at the window that its
// coordinates name and takes one pixel of it, `offsets` further, then that of the next window: to the right by a step, at the end of
// the box in the next row, then in the next plane, then in the next image. Pixels outside of their image, channels that it does not have, and
// images after the last are 0.
#pragma once

#include "tensor_map.h"

namespace emulator {

// Calls f(element or null, offset in the box) for each; `at` has the coordinates, then the offsets.
template <class F> void each_of_pixels(const TensorMap &map, const std::int32_t *at, F f) {
    const unsigned rank = map.rank, spatial = rank - 2;
    const std::int32_t *offsets = at + rank;
    std::int64_t window[3] = {}, image = at[rank - 1];
    for (unsigned s = 0; s < spatial; s++) window[s] = at[1 + s];
    std::uint32_t offset = 0;
    for (std::uint32_t pixel = 0; pixel < map.box[1]; pixel++) {
        bool exists = image >= 0 && image <= map.last[rank - 1];
        std::uint64_t address = map.base + image * map.strides[rank - 2];
        for (unsigned s = 0; s < spatial; s++) {
            const std::int64_t place = window[s] + offsets[s];
            exists = exists && place >= 0 && place <= map.last[1 + s];
            address += place * map.strides[s];
        }
        for (std::uint32_t c = 0; c < map.box[0]; c++, offset += map.size) {
            const std::int64_t channel = std::int64_t{at[0]} + c;
            const bool there = exists && channel >= 0 && channel <= map.last[0];
            const std::uint64_t element = address + channel * map.size;
            if (there && !Allocations::all().hold(element, map.size)) machine().fail("TMA: an element of the images lies in no allocation");
            f(there ? reinterpret_cast<std::uint8_t *>(element) : nullptr, offset);
        }
        unsigned s = 0;
        for (; s < spatial; s++) {
            window[s] += map.steps[s];
            if (window[s] <= std::int64_t{map.last[1 + s]} + map.upper[s]) break;
            window[s] = map.lower[s];
        }
        image += s == spatial;
    }
}

// What the place of the first window, and the offsets, must be.
inline void check_pixels(const TensorMap &map, const std::int32_t *at) {
    const unsigned spatial = map.rank - 2;
    const std::int32_t most = spatial == 1 ? 0xFFFF : spatial == 2 ? 0xFF : 0x1F;
    for (unsigned s = 0; s < spatial; s++) {
        const std::int64_t window = at[1 + s], offset = at[map.rank + s];
        if (window < map.lower[s] || window > std::int64_t{map.last[1 + s]} + map.upper[s])
            machine().fail("tma_load_im2col: the first window lies outside of the bounding box");
        if (offset < 0 || offset > most) machine().fail("tma_load_im2col: an offset is out of range");
    }
}

} // namespace emulator
