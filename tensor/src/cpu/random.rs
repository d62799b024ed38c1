//! Random numbers: element `i` is made from counter `offset + i` alone.

use crate::backend::Distribution;
use crate::cpu::storage::filled_shape;
use crate::cpu::threads::parallel_chunks_mut;
use crate::random::{normal_f64, philox, unit_f64};
use crate::{DType, Result, Scalar, Shape, Tensor, match_dtype};

const CHUNK: usize = 4096;

/// A row-major tensor of draws.
pub(crate) fn random(d: Distribution, dtype: DType, shape: Shape, seed: u64, offset: u64) -> Result<Tensor> {
    match_dtype!(dtype, T => filled_shape::<T>(shape, |y| {
        parallel_chunks_mut(y, CHUNK, |chunk, y| {
            let start = offset.wrapping_add((chunk * CHUNK) as u64);
            for (i, y) in y.iter_mut().enumerate() {
                *y = draw(d, philox(seed, start.wrapping_add(i as u64)));
            }
        });
        Ok(())
    }))
}

fn draw<T: Scalar>(distribution: Distribution, bits: [u32; 4]) -> T {
    match distribution {
        Distribution::Uniform { low, high } => {
            let y = T::from_f64(low + (high - low) * unit_f64(bits));
            // Rounding to a narrow type may reach the bound that is excluded.
            if y.to_f64() < high || low >= high { y } else { T::from_f64(low) }
        }
        Distribution::Normal { mean, std } => T::from_f64(mean + std * normal_f64(bits)),
        Distribution::Bernoulli { p } => T::from_i64((unit_f64(bits) < p) as i64),
        Distribution::Integers { low, high } => {
            let range = high.wrapping_sub(low) as u64;
            let word = (bits[0] as u64) << 32 | bits[1] as u64;
            T::from_i64(low.wrapping_add(((word as u128 * range as u128) >> 64) as i64))
        }
    }
}
