//! Moving elements to where another layout has them. Of their type only the size matters, so there is one copy per size.
//!
//! What lies together in both layouts is copied as a run. Where the rows of one are the columns of the other, the plane is
//! cut into tiles that are transposed in registers: each cache line is then read once and written once, instead of once
//! for each of its elements.

use crate::cpu::isa::{Isa, isa};
#[cfg(target_arch = "x86_64")]
use crate::cpu::simd::avx2;
use crate::cpu::simd::stream;
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::cpu::walk::{Crossing, GRAIN, Run, Walk};
use crate::cpu::wide::dispatch;
use std::ptr::copy_nonoverlapping;

/// What moves: as many bytes as an element has.
pub(crate) trait Unit: bytemuck::Pod + Default + Send + Sync {}
impl<U: bytemuck::Pod + Default + Send + Sync> Unit for U {}

/// Evaluates an expression with `$U` the unit of the size of `$T`.
macro_rules! with_unit {
    ($T:ident, $U:ident => $body:expr) => {
        match size_of::<$T>() {
            1 => {
                type $U = u8;
                $body
            }
            2 => {
                type $U = u16;
                $body
            }
            4 => {
                type $U = u32;
                $body
            }
            _ => {
                type $U = u64;
                $body
            }
        }
    };
}
pub(crate) use with_unit;

/// Puts the elements that operand 1 of the walk names in `from` where operand 0 names places in `to`, all of them
/// different ones.
pub(crate) fn relocate<U: Unit>(walk: &Walk<2>, to: &mut [U], from: &[U]) {
    walk.check_inside([to.len(), from.len()]);
    let isa = isa();
    let to = SharedMut::new(to);
    match walk.crossing() {
        Some(crossing) => transpose(isa, &crossing, &to, from),
        None => {
            let long = walk.run_len() * size_of::<U>() >= LONG;
            let stream = (long && stream::worthwhile(isa, walk.numel() * size_of::<U>())).then_some(isa);
            walk.parallel_grains(|grain| {
                walk.runs(grain.start, grain.end, |run| {
                    // SAFETY: the walk lies inside both slices (checked above), and hands each element to one task, once.
                    unsafe { move_run(stream, run, to.as_mut_ptr(), from.as_ptr()) }
                });
                stream.iter().for_each(|_| stream::finish());
            });
        }
    }
}

/// Bytes of a run of which most are whole lines.
const LONG: usize = 1024;

/// Moves one run, with a `stream` past the caches where both sides are consecutive.
///
/// # Safety
/// The run lies inside what both pointers point to, which does not overlap.
#[inline(always)]
unsafe fn move_run<U: Unit>(stream: Option<Isa>, run: Run<2>, to: *mut U, from: *const U) {
    // SAFETY: the caller's promise, for the first elements and all that follow.
    unsafe {
        let (to, from) = (to.offset(run.at[0]), from.offset(run.at[1]));
        if let (Some(isa), [1, 1]) = (stream, run.step) {
            let from = std::slice::from_raw_parts(from, run.len);
            return stream::put(isa, from, std::slice::from_raw_parts_mut(to, run.len));
        }
        match run.step {
            [1, 1] => copy_nonoverlapping(from, to, run.len),
            [1, 0] => std::slice::from_raw_parts_mut(to, run.len).fill(*from),
            [t, f] => (0..run.len as isize).for_each(|i| *to.offset(i * t) = *from.offset(i * f)),
        }
    }
}

/// Rows and columns of the source in one block: what it reads and writes stays in the second-level cache.
const BLOCK: [usize; 2] = [256, 64];

