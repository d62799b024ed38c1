//! Is an answer close enough to the recorded one?
//!
//! With S the largest finite |reference|: `|got - ref| <= k (rtol |ref| + atol S)`, NaNs and infinities in the same
//! places, shapes equal. In f32 the reference is rounded to f32 first.

use crate::array::Array;
use crate::format::{Digest, Reference};
use crate::generate::splitmix;

/// The precision in which a case is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    F32,
    F64,
}

/// How strictly floats are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) precision: Precision,
    pub(crate) rtol: f64,
    /// Relative to the largest finite reference.
    pub(crate) atol: f64,
    /// Widens both tolerances.
    pub(crate) k: f64,
    /// Compares exactly, the sign of zero included.
    pub(crate) bits: bool,
}

impl Rule {
    /// `Ok` if `got` is the recorded answer, else what is wrong with it.
    pub(crate) fn judge(&self, reference: &Reference, got: &Array) -> Result<(), String> {
        match reference {
            Reference::Full(r) if r.shape != got.shape => {
                Err(format!("shape {:?}, expected {:?}", got.shape, r.shape))
            }
            Reference::Full(r) if r.is_float() != got.is_float() => {
                let kind = |a: &Array| if a.is_float() { "a float" } else { "an integer or bool" };
                Err(format!("is {}, expected {}", kind(got), kind(r)))
            }
            Reference::Full(r) if !r.is_float() => {
                first_difference(&r.to_i64(), &got.to_i64(), |r, g| r == g)
            }
            Reference::Full(r) => {
                let r = self.rounded(r.to_f64());
                let largest = r.iter().filter(|x| x.is_finite()).fold(0.0, |s: f64, x| s.max(x.abs()));
                first_difference(&r, &got.to_f64(), |r, g| self.close(*r, *g, largest))
            }
            Reference::Digest(digest) => self.judge_digest(digest, got),
        }
    }

    /// Compares sampled positions and the sums of a big tensor.
    fn judge_digest(&self, digest: &Digest, got: &Array) -> Result<(), String> {
        let got = got.to_f64();
        if got.is_empty() {
            return Err("is empty".into());
        }
        let sample = digest.sample.to_f64();
        let at = |i: usize| (splitmix(digest.seed, i as u64) % got.len() as u64) as usize;
        let sampled: Vec<f64> = (0..sample.len()).map(|i| got[at(i)]).collect();
        first_difference(&self.rounded(sample), &sampled, |r, g| self.close(*r, *g, digest.abs_max))?;
        let allowed = 4.0 * self.k * self.rtol * (digest.abs_sum + digest.abs_max);
        let sums = [
            ("sum", digest.sum, got.iter().sum::<f64>()),
            ("abs_sum", digest.abs_sum, got.iter().map(|x| x.abs()).sum()),
        ];
        match sums.iter().find(|(_, r, g)| (r - g).abs() > allowed || g.is_nan()) {
            Some((name, r, g)) => Err(format!("{name} {g}, expected {r} within {allowed}")),
            None => Ok(()),
        }
    }

    fn rounded(&self, reference: Vec<f64>) -> Vec<f64> {
        match self.precision {
            Precision::F64 => reference,
            Precision::F32 => reference.into_iter().map(|x| f64::from(x as f32)).collect(),
        }
    }

    fn close(&self, reference: f64, got: f64, largest: f64) -> bool {
        if reference.is_nan() || got.is_nan() {
            reference.is_nan() && got.is_nan()
        } else if self.bits {
            reference.to_bits() == got.to_bits()
        } else if reference.is_infinite() || got.is_infinite() {
            reference == got
        } else {
            (got - reference).abs() <= self.k * (self.rtol * reference.abs() + self.atol * largest)
        }
    }
}

