//! Working memory of a thread: packed panels and tiles, kept from call to call.

use std::cell::RefCell;

/// One cache line: what panels are aligned to.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of `len` elements of unspecified value, 64-byte aligned, that goes back to its thread's store when dropped.
pub(in crate::cpu) struct Scratch<S> {
    lines: Vec<Line>,
    len: usize,
    elements: std::marker::PhantomData<S>,
}

impl<S: bytemuck::Pod> Scratch<S> {
    /// Takes the smallest of the thread's buffers that suffices, or grows the largest.
    pub(in crate::cpu) fn new(len: usize) -> Self {
        let needed = (len * size_of::<S>()).div_ceil(size_of::<Line>());
        let mut lines = FREE.with_borrow_mut(|free| {
            let fitting = free.iter().enumerate().filter(|(_, lines)| lines.len() >= needed);
            let best = fitting.min_by_key(|(_, lines)| lines.len());
            let best = best.or_else(|| free.iter().enumerate().max_by_key(|(_, lines)| lines.len()));
            best.map(|(at, _)| at).map(|at| free.swap_remove(at)).unwrap_or_default()
        });
        if lines.len() < needed {
            // The old bytes mean nothing: a fresh buffer spares their copy.
            lines = vec![Line([0; 64]); needed];
        }
        Self { lines, len, elements: std::marker::PhantomData }
    }

    /// The elements.
    pub(in crate::cpu) fn as_mut_slice(&mut self) -> &mut [S] {
        debug_assert!(self.len * size_of::<S>() <= self.lines.len() * size_of::<Line>());
        // SAFETY: the lines are initialised bytes, at least `len` elements of them (allocated so in `new`), and aligned
        // for any `S: Pod` of at most 64 bytes of alignment.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }

    /// The elements.
    pub(in crate::cpu) fn as_slice(&self) -> &[S] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<S> Drop for Scratch<S> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is ending has no store any more; then the buffer is freed.
        let _ = FREE.try_with(|free| free.borrow_mut().push(lines));
    }
}
