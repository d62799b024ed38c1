//! What the machine can do, measured in this run: multiply-adds a second, bytes a second.

mod amx;
mod bandwidth;
mod fma;
mod together;

use crate::row::{Type, Work};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Instant;
use together::together;

/// Limits of all threads together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// f32 multiply-adds in registers, FLOP/s, by instruction set.
    pub(crate) fma: Vec<(&'static str, f64)>,
    /// bf16 tile products, FLOP/s, where there are such.
    pub(crate) amx: Option<f64>,
    /// By level: name, bytes that fit, bytes copied (read and written) a second, bytes read a second.
    pub(crate) memory: Vec<(&'static str, f64, f64, f64)>,
}

/// Measures, about a second in all.
pub(crate) fn measure(threads: usize) -> Limits {
    Limits {
        fma: fma::kernels().into_iter().map(|(isa, f)| (isa, best(threads, f))).collect(),
        amx: amx::kernel().map(|f| best(threads, f)),
        memory: bandwidth::measure(threads),
    }
}

impl Limits {
    /// The least time of a row, given the instruction set that Gradus runs at.
    pub(crate) fn floor(&self, work: Work, isa: &str) -> Option<f64> {
        let tiles = self.amx.filter(|_| isa == "amx");
        match work {
            Work::Flops(n, of) => {
                let fma = self.fma_at(isa)?;
                let peak = match of {
                    Type::StrictF32 | Type::F16 => fma,
                    // Six products of halves make one product of f32.
                    Type::F32 => tiles.map_or(fma, |tiles| fma.max(tiles / 6.0)),
                    Type::FastF32 => tiles.map_or(fma, |tiles| fma.max(tiles / 3.0)),
                    Type::BF16 => tiles.unwrap_or(fma),
                    Type::I8 => return None,
                };
                Some(n / peak)
            }
            Work::Copy(n) => self.level(n).map(|(_, _, copy, _)| n / copy),
            Work::Read(n) => self.level(n).map(|(_, _, _, read)| n / read),
            Work::Overhead => None,
        }
    }

    fn fma_at(&self, isa: &str) -> Option<f64> {
        let wanted = match isa {
            "amx" | "avx512" => "avx512",
            other => other,
        };
        let exact = self.fma.iter().find(|(name, _)| *name == wanted);
        exact.or(self.fma.first()).map(|(_, peak)| *peak)
    }

    fn level(&self, bytes: f64) -> Option<&(&'static str, f64, f64, f64)> {
        self.memory.iter().find(|(_, fits, ..)| bytes <= *fits).or(self.memory.last())
    }

    /// For the way from the measuring process to the writing one.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "fma": self.fma.iter().map(|(isa, peak)| json!([isa, peak])).collect::<Vec<_>>(),
            "amx": self.amx,
            "memory": self.memory.iter().map(|(name, fits, copy, read)| json!([name, fits, copy, read])).collect::<Vec<_>>(),
        })
    }
}

/// The sum over threads that start together of each one's best rate.
fn best(threads: usize, rate: fn() -> f64) -> f64 {
    let rates = together(threads, |line| {
        line.up(1);
        (0..5).map(|_| rate()).fold(0.0, f64::max)
    });
    rates.into_iter().sum()
}

/// Units per second of `f`, which does `units`.
fn rate(units: f64, mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    black_box(f());
    units / start.elapsed().as_secs_f64()
}
