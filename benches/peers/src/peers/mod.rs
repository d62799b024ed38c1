//! The libraries: how each takes our random numbers and gives its results back.

pub(crate) mod burn;
pub(crate) mod candle;
pub(crate) mod gradus;
pub(crate) mod ndarray;
pub(crate) mod torch;
