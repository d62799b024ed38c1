//! Under construction.
pub mod cpu;
pub mod op;
