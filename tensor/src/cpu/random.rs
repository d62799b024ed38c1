//! Random numbers: element `i` is made from counter `offset + i` alone, many of them side by side.

use crate::backend::Distribution;
use crate::cpu::isa::isa;
use crate::cpu::storage::filled_shape;
use crate::cpu::threads::parallel_chunks_mut;
use crate::cpu::wide::dispatch;
use crate::random::{normal_f64, philox, unit_f64};
use crate::{DType, Result, Scalar, Shape, Tensor, match_dtype};

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
