//! Arguments of ops, drawn from the bytes of an input.

/// Extents and positions at which arithmetic overflows if anywhere.
const EXTREMES: [usize; 6] =
    [usize::MAX, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX / 16, 1 << 32, 1 << 31];

/// An input that is being consumed. It never ends: after the last byte come zeros.
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.byte() as usize % n
    }

    /// An extent, a length, a step: mostly small.
    pub(crate) fn size(&mut self) -> usize {
        match self.byte() {
            byte @ 244.. => EXTREMES[byte as usize % EXTREMES.len()],
            byte => byte as usize % 7,
        }
    }

    /// A dim or a position that may count from the end: mostly small.
    pub(crate) fn signed(&mut self) -> isize {
        match self.byte() {
            byte @ 250.. => EXTREMES[byte as usize % EXTREMES.len()] as isize,
            249 => isize::MIN,
            byte => byte as isize % 11 - 5,
        }
    }

    /// Up to ten of something, mostly up to four.
    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let len = match self.byte() {
            byte @ 240.. => byte as usize % 11,
            byte => byte as usize % 5,
        };
        (0..len).map(|_| item(self)).collect()
    }

    /// Extents that multiply to `numel`.
    pub(crate) fn factors(&mut self, numel: usize) -> Vec<usize> {
        let mut rest = numel;
        let mut out = vec![];
        while rest > 1 && out.len() < 6 {
            let divisors: Vec<usize> = (1..=rest).filter(|d| rest.is_multiple_of(*d)).collect();
            let factor = divisors[self.below(divisors.len())];
            rest /= factor;
            out.push(factor);
        }
        out.push(rest);
        out
    }
}
