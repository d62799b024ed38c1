//! Few rows of bytes times a matrix, or a matrix times few columns: the matrix is read where it is, once, in the order of memory.
//!
//! Panels would be written and read again with four times the bytes, for products that take less time than the reading.

use super::bytes::Byte;
use super::matrix::{MatRef, Target};
use super::scratch::Scratch;
use crate::cpu::isa::Isa;
use crate::cpu::threads::{SharedMut, parallel_for, phases};
use crate::cpu::wide::dispatch;

/// The most rows that take less time this way than as panels of pairs.
pub(super) const FEW: usize = 4;

/// Bytes of the matrix per task.
const TASK: usize = 256 * 1024;

/// Steps of lines side by side that are added to their sums at a time.
const STEPS: usize = 8;

/// The most sums that parts of the steps have each: what stays in the second-level cache.
const WIDTH: usize = 8192;

/// The most parts that all steps are cut into.
const PARTS: usize = 16;

/// `C = X · Linesᵀ`, wrapping: `c[i, l] = Σ_p x[i, p] · lines[l, p]`.
///
/// # Shapes
/// - x: `[m, k]`, lines: `[n, k]`, c: `[m, n]`, whose elements are the caller's; any may be empty
pub(super) fn run<X: Byte, T: Byte>(isa: Isa, x: &MatRef<X>, lines: &MatRef<T>, c: Target<i32>) {
    let (m, n, k) = (x.rows(), lines.rows(), x.cols());
    assert_eq!(lines.cols(), k, "the lines have a step for each of the rows");
    let mut scratch = Scratch::<i16>::new(m * k);
    for (at, value) in scratch.as_mut_slice().iter_mut().enumerate() {
        // SAFETY: the element is inside the matrix.
        *value = unsafe { *x.at(at / k, at % k) }.value();
    }
    let x = scratch.as_slice();
    if m == 0 || n == 0 {
        return;
    }
    if lines.row_stride() == 1 && lines.col_stride() != 1 {
        return side_by_side(isa, x, m, lines, c);
    }
    let block = (TASK / k.max(1)).clamp(1, n);
    parallel_for(n.div_ceil(block), |task| {
        let mut copy = Vec::new();
        for l in task * block..n.min((task + 1) * block) {
            let line = if lines.col_stride() == 1 || k == 0 {
                // SAFETY: the line is inside the matrix, and contiguous.
                unsafe { std::slice::from_raw_parts(lines.at(l, 0), k) }
            } else {
                copy.clear();
                // SAFETY: the elements are inside the matrix.
                copy.extend((0..k).map(|p| unsafe { *lines.at(l, p) }));
                &copy
            };
            for i in 0..m {
                let sum = dot(isa, &x[i * k..(i + 1) * k], line);
                // SAFETY: the element is inside C, and this task's own.
                unsafe { c.at(i, l).write(sum) }
            }
        }
    });
}

/// [`run`] for lines of which each step is contiguous: blocks of lines, and parts of the steps, each with sums of its own. Sums of
/// integers do not depend on their order.
fn side_by_side<T: Byte>(isa: Isa, x: &[i16], m: usize, lines: &MatRef<T>, c: Target<i32>) {
    let (n, k) = (lines.rows(), lines.cols());
    let width = n.min(WIDTH);
    let depth = (TASK / width).max(k.div_ceil(PARTS)).next_multiple_of(STEPS);
    let (across, along) = (n.div_ceil(width), k.div_ceil(depth).max(1));
    let mut scratch = Scratch::<i32>::new(along * m * n);
    let sums = SharedMut::new(scratch.as_mut_slice());
    let cols = |task: usize| task % across * width..n.min((task % across + 1) * width);
    let own = |task: usize, part: usize, i: usize| {
        let (cols, row) = (cols(task), (part * m + i) * n);
        row + cols.start..row + cols.end
    };
    let add = |task: usize| {
        let part = task / across;
        for i in 0..m {
            // SAFETY: the sums of some lines in a part belong to one task.
            unsafe { sums.slice(own(task, part, i)) }.fill(0);
        }
        let (first, end) = (part * depth, k.min((part + 1) * depth));
        for p in (first..end).step_by(STEPS) {
            // Steps that are not there are the last one, times zero.
            let rows: [&[T]; STEPS] = std::array::from_fn(|r| {
                let (at, cols) = (lines.at(cols(task).start, (p + r).min(end - 1)), cols(task));
                // SAFETY: these lines have the step, and lie side by side.
                unsafe { std::slice::from_raw_parts(at, cols.len()) }
            });
            for i in 0..m {
                let factors = std::array::from_fn(|r| if p + r < end { x[i * k + p + r] } else { 0 });
                // SAFETY: as above.
                add_rows(isa, factors, rows, unsafe { sums.slice(own(task, part, i)) });
            }
        }
    };
    let finish = |task: usize| {
        for (i, col) in (0..m).flat_map(|i| cols(task).map(move |col| (i, col))) {
            // SAFETY: all sums of these lines are complete, and read by this task alone, as is the element of C written.
            unsafe {
                let of_part =
                    |part: usize| sums.slice((part * m + i) * n + col..(part * m + i) * n + col + 1)[0];
                c.at(i, col).write((0..along).map(of_part).fold(0, i32::wrapping_add));
            }
        }
    };
    phases(
        2,
        |phase| if phase == 0 { across * along } else { across },
        |phase, task| {
            if phase == 0 { add(task) } else { finish(task) }
        },
    );
}

