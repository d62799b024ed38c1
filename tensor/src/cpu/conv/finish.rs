//! What happens to sums before they are stored.

use super::ConvElement;
use crate::cpu::gemm::Activation;
use crate::cpu::isa::Isa;
use crate::cpu::simd::map;
use crate::op::{BinaryOp, UnaryOp};

/// `activation(sum + bias + residual)`.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a, T> {
    /// One value per output channel.
    pub bias: Option<&'a [T]>,
    /// One value per output.
    pub residual: Option<&'a [T]>,
    /// Applied last.
    pub activation: Option<UnaryOp>,
}

impl<T> Finish<'_, T> {
    /// Sums are stored as they are.
    pub(super) const PLAIN: Self = Finish { bias: None, residual: None, activation: None };
}

impl<'a, T: ConvElement> Finish<'a, T> {
    /// The part for `len` outputs from `at` on: whole channels of all groups.
    pub(super) fn part(self, at: usize, len: usize) -> Self {
        Finish { residual: self.residual.map(|residual| &residual[at..at + len]), ..self }
    }

    /// What a matrix product applies before it stores: everything, if this [`is_simple`](Self::is_simple).
    pub(super) fn in_product(&self) -> Activation {
        match (self.residual, self.activation) {
            (None, Some(UnaryOp::Relu)) => Activation::Relu,
            _ => Activation::None,
        }
    }

    /// Whether nothing is left once a matrix product has added the bias and applied its activation.
    pub(super) fn is_simple(&self) -> bool {
        self.residual.is_none() && matches!(self.activation, None | Some(UnaryOp::Relu))
    }

    /// Adds the residual to outputs that have their bias, and applies the activation. `at` is the place of the first one.
    #[inline]
    pub(super) fn complete(&self, isa: Isa, outputs: &mut [T], at: usize) {
        if let Some(residual) = self.residual {
            let residual = &residual[at..at + outputs.len()];
            map::binary_into_left(BinaryOp::Add, isa, outputs, residual).expect("floats can be added");
        }
        if let Some(op) = self.activation {
            map::unary_inplace(op, isa, outputs).expect("every unary op exists for floats");
        }
    }
}
