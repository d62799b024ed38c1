//! The parameters of the windowed ops, shared by the public functions and the backends.

use crate::{Error, Result, Shape};

/// Stride, padding, dilation and groups of a convolution over up to three spatial dims.
///
/// Values for spatial dims are in the order of the shape (`[h, w]`); a `usize` means the same for all.
///
/// ```
/// use gradus_tensor::Conv;
/// let c = Conv::default().stride(2).padding([1, 3]).groups(4);
/// assert_eq!((c.stride, c.padding[..2].to_vec(), c.groups), ([2; 3], vec![1, 3], 4));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Conv {
    /// Steps between windows.
    pub stride: [usize; 3],
    /// Zeros added on both sides.
    pub padding: [usize; 3],
    /// Steps between the taps of a window.
    pub dilation: [usize; 3],
    /// Into how many independent convolutions the channels are split.
    pub groups: usize,
}

impl Default for Conv {
    fn default() -> Self {
        Conv { stride: [1; 3], padding: [0; 3], dilation: [1; 3], groups: 1 }
    }
}

/// One number per spatial dim: a `usize` means the same for all, an array names each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spatial(pub(crate) [usize; 3]);

impl Spatial {
    /// The numbers, of which a tensor with fewer spatial dims uses the first.
    pub fn dims(&self) -> &[usize; 3] {
        &self.0
    }
}

impl From<usize> for Spatial {
    fn from(n: usize) -> Self {
        Spatial([n; 3])
    }
}

impl<const N: usize> From<[usize; N]> for Spatial {
    fn from(given: [usize; N]) -> Self {
        const { assert!(N >= 1 && N <= 3, "one to three spatial dims") }
        Spatial(std::array::from_fn(|i| given[i.min(N - 1)]))
    }
}

impl From<(usize, usize)> for Spatial {
    fn from((h, w): (usize, usize)) -> Self {
        [h, w].into()
    }
}

impl Conv {
    /// Sets the steps between windows.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Spatial>) -> Self {
        self.stride = stride.into().0;
        self
    }

    /// Sets the zeros added on both sides.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Spatial>) -> Self {
        self.padding = padding.into().0;
        self
    }

    /// Sets the steps between the taps of a window.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Spatial>) -> Self {
        self.dilation = dilation.into().0;
        self
    }

    /// Sets into how many independent convolutions the channels are split.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// The shape of `conv(x, weight)`: `[n, c, spatial…] ∗ [o, c / groups, kernel…] -> [n, o, spatial…]`.
    ///
    /// # Errors
    /// Ranks, channels or groups that do not fit, a zero stride, a window larger than the padded input.
    pub fn output_shape(&self, op: &'static str, x: Shape, weight: Shape) -> Result<Shape> {
        let spatial = x.rank().saturating_sub(2);
        if !(1..=3).contains(&spatial) || weight.rank() != x.rank() {
            return Err(Error::shapes(op, x, weight).hint(format!(
                "the input is [n, c, spatial…] and the weight [out, c / groups, kernel…] with as many dims, got {} and {}",
                x.rank(),
                weight.rank()
            )));
        }
        if self.groups == 0 || self.stride.contains(&0) || self.dilation.contains(&0) {
            return Err(Error::argument(
                op,
                format!("stride, dilation and groups are at least 1, got {self:?}"),
            ));
        }
        let (channels, out) = (x.dims()[1], weight.dims()[0]);
        if !channels.is_multiple_of(self.groups) || !out.is_multiple_of(self.groups) {
            return Err(Error::argument(
                op,
                format!("{} groups do not divide {channels} input and {out} output channels", self.groups),
            ));
        }
        if weight.dims()[1] != channels / self.groups {
            return Err(Error::shapes(op, x, weight).hint(format!(
                "the input has {channels} channels, the weight expects {} (groups = {}){}",
                weight.dims()[1].saturating_mul(self.groups),
                self.groups,
                if x.dims().last() == Some(&(weight.dims()[1] * self.groups)) {
                    ": is the input channels-last? permute it to [n, c, …]"
                } else {
                    ""
                }
            )));
        }
        let mut dims = x.dims().to_vec();
        dims[1] = out;
        for i in 0..spatial {
            dims[i + 2] = self.extent(op, i, x, weight.dims()[i + 2])?;
        }
        Shape::from(dims).checked(op)
    }

    fn extent(&self, op: &'static str, i: usize, x: Shape, kernel: usize) -> Result<usize> {
        windows(op, x, x.dims()[i + 2], kernel, self.stride[i], self.padding[i], self.dilation[i], false)
    }
}

