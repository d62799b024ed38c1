//! The kernels on panels of bytes: a block is 64 steps, four to a word, and sums are `i32`.

use super::super::TileFn;

/// By whether the bytes of A have signs, then by whether those of B have.
pub(super) const TABLE: [TileFn; 4] = [unsigned, unsigned_signed, signed_unsigned, signed];

macro_rules! kernel_of_bytes {
    ($(#[$doc:meta])* $name:ident, $dot:literal) => {
        kernel! {
            $(#[$doc])*
            $name, 2048, [
                load!(4 a 0), load!(6 b 0), concat!($dot, " tmm0, tmm4, tmm6"),
                load!(7 b 1024), concat!($dot, " tmm1, tmm4, tmm7"),
                load!(5 a 1024), concat!($dot, " tmm2, tmm5, tmm6"), concat!($dot, " tmm3, tmm5, tmm7"), soon!(0 64),
            ]
        }
    };
}

kernel_of_bytes! {
    /// `u8` by `u8`.
    unsigned, "tdpbuud"
}

kernel_of_bytes! {
    /// `u8` by `i8`.
    unsigned_signed, "tdpbusd"
}

kernel_of_bytes! {
    /// `i8` by `u8`.
    signed_unsigned, "tdpbsud"
}

kernel_of_bytes! {
    /// `i8` by `i8`.
    signed, "tdpbssd"
}
