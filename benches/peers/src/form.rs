//! One library's way of computing a row: something that can be timed and asked for its result.

use crate::data::Sample;
use std::fmt::Display;
use std::hint::black_box;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// A computation ready to run.
pub(crate) trait Form {
    /// Seconds per run: the least of `samples` means over `reps` runs.
    fn time(&mut self, reps: usize, samples: usize) -> Result<f64, String>;

    /// What it computes, at the compared positions.
    fn sample(&mut self) -> Result<Sample, String>;
}

/// A result that can be read as `f32`, in the order of a contiguous tensor.
pub(crate) trait Answer {
    /// Appends all its values.
    fn append(&self, to: &mut Vec<f32>) -> Result<(), String>;
}

impl Answer for f32 {
    fn append(&self, to: &mut Vec<f32>) -> Result<(), String> {
        to.push(*self);
        Ok(())
    }
}

impl<A: Answer, B: Answer> Answer for (A, B) {
    fn append(&self, to: &mut Vec<f32>) -> Result<(), String> {
        self.0.append(to)?;
        self.1.append(to)
    }
}

impl<A: Answer> Answer for Vec<A> {
    fn append(&self, to: &mut Vec<f32>) -> Result<(), String> {
        self.iter().try_for_each(|a| a.append(to))
    }
}

struct Closure<F, T, E>(F, PhantomData<fn() -> (T, E)>);

impl<T: Answer, E: Display, F: FnMut() -> Result<T, E>> Form for Closure<F, T, E> {
    fn time(&mut self, reps: usize, samples: usize) -> Result<f64, String> {
        guarded(|| {
            let mut least = f64::MAX;
            for _ in 0..samples {
                let start = Instant::now();
                for _ in 0..reps {
                    black_box((self.0)().map_err(|e| e.to_string())?);
                }
                least = least.min(start.elapsed().as_secs_f64() / reps as f64);
            }
            Ok(least)
        })
    }

    fn sample(&mut self) -> Result<Sample, String> {
        guarded(|| {
            let mut all = vec![];
            (self.0)().map_err(|e| e.to_string())?.append(&mut all)?;
            Ok(Sample::of(&all))
        })
    }
}

/// A form made of a closure.
pub(crate) fn form<T: Answer + 'static, E: Display + 'static>(
    f: impl FnMut() -> Result<T, E> + 'static,
) -> Result<Box<dyn Form>, String> {
    Ok(Box::new(Closure(f, PhantomData)))
}

/// As [`form`], for a library that panics instead of returning errors.
pub(crate) fn sure<T: Answer + 'static>(mut f: impl FnMut() -> T + 'static) -> Result<Box<dyn Form>, String> {
    form(move || Ok::<T, String>(f()))
}

/// A panic of a library becomes the row's error.
pub(crate) fn guarded<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or(panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or("panicked".to_string()))
    })
}
