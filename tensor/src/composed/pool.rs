//! Adaptive maxima made of other ops.

use crate::{DType, Result, Shape, Tensor};

/// The largest of windows from `⌊i·size/out⌋` to `⌈(i+1)·size/out⌉` and its flat index in the plane, one window after the
/// other.
pub fn adaptive_max_pool(x: &Tensor, output: Shape) -> Result<(Tensor, Tensor)> {
    let (n, c) = (x.dims()[0], x.dims()[1]);
    let (size, out) = (&x.dims()[2..], &output.dims()[2..]);
    let plane: usize = size.iter().product();
    let places = Tensor::arange(0, plane as i64, 1, (DType::I64, x.device()))?.reshape(size)?;
    let mut windows = (vec![], vec![]);
    for window in 0..out.iter().product::<usize>() {
        let (mut values, mut places, mut rest) = (x.clone(), places.clone(), window);
        for d in (0..out.len()).rev() {
            let i = rest % out[d];
            rest /= out[d];
            let (start, end) = (i * size[d] / out[d], ((i + 1) * size[d]).div_ceil(out[d]));
            values = values.narrow(d as isize + 2, start, end - start)?;
            places = places.narrow(d as isize, start, end - start)?;
        }
        let values = values.reshape([n, c, places.numel()])?;
        let (value, at) = values.max(-1, true)?;
        // Of several NaN the last one wins, where `max` takes the first: count from behind.
        let behind = values.isnan()?.flip([-1])?.to_dtype(DType::U8)?.max(-1, true)?.1;
        let last = behind.neg()?.add_scalar(places.numel() as i64 - 1)?;
        let at = value.isnan()?.select_from(&last, &at)?;
        let index = places.reshape([places.numel()])?.index_select(0, &at.reshape([n * c])?)?;
        windows.0.push(value);
        windows.1.push(index.reshape([n, c, 1])?);
    }
    if windows.0.is_empty() {
        return Ok((
            Tensor::zeros(output, (x.dtype(), x.device()))?,
            Tensor::zeros(output, (DType::I64, x.device()))?,
        ));
    }
    let all = |windows: &[Tensor]| Tensor::cat(windows, -1)?.reshape(output);
    Ok((all(&windows.0)?, all(&windows.1)?))
}
