//! The planes of several images as one matrix, whose lines go on from image to image: how a gradient in the weight sums over
//! all of them at once.
//!
//! ```text
//! line(i)[n · plane + p] = image[n][i][p]
//! ```

use super::planes::Images;
use crate::Scalar;
use crate::cpu::gemm::{Block, GemmElement, MatRef, PackSource, Rows};
use std::ops::Range;

/// Some steps of the lines of some images.
pub(super) struct Stacked<'a, T> {
    /// A matrix `[lines, plane]` for each image.
    images: &'a [MatRef<'a, T>],
    steps: Range<usize>,
}

impl<'a, T> Stacked<'a, T> {
    /// Steps `n · plane + p` of images of one size.
    pub(super) fn new(images: &'a [MatRef<'a, T>], steps: Range<usize>) -> Self {
        debug_assert!(
            images.windows(2).all(|two| { (two[0].rows(), two[0].cols()) == (two[1].rows(), two[1].cols()) })
        );
        let all = images.iter().map(MatRef::cols).sum();
        assert!(steps.start <= steps.end && steps.end <= all, "the images have the steps {steps:?}");
        Self { images, steps }
    }
}

/// The channels of a group of each image, if their planes lie in memory as rows of a matrix.
pub(super) fn planes_of<'a, T: Scalar + GemmElement>(
    images: &Images<'a, T>,
    count: usize,
    first: usize,
    channels: usize,
) -> Option<Vec<MatRef<'a, T::Acc>>> {
    let [depth, height, width] = images.dims;
    let dense = [height * width, width, 1];
    let fits = (0..3).all(|i| images.dims[i] == 1 || images.along[i] == dense[i] as isize);
    let matrix = |n: usize| {
        let data = images.in_place(n, first)?;
        Some(MatRef::new(data, 0, [channels, depth * height * width], [images.channel, 1]))
    };
    fits.then(|| (0..count).map(matrix).collect()).flatten()
}

impl<T: GemmElement> PackSource<T::Acc> for Stacked<'_, T> {
    fn lines(&self) -> usize {
        self.images.first().map_or(0, MatRef::rows)
    }

    fn steps(&self) -> usize {
        self.steps.len()
    }

    fn pack(&self, block: &Block, panels: &mut [T::Acc]) {
        assert_eq!(panels.len(), block.volume(), "the panels of a block have exactly its volume");
        if panels.is_empty() {
            return;
        }
        let plane = self.images.first().map_or(1, MatRef::cols);
        let steps = self.steps.start + block.k.start..self.steps.start + block.k.end;
        for (at, panel) in panels.chunks_exact_mut(block.width * block.k.len()).enumerate() {
            let first = block.lines.start + at * block.width;
            let lines = first..block.lines.end.min(first + block.width);
            let (mut from, mut rest) = (steps.start, panel);
            while from < steps.end {
                // Up to the end of an image, the lines are those of a matrix.
                let pixel = from % plane;
                let k = pixel..plane.min(pixel + steps.end - from);
                from += k.len();
                let (part, after) = rest.split_at_mut(block.width * k.len());
                let own = Block { k, lines: lines.clone(), ..*block };
                Rows(self.images[(from - 1) / plane]).pack(&own, part);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa;

    #[test]
    fn lines_go_on_from_image_to_image() {
        let (lines, plane) = (21, 13);
        let data: Vec<f32> = (0..3 * lines * plane).map(|i| i as f32).collect();
        let matrix = |n: usize| MatRef::new(&data, n * lines * plane, [lines, plane], [plane as isize, 1]);
        let images = [matrix(0), matrix(1), matrix(2)];
        for &isa in isa::available() {
            for steps in [0..39, 5..30, 13..26, 20..20, 38..39] {
                let stacked = Stacked::new(&images, steps.clone());
                assert_eq!((stacked.lines(), stacked.steps()), (lines, steps.len()));
                for (k, width) in [(0..steps.len(), 6), (steps.len() / 3..steps.len(), 16), (0..0, 4)] {
                    let block = Block { k: k.clone(), lines: 2..lines, width, isa };
                    let mut panels = vec![f32::NAN; block.volume()];
                    stacked.pack(&block, &mut panels);
                    for (at, value) in panels.iter().enumerate() {
                        let (panel, rest) = (at / (width * k.len()), at % (width * k.len()));
                        let (line, step) =
                            (2 + panel * width + rest % width, steps.start + k.start + rest / width);
                        let expected = (step / plane * lines + line) * plane + step % plane;
                        let expected = if line < lines { expected as f32 } else { 0.0 };
                        assert_eq!(*value, expected, "line {line}, step {step} at {isa}");
                    }
                }
            }
        }
    }
}
