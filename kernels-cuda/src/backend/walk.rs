//! Strided operands as a kernel walks them: dims that are one in memory become one, and vectors are found.

use tensor::{Layout, MAX_RANK};

use crate::launch::Pointer;
use crate::module::Launch;

/// Division of numbers below 2³¹ by a multiplication and a shift: `Divisor` of `cuda/walk.h`.
///
/// With `2^s` the least power of 2 that is not below `d`, and `m = ⌊2³²·(2^s - d)/d⌋ + 1`: `n / d = (⌊n·m / 2³²⌋ + n) >> s`
/// (Granlund and Montgomery, "Division by invariant integers using multiplication", PLDI 1994).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub(crate) struct Divisor {
    divisor: u32,
    multiplier: u32,
    shift: u32,
}

impl Divisor {
    /// For `1 <= d < 2³¹`.
    pub(crate) fn new(d: usize) -> Divisor {
        let divisor = u32::try_from(d).expect("walks are cut before an extent reaches 2³¹");
        debug_assert!((1..1 << 31).contains(&divisor), "{divisor}");
        let shift = divisor.next_power_of_two().trailing_zeros();
        let multiplier =
            ((1u64 << 32) * ((1u64 << shift) - u64::from(divisor)) / u64::from(divisor) + 1) as u32;
        Divisor { divisor, multiplier, shift }
    }

    /// What it divides by.
    #[cfg(test)]
    pub(crate) fn get(self) -> usize {
        self.divisor as usize
    }
}

/// `N` operands of one shape: `Walk` of `cuda/walk.h`. Dims are innermost first, strides count elements.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Walk<const N: usize> {
    /// Elements, or vectors of them.
    count: u32,
    rank: u32,
    /// 1 if the innermost dim is taken by whole vectors.
    vector: u32,
    /// Bit k: operand k repeats one element along a vector.
    splat: u32,
    extents: [Divisor; MAX_RANK],
    strides: [[i64; MAX_RANK]; N],
}

/// Elements that one launch may have.
const LIMIT: usize = 1 << 31;

/// Threads of a block of an elementwise kernel.
const THREADS: usize = 256;

/// An operand of a kernel: where its elements lie, and how many bytes each has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    pub(crate) layout: Layout,
    /// Where the element at the layout's offset lies.
    pub(crate) at: Pointer,
    pub(crate) size: usize,
}

/// Dims with the stride of each operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dims<const N: usize>(pub(crate) Vec<(usize, [isize; N])>);

impl<const N: usize> Dims<N> {
    /// The dims that `keep`, of operands of one shape (those of the first), innermost first.
    pub(crate) fn of(layouts: [&Layout; N], keep: impl Fn(usize) -> bool) -> Dims<N> {
        let dims = layouts[0].dims().iter().enumerate().rev();
        let kept = dims.filter(|&(d, &extent)| keep(d) && extent != 1);
        Dims(kept.map(|(d, &extent)| (extent, layouts.map(|l| l.strides()[d]))).collect())
    }

    /// In the memory order of the first operand: for work that may be done in any order.
    pub(crate) fn in_memory_order(mut self) -> Dims<N> {
        self.0.sort_by_key(|(_, strides)| strides[0].unsigned_abs());
        self
    }

    /// With dims joined that are one dim of every operand.
    pub(crate) fn joined(self) -> Dims<N> {
        let mut out: Vec<(usize, [isize; N])> = vec![];
        for (extent, strides) in self.0 {
            match out.last_mut() {
                Some((inner, steps)) if (0..N).all(|k| strides[k] == steps[k] * *inner as isize) => {
                    *inner *= extent;
                }
                _ => out.push((extent, strides)),
            }
        }
        Dims(out)
    }

    /// How many elements there are.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|(extent, _)| extent).product()
    }

    /// As a kernel takes it, one element at a time.
    pub(crate) fn walk(&self) -> Walk<N> {
        let mut walk = Walk {
            count: u32::try_from(self.count()).expect("walks are cut before they reach 2³¹"),
            rank: self.0.len() as u32,
            vector: 0,
            splat: 0,
            extents: [Divisor::new(1); MAX_RANK],
            strides: [[0; MAX_RANK]; N],
        };
        for (d, (extent, strides)) in self.0.iter().enumerate() {
            walk.extents[d] = Divisor::new((*extent).max(1));
            (0..N).for_each(|k| walk.strides[k][d] = strides[k] as i64);
        }
        walk
    }
}

/// Matrices that a copy turns around: consecutive elements of a row are so in the result, those of a column in the source.
#[derive(Clone, Debug)]
pub(crate) struct Crossing {
    pub(crate) matrices: Walk<2>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// From a row of the result to the next, and from a column of the source to the next.
    pub(crate) row_stride: i64,
    pub(crate) column_stride: i64,
}

