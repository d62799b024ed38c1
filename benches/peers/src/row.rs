//! A row of the table as data: what is computed, how much work that is, and each library's way of doing it.

use crate::form::Form;

/// Who computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Gradus,
    /// PyTorch, eager, in its default layout.
    Torch,
    /// PyTorch with tensors in `channels_last`.
    TorchLast,
    /// PyTorch's `torch.compile`.
    TorchCompiled,
    Candle,
    Burn,
    Ndarray,
}

impl Peer {
    /// In the order of the table's columns.
    pub(crate) const ALL: [Peer; 7] = [
        Peer::Gradus,
        Peer::Torch,
        Peer::TorchLast,
        Peer::TorchCompiled,
        Peer::Candle,
        Peer::Burn,
        Peer::Ndarray,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Gradus => "gradus",
            Peer::Torch => "torch",
            Peer::TorchLast => "torch-nhwc",
            Peer::TorchCompiled => "torch-compile",
            Peer::Candle => "candle",
            Peer::Burn => "burn",
            Peer::Ndarray => "ndarray",
        }
    }

    pub(crate) fn is_torch(self) -> bool {
        matches!(self, Peer::Torch | Peer::TorchLast | Peer::TorchCompiled)
    }
}

/// How much a row must at least do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Operations on operands of a type.
    Flops(f64, Type),
    /// Bytes read and written once each.
    Copy(f64),
    /// Bytes read, with a result that does not count.
    Read(f64),
    /// Nothing but the way there.
    Overhead,
}

/// Which peak bounds the floating-point operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    F32,
    /// Three products of halves where there are tiles.
    FastF32,
    /// Fused multiply-adds of 32 bits only, whatever the processor has besides.
    StrictF32,
    BF16,
    /// Widened to 32 bits.
    F16,
    /// Bytes; the peak is not measured.
    I8,
}

/// How far a result may be from ours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    /// The largest difference, as a part of the largest magnitude.
    Within(f32),
    /// Weights are drawn by each library itself: only the number of values must be the same.
    Shape,
    /// It computes the same, but gives something else back.
    Any,
}

/// Makes a library's form; called when the row's turn comes, so that only one row's data are in memory.
pub(crate) type Builder = Box<dyn Fn() -> Result<Box<dyn Form>, String>>;

/// Python that defines `f`, a function of no arguments.
pub(crate) struct Snippet {
    pub(crate) peer: Peer,
    pub(crate) code: String,
    /// Whether a graph is recorded.
    pub(crate) grad: bool,
}

/// The exact value at a position of the result, and the sum of magnitudes it is measured against.
pub(crate) type Reference = Box<dyn Fn(usize) -> (f64, f64)>;

/// What is computed.
pub(crate) struct Row {
    /// `family/what/shape/dtype`.
    pub(crate) name: String,
    pub(crate) work: Work,
    /// Whether it is one of the headline rows.
    pub(crate) quick: bool,
    pub(crate) rust: Vec<(Peer, Check, Builder)>,
    pub(crate) torch: Vec<Snippet>,
    pub(crate) torch_check: Check,
    pub(crate) reference: Option<Box<dyn Fn() -> Reference>>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, work: Work) -> Row {
        Row {
            name: name.into(),
            work,
            quick: false,
            rust: vec![],
            torch: vec![],
            torch_check: Check::Within(1e-4),
            reference: None,
        }
    }

    /// A headline row.
    pub(crate) fn quick(mut self) -> Row {
        self.quick = true;
        self
    }

    /// How far PyTorch may be from us, and every peer added after this.
    pub(crate) fn within(mut self, tolerance: f32) -> Row {
        self.torch_check = Check::Within(tolerance);
        self
    }

    /// Adds a library's form, checked as PyTorch's is.
    pub(crate) fn with(self, peer: Peer, f: impl Fn() -> Result<Box<dyn Form>, String> + 'static) -> Row {
        let check = self.torch_check;
        self.with_check(peer, check, f)
    }

    /// Adds a library's form.
    pub(crate) fn with_check(
        mut self,
        peer: Peer,
        check: Check,
        f: impl Fn() -> Result<Box<dyn Form>, String> + 'static,
    ) -> Row {
        self.rust.push((peer, check, Box::new(f)));
        self
    }

    /// Adds PyTorch without a graph.
    pub(crate) fn torch(self, code: impl Into<String>) -> Row {
        self.snippet(Peer::Torch, code, false)
    }

    /// Adds PyTorch with a graph.
    pub(crate) fn torch_grad(self, code: impl Into<String>) -> Row {
        self.snippet(Peer::Torch, code, true)
    }

    /// Adds PyTorch in a variant.
    pub(crate) fn snippet(mut self, peer: Peer, code: impl Into<String>, grad: bool) -> Row {
        self.torch.push(Snippet { peer, code: code.into(), grad });
        self
    }

    /// Adds the exact result.
    pub(crate) fn exact(mut self, reference: impl Fn() -> Reference + 'static) -> Row {
        self.reference = Some(Box::new(reference));
        self
    }
}
