//! Tensors with their channels last in memory: `[n, c, spatial…]` that lies as `[n, spatial…, c]`.

use tensor::{DType, Layout, Result, Tensor};

use super::geometry::Image;
use crate::backend::channels::channels_last;
use crate::backend::copy::copy_as;
use crate::backend::gemm::countable;
use crate::backend::gemm::product::runs_fit;
use crate::backend::names::size;
use crate::backend::storage::{New, at, derived};
use crate::backend::walk::{Dims, crossing};
use crate::gpu::Gpu;
use crate::launch;
use crate::module::Launch;

/// Whether the channels of every place are whole vectors of 16 bytes.
pub(super) fn is_channels_last(x: &Tensor) -> bool {
    let (image, size) = (Image::of(x), x.dtype().size());
    let others = [&image.spatial[..], &[image.outer]];
    image.channels.0 > 1 && runs_fit(&[image.channels], &others, image.at.0, 16 / size, size)
}

/// `x` with its channels last and filled up with zeros to `channels`: itself, if it is so already. What lies in planes is turned
/// around through tiles; what has few channels is put together by a thread for each vector.
pub(super) fn to_channels_last(gpu: &'static Gpu, x: &Tensor, channels: usize) -> Result<Tensor> {
    if x.dims()[1] == channels && is_channels_last(x) {
        return Ok(x.clone());
    }
    let layout = channels_last(x.shape().with_dim(1, channels));
    if x.dims()[1] == channels && crossing(&layout, x.layout()).is_some() {
        return copy_as(gpu, x, x.dtype(), layout);
    }
    fill_up(gpu, x, layout, x.dtype())
}

/// As [`to_channels_last`], of a weight, which is mostly that of the last call: the copy is kept until the weight changes.
pub(super) fn weight_to_channels_last(gpu: &'static Gpu, weight: &Tensor, channels: usize) -> Result<Tensor> {
    if weight.dims()[1] == channels && is_channels_last(weight) {
        return Ok(weight.clone());
    }
    derived(weight, channels, || to_channels_last(gpu, weight, channels))
}

fn fill_up(gpu: &'static Gpu, x: &Tensor, layout: Layout, dtype: DType) -> Result<Tensor> {
    let y = New::of(gpu, layout, dtype)?;
    let (given, lanes) = (x.dims()[1], 16 / dtype.size());
    let places = Dims::of([x.layout()], |d| d != 1).joined();
    let vectors = layout.dims()[1].div_ceil(lanes);
    let count = places.count() * vectors;
    if count > 0 {
        countable("conv", count)?;
        launch::channels_last(
            gpu,
            &format!("channels_last_{}", size(dtype)),
            Launch::new(count.div_ceil(256) as u32, 256),
            places.walk(),
            count as u32,
            given as u32,
            layout.dims()[1] as u32,
            x.layout().strides()[1] as i64,
            y.at(),
            at(x),
        )?;
    }
    y.tensor()
}
