//! The loops of the direct convolution: one row of outputs, all taps.
//!
//! They are written on arrays of [`LANES`] values, which the compiler turns into vectors of whatever instructions the function
//! around them is compiled for. Products and sums are rounded separately, so that every level gives the same bits.

use crate::cpu::gemm::Scalar;
use crate::cpu::isa::Isa;

/// Values of a block.
pub(super) const LANES: usize = 8;

/// The offsets of the taps of an output.
pub(super) struct Taps {
    offsets: Vec<usize>,
    /// The largest.
    reach: usize,
}

/// Compiles a loop for AVX2 as well, and picks.
macro_rules! compiled {
    ($(fn $name:ident => $body:ident($self:ident, $isa:ident $(, $arg:ident: $t:ty)*);)*) => {$(
        fn $name<S: Scalar>(&$self, $isa: Isa $(, $arg: $t)*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            unsafe fn avx2<S: Scalar>(taps: &Taps $(, $arg: $t)*) {
                taps.$body($($arg),*)
            }
            match $isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: a level is only ever one that the machine has.
                Isa::Avx2 | Isa::Avx512 | Isa::Amx => unsafe { avx2($self $(, $arg)*) },
                _ => $self.$body($($arg),*),
            }
        }
    )*};
}

impl Taps {
    pub(super) fn new(offsets: Vec<usize>) -> Taps {
        let reach = offsets.iter().copied().max().unwrap_or(0);
        Taps { offsets, reach }
    }

    /// `out[j] = start + Σ_t weights[t] · data[from + offsets[t] + j]`.
    pub(super) fn correlate<S: Scalar>(
        &self,
        isa: Isa,
        data: &[S],
        from: usize,
        weights: &[S],
        start: S,
        out: &mut [S],
    ) {
        self.assert_inside(data, from, out.len());
        assert_eq!(weights.len(), self.offsets.len(), "each tap has a weight");
        self.correlate_compiled(isa, data, from, weights, start, out);
    }

    /// `sums[t][lane] += Σ_j data[from + offsets[t] + j] · row[j]`, with j dealt to the lanes in turn.
    pub(super) fn dot<S: Scalar>(
        &self,
        isa: Isa,
        data: &[S],
        from: usize,
        row: &[S],
        sums: &mut [[S; LANES]],
    ) {
        self.assert_inside(data, from, row.len());
        self.dot_compiled(isa, data, from, row, sums);
    }

    fn assert_inside<S>(&self, data: &[S], from: usize, len: usize) {
        let inside = self.offsets.is_empty() || len == 0 || from + self.reach + len <= data.len();
        assert!(inside, "a tap at {from} + {} reads {len} of {} values", self.reach, data.len());
    }

    compiled! {
        fn correlate_compiled => correlate_row(self, isa, data: &[S], from: usize, weights: &[S], start: S, out: &mut [S]);
        fn dot_compiled => dot_row(self, isa, data: &[S], from: usize, row: &[S], sums: &mut [[S; LANES]]);
    }

    #[inline(always)]
    fn correlate_row<S: Scalar>(&self, data: &[S], from: usize, weights: &[S], start: S, out: &mut [S]) {
        const WIDE: usize = 4 * LANES;
        let mut j = 0;
        while j + WIDE <= out.len() {
            self.block::<S, WIDE>(data, from + j, weights, start, &mut out[j..]);
            j += WIDE;
        }
        while j + LANES <= out.len() {
            self.block::<S, LANES>(data, from + j, weights, start, &mut out[j..]);
            j += LANES;
        }
        if j < out.len() && out.len() >= LANES {
            // The last block starts early and repeats a few values rather than be short.
            j = out.len() - LANES;
            self.block::<S, LANES>(data, from + j, weights, start, &mut out[j..]);
            return;
        }
        while j < out.len() {
            self.block::<S, 1>(data, from + j, weights, start, &mut out[j..]);
            j += 1;
        }
    }

    /// The first N values of `out`; the caller has found the taps to be inside `data`.
    #[inline(always)]
    fn block<S: Scalar, const N: usize>(
        &self,
        data: &[S],
        from: usize,
        weights: &[S],
        start: S,
        out: &mut [S],
    ) {
        let mut sums = [start; N];
        for (offset, weight) in self.offsets.iter().zip(weights) {
            debug_assert!(from + offset + N <= data.len());
            // SAFETY: `correlate` has asserted that each tap of the row, of which this is a part, is inside.
            let values = unsafe { data.as_ptr().add(from + offset).cast::<[S; N]>().read() };
            for i in 0..N {
                sums[i] = values[i].times_plus(*weight, sums[i]);
            }
        }
        out[..N].copy_from_slice(&sums);
    }

    #[inline(always)]
    fn dot_row<S: Scalar>(&self, data: &[S], from: usize, row: &[S], sums: &mut [[S; LANES]]) {
        if row.is_empty() {
            return;
        }
        for (offset, sums) in self.offsets.iter().zip(sums) {
            let values = &data[from + offset..][..row.len()];
            let (a, b) = (values.chunks_exact(LANES), row.chunks_exact(LANES));
            for (sum, (a, b)) in sums.iter_mut().zip(a.remainder().iter().zip(b.remainder())) {
                *sum = a.times_plus(*b, *sum);
            }
            let mut lanes = *sums;
            for (a, b) in a.zip(b) {
                for i in 0..LANES {
                    lanes[i] = a[i].times_plus(b[i], lanes[i]);
                }
            }
            *sums = lanes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::available;

    #[test]
    fn rows_of_every_length_agree_with_the_formulas() {
        let data: Vec<f64> = (0..200).map(|i| (i * i % 23) as f64).collect();
        let taps = Taps::new(vec![3, 0, 57, 20]);
        let weights = [1.0, -2.0, 3.0, 5.0];
        for len in (0..20).chain([31, 32, 33, 47, 80]) {
            for &isa in available() {
                let at = |t: usize, j: usize| data[9 + taps.offsets[t] + j];
                let mut out = vec![f64::NAN; len];
                taps.correlate(isa, &data, 9, &weights, 0.5, &mut out);
                let sum = |j: usize| (0..4).map(|t| weights[t] * at(t, j)).sum::<f64>() + 0.5;
                assert_eq!(out, (0..len).map(sum).collect::<Vec<_>>());
                let mut sums = [[1.0; LANES]; 4];
                taps.dot(isa, &data, 9, &out, &mut sums);
                for t in 0..4 {
                    let expected = (0..len).map(|j| at(t, j) * out[j]).sum::<f64>() + LANES as f64;
                    assert_eq!(sums[t].iter().sum::<f64>(), expected);
                }
            }
        }
    }
}
