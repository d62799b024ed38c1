//! The memory of tensors.
