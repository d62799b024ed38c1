//! Values and layouts that every op is tried on.

use super::{rounded, upload};
use crate::{DType, Device, Kind, Result, Shape, Tensor};

/// Zeros of both signs, ones, both sides of the usual thresholds, infinities and NaN; for integers what they can hold.
pub(super) fn grid(dtype: DType) -> Vec<f64> {
    let inf = f64::INFINITY;
    match dtype.kind() {
        Kind::Float => vec![
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            2.0,
            -2.5,
            3.0,
            -3.0,
            0.1,
            -0.1,
            6.5,
            -7.25,
            1e-3,
            -1e-3,
            21.0,
            -30.0,
            100.0,
            -100.0,
            inf,
            -inf,
            f64::NAN,
        ],
        Kind::Int => match dtype {
            DType::U8 | DType::U32 => vec![0.0, 1.0, 2.0, 3.0, 7.0, 100.0, 255.0],
            _ => vec![0.0, 1.0, -1.0, 2.0, -3.0, 7.0, 100.0, -128.0, 127.0],
        },
        Kind::Bool => vec![0.0, 1.0, 1.0],
    }
}

/// Finite values of moderate size, which repeat after a long while: for sums, products and everything continuous.
pub(super) fn moderate(n: usize, dtype: DType, seed: u64) -> Vec<f64> {
    let value = |i: u64| (mixed(i, seed) % 2001) as f64 / 500.0 - 2.0;
    let fit = |x: f64| match dtype.kind() {
        Kind::Float => x,
        Kind::Int => x.abs().floor(),
        Kind::Bool => f64::from(u8::from(x > 0.0)),
    };
    (0..n as u64).map(|i| rounded(fit(value(i)), dtype)).collect()
}

/// Integers all over the range of a byte of the dtype's sign, which it ends with.
pub(super) fn bytes(n: usize, dtype: DType, seed: u64) -> Vec<f64> {
    let least = if matches!(dtype, DType::U8 | DType::U32) { 0.0 } else { -128.0 };
    let value = |i: u64| match n as u64 - i {
        1 => least,
        2 => least + 255.0,
        _ => (mixed(i, seed) % 256) as f64 + least,
    };
    (0..n as u64).map(value).collect()
}

/// A number that repeats after a long while.
fn mixed(i: u64, seed: u64) -> u64 {
    (i + 1).wrapping_mul(seed * 2 + 0x9e37_79b9_7f4a_7c15).rotate_left(29) >> 40
}

/// A tensor of some layout, and its elements in row-major order.
pub(super) struct View {
    pub(super) name: &'static str,
    pub(super) x: Tensor,
    pub(super) values: Vec<f64>,
}

/// One tensor of each sort of layout over values repeated in order.
pub(super) fn views(device: &Device, dtype: DType, values: &[f64]) -> Result<Vec<View>> {
    type Make = fn(&Tensor) -> Result<Tensor>;
    let sorts: [(&str, &[usize], Make); 11] = [
        ("contiguous", &[3, 5, 7], |x| Ok(x.clone())),
        ("transposed", &[5, 3, 4], |x| x.transpose(0, 2)),
        ("sliced with a step", &[4, 9, 5], |x| x.slice(1, Some(1), None, 3)),
        ("flipped", &[3, 4, 5], |x| x.flip([0, 2])),
        ("broadcast", &[3, 1, 5], |x| x.broadcast_to([2, 3, 4, 5])),
        ("an offset part", &[6, 6], |x| x.narrow(0, 2, 3)?.narrow(1, 1, 4)),
        ("channels-last", &[2, 5, 6, 3], |x| x.permute([0, 3, 1, 2])),
        ("empty", &[3, 0, 2], |x| Ok(x.clone())),
        ("a scalar", &[], |x| Ok(x.clone())),
        ("one element", &[1, 1], |x| Ok(x.clone())),
        ("long", &[2, 4099], |x| Ok(x.clone())),
    ];
    let view = |&(name, shape, make): &(&'static str, &[usize], Make)| {
        let n = Shape::from(shape).numel();
        let data: Vec<f64> = (0..n).map(|i| rounded(values[i % values.len()], dtype)).collect();
        let x = make(&upload(device, dtype, shape, &data)?)?;
        let values = x.layout().positions().map(|at| data[at]).collect();
        Ok(View { name, x, values })
    };
    sorts.iter().map(view).collect()
}

/// Two lines of more elements than one block of a kernel takes, with many equals, the first with NaN in its second half.
pub(super) fn long_view(device: &Device, dtype: DType) -> Result<[View; 1]> {
    let mut values: Vec<f64> =
        moderate(18_002, dtype, 7).into_iter().map(|x| rounded((x * 8.0).round() / 8.0, dtype)).collect();
    if dtype.is_float() {
        (values[5000], values[7000]) = (f64::NAN, f64::NAN);
    }
    let x = upload(device, dtype, &[2, 9001], &values)?;
    Ok([View { name: "very long", x, values }])
}

/// An image `[n, c, …]` with the channels of a place side by side in memory.
pub(super) fn channels_last(x: &Tensor) -> Result<Tensor> {
    let rank = x.rank() as isize;
    let order: Vec<isize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let back: Vec<isize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    x.permute(&order)?.copy()?.permute(&back)
}

/// The index along each dim of every element in row-major order.
pub(super) fn places(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let dims = dims.to_vec();
    (0..dims.iter().product()).map(move |mut i: usize| {
        let mut place = vec![0; dims.len()];
        for d in (0..dims.len()).rev() {
            place[d] = i % dims[d];
            i /= dims[d];
        }
        place
    })
}

/// The row-major position of a place.
pub(super) fn position(dims: &[usize], place: &[usize]) -> usize {
    dims.iter().zip(place).fold(0, |at, (d, i)| at * d + i)
}
