//! Random numbers: element `i` is made from counter `offset + i` alone, many of them side by side. Dropout draws as it computes.

use crate::backend::Distribution;
use crate::cpu::isa::{Isa, isa};
use crate::cpu::map::{self, Operand};
use crate::cpu::reduce::contiguous;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::dispatch;
use crate::op::BinaryOp;
use crate::random::{normal_f64, philox, unit_f64};
use crate::{Bool, DType, Result, Scalar, Shape, Tensor, composed, match_dtype};

/// Elements of a task.
const CHUNK: usize = 4096;

/// Elements drawn at a time.
const BLOCK: usize = 64;

/// A row-major tensor of draws.
pub(crate) fn random(d: Distribution, dtype: DType, shape: Shape, seed: u64, offset: u64) -> Result<Tensor> {
    let isa = isa();
    match_dtype!(dtype, T => filled_shape::<T>(shape, |y| {
        parallel_chunks_mut(y, CHUNK, |chunk, y| {
            let start = offset.wrapping_add((chunk * CHUNK) as u64);
            let mut block = [0.0; BLOCK];
            for (i, y) in y.chunks_mut(BLOCK).enumerate() {
                let start = start.wrapping_add((i * BLOCK) as u64);
                match d {
                    Distribution::Integers { low, high } => draw_integers(isa, low, high, seed, start, y),
                    Distribution::Uniform { .. } | Distribution::Normal { .. } | Distribution::Bernoulli { .. } => {
                        draw_floats(isa, d, seed, start, &mut block);
                        round(isa, d, &block, y);
                    }
                }
            }
        });
        Ok(())
    }))
}

/// `x / keep` with probability `keep`, else `x · 0`, and which were kept: those for which [`random`] draws 1.
pub(crate) fn dropout(x: &Tensor, keep: f64, seed: u64, offset: u64) -> Result<(Tensor, Tensor)> {
    if !x.layout().is_contiguous() {
        return composed::dropout(x, keep, seed, offset);
    }
    let isa = isa();
    let mut y = None;
    let kept = filled_shape::<Bool>(x.shape(), |kept| {
        y = Some(match_dtype!(x.dtype(), T => filled_shape::<T>(x.shape(), |y| {
            let (x, y, kept) = (elements::<T>(x), SharedMut::new(y), SharedMut::new(kept));
            parallel_for(x.len().div_ceil(CHUNK), |chunk| {
                let at = chunk * CHUNK..x.len().min((chunk + 1) * CHUNK);
                // SAFETY: each chunk belongs to one task.
                let (y, kept) = unsafe { (y.slice(at.clone()), kept.slice(at.clone())) };
                draw_kept(isa, keep, seed, offset.wrapping_add(at.start as u64), kept);
                scale_kept(isa, &x[at], kept, keep, y);
            });
            Ok(())
        }))?);
        Ok(())
    })?;
    Ok((y.expect("both are filled together"), kept))
}

/// The gradient of [`dropout`]: `grad / keep` where it kept, else `grad · 0`.
pub(crate) fn dropout_backward(grad: &Tensor, kept: &Tensor, keep: f64) -> Result<Tensor> {
    let (grad, kept, isa) = (contiguous(grad)?, contiguous(kept)?, isa());
    match_dtype!(grad.dtype(), T => filled_shape::<T>(grad.shape(), |y| {
        let (g, kept) = (elements::<T>(&grad), elements::<Bool>(&kept));
        parallel_chunks_mut(y, GRAIN, |chunk, y| {
            let at = chunk * GRAIN..chunk * GRAIN + y.len();
            scale_kept(isa, &g[at.clone()], &kept[at], keep, y);
        });
        Ok(())
    }))
}

/// `y = x · (kept ? 1 / keep : 0)`, as products of elements.
fn scale_kept<T: Scalar>(isa: Isa, x: &[T], kept: &[Bool], keep: f64, y: &mut [T]) {
    /// Factors made at a time: they stay in the first-level cache.
    const BLOCK: usize = 512;
    let mut factors = [T::default(); BLOCK];
    for ((x, kept), y) in x.chunks(BLOCK).zip(kept.chunks(BLOCK)).zip(y.chunks_mut(BLOCK)) {
        let factors = &mut factors[..y.len()];
        choose(isa, kept, T::from_f64(1.0 / keep), factors);
        map::binary(BinaryOp::Mul.into(), isa, Operand::Slice(x), Operand::Slice(factors), y);
    }
}

