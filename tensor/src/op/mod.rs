//! The op tables: the only place where elementwise and reducing operations are listed.
//!
//! An op is one row: its documentation, its name and one formula. The formula is generic over [`Real`], which
//! scalars and vectors of lanes both implement, so a row is the definition, the scalar reference and the vectorised
//! kernel at once. Each table hands its rows to a *visitor*: the driver's loop is compiled once per row, with the
//! formula inlined, and chosen by one match per call.

pub mod binary;
pub mod compare;
pub mod real;
pub mod reduce;
pub mod unary;

pub use binary::{BinaryFormula, BinaryOp, BinaryVisitor};
pub use compare::{CompareOp, PredicateOp};
pub use real::{Int, Real};
pub use reduce::{ArgOp, ReduceFormula, ReduceOp, ReduceVisitor, ScanOp};
pub use unary::{UnaryFormula, UnaryOp, UnaryVisitor};
