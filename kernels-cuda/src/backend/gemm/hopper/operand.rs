//! Operands of Hopper's kernels: what a tensor map can describe, and copies of what it cannot.

use tensor::{DType, Layout, Result};

use crate::CudaError;
use crate::backend::copy::relocate;
use crate::backend::gemm::product::Extents;
use crate::backend::storage::New;
use crate::backend::walk::{self, Dims, Divisor};
use crate::gpu::Gpu;
use crate::launch::Pointer;
use crate::tensor_map::{Element, Swizzle, TensorMap, Tiled};

/// An operand as kernels take it: `Mapped` of `cuda/hopper/ring.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Mapped {
    inner: Divisor,
    steps: [u32; 2],
    unused: u32,
}

impl Mapped {
    /// Matrices in two dims, the inner one first, each with whether its index changes the matrix.
    pub(super) fn new(inner: usize, steps: [bool; 2]) -> Mapped {
        Mapped { inner: Divisor::new(inner), steps: steps.map(u32::from), unused: 0 }
    }
}

/// An operand of a product: rows (of A, or columns of B), k, and up to two dims of matrices, the inner one first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::backend) struct Operand {
    pub(super) element: Element,
    pub(super) rows: (usize, isize),
    pub(super) k: (usize, isize),
    pub(super) batch: [(usize, isize); 2],
    pub(super) address: u64,
    pub(in crate::backend) by_k: bool,
}

/// Rows as one dim, if they are one in memory.
pub(super) fn joined(rows: &Extents) -> Option<(usize, isize)> {
    let joined = Dims::<1>(rows.iter().filter(|d| d.0 != 1).map(|&(n, s)| (n, [s])).collect()).joined();
    match joined.0[..] {
        [] => Some((1, 1)),
        [(n, [stride])] => Some((n, stride)),
        _ => None,
    }
}

impl Operand {
    /// `None` if a tensor map cannot describe it.
    pub(in crate::backend) fn new(
        element: Element,
        rows: &Extents,
        k: (usize, isize),
        batch: &Extents,
        address: Pointer,
    ) -> Option<Operand> {
        let rows = joined(rows)?;
        let mut dims = [(1, 0); 2];
        dims.get_mut(..batch.len())?.copy_from_slice(batch);
        let lanes = 16 / element.size() as isize;
        let fits = |(n, stride): (usize, isize)| n == 1 || stride > 0 && stride % lanes == 0;
        let batches = dims.iter().all(|&(n, stride)| n == 1 || stride == 0 || fits((n, stride)));
        let along = |near: (usize, isize), far| (near.0 == 1 || near.1 == 1) && fits(far);
        let by_k = along(k, rows);
        let taken = batches && address.0.is_multiple_of(16) && (by_k || along(rows, k)) && k.0 > 0;
        taken.then_some(Operand { element, rows, k, batch: dims, address: address.0, by_k })
    }

    /// The map of its matrices, in boxes of so many rows and 128 bytes of k.
    pub(in crate::backend) fn map(&self, rows: usize) -> std::result::Result<TensorMap, CudaError> {
        let size = self.element.size();
        let across = (128 / size) as u32;
        let (near, far) = if self.by_k { (self.k, self.rows) } else { (self.rows, self.k) };
        // A stride that leads nowhere is any that the driver takes.
        let bytes = |(n, stride): (usize, isize)| if n == 1 { 16 } else { size * stride as u64 };
        let [inner, outer] = self.batch.map(|dim| if dim.1 == 0 { (1, 0) } else { dim });
        let tensor = Tiled {
            element: self.element,
            address: self.address,
            dims: &[near.0, far.0, inner.0, outer.0].map(|n| n as u64),
            strides: &[bytes(far), bytes(inner), bytes(outer)],
            box_dims: &[across, if self.by_k { rows as u32 } else { across }, 1, 1],
            swizzle: Swizzle::Bytes128,
        };
        tensor.encode()
    }

    pub(in crate::backend) fn mapped(&self) -> Mapped {
        Mapped::new(self.batch[0].0, self.batch.map(|(_, stride)| stride != 0))
    }
}

/// An operand that is brought along k by a copy, with rows that begin at multiples of 16 bytes.
#[derive(Clone, Debug)]
pub(super) struct Turned {
    from: walk::Operand,
    to: Layout,
    dtype: DType,
    /// What the copy will be, but for its address.
    operand: Operand,
}

