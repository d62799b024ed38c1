//! Recurrent networks: several layers, both directions, PyTorch's names.

mod gru;
mod lstm;
mod plain;
mod stack;

pub use gru::Gru;
pub use lstm::{Lstm, LstmState};
pub use plain::Rnn;
pub use stack::RnnConfig;