/// What a copy turns around, if that is most of its work: dims of a tile's side at least.
pub(crate) fn crossing(to: &Layout, from: &Layout) -> Option<Crossing> {
    let Dims(mut dims) = Dims::of([to, from], |_| true).in_memory_order().joined();
    let &(columns, [1, across]) = dims.first()? else { return None };
    let along = dims.iter().position(|(_, strides)| strides[1] == 1).filter(|&d| d > 0)?;
    let (rows, [row_stride, _]) = dims.remove(along);
    dims.remove(0);
    let dims = Dims(dims);
    let fits = rows >= TILE && columns >= TILE && across != 0 && dims.count() * rows * columns < LIMIT;
    fits.then(|| Crossing {
        matrices: dims.walk(),
        rows,
        columns,
        row_stride: row_stride as i64,
        column_stride: across as i64,
    })
}

/// The least extent for which turning tiles around pays: half of a tile's side.
const TILE: usize = 16;

impl<const N: usize> Walk<N> {
    /// With two operands in each other's place.
    pub(crate) fn swapped(mut self, i: usize, j: usize) -> Walk<N> {
        self.strides.swap(i, j);
        self
    }

    /// How many places there are.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }
}

/// A part of the work of an elementwise kernel: what one launch does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<const N: usize> {
    pub(crate) walk: Walk<N>,
    /// Where each operand begins.
    pub(crate) at: [Pointer; N],
}

impl<const N: usize> Piece<N> {
    /// A thread for each element or vector.
    pub(crate) fn launch(&self) -> Launch {
        Launch::new(
            self.walk.count.div_ceil(THREADS as u32),
            (self.walk.count as usize).clamp(1, THREADS).next_multiple_of(32) as u32,
        )
    }
}

/// The launches that an elementwise kernel needs over operands of one shape, the first of which is the result: none without
/// elements, mostly one, another for what is left of vectors, more for a great many elements.
pub(crate) fn pieces<const N: usize>(operands: [Operand; N]) -> Vec<Piece<N>> {
    let layouts = operands.each_ref().map(|o| &o.layout);
    let dims = Dims::of(layouts, |_| true).in_memory_order().joined();
    let mut out = vec![];
    cut(dims, operands.map(|o| o.at.0), operands.map(|o| o.size), true, &mut out);
    out
}

/// As [`pieces`], for kernels that take one element at a time.
pub(crate) fn pieces_of_elements<const N: usize>(operands: [Operand; N]) -> Vec<Piece<N>> {
    let layouts = operands.each_ref().map(|o| &o.layout);
    let dims = Dims::of(layouts, |_| true).in_memory_order().joined();
    let mut out = vec![];
    cut(dims, operands.map(|o| o.at.0), operands.map(|o| o.size), false, &mut out);
    out
}

/// Appends the pieces of `dims`.
fn cut<const N: usize>(
    mut dims: Dims<N>,
    at: [u64; N],
    sizes: [usize; N],
    vectors: bool,
    out: &mut Vec<Piece<N>>,
) {
    let count = dims.count();
    if count == 0 {
        return;
    }
    // The operands from `start` of a dim on.
    let from = |dims: &Dims<N>, d: usize, start: usize| -> [u64; N] {
        let moved = |k: usize| (dims.0[d].1[k] * (start * sizes[k]) as isize) as i64;
        std::array::from_fn(|k| at[k].wrapping_add_signed(moved(k)))
    };
    dims.0.retain(|(extent, _)| *extent != 1);
    if count >= LIMIT {
        let outer = dims.0.len() - 1;
        let (extent, half) = (dims.0[outer].0, dims.0[outer].0 / 2);
        let rest = from(&dims, outer, half);
        dims.0[outer].0 = half;
        cut(dims.clone(), at, sizes, vectors, out);
        dims.0[outer].0 = extent - half;
        return cut(dims, rest, sizes, vectors, out);
    }
    let widest = sizes.iter().copied().max().unwrap_or(1);
    let lanes = 16 / widest;
    if vectors && vectors_fit(&dims, at, sizes, lanes) {
        let extent = dims.0[0].0;
        let tail = extent % lanes;
        if tail == 0 || dims.0.len() == 1 {
            let rest = from(&dims, 0, extent - tail);
            let splat = (0..N).filter(|&k| dims.0[0].1[k] == 0).fold(0, |bits, k| bits | 1 << k);
            let mut whole = dims.clone();
            whole.0[0].0 = extent / lanes;
            whole.0[0].1 = whole.0[0].1.map(|stride| stride * lanes as isize);
            out.push(Piece { walk: Walk { vector: 1, splat, ..whole.walk() }, at: at.map(Pointer) });
            if tail > 0 {
                dims.0[0].0 = tail;
                out.push(Piece { walk: dims.walk(), at: rest.map(Pointer) });
            }
            return;
        }
    }
    out.push(Piece { walk: dims.walk(), at: at.map(Pointer) });
}

