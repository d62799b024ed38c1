// A tensor map as the emulated driver writes it (src/emulator/tensor_map.rs), in the 128 bytes that a real one has.
#pragma once

#include <cstdint>

struct alignas(128) TensorMap {
    static constexpr std::uint32_t MARK = 0x50414D54;
    static constexpr std::uint32_t TF32 = 11; // the type of floats that copies round

    std::uint64_t base;
    std::uint64_t unused;       // holds the bit that is cleared for small tensors
    std::uint32_t mark;
    std::uint16_t rank, size;   // bytes of an element
    std::uint32_t swizzle, type;
    std::uint32_t last[5];      // extents less one
    std::uint32_t box[5];
    std::uint64_t strides[4];   // bytes, from the second dim on
    // Of images whose pixels are gathered (im2col), where a box is channels of pixels: the corners of the box that windows begin in, as
    // distances from the image's first and last pixel, and the pixels from window to window; the last dim first.
    std::int16_t lower[3], upper[3];
    std::uint16_t steps[3];
    std::uint16_t im2col;       // 1 for such a map
    std::uint32_t more;

    std::uint32_t box_bytes() const {
        std::uint32_t bytes = size;
        for (unsigned d = 0; d < rank; d++) bytes *= box[d];
        return bytes;
    }
};
static_assert(sizeof(TensorMap) == 128, "as long as the driver's");
