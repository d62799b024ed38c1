//! Three loops: what every path is tested against.

use super::scalar::GemmElement;

/// `Σ_p |a[i, p] · b[p, j]|` bounds the error of a sum; the sum itself is its first part.
pub(super) struct Sum {
    /// The sum in `f64`.
    pub value: f64,
    /// The sum of the magnitudes.
    pub magnitude: f64,
}

/// The products of row-major `a` (m x k) and `b` (k x n), each summed in `f64` in the order of k.
pub(super) fn product(m: usize, n: usize, k: usize, a: &[f64], b: &[f64]) -> Vec<Sum> {
    let mut sums = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let mut sum = Sum { value: 0.0, magnitude: 0.0 };
            for p in 0..k {
                let term = a[i * k + p] * b[p * n + j];
                sum.value += term;
                sum.magnitude += term.abs();
            }
            sums.push(sum);
        }
    }
    sums
}

/// The same in a type's own arithmetic, for integers.
pub(super) fn exact<T: GemmElement>(m: usize, n: usize, k: usize, a: &[T], b: &[T]) -> Vec<T> {
    use super::scalar::Scalar;
    let mut sums = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let sum = (0..k)
                .fold(T::Acc::ZERO, |sum, p| a[i * k + p].widen().times_plus(b[p * n + j].widen(), sum));
            sums.push(T::narrow(sum));
        }
    }
    sums
}
