//! Tensor maps: how the tensor memory accelerator of Hopper finds a box of a tensor, or pixels of images.

mod im2col;

pub use self::im2col::Im2col;

use std::ffi::{CStr, c_void};
use std::mem;
use std::ptr::{self, NonNull};

use crate::driver::{check_code, symbol};
use crate::module::Parameter;
use crate::{CudaError, CudaVersion, driver_version};

/// What a kernel takes as `PARAMETER TensorMap`: opaque, made by [`Tiled::encode`] or [`Im2col::encode`].
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub struct TensorMap([u64; 16]);

// SAFETY: `CUtensorMap` of cuda.h: 128 bytes, aligned to as many.
unsafe impl Parameter for TensorMap {}

/// What elements are, to the copies of a tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Element {
    /// `u8`, or other bytes.
    U8 = 0,
    /// `i32`.
    I32 = 3,
    /// `f16`.
    F16 = 6,
    /// `f32`.
    F32 = 7,
    /// `bf16`.
    Bf16 = 9,
    /// `f32`, which copies round to the 10 bits of mantissa that matrix instructions look at.
    Tf32 = 11,
}

impl Element {
    pub(crate) fn size(self) -> u64 {
        match self {
            Element::U8 => 1,
            Element::F16 | Element::Bf16 => 2,
            Element::I32 | Element::F32 | Element::Tf32 => 4,
        }
    }
}

/// How runs of 16 bytes are permuted in shared memory, within rows of so many bytes, which the box is wide at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Swizzle {
    /// Not at all.
    None = 0,
    /// Rows of 32 bytes.
    Bytes32 = 1,
    /// Rows of 64 bytes.
    Bytes64 = 2,
    /// Rows of 128 bytes: run `r` of row `i` lies at `r ^ i % 8`.
    Bytes128 = 3,
}

/// A tensor in the GPU's memory, and the box of it that one instruction copies; dims are those that run fastest first.
#[derive(Clone, Copy, Debug)]
pub struct Tiled<'a> {
    /// Its elements.
    pub element: Element,
    /// Where it begins: a multiple of 16.
    pub address: u64,
    /// Its extents, one to five, each at least 1.
    pub dims: &'a [u64],
    /// Bytes from one index to the next, of each dim but the first, whose elements are neighbours: multiples of 16.
    pub strides: &'a [u64],
    /// The extents of the box, each at most 256.
    pub box_dims: &'a [u32],
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

type Encode = unsafe extern "C" fn(
    map: *mut TensorMap,
    element: u32,
    rank: u32,
    address: *mut c_void,
    dims: *const u64,
    strides: *const u64,
    box_dims: *const u32,
    element_strides: *const u32,
    interleave: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
) -> u32;

/// Rows of the L2 cache that a copy brings in: of 256 bytes.
const PROMOTION_256: u32 = 3;

/// `CUDA_ERROR_INVALID_VALUE` and `CUDA_ERROR_NOT_SUPPORTED`.
const INVALID_VALUE: u32 = 1;
const NOT_SUPPORTED: u32 = 801;

/// Tensors shorter than this need [`without_small_mark`] with some drivers.
const SMALL: u64 = 128 << 10;

impl Tiled<'_> {
    /// The map.
    ///
    /// # Errors
    ///
    /// What the driver answered: 1 for a tensor or a box beyond its limits, 801 where drivers or GPUs have no tensor maps.
    pub fn encode(&self) -> Result<TensorMap, CudaError> {
        let rank = self.dims.len();
        let fits = (1..=5).contains(&rank) && self.strides.len() + 1 == rank && self.box_dims.len() == rank;
        let ones = [1u32; 5];
        let ask = |function: NonNull<c_void>, map: *mut TensorMap| {
            // SAFETY: cuda.h declares the function with this signature.
            let encode = unsafe { mem::transmute::<*mut c_void, Encode>(function.as_ptr()) };
            // SAFETY: `map` is written, and the arrays have as many elements as the rank asks for, which is five at most; the driver
            // only notes the address.
            unsafe {
                encode(
                    map,
                    self.element as u32,
                    rank as u32,
                    ptr::without_provenance_mut(self.address as usize),
                    self.dims.as_ptr(),
                    self.strides.as_ptr(),
                    self.box_dims.as_ptr(),
                    ones.as_ptr(),
                    0,
                    self.swizzle as u32,
                    PROMOTION_256,
                    0,
                )
            }
        };
        encoded(c"cuTensorMapEncodeTiled", fits, ask, || bytes(self.element, self.dims, self.strides))
    }
}

/// Of a tensor, from its first element to its last.
fn bytes(element: Element, dims: &[u64], strides: &[u64]) -> u64 {
    let steps = dims[1..].iter().zip(strides).map(|(n, stride)| (n - 1).saturating_mul(*stride));
    steps.fold(dims[0].saturating_mul(element.size()), u64::saturating_add)
}

/// The map that a driver function writes, which `ask` calls if what it is given fits it; of a tensor of so many bytes.
fn encoded(
    function: &'static CStr,
    fits: bool,
    ask: impl FnOnce(NonNull<c_void>, *mut TensorMap) -> u32,
    bytes: impl FnOnce() -> u64,
) -> Result<TensorMap, CudaError> {
    let mut map = TensorMap([0; 16]);
    let code = match symbol(function) {
        Some(address) if fits => ask(address, &raw mut map),
        Some(_) => INVALID_VALUE,
        None => NOT_SUPPORTED,
    };
    check_code(function.to_str().expect("names of functions are ASCII"), code)?;
    let small = bytes() < SMALL && driver_version()? <= CudaVersion { major: 13, minor: 1 };
    Ok(if small { without_small_mark(map) } else { map })
}

/// Drivers up to 13.1 set a bit for tensors below 128 KiB with which copies can fail now and then; NVIDIA's own libraries clear it.
fn without_small_mark(mut map: TensorMap) -> TensorMap {
    map.0[1] &= !(1 << 21);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_reaches_to_its_last_element() {
        assert_eq!(bytes(Element::Bf16, &[64, 10, 3], &[256, 4096]), 128 + 9 * 256 + 2 * 4096);
        assert_eq!(bytes(Element::Tf32, &[7], &[]), 28);
    }

    #[test]
    fn the_bit_that_is_cleared_is_one_of_the_second_word() {
        let map = without_small_mark(TensorMap([u64::MAX; 16]));
        let ones: u32 = map.0.iter().map(|word| word.count_ones()).sum();
        assert_eq!((ones, map.0[1] >> 21 & 1), (1023, 0));
        assert_eq!((size_of::<TensorMap>(), align_of::<TensorMap>()), (128, 128));
    }
}
