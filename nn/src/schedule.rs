//! Schedules: the learning rate as a function of the step (or the epoch), counted from 0.
//!
//! Most are functions of the step alone, so that nothing of them needs to be saved; their numbers are PyTorch's.
//! Before each step: `optimizer.set_lr(schedule.lr(step))`.

use std::f64::consts::PI;
use tensor::{Error, Result};

/// The learning rate at each step. Closures are schedules too.
///
/// ```
/// use gradus_nn::schedule::{LinearWarmup, Schedule, StepLr};
/// let schedule = LinearWarmup { steps: 4, then: StepLr { lr: 1.0, step_size: 2, gamma: 0.5 } };
/// let rates: Vec<f64> = (0..8).map(|step| schedule.lr(step)).collect();
/// assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5]);
/// ```
pub trait Schedule {
    /// The learning rate of a step.
    fn lr(&self, step: u64) -> f64;
}

impl<F: Fn(u64) -> f64> Schedule for F {
    fn lr(&self, step: u64) -> f64 {
        self(step)
    }
}

/// Always the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constant(pub f64);

impl Schedule for Constant {
    fn lr(&self, _: u64) -> f64 {
        self.0
    }
}

/// `lr · gamma^⌊step / step_size⌋`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLr {
    /// At the start.
    pub lr: f64,
    /// Steps between two changes; 0 counts as 1.
    pub step_size: u64,
    /// The factor of each change.
    pub gamma: f64,
}

impl Schedule for StepLr {
    fn lr(&self, step: u64) -> f64 {
        self.lr * self.gamma.powf((step / self.step_size.max(1)) as f64)
    }
}

/// `lr · gamma^k` after `k` milestones.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiStep {
    /// At the start.
    pub lr: f64,
    /// The steps at which it changes.
    pub milestones: Vec<u64>,
    /// The factor of each change.
    pub gamma: f64,
}

impl Schedule for MultiStep {
    fn lr(&self, step: u64) -> f64 {
        let passed = self.milestones.iter().filter(|&&m| m <= step).count();
        self.lr * self.gamma.powi(passed as i32)
    }
}

/// `lr · gamma^step`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponential {
    /// At the start.
    pub lr: f64,
    /// The factor of each step.
    pub gamma: f64,
}

impl Schedule for Exponential {
    fn lr(&self, step: u64) -> f64 {
        self.lr * self.gamma.powf(step as f64)
    }
}

/// `eta_min + (lr - eta_min) · (1 + cos(π · step / t_max)) / 2` (Loshchilov & Hutter, 2017): falls for `t_max` steps,
/// then rises again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineAnnealing {
    /// At the start.
    pub lr: f64,
    /// Steps from the start to the least rate.
    pub t_max: u64,
    /// The least rate.
    pub eta_min: f64,
}

impl Schedule for CosineAnnealing {
    fn lr(&self, step: u64) -> f64 {
        cosine(self.lr, self.eta_min, step as f64 / self.t_max.max(1) as f64)
    }
}

/// `lr` times a factor that goes evenly from `start_factor` to `end_factor` in `total_iters` steps and stays there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearLr {
    /// What the factor applies to.
    pub lr: f64,
    /// The factor at the start.
    pub start_factor: f64,
    /// The factor at the end.
    pub end_factor: f64,
    /// Steps from start to end.
    pub total_iters: u64,
}

impl Schedule for LinearLr {
    fn lr(&self, step: u64) -> f64 {
        let done = step.min(self.total_iters) as f64 / self.total_iters.max(1) as f64;
        self.lr * (self.start_factor + (self.end_factor - self.start_factor) * done)
    }
}

/// Rises evenly for some steps to where another schedule starts, then follows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearWarmup<S> {
    /// How many steps to rise for: the first has `1 / steps` of the rate, the last all of it.
    pub steps: u64,
    /// What comes then, from its own step 0.
    pub then: S,
}

impl<S: Schedule> Schedule for LinearWarmup<S> {
    fn lr(&self, step: u64) -> f64 {
        match step.checked_sub(self.steps) {
            Some(later) => self.then.lr(later),
            None => self.then.lr(0) * ((step + 1) as f64 / self.steps as f64),
        }
    }
}

/// How [`OneCycle`] goes from one rate to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anneal {
    /// Along half a cosine.
    Cosine,
    /// Evenly.
    Linear,
}

/// One rise to `max_lr` and one fall far below the start (Smith & Topin, 2018). After `total_steps` it stays there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneCycle {
    /// The top.
    pub max_lr: f64,
    /// Steps in all.
    pub total_steps: u64,
    /// The share of the steps that rise.
    pub pct_start: f64,
    /// The way.
    pub anneal: Anneal,
    /// The start is `max_lr / div_factor`.
    pub div_factor: f64,
    /// The end is the start over this.
    pub final_div_factor: f64,
    /// Falls as fast as it rose, then goes on from the start to the end.
    pub three_phase: bool,
}

