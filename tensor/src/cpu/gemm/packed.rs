//! An operand packed once and used in many products: weights, recurrent matrices.

use super::amx;
use super::kernel::Kernels;
use super::matrix::MatRef;
use super::pack::{Cols, Rows};
use super::plan;
use super::scalar::{GemmElement, Scalar};
use super::scratch::Scratch;
use super::source::{Block, PackSource};
use crate::cpu::isa::{self, Isa};
use crate::cpu::memory::Memory;
use crate::cpu::threads;
use std::alloc::{Layout, handle_alloc_error};
use std::any::TypeId;
use std::ops::Range;
use std::sync::OnceLock;

/// Which operand panels were packed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The left one: panels of rows.
    A,
    /// The right one: panels of columns.
    B,
}

impl Side {
    /// The width of this side's panels.
    pub(super) fn width<S>(self, kernels: &Kernels<S>) -> usize {
        match self {
            Self::A => kernels.mr,
            Self::B => kernels.nr,
        }
    }
}

/// A whole operand in the order in which the micro-kernels read it.
///
/// It remembers the kernels that it was packed for; a product with it uses those.
///
/// ```text
/// block of k 0:  panel 0 | panel 1 | …      each panel: width · kc values
/// block of k 1:  panel 0 | panel 1 | …
/// ```
pub struct Packed<S: Scalar> {
    /// For the vector kernels; made when first needed if there are panels for tiles.
    panels: OnceLock<Memory>,
    tiled: Option<amx::Packed>,
    side: Side,
    lines: usize,
    steps: usize,
    kernels: &'static Kernels<S>,
}

impl<S: Scalar> Packed<S> {
    /// Packs a left operand.
    ///
    /// # Shapes
    /// - a: `[m, k]`
    pub fn a<T: GemmElement<Acc = S>>(a: MatRef<T>) -> Self {
        Self::with_results::<T>(Side::A, &Rows(a))
    }

    /// Packs a right operand.
    ///
    /// # Shapes
    /// - b: `[k, n]`
    pub fn b<T: GemmElement<Acc = S>>(b: MatRef<T>) -> Self {
        Self::with_results::<T>(Side::B, &Cols(b))
    }

    /// Packs any operand, in parallel.
    pub fn new(side: Side, source: &dyn PackSource<S>) -> Self {
        Self::with_kernels(S::kernels(isa::isa()), TypeId::of::<S>(), side, source)
    }

    /// Packs any operand whose values are of type T, for products with results of that type.
    pub fn with_results<T: GemmElement<Acc = S>>(side: Side, source: &dyn PackSource<S>) -> Self {
        Self::with_kernels(S::kernels(isa::isa()), TypeId::of::<T>(), side, source)
    }

    pub(super) fn with_kernels(
        kernels: &'static Kernels<S>,
        result: TypeId,
        side: Side,
        source: &dyn PackSource<S>,
    ) -> Self {
        let (lines, steps) = (source.lines(), source.steps());
        let tiled = amx::Packed::new(kernels, result, side, source);
        let packed = Self { panels: OnceLock::new(), tiled, side, lines, steps, kernels };
        if packed.tiled.is_none() {
            packed.panels_from(source);
        }
        packed
    }

    /// The panels for the vector kernels, packed now if they are not yet.
    fn panels_from(&self, source: &dyn PackSource<S>) -> &[S] {
        let panels = self.panels.get_or_init(|| {
            let values = self.lines.next_multiple_of(self.side.width(self.kernels)) * self.steps;
            let mut panels = allocate::<S>(values);
            pack_all(self.kernels, self.side, source, 0..self.lines, panels.as_mut_slice());
            panels
        });
        panels.as_slice()
    }

    /// Rows of A, or columns of B.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// The length of the sums.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Which operand it is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The instruction level that it was packed for.
    pub fn isa(&self) -> Isa {
        self.kernels.isa
    }

