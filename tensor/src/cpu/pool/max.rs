//! How to find the largest element of each window of planes of one shape, and what codes stand for.
//!
//! Where in its window the largest element stands is a *code*, `row · columns + column`, with rows counted inside the input, columns from
//! the window's start, be it in the padding.

use super::deal::Frame;
use super::windows::{Axis, Lists, Slide};
use std::ops::Range;

/// Outputs of a row below which far windows are taken one by one.
const FEW: usize = 8;

/// How to pool the planes of one shape.
pub(super) struct MaxPool<'a> {
    pub(super) axes: &'a [Axis; 3],
    /// Columns of a window.
    pub(super) columns: usize,
    /// Where the columns of windows are found that are taken side by side.
    pub(super) frame: Option<Frame>,
    /// The column of the input that code 0 of each window stands for, before the first where that wraps around.
    pub(super) starts: Vec<usize>,
    /// The rows of the input that each row of outputs looks at.
    pub(super) sources: Lists,
    /// Whether each window has elements.
    pub(super) full: bool,
}

impl<'a> MaxPool<'a> {
    pub(super) fn new(axes: &'a [Axis; 3]) -> Self {
        let [d, h, w] = axes;
        let rows = [d, h].map(|axis| axis.windows.iter().map(|w| w.elements()).collect::<Vec<_>>());
        let sources = Lists::new(&rows[0], &rows[1], h.size);
        let outputs = w.windows.len();
        let slide = w.slide.filter(|slide| w.size > 0 && (slide.stride <= 2 || outputs >= FEW));
        let starts = match slide {
            Some(slide) => (0..outputs).map(|o| (o * slide.stride).wrapping_sub(slide.padding)).collect(),
            None => w.windows.iter().map(|w| w.start).collect(),
        };
        let longest = w.windows.iter().map(|w| w.elements().len()).max().unwrap_or(0);
        MaxPool {
            axes,
            columns: slide.map_or(longest, |slide| slide.kernel),
            frame: slide.map(|slide| Frame::new(w, slide, d.size * h.size)),
            starts,
            sources,
            full: axes.iter().all(|axis| axis.windows.iter().all(|w| w.elements().len() > 0)),
        }
    }

    /// How the windows follow each other along rows, if these are read by pairs of vectors.
    pub(super) fn paired(&self) -> Option<Slide> {
        self.axes[2].slide.filter(|slide| self.frame.is_some() && slide.paired())
    }

    /// Whether no element is in two windows, which have elements and two columns that are read by pairs of vectors: then gradients can
    /// be written in place of being added.
    pub(super) fn disjoint(&self) -> bool {
        let apart = |axis: &Axis| axis.windows.windows(2).all(|w| w[0].end <= w[1].start);
        self.paired().is_some_and(|slide| slide.kernel == 2) && self.full && self.axes.iter().all(apart)
    }

    /// How many codes there are.
    pub(super) fn codes(&self) -> usize {
        (0..self.sources.len()).map(|row| self.sources.of(row).len()).max().unwrap_or(0) * self.columns
    }

    /// For each row of outputs: where they are, and the rows of the input that they look at.
    #[inline(always)]
    pub(super) fn output_rows(&self) -> impl Iterator<Item = (Range<usize>, &[usize])> {
        let width = self.starts.len();
        (0..self.sources.len()).map(move |row| (row * width..(row + 1) * width, self.sources.of(row)))
    }

    /// Where each code of a window stands that looks at these rows, if the window starts at column 0.
    #[inline(always)]
    pub(super) fn places(&self, rows: &[usize], places: &mut [usize]) {
        let (w, step) = (self.axes[2].size, self.axes[2].windows.first().map_or(1, |w| w.step));
        for (row, places) in rows.iter().zip(places.chunks_mut(self.columns.max(1))) {
            places.iter_mut().enumerate().for_each(|(k, place)| *place = row * w + k * step);
        }
    }

    /// Calls `f(output, index)` with the place in the plane that each output's code stands for.
    #[inline(always)]
    pub(super) fn decode(&self, code: impl Fn(usize) -> usize, mut f: impl FnMut(usize, usize)) {
        let windows = &self.axes[2].windows;
        let mut places = vec![0; self.codes()];
        for (out, rows) in self.output_rows() {
            self.places(rows, &mut places);
            if self.full {
                out.zip(&self.starts).for_each(|(i, &start)| f(i, places[code(i)].wrapping_add(start)));
                continue;
            }
            for ((i, &start), window) in out.zip(&self.starts).zip(windows) {
                let empty = rows.is_empty() || window.elements().len() == 0;
                f(i, if empty { 0 } else { places[code(i)].wrapping_add(start) });
            }
        }
    }
}
