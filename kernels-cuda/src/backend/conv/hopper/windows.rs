//! Windows over images, as the tensor memory accelerator walks over them.

use tensor::DType;

use super::{BLOCK, bytes};
use crate::CudaError;
use crate::backend::conv::geometry::{Dim, Image};
use crate::backend::conv::product::{Form, Parts};
use crate::backend::gemm::hopper::{Unit, element};
use crate::backend::walk::Divisor;
use crate::tensor_map::{Im2col, Swizzle, TensorMap};

/// The channels of all taps in blocks: `Blocks` of `cuda/hopper/images.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Blocks {
    chunks: Divisor,
    taps: [Divisor; 2],
    last: u32,
}

/// Windows over images: `Images` of `cuda/hopper/images.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Images {
    blocks: Blocks,
    windows: [Divisor; 3],
    first: [i32; 3],
    steps: [i32; 3],
    offsets: [u32; 3],
    channels: u32,
    rank: u32,
}

impl Blocks {
    pub(super) fn new(taps: [usize; 3], channels: usize) -> Blocks {
        Blocks {
            chunks: Divisor::new(channels.div_ceil(BLOCK)),
            taps: [Divisor::new(taps[0]), Divisor::new(taps[1])],
            last: (Blocks::count(taps, channels) - 1) as u32,
        }
    }

    pub(super) fn count(taps: [usize; 3], channels: usize) -> usize {
        taps.iter().product::<usize>() * channels.div_ceil(BLOCK)
    }
}

/// Windows in one spatial dim: the pixel of tap `r` of window `i` is `first + step i + offset r`. Taps are counted so that `offset` is
/// not negative, from the last on if they are `turned`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Along {
    size: usize,
    windows: usize,
    pub(super) taps: usize,
    first: isize,
    step: usize,
    offset: usize,
    pub(super) turned: bool,
}

impl Along {
    fn new(
        size: usize,
        (windows, step): (usize, isize),
        (taps, tap_step): (usize, isize),
        shift: isize,
    ) -> Along {
        let turned = tap_step < 0;
        Along {
            size,
            windows,
            taps,
            first: if turned { shift + (taps as isize - 1) * tap_step } else { shift },
            step: if windows == 1 { 1 } else { step.unsigned_abs() },
            offset: if taps == 1 { 0 } else { tap_step.unsigned_abs() },
            turned,
        }
    }

    /// The corners of the box that windows begin in, as distances from the first and the last pixel.
    fn corners(&self) -> [isize; 2] {
        let last = self.first + ((self.windows - 1) * self.step) as isize;
        [self.first, last - (self.size as isize - 1)]
    }

    /// Whether a tensor map of so many spatial dims describes it: corners have 16, 8 or 5 bits, and a sign.
    fn fits(&self, spatial: usize) -> bool {
        let most: isize = [1 << 15, 1 << 7, 1 << 4][spatial - 1];
        self.size > 0
            && self.corners().iter().all(|corner| (-most..most).contains(corner))
            && (1..=8).contains(&self.step)
            && (self.taps - 1).saturating_mul(self.offset) < 2 * most as usize
    }

    fn is_trivial(&self) -> bool {
        self.size == 1 && self.windows == 1 && self.taps == 1 && self.first == 0
    }
}

/// Windows over images that a tensor map describes.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub(super) along: [Along; 3],
    /// How many dims there are.
    spatial: usize,
    image: Image,
}

impl Windows {
    pub(super) fn new(form: Form, parts: &Parts) -> Option<Windows> {
        let Parts { frame, right, image, .. } = parts;
        let ((windows, steps), (taps, tap_steps)) = match form {
            Form::Places => ((right.0, frame.row_steps), (right.1, frame.column_steps)),
            Form::Taps => ((right.1, frame.column_steps), (right.0, frame.row_steps)),
        };
        let along = std::array::from_fn(|s| {
            Along::new(frame.sizes[s], (windows[s].0, steps[s]), (taps[s].0, tap_steps[s]), frame.shifts[s])
        });
        let spatial = (1..3).rev().find(|&s: &usize| !Along::is_trivial(&along[s])).map_or(1, |s| s + 1);
        let whole = |&(n, stride): &Dim| n == 1 || stride > 0 && stride % 8 == 0;
        let fits = along.iter().all(|a| a.fits(spatial))
            && image.channels.1 == 1
            && image.spatial.iter().all(whole)
            && whole(&image.outer)
            && image.at.0.is_multiple_of(16);
        fits.then_some(Windows { along, spatial, image: *image })
    }

