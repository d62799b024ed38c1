//! The loops of reductions over slices of an accumulator type.

use crate::cpu::isa::Isa;
use crate::cpu::vectors::{LANES, halved};
use crate::cpu::wide::{Accumulator, dispatch};
use crate::op::{ReduceFormula, ReduceOp, ReduceVisitor};
use std::marker::PhantomData;

/// Columns below which several rows are taken as one.
const NARROW: usize = 16;

/// The loops of one reduction.
#[derive(Clone, Copy)]
pub(crate) struct Kernel<A> {
    isa: Isa,
    init: A,
    fold: fn(Isa, &[A]) -> A,
    columns: fn(Isa, &[A], usize, &mut [A]),
}

impl<A: Accumulator> Kernel<A> {
    pub(crate) fn new(op: ReduceOp, isa: Isa) -> Kernel<A> {
        struct Choose<A>(Isa, PhantomData<A>);
        impl<A: Accumulator> ReduceVisitor for Choose<A> {
            type Output = Kernel<A>;
            fn visit<F: ReduceFormula>(self) -> Kernel<A> {
                Kernel { isa: self.0, init: A::init::<F>(), fold: fold::<F, A>, columns: columns::<F, A> }
            }
        }
        op.dispatch(Choose(isa, PhantomData))
    }

    /// The reduction of no elements.
    pub(crate) fn init(&self) -> A {
        self.init
    }

    /// The reduction of a run of elements, in an order that depends on their number alone.
    pub(crate) fn fold(&self, x: &[A]) -> A {
        (self.fold)(self.isa, x)
    }

    /// Takes into `acc` the rows that start at each multiple of `stride` and are as long as `acc`.
    pub(crate) fn columns(&self, x: &[A], stride: usize, acc: &mut [A]) {
        (self.columns)(self.isa, x, stride, acc);
    }

    /// Combines rows of `width` pairwise, neighbours first, into the first of them.
    ///
    /// The error of a sum grows with the logarithm of the number of rows.
    pub(crate) fn tree(&self, rows: &mut [A], width: usize) {
        let count = rows.len() / width;
        let mut apart = 1;
        while apart < count {
            for i in (0..count - apart).step_by(2 * apart) {
                let (left, right) = rows[i * width..].split_at_mut(apart * width);
                self.columns(&right[..width], width, &mut left[..width]);
            }
            apart *= 2;
        }
    }
}

dispatch! {
    /// Lane `i` takes every 32nd element from `i`; the lanes are combined in halves, the rest comes last.
    fn fold<F: ReduceFormula, A: Accumulator>(x: &[A]) -> A {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let tail = rest.iter().fold(A::init::<F>(), |a, &b| A::combine::<F>(a, b));
        if chunks.is_empty() {
            return tail;
        }
        let mut lanes = [A::init::<F>(); LANES];
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] = A::combine::<F>(lanes[i], chunk[i]);
            }
        }
        A::combine::<F>(halved(&mut lanes, A::combine::<F>), tail)
    }
}

dispatch! {
    /// Four rows at a time, to read and write the accumulators less; narrow rows are joined first.
    fn columns<F: ReduceFormula, A: Accumulator>(x: &[A], stride: usize, acc: &mut [A]) {
        let width = acc.len();
        let mut x = x;
        let joined = NARROW * 4 / width.max(1);
        if width < NARROW && stride == width && x.len() >= 2 * joined * width {
            let mut wide = [A::init::<F>(); NARROW * 4];
            let wide = &mut wide[..joined * width];
            let whole = x.len() / wide.len() * wide.len();
            for row in x[..whole].chunks_exact(wide.len()) {
                for (a, &b) in wide.iter_mut().zip(row) {
                    *a = A::combine::<F>(*a, b);
                }
            }
            for row in wide.chunks_exact(width) {
                for (a, &b) in acc.iter_mut().zip(row) {
                    *a = A::combine::<F>(*a, b);
                }
            }
            x = &x[whole..];
        }
        while x.len() >= 3 * stride + width {
            let (a, b) = (&x[..width], &x[stride..][..width]);
            let (c, d) = (&x[2 * stride..][..width], &x[3 * stride..][..width]);
            for j in 0..width {
                let pairs = (A::combine::<F>(a[j], b[j]), A::combine::<F>(c[j], d[j]));
                acc[j] = A::combine::<F>(acc[j], A::combine::<F>(pairs.0, pairs.1));
            }
            x = x.get(4 * stride..).unwrap_or_default();
        }
        while x.len() >= width && width > 0 {
            for (a, &b) in acc.iter_mut().zip(x) {
                *a = A::combine::<F>(*a, b);
            }
            x = x.get(stride..).unwrap_or_default();
        }
    }
}
