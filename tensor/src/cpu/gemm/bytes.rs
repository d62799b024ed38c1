//! Products of bytes, exact in `i32`: a step of the kernels takes two of k, as pairs of 16 bits.
//!
//! The product of two bytes needs 16 bits and their sum 17, so `a₀·b₀ + a₁·b₁` is exact in the 32 bits that vectors sum pairs in.
//! Everything else is the machinery of all products: a pair is the number that panels are made of.

use super::amx;
use super::driver::{self, Problem};
use super::epilogue::{Beta, Epilogue};
use super::few_bytes::{self, FEW};
use super::kernel::Kernels;
use super::matrix::{MatMut, MatRef, Target};
use super::scalar::Scalar;
use super::source::{Block, Operand, PackSource};
use crate::cpu::isa;
use crate::cpu::wide::dispatch;

/// Two steps of a line, the first in the low half, as a value of a panel; one 32-bit integer as a sum.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
#[repr(transparent)]
pub struct Pair(i32);

// SAFETY: an `i32` in all but name.
unsafe impl bytemuck::Zeroable for Pair {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Pair {}

impl Pair {
    #[inline(always)]
    fn of(first: i16, second: i16) -> Self {
        Self(i32::from(first) & 0xFFFF | i32::from(second) << 16)
    }

    /// The sum that this is.
    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// `sum` and the products of both steps.
    #[inline(always)]
    pub(super) fn times_plus(self, other: Self, sum: Self) -> Self {
        let first = i32::from(self.0 as i16) * i32::from(other.0 as i16);
        let second = (self.0 >> 16) * (other.0 >> 16);
        Self(sum.0.wrapping_add(first.wrapping_add(second)))
    }

    /// No steps, or an empty sum.
    pub(super) const ZERO: Self = Self(0);
}

/// A type of eight bits.
pub trait Byte: bytemuck::Pod + Send + Sync {
    /// Whether it has a sign.
    const SIGNED: bool;

    /// Its value.
    fn value(self) -> i16;
}

impl Byte for i8 {
    const SIGNED: bool = true;

    #[inline(always)]
    fn value(self) -> i16 {
        self.into()
    }
}

impl Byte for u8 {
    const SIGNED: bool = false;

    #[inline(always)]
    fn value(self) -> i16 {
        self.into()
    }
}

/// `C = A·B`; sums beyond 32 bits wrap.
///
/// # Shapes
/// - a: `[m, k]`, b: `[k, n]`, c: `[m, n]`; any may be empty. With `k = 0` the product is zero.
///
/// # Panics
/// If the shapes do not fit together.
pub fn gemm_bytes<A: Byte, B: Byte>(a: MatRef<A>, b: MatRef<B>, mut c: MatMut<i32>) {
    assert_fit(&a, &b, &c);
    let target = c.target();
    if a.rows().min(b.cols()) <= FEW {
        return if a.rows() <= b.cols() {
            few_bytes::run(isa::isa(), &a, &b.t(), target)
        } else {
            few_bytes::run(isa::isa(), &b.t(), &a, target.t())
        };
    }
    if let Some(unit) = amx::bytes::unit(isa::isa(), a.rows(), b.cols(), a.cols())
        && (target.row == 1 || target.col == 1)
    {
        return amx::bytes::run(unit, isa::isa(), a, b, target);
    }
    product(Pair::kernels(isa::isa()), a, b, c);
}

fn assert_fit<A, B>(a: &MatRef<A>, b: &MatRef<B>, c: &MatMut<i32>) {
    assert_eq!((c.rows(), c.cols()), (a.rows(), b.cols()), "the result has A's rows and B's columns");
    assert_eq!(a.cols(), b.rows(), "A has as many columns as B has rows");
}

/// [`gemm_bytes`] with some kernels.
pub(super) fn product<A: Byte, B: Byte>(
    kernels: &'static Kernels<Pair>,
    a: MatRef<A>,
    b: MatRef<B>,
    mut c: MatMut<i32>,
) {
    assert_fit(&a, &b, &c);
    let (m, n, c) = (c.rows(), c.cols(), c.target());
    let c = Target { start: c.start.cast::<Pair>(), row: c.row, col: c.col };
    let (a, b) = (Lines(a), Lines(b.t()));
    let (a, b) = (Operand::Source(&a), Operand::Source(&b));
    driver::run(kernels, Problem { m, n, a, b, c, beta: Beta::Zero, epilogue: Epilogue::default() });
}

/// The rows of a matrix of bytes as lines of pairs; the last pair of an odd row ends with a zero.
struct Lines<'a, T>(MatRef<'a, T>);