dispatch! {
    /// `y = kept ? factor : 0`.
    fn choose<T: Scalar>(kept: &[Bool], factor: T, y: &mut [T]) {
        for (y, kept) in y.iter_mut().zip(kept) {
            *y = if kept.0 != 0 { factor } else { T::default() };
        }
    }
}

dispatch! {
    /// Whether the draws of counters from `start` on are below `keep`.
    fn draw_kept(keep: f64, seed: u64, start: u64, y: &mut [Bool]) {
        // A draw has 53 bits: as an integer it is compared exactly.
        let limit = (keep * (1u64 << 53) as f64).ceil() as u64;
        for (i, y) in y.chunks_mut(BLOCK).enumerate() {
            let start = start.wrapping_add((i * BLOCK) as u64);
            let mut words = [[0; BLOCK]; 2];
            let [a, b] = &mut words;
            for j in 0..BLOCK {
                [a[j], b[j], ..] = philox(seed, start.wrapping_add(j as u64));
            }
            for (j, y) in y.iter_mut().enumerate() {
                *y = Bool(u8::from((u64::from(a[j]) << 21 | u64::from(b[j] >> 11)) < limit));
            }
        }
    }
}

dispatch! {
    /// The draws of counters from `start` on, in doubles; what is drawn of integers is left out.
    fn draw_floats(d: Distribution, seed: u64, start: u64, y: &mut [f64; BLOCK]) {
        let mut words = [[0; BLOCK]; 4];
        let [a, b, c, e] = &mut words;
        for i in 0..BLOCK {
            [a[i], b[i], c[i], e[i]] = philox(seed, start.wrapping_add(i as u64));
        }
        let bits = |i: usize| [a[i], b[i], c[i], e[i]];
        match d {
            Distribution::Uniform { low, high } => (0..BLOCK).for_each(|i| y[i] = low + (high - low) * unit_f64(bits(i))),
            Distribution::Normal { mean, std } => (0..BLOCK).for_each(|i| y[i] = mean + std * normal_f64(bits(i))),
            Distribution::Bernoulli { p } => {
                (0..BLOCK).for_each(|i| y[i] = if unit_f64(bits(i)) < p { 1.0 } else { 0.0 });
            }
            Distribution::Integers { .. } => {}
        }
    }
}

dispatch! {
    /// As many draws as there is room for, as elements.
    fn round<T: Scalar>(d: Distribution, x: &[f64; BLOCK], y: &mut [T]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = T::from_f64(x));
        // Rounding to a narrow type may reach the bound that is excluded.
        if let Distribution::Uniform { low, high } = d && low < high {
            y.iter_mut().for_each(|y| *y = if y.to_f64() < high { *y } else { T::from_f64(low) });
        }
    }
}

dispatch! {
    /// Integers in `[low, high)` from counters from `start` on.
    fn draw_integers<T: Scalar>(low: i64, high: i64, seed: u64, start: u64, y: &mut [T]) {
        let range = high.wrapping_sub(low) as u64;
        let mut words = [[0; BLOCK]; 2];
        let [a, b] = &mut words;
        for i in 0..BLOCK {
            [a[i], b[i], ..] = philox(seed, start.wrapping_add(i as u64));
        }
        for (i, y) in y.iter_mut().enumerate() {
            let word = (a[i] as u64) << 32 | b[i] as u64;
            *y = T::from_i64(low.wrapping_add(((word as u128 * range as u128) >> 64) as i64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use crate::cpu::isa;
    use crate::cpu::threads::with_num_threads;

    #[test]
    fn dropout_equals_its_composed_form_bit_for_bit() -> Result<()> {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            for n in [0, 1, 63, 65, 4097, 20_000] {
                let x = Tensor::randn([n], (dtype, &Device::cpu()))?;
                for keep in [0.1, 0.5, 0.9, 1.0 - 1e-17] {
                    let (y, kept) = composed::dropout(&x, keep, 7, 1 << 40)?;
                    let back = composed::dropout_backward(&y, &kept, keep)?;
                    for (&level, threads) in isa::available().iter().flat_map(|l| [(l, 1), (l, 3)]) {
                        let results = isa::with_isa(level, || {
                            with_num_threads(threads, || {
                                let (y, kept) = dropout(&x, keep, 7, 1 << 40)?;
                                let back = dropout_backward(&y, &kept, keep)?;
                                Ok::<_, crate::Error>([y, back, kept])
                            })
                        })?;
                        for (a, b) in results.iter().zip([&y, &back, &kept]) {
                            assert!(a.all_close(b, 0.0, 0.0)?, "{dtype}, {n}, keep {keep} at {level}");
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
