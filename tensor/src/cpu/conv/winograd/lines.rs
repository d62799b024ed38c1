//! The transforms of the gradient in the weight, a vector of channels at a time: some tiles, one row of positions.

use super::transform::{gradient, input};
use crate::cpu::conv::level::Kernel;
use crate::cpu::gemm::Vector;

/// Tiles of SIDE rows and columns, 4 of the input or 2 of the gradient, side by side in an image whose channels are innermost.
pub(super) struct Lines<'a, const SIDE: usize> {
    /// The pixels, from the first channel on.
    pub image: &'a [f32],
    /// Rows and columns of pixels.
    pub size: [usize; 2],
    /// From pixel to pixel.
    pub pitch: usize,
    /// How many channels are read; at least as many as a vector has lanes.
    pub channels: usize,
    /// Row and column of the first pixel of the first tile. What is not in the image is zero.
    pub corner: [isize; 2],
    /// Tiles, two columns from one to the next.
    pub tiles: usize,
    /// The row of positions.
    pub row: usize,
    /// A zero for each channel.
    pub zeros: &'a [f32],
    /// For each position of the row: for each tile, its channels.
    pub out: &'a mut [f32],
    /// From position to position of the results, and from tile to tile.
    pub to: [usize; 2],
}

/// Rows of a tile that a row of positions adds up: the first, and the second with its sign.
type Pair = (Option<isize>, Option<isize>, f32);

/// `Bᵀ`, row by row.
const INPUT: [Pair; 4] =
    [(Some(0), Some(2), -1.0), (Some(1), Some(2), 1.0), (Some(2), Some(1), -1.0), (Some(1), Some(3), -1.0)];

/// `A`, row by row.
const GRADIENT: [Pair; 4] =
    [(Some(0), None, 1.0), (Some(0), Some(1), 1.0), (Some(0), Some(1), -1.0), (None, Some(1), -1.0)];

impl<const SIDE: usize> Kernel<f32> for Lines<'_, SIDE> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = f32>>(self) {
        const { assert!(SIDE == 2 || SIDE == 4) };
        let Lines { image, size: [rows, columns], pitch, channels, corner, tiles, zeros, out, to, .. } = self;
        let pixels = rows * columns;
        assert!(pixels == 0 || (pixels - 1) * pitch + channels <= image.len(), "the pixels are all there");
        assert!(V::LANES <= channels && channels <= zeros.len(), "channels fill a vector and have zeros");
        assert!(
            tiles == 0 || 3 * to[0] + (tiles - 1) * to[1] + channels <= out.len(),
            "each tile has a place"
        );
        let (first, second, sign) = if SIDE == 4 { INPUT[self.row] } else { GRADIENT[self.row] };
        // Where a row starts, if the image has it.
        let line = |row: Option<isize>| {
            let row = usize::try_from(corner[0] + row?).ok()?;
            (row < rows).then_some(row * columns)
        };
        let lines = [line(first), line(second)];
        for tile in 0..tiles {
            let pixel = |line: Option<usize>, i: usize| {
                let column = usize::try_from(corner[1] + (2 * tile + i) as isize).ok();
                match (line, column) {
                    (Some(line), Some(column)) if column < columns => {
                        image.as_ptr().wrapping_add((line + column) * pitch)
                    }
                    _ => zeros.as_ptr(),
                }
            };
            let from: [[*const f32; 2]; SIDE] = std::array::from_fn(|i| lines.map(|line| pixel(line, i)));
            let out = out.as_mut_ptr().wrapping_add(tile * to[1]);
            for channel in (0..channels).step_by(V::LANES) {
                // The last vector starts early.
                let channel = channel.min(channels - V::LANES);
                // SAFETY: pixels and zeros have all channels, and so have the places of the tile in each position (asserted
                // above); the caller vouches for the instructions.
                unsafe {
                    let mut sums = [V::zero(); 4];
                    for (sum, [a, b]) in sums.iter_mut().zip(from) {
                        *sum = V::splat(sign).times_plus(V::load(b.add(channel)), V::load(a.add(channel)));
                    }
                    let row = if SIDE == 4 { input(sums) } else { gradient([sums[0], sums[1]]) };
                    for (position, value) in row.into_iter().enumerate() {
                        value.store(out.add(position * to[0] + channel));
                    }
                }
            }
        }
    }
}
