//! CNN and RNN modules, optimizers, data loading and state files for gradus.
#![forbid(unsafe_code)]

pub mod data;
