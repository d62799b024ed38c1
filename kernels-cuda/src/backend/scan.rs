//! Running results along a dim: totals, extremes, logarithms of sums.

use tensor::op::{ArgOp, ScanOp};
use tensor::{DType, Error, Result, Tensor};

use super::lines::{BLOCK, Group, countable};
use super::names::{number, short};
use super::storage::{New, at};
use super::walk::Dims;
use crate::gpu::Gpu;
use crate::launch;
use crate::module::Launch;

/// Running totals, in the type of `x`.
pub(super) fn scan(gpu: &'static Gpu, op: ScanOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    if x.dtype() == DType::Bool {
        return Err(Error::dtype(op.name(), DType::Bool, "numbers"));
    }
    let kernel = format!("{}_{}", op.reduction().name(), short(x.dtype()));
    along(gpu, op.name(), &kernel, x, dim, x.dtype())
}

/// The index of the extreme so far: the last of equals, the last NaN if there is one.
pub(super) fn arg_scan(gpu: &'static Gpu, op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    let kernel = format!("{}_{}", op.name(), number(x.dtype()));
    along(gpu, "arg_scan", &kernel, x, dim, DType::I64)
}

/// `log Σ e^x` so far.
pub(super) fn logcumsumexp(gpu: &'static Gpu, x: &Tensor, dim: usize) -> Result<Tensor> {
    if !x.dtype().is_float() {
        return Err(Error::dtype("logcumsumexp", x.dtype(), "floats"));
    }
    along(gpu, "logcumsumexp", &format!("logsumexp_{}", short(x.dtype())), x, dim, x.dtype())
}

/// The result of a kernel of `cuda/scan.cu`, of dtype `to`.
fn along(
    gpu: &'static Gpu,
    op: &'static str,
    kernel: &str,
    x: &Tensor,
    dim: usize,
    to: DType,
) -> Result<Tensor> {
    let y = New::contiguous(gpu, x.shape(), to)?;
    let layout = y.operand().layout;
    let lines = Dims::of([&layout, x.layout()], |d| d != dim).joined();
    let (count, n) = (lines.count(), x.dims()[dim]);
    countable(op, &[count, n])?;
    if count * n == 0 {
        return y.tensor();
    }
    let [to, from] = [&layout, x.layout()].map(|layout| layout.strides()[dim] as i64);
    let (lines, length) = (lines.walk(), n as u32);
    if let Some((pieces, chunk)) = pieces(count, n) {
        let ends = New::contiguous(gpu, [count * pieces, STATE], DType::U8)?;
        let mut launch = Launch::new(count as u32, BLOCK);
        launch.grid[1] = pieces as u32;
        let chunk = chunk as u32;
        let kernel = |form: &str| format!("scan_{form}_{kernel}");
        launch::scan_ends(gpu, &kernel("ends"), launch, lines, length, chunk, from, ends.at(), at(x))?;
        launch::scan_pieces(
            gpu,
            &kernel("pieces"),
            launch,
            lines,
            length,
            chunk,
            to,
            from,
            y.at(),
            at(x),
            ends.at(),
        )?;
        return y.tensor();
    }
    // A block for each line, unless lines are short or so many that a thread for each keeps the GPU busy.
    let (form, launch) = match n <= 64 || count >= 1 << 14 {
        true => ("serial", Group { log: 0 }.launch(count)),
        false => ("block", Launch::new(count as u32, BLOCK)),
    };
    launch::scan(gpu, &format!("scan_{form}_{kernel}"), launch, lines, length, to, from, y.at(), at(x))?;
    y.tensor()
}

/// Elements that a block takes at a time, and of a piece, at least.
const STEP: usize = 1024;
const SHORTEST: usize = 4 * STEP;

/// Blocks of all lines, about, from which on a GPU is busy.
const BUSY: usize = 512;

/// Bytes of what stands for a piece, at most.
const STATE: usize = 16;

/// In how many pieces lines are cut, and of how many elements each but the last: `None` if a block for each line will do.
fn pieces(lines: usize, n: usize) -> Option<(usize, usize)> {
    let most = (BUSY / lines).min(BLOCK as usize).min(n / SHORTEST);
    if most < 2 {
        return None;
    }
    let chunk = n.div_ceil(most).next_multiple_of(STEP);
    Some((n.div_ceil(chunk), chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_and_few_are_cut_into_pieces() {
        assert_eq!(pieces(1, 1 << 20), Some((256, 4096)));
        assert_eq!(pieces(1, 10_000), Some((2, 5120)));
        assert_eq!(pieces(300, 1 << 20), None);
        assert_eq!(pieces(1, 8191), None);
        for n in (8192..200_000).step_by(777) {
            let (pieces, chunk) = pieces(3, n).expect("long enough");
            assert!(
                pieces <= 256 && chunk * (pieces - 1) < n && chunk * pieces >= n && chunk % STEP == 0,
                "{n}"
            );
        }
    }
}
