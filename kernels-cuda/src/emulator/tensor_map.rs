//! Tensor maps of the emulated driver: every limit that the documentation names is checked, and the fields are kept as
//! `cuda/emulator/tensor_map.h` reads them.

use super::state::{INVALID_VALUE, SUCCESS};

/// `TensorMap` of `cuda/emulator/tensor_map.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(128))]
pub(super) struct Fields {
    base: u64,
    unused: u64,
    mark: u32,
    rank: u16,
    size: u16,
    swizzle: u32,
    element: u32,
    last: [u32; 5],
    box_dims: [u32; 5],
    strides: [u64; 4],
    lower: [i16; 3],
    upper: [i16; 3],
    steps: [u16; 3],
    im2col: u16,
    more: u32,
}

const MARK: u32 = 0x5041_4D54;

/// What a caller asks for, of boxes; slices have as many elements as the driver reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) element: u32,
    pub(super) address: u64,
    pub(super) dims: &'a [u64],
    pub(super) strides: &'a [u64],
    pub(super) box_dims: &'a [u32],
    pub(super) element_strides: &'a [u32],
    pub(super) interleave: u32,
    pub(super) swizzle: u32,
    pub(super) promotion: u32,
    pub(super) fill: u32,
}

/// What a caller asks for, of the pixels of images; the box of `tensor` and its element strides do not count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels<'a> {
    pub(super) tensor: Asked<'a>,
    pub(super) lower: &'a [i32],
    pub(super) upper: &'a [i32],
    pub(super) channels: u32,
    pub(super) pixels: u32,
    pub(super) steps: &'a [u32],
}

/// Bytes of an element by the number of its type in `CUtensorMapDataType`, without the packed types of later GPUs.
const SIZES: [u16; 13] = [1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4];

/// The number of the first type of floats.
const FLOATS: u32 = 6;

/// The map, or the code that the driver answers. Interleaved layouts and element strides are not emulated.
pub(super) fn encode(asked: &Asked) -> Result<Fields, u32> {
    let Asked { element, address, dims, strides, box_dims, .. } = *asked;
    let size = u64::from(*SIZES.get(element as usize).ok_or(INVALID_VALUE)?);
    let inner = size * u64::from(box_dims[0]);
    let widest = [256 * 16, 32, 64, 128].get(asked.swizzle as usize).copied().ok_or(INVALID_VALUE)?;
    let allowed = address.is_multiple_of(16)
        && dims.iter().all(|n| (1..=1 << 32).contains(n))
        && strides.iter().all(|stride| stride.is_multiple_of(16) && *stride < 1 << 40)
        && box_dims.iter().all(|n| (1..=256).contains(n))
        && inner.is_multiple_of(16)
        && inner <= widest
        && asked.element_strides.iter().all(|stride| *stride == 1)
        && asked.interleave == 0
        && asked.promotion <= 3
        && (asked.fill == 0 || asked.fill == 1 && element >= FLOATS);
    // Filling with NaN is not emulated.
    if !allowed || asked.fill != 0 {
        return Err(INVALID_VALUE);
    }
    let mut fields = Fields {
        base: address,
        // The real driver marks small tensors here, which callers take back.
        unused: 1 << 21,
        mark: MARK,
        rank: dims.len() as u16,
        size: size as u16,
        swizzle: asked.swizzle,
        element,
        ..Fields::default()
    };
    for (d, (n, extent)) in dims.iter().zip(box_dims).enumerate() {
        (fields.last[d], fields.box_dims[d]) = ((n - 1) as u32, *extent);
    }
    fields.strides[..strides.len()].copy_from_slice(strides);
    Ok(fields)
}

