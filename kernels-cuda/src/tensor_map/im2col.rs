//! Maps of images, of which a copy gathers one pixel of each of a run of windows (im2col).

use std::ffi::{c_int, c_void};
use std::mem;
use std::ptr::{self, NonNull};

use super::{Element, PROMOTION_256, Swizzle, TensorMap, bytes, encoded};
use crate::CudaError;

/// Images with their channels last in the GPU's memory, and the windows over them; dims are those that run fastest first: channels, one
/// to three spatial dims with the last of them first, images.
///
/// Windows begin in a box that reaches from `lower`, a distance from each image's first pixel, to `upper`, a distance from its last. A copy
/// gathers one pixel of each of `pixels` windows, which follow each other along rows, planes and images.
#[derive(Clone, Copy, Debug)]
pub struct Im2col<'a> {
    /// Their elements.
    pub element: Element,
    /// Where they begin: a multiple of 16.
    pub address: u64,
    /// Their extents, three to five, each at least 1.
    pub dims: &'a [u64],
    /// Bytes from one index to the next, of each dim but the channels, which are neighbours: multiples of 16.
    pub strides: &'a [u64],
    /// The corners of the box, for each spatial dim: 16 bits with a sign for one dim, 8 for two, 5 for three.
    pub lower: &'a [i32],
    /// See `lower`.
    pub upper: &'a [i32],
    /// Pixels from a window to the next, for each spatial dim: 1 to 8.
    pub steps: &'a [u32],
    /// How many channels of a pixel are copied: at most 256.
    pub channels: u32,
    /// How many windows a copy gathers a pixel of: at most 1024.
    pub pixels: u32,
    /// How the channels of pixels lie in shared memory, pixel after pixel.
    pub swizzle: Swizzle,
}

type Encode = unsafe extern "C" fn(
    map: *mut TensorMap,
    element: u32,
    rank: u32,
    address: *mut c_void,
    dims: *const u64,
    strides: *const u64,
    lower: *const c_int,
    upper: *const c_int,
    channels: u32,
    pixels: u32,
    element_strides: *const u32,
    interleave: u32,
    swizzle: u32,
    promotion: u32,
    fill: u32,
) -> u32;

impl Im2col<'_> {
    /// The map.
    ///
    /// # Errors
    ///
    /// What the driver answered: 1 for images or windows beyond its limits, 801 where drivers or GPUs have no tensor maps.
    pub fn encode(&self) -> Result<TensorMap, CudaError> {
        let rank = self.dims.len();
        let spatial = [self.lower.len(), self.upper.len(), self.steps.len()];
        let fits = (3..=5).contains(&rank)
            && self.strides.len() + 1 == rank
            && spatial.iter().all(|n| n + 2 == rank);
        let mut steps = [1u32; 5];
        steps[1..].iter_mut().zip(self.steps).for_each(|(to, step)| *to = *step);
        let ask = |function: NonNull<c_void>, map: *mut TensorMap| {
            // SAFETY: cuda.h declares the function with this signature.
            let encode = unsafe { mem::transmute::<*mut c_void, Encode>(function.as_ptr()) };
            // SAFETY: `map` is written, and the arrays have as many elements as the rank asks for: five at most of dims and steps, of
            // strides one less, and of corners two less. The driver only notes the address.
            unsafe {
                encode(
                    map,
                    self.element as u32,
                    rank as u32,
                    ptr::without_provenance_mut(self.address as usize),
                    self.dims.as_ptr(),
                    self.strides.as_ptr(),
                    self.lower.as_ptr(),
                    self.upper.as_ptr(),
                    self.channels,
                    self.pixels,
                    steps.as_ptr(),
                    0,
                    self.swizzle as u32,
                    PROMOTION_256,
                    0,
                )
            }
        };
        encoded(c"cuTensorMapEncodeIm2col", fits, ask, || bytes(self.element, self.dims, self.strides))
    }
}