/// Whether every operand is consecutive along the innermost dim or repeats one element, and vectors of it are aligned.
fn vectors_fit<const N: usize>(dims: &Dims<N>, at: [u64; N], sizes: [usize; N], lanes: usize) -> bool {
    let Some((inner, outer)) = dims.0.split_first() else { return false };
    let fits = |k: usize| match inner.1[k] {
        1 => {
            at[k].is_multiple_of((lanes * sizes[k]) as u64)
                && outer.iter().all(|(_, strides)| strides[k] % lanes as isize == 0)
        }
        stride => stride == 0 && k > 0,
    };
    lanes > 1 && inner.0 >= lanes && (0..N).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensor::Shape;

    fn operand(layout: Layout, at: u64, size: usize) -> Operand {
        Operand { layout, at: Pointer(at), size }
    }

    fn dims<const N: usize>(piece: &Piece<N>) -> Vec<(u32, [i64; N])> {
        let w = &piece.walk;
        (0..w.rank as usize)
            .map(|d| (w.extents[d].divisor, std::array::from_fn(|k| w.strides[k][d])))
            .collect()
    }

    #[test]
    fn a_multiplication_and_a_shift_divide() {
        for d in (1..2000).chain([65535, 65536, 1 << 30, (1 << 31) - 1]) {
            let Divisor { multiplier, shift, .. } = Divisor::new(d);
            let d = d as u64;
            let around = (0..40).flat_map(|i| [i * d, (i * d).saturating_sub(1), (1 << 31) - 1 - i]);
            for n in around.filter(|&n| n < 1 << 31) {
                assert_eq!((((n * u64::from(multiplier)) >> 32) + n) >> shift, n / d, "{n} / {d}");
            }
        }
    }

    #[test]
    fn contiguous_operands_are_one_dim_of_vectors_and_a_tail() {
        let layout = Layout::contiguous(Shape::from([3, 5, 7]));
        let found = pieces([operand(layout, 512, 4), operand(layout, 1024, 4)]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].walk.vector, dims(&found[0])), (1, vec![(26, [4, 4])]));
        assert_eq!((found[1].walk.vector, dims(&found[1])), (0, vec![(1, [1, 1])]));
        assert_eq!(found[1].at, [Pointer(512 + 416), Pointer(1024 + 416)]);
    }

    #[test]
    fn a_row_that_repeats_and_a_number_that_repeats_keep_vectors() {
        let y = Layout::contiguous(Shape::from([6, 8]));
        let row = Layout::contiguous(Shape::from([8])).broadcast_to(y.shape()).unwrap();
        let found = pieces([operand(y, 0, 4), operand(y, 0, 4), operand(row, 0, 4)]);
        assert_eq!(dims(&found[0]), [(2, [4, 4, 4]), (6, [8, 8, 0])]);
        let one = Layout::contiguous(Shape::SCALAR).broadcast_to(y.shape()).unwrap();
        let found = pieces([operand(y, 0, 4), operand(y, 0, 4), operand(one, 0, 4)]);
        assert_eq!((dims(&found[0]), found[0].walk.splat), (vec![(12, [4, 4, 0])], 4));
    }

    #[test]
    fn what_is_not_aligned_or_crosses_is_taken_by_elements() {
        let y = Layout::contiguous(Shape::from([4, 8]));
        assert_eq!(pieces([operand(y, 0, 4), operand(y, 4, 4)])[0].walk.vector, 0);
        let crossed = Layout::contiguous(Shape::from([8, 4])).transpose(0, 1);
        let found = pieces([operand(y, 0, 4), operand(crossed, 0, 4)]);
        assert_eq!((found[0].walk.vector, dims(&found[0])), (0, vec![(8, [1, 4]), (4, [8, 1])]));
        let flipped = y.flip(1);
        assert_eq!(pieces([operand(y, 0, 4), operand(flipped, 28, 4)])[0].walk.vector, 0);
    }

    #[test]
    fn a_transposed_source_crosses_and_a_narrow_one_does_not() {
        let y = Layout::contiguous(Shape::from([3, 20, 40]));
        let x = Layout::contiguous(Shape::from([3, 40, 20])).transpose(1, 2);
        let found = crossing(&y, &x).unwrap();
        assert_eq!((found.rows, found.columns, found.matrices.count()), (20, 40, 3));
        assert_eq!((found.row_stride, found.column_stride), (40, 20));
        assert!(crossing(&y, &y).is_none());
        let narrow = Layout::contiguous(Shape::from([3, 40, 8])).transpose(1, 2);
        assert!(crossing(&Layout::contiguous(Shape::from([3, 8, 40])), &narrow).is_none());
    }

    #[test]
    fn nothing_is_no_launch_and_one_element_is_one() {
        let none = Layout::contiguous(Shape::from([3, 0]));
        assert!(pieces([operand(none, 0, 4)]).is_empty());
        let one = Layout::contiguous(Shape::SCALAR);
        assert_eq!(pieces([operand(one, 0, 4)])[0].walk.count, 1);
    }

    #[test]
    fn more_elements_than_a_launch_has_are_cut() {
        let y = Layout::contiguous(Shape::from([3, 1 << 31]));
        let x = Layout::contiguous(Shape::from([1, 1 << 31])).broadcast_to(y.shape()).unwrap();
        let found = pieces([operand(y, 0, 1), operand(x, 0, 1)]);
        assert!(found.iter().all(|p| p.walk.vector == 1));
        assert_eq!(found.iter().map(|p| p.walk.count as usize * 16).sum::<usize>(), 3 << 31);
        assert_eq!(found.last().unwrap().at[0], Pointer((3 << 31) - (1 << 30)));
    }
}
