//! How a shape maps to a buffer. Strides and offsets count elements, never bytes.

use crate::shape::MAX_RANK;
use crate::{Error, Result, Shape};

/// A shape with the step between neighbours along each dim, and where the first element lies.
///
/// Every view (transposed, sliced, broadcast, flipped) is only a new layout on the same buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    shape: Shape,
    strides: [isize; MAX_RANK],
    offset: usize,
    /// What every op asks first follows from the rest, and is computed once.
    numel: usize,
    contiguous: bool,
}

/// The strides of a row-major layout.
fn row_major(shape: &Shape) -> [isize; MAX_RANK] {
    let mut strides = [0; MAX_RANK];
    let mut step = 1;
    for (stride, &d) in strides.iter_mut().zip(shape.dims()).rev() {
        *stride = step;
        step *= d.max(1) as isize;
    }
    strides
}

impl Layout {
    /// With what follows from shape and strides.
    fn new(shape: Shape, strides: [isize; MAX_RANK], offset: usize) -> Layout {
        let (mut numel, mut step, mut contiguous) = (1usize, 1, true);
        for (&d, &s) in shape.dims().iter().zip(&strides).rev() {
            contiguous &= d == 1 || s == step;
            // What wraps around here is never used: strides of that size lie outside of any memory.
            step = step.wrapping_mul(d as isize);
            numel = numel.saturating_mul(d);
        }
        Layout { shape, strides, offset, numel, contiguous: contiguous || numel == 0 }
    }

    /// Row-major from the start of the buffer.
    pub fn contiguous(shape: Shape) -> Layout {
        Layout { shape, strides: row_major(&shape), offset: 0, numel: shape.numel(), contiguous: true }
    }

    /// The same from the start of a buffer of its own.
    pub(crate) fn at_start(&self) -> Layout {
        Layout { offset: 0, ..*self }
    }

    /// As [`at_start`](Self::at_start), in place.
    pub(crate) fn move_to_start(&mut self) {
        self.offset = 0;
    }

    /// Whether both have the same shape. One dim after the other: comparing slices calls a function, for one or two numbers.
    #[inline]
    pub(crate) fn same_shape(&self, other: &Layout) -> bool {
        self.rank() == other.rank() && self.dims().iter().zip(other.dims()).all(|(a, b)| a == b)
    }

    /// A dense layout of `shape` whose dims lie in memory in the same order as this layout's, from the start of a
    /// new buffer: how elementwise ops keep channels-last images channels-last. Row-major where the order is unclear.
    pub fn dense_like(&self, shape: Shape) -> Layout {
        if self.shape.rank() != shape.rank() || self.is_contiguous() {
            return Layout::contiguous(shape);
        }
        let mut order: [usize; MAX_RANK] = std::array::from_fn(|i| i);
        let order = &mut order[..shape.rank()];
        // Broadcast and single dims have no place of their own in memory: a stable sort leaves them where they were.
        if (0..shape.rank()).any(|i| self.strides[i] <= 0 && self.shape.dims()[i] > 1) {
            return Layout::contiguous(shape);
        }
        order.sort_by(|&a, &b| match self.shape.dims()[a] == 1 || self.shape.dims()[b] == 1 {
            true => std::cmp::Ordering::Equal,
            false => self.strides[b].cmp(&self.strides[a]),
        });
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for &i in order.iter().rev() {
            strides[i] = step;
            step *= shape.dims()[i].max(1) as isize;
        }
        Layout::new(shape, strides, 0)
    }

    /// A layout with given strides.
    ///
    /// # Errors
    /// When some element would lie before the start of the buffer.
    pub fn strided(shape: impl Into<Shape>, strides: &[isize], offset: usize) -> Result<Layout> {
        let shape = shape.into().checked("as_strided")?;
        if strides.len() != shape.rank() {
            return Err(Error::argument(
                "as_strided",
                format!("shape {shape} has {} dims, {} strides were given", shape.rank(), strides.len()),
            ));
        }
        if shape.numel() == 0 {
            // No element lies anywhere: strides and offsets that mean nothing must not reach later arithmetic.
            return Ok(Layout::contiguous(shape));
        }
        let mut steps = [0; MAX_RANK];
        steps[..strides.len()].copy_from_slice(strides);
        let out = Layout::new(shape, steps, offset);
        match out.checked_bounds() {
            Some(_) => Ok(out),
            None => Err(Error::argument("as_strided", "an element would lie outside of the buffer")),
        }
    }

    /// The shape.
    #[inline]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The extents.
    #[inline]
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// How many dims there are.
    #[inline]
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// Elements from one neighbour to the next along each dim: 0 where broadcast, negative where flipped.
    #[inline]
    pub fn strides(&self) -> &[isize] {
        &self.strides[..self.shape.rank()]
    }

