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
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for (i, &d) in shape.dims().iter().enumerate().rev() {
            strides[i] = step;
            step *= d.max(1) as isize;
        }
        Layout { shape, strides, offset: 0, numel: shape.numel(), contiguous: true }
    }

    /// The same from the start of a buffer of its own.
    pub(crate) fn at_start(&self) -> Layout {
        Layout { offset: 0, ..*self }
    }

    /// Whether both have the same shape.
    pub(crate) fn same_shape(&self, other: &Layout) -> bool {
        self.dims() == other.dims()
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
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The extents.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// How many dims there are.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// Elements from one neighbour to the next along each dim: 0 where broadcast, negative where flipped.
    pub fn strides(&self) -> &[isize] {
        &self.strides[..self.shape.rank()]
    }

    /// How many elements there are.
    pub fn numel(&self) -> usize {
        self.numel
    }

    /// Where the first element lies.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the elements lie one after the other in row-major order (from any offset).
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
        let shift = shape.rank().checked_sub(self.rank())?;
        let mut strides = [0; MAX_RANK];
        for i in 0..self.rank() {
            match (self.dims()[i], shape.dims()[i + shift]) {
                (a, b) if a == b => strides[i + shift] = self.strides[i],
                (1, _) => {}
                _ => return None,
            }
        }
        Some(Layout::new(shape, strides, self.offset))
    }

    /// Reorders the dims: dim `i` of the result is dim `order[i]` of this. `order` must be a permutation.
    pub fn permute(&self, order: &[usize]) -> Layout {
        debug_assert_eq!(order.len(), self.rank());
        let (mut shape, mut strides) = (self.shape, self.strides);
        for (to, &from) in order.iter().enumerate() {
            shape = shape.with_dim(to, self.dims()[from]);
            strides[to] = self.strides[from];
        }
        Layout::new(shape, strides, self.offset)
    }

    /// Swaps two dims.
    pub fn transpose(&self, a: usize, b: usize) -> Layout {
        let mut strides = self.strides;
        strides.swap(a, b);
        let shape = self.shape.with_dim(a, self.dims()[b]).with_dim(b, self.dims()[a]);
        Layout::new(shape, strides, self.offset)
    }

    /// Every `step`-th element of a dim from `start`, `len` of them. The caller has checked that they exist.
    pub fn slice(&self, dim: usize, start: usize, len: usize, step: usize) -> Layout {
        debug_assert!(len == 0 || start + (len - 1) * step < self.dims()[dim]);
        let mut strides = self.strides;
        if len > 1 {
            strides[dim] = self.strides[dim].wrapping_mul(step as isize);
        }
        let mut out = Layout::new(self.shape.with_dim(dim, len), strides, self.offset);
        // An empty view stays where it is: it may have no memory to move in.
        if out.numel > 0 {
            out.offset = (self.offset as isize + start as isize * self.strides[dim]) as usize;
        }
        out
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
        // One more or one less of extent 1 changes neither what is cached.
        let mut out = Layout { shape: self.shape.inserted(dim, 1), ..*self };
        if out.shape.rank() <= MAX_RANK {
            out.strides.copy_within(dim..MAX_RANK - 1, dim + 1);
            out.strides[dim] = self.dims().get(dim).map_or(1, |&d| d as isize * self.strides[dim]);
        }
        out
    }

    /// Removes a dim, at its first element.
    pub fn squeeze(&self, dim: usize) -> Layout {
        let mut out = Layout { shape: self.shape.removed(dim), ..*self };
        out.strides.copy_within(dim + 1.., dim);
        out.strides[MAX_RANK - 1] = 0;
        out
    }

    /// The same elements in the same order under another shape of as many elements, or `None` if that needs a copy.
    pub fn reshape(&self, shape: Shape) -> Option<Layout> {
        if self.is_contiguous() {
            return Some(Layout { offset: self.offset, ..Layout::contiguous(shape) });
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