    pub(super) fn kernels(&self) -> &'static Kernels<S> {
        self.kernels
    }

    /// Whether products with it are done on matrix tiles, for whole operands only.
    pub(in crate::cpu) fn is_for_tiles(&self) -> bool {
        self.tiled.is_some()
    }

    /// What tiles multiply, if they do.
    pub(super) fn tiled(&self) -> Option<&amx::Packed> {
        self.tiled.as_ref()
    }

    pub(super) fn panels(&self) -> Panels<'_, S> {
        let width = self.side.width(self.kernels);
        let data = match &self.tiled {
            Some(tiled) => self.panels_from(tiled),
            None => self.panels.get().map_or(&[][..], Memory::as_slice),
        };
        Panels { data, width, padded: self.lines.next_multiple_of(width), first: 0 }
    }
}

/// Memory of the tensors' allocator, which counts it and aligns it to cache lines. Where there is none, the process ends as it
/// does where a `Vec` cannot grow.
fn allocate<S>(values: usize) -> Memory {
    let layout = Layout::array::<S>(values)
        .unwrap_or_else(|_| panic!("panels of {values} values exceed the address space"));
    Memory::new(layout.size()).unwrap_or_else(|_| handle_alloc_error(layout))
}

/// A view of packed panels of all k, for the lines from `first` on.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a, S> {
    data: &'a [S],
    width: usize,
    padded: usize,
    first: usize,
}

impl<'a, S> Panels<'a, S> {
    /// What [`pack_all`] wrote to `data` for `lines`.
    pub(super) fn new(data: &'a [S], width: usize, lines: Range<usize>) -> Self {
        Self { data, width, padded: lines.len().next_multiple_of(width), first: lines.start }
    }

    /// The panels of some lines in one block of k; the first line starts a panel.
    pub(super) fn block(&self, k: &Range<usize>, lines: &Range<usize>) -> &'a [S] {
        let (from, to) = (lines.start - self.first, (lines.end - self.first).next_multiple_of(self.width));
        debug_assert!(from.is_multiple_of(self.width), "a block starts at a panel");
        let start = self.padded * k.start + from * k.len();
        &self.data[start..start + (to - from) * k.len()]
    }
}

/// Packs all steps of some lines, in parallel: block of k after block of k, panel after panel.
pub(super) fn pack_all<S: Scalar>(
    kernels: &Kernels<S>,
    side: Side,
    source: &dyn PackSource<S>,
    lines: Range<usize>,
    panels: &mut [S],
) {
    let (width, steps) = (side.width(kernels), source.steps());
    let blocks = plan::k_blocks(steps, kernels.kc);
    let padded = lines.len().next_multiple_of(width);
    // Tasks of 64 Ki values or so: wide enough that rows of a matrix are read in long runs.
    let group = (64 * 1024 / (width * blocks.depth().max(1))).max(1) * width;
    let groups = lines.len().div_ceil(group);
    assert_eq!(panels.len(), padded * steps, "the panels hold all steps of the lines");
    let place = Place(panels.as_mut_ptr());
    threads::parallel_for(groups * blocks.count(), |task| {
        let k = blocks.get(task / groups);
        let from = lines.start + task % groups * group;
        let block = Block { k, lines: from..lines.end.min(from + group), width, isa: kernels.isa };
        let start = padded * block.k.start + (from - lines.start) * block.k.len();
        debug_assert!(start + block.volume() <= padded * steps);
        // SAFETY: blocks of k and groups of whole panels are disjoint, and together are the panels (asserted above).
        let panels = unsafe { std::slice::from_raw_parts_mut(place.get().add(start), block.volume()) };
        source.pack(&block, panels);
    });
}

/// A pointer that tasks share, each for its own part.
struct Place<S>(*mut S);

// SAFETY: the tasks of `pack_all` write disjoint parts.
unsafe impl<S: Send> Sync for Place<S> {}

impl<S> Place<S> {
    fn get(&self) -> *mut S {
        self.0
    }
}

/// Scratch that holds all steps of some lines.
pub(super) fn scratch_for<S: Scalar>(width: usize, lines: usize, steps: usize) -> Scratch<S> {
    Scratch::new(lines.next_multiple_of(width) * steps)
}
