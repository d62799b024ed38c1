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
    more: [u64; 2],
}

const MARK: u32 = 0x5041_4D54;

/// What a caller asks for; slices have as many elements as the driver reads.
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
}