/// The plane of a crossing, and all its repetitions, in blocks.
fn transpose<U: Unit>(isa: Isa, crossing: &Crossing, to: &SharedMut<'_, U>, from: &[U]) {
    let Crossing { outer, rows, columns, from_row, to_column } = crossing;
    let blocks = [rows.div_ceil(BLOCK[0]), columns.div_ceil(BLOCK[1])];
    let per_task = (GRAIN / ((*rows).min(BLOCK[0]) * (*columns).min(BLOCK[1]))).max(1);
    let count = outer.numel() * blocks[0] * blocks[1];
    parallel_for(count.div_ceil(per_task), |task| {
        for block in task * per_task..count.min((task + 1) * per_task) {
            let (plane, block) = (block / (blocks[0] * blocks[1]), block % (blocks[0] * blocks[1]));
            let (row, column) = (block / blocks[1] * BLOCK[0], block % blocks[1] * BLOCK[1]);
            let size = [BLOCK[0].min(rows - row), BLOCK[1].min(columns - column)];
            outer.runs(plane, plane + 1, |run| {
                let to_at = run.at[0] + column as isize * to_column + row as isize;
                let from_at = run.at[1] + row as isize * from_row + column as isize;
                // SAFETY: the block is part of a walk that was found to lie inside both slices, and its elements belong to
                // one task.
                unsafe {
                    let (to, from) = (to.as_mut_ptr().offset(to_at), from.as_ptr().offset(from_at));
                    transpose_block(isa, Corner(to, *to_column), Corner(from.cast_mut(), *from_row), size);
                }
            });
        }
    });
}

/// `to[c][r] = from[r][c]` for a plane of `[rows, columns]` on the calling thread; the second numbers are the distances between
/// the lines of either side.
///
/// # Safety
/// `from` is readable and `to` writable there; they do not overlap.
pub(crate) unsafe fn cross<U: Unit>(
    isa: Isa,
    to: (*mut U, isize),
    from: (*const U, isize),
    size: [usize; 2],
) {
    // SAFETY: the caller's promise.
    unsafe { transpose_block(isa, Corner(to.0, to.1), Corner(from.0.cast_mut(), from.1), size) }
}

/// The first element of a block, and how far apart its lines are.
#[derive(Clone, Copy)]
struct Corner<U>(*mut U, isize);

/// Lines and elements of a tile: it fits into registers.
const TILE: usize = 8;

/// Bytes of a cache line.
const LINE: usize = 64;

/// `to[c, r] = from[r, c]` for a block of `[rows, columns]`.
///
/// # Safety
/// `from` is readable and `to` writable there; they do not overlap.
unsafe fn transpose_block<U: Unit>(isa: Isa, to: Corner<U>, from: Corner<U>, size: [usize; 2]) {
    transpose_strips(isa, to, from, size, tile_at(isa));
}

/// Transposes a whole tile.
type Tile<U> = unsafe fn(Corner<U>, Corner<U>);

/// How a tile is transposed: where the elements are as wide as those of the level's shuffles, by these.
fn tile_at<U: Unit>(isa: Isa) -> Tile<U> {
    match (isa, size_of::<U>()) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2 | Isa::Avx512 | Isa::Amx, 4) => |to, from| {
            // SAFETY: the caller's promise for a whole tile; the machine has the level.
            unsafe { avx2::transpose_8x8_u32((to.0.cast(), to.1), (from.0.cast(), from.1)) }
        },
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2 | Isa::Avx512 | Isa::Amx, 2) => |to, from| {
            // SAFETY: as above.
            unsafe { avx2::transpose_8x8_u16((to.0.cast(), to.1), (from.0.cast(), from.1)) }
        },
        _ => transpose_tile,
    }
}

