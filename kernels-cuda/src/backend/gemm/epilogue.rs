//! What a kernel does to its sums before it stores them: `activation(sum + bias + residual)`, rounded once.

use tensor::op::UnaryOp;
use tensor::{Layout, Result, Tensor};

use crate::backend::copy::copy_as;
use crate::backend::storage::at;
use crate::gpu::Gpu;
use crate::launch::Pointer;

/// As `Epilogue` of `cuda/gemm/epilogue.h`. The bias is beside it, as it has strides of its own.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Epilogue {
    /// Where the residual begins, which lies as the result does.
    residual: Pointer,
    activation: u32,
    unused: u32,
}

impl Epilogue {
    /// The sums as they are.
    pub(crate) const PLAIN: Epilogue = Epilogue { residual: Pointer::NONE, activation: 0, unused: 0 };

    /// Whether it leaves the sums as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.residual == Pointer::NONE && self.activation == 0
    }

    /// Whether runs of 16 bytes of the residual are aligned where those of the result are.
    pub(crate) fn is_aligned(&self) -> bool {
        self.residual.0.is_multiple_of(16)
    }
}

/// `Activation` of `cuda/gemm/epilogue.h`: those that kernels apply, in this order, from 1 on.
const ACTIVATIONS: [UnaryOp; 8] = [
    UnaryOp::Relu,
    UnaryOp::Relu6,
    UnaryOp::Gelu,
    UnaryOp::GeluTanh,
    UnaryOp::Silu,
    UnaryOp::Sigmoid,
    UnaryOp::Tanh,
    UnaryOp::Hardswish,
];

/// An epilogue, with what it reads and what is left to do after it.
pub(crate) struct Fused {
    epilogue: Epilogue,
    /// Keeps the residual's memory until the kernel is in the queue.
    _residual: Option<Tensor>,
    rest: Option<UnaryOp>,
}

impl Fused {
    /// For a result that lies as `layout` says. A residual that lies otherwise is copied, and an activation that kernels do not
    /// have is a pass of its own.
    pub(crate) fn new(
        gpu: &'static Gpu,
        layout: Layout,
        residual: Option<&Tensor>,
        activation: Option<UnaryOp>,
    ) -> Result<Fused> {
        let residual = match residual {
            Some(r) if lies_as(r.layout(), &layout) => Some(r.clone()),
            Some(r) => Some(copy_as(gpu, r, r.dtype(), layout)?),
            None => None,
        };
        let code = activation.and_then(|op| ACTIVATIONS.iter().position(|&a| a == op));
        let epilogue = Epilogue {
            residual: residual.as_ref().filter(|r| r.numel() > 0).map_or(Pointer::NONE, at),
            activation: code.map_or(0, |at| at as u32 + 1),
            unused: 0,
        };
        Ok(Fused { epilogue, _residual: residual, rest: activation.filter(|_| code.is_none()) })
    }

    pub(crate) fn epilogue(&self) -> Epilogue {
        self.epilogue
    }

    /// The result, once the kernel is in the queue.
    pub(crate) fn finish(self, y: Tensor) -> Result<Tensor> {
        let device = y.device().clone();
        match self.rest {
            Some(op) => device.backend().unary_into(op, y),
            None => Ok(y),
        }
    }
}

/// Whether each element has the same offset from the first in both.
fn lies_as(a: &Layout, b: &Layout) -> bool {
    a.dims() == b.dims()
        && a.dims().iter().zip(a.strides().iter().zip(b.strides())).all(|(&n, (s, t))| n == 1 || s == t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensor::Shape;

    #[test]
    fn strides_of_dims_of_one_element_do_not_matter() {
        let rows = Layout::contiguous(Shape::from([1, 3, 4]));
        assert!(lies_as(&rows, &rows));
        assert!(lies_as(&rows.slice(0, 0, 1, 1), &rows));
        assert!(!lies_as(&rows, &Layout::contiguous(Shape::from([3, 4]))));
        let wider = Layout::contiguous(Shape::from([1, 3, 8])).slice(2, 0, 4, 1);
        assert!(!lies_as(&wider, &rows));
    }
}
