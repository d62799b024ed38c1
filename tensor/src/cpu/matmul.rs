//! Batched matrix products.

use crate::cpu::storage::{filled_shape, memory};
use crate::{Layout, Result, Scalar, Shape, Tensor, match_dtype};

/// `[…, m, k] · […, k, n] -> […, m, n]`.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (m, k, n) = (a.dims()[a.rank() - 2], a.dims()[a.rank() - 1], b.dims()[b.rank() - 1]);
    let shape: Shape = a.shape().with_dim(a.rank() - 1, n);
    let starts = |l: &Layout| -> Vec<usize> {
        if l.shape().numel() == 0 {
            return vec![];
        }
        l.slice(l.rank() - 1, 0, 1, 1).slice(l.rank() - 2, 0, 1, 1).positions().collect()
    };
    let (at, bt) = (starts(a.layout()), starts(b.layout()));
    let strides = |l: &Layout| [l.strides()[l.rank() - 2], l.strides()[l.rank() - 1]];
    let (sa, sb) = (strides(a.layout()), strides(b.layout()));
    match_dtype!(a.dtype(), T => filled_shape::<T>(shape, |y| {
        let (x0, x1) = (memory::<T>(a), memory::<T>(b));
        for (z, y) in y.chunks_mut((m * n).max(1)).enumerate() {
            for (i, y) in y.chunks_mut(n).enumerate() {
                for (j, y) in y.iter_mut().enumerate() {
                    let term = |p: usize| {
                        let left = x0[(at[z] as isize + i as isize * sa[0] + p as isize * sa[1]) as usize];
                        let right = x1[(bt[z] as isize + p as isize * sb[0] + j as isize * sb[1]) as usize];
                        left.to_f64() * right.to_f64()
                    };
                    *y = T::from_f64((0..k).map(term).sum());
                }
            }
        }
        Ok(())
    }))
}