dispatch! {
    /// As [`transpose_block`], strip by strip of the source: as many columns as a cache line has elements.
    fn transpose_strips<U: Unit>(to: Corner<U>, from: Corner<U>, size: [usize; 2], tile: Tile<U>) {
        let [rows, columns] = size;
        let strip = LINE / size_of::<U>();
        // Where there is room for a whole tile, the last one starts early and repeats some elements.
        let whole = rows >= TILE && columns >= TILE;
        for column in (0..columns).step_by(strip) {
            let end = columns.min(column + strip);
            for row in (0..rows).step_by(TILE) {
                // Lines as many as rows are more than the processor's own prefetching follows.
                for r in row..rows.min(row + TILE) {
                    stream::ask(from.0.wrapping_offset(r as isize * from.1 + (column + 2 * strip) as isize));
                }
                for c in (column..end).step_by(TILE) {
                    let (row, c) = if whole { (row.min(rows - TILE), c.min(columns - TILE)) } else { (row, c) };
                    let (height, width) = (TILE.min(rows - row), TILE.min(end - c));
                    // SAFETY: the tile lies inside the block, where the caller vouches for both sides.
                    unsafe {
                        let from = Corner(from.0.offset(row as isize * from.1 + c as isize), from.1);
                        let to = Corner(to.0.offset(c as isize * to.1 + row as isize), to.1);
                        match height == TILE && width == TILE {
                            true => tile(to, from),
                            false => transpose_corner(to, from, [height, width]),
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`transpose_block`], for a whole tile.
#[inline(always)]
unsafe fn transpose_tile<U: Unit>(to: Corner<U>, from: Corner<U>) {
    let mut lines = [[U::default(); TILE]; TILE];
    for (r, line) in lines.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *line = unsafe { from.0.offset(r as isize * from.1).cast::<[U; TILE]>().read_unaligned() };
    }
    for c in 0..TILE {
        let column: [U; TILE] = std::array::from_fn(|r| lines[r][c]);
        // SAFETY: the caller's promise.
        unsafe { to.0.offset(c as isize * to.1).cast::<[U; TILE]>().write_unaligned(column) };
    }
}

/// # Safety
/// As [`transpose_block`].
#[inline(always)]
unsafe fn transpose_corner<U: Unit>(to: Corner<U>, from: Corner<U>, [rows, columns]: [usize; 2]) {
    for r in 0..rows as isize {
        for c in 0..columns as isize {
            // SAFETY: the caller's promise.
            unsafe { *to.0.offset(c * to.1 + r) = *from.0.offset(r * from.1 + c) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa;
    use crate::cpu::threads::with_num_threads;
    use crate::{Layout, Shape};

    /// Every element where its position says, and nothing else touched.
    fn check<U: Unit + PartialEq + std::fmt::Debug>(
        shape: &[usize],
        views: &[Layout],
        value: fn(usize) -> U,
    ) {
        let n = shape.iter().product::<usize>();
        let from: Vec<U> = (0..n).map(value).collect();
        for view in views {
            let out = Layout::contiguous(view.shape());
            let expected: Vec<U> = view.positions().map(|at| from[at]).collect();
            for &level in isa::available() {
                for threads in [1, 3] {
                    let mut to = vec![U::default(); expected.len()];
                    isa::with_isa(level, || {
                        with_num_threads(threads, || relocate(&Walk::new([&out, view]), &mut to, &from))
                    });
                    assert_eq!(to, expected, "{view:?} at {level}");
                }
            }
        }
    }

    #[test]
    fn any_view_of_any_size_of_element_moves_to_row_major_order() {
        for shape in [&[7usize, 9][..], &[1, 1], &[70, 300], &[3, 17, 40], &[2, 5, 8, 16], &[0, 4], &[520, 8]]
        {
            let base = Layout::contiguous(Shape::from(shape));
            let last = shape.len() - 1;
            let views = [
                base,
                base.transpose(0, last),
                base.transpose(0, last).flip(0),
                base.transpose(0, last).flip(last),
                base.transpose(last - 1, last),
                base.slice(last, shape[last] / 4, shape[last] / 3, 2).transpose(0, last),
                base.slice(0, shape[0] / 2, shape[0].min(1), 1).transpose(0, last),
            ];
            check::<u8>(shape, &views, |i| i as u8);
            check::<u16>(shape, &views, |i| i as u16);
            check::<u32>(shape, &views, |i| i as u32);
            check::<u64>(shape, &views, |i| i as u64);
        }
    }
}