impl OneCycle {
    /// With PyTorch's defaults.
    ///
    /// # Errors
    /// Without steps.
    pub fn new(max_lr: f64, total_steps: u64) -> Result<OneCycle> {
        if total_steps == 0 {
            return Err(Error::argument("OneCycle", "a cycle has at least one step"));
        }
        Ok(OneCycle {
            max_lr,
            total_steps,
            pct_start: 0.3,
            anneal: Anneal::Cosine,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
        })
    }
}

impl Schedule for OneCycle {
    fn lr(&self, step: u64) -> f64 {
        let (total, top) = (self.total_steps as f64, self.max_lr);
        let low = top / self.div_factor;
        let end = low / self.final_div_factor;
        let rise = self.pct_start * total;
        let phases = match self.three_phase {
            true => vec![(rise - 1.0, low, top), (2.0 * rise - 2.0, top, low), (total - 1.0, low, end)],
            false => vec![(rise - 1.0, low, top), (total - 1.0, top, end)],
        };
        let (step, mut start) = (step as f64, 0.0);
        for (until, from, to) in phases {
            if step <= until {
                let done = if until > start { (step - start) / (until - start) } else { 1.0 };
                return match self.anneal {
                    Anneal::Cosine => cosine(from, to, done),
                    Anneal::Linear => from + (to - from) * done,
                };
            }
            start = until;
        }
        end
    }
}

/// From `from` to `to` along half a cosine.
fn cosine(from: f64, to: f64, done: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (PI * done).cos())
}

/// Whether a smaller or a larger metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// As for a loss.
    Min,
    /// As for an accuracy.
    Max,
}

/// How much better a metric must be to count as better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// By this share of the best.
    Relative(f64),
    /// By this much.
    Absolute(f64),
}

/// Lowers the learning rate when a metric has stopped getting better. It remembers, so save it with the rest: all its
/// fields are plain numbers.
///
/// ```
/// use gradus_nn::schedule::ReduceLrOnPlateau;
/// let mut plateau = ReduceLrOnPlateau { patience: 1, factor: 0.5, ..ReduceLrOnPlateau::new(0.1) };
/// let rates: Vec<f64> = [1.0, 0.9, 0.95, 0.95, 0.8].map(|loss| plateau.step(loss)).to_vec();
/// assert_eq!(rates, [0.1, 0.1, 0.1, 0.05, 0.05]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReduceLrOnPlateau {
    /// The learning rate now.
    pub lr: f64,
    /// What it is multiplied by.
    pub factor: f64,
    /// How many steps without getting better are let pass.
    pub patience: u64,
    /// What counts as better.
    pub threshold: Threshold,
    /// Which way is better.
    pub goal: Goal,
    /// How many steps after a change do not count.
    pub cooldown: u64,
    /// It is never lowered below this.
    pub min_lr: f64,
    /// A smaller change is not made.
    pub eps: f64,
    /// The best metric so far; `None` before the first.
    pub best: Option<f64>,
    /// Steps since it got better.
    pub bad_steps: u64,
    /// Steps of the cooldown that are left.
    pub cooling: u64,
}

impl ReduceLrOnPlateau {
    /// With PyTorch's defaults, for a loss.
    pub fn new(lr: f64) -> ReduceLrOnPlateau {
        ReduceLrOnPlateau {
            lr,
            factor: 0.1,
            patience: 10,
            threshold: Threshold::Relative(1e-4),
            goal: Goal::Min,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
            best: None,
            bad_steps: 0,
            cooling: 0,
        }
    }

    /// Takes note of a metric; returns the learning rate from now on.
    pub fn step(&mut self, metric: f64) -> f64 {
        if self.is_better(metric) {
            (self.best, self.bad_steps) = (Some(metric), 0);
        } else {
            self.bad_steps += 1;
        }
        if self.cooling > 0 {
            (self.cooling, self.bad_steps) = (self.cooling - 1, 0);
        }
        if self.bad_steps > self.patience {
            let lowered = (self.lr * self.factor).max(self.min_lr);
            if self.lr - lowered > self.eps {
                self.lr = lowered;
            }
            (self.cooling, self.bad_steps) = (self.cooldown, 0);
        }
        self.lr
    }

    fn is_better(&self, metric: f64) -> bool {
        let Some(best) = self.best else { return !metric.is_nan() };
        match (self.goal, self.threshold) {
            (Goal::Min, Threshold::Relative(share)) => metric < best * (1.0 - share),
            (Goal::Min, Threshold::Absolute(much)) => metric < best - much,
            (Goal::Max, Threshold::Relative(share)) => metric > best * (1.0 + share),
            (Goal::Max, Threshold::Absolute(much)) => metric > best + much,
        }
    }
}
