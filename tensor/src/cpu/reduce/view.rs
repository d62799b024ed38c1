//! How a reduction sees a tensor: its dims in the order of memory, neighbours of one sort merged.

use super::contiguous;
use crate::backend::DimMask;
use crate::shape::MAX_RANK;
use crate::{Layout, Result, Tensor};

/// Neighbouring dims that lie together in memory, all of them reduced or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub n: usize,
    /// From one element to the next.
    pub stride: usize,
    pub reduced: bool,
}

/// A tensor as groups, outermost first, with at least one that is reduced.
pub(super) struct View {
    /// In the order of memory if that is not the order of its dims, and copied if need be.
    pub x: Tensor,
    groups: [Group; MAX_RANK + 1],
    count: usize,
    /// Where each dim of `x` comes from.
    pub order: Option<[usize; MAX_RANK]>,
}

impl View {
    /// A view that can be read in place. What has gaps is copied; permuted dims are read in the order of memory if any order
    /// gives the same result, else copied too: a tensor and its copy have the same sum.
    pub(super) fn new(x: &Tensor, mask: &DimMask, any_order: bool) -> Result<View> {
        if any_order && !x.layout().is_contiguous() && x.numel() > 0 {
            let order = memory_order(x.layout());
            let view = order.and_then(|order| {
                let order = &order[..x.rank()];
                let there = x.with_layout(x.layout().permute(order));
                there.layout().is_contiguous().then(|| View::of(&there, mask, Some(order)))?
            });
            if let Some(view) = view {
                return Ok(view);
            }
        }
        Ok(View::of(&contiguous(x)?, mask, None).expect("the innermost dim of a contiguous tensor is dense"))
    }

    fn of(x: &Tensor, mask: &DimMask, order: Option<&[usize]>) -> Option<View> {
        let mut view = View {
            x: x.clone(),
            groups: [Group { n: 1, stride: 1, reduced: true }; MAX_RANK + 1],
            count: 0,
            order: order.map(|order| std::array::from_fn(|i| order.get(i).copied().unwrap_or(i))),
        };
        for (d, (&n, &stride)) in x.dims().iter().zip(x.layout().strides()).enumerate() {
            let (reduced, stride) = (mask[view.order.map_or(d, |order| order[d])], stride.unsigned_abs());
            let outer = view.groups[view.count.saturating_sub(1)];
            if n == 1 {
                continue;
            }
            let merges =
                view.count > 0 && outer.reduced == reduced && (outer.stride == n * stride || x.numel() == 0);
            if merges {
                view.groups[view.count - 1] = Group { n: outer.n * n, stride, reduced };
            } else {
                view.groups[view.count] = Group { n, stride, reduced };
                view.count += 1;
            }
        }
        if view.groups().iter().all(|g| !g.reduced) {
            view.count += 1;
        }
        let dense = view.groups().last().is_some_and(|g| g.stride == 1 || g.n <= 1);
        (dense || x.numel() == 0).then_some(view)
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups[..self.count]
    }

    /// The stage that reduces the innermost group that is to be reduced, if there is one.
    pub(super) fn stage(&self) -> Option<Stage<'_>> {
        let groups = self.groups();
        let i = groups.iter().rposition(|g| g.reduced)?;
        let inner = if i + 1 < self.count { groups[self.count - 1].n } else { 1 };
        Some(Stage {
            groups,
            at: i,
            offset: self.x.layout().offset(),
            r: groups[i].n,
            step: groups[i].stride,
            inner,
        })
    }

    /// Without the group that [`stage`](Self::stage) reduced: what is left lies together.
    pub(super) fn reduced(&mut self, x: Tensor) {
        let i = self.groups().iter().rposition(|g| g.reduced).unwrap_or(0);
        self.groups.copy_within(i + 1.., i);
        self.count -= 1;
        let mut stride = 1;
        for group in self.groups[..self.count].iter_mut().rev() {
            group.stride = stride;
            stride *= group.n;
        }
        self.x = x;
    }
}

/// `y`, the elements that are left in the `order` of a view of `x`, in the shape of `x` with ones for the reduced dims.
pub(super) fn result(order: Option<[usize; MAX_RANK]>, y: Tensor, x: &Tensor, mask: &DimMask) -> Tensor {
    let kept = (0..x.rank()).fold(x.shape(), |s, d| if mask[d] { s.with_dim(d, 1) } else { s });
    let Some(order) = &order else { return y.into_layout(Layout::contiguous(kept)) };
    let order = &order[..x.rank()];
    let mut shape = kept;
    let mut back = [0; MAX_RANK];
    for (to, &from) in order.iter().enumerate() {
        shape = shape.with_dim(to, kept.dims()[from]);
        back[from] = to;
    }
    y.into_layout(Layout::contiguous(shape).permute(&back[..x.rank()]))
}

/// The dims by falling strides, if they are all positive.
pub(super) fn memory_order(x: &Layout) -> Option<[usize; MAX_RANK]> {
    let (dims, strides) = (x.dims(), x.strides());
    let mut order: [usize; MAX_RANK] = std::array::from_fn(|i| i);
    order[..dims.len()].sort_by_key(|&d| std::cmp::Reverse(strides[d]));
    (0..dims.len()).all(|d| dims[d] == 1 || strides[d] > 0).then_some(order)
}

/// `[outer, r, inner] -> [outer, inner]`: `r` elements are `step` apart, `inner` ones are neighbours.
#[derive(Clone, Copy)]
pub(super) struct Stage<'a> {
    groups: &'a [Group],
    at: usize,
    offset: usize,
    pub r: usize,
    pub step: usize,
    pub inner: usize,
}

impl Stage<'_> {
    /// The groups of `outer`.
    fn outer_groups(&self) -> impl DoubleEndedIterator<Item = &Group> {
        let last = if self.at + 1 < self.groups.len() { self.groups.len() - 1 } else { self.groups.len() };
        self.groups[..last].iter().enumerate().filter(|(i, _)| *i != self.at).map(|(_, group)| group)
    }

    pub(super) fn outer(&self) -> usize {
        self.outer_groups().map(|group| group.n).product()
    }

    /// Where in memory place `o` of `outer` starts.
    #[inline]
    pub(super) fn start(&self, o: usize) -> usize {
        let (mut at, mut rest) = (self.offset, o);
        let mut groups = self.outer_groups().rev().peekable();
        while let Some(group) = groups.next() {
            // The outermost needs no division.
            if groups.peek().is_none() {
                return at + rest * group.stride;
            }
            at += rest % group.n * group.stride;
            rest /= group.n;
        }
        at
    }
}
