//! The sizes of a convolution in one form: three spatial dims, channels per group.

use crate::{Conv, Shape};

/// One number per spatial dim, `[d, h, w]`; dims that an operand lacks have size 1 and come first.
pub(super) type Dims = [usize; 3];

/// The sizes of one convolution, its gradients included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    /// Images.
    pub n: usize,
    /// Independent convolutions that the channels are split into.
    pub groups: usize,
    /// Input channels of a group.
    pub c: usize,
    /// Output channels of a group.
    pub k: usize,
    /// Input planes.
    pub x: Dims,
    /// Kernel.
    pub w: Dims,
    /// Output planes.
    pub y: Dims,
    /// Input positions between neighbours of the output.
    pub stride: Dims,
    /// Zeros before and after the input.
    pub padding: Dims,
    /// Input positions between neighbours of the kernel.
    pub dilation: Dims,
}

impl Geometry {
    /// The sizes of `y = x ∗ weight` for shapes that [`Conv::output_shape`] has approved.
    pub(super) fn new(x: Shape, weight: Shape, y: Shape, conv: &Conv) -> Geometry {
        let missing = 5 - x.rank();
        let along = |v: &[usize], fill: usize| -> Dims {
            std::array::from_fn(|i| i.checked_sub(missing).map_or(fill, |i| v[i]))
        };
        Geometry {
            n: x.dims()[0],
            groups: conv.groups,
            c: x.dims()[1] / conv.groups,
            k: y.dims()[1] / conv.groups,
            x: along(&x.dims()[2..], 1),
            w: along(&weight.dims()[2..], 1),
            y: along(&y.dims()[2..], 1),
            stride: along(&conv.stride, 1),
            padding: along(&conv.padding, 0),
            dilation: along(&conv.dilation, 1),
        }
    }

    /// Products of the whole convolution.
    pub(super) fn products(&self) -> usize {
        [self.n, self.groups, self.k, self.c, volume(self.y), volume(self.w)]
            .into_iter()
            .fold(1, usize::saturating_mul)
    }
}

/// The number of positions.
pub(super) fn volume(dims: Dims) -> usize {
    dims.iter().product()
}

/// All positions, in row-major order.
pub(super) fn positions(dims: Dims) -> impl Iterator<Item = Dims> {
    let [d, h, w] = dims;
    (0..d).flat_map(move |a| (0..h).flat_map(move |b| (0..w).map(move |c| [a, b, c])))
}

/// The row-major index of a position.
pub(super) fn flat(dims: Dims, at: Dims) -> usize {
    (at[0] * dims[1] + at[1]) * dims[2] + at[2]
}
