//! Products of many small matrices: a block takes as many as it has threads and shared memory for.

use tensor::Result;

use super::plan::Extent;
use super::product::{Output, Strided};
use super::work::Work;
use crate::backend::names::short;
use crate::backend::walk::Divisor;
use crate::gpu::Gpu;
use crate::launch;
use crate::module::Launch;

/// Rows and columns, at most.
const SIDE: usize = 32;

/// Matrices from which on there is a block for each multiprocessor of most GPUs, or nearly.
const MANY: usize = 32;

/// Of k in shared memory.
const DEPTH: usize = 32;

/// `SMALL_THREADS` and `SMALL_BYTES` of `cuda/gemm/small.h`.
const THREADS: usize = 256;
const BYTES: usize = 48 << 10;

/// Many small products: `Small` of `cuda/gemm/small.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Small {
    count: u32,
    together: u32,
    depth: Divisor,
    k: u32,
    a: Strided,
    b: Strided,
    out: Output,
}

/// Whether a product is one of many small matrices. Few rows of long sums are read by vectors instead.
pub(super) fn takes(extent: Extent) -> bool {
    let Extent { m, n, k, matrices } = extent;
    m.max(n) <= SIDE && matrices >= MANY && (m.min(n) > super::few::FEW || k <= DEPTH)
}

/// Elements from one matrix of so many rows to the next.
fn between(rows: usize, depth: usize) -> usize {
    (rows * (depth | 1)) | 1
}

/// Of k at a time, and how many matrices a block takes, for sums of so many bytes.
fn plan(extent: Extent, size: usize) -> (usize, usize) {
    let Extent { m, n, k, matrices } = extent;
    let depth = k.clamp(1, DEPTH);
    let by_threads = THREADS / (m.div_ceil(4) * n.div_ceil(4));
    let by_memory = BYTES / size / (between(m, depth) + between(n, depth));
    (depth, by_threads.min(by_memory).min(matrices))
}

/// Computes it; `by_k` says of each operand whether its neighbours in memory are so along k.
pub(super) fn run(gpu: &'static Gpu, work: &Work<Strided, Strided>, by_k: [bool; 2]) -> Result<()> {
    let Work { extent, a, b, out, pointers: [y, left, right, bias], dtype } = *work;
    let (depth, together) = plan(extent, dtype.accumulator().size());
    let small = Small {
        count: extent.matrices as u32,
        together: together as u32,
        depth: Divisor::new(depth),
        k: extent.k as u32,
        a: a.told(by_k[0]),
        b: b.told(by_k[1]),
        out,
    };
    let launch = Launch::new(extent.matrices.div_ceil(together) as u32, THREADS as u32);
    let kernel = format!("gemm_small_{}", short(dtype));
    Ok(launch::gemm_small(gpu, &kernel, launch, small, y, left, right, bias)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_as_many_matrices_as_threads_and_memory_allow() {
        let of = |m, n, k, size| plan(Extent { m, n, k, matrices: 1 << 20 }, size);
        assert_eq!(of(32, 32, 64, 4), (32, 4));
        assert_eq!(of(32, 32, 64, 8), (32, 2));
        assert_eq!(of(4, 4, 4, 4), (4, 256));
        assert_eq!(of(1, 1, 0, 4), (1, 256));
        assert_eq!(plan(Extent { m: 9, n: 9, k: 9, matrices: 5 }, 4), (9, 5));
        for (m, n, k) in [(1, 32, 300), (32, 1, 31), (17, 9, 5), (32, 32, 32)] {
            let (depth, together) = of(m, n, k, 8);
            let elements = together * (between(m, depth) + between(n, depth));
            assert!(together > 0 && elements * 8 <= BYTES, "{m} {n} {k}");
        }
    }

    #[test]
    fn only_many_small_matrices_are_taken() {
        let takes = |m, n, k, matrices| takes(Extent { m, n, k, matrices });
        assert!(takes(16, 16, 16, 1000) && takes(32, 32, 1000, 32) && takes(4, 4, 4, 100));
        assert!(!takes(33, 16, 16, 1000) && !takes(16, 16, 16, 8) && !takes(1, 32, 4096, 1000));
    }
}