/// `Ok` if every pair agrees, else the first that does not and how many there are.
fn first_difference<T: std::fmt::Debug>(
    reference: &[T],
    got: &[T],
    agree: impl Fn(&T, &T) -> bool,
) -> Result<(), String> {
    if reference.len() != got.len() {
        return Err(format!("{} values, expected {}", got.len(), reference.len()));
    }
    let wrong: Vec<usize> = (0..got.len()).filter(|&i| !agree(&reference[i], &got[i])).collect();
    match wrong.first() {
        Some(&i) => Err(format!(
            "{:?} at {i}, expected {:?} ({} of {} differ)",
            got[i],
            reference[i],
            wrong.len(),
            got.len()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Values;

    const RULE: Rule = Rule { precision: Precision::F64, rtol: 1e-10, atol: 1e-11, k: 1.0, bits: false };

    fn verdict(rule: Rule, reference: &[f64], got: &[f64]) -> bool {
        let reference = Reference::Full(Array::f64(&[reference.len()], reference.to_vec()));
        rule.judge(&reference, &Array::f64(&[got.len()], got.to_vec())).is_ok()
    }

    #[test]
    fn small_values_are_judged_relative_to_the_largest() {
        assert!(verdict(RULE, &[1e3, 0.0], &[1e3, 0.9e-8]));
        assert!(!verdict(RULE, &[1e3, 0.0], &[1e3, 1.1e-8]));
        assert!(verdict(Rule { k: 2.0, ..RULE }, &[1e3, 0.0], &[1e3, 1.1e-8]));
    }

    #[test]
    fn nan_and_infinity_must_be_in_the_same_places() {
        assert!(verdict(RULE, &[f64::NAN, f64::INFINITY, 1.0], &[f64::NAN, f64::INFINITY, 1.0]));
        assert!(!verdict(RULE, &[f64::INFINITY], &[f64::NEG_INFINITY]));
        assert!(!verdict(RULE, &[f64::NAN], &[1.0]));
        assert!(!verdict(RULE, &[1.0], &[f64::NAN]));
    }

    #[test]
    fn an_infinity_does_not_widen_the_tolerance() {
        assert!(!verdict(RULE, &[f64::INFINITY, 1.0], &[f64::INFINITY, 1.1]));
    }

    #[test]
    fn bits_tell_the_sign_of_zero_but_not_nans_apart() {
        let bits = Rule { bits: true, ..RULE };
        assert!(!verdict(bits, &[0.0], &[-0.0]));
        assert!(verdict(bits, &[f64::NAN], &[-f64::NAN]));
        assert!(verdict(RULE, &[0.0], &[-0.0]));
    }

    #[test]
    fn in_f32_the_reference_is_rounded_first() {
        let rule = Rule { precision: Precision::F32, bits: true, ..RULE };
        assert!(verdict(rule, &[1e300, 0.1], &[f64::INFINITY, f64::from(0.1f32)]));
    }

    #[test]
    fn shapes_and_kinds_must_match() {
        let reference = Reference::Full(Array::f64(&[2, 1], vec![1.0, 2.0]));
        assert!(RULE.judge(&reference, &Array::f64(&[1, 2], vec![1.0, 2.0])).is_err());
        let ints = Array { shape: vec![2, 1], values: Values::I64(vec![1, 2]) };
        assert!(RULE.judge(&reference, &ints).is_err());
        assert!(RULE.judge(&Reference::Full(ints.clone()), &ints).is_ok());
    }

    #[test]
    fn a_digest_notices_a_sum_that_its_sample_misses() {
        let mut values = vec![1.0; 1000];
        let digest =
            Digest { seed: 3, sample: Array::f64(&[2], vec![1.0; 2]), sum: 1e3, abs_sum: 1e3, abs_max: 1.0 };
        let reference = Reference::Digest(digest);
        assert!(RULE.judge(&reference, &Array::f64(&[1000], values.clone())).is_ok());
        let sampled: Vec<u64> = (0..2).map(|i| splitmix(3, i) % 1000).collect();
        let missed = (0..1000).find(|i| !sampled.contains(i)).expect("two of a thousand are sampled");
        values[missed as usize] = 1.5;
        assert!(RULE.judge(&reference, &Array::f64(&[1000], values)).is_err());
    }
}
