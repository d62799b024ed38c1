//! Mean and variance over any dims, in one pass.

use tensor::backend::DimMask;
use tensor::{DType, Result, Tensor};

use super::lines::Group;
use super::names::short;
use super::reduce::{Cut, reduced};
use super::storage::{New, at};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};

/// Elements of a piece of a long line of its own, and of one among others side by side.
const LONG: usize = 1 << 14;
const TALL: usize = 1 << 10;

/// Variance and mean; the dims in `mask` stay with extent 1.
pub(super) fn var_mean(
    gpu: &'static Gpu,
    x: &Tensor,
    mask: &DimMask,
    correction: f64,
) -> Result<(Tensor, Tensor)> {
    let cut = Cut::of("var_mean", x, mask, [LONG, TALL])?;
    let results = || New::contiguous(gpu, reduced(x, mask), x.dtype());
    let (mean, variance) = (results()?, results()?);
    let divisor = (cut.n as f64 - correction).max(0.0);
    if cut.count > 0 && cut.pieces == 1 {
        launch_of(gpu, &cut, x, x.dtype(), divisor, [&mean, &variance])?;
    } else if cut.count > 0 {
        let to = [mean.at(), variance.at(), Pointer::NONE];
        Pieces::of(gpu, &cut, x)?.join(gpu, x.dtype(), divisor, 0.0, to)?;
    }
    Ok((variance.tensor()?, mean.tensor()?))
}

fn launch_of(
    gpu: &'static Gpu,
    cut: &Cut,
    x: &Tensor,
    to: DType,
    divisor: f64,
    [mean, variance]: [&New; 2],
) -> Result<()> {
    let kernel = format!("moments_{}_{}", short(x.dtype()), short(to));
    let (outputs, reduced) = (cut.outputs.walk(), cut.reduced.walk());
    let (chunk, log) = (cut.chunk as u32, cut.group.log);
    Ok(launch::moments(
        gpu,
        &kernel,
        cut.launch(),
        outputs,
        reduced,
        chunk,
        log,
        divisor,
        mean.at(),
        variance.at(),
        at(x),
    )?)
}

/// The means of pieces and the squared distances from them, `[count, pieces]` each, in the accumulator's dtype.
pub(super) struct Pieces {
    pub(super) means: New,
    pub(super) squares: New,
    pub(super) count: usize,
    pub(super) pieces: usize,
    /// Elements of each of `count`, and of a piece.
    pub(super) n: usize,
    pub(super) chunk: usize,
}

impl Pieces {
    /// New memory for them.
    pub(super) fn new(
        gpu: &'static Gpu,
        wide: DType,
        [count, pieces]: [usize; 2],
        [n, chunk]: [usize; 2],
    ) -> Result<Pieces> {
        let memory = || New::contiguous(gpu, [count, pieces], wide);
        Ok(Pieces { means: memory()?, squares: memory()?, count, pieces, n, chunk })
    }

    /// Those of a reduction of at least one output.
    fn of(gpu: &'static Gpu, cut: &Cut, x: &Tensor) -> Result<Pieces> {
        let wide = x.dtype().accumulator();
        let pieces = Pieces::new(gpu, wide, [cut.count, cut.pieces], [cut.n, cut.chunk])?;
        launch_of(gpu, cut, x, wide, 1.0, [&pieces.means, &pieces.squares])?;
        Ok(pieces)
    }

    /// Those of each channel of `[n, c, …]`.
    pub(super) fn of_channels(gpu: &'static Gpu, x: &Tensor) -> Result<Pieces> {
        let mask: DimMask = std::array::from_fn(|d| d != 1);
        Pieces::of(gpu, &Cut::of("batch_norm", x, &mask, [LONG, TALL])?, x)
    }

    /// Mean, Σ / divisor and, where there is a place for it, `1 / √(variance + eps)`, of `dtype`.
    pub(super) fn join(
        &self,
        gpu: &'static Gpu,
        dtype: DType,
        divisor: f64,
        eps: f64,
        [mean, variance, rstd]: [Pointer; 3],
    ) -> Result<()> {
        Ok(launch::join_moments(
            gpu,
            &format!("join_moments_{}", short(dtype)),
            Group::WARP.launch(self.count),
            self.count as u32,
            self.pieces as u32,
            self.n as u32,
            self.chunk as u32,
            divisor,
            eps,
            mean,
            variance,
            rstd,
            self.means.at(),
            self.squares.at(),
        )?)
    }
}
