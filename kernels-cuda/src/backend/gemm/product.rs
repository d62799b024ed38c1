//! What a matrix product is made of, as its kernels take it: the structures of `cuda/gemm`.

use super::epilogue::Epilogue;
use crate::backend::walk::{Dims, Divisor, Walk};

/// Dims of a tensor, the one that runs fastest first: extents and strides.
pub(crate) type Extents = [(usize, isize)];

/// Up to four dims as one index: `Axis` of `cuda/gemm/operand.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Axis {
    rank: u32,
    extents: [Divisor; 3],
    strides: [i64; 4],
}

impl Axis {
    /// Of dims that runs fastest first; those that are one in memory become one.
    pub(crate) fn new(dims: &Extents) -> Axis {
        let dims = Dims::<1>(dims.iter().filter(|d| d.0 != 1).map(|&(n, s)| (n, [s])).collect()).joined();
        Axis::of_each(&dims.0.iter().map(|&(n, [s])| (n, s)).collect::<Vec<_>>())
    }

    /// Of at most four dims, none of which are joined.
    pub(crate) fn of_each(dims: &Extents) -> Axis {
        debug_assert!(dims.len() <= 4, "{dims:?}");
        let mut axis =
            Axis { rank: dims.len().max(1) as u32, extents: [Divisor::new(1); 3], strides: [0; 4] };
        for (d, &(extent, stride)) in dims.iter().enumerate() {
            axis.strides[d] = stride as i64;
            if d < 3 {
                axis.extents[d] = Divisor::new(extent.max(1));
            }
        }
        axis
    }
}

/// An operand of any strides: `Strided` of `cuda/gemm/operand.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Strided {
    row: Axis,
    column: Axis,
    vector: u32,
    by_k: u32,
}

impl Strided {
    /// `vector`: whether runs of 16 bytes are whole and aligned.
    pub(crate) fn new(row: &Extents, column: &Extents, vector: bool) -> Strided {
        Strided { row: Axis::new(row), column: Axis::new(column), vector: u32::from(vector), by_k: 0 }
    }

    /// The same, in no vectors.
    pub(crate) fn by_elements(self) -> Strided {
        Strided { vector: 0, ..self }
    }

    /// The same, for kernels that are told whether runs lie along k.
    pub(crate) fn told(self, by_k: bool) -> Strided {
        Strided { by_k: u32::from(by_k), ..self }
    }
}

/// Which pairs of a row and a column of [`Gathered`] lie in the image, for each of three dims, the last first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// What an index of the row, and of the column, adds to the coordinate.
    pub(crate) row_steps: [isize; 3],
    pub(crate) column_steps: [isize; 3],
    /// The coordinate of both first indices.
    pub(crate) shifts: [isize; 3],
    /// Coordinates are below this.
    pub(crate) sizes: [usize; 3],
}

/// An operand that is 0 outside of an image: `Gathered` of `cuda/gemm/operand.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Gathered {
    row: Axis,
    column: Axis,
    vector: u32,
    row_steps: [i32; 3],
    column_steps: [i32; 3],
    shifts: [i32; 3],
    sizes: [u32; 3],
    unused: u32,
}

impl Gathered {
    /// `vector`: whether runs of 16 bytes are whole, aligned, and in the image or out of it as one.
    pub(crate) fn new(row: &Extents, column: &Extents, frame: Frame, vector: bool) -> Gathered {
        let steps = |steps: [isize; 3]| steps.map(|n| n as i32);
        Gathered {
            row: Axis::of_each(row),
            column: Axis::of_each(column),
            vector: u32::from(vector),
            row_steps: steps(frame.row_steps),
            column_steps: steps(frame.column_steps),
            shifts: steps(frame.shifts),
            sizes: frame.sizes.map(|n| n as u32),
            unused: 0,
        }
    }
}

/// Where results go, and what is added: `Output` of `cuda/gemm/product.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Output {
    pub(crate) rows: Divisor,
    pub(crate) columns: Divisor,
    pub(crate) with_bias: u32,
    pub(crate) vector: u32,
    pub(crate) row: Axis,
    pub(crate) column: Axis,
    /// Strides.
    pub(crate) bias_row: i64,
    pub(crate) bias_column: i64,
    /// Over the matrices: of y, a, b and bias.
    pub(crate) batch: Walk<4>,
    pub(crate) epilogue: Epilogue,
}

