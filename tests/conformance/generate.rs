//! The generated tensors of the format: a splitmix64 stream read at flat positions.

use crate::array::{Array, Values};

/// Value `i` of the stream of `seed`.
pub(crate) fn splitmix(seed: u64, i: u64) -> u64 {
    let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What a generated tensor holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// `f32(((u >> 40) / 2^23 - 1) * scale + offset)`.
    Unit { scale: f64, offset: f64 },
    /// `u % hi`.
    Int { hi: u64 },
}

/// The recipe of a generated tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Generated {
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) shape: Vec<usize>,
}

impl Generated {
    /// The direction vectors of second-order records: uniform in [-1, 1).
    pub(crate) fn unit(seed: u64, shape: &[usize]) -> Generated {
        Generated { kind: Kind::Unit { scale: 1.0, offset: 0.0 }, seed, shape: shape.to_vec() }
    }

    /// The tensor itself; floats are exact in f32.
    pub(crate) fn array(&self) -> Array {
        let stream = (0..self.shape.iter().product::<usize>()).map(|i| splitmix(self.seed, i as u64));
        let values = match self.kind {
            Kind::Unit { scale, offset } => {
                let unit = |u: u64| (((u >> 40) as f64 / f64::from(1 << 23) - 1.0) * scale + offset) as f32;
                Values::F32(stream.map(unit).collect())
            }
            Kind::Int { hi } => Values::I64(stream.map(|u| (u % hi) as i64).collect()),
        };
        Array { shape: self.shape.clone(), values }
    }
}

#[test]
fn the_stream_has_its_published_check_values() {
    assert_eq!(splitmix(1, 0), 0x910A_2DEC_8902_5CC1);
    assert_eq!(splitmix(1, 1), 0xBEEB_8DA1_658E_EC67);
}

#[test]
fn unit_tensors_lie_between_minus_one_and_one_and_scale_exactly() {
    let plain = Generated::unit(7, &[4, 5]).array().to_f64();
    assert!(plain.iter().all(|x| (-1.0..1.0).contains(x)), "{plain:?}");
    let kind = Kind::Unit { scale: 2.0, offset: 8.0 };
    let scaled = Generated { kind, seed: 7, shape: vec![20] }.array().to_f64();
    assert!(plain.iter().zip(&scaled).all(|(p, s)| *s == f64::from((p * 2.0 + 8.0) as f32)));
}

#[test]
fn int_tensors_stay_below_their_bound() {
    let kind = Kind::Int { hi: 3 };
    let values = Generated { kind, seed: 9, shape: vec![100] }.array().to_i64();
    assert!((0..3).all(|v| values.contains(&v)) && values.iter().all(|v| (0..3).contains(v)));
}
