//! The names of dtypes in those of kernels.

use tensor::DType;

/// `f32`, `bf16`, …; `boolean` for bools.
pub(crate) fn short(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F64 => "f64",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::I64 => "i64",
        DType::I32 => "i32",
        DType::I8 => "i8",
        DType::U8 => "u8",
        DType::U32 => "u32",
        DType::Bool => "boolean",
    }
}

/// As [`short`], with bools as the bytes that they are.
pub(crate) fn number(dtype: DType) -> &'static str {
    if dtype == DType::Bool { "u8" } else { short(dtype) }
}

/// The unsigned integer of a dtype's size, for kernels that only move elements.
pub(crate) fn size(dtype: DType) -> &'static str {
    match dtype.size() {
        1 => "u8",
        2 => "u16",
        4 => "u32",
        _ => "u64",
    }
}
