//! One error type for all crates: what went wrong, in which op, where in the model, and what to do.

use crate::{DType, Shape};
use std::fmt;

/// The result of everything that a caller's data can make fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where in the model, and a hint.
///
/// ```
/// use gradus_tensor::{Device, Tensor};
/// # fn main() -> gradus_tensor::Result<()> {
/// let (a, b) = (Tensor::ones([2, 3], &Device::cpu())?, Tensor::ones([4, 5], &Device::cpu())?);
/// let error = a.matmul(&b).unwrap_err().at("encoder.fc1");
/// assert_eq!(error.to_string(), "matmul: shapes [2, 3] and [4, 5] do not match (in encoder.fc1)");
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
pub struct Error(Box<Located>);

#[derive(Clone, PartialEq)]
struct Located {
    kind: ErrorKind,
    module: Option<String>,
    hint: Option<String>,
}

/// The ways in which an operation can fail.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Two shapes that the op cannot combine.
    #[error("{op}: shapes {lhs} and {rhs} do not match")]
    ShapeMismatch {
        /// The op.
        op: &'static str,
        /// Shape of the first operand.
        lhs: Shape,
        /// Shape of the second operand.
        rhs: Shape,
    },
    /// A shape that the op does not take.
    #[error("{op}: got shape {shape}, {expected}")]
    Shape {
        /// The op.
        op: &'static str,
        /// The shape it was given.
        shape: Shape,
        /// What it takes.
        expected: String,
    },
    /// Two dtypes that the op does not combine.
    #[error("{op}: dtypes {lhs} and {rhs} differ; convert one with to_dtype")]
    DTypeMismatch {
        /// The op.
        op: &'static str,
        /// Dtype of the first operand.
        lhs: DType,
        /// Dtype of the second operand.
        rhs: DType,
    },
    /// A dtype that the op is not defined for.
    #[error("{op}: not defined for {dtype}; it takes {expected}, convert with to_dtype")]
    UnsupportedDType {
        /// The op.
        op: &'static str,
        /// The dtype it was given.
        dtype: DType,
        /// The dtypes it takes, in words.
        expected: &'static str,
    },
    /// Operands on different devices.
    #[error("{op}: tensors live on {lhs} and {rhs}; move one with to_device")]
    DeviceMismatch {
        /// The op.
        op: &'static str,
        /// Device of the first operand.
        lhs: String,
        /// Device of the second operand.
        rhs: String,
    },
    /// A dim that the tensor does not have.
    #[error("{op}: dim {dim} is out of range for a tensor of {rank} dims")]
    Dim {
        /// The op.
        op: &'static str,
        /// The dim asked for.
        dim: isize,
        /// How many there are.
        rank: usize,
    },
    /// An index past the end of a dim.
    #[error("{op}: index {index} is out of range for a dim of size {size}")]
    Index {
        /// The op.
        op: &'static str,
        /// The index.
        index: i64,
        /// The size of the dim.
        size: usize,
    },
    /// An argument that makes no sense.
    #[error("{op}: {message}")]
    Argument {
        /// The op.
        op: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// No device of that name, or it cannot be used.
    #[error("{0}")]
    Device(String),
    /// The device has no kernel for the op.
    #[error("{op}: no kernel for this op on {device}; move the tensor with to_device")]
    NoKernel {
        /// The op.
        op: &'static str,
        /// The device.
        device: String,
    },
    /// Memory ran out.
    #[error("out of memory on {device}: {bytes} bytes asked for")]
    OutOfMemory {
        /// The device.
        device: String,
        /// How much was asked for.
        bytes: usize,
    },
    /// A graph was differentiated a second time.
    #[error("backward: this graph was already differentiated; use backward_with and retain_graph to keep it")]
    GraphConsumed,
    /// A value without gradient history where one is needed.
    #[error("{op}: {message}")]
    Gradient {
        /// The function that needed it.
        op: &'static str,
        /// What is missing.
        message: String,
    },
    /// A file that cannot be read, written or understood.
    #[error("{path}: {message}")]
    File {
        /// Its path, as given.
        path: String,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The path of the module it went wrong in, such as `encoder.layer3.conv1`, where known.
    pub fn module(&self) -> Option<&str> {
        self.0.module.as_deref()
    }

    /// Names the module it went wrong in, unless one nearer to the cause was named already.
    #[must_use]
    pub fn at(mut self, module: impl Into<String>) -> Error {
        self.0.module.get_or_insert_with(|| module.into());
        self
    }

    /// Adds what to do about it, unless something nearer to the cause was said already.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// An argument of `op` that makes no sense.
    pub fn argument(op: &'static str, message: impl Into<String>) -> Error {
        ErrorKind::Argument { op, message: message.into() }.into()
    }

    /// Two shapes that `op` cannot combine.
    pub fn shapes(op: &'static str, lhs: impl Into<Shape>, rhs: impl Into<Shape>) -> Error {
        ErrorKind::ShapeMismatch { op, lhs: lhs.into(), rhs: rhs.into() }.into()
    }

    /// A shape that `op` does not take; `expected` completes "got shape […], ".
    pub fn shape(op: &'static str, shape: impl Into<Shape>, expected: impl Into<String>) -> Error {
        ErrorKind::Shape { op, shape: shape.into(), expected: expected.into() }.into()
    }

    /// A dtype that `op` is not defined for; `expected` completes "it takes ".
    pub fn dtype(op: &'static str, dtype: DType, expected: &'static str) -> Error {
        ErrorKind::UnsupportedDType { op, dtype, expected }.into()
    }

    /// A dim that a tensor of `rank` dims does not have.
    pub fn dim(op: &'static str, dim: isize, rank: usize) -> Error {
        ErrorKind::Dim { op, dim, rank }.into()
    }

    /// An index past the end of a dim of `size`.
    pub fn index(op: &'static str, index: i64, size: usize) -> Error {
        ErrorKind::Index { op, index, size }.into()
    }

    /// A file that cannot be read, written or understood.
    pub fn file(path: impl AsRef<std::path::Path>, message: impl fmt::Display) -> Error {
        ErrorKind::File { path: path.as_ref().display().to_string(), message: message.to_string() }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Error(Box::new(Located { kind, module: None, hint: None }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.kind)?;
        if let Some(module) = &self.0.module {
            write!(f, " (in {module})")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Error {}
