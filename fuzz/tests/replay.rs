//! Runs the fuzz targets without libFuzzer: first on the inputs in `regressions/`, then on pseudo-random ones.
//!
//! `GRADUS_FUZZ_RUNS` says how many of the latter each target gets, 2000 if it says nothing; `GRADUS_FUZZ_SEED` picks
//! others. An input that fails is written to `artifacts/`; moved to `regressions/` it is tried for ever after.

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[test]
fn state_files_of_arbitrary_bytes_load_or_give_an_error() {
    replay("state_file", gradus_fuzz::state_file);
}

#[test]
fn views_show_what_the_model_shows() {
    replay("views", gradus_fuzz::views);
}

#[test]
fn idx_files_of_arbitrary_bytes_give_a_tensor_or_an_error() {
    replay("idx_file", gradus_fuzz::idx_file);
}

#[test]
fn tables_of_arbitrary_bytes_give_numbers_or_an_error() {
    replay("csv_file", gradus_fuzz::csv_file);
}

fn replay(target: &str, run: fn(&[u8])) {
    let known = regressions(target);
    assert!(!known.is_empty(), "regressions/{target} has no files");
    known.iter().for_each(|input| run(input));
    let runs: u64 = setting("GRADUS_FUZZ_RUNS", 2000);
    let mut random = Random(setting("GRADUS_FUZZ_SEED", 1));
    for i in 0..runs {
        let input = match i % 2 {
            0 => random.bytes(64),
            _ => random.changed(&known),
        };
        if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
            panic!("input {i} fails, kept as {}", kept(target, &input).display());
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().expect("the setting is a number"))
}

fn folder(name: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join(target)
}

fn regressions(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder("regressions", target)).expect("there is a folder for each target");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a readable file")).collect()
}

/// Writes an input that failed to a file, and gives its path.
fn kept(target: &str, input: &[u8]) -> PathBuf {
    let path = folder("artifacts", target).join(format!("{:016x}", hash(input)));
    let written = fs::create_dir_all(folder("artifacts", target)).and_then(|()| fs::write(&path, input));
    written.expect("the folder can be written to");
    path
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ b as u64).wrapping_mul(0x0100_0000_01b3))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    /// A known input with up to four bits flipped, bytes replaced, cut out or put in.
    fn changed(&mut self, known: &[Vec<u8>]) -> Vec<u8> {
        let mut out = known[self.below(known.len())].clone();
        for _ in 0..=self.below(4) {
            if out.is_empty() {
                break;
            }
            let (at, value) = (self.below(out.len()), self.next() as u8);
            match self.below(5) {
                0 => out[at] ^= 1 << (value % 8),
                1 => out[at] = value,
                2 => out.insert(at, value),
                3 => drop(out.remove(at)),
                _ => out.truncate(at),
            }
        }
        out
    }
}