impl<T: Byte> PackSource<Pair> for Lines<'_, T> {
    fn lines(&self) -> usize {
        self.0.rows()
    }

    fn steps(&self) -> usize {
        self.0.cols().div_ceil(2)
    }

    fn pack(&self, block: &Block, panels: &mut [Pair]) {
        assert!(
            block.lines.end <= self.lines() && block.k.end <= self.steps(),
            "a block lies inside its operand"
        );
        assert_eq!(panels.len(), block.volume(), "the panels of a block have exactly its volume");
        if !panels.is_empty() {
            pack(block.isa, &self.0, block, panels);
        }
    }
}

/// Pairs that are gathered from a line at a time, before they are spread over the steps of a panel.
const STRETCH: usize = 64;

dispatch! {
    /// Panel after panel, the lines one after the other where each is contiguous, else the steps.
    fn pack<T: Byte>(lines: &MatRef<T>, block: &Block, panels: &mut [Pair]) {
        let (width, depth) = (block.width, block.k.len());
        for (at, panel) in panels.chunks_exact_mut(width * depth).enumerate() {
            let first = block.lines.start + at * width;
            let filled = width.min(block.lines.end - first);
            if filled < width {
                panel.fill(Pair::ZERO);
            }
            if lines.row_stride() == 1 {
                for (p, step) in panel.chunks_exact_mut(width).enumerate() {
                    pack_step(lines, first, 2 * (block.k.start + p), &mut step[..filled]);
                }
            } else {
                for i in 0..filled {
                    for from in (0..depth).step_by(STRETCH) {
                        let steps = STRETCH.min(depth - from);
                        let mut pairs = [Pair::ZERO; STRETCH];
                        gather(lines, first + i, 2 * (block.k.start + from), &mut pairs[..steps]);
                        let panel = &mut panel[from * width + i..];
                        for (value, pair) in panel.iter_mut().step_by(width).zip(&pairs[..steps]) {
                            *value = *pair;
                        }
                    }
                }
            }
        }
    }
}

/// One step of lines that lie side by side, from place `k` of them on.
#[inline(always)]
fn pack_step<T: Byte>(lines: &MatRef<T>, first: usize, k: usize, step: &mut [Pair]) {
    assert!(first + step.len() <= lines.rows() && k < lines.cols(), "a step lies inside its operand");
    // SAFETY: that place of these lines exists (asserted above), and they lie side by side.
    let low = unsafe { std::slice::from_raw_parts(lines.at(first, k), step.len()) };
    if k + 1 < lines.cols() {
        // SAFETY: as above, the place after it.
        let high = unsafe { std::slice::from_raw_parts(lines.at(first, k + 1), step.len()) };
        for ((pair, low), high) in step.iter_mut().zip(low).zip(high) {
            *pair = Pair::of(low.value(), high.value());
        }
    } else {
        for (pair, low) in step.iter_mut().zip(low) {
            *pair = Pair::of(low.value(), 0);
        }
    }
}

/// Consecutive pairs of a line, from its place `k` on.
#[inline(always)]
fn gather<T: Byte>(lines: &MatRef<T>, line: usize, k: usize, pairs: &mut [Pair]) {
    let places = (2 * pairs.len()).min(lines.cols() - k);
    assert!(line < lines.rows() && places + 1 >= 2 * pairs.len(), "the pairs lie inside their line");
    if lines.col_stride() == 1 {
        // SAFETY: these places of the line exist (asserted above) and lie side by side.
        let values = unsafe { std::slice::from_raw_parts(lines.at(line, k), places) };
        for (pair, two) in pairs.iter_mut().zip(values.chunks_exact(2)) {
            *pair = Pair::of(two[0].value(), two[1].value());
        }
        if let ([last], Some(pair)) = (values.chunks_exact(2).remainder(), pairs.last_mut()) {
            *pair = Pair::of(last.value(), 0);
        }
    } else {
        for (at, pair) in pairs.iter_mut().enumerate() {
            let value = |place: usize| {
                // SAFETY: the place is one of the line's (asserted above).
                if place < places { unsafe { *lines.at(line, k + place) }.value() } else { 0 }
            };
            *pair = Pair::of(value(2 * at), value(2 * at + 1));
        }
    }
}