    pub(super) fn taps(&self) -> [usize; 3] {
        self.along.map(|a| a.taps)
    }

    /// As kernels take them, with so many channels in a group.
    pub(super) fn images(&self, channels: usize) -> Images {
        Images {
            blocks: Blocks::new(self.taps(), channels),
            windows: self.along.map(|a| Divisor::new(a.windows)),
            first: self.along.map(|a| a.first as i32),
            steps: self.along.map(|a| a.step as i32),
            offsets: self.along.map(|a| a.offset as u32),
            channels: channels as u32,
            rank: self.spatial as u32 + 2,
        }
    }

    /// The map that gathers so many windows at a time.
    pub(super) fn map(&self, dtype: DType, pixels: usize) -> std::result::Result<TensorMap, CudaError> {
        let (n, image) = (self.spatial, &self.image);
        let mut dims = vec![image.channels];
        dims.extend_from_slice(&image.spatial[..n]);
        dims.push(image.outer);
        let corners = self.along.map(|a| a.corners().map(|corner| corner as i32));
        Im2col {
            element: element(Unit::Halves, dtype),
            address: image.at.0,
            dims: &dims.iter().map(|d| d.0 as u64).collect::<Vec<_>>(),
            strides: &dims[1..].iter().map(bytes).collect::<Vec<_>>(),
            lower: &corners.map(|[lower, _]| lower)[..n],
            upper: &corners.map(|[_, upper]| upper)[..n],
            steps: &self.along.map(|a| a.step as u32)[..n],
            channels: BLOCK as u32,
            pixels: pixels as u32,
            swizzle: Swizzle::Bytes128,
        }
        .encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_between_the_corners_of_their_box() {
        // A window of three pixels with a padding of 1: over all pixels, and over every other one.
        let all = Along::new(13, (13, 1), (3, 1), -1);
        assert_eq!((all.corners(), all.first, all.offset), ([-1, -1], -1, 1));
        assert_eq!(Along::new(15, (8, 2), (3, 1), -1).corners(), [-1, -1]);
        assert_eq!(Along::new(16, (8, 2), (3, 1), -1).corners(), [-1, -2]);
        // The windows that meet a pixel, over the gradient of the result.
        let back = Along::new(13, (13, 1), (3, -1), 1);
        assert_eq!((back.corners(), back.first, back.offset, back.turned), ([-1, -1], -1, 1, true));
        // One window and one tap have no steps.
        assert_eq!(Along::new(5, (1, 1 << 40), (1, 1 << 40), 0).corners(), [0, -4]);
    }

    #[test]
    fn a_window_has_the_pixels_that_it_is_asked_for() {
        for (step, tap_step, shift) in [(1, 1, -1), (2, 3, 0), (3, -2, 5), (1, -1, 0)] {
            let (windows, taps) = (7, 4);
            let along = Along::new(40, (windows, step), (taps, tap_step), shift);
            for (i, r) in (0..windows).flat_map(|i| (0..taps).map(move |r| (i, r))) {
                let walked = if along.turned { taps - 1 - r } else { r };
                let pixel = along.first + (along.step * i + along.offset * walked) as isize;
                assert_eq!(pixel, shift + step * i as isize + tap_step * r as isize);
            }
        }
    }

    #[test]
    fn windows_beyond_the_bits_of_a_map_are_refused() {
        let dilated = Along::new(700, (700, 1), (2, 256), -128);
        assert!(dilated.fits(1) && !dilated.fits(2));
        let padded = |n: isize| Along::new(40, (40, 1), (1, 1), -n);
        assert!(padded(128).fits(2) && !padded(129).fits(2) && padded(16).fits(3) && !padded(17).fits(3));
        assert!(Along::new(40, (5, 8), (1, 1), 0).fits(3) && !Along::new(40, (4, 9), (1, 1), 0).fits(3));
        assert!(!Along::new(0, (1, 1), (1, 1), -1).fits(2));
        let wide = |taps: usize| Along::new(16, (10, 1), (taps, 1), 0);
        assert!(wide(32).fits(3) && !wide(34).fits(3));
    }

    #[test]
    fn the_channels_of_every_tap_are_whole_blocks() {
        assert_eq!(Blocks::count([3, 3, 1], 64), 9);
        assert_eq!(Blocks::count([3, 2, 2], 72), 24);
    }
}
