//! Results so large that the caches do not keep them are stored past the caches.
//!
//! A store to a line that no cache holds fetches the line first, and drives out another. A stream writes whole lines at once: where a
//! result would not be read from the caches anyway, a third of the traffic of a sum is saved. On two cores of a Zen 4 server, sums of
//! `f32` are 1.3 to 1.5 times as fast from 16 MB on; results of 4 MB, which come from the caches when they are read next, gain nothing
//! in the end. Elements are computed into a block in the first-level cache, which costs 6 % against stores straight from the loops, and
//! needs no second form of each of them.

use crate::cpu::isa::Isa;
use bytemuck::{Pod, cast_slice};
use std::ops::Range;
use std::sync::OnceLock;

/// Elements computed at a time: longer blocks take longer, as the store buffer drains more slowly than they are computed.
pub(crate) const BLOCK: usize = 256;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Whether a result of so many bytes is worth it: half of the last cache, as operands take up the other half.
pub(crate) fn worthwhile(isa: Isa, bytes: usize) -> bool {
    #[cfg(test)]
    if let Some(least) = tests::LEAST.get() {
        return bytes >= least && has_streams(isa);
    }
    static LEAST: OnceLock<usize> = OnceLock::new();
    // Most results are much smaller: they need not ask.
    bytes >= 1 << 20 && bytes >= *LEAST.get_or_init(|| last_cache() / 2) && has_streams(isa)
}

/// Whether there are kernels for this level.
fn has_streams(isa: Isa) -> bool {
    cfg!(target_arch = "x86_64") && isa >= Isa::Avx2
}

/// Bytes of the largest cache of the first processor, where the system tells; else those of a server's of today.
fn last_cache() -> usize {
    const USUAL: usize = 32 << 20;
    let size = |index: usize| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        std::fs::read_to_string(path).ok()
    };
    (0..).map_while(size).filter_map(|text| bytes_of(&text)).max().unwrap_or(USUAL)
}

/// The number that a text such as `32768K` stands for.
fn bytes_of(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// `to[i] = from[i]`, past the caches but for a part of a line at either end. [`finish`] comes before another thread may read it.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn put<T: Pod>(isa: Isa, from: &[T], to: &mut [T]) {
    let (from, to): (&[u8], &mut [u8]) = (cast_slice(from), bytemuck::cast_slice_mut(to));
    let head = to.as_ptr().align_offset(LINE).min(to.len());
    let lines = (to.len() - head) / LINE * LINE;
    to[..head].copy_from_slice(&from[..head]);
    put_lines(isa, &from[head..head + lines], &mut to[head..head + lines]);
    to[head + lines..].copy_from_slice(&from[head + lines..]);
}

/// As [`put`], of whole lines.
fn put_lines(isa: Isa, from: &[u8], to: &mut [u8]) {
    match isa {
        // SAFETY: the machine has the level; `to` begins at a line, and both have as many whole ones.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { super::avx2::stream(from, to) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => unsafe { super::avx512::stream(from, to) },
        _ => to.copy_from_slice(from),
    }
}

/// Makes what this thread has [`put`] visible to whoever learns from it afterwards that it is there.
pub(crate) fn finish() {
    // SAFETY: every machine of this architecture has the instruction.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Asks for the cache line at `p`, which may be any address, where the level can.
#[inline(always)]
pub(crate) fn ask<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, which reads nothing that the program could see.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast())
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Asks for elements that will be read soon, if they are there: memory they lie in goes into the second-level cache.
///
/// Processors do so by themselves where a loop reads on and on, but not across pages, and not for what another loop will read.
#[inline(always)]
pub(crate) fn prefetch<T>(x: &[T], at: Range<usize>) {
    #[cfg(target_arch = "x86_64")]
    for line in x.get(at).unwrap_or_default().chunks(LINE / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every machine of this architecture has the instruction, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, at);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cpu::isa;
    use std::cell::Cell;

    thread_local! {
        /// What replaces half of the last cache.
        pub(super) static LEAST: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Runs `f` where results of so many bytes are streamed.
    pub(crate) fn streaming_from<R>(bytes: usize, f: impl FnOnce() -> R) -> R {
        let before = LEAST.replace(Some(bytes));
        let result = f();
        LEAST.set(before);
        result
    }

    #[test]
    fn every_part_of_a_slice_arrives_and_nothing_else_changes() {
        let from: Vec<u16> = (1..=1000).collect();
        for &level in isa::available() {
            for (start, len) in [(0, 0), (0, 1000), (1, 31), (3, 32), (5, 33), (31, 64), (17, 900), (999, 1)]
            {
                let mut to = vec![0u16; 1000];
                put(level, &from[start..start + len], &mut to[start..start + len]);
                finish();
                let expected = |i: usize| if (start..start + len).contains(&i) { from[i] } else { 0 };
                assert!((0..1000).all(|i| to[i] == expected(i)), "{level}: {len} from {start} on");
            }
        }
    }

    #[test]
    fn sizes_of_caches_are_read_as_the_system_writes_them() {
        let read = ["32768K\n", "2M", "64", "", "K", "many"].map(bytes_of);
        assert_eq!(read, [Some(32 << 20), Some(2 << 20), Some(64), None, None, None]);
        assert!(last_cache() > 0);
    }

    #[test]
    fn only_large_results_of_levels_that_have_streams_are_streamed() {
        streaming_from(1000, || {
            assert!(
                !worthwhile(Isa::Avx2, 999)
                    && !worthwhile(Isa::Portable, 1000)
                    && !worthwhile(Isa::Neon, 1000)
            );
            assert_eq!(worthwhile(Isa::Avx2, 1000), cfg!(target_arch = "x86_64"));
        });
        assert!(!worthwhile(Isa::Avx2, 1 << 19));
    }
}
