//! The equations of one unit at one step, forwards and backwards, for numbers and for vectors of them.
//!
//! All of it is `inline(always)`: vectors must not cross into a function that is compiled for fewer instructions.

use crate::op::unary::row;
use crate::op::{Real, UnaryFormula};

/// The most blocks of units that a row has.
pub(super) const MAX_BLOCKS: usize = 5;

/// The blocks of one unit; a kind leaves the last ones at zero if it has fewer.
pub(super) type Blocks<R> = [R; MAX_BLOCKS];

/// A unit after a step.
pub(super) struct Next<R> {
    /// What the backward pass wants to know.
    pub kept: Blocks<R>,
    /// The hidden state.
    pub h: R,
    /// The cell state.
    pub c: R,
}

/// The gradients of a unit before a step.
pub(super) struct Before<R> {
    /// Of the pre-activations: first the blocks of the recurrent product, then a block of the input's product where that differs.
    pub d: Blocks<R>,
    /// Of the hidden state, as far as it does not go through the recurrent product.
    pub h: R,
    /// Of the cell state.
    pub c: R,
}

/// The equations of a kind of layer.
///
/// `a` and `b` are the gates' shares of the input and of the hidden state before the step, with their biases.
pub(super) trait Cell: Sync + 'static {
    /// Blocks of the products.
    const GATES: usize;
    /// Blocks of what is kept, at least as many as there are gates.
    const KEPT: usize;
    /// Blocks of [`Before::d`].
    const GRADS: usize;
    /// Whether there is a cell state.
    const HAS_CELL: bool;
    /// Where the gradient of `a` stands among the blocks of [`Before::d`]: `(first block, first gate, how many)`. That of `b`
    /// stands in the first [`GATES`](Self::GATES) blocks.
    const A_PARTS: &'static [(usize, usize, usize)];

    /// One step.
    fn forward<R: Real>(a: Blocks<R>, b: Blocks<R>, h: R, c: R) -> Next<R>;

    /// The gradients from what was kept, the states before the step, and the gradients of the states after it.
    fn backward<R: Real>(kept: Blocks<R>, h: R, c: R, dh: R, dc: R) -> Before<R>;
}

/// `h' = tanh(a + b)`; keeps `h'`.
pub(super) struct Tanh;

/// `h' = relu(a + b)`; keeps `h'`.
pub(super) struct Relu;

/// `c' = f·c + i·g`, `h' = o · tanh(c')`; gates i, f, g, o; keeps them and `c'`.
pub(super) struct Lstm;

/// `h' = (1 - z)·n + z·h` with `n = tanh(a_n + r·b_n)`; gates r, z, n; keeps them and `b_n`.
pub(super) struct Gru;

#[inline(always)]
fn sigmoid<R: Real>(x: R) -> R {
    row::Sigmoid::eval(x)
}

/// The derivative of the sigmoid where its value is `s`.
#[inline(always)]
fn sigmoid_slope<R: Real>(s: R) -> R {
    s * (R::one() - s)
}

/// The derivative of tanh where its value is `y`.
#[inline(always)]
fn tanh_slope<R: Real>(y: R) -> R {
    R::one() - y * y
}

/// A single block.
#[inline(always)]
fn one<R: Real>(x: R) -> Blocks<R> {
    [x, R::zero(), R::zero(), R::zero(), R::zero()]
}

impl Cell for Tanh {
    const GATES: usize = 1;
    const KEPT: usize = 1;
    const GRADS: usize = 1;
    const HAS_CELL: bool = false;
    const A_PARTS: &'static [(usize, usize, usize)] = &[(0, 0, 1)];

    #[inline(always)]
    fn forward<R: Real>(a: Blocks<R>, b: Blocks<R>, _h: R, c: R) -> Next<R> {
        let h = (a[0] + b[0]).tanh();
        Next { kept: one(h), h, c }
    }

    #[inline(always)]
    fn backward<R: Real>(kept: Blocks<R>, _h: R, _c: R, dh: R, dc: R) -> Before<R> {
        Before { d: one(dh * tanh_slope(kept[0])), h: R::zero(), c: dc }
    }
}

impl Cell for Relu {
    const GATES: usize = 1;
    const KEPT: usize = 1;
    const GRADS: usize = 1;
    const HAS_CELL: bool = false;
    const A_PARTS: &'static [(usize, usize, usize)] = &[(0, 0, 1)];

    #[inline(always)]
    fn forward<R: Real>(a: Blocks<R>, b: Blocks<R>, _h: R, c: R) -> Next<R> {
        let h = row::Relu::eval(a[0] + b[0]);
        Next { kept: one(h), h, c }
    }

    #[inline(always)]
    fn backward<R: Real>(kept: Blocks<R>, _h: R, _c: R, dh: R, dc: R) -> Before<R> {
        Before { d: one(R::select(kept[0].le(R::zero()), R::zero(), dh)), h: R::zero(), c: dc }
    }
}

impl Cell for Lstm {
    const GATES: usize = 4;
    const KEPT: usize = 5;
    const GRADS: usize = 4;
    const HAS_CELL: bool = true;
    const A_PARTS: &'static [(usize, usize, usize)] = &[(0, 0, 4)];

    #[inline(always)]
    fn forward<R: Real>(a: Blocks<R>, b: Blocks<R>, _h: R, c: R) -> Next<R> {
        let (i, f) = (sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1]));
        let (g, o) = ((a[2] + b[2]).tanh(), sigmoid(a[3] + b[3]));
        let c = f.mul_add(c, i * g);
        Next { kept: [i, f, g, o, c], h: o * c.tanh(), c }
    }

    #[inline(always)]
    fn backward<R: Real>([i, f, g, o, after]: Blocks<R>, _h: R, c: R, dh: R, dc: R) -> Before<R> {
        let tanh_c = after.tanh();
        let dc = (dh * o).mul_add(tanh_slope(tanh_c), dc);
        let d_i = dc * g * sigmoid_slope(i);
        let d_f = dc * c * sigmoid_slope(f);
        let d_g = dc * i * tanh_slope(g);
        let d_o = dh * tanh_c * sigmoid_slope(o);
        Before { d: [d_i, d_f, d_g, d_o, R::zero()], h: R::zero(), c: dc * f }
    }
}

impl Cell for Gru {
    const GATES: usize = 3;
    const KEPT: usize = 4;
    const GRADS: usize = 4;
    const HAS_CELL: bool = false;
    const A_PARTS: &'static [(usize, usize, usize)] = &[(0, 0, 2), (3, 2, 1)];

    #[inline(always)]
    fn forward<R: Real>(a: Blocks<R>, b: Blocks<R>, h: R, c: R) -> Next<R> {
        let (r, z) = (sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1]));
        let n = r.mul_add(b[2], a[2]).tanh();
        Next { kept: [r, z, n, b[2], R::zero()], h: z.mul_add(h, (R::one() - z) * n), c }
    }

    #[inline(always)]
    fn backward<R: Real>([r, z, n, b_n, _]: Blocks<R>, h: R, _c: R, dh: R, dc: R) -> Before<R> {
        let d_n = dh * (R::one() - z) * tanh_slope(n);
        let d_z = dh * (h - n) * sigmoid_slope(z);
        let d_r = d_n * b_n * sigmoid_slope(r);
        Before { d: [d_r, d_z, d_n * r, d_n, R::zero()], h: dh * z, c: dc }
    }
}
