//! Few rows times a matrix, or a matrix times few columns: each value of the matrix is used a few times only, so it is read
//! where it is, once, in the order of memory, and never packed.

use super::epilogue::{Beta, Epilogue};
use super::kernel::Kernels;
use super::matrix::{MatRef, Target};
use super::scalar::{GemmElement, Scalar};
use super::scratch::Scratch;
use super::stream::{GROUP, Grid, Streams};
use crate::cpu::isa::Isa;
use crate::cpu::threads::{self, SharedMut};
use std::any::TypeId;
use std::ops::Range;

/// The most rows, or columns, for which a matrix of a type that is widened is read in place: panels would have twice the bytes.
const FEW: usize = 8;

/// Whether [`run`] should do a product with an m x n result. A matrix whose panels have no more bytes is worth packing from the second
/// row on: it may be kept for the next product.
pub(super) fn suits<T: GemmElement>(kernels: &Kernels<T::Acc>, m: usize, n: usize) -> bool {
    let tiled = || kernels.tiles.is_some_and(|tiles| tiles.products(TypeId::of::<T>()).is_some());
    m.min(n) <= if T::NATIVE || tiled() { 1 } else { FEW }
}

/// Values of the matrix per task: a function of the shape alone.
const TASK: usize = 256 * 1024;

/// Steps of [`GROUP`] lines, or lines of [`DEEP`] steps, that stay in the first two caches while all rows pass.
const PIECE: usize = 512;

/// Steps of lines side by side whose sums are not written in between.
const DEEP: usize = 16;

/// The most lines side by side that a task has: their sums stay in the second-level cache.
const LINES: usize = 8 * 1024;

/// `C = epilogue(beta·C + A·B)` where A has few rows or B has few columns.
pub(super) fn run<T: GemmElement>(
    isa: Isa,
    a: &MatRef<T>,
    b: &MatRef<T>,
    c: Target<T>,
    beta: Beta,
    epilogue: &Epilogue<T>,
) {
    // y[i, l] = Σ_p x[i, p] · lines[l, p].
    let (x, lines, c, epilogue) =
        if a.rows() <= b.cols() { (*a, b.t(), c, *epilogue) } else { (b.t(), *a, c.t(), epilogue.t()) };
    let (m, k) = (x.rows(), x.cols());
    assert!(lines.cols() == k, "A has as many columns as B has rows");
    let x_row = apart(k);
    let mut x_scratch = Scratch::<T::Acc>::new(m * x_row);
    for (i, row) in x_scratch.as_mut_slice().chunks_exact_mut(x_row.max(1)).enumerate() {
        for (p, value) in row[..k].iter_mut().enumerate() {
            // SAFETY: the element is inside the matrix.
            *value = unsafe { *x.at(i, p) }.widen();
        }
    }
    let few = Few { streams: T::streams(isa), lines, x: x_scratch.as_slice(), x_row, m, k };
    let side_by_side = lines.row_stride() == 1;
    // Blocks of lines and of steps. Only lines side by side have several of steps: their sums are added in order at the end.
    let (width, depth) = if side_by_side {
        let width = lines.rows().min(LINES);
        (width, (TASK / width).next_multiple_of(DEEP))
    } else {
        ((TASK / k.max(1)).next_multiple_of(GROUP).clamp(GROUP, PIECE), k.max(1))
    };
    let (across, along) = (lines.rows().div_ceil(width), k.div_ceil(depth).max(1));
    let sums_row = apart(width);
    let mut sums = Scratch::<T::Acc>::new(along * across * m * sums_row);
    let all = SharedMut::new(sums.as_mut_slice());
    // The place of a block's sums, [m, sums_row], and its lines.
    let block = |at: usize, part: usize| {
        let start = (part * across + at) * m * sums_row;
        (start..start + m * sums_row, at * width..lines.rows().min((at + 1) * width))
    };
    let add = |task: usize| {
        let (place, own) = block(task % across, task / across);
        let steps = task / across * depth..k.min((task / across + 1) * depth);
        // SAFETY: blocks have different sums.
        let sums = unsafe { all.slice(place) };
        sums.fill(T::Acc::ZERO);
        if side_by_side {
            few.add_steps(own, steps, sums, sums_row);
        } else {
            few.add_lines(own, sums, sums_row);
        }
    };
    let finish = |at: usize| {
        let (first, own) = block(at, 0);
        // SAFETY: the sums of these lines are complete, and this task's alone.
        let sums = unsafe { all.slice(first) };
        for part in 1..along {
            // SAFETY: as above.
            let more = unsafe { all.slice(block(at, part).0) };
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.plus(*more));
        }
        if beta == Beta::One {
            for (i, sums) in sums.chunks_exact_mut(sums_row).enumerate() {
                for (sum, line) in sums.iter_mut().zip(own.clone()) {
                    // SAFETY: the element is inside C and this task's own.
                    *sum = unsafe { *c.at(i, line) }.widen().plus(*sum);
                }
            }
        }
        // SAFETY: as above; there is a sum for each of the task's elements.
        unsafe { epilogue.store(isa, sums.as_ptr(), sums_row as isize, c, 0..m, own) }
    };
    if along == 1 {
        threads::parallel_for(across, |task| {
            add(task);
            finish(task);
        });
    } else {
        let tasks = |phase| if phase == 0 { across * along } else { across };
        threads::phases(2, tasks, |phase, task| if phase == 0 { add(task) } else { finish(task) });
    }
}