dispatch! {
    /// `Σ_p x[p] · line[p]`: the compiler multiplies and adds pairs of 16 bits.
    fn dot<T: Byte>(x: &[i16], line: &[T]) -> i32 {
        let product = |(x, y): (&i16, &T)| i32::from(*x) * i32::from(y.value());
        x.iter().zip(line).map(product).fold(0, i32::wrapping_add)
    }
}

dispatch! {
    /// `sums[j] += Σ_r x[r] · rows[r][j]`.
    fn add_rows<T: Byte>(x: [i16; STEPS], rows: [&[T]; STEPS], sums: &mut [i32]) {
        let rows = rows.map(|row| &row[..sums.len()]);
        for (j, sum) in sums.iter_mut().enumerate() {
            for r in 0..STEPS {
                *sum = sum.wrapping_add(i32::from(x[r]) * i32::from(rows[r][j].value()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes::gemm_bytes;
    use super::super::matrix::MatMut;
    use super::*;
    use crate::cpu::isa;
    use crate::cpu::threads::with_num_threads;

    /// Bytes without a pattern, the extremes among them.
    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 7919 % 1009 * 37 % 256) as u8).collect()
    }

    fn check<A: Byte, B: Byte>(a: fn(u8) -> A, b: fn(u8) -> B) {
        for (m, k, n) in [
            (1, 700, 1100),
            (2, 261, 1030),
            (1, 9001, 37),
            (1, 1, 1),
            (300, 90, 1),
            (9, 31, 3),
            (4, 133, 61),
            (1, 0, 5),
        ] {
            let x: Vec<A> = bytes(m * k).into_iter().map(a).collect();
            let y: Vec<B> = bytes(k * n).into_iter().map(b).collect();
            for strides in [[n as isize, 1], [1, k as isize]] {
                let value = |p: usize, j: usize| y[p * strides[0] as usize + j * strides[1] as usize].value();
                let element = |i: usize, j: usize| -> i32 {
                    (0..k).map(|p| i32::from(x[i * k + p].value()) * i32::from(value(p, j))).sum()
                };
                let exact: Vec<i32> = (0..m * n).map(|at| element(at / n, at % n)).collect();
                let (left, right) = (MatRef::row_major(&x, m, k), MatRef::new(&y, 0, [k, n], strides));
                for (&level, threads) in isa::available().iter().flat_map(|level| [(level, 1), (level, 3)]) {
                    let mut c = vec![7; m * n];
                    let out = MatMut::row_major(&mut c, m, n);
                    isa::with_isa(level, || with_num_threads(threads, || gemm_bytes(left, right, out)));
                    assert_eq!(c, exact, "{m} x {k} x {n} at {level}, {threads} threads");
                }
            }
        }
    }

    #[test]
    fn few_rows_or_columns_of_bytes_are_exact_in_every_layout() {
        check(|x| x as i8, |x| x as i8);
        check(|x| x, |x| x as i8);
        check(|x| x as i8, |x| x);
        check(|x| x, |x| x);
    }
}
