//! One row, measured: every library's result compared with ours, then all of them timed in turn, round after round.

use crate::data::{Sample, positions};
use crate::form::{Form, guarded};
use crate::limits::Limits;
use crate::peers::torch::{self, Torch};
use crate::row::{Check, Peer, Row};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

/// How long, and with whom.
pub(crate) struct Plan {
    pub(crate) threads: usize,
    pub(crate) rounds: usize,
    /// Seconds of one library in one round.
    pub(crate) slice: f64,
    pub(crate) peers: Vec<Peer>,
    /// PyTorch, and another one that may be lost to `torch.compile`.
    pub(crate) torch: Option<Rc<RefCell<Torch>>>,
    pub(crate) compiled: Option<Rc<RefCell<Torch>>>,
    /// The instruction set that Gradus runs at.
    pub(crate) isa: &'static str,
}

/// A library's turn.
struct Entry {
    peer: Peer,
    form: Box<dyn Form>,
    /// Runs per sample, samples per round, and rounds.
    reps: usize,
    samples: usize,
    rounds: usize,
    least: f64,
}

/// Measures a row; what goes wrong with a library is printed and leaves it out.
pub(crate) fn measure(row: &Row, plan: &Plan, limits: &Limits) -> Value {
    let mut errors = vec![];
    let mut entries: Vec<Entry> = vec![];
    let mut ours: Option<Sample> = None;
    for (peer, check, form) in built(row, plan) {
        let ready = || {
            let mut form = form?;
            let sample = form.sample()?;
            if peer == Peer::Gradus {
                ours = Some(sample.clone());
            } else if let Some(ours) = &ours {
                compared(&sample, ours, check)?;
            }
            Ok::<_, String>((form, sample))
        };
        match ready() {
            Ok((mut form, sample)) => {
                if let (Some(exact), Peer::Gradus | Peer::Torch) = (&row.reference, peer) {
                    errors.push((peer, error(&sample, &exact())));
                }
                match calibrated(peer, &mut *form, plan) {
                    Ok((reps, samples, rounds, least)) => {
                        entries.push(Entry { peer, form, reps, samples, rounds, least })
                    }
                    Err(e) => complain(row, peer, &e),
                }
            }
            Err(e) => complain(row, peer, &e),
        }
    }
    for round in 0..plan.rounds {
        for entry in entries.iter_mut().filter(|e| round < e.rounds) {
            // Threads of the one before stop spinning, which those of PyTorch (libgomp) do for some milliseconds.
            thread::sleep(Duration::from_millis(10));
            match entry.form.time(entry.reps, entry.samples) {
                Ok(seconds) => entry.least = entry.least.min(seconds),
                Err(e) => complain(row, entry.peer, &e),
            }
        }
    }
    let seconds: serde_json::Map<String, Value> = entries
        .iter()
        .filter(|e| e.least < f64::MAX)
        .map(|e| (e.peer.name().to_string(), json!(e.least)))
        .collect();
    let errors: serde_json::Map<String, Value> =
        errors.into_iter().map(|(peer, (max, mean))| (peer.name().to_string(), json!([max, mean]))).collect();
    json!({
        "row": row.name,
        "threads": plan.threads,
        "seconds": seconds,
        "errors": errors,
        "floor": limits.floor(row.work, plan.isa),
    })
}

type Built = Vec<(Peer, Check, Result<Box<dyn Form>, String>)>;

/// Says what went wrong, without the stack that some errors carry along.
fn complain(row: &Row, peer: Peer, error: &str) {
    eprintln!("  {} at {}: {}", row.name, peer.name(), error.lines().next().unwrap_or("failed"));
}

/// Every wanted library's form, ours first.
fn built(row: &Row, plan: &Plan) -> Built {
    let rust = row.rust.iter().filter(|(peer, ..)| plan.peers.contains(peer));
    let mut all: Built = rust.map(|(peer, check, build)| (*peer, *check, guarded(build))).collect();
    for snippet in row.torch.iter().filter(|s| plan.peers.contains(&s.peer)) {
        let process = if snippet.peer == Peer::TorchCompiled { &plan.compiled } else { &plan.torch };
        if let Some(process) = process {
            all.push((snippet.peer, row.torch_check, torch::build(process, snippet)));
        }
    }
    all
}

fn compared(sample: &Sample, ours: &Sample, check: Check) -> Result<(), String> {
    match (check, sample.distance(ours)) {
        (Check::Any, _) => Ok(()),
        (_, None) => Err(format!("gives {} values where Gradus gives {}", sample.numel, ours.numel)),
        (Check::Within(limit), Some(d)) if d > limit => {
            Err(format!("differs by {d:.1e} of the largest value"))
        }
        (Check::Within(_) | Check::Shape, Some(_)) => Ok(()),
    }
}

/// Largest and mean error, as parts of the sums of magnitudes.
fn error(sample: &Sample, exact: &dyn Fn(usize) -> (f64, f64)) -> (f64, f64) {
    let at = positions(sample.numel);
    let errors: Vec<f64> = at
        .iter()
        .zip(&sample.values)
        .map(|(&i, &v)| {
            let (value, scale) = exact(i);
            (f64::from(v) - value).abs() / scale
        })
        .collect();
    (errors.iter().copied().fold(0.0, f64::max), errors.iter().sum::<f64>() / errors.len() as f64)
}

/// What takes longer than so many seconds is run once.
const ONCE: f64 = 2.0;

/// Runs per sample, samples per round, rounds, so that a round takes about a slice, and the least time so far. Slow ones get
/// few rounds, the slowest none but this.
fn calibrated(peer: Peer, form: &mut dyn Form, plan: &Plan) -> Result<(usize, usize, usize, f64), String> {
    let mut once = form.time(1, 1)?;
    if once > ONCE {
        return Ok((1, 1, 0, once));
    }
    if once < 0.02 {
        once = once.min(form.time(1, 1)?);
    }
    if once < 1e-4 {
        // Too short for the clock.
        once = form.time(100, 1)?;
    }
    let reps = (50e-6 / once).ceil().max(1.0);
    let samples = (plan.slice / (once * reps)).ceil().clamp(1.0, 1e4);
    let few = if peer == Peer::Gradus || peer.is_torch() { 3 } else { 1 };
    let rounds = if once > 0.2 { plan.rounds.min(few) } else { plan.rounds };
    Ok((reps as usize, samples as usize, rounds, f64::MAX))
}