impl Output {
    /// The same with rows in the place of columns; the steps of operands from matrix to matrix stay where they are.
    pub(crate) fn turned(self) -> Output {
        Output {
            rows: self.columns,
            columns: self.rows,
            vector: 0,
            row: self.column,
            column: self.row,
            bias_row: self.bias_column,
            bias_column: self.bias_row,
            ..self
        }
    }
}

/// The order of tiles: `Tiles` of `cuda/gemm/product.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Tiles {
    all: Divisor,
    group: Divisor,
    height: Divisor,
    rest: Divisor,
    down: u32,
}

impl Tiles {
    /// Rows of tiles whose blocks run at about the same time.
    const GROUP: usize = 8;

    /// For a grid of `down` rows of `across` tiles, at least one.
    pub(crate) fn new(down: usize, across: usize) -> Tiles {
        let height = Tiles::GROUP.min(down);
        let rest = if down.is_multiple_of(height) { height } else { down % height };
        Tiles {
            all: Divisor::new(down * across),
            group: Divisor::new(height * across),
            height: Divisor::new(height),
            rest: Divisor::new(rest),
            down: down as u32,
        }
    }
}

/// A product: `Product` of `cuda/gemm/product.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Product<A, B> {
    pub(crate) k: u32,
    pub(crate) depth: u32,
    pub(crate) first: u32,
    pub(crate) parts: Divisor,
    pub(crate) tiles: Tiles,
    /// How many threads share sums, as a logarithm, where kernels leave that open.
    pub(crate) share: u32,
    pub(crate) a: A,
    pub(crate) b: B,
    pub(crate) out: Output,
}

/// Whether runs of `lanes` elements along `along` are whole and aligned, for a tensor at `address` whose other dims are `others`.
pub(crate) fn runs_fit(
    along: &Extents,
    others: &[&Extents],
    address: u64,
    lanes: usize,
    size: usize,
) -> bool {
    let mut dims = along.iter().filter(|d| d.0 != 1);
    let whole = |stride: isize| stride % lanes as isize == 0;
    dims.next().is_some_and(|&(extent, stride)| stride == 1 && extent.is_multiple_of(lanes))
        && dims.chain(others.iter().copied().flatten()).all(|&(extent, stride)| extent == 1 || whole(stride))
        && address.is_multiple_of((lanes * size) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_need_a_unit_stride_whole_extents_and_alignment() {
        let rows: &Extents = &[(5, 8)];
        assert!(runs_fit(&[(8, 1)], &[rows], 64, 4, 4));
        assert!(!runs_fit(&[(8, 1)], &[rows], 72, 4, 4));
        assert!(!runs_fit(&[(6, 1)], &[rows], 64, 4, 4));
        assert!(!runs_fit(&[(8, 2)], &[rows], 64, 4, 4));
        assert!(!runs_fit(&[(8, 1)], &[&[(5, 9)]], 64, 4, 4));
        assert!(runs_fit(&[(1, 9), (8, 1), (3, 16)], &[&[(1, 9)]], 64, 4, 4));
        assert!(!runs_fit(&[(1, 1)], &[rows], 64, 4, 4));
    }

    #[test]
    fn groups_of_tiles_cover_each_tile_once() {
        for (down, across) in [(1, 1), (3, 5), (8, 2), (9, 4), (21, 1), (16, 3)] {
            let tiles = Tiles::new(down, across);
            // As the kernel does it.
            let place = |t: usize| {
                let group = t / tiles.group.get();
                let inside = t - group * tiles.group.get();
                let last = (group + 1) * tiles.height.get() > tiles.down as usize;
                let height = if last { tiles.rest.get() } else { tiles.height.get() };
                (group * tiles.height.get() + inside % height, inside / height)
            };
            let mut places: Vec<_> = (0..down * across).map(place).collect();
            places.sort_unstable();
            let expected: Vec<_> = (0..down).flat_map(|r| (0..across).map(move |c| (r, c))).collect();
            assert_eq!(places, expected);
        }
    }
}
