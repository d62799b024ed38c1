//! Differentiable ops, by family: the same file names as in the tensor crate.

mod binary;
mod conv;
mod dropout;
mod index;
mod loss;
mod matmul;
mod norm;
mod pool;
mod reduce;
mod rnn;
mod scan;
mod shape;
mod softmax;
mod unary;

pub use loss::{ClassLoss, Reduction};
pub use norm::BatchNormStats;
pub use rnn::{RnnResult, RnnVars, rnn, rnn_bidirectional};
