//! Random numbers: the same as on the CPU.

use tensor::{DType, Distribution, Result, Shape, Tensor};

use super::names::short;
use super::storage::New;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// Elements of a launch.
const PART: usize = 1 << 30;

pub(super) fn random(
    gpu: &'static Gpu,
    distribution: Distribution,
    dtype: DType,
    shape: Shape,
    seed: u64,
    offset: u64,
) -> Result<Tensor> {
    let y = New::contiguous(gpu, shape, dtype)?;
    let n = shape.numel();
    let begin = gpu.draw(seed, offset, n as u64)?;
    for start in (0..n).step_by(PART) {
        let count = (n - start).min(PART) as u32;
        let at = Pointer(y.at().0 + (start * dtype.size()) as u64);
        // A captured kernel adds what it finds in memory.
        let offset = if begin.is_some() { 0 } else { offset }.wrapping_add(start as u64);
        let begin = begin.unwrap_or(Pointer::NONE);
        let launch = Launch::new(count.div_ceil(256), 256);
        // The numbers of `Distribution` in cuda/random.cu.
        let (kind, a, b) = match distribution {
            Distribution::Uniform { low, high } => (0, low, high),
            Distribution::Normal { mean, std } => (1, mean, std),
            Distribution::Bernoulli { p } => (2, p, 0.0),
            Distribution::Integers { low, high } => {
                let (name, range) =
                    (format!("random_integers_{}", short(dtype)), high.wrapping_sub(low) as u64);
                launch::random_integers(gpu, &name, launch, count, low, range, seed, offset, begin, at)?;
                continue;
            }
        };
        let name = format!("random_{}", short(dtype));
        launch::random(gpu, &name, launch, count, kind, a, b, seed, offset, begin, at)?;
    }
    y.tensor()
}
