//! The kernels on panels of bytes: a block is 64 steps, four to a word, and sums are `i32`.

use super::super::TileFn;

/// By whether the bytes of A have signs, then by whether those of B have.
pub(super) const TABLE: [TileFn; 4] = [unsigned, unsigned_signed, signed_unsigned, signed];

/// The same for 16 lines of A.
pub(super) const SHORT: [TileFn; 4] =
    [unsigned_short, unsigned_signed_short, signed_unsigned_short, signed_short];

macro_rules! kernels_of_bytes {
    ($(#[$doc:meta])* $name:ident, $short:ident, $dot:literal) => {
        kernel! {
            $(#[$doc])*
            $name, 2048, [
                load!(4 a 0), load!(6 b 0), concat!($dot, " tmm0, tmm4, tmm6"),
                load!(7 b 1024), concat!($dot, " tmm1, tmm4, tmm7"),
                load!(5 a 1024), concat!($dot, " tmm2, tmm5, tmm6"), concat!($dot, " tmm3, tmm5, tmm7"), soon!(0 64),
            ]
        }

        kernel! {
            $(#[$doc])*
            short $short, 2048, [
                load!(4 a 0), load!(6 b 0), concat!($dot, " tmm0, tmm4, tmm6"),
                load!(7 b 1024), concat!($dot, " tmm1, tmm4, tmm7"), soon!(0 64),
            ]
        }
    };
}

kernels_of_bytes! {
    /// `u8` by `u8`.
    unsigned, unsigned_short, "tdpbuud"
}

kernels_of_bytes! {
    /// `u8` by `i8`.
    unsigned_signed, unsigned_signed_short, "tdpbusd"
}

kernels_of_bytes! {
    /// `i8` by `u8`.
    signed_unsigned, signed_unsigned_short, "tdpbsud"
}

kernels_of_bytes! {
    /// `i8` by `i8`.
    signed, signed_short, "tdpbssd"
}