/// The map of pixels, or the code that the driver answers.
pub(super) fn encode_im2col(asked: &Pixels) -> Result<Fields, u32> {
    let Pixels { tensor, lower, upper, channels, pixels, steps } = *asked;
    let rank = tensor.dims.len();
    // A box as far as its channels go: of pixels there may be more than of rows in a box.
    let ones = [1; 5];
    let box_dims = [channels, 1, 1, 1, 1];
    let tensor = Asked { box_dims: &box_dims[..rank], element_strides: &ones[..rank], ..tensor };
    let mut fields = encode(&tensor)?;
    let most = [1 << 15, 1 << 7, 1 << 4][rank - 3];
    let corners = |corners: &[i32]| corners.iter().all(|c| (-most..most).contains(c));
    let last = |d: usize| tensor.dims[d + 1] as i64 - 1;
    let has_room = (0..rank - 2).all(|d| i64::from(lower[d]) <= last(d) + i64::from(upper[d]));
    let allowed = corners(lower)
        && corners(upper)
        && has_room
        && (1..=1024).contains(&pixels)
        && steps[1..].iter().all(|n| (1..=8).contains(n));
    if !allowed {
        return Err(INVALID_VALUE);
    }
    for d in 0..rank - 2 {
        (fields.lower[d], fields.upper[d]) = (lower[d] as i16, upper[d] as i16);
        fields.steps[d] = steps[d + 1] as u16;
    }
    (fields.box_dims[1], fields.im2col) = (pixels, 1);
    Ok(fields)
}

/// As the driver does it, with arrays by their addresses.
///
/// # Safety
/// `map` can be written, and the arrays have `rank` elements, `strides` one less.
#[allow(clippy::too_many_arguments, reason = "the driver's signature")]
pub(super) unsafe fn encode_raw(
    map: *mut Fields,
    [element, rank, interleave, swizzle, promotion, fill]: [u32; 6],
    address: u64,
    dims: *const u64,
    strides: *const u64,
    box_dims: *const u32,
    element_strides: *const u32,
) -> u32 {
    if !(1..=5).contains(&rank) || !map.addr().is_multiple_of(64) {
        return INVALID_VALUE;
    }
    let rank = rank as usize;
    // SAFETY: the caller vouches for the arrays; an empty one may be a dangling pointer, as slices have it.
    let asked = unsafe {
        Asked {
            element,
            address,
            dims: std::slice::from_raw_parts(dims, rank),
            strides: if rank == 1 { &[] } else { std::slice::from_raw_parts(strides, rank - 1) },
            box_dims: std::slice::from_raw_parts(box_dims, rank),
            element_strides: std::slice::from_raw_parts(element_strides, rank),
            interleave,
            swizzle,
            promotion,
            fill,
        }
    };
    match encode(&asked) {
        // SAFETY: the caller's place for the result.
        Ok(fields) => unsafe { map.write(fields) },
        Err(code) => return code,
    }
    SUCCESS
}

