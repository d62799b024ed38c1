//! Planes set out for windows that are taken side by side: framed by what windows reach beyond them, and for long strides dealt to
//! *phases*: phase `p` holds columns `p, p + stride, …`, so that what neighbouring windows read lies side by side.

use super::windows::{Axis, Slide};
use crate::cpu::vectors::{LANES, Vector};
use crate::cpu::wide::WideFloat;

/// Lanes of the widest vector.
const WIDEST: usize = 16;

/// Where sliding windows find their columns.
pub(super) struct Frame {
    /// Whether they find them in the plane as it is, if there are as many windows as a vector has lanes.
    pub bare: bool,
    /// Windows of a row.
    outputs: usize,
    /// Columns of a row, and of the input.
    pub width: usize,
    columns: usize,
    /// Columns before those of the input.
    left: usize,
    /// In how many phases rows are dealt.
    phases: usize,
    /// From one phase to the next.
    pitch: usize,
    /// Where the first window has its columns, in row 0.
    pub taps: Vec<usize>,
    /// From one window to the next.
    pub stride: usize,
}

impl Frame {
    /// Of planes of so many rows. Windows of two or three columns that are two apart are read in [`pairs`].
    pub(super) fn new(axis: &Axis, slide: Slide, rows: usize) -> Frame {
        let Slide { kernel, stride, step, padding } = slide;
        let outputs = axis.windows.len();
        let reach = outputs.saturating_sub(1) * stride + (kernel - 1) * step + 1;
        let phases = if slide.paired() { 1 } else { stride };
        let bare = padding == 0 && reach <= axis.size && phases == 1;
        let width = (padding + axis.size).max(reach).div_ceil(phases);
        // Fewer windows than a vector has lanes are read beyond their end.
        let pitch = rows * width + (stride + 1) * LANES;
        Frame {
            bare,
            outputs,
            width,
            columns: axis.size,
            left: padding,
            phases,
            pitch,
            taps: (0..kernel).map(|k| k * step % phases * pitch + k * step / phases).collect(),
            stride: stride / phases,
        }
    }

    /// Room for a plane, all padding.
    pub(super) fn room<A: WideFloat>(&self) -> Vec<A> {
        let needed = !self.bare || self.outputs < WIDEST;
        vec![-A::splat(f64::INFINITY); if needed { self.phases * self.pitch } else { 0 }]
    }

    /// Writes a plane into the frame.
    #[inline(always)]
    pub(super) fn fill<V: Vector>(&self, x: &[V::Element], room: &mut [V::Element]) {
        if self.phases == 1 {
            for (x, room) in x.chunks_exact(self.columns).zip(room.chunks_mut(self.width)) {
                copy::<V>(x, &mut room[self.left..]);
            }
            return;
        }
        for (phase, room) in room.chunks_exact_mut(self.pitch).enumerate() {
            // The first column of the phase that is in the input.
            let first = (phase + self.phases - self.left % self.phases) % self.phases;
            let to = (first + self.left) / self.phases;
            for (x, room) in x.chunks_exact(self.columns).zip(room.chunks_mut(self.width)) {
                let x = x[first.min(x.len())..].iter().step_by(self.phases);
                room[to..].iter_mut().zip(x).for_each(|(to, &x)| *to = x);
            }
        }
    }
}

/// Copies a row to where there is room for it.
#[inline(always)]
fn copy<V: Vector>(from: &[V::Element], to: &mut [V::Element]) {
    let n = from.len();
    let to = &mut to[..n];
    if n < V::WIDTH {
        return to.copy_from_slice(from);
    }
    for at in (0..n).step_by(V::WIDTH) {
        // The last vector overlaps the one before it.
        let at = at.min(n - V::WIDTH);
        // SAFETY: `at + WIDTH <= n`, the length of both.
        unsafe { V::read(from.as_ptr().add(at)).write(to.as_mut_ptr().add(at)) };
    }
}

/// `2 · WIDTH` elements, split in those at even and at odd distances from the first.
#[inline(always)]
pub(super) fn pairs<V: Vector>(x: &[V::Element], from: usize) -> (V, V) {
    let x = &x[from..][..2 * V::WIDTH];
    // SAFETY: there are `2 · WIDTH` of them.
    let (a, b) = unsafe { (V::read(x.as_ptr()), V::read(x.as_ptr().add(V::WIDTH))) };
    a.split_pairs(b)
}