/// How many windows fit; with `ceil`, one that starts inside the input or its left padding may stick out.
#[allow(clippy::too_many_arguments)]
fn windows(
    op: &'static str,
    x: Shape,
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    ceil: bool,
) -> Result<usize> {
    let too_big = || {
        Error::shape(
            op,
            x,
            format!(
                "but a window of {kernel} (dilation {dilation}) needs a size of {size} with padding {padding} to be larger"
            ),
        )
    };
    let reach = kernel.checked_sub(1).and_then(|k| k.checked_mul(dilation)).and_then(|r| r.checked_add(1));
    let reach = reach.ok_or_else(|| Error::argument(op, format!("kernel size {kernel} makes no sense")))?;
    let padded = padding.checked_mul(2).and_then(|p| p.checked_add(size)).ok_or_else(too_big)?;
    let free = padded.checked_sub(reach).ok_or_else(too_big)?;
    let mut n = if ceil { free.div_ceil(stride) + 1 } else { free / stride + 1 };
    if ceil && (n - 1) * stride >= size + padding {
        n -= 1;
    }
    Ok(n)
}

/// Kernel size, stride, padding and the like of a pooling over up to three spatial dims.
///
/// A `usize` or an array converts to non-overlapping windows of that size, as in PyTorch.
///
/// ```
/// use gradus_tensor::Pool;
/// assert_eq!(Pool::from(2).stride, [2; 3]);
/// assert_eq!(Pool::from(3).stride(2).padding(1).kernel, [3; 3]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Pool {
    /// Size of a window.
    pub kernel: [usize; 3],
    /// Steps between windows.
    pub stride: [usize; 3],
    /// Added on both sides: -∞ for a maximum, 0 for an average.
    pub padding: [usize; 3],
    /// Steps between the elements of a window (maximum only).
    pub dilation: [usize; 3],
    /// Whether a last window may stick out.
    pub ceil_mode: bool,
    /// Whether an average counts the padding.
    pub count_include_pad: bool,
    /// What an average divides by, in place of the size of its window.
    pub divisor_override: Option<usize>,
}

impl<T: Into<Spatial>> From<T> for Pool {
    fn from(kernel: T) -> Self {
        let kernel = kernel.into().0;
        Pool {
            kernel,
            stride: kernel,
            padding: [0; 3],
            dilation: [1; 3],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }
}

impl Pool {
    /// Non-overlapping windows of that size.
    pub fn new(kernel: impl Into<Spatial>) -> Pool {
        kernel.into().into()
    }

    /// Sets the steps between windows.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Spatial>) -> Self {
        self.stride = stride.into().0;
        self
    }

    /// Sets what is added on both sides; at most half the kernel.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Spatial>) -> Self {
        self.padding = padding.into().0;
        self
    }

    /// Sets the steps between the elements of a window.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Spatial>) -> Self {
        self.dilation = dilation.into().0;
        self
    }

    /// Sets whether a last window may stick out.
    #[must_use]
    pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Sets whether an average counts the padding.
    #[must_use]
    pub fn count_include_pad(mut self, count: bool) -> Self {
        self.count_include_pad = count;
        self
    }

    /// Sets what an average divides by, in place of the size of its window.
    #[must_use]
    pub fn divisor_override(mut self, divisor: usize) -> Self {
        self.divisor_override = Some(divisor);
        self
    }

    /// The shape of the result for an input of `[n, c, spatial…]`.
    ///
    /// # Errors
    /// A zero kernel, stride or dilation, padding of more than half the kernel, a window larger than the input.
    pub fn output_shape(&self, op: &'static str, x: Shape) -> Result<Shape> {
        let spatial = x.rank().saturating_sub(2);
        if !(1..=3).contains(&spatial) {
            return Err(Error::shape(op, x, "expected [n, c, spatial…] with one to three spatial dims"));
        }
        if self.kernel.contains(&0) || self.stride.contains(&0) || self.dilation.contains(&0) {
            return Err(Error::argument(
                op,
                format!("kernel, stride and dilation are at least 1, got {self:?}"),
            ));
        }
        let mut dims = x.dims().to_vec();
        for i in 0..spatial {
            if self.padding[i] > self.kernel[i] / 2 {
                return Err(Error::argument(
                    op,
                    format!(
                        "padding {} is more than half the kernel size {}",
                        self.padding[i], self.kernel[i]
                    ),
                ));
            }
            dims[i + 2] = windows(
                op,
                x,
                dims[i + 2],
                self.kernel[i],
                self.stride[i],
                self.padding[i],
                self.dilation[i],
                self.ceil_mode,
            )?;
        }
        Shape::from(dims).checked(op)
    }
}
