//! Numbers as sums of `bf16` parts, in planes of each part, for Hopper's six products of them.

use tensor::{DType, Result};

use super::operand::{Mapped, Operand, joined};
use crate::backend::gemm::product::Extents;
use crate::backend::storage::New;
use crate::backend::walk::{Dims, Divisor};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;
use crate::tensor_map::Element;

/// Parts of a number.
const PARTS: usize = 3;

/// Numbers that a thread splits.
const RUN: usize = 8;

/// Bytes of an operand's planes, at most: what has more is worth the memory less than the time.
const MOST_BYTES: usize = 2 << 30;

/// An operand of `f32` that is split: its parts lie as it does, near dims first, but that rows begin at multiples of 16 bytes.
#[derive(Clone, Debug)]
pub(super) struct Planes {
    near: (usize, isize),
    /// All dims but that.
    others: Vec<(usize, isize)>,
    /// Whether runs of 16 bytes are aligned.
    vector: bool,
    from: Pointer,
    /// What the planes will be, but for their address: the outer dim of matrices is that of planes.
    operand: Operand,
    matrices: usize,
}

impl Planes {
    /// `None` if it has too many dims or numbers, or if matrices are shared along one of two dims.
    pub(super) fn new(
        rows: &Extents,
        k: (usize, isize),
        batch: &Extents,
        matrices: usize,
        from: Pointer,
    ) -> Option<Planes> {
        let rows = joined(rows)?;
        let shared = batch.iter().all(|d| d.1 == 0);
        if k.0 == 0 || !shared && batch.iter().any(|d| d.1 == 0) {
            return None;
        }
        let by_k = rows.0 == 1 || k.0 > 1 && k.1.unsigned_abs() <= rows.1.unsigned_abs();
        let (near, far) = if by_k { (k, rows) } else { (rows, k) };
        let kept: &Extents = if shared { &[] } else { batch };
        let others = [&[far][..], kept].concat();
        let vector = near.1 == 1
            && from.0.is_multiple_of(16)
            && others.iter().all(|&(n, stride)| n == 1 || stride % 4 == 0);
        let filled = near.0.next_multiple_of(RUN);
        let many = if shared { 1 } else { matrices };
        let numbers = filled.checked_mul(far.0)?.checked_mul(many)?;
        let operand = Operand {
            element: Element::Bf16,
            rows: if by_k { (rows.0, filled as isize) } else { (rows.0, 1) },
            k: if by_k { (k.0, 1) } else { (k.0, filled as isize) },
            batch: [(many, (filled * far.0) as isize), (PARTS, numbers as isize)],
            address: 0,
            by_k,
        };
        (numbers.saturating_mul(2 * PARTS) <= MOST_BYTES).then_some(Planes {
            near,
            others,
            vector,
            from,
            operand,
            matrices,
        })
    }

    /// Whether they lie along k.
    pub(super) fn by_k(&self) -> bool {
        self.operand.by_k
    }

    /// As kernels take them: every matrix, or one for all.
    pub(super) fn mapped(&self) -> Mapped {
        Mapped::new(self.matrices, [self.operand.batch[0].0 > 1, false])
    }

    /// Numbers of a plane.
    fn numbers(&self) -> usize {
        self.operand.batch[1].1 as usize
    }

    /// What splitting reads and writes.
    pub(super) fn bytes(&self) -> usize {
        self.numbers() * (4 + 2 * PARTS)
    }

    /// Splits the numbers, and counts at `strange` those that have no parts. The memory must live until the product is in the queue.
    pub(super) fn make(&self, gpu: &'static Gpu, strange: Pointer) -> Result<(New, Operand)> {
        let planes = New::contiguous(gpu, PARTS * self.numbers(), DType::BF16)?;
        let runs = self.near.0.div_ceil(RUN);
        let rows = Dims(self.others.iter().map(|&(n, stride)| (n, [stride])).collect()).joined();
        let count = rows.count() * runs;
        launch::split(
            gpu,
            "split_f32",
            Launch::new(count.div_ceil(256) as u32, 256),
            rows.walk(),
            count as u32,
            Divisor::new(runs),
            self.near.0 as u32,
            self.near.1 as i64,
            u32::from(self.vector),
            self.numbers() as i64,
            planes.at(),
            strange,
            self.from,
        )?;
        let operand = Operand { address: planes.at().0, ..self.operand };
        Ok((planes, operand))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_lie_as_their_numbers_do_in_whole_runs() {
        let planes = Planes::new(&[(5, 1)], (10, 7), &[(2, 70)], 2, Pointer(64)).unwrap();
        let Operand { rows, k, batch, by_k, .. } = planes.operand;
        assert_eq!((rows, k, batch, by_k), ((5, 1), (10, 8), [(2, 80), (3, 160)], false));
        assert_eq!((planes.vector, planes.bytes()), (false, 1600));
        let planes = Planes::new(&[(5, 12)], (10, 1), &[(4, 0), (2, 0)], 8, Pointer(64)).unwrap();
        let Operand { rows, k, batch, by_k, .. } = planes.operand;
        assert_eq!((rows, k, batch, by_k), ((5, 16), (10, 1), [(1, 80), (3, 80)], true));
        assert!(planes.vector);
    }

    #[test]
    fn what_is_shared_along_one_of_two_dims_or_empty_is_not_split() {
        assert!(Planes::new(&[(5, 1)], (10, 7), &[(2, 0), (3, 70)], 6, Pointer(0)).is_none());
        assert!(Planes::new(&[(5, 1)], (0, 7), &[], 1, Pointer(0)).is_none());
        assert!(Planes::new(&[(5, 1), (5, 9)], (10, 70), &[], 1, Pointer(0)).is_none());
        assert!(Planes::new(&[(1 << 20, 1)], (1 << 12, 1 << 20), &[], 1, Pointer(0)).is_none());
    }

    #[test]
    fn one_row_lies_along_k_and_one_term_along_the_rows() {
        assert!(Planes::new(&[(1, 1)], (10, 9), &[], 1, Pointer(0)).unwrap().by_k());
        assert!(!Planes::new(&[(10, 9)], (1, 1), &[], 1, Pointer(0)).unwrap().by_k());
    }
}