/// The distance of rows of `len` numbers that are used side by side. Rows a multiple of 4 KiB apart would meet in few places of a
/// first-level cache.
fn apart(len: usize) -> usize {
    if len < 1024 { len } else { len.next_multiple_of(1024) + 128 }
}

/// A product with few rows.
struct Few<'a, T: GemmElement> {
    streams: &'static Streams<T>,
    lines: MatRef<'a, T>,
    /// The few rows, `x_row` apart.
    x: &'a [T::Acc],
    x_row: usize,
    m: usize,
    k: usize,
}

impl<T: GemmElement> Few<'_, T> {
    /// The rows of x in groups: the first of each and whether there is a second.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let m = self.m;
        (0..m).step_by(2).map(move |i| (i, usize::from(i + 1 < m)))
    }

    /// Some steps of rows of x.
    fn x(&self, row: usize, step: usize) -> Grid<T::Acc> {
        (self.x[row * self.x_row + step..].as_ptr(), self.x_row as isize)
    }

    /// Adds all products of some lines to their sums, `[m, sums_row]`. Lines that are not contiguous are copied a piece at a time.
    fn add_lines(&self, own: Range<usize>, sums: &mut [T::Acc], sums_row: usize) {
        let in_place = self.lines.col_stride() == 1;
        let depth = if in_place && self.m <= 2 { self.k.max(1) } else { PIECE };
        let mut copy = [T::zeroed(); GROUP * PIECE];
        for first in own.clone().step_by(GROUP) {
            let group = first..own.end.min(first + GROUP);
            for p in (0..self.k).step_by(depth) {
                let steps = p..self.k.min(p + depth);
                let values = if in_place {
                    (self.lines.at(first, p), self.lines.row_stride())
                } else {
                    for (line, values) in group.clone().zip(copy.chunks_exact_mut(PIECE)) {
                        for (value, p) in values.iter_mut().zip(steps.clone()) {
                            // SAFETY: the element is inside the matrix.
                            *value = unsafe { *self.lines.at(line, p) };
                        }
                    }
                    (copy.as_ptr(), PIECE as isize)
                };
                let sums = &mut sums[first - own.start..];
                // SAFETY: these steps of these lines are contiguous, inside the matrix or just copied.
                unsafe { self.add_group(group.len(), values, steps, sums, sums_row) }
            }
        }
    }

    /// Adds some steps of up to [`GROUP`] lines to the sums of all rows.
    ///
    /// # Safety
    /// The lines hold these steps.
    unsafe fn add_group(
        &self,
        count: usize,
        lines: Grid<T>,
        steps: Range<usize>,
        sums: &mut [T::Acc],
        sums_row: usize,
    ) {
        assert!(sums.len() >= (self.m - 1) * sums_row + count, "there is a sum for each line and row");
        for (i, two) in self.pairs() {
            let dots = &self.streams.dots[usize::from(i == 0)];
            let (x, sums) = (self.x(i, steps.start), &mut sums[i * sums_row..]);
            // SAFETY: the caller vouches for the lines; x has these steps, and there are sums (asserted above).
            unsafe {
                if count == GROUP {
                    dots[1][two](steps.len(), lines, x, sums.as_mut_ptr(), sums_row);
                } else {
                    for l in 0..count {
                        let line = (lines.0.wrapping_offset(l as isize * lines.1), 0);
                        dots[0][two](steps.len(), line, x, sums[l..].as_mut_ptr(), sums_row);
                    }
                }
            }
        }
    }

    /// Adds some steps of lines that lie side by side to their sums, `[m, sums_row]`.
    fn add_steps(&self, own: Range<usize>, steps: Range<usize>, sums: &mut [T::Acc], sums_row: usize) {
        let depth = if self.m <= 2 { GROUP } else { DEEP };
        for p in steps.clone().step_by(depth) {
            let deep = p..steps.end.min(p + depth);
            for first in own.clone().step_by(PIECE) {
                let piece = first..own.end.min(first + PIECE);
                let sums = &mut sums[first - own.start..];
                for p in deep.clone().step_by(GROUP) {
                    self.add_piece(&piece, p..deep.end.min(p + GROUP), sums, sums_row);
                }
            }
        }
    }

    /// Adds up to [`GROUP`] steps of some lines that lie side by side to the sums of all rows.
    fn add_piece(&self, piece: &Range<usize>, steps: Range<usize>, sums: &mut [T::Acc], sums_row: usize) {
        assert!(sums.len() >= (self.m - 1) * sums_row + piece.len(), "there is a sum for each line and row");
        let row = self.lines.col_stride();
        for (i, two) in self.pairs() {
            let sums = sums[i * sums_row..].as_mut_ptr();
            let add_rows = &self.streams.add_rows[usize::from(i == 0)];
            // SAFETY: these steps of these lines are inside the matrix, each contiguous; x has the steps, and there are sums
            // (asserted above).
            unsafe {
                if steps.len() == GROUP {
                    let from = (self.lines.at(piece.start, steps.start), row);
                    add_rows[1][two](piece.len(), self.x(i, steps.start), from, sums, sums_row);
                } else {
                    for p in steps.clone() {
                        let from = (self.lines.at(piece.start, p), row);
                        add_rows[0][two](piece.len(), self.x(i, p), from, sums, sums_row);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchMut, BatchRef, Bias, gemm_batched};
    use super::*;
    use crate::cpu::{isa, threads};
    use half::{bf16, f16};

    /// Few rows times a matrix that takes several blocks of lines and of steps, against sums in doubles: in every layout, at every
    /// level, with one and with three threads.
    fn check<T: GemmElement<Acc = f32>>(of: fn(f32) -> T, bits: i32) {
        let number = |at: usize| (at * 7919 % 257) as f32 / 128.0 - 1.0;
        for (m, k, n) in [(1, 700, 1100), (3, 261, 1030), (8, 1031, 515), (2, 9000, 37), (5, 40, 9001)] {
            let x: Vec<T> = (0..m * k).map(|at| of(number(at))).collect();
            let w: Vec<T> = (0..k * n).map(|at| of(number(at + 11))).collect();
            let bias: Vec<T> = (0..n).map(|at| of(number(at + 5))).collect();
            for strides in [[n as isize, 1], [1, k as isize]] {
                let at = |p: usize, j: usize| p * strides[0] as usize + j * strides[1] as usize;
                let run = |threads| {
                    let mut y = vec![of(f32::NAN); m * n];
                    let (right, left) = (MatRef::new(&w, 0, [k, n], strides), MatRef::row_major(&x, m, k));
                    let epilogue = Epilogue { bias: Bias::PerCol(&bias), ..Epilogue::default() };
                    let mut out = super::super::MatMut::row_major(&mut y, m, n);
                    threads::with_num_threads(threads, || {
                        super::run(isa::isa(), &left, &right, out.target(), Beta::Zero, &epilogue);
                    });
                    y.into_iter().map(T::widen).collect::<Vec<f32>>()
                };
                for &level in isa::available() {
                    isa::with_isa(level, || {
                        let got = run(1);
                        assert_eq!(got, run(3), "{m} x {k} x {n} at {level}: the threads change nothing");
                        for (i, j) in [(0, 0), (m - 1, n - 1), (m / 2, n / 3), (m - 1, n / 2 + 1)] {
                            let terms = (0..k)
                                .map(|p| f64::from(x[i * k + p].widen()) * f64::from(w[at(p, j)].widen()));
                            let (sum, size) =
                                terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                            let expected = sum + f64::from(bias[j].widen());
                            let bound = size * 1e-6 + (expected.abs() + 1.0) * f64::from(2f32.powi(-bits));
                            let error = (f64::from(got[i * n + j]) - expected).abs();
                            assert!(
                                error <= bound,
                                "{m} x {k} x {n} at {level}, ({i}, {j}): {error} > {bound}"
                            );
                        }
                    });
                }
            }
        }
    }

    #[test]
    fn few_rows_times_a_large_matrix_are_exact_in_every_layout() {
        check::<f32>(|x| x, 20);
        check::<bf16>(bf16::from_f32, 8);
        check::<f16>(f16::from_f32, 10);
    }

    #[test]
    fn a_matrix_times_few_columns_is_the_transposed_product() {
        let (m, k, n) = (300, 90, 4);
        let number = |at: usize| bf16::from_f32((at * 31 % 17) as f32 - 8.0);
        let a: Vec<bf16> = (0..m * k).map(number).collect();
        let b: Vec<bf16> = (0..k * n).map(|at| number(at + 3)).collect();
        let mut c = vec![bf16::NAN; m * n];
        let rows = |rows: usize, cols: usize| ([1, rows, cols], [0, cols as isize, 1]);
        let ((a_dims, a_strides), (b_dims, b_strides), (c_dims, c_strides)) =
            (rows(m, k), rows(k, n), rows(m, n));
        gemm_batched(
            BatchRef::new(&a, 0, a_dims, a_strides),
            BatchRef::new(&b, 0, b_dims, b_strides),
            BatchMut::new(&mut c, 0, c_dims, c_strides),
            Beta::Zero,
            Epilogue::default(),
        );
        for (at, c) in c.iter().enumerate() {
            let sum: f32 = (0..k).map(|p| a[at / n * k + p].to_f32() * b[p * n + at % n].to_f32()).sum();
            assert_eq!(*c, bf16::from_f32(sum), "element {at}: the sums are whole numbers");
        }
    }
}
