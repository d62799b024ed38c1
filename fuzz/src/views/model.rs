//! The model: a shape and a vector. A view is a new shape and, for each of its indices, the index it shows.

use tensor::MAX_RANK;

/// The most elements a view is compared with. Larger ones may exist or not; they must only not panic.
const MAX_NUMEL: usize = 2048;

/// A shape and the elements in row-major order.
pub(super) struct Model {
    dims: Vec<usize>,
    data: Vec<f32>,
}

/// What a view of a model is.
pub(super) enum Outcome {
    View(Model),
    Refused,
    TooLarge,
}

/// From an index of the view to that of what is viewed.
pub(super) type Map = Box<dyn Fn(&[usize]) -> Vec<usize>>;

impl Model {
    /// The elements 0, 1, 2, ….
    pub(super) fn counting(dims: Vec<usize>) -> Model {
        let numel: usize = dims.iter().product();
        Model { dims, data: (0..numel).map(|i| i as f32).collect() }
    }

    pub(super) fn dims(&self) -> &[usize] {
        &self.dims
    }

    pub(super) fn data(&self) -> &[f32] {
        &self.data
    }

    /// The view of shape `dims` that shows at each index what is here at `map(index)`.
    pub(super) fn gather(&self, dims: Vec<usize>, map: Map) -> Outcome {
        if dims.len() > MAX_RANK {
            return Outcome::Refused;
        }
        // Extents of 0 count as 1: an empty shape whose other extents are absurd may be refused.
        if dims.iter().fold(1usize, |n, &d| n.saturating_mul(d.max(1))) > MAX_NUMEL {
            return Outcome::TooLarge;
        }
        let numel = dims.iter().product();
        let data = (0..numel).map(|i| self.data[position(&map(&index(i, &dims)), &self.dims)]).collect();
        Outcome::View(Model { dims, data })
    }
}

/// The place of an index in row-major order.
pub(super) fn position(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |at, (&i, &d)| {
        assert!(i < d, "the model looks at {index:?} in {dims:?}");
        at * d + i
    })
}

/// The index at a place in row-major order.
pub(super) fn index(mut position: usize, dims: &[usize]) -> Vec<usize> {
    let mut out: Vec<usize> = dims
        .iter()
        .rev()
        .map(|&d| {
            let i = position % d;
            position /= d;
            i
        })
        .collect();
    out.reverse();
    out
}
