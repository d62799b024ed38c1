//! Products of bytes in 32 bits, on tensor cores.

use tensor::{DType, Result, Tensor};

use super::hopper::{Hopper, Instead, Unit};
use super::plan::{BYTES, Extent, Tile};
use super::product::{Axis, Output, runs_fit};
use super::work::{Work, run};
use super::{Epilogue, countable, last_two, side};
use crate::backend::names::short;
use crate::backend::storage::{New, at};
use crate::backend::walk::Dims;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};

/// `[m, k] · [k, n]` of `int8` or `uint8` each, in `int32`, whose sums wrap.
pub(in crate::backend) fn int_mm(gpu: &'static Gpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    const OP: &str = "int_mm";
    let ([m, k], [_, n]) = (last_two(a)?, last_two(b)?);
    let y = New::contiguous(gpu, [m, n], DType::I32)?;
    if m == 0 || n == 0 {
        return y.tensor();
    }
    countable(OP, k.max(1))?;
    let (sa, sb) = (a.layout().strides(), b.layout().strides());
    let (left, a_by_k) = side(&[(m, sa[0])], &[(k, sa[1])], &[], at(a), a.dtype());
    let (right, b_by_k) = side(&[(n, sb[1])], &[(k, sb[0])], &[], at(b), b.dtype());
    let out = Output {
        rows: countable(OP, m)?,
        columns: countable(OP, n)?,
        with_bias: 0,
        vector: u32::from(runs_fit(&[(n, 1)], &[&[(m, n as isize)]], y.at().0, 4, 4)),
        row: Axis::new(&[(m, n as isize)]),
        column: Axis::new(&[(n, 1)]),
        bias_row: 0,
        bias_column: 0,
        batch: Dims(vec![]).walk(),
        epilogue: Epilogue::PLAIN,
    };
    let work = Work {
        extent: Extent { m, n, k, matrices: 1 },
        a: left.told(a_by_k),
        b: right.told(b_by_k),
        out,
        pointers: [y.at(), at(a), at(b), Pointer::NONE],
        dtype: DType::I32,
    };
    let numbers = format!("{}_{}", short(a.dtype()), short(b.dtype()));
    let sides = [(&[(m, sa[0])][..], sa[1]), (&[(n, sb[1])][..], sb[0])];
    let (kind, dtypes) = ((Unit::Bytes, &numbers[..]), [a.dtype(), b.dtype()]);
    let instead = Instead { tiles: &BYTES, layout: "" };
    if let Some(hopper) = Hopper::new(gpu, kind, &work, dtypes, sides, &Dims(vec![]), instead) {
        hopper.run(gpu, OP, &work)?;
        return y.tensor();
    }
    let kernel = |tile: &Tile| format!("gemm_{numbers}_{}", tile.name);
    run(gpu, OP, &BYTES, kernel, launch::gemm, &work)?;
    y.tensor()
}