impl Turned {
    /// `None` if it cannot be copied as one tensor.
    pub(super) fn new(
        element: Element,
        dtype: DType,
        rows: &Extents,
        k: (usize, isize),
        batch: &Extents,
        at: Pointer,
    ) -> Option<Turned> {
        let count = rows.iter().map(|d| d.0).product::<usize>();
        let filled = k.0.next_multiple_of(16 / dtype.size());
        let mut of_batch = [(1, 0); 2];
        // Innermost first: extents, and the strides there and here.
        let mut dims = vec![(k.0, k.1, 1)];
        let mut step = filled as isize;
        for &(n, stride) in rows.iter().filter(|d| d.0 != 1) {
            dims.push((n, stride, step));
            step *= n as isize;
        }
        for (d, &(n, stride)) in batch.iter().enumerate() {
            *of_batch.get_mut(d)? = (n, if stride == 0 { 0 } else { step });
            if stride != 0 {
                dims.push((n, stride, step));
                step *= n as isize;
            }
        }
        dims.reverse();
        let shape: Vec<usize> = dims.iter().map(|d| d.0).collect();
        let of = |strides: Vec<isize>| Layout::strided(&shape[..], &strides, 0).ok();
        let from = of(dims.iter().map(|d| d.1).collect())?;
        let to = of(dims.iter().map(|d| d.2).collect())?;
        let operand = Operand {
            element,
            rows: (count, filled as isize),
            k: (k.0, 1),
            batch: of_batch,
            address: 0,
            by_k: true,
        };
        let from = walk::Operand { layout: from, at, size: dtype.size() };
        (k.0 > 0).then_some(Turned { from, to, dtype, operand })
    }

    /// What it reads and writes.
    pub(super) fn bytes(&self) -> usize {
        2 * self.from.layout.numel() * self.dtype.size()
    }

    /// Makes the copy, in memory that must live until the product is in the queue.
    pub(super) fn make(&self, gpu: &'static Gpu) -> Result<(New, Operand)> {
        let (_, end) = self.to.bounds().unwrap_or((0, 0));
        let copy = New::contiguous(gpu, end + 1, self.dtype)?;
        let to = walk::Operand { layout: self.to, at: copy.at(), size: self.dtype.size() };
        relocate(gpu, to, self.from, self.dtype)?;
        let operand = Operand { address: copy.at().0, ..self.operand };
        Ok((copy, operand))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_need_neighbours_along_one_dim_and_whole_runs_along_the_others() {
        let new =
            |rows: &Extents, k, batch: &Extents| Operand::new(Element::F16, rows, k, batch, Pointer(64));
        assert!(new(&[(5, 72)], (70, 1), &[]).unwrap().by_k);
        assert!(!new(&[(5, 1)], (70, 8), &[]).unwrap().by_k);
        assert!(new(&[(5, 70)], (70, 1), &[]).is_none());
        assert!(new(&[(5, -72)], (70, 1), &[]).is_none());
        assert!(new(&[(5, 144)], (70, 2), &[]).is_none());
        assert!(new(&[(5, 72), (3, 400)], (70, 1), &[]).is_none());
        assert!(new(&[(5, 72), (3, 360)], (70, 1), &[]).is_some());
        assert!(new(&[(5, 72)], (70, 1), &[(3, 8), (4, 0)]).is_some());
        assert!(new(&[(5, 72)], (70, 1), &[(3, 9)]).is_none());
        assert!(new(&[(5, 72)], (70, 1), &[(3, 8), (4, 16), (5, 24)]).is_none());
        assert!(new(&[(5, 72)], (0, 1), &[]).is_none());
        assert!(Operand::new(Element::F16, &[(5, 72)], (70, 1), &[], Pointer(72)).is_none());
        assert_eq!(new(&[(1, 9)], (70, 1), &[]).unwrap().rows, (1, 1));
    }

    #[test]
    fn whole_runs_are_of_16_bytes() {
        let fits = |element, stride| Operand::new(element, &[(5, stride)], (4, 1), &[], Pointer(0)).is_some();
        for (element, lanes) in [(Element::Tf32, 4), (Element::Bf16, 8), (Element::U8, 16)] {
            assert!(fits(element, 3 * lanes) && !fits(element, 3 * lanes + lanes / 2), "{element:?}");
        }
    }

    #[test]
    fn copies_lie_along_k_in_whole_runs_and_hold_what_is_shared_once() {
        let batch = [(3, 0), (2, 1000)];
        let rows = [(5, 1), (4, 50)];
        let turned = Turned::new(Element::Tf32, DType::F32, &rows, (10, 5), &batch, Pointer(4)).unwrap();
        assert_eq!(turned.to.dims(), [2, 4, 5, 10]);
        assert_eq!(turned.to.strides(), [240, 60, 12, 1]);
        assert_eq!(turned.from.layout.strides(), [1000, 50, 1, 5]);
        let Operand { rows, k, batch, by_k, .. } = turned.operand;
        assert_eq!((rows, k, batch, by_k), ((20, 12), (10, 1), [(3, 0), (2, 240)], true));
        assert!(Turned::new(Element::Tf32, DType::F32, &[(5, -1)], (10, 5), &[], Pointer(4)).is_none());
        assert!(Turned::new(Element::Tf32, DType::F32, &[(5, 1)], (0, 5), &[], Pointer(4)).is_none());
    }
}
