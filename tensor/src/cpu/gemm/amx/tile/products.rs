//! The kernels on panels of `bf16` parts.

use super::super::TileFn;

/// By [`Products`](super::super::Products).
pub(super) const TABLE: [TileFn; 4] = [one_product, three_products, four_products, six_products];

/// The same for 16 lines of A.
pub(super) const SHORT: [TileFn; 4] = [one_short, three_short, four_short, six_short];

kernel! {
    /// hh.
    one_product, 2048, [
        load!(4 a 0), load!(6 b 0), mul!(0 4 6), load!(7 b 1024), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), mul!(3 5 7), soon!(0 64),
    ]
}

kernel! {
    /// hm, hh, mh.
    three_products, 4096, [
        load!(4 a 0), load!(6 b 2048), mul!(0 4 6), load!(7 b 3072), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), load!(6 b 0), mul!(3 5 7), load!(7 b 1024), soon!(0 64),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 2048), mul!(2 5 6), mul!(3 5 7), load!(5 a 3072), soon!(128 192),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}

kernel! {
    /// hm, mm, mh, hh.
    four_products, 4096, [
        load!(4 a 0), load!(6 b 2048), mul!(0 4 6), load!(7 b 3072), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), mul!(3 5 7), soon!(0 64),
        load!(4 a 2048), mul!(0 4 6), mul!(1 4 7), load!(5 a 3072), mul!(2 5 6), load!(6 b 0), mul!(3 5 7),
        load!(7 b 1024), soon!(128 192),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 0), mul!(2 5 6), mul!(3 5 7), load!(5 a 1024),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7),
    ]
}

kernel! {
    /// hl, hm, mm, mh, lh, hh.
    six_products, 6144, [
        load!(4 a 0), load!(6 b 4096), mul!(0 4 6), load!(7 b 5120), mul!(1 4 7),
        load!(5 a 1024), mul!(2 5 6), load!(6 b 2048), mul!(3 5 7), load!(7 b 3072), soon!(0 64),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 2048), mul!(2 5 6), mul!(3 5 7), load!(5 a 3072), soon!(128 192),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), load!(6 b 0), mul!(3 5 7), load!(7 b 1024), soon!(256 320),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 4096), mul!(2 5 6), mul!(3 5 7), load!(5 a 5120), soon!(384 448),
        mul!(0 4 6), mul!(1 4 7), load!(4 a 0), mul!(2 5 6), mul!(3 5 7), load!(5 a 1024), soon!(512 576),
        mul!(0 4 6), mul!(1 4 7), mul!(2 5 6), mul!(3 5 7), soon!(640 704),
    ]
}

kernel! {
    /// hh.
    short one_short, 2048, [
        load!(4 a 0), load!(6 b 0), mul!(0 4 6), load!(7 b 1024), mul!(1 4 7), soon!(0 64),
    ]
}

kernel! {
    /// hm, hh, mh.
    short three_short, 4096, [
        load!(4 a 0), load!(6 b 2048), mul!(0 4 6), load!(7 b 3072), mul!(1 4 7), soon!(0 64),
        load!(6 b 0), mul!(0 4 6), load!(7 b 1024), mul!(1 4 7), load!(5 a 2048), soon!(128 192),
        mul!(0 5 6), mul!(1 5 7),
    ]
}

kernel! {
    /// hm, mm, mh, hh.
    short four_short, 4096, [
        load!(4 a 0), load!(6 b 2048), mul!(0 4 6), load!(7 b 3072), mul!(1 4 7), soon!(0 64),
        load!(5 a 2048), mul!(0 5 6), load!(6 b 0), mul!(1 5 7), load!(7 b 1024), soon!(128 192),
        mul!(0 5 6), mul!(1 5 7), mul!(0 4 6), mul!(1 4 7),
    ]
}

kernel! {
    /// hl, hm, mm, mh, lh, hh.
    short six_short, 6144, [
        load!(4 a 0), load!(6 b 4096), mul!(0 4 6), load!(7 b 5120), mul!(1 4 7), soon!(0 64),
        load!(6 b 2048), mul!(0 4 6), load!(7 b 3072), mul!(1 4 7), load!(5 a 2048), soon!(128 192),
        mul!(0 5 6), load!(6 b 0), mul!(1 5 7), load!(7 b 1024), soon!(256 320),
        mul!(0 5 6), mul!(1 5 7), load!(5 a 4096), soon!(384 448),
        mul!(0 5 6), mul!(1 5 7), soon!(512 576),
        mul!(0 4 6), mul!(1 4 7), soon!(640 704),
    ]
}
