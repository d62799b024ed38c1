//! The windows of convolutions and pooling as kernels take them.

use tensor::{Conv, Pool};

use super::walk::Divisor;

/// Windows over up to three spatial dims: `Windows` of `cuda/windows.h`. Dims that a tensor lacks come first, with extent 1.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Windows {
    size: [Divisor; 3],
    out: [Divisor; 3],
    kernel: [Divisor; 3],
    stride: [u32; 3],
    padding: [u32; 3],
    dilation: [u32; 3],
    inner: Divisor,
}

/// Spatial extents or parameters of three dims from those of as many as there are: the first ones are `lacking`.
fn three<T: Copy>(given: &[T], lacking: T) -> [T; 3] {
    let missing = 3 - given.len().min(3);
    std::array::from_fn(|d| if d < missing { lacking } else { given[d - missing] })
}

/// Extents of a tensor without elements are taken as 1: its kernels are not launched.
fn divisors(extents: &[usize]) -> [Divisor; 3] {
    three(extents, 1).map(|extent| Divisor::new(extent.max(1)))
}

fn numbers(given: &[usize], lacking: usize) -> [u32; 3] {
    // Larger ones reach past any tensor that fits into memory, as do these.
    three(given, lacking).map(|n| u32::try_from(n).unwrap_or(u32::MAX >> 2))
}

impl Windows {
    /// Of a pooling; an average has no dilation.
    pub(super) fn of_pool(size: &[usize], out: &[usize], pool: &Pool, dilated: bool) -> Windows {
        let n = size.len();
        let dilation = if dilated { pool.dilation } else { [1; 3] };
        Windows {
            size: divisors(size),
            out: divisors(out),
            kernel: divisors(&pool.kernel[..n]),
            stride: numbers(&pool.stride[..n], 1),
            padding: numbers(&pool.padding[..n], 0),
            dilation: numbers(&dilation[..n], 1),
            inner: Divisor::new(1),
        }
    }

    /// Of a convolution of images and windows of these extents.
    pub(super) fn of_conv(size: &[usize], out: &[usize], kernel: &[usize], conv: &Conv) -> Windows {
        let n = size.len();
        Windows {
            size: divisors(size),
            out: divisors(out),
            kernel: divisors(kernel),
            stride: numbers(&conv.stride[..n], 1),
            padding: numbers(&conv.padding[..n], 0),
            dilation: numbers(&conv.dilation[..n], 1),
            inner: Divisor::new(1),
        }
    }

    /// Of an adaptive pooling, whose windows follow from the extents.
    pub(super) fn of_cells(size: &[usize], out: &[usize]) -> Windows {
        let one = divisors(&[]);
        Windows {
            size: divisors(size),
            out: divisors(out),
            kernel: one,
            stride: [1; 3],
            padding: [0; 3],
            dilation: [1; 3],
            inner: Divisor::new(1),
        }
    }
}

impl Windows {
    /// With so many units side by side at every place: vectors of channels that come last.
    pub(super) fn beside(self, inner: usize) -> Windows {
        Windows { inner: Divisor::new(inner.max(1)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::three;

    #[test]
    fn dims_that_are_lacking_come_first() {
        assert_eq!(three(&[5, 7], 1), [1, 5, 7]);
        assert_eq!(three(&[5, 7, 9], 1), [5, 7, 9]);
        assert_eq!(three::<usize>(&[], 1), [1, 1, 1]);
    }
}