    /// How many elements there are.
    #[inline]
    pub fn numel(&self) -> usize {
        self.numel
    }

    /// Where the first element lies.
    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the elements lie one after the other in row-major order (from any offset).
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.contiguous
    }

    /// Whether the elements fill a stretch of memory without gaps or overlaps, in whatever order of dims.
    pub fn is_dense(&self) -> bool {
        self.is_contiguous() || *self == Layout { offset: self.offset, ..self.dense_like(self.shape) }
    }

    /// Whether all elements are the same place in memory.
    pub(crate) fn is_uniform(&self) -> bool {
        self.dims().iter().zip(&self.strides).all(|(&d, &s)| s == 0 || d == 1)
    }

    /// The lowest and the highest position of any element, or `None` when empty.
    pub fn bounds(&self) -> Option<(usize, usize)> {
        if self.numel == 0 { None } else { self.checked_bounds() }
    }

    fn checked_bounds(&self) -> Option<(usize, usize)> {
        if self.numel == 0 {
            return Some((self.offset, self.offset));
        }
        let (mut low, mut high) = (self.offset as isize, self.offset as isize);
        for (&d, &s) in self.dims().iter().zip(self.strides()) {
            let reach = s.checked_mul(d as isize - 1)?;
            let end = if reach < 0 { &mut low } else { &mut high };
            *end = end.checked_add(reach)?;
        }
        Some((usize::try_from(low).ok()?, high as usize))
    }

    /// Stretches dims of extent 1, and adds leading dims, to reach `shape`; `None` if an extent disagrees.
    pub fn broadcast_to(&self, shape: Shape) -> Option<Layout> {
        self.stretches_to(&shape).then(|| {
            let mut out = *self;
            out.stretch(&shape);
            out
        })
    }

    /// Whether [`broadcast_to`](Self::broadcast_to) reaches `shape`.
    pub(crate) fn stretches_to(&self, shape: &Shape) -> bool {
        let fits = |shift| self.dims().iter().zip(&shape.dims()[shift..]).all(|(&a, &b)| a == b || a == 1);
        shape.rank().checked_sub(self.rank()).is_some_and(fits)
    }

    /// As [`broadcast_to`](Self::broadcast_to), in place, for a shape that it reaches.
    pub(crate) fn stretch(&mut self, shape: &Shape) {
        let rank = self.rank();
        let shift = shape.rank() - rank;
        for i in (0..shape.rank()).rev() {
            // From the last dim on: what is read has not been written yet.
            self.strides[i] = match i.checked_sub(shift) {
                Some(from) if self.shape.dims()[from] == shape.dims()[i] => self.strides[from],
                _ => 0,
            };
        }
        self.shape = *shape;
        self.numel = shape.numel();
        self.contiguous = self.is_row_major();
    }

    /// Reorders the dims: dim `i` of the result is dim `order[i]` of this. `order` must be a permutation.
    pub fn permute(&self, order: &[usize]) -> Layout {
        let mut out = *self;
        out.reorder(order);
        out
    }

    /// As [`permute`](Self::permute), in place.
    pub(crate) fn reorder(&mut self, order: &[usize]) {
        debug_assert_eq!(order.len(), self.rank());
        let (shape, strides) = (self.shape, self.strides);
        for (to, &from) in order.iter().enumerate() {
            self.shape.dims_mut()[to] = shape.dims()[from];
            self.strides[to] = strides[from];
        }
        self.contiguous = self.is_row_major();
    }

    /// Swaps two dims.
    pub fn transpose(&self, a: usize, b: usize) -> Layout {
        let mut out = *self;
        out.swap(a, b);
        out
    }

    /// As [`transpose`](Self::transpose), in place.
    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        self.shape.dims_mut().swap(a, b);
        self.strides.swap(a, b);
        self.contiguous = self.is_row_major();
    }

    /// What [`is_contiguous`](Self::is_contiguous) gives, computed from the rest.
    fn is_row_major(&self) -> bool {
        let mut step = 1isize;
        self.numel == 0
            || self.dims().iter().zip(&self.strides).rev().all(|(&d, &s)| {
                let next = d == 1 || s == step;
                step = step.wrapping_mul(d as isize);
                next
            })
    }

    /// Every `step`-th element of a dim from `start`, `len` of them. The caller has checked that they exist.
    pub fn slice(&self, dim: usize, start: usize, len: usize, step: usize) -> Layout {
        let mut out = *self;
        out.cut(dim, start, len, step);
        out
    }

    /// As [`slice`](Self::slice), in place.
    pub(crate) fn cut(&mut self, dim: usize, start: usize, len: usize, step: usize) {
        debug_assert!(len == 0 || start + (len - 1) * step < self.dims()[dim]);
        let stride = self.strides[dim];
        if len > 1 {
            self.strides[dim] = stride.wrapping_mul(step as isize);
        }
        self.shape.dims_mut()[dim] = len;
        self.numel = self.shape.numel();
        self.contiguous = self.is_row_major();
        // An empty view stays where it is: it may have no memory to move in.
        if self.numel > 0 {
            self.offset = (self.offset as isize + start as isize * stride) as usize;
        }
    }

    /// Runs a dim backwards.
    pub fn flip(&self, dim: usize) -> Layout {
        if self.numel == 0 || self.dims()[dim] <= 1 {
            return *self;
        }
        let last = self.dims()[dim] as isize - 1;
        let mut strides = self.strides;
        strides[dim] = -self.strides[dim];
        Layout::new(self.shape, strides, (self.offset as isize + last * self.strides[dim]) as usize)
    }

    /// Inserts a dim of extent 1 before `dim`.
    pub fn unsqueeze(&self, dim: usize) -> Layout {
        let mut out = *self;
        out.insert(dim);
        out
    }

    /// As [`unsqueeze`](Self::unsqueeze), in place.
    pub(crate) fn insert(&mut self, dim: usize) {
        let stride = self.dims().get(dim).map_or(1, |&d| d as isize * self.strides[dim]);
        // One more or one less of extent 1 changes neither what is cached.
        self.shape = self.shape.inserted(dim, 1);
        if self.shape.rank() <= MAX_RANK {
            self.strides.copy_within(dim..MAX_RANK - 1, dim + 1);
            self.strides[dim] = stride;
        }
    }

    /// Removes a dim, at its first element.
    pub fn squeeze(&self, dim: usize) -> Layout {
        let mut out = *self;
        out.remove(dim);
        out
    }

    /// As [`squeeze`](Self::squeeze), in place.
    pub(crate) fn remove(&mut self, dim: usize) {
        let rank = self.rank();
        self.shape.remove(dim);
        self.strides[dim..rank].rotate_left(1);
        self.strides[rank - 1] = 0;
    }

    /// The same elements in the same order under another shape of as many elements, or `None` if that needs a copy.
    pub fn reshape(&self, shape: Shape) -> Option<Layout> {
        if self.is_contiguous() {
            let mut out = *self;
            out.cut_anew(&shape);
            return Some(out);
        }
        let old = self.squeezed();
        let mut strides = [0; MAX_RANK];
        // Walk both shapes from the inside: a group of new dims must cover a run of old dims that are contiguous
        // among themselves.
        let (mut i, mut o) = (shape.rank(), old.rank());
        while i > 0 {
            if shape.dims()[i - 1] == 1 {
                i -= 1;
                strides[i] = 1;
                continue;
            }
            o = o.checked_sub(1)?;
            let (mut have, step) = (old.dims()[o], old.strides[o]);
            let mut covered = 1;
            while covered < have || (i > 0 && shape.dims()[i - 1] == 1) {
                i = i.checked_sub(1)?;
                strides[i] = step * covered as isize;
                covered *= shape.dims()[i];
                while covered > have {
                    if o == 0 || old.strides[o - 1] != step * have as isize {
                        return None;
                    }
                    o -= 1;
                    have *= old.dims()[o];
                }
            }
            if covered != have {
                return None;
            }
        }
        Some(Layout::new(shape, strides, self.offset))
    }

    /// As [`reshape`](Self::reshape), in place, for a contiguous layout.
    #[inline]
    pub(crate) fn cut_anew(&mut self, shape: &Shape) {
        debug_assert!(self.contiguous && self.numel == shape.numel());
        self.shape = *shape;
        self.strides = row_major(shape);
    }

    /// Without dims of extent 1.
    fn squeezed(&self) -> Layout {
        (0..self.rank()).rev().fold(*self, |l, d| if l.dims()[d] == 1 { l.squeeze(d) } else { l })
    }

    /// Positions in the buffer in row-major order of the shape: the plain walk that fast ones are tested against.
    pub fn positions(&self) -> impl Iterator<Item = usize> + use<> {
        let layout = *self;
        (0..self.shape.numel()).map(move |mut i| {
            let mut at = layout.offset as isize;
            for d in (0..layout.rank()).rev() {
                let n = layout.dims()[d];
                at += (i % n) as isize * layout.strides[d];
                i /= n;
            }
            at as usize
        })
    }
}
