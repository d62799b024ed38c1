//! Images `[n, c, spatial…]` in the two orders that kernels take: planes, or channels last, which lie as `[n, spatial…, c]`.

use tensor::{Layout, Result, Shape, Tensor};

use super::copy::copy_as;
use super::storage::at;
use crate::gpu::Gpu;

/// The dense layout of a shape with its channels last.
pub(super) fn channels_last(shape: Shape) -> Layout {
    let (dims, rank) = (shape.dims(), shape.rank());
    let lies: Vec<usize> = [&dims[..1], &dims[2..], &dims[1..2]].concat();
    let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    Layout::contiguous(Shape::from(lies)).permute(&order)
}

/// The order that an image lies in, or is brought into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lies {
    /// Row-major: a plane after the other.
    Planes,
    /// The channels of a place side by side.
    Last,
}

impl Lies {
    /// That of a dense image with its channels last, else planes.
    pub(super) fn of(x: &Tensor) -> Lies {
        let layout = x.layout();
        if x.rank() < 3 || layout.is_contiguous() {
            return Lies::Planes;
        }
        let last = channels_last(x.shape());
        let same = |d: usize| x.dims()[d] == 1 || layout.strides()[d] == last.strides()[d];
        if (0..x.rank()).all(same) { Lies::Last } else { Lies::Planes }
    }

    /// The layout of a shape in this order.
    pub(super) fn layout(self, shape: Shape) -> Layout {
        match self {
            Lies::Planes => Layout::contiguous(shape),
            Lies::Last => channels_last(shape),
        }
    }

    /// `x` in this order: itself, if it lies so.
    pub(super) fn bring(self, gpu: &'static Gpu, x: &Tensor) -> Result<Tensor> {
        match self {
            Lies::Planes => x.contiguous(),
            Lies::Last if Lies::of(x) == Lies::Last => Ok(x.clone()),
            Lies::Last => copy_as(gpu, x, x.dtype(), channels_last(x.shape())),
        }
    }
}

/// Whether a tensor begins at a multiple of 16 bytes.
pub(super) fn is_aligned(x: &Tensor) -> bool {
    at(x).0.is_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_has_channels_side_by_side() {
        assert_eq!(channels_last(Shape::from([2, 3, 4, 5])).strides(), [60, 1, 15, 3]);
        assert_eq!(channels_last(Shape::from([2, 3, 4])).strides(), [12, 1, 3]);
        assert_eq!(channels_last(Shape::from([2, 3, 4, 5, 6])).strides(), [360, 1, 90, 18, 3]);
    }

    #[test]
    fn an_image_lies_in_planes_unless_it_is_dense_with_channels_last() {
        let cpu = tensor::Device::cpu();
        let x = Tensor::ones([2, 4, 5, 3], &cpu).unwrap();
        assert_eq!(Lies::of(&x), Lies::Planes);
        let last = x.movedim(3, 1).unwrap();
        assert_eq!(Lies::of(&last), Lies::Last);
        assert_eq!(Lies::of(&last.narrow(1, 0, 2).unwrap()), Lies::Planes);
        assert_eq!(Lies::of(&last.narrow(0, 1, 1).unwrap()), Lies::Last);
        assert_eq!(Lies::of(&x.flip([0]).unwrap()), Lies::Planes);
    }
}