/// As the driver does it for pixels, with arrays by their addresses.
///
/// # Safety
/// `map` can be written, and the arrays have `rank` elements, `strides` one less, and both corners two less.
#[allow(clippy::too_many_arguments, reason = "the driver's signature")]
pub(super) unsafe fn encode_im2col_raw(
    map: *mut Fields,
    [element, rank, interleave, swizzle, promotion, fill]: [u32; 6],
    address: u64,
    dims: *const u64,
    strides: *const u64,
    [lower, upper]: [*const i32; 2],
    [channels, pixels]: [u32; 2],
    steps: *const u32,
) -> u32 {
    if !(3..=5).contains(&rank) || !map.addr().is_multiple_of(64) {
        return INVALID_VALUE;
    }
    let rank = rank as usize;
    // SAFETY: the caller vouches for the arrays.
    let asked = unsafe {
        Pixels {
            tensor: Asked {
                element,
                address,
                dims: std::slice::from_raw_parts(dims, rank),
                strides: std::slice::from_raw_parts(strides, rank - 1),
                box_dims: &[],
                element_strides: &[],
                interleave,
                swizzle,
                promotion,
                fill,
            },
            lower: std::slice::from_raw_parts(lower, rank - 2),
            upper: std::slice::from_raw_parts(upper, rank - 2),
            channels,
            pixels,
            steps: std::slice::from_raw_parts(steps, rank),
        }
    };
    match encode_im2col(&asked) {
        // SAFETY: the caller's place for the result.
        Ok(fields) => unsafe { map.write(fields) },
        Err(code) => return code,
    }
    SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: Asked = Asked {
        element: 9,
        address: 0x1000,
        dims: &[100, 200, 3],
        strides: &[208, 65536],
        box_dims: &[64, 128, 1],
        element_strides: &[1, 1, 1],
        interleave: 0,
        swizzle: 3,
        promotion: 3,
        fill: 0,
    };

    #[test]
    fn a_map_holds_what_was_asked_for() {
        let fields = encode(&RIGHT).unwrap();
        assert_eq!((fields.rank, fields.size, fields.base), (3, 2, 0x1000));
        assert_eq!((&fields.last[..3], &fields.strides[..2]), (&[99, 199, 2][..], &[208, 65536][..]));
        assert_eq!(size_of::<Fields>(), 128);
    }

    #[test]
    fn every_documented_limit_is_kept() {
        let wrong = [
            Asked { element: 13, ..RIGHT },
            Asked { address: 0x1008, ..RIGHT },
            Asked { dims: &[100, 0, 3], ..RIGHT },
            Asked { dims: &[100, (1 << 32) + 1, 3], ..RIGHT },
            Asked { strides: &[200, 65536], ..RIGHT },
            Asked { strides: &[208, 1 << 40], ..RIGHT },
            Asked { box_dims: &[64, 257, 1], ..RIGHT },
            Asked { box_dims: &[64, 0, 1], ..RIGHT },
            Asked { box_dims: &[60, 128, 1], ..RIGHT }, // 120 bytes
            Asked { box_dims: &[72, 128, 1], ..RIGHT }, // wider than the permuted rows
            Asked { element_strides: &[1, 9, 1], ..RIGHT },
            Asked { swizzle: 4, ..RIGHT },
            Asked { promotion: 4, ..RIGHT },
            Asked { interleave: 1, ..RIGHT },
            Asked { element: 1, fill: 1, ..RIGHT },
        ];
        for asked in wrong {
            assert_eq!(encode(&asked), Err(INVALID_VALUE), "{asked:?}");
        }
        assert!(encode(&Asked { box_dims: &[72, 128, 1], swizzle: 0, ..RIGHT }).is_ok());
    }

    const PIXELS: Pixels = Pixels {
        tensor: Asked {
            dims: &[64, 20, 30, 3],
            strides: &[128, 2560, 76800],
            box_dims: &[],
            element_strides: &[],
            ..RIGHT
        },
        lower: &[-1, -2],
        upper: &[-1, 0],
        channels: 64,
        pixels: 128,
        steps: &[1, 2, 1, 1],
    };

    #[test]
    fn a_map_of_pixels_holds_what_was_asked_for() {
        let fields = encode_im2col(&PIXELS).unwrap();
        assert_eq!((fields.rank, fields.im2col, &fields.box_dims[..]), (4, 1, &[64, 128, 1, 1, 0][..]));
        assert_eq!((fields.lower, fields.upper, fields.steps), ([-1, -2, 0], [-1, 0, 0], [2, 1, 0]));
    }

    #[test]
    fn every_documented_limit_of_pixels_is_kept() {
        let wrong = [
            Pixels { lower: &[-129, 0], ..PIXELS },
            Pixels { upper: &[0, 128], ..PIXELS },
            Pixels { upper: &[-1, -32], ..PIXELS }, // no box is left
            Pixels { channels: 72, ..PIXELS },
            Pixels { channels: 60, ..PIXELS },
            Pixels { pixels: 1025, ..PIXELS },
            Pixels { pixels: 0, ..PIXELS },
            Pixels { steps: &[1, 9, 1, 1], ..PIXELS },
            Pixels { steps: &[1, 1, 0, 1], ..PIXELS },
            Pixels { tensor: Asked { strides: &[120, 2560, 76800], ..PIXELS.tensor }, ..PIXELS },
        ];
        for asked in wrong {
            assert_eq!(encode_im2col(&asked), Err(INVALID_VALUE), "{asked:?}");
        }
        assert!(
            encode_im2col(&Pixels { pixels: 1024, lower: &[-128, 0], upper: &[127, 0], ..PIXELS }).is_ok()
        );
    }
}
