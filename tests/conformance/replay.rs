//! Replays a case and judges what comes of it.

use crate::format::{Case, Expect, Group};
use crate::judge::Precision;
use crate::ops::{self, Failure, Inputs};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What became of the cases of one or more groups.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    /// Case, precision and what is wrong.
    pub(crate) failed: Vec<String>,
    /// Ops and options that the library does not have.
    pub(crate) uncovered: BTreeSet<String>,
}

impl Report {
    /// Replays every case of a group in both precisions.
    pub(crate) fn replay(&mut self, group: &Group) {
        for case in &group.cases {
            for precision in [Precision::F64, Precision::F32] {
                let outcome = catch_unwind(AssertUnwindSafe(|| replay(group, case, precision)));
                match outcome.unwrap_or_else(|_| Err(Verdict::Wrong("panicked".into()))) {
                    Ok(()) => self.passed += 1,
                    Err(Verdict::Skipped) => {}
                    Err(Verdict::NotCovered(what)) => {
                        self.uncovered.insert(what);
                    }
                    Err(Verdict::Wrong(why)) => {
                        self.failed.push(format!("{} {precision:?}: {why}", case.name))
                    }
                }
            }
        }
    }
}

/// Why a case did not pass.
enum Verdict {
    /// It is not compared in this precision.
    Skipped,
    NotCovered(String),
    Wrong(String),
}

impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Verdict {
        match failure {
            Failure::NotCovered(what) => Verdict::NotCovered(what),
            Failure::Error(error) => Verdict::Wrong(format!("error: {error}")),
            Failure::Unsayable => Verdict::Wrong("the signature cannot say it".into()),
        }
    }
}

fn replay(group: &Group, case: &Case, precision: Precision) -> Result<(), Verdict> {
    let outputs = match &case.expect {
        Expect::Values(outputs) => outputs,
        Expect::Error => return refused(case, precision),
        Expect::Stats => return Err(Verdict::NotCovered(case.op.clone())),
    };
    let rule = group.rule(case, precision).ok_or(Verdict::Skipped)?;
    let got = ops::run(&case.op, &inputs(case, precision)?, &case.args)?;
    if got.len() != outputs.len() {
        return Err(Verdict::Wrong(format!("{} outputs, expected {}", got.len(), outputs.len())));
    }
    for (n, (output, got)) in outputs.iter().zip(&got).enumerate() {
        let got = ops::download(got).map_err(Failure::from)?;
        rule.judge(&output.reference, &got).map_err(|why| Verdict::Wrong(format!("output {n}: {why}")))?;
    }
    Ok(())
}

/// The inputs of a case, after their views.
fn inputs(case: &Case, precision: Precision) -> Result<Inputs, Failure> {
    let mut inputs = Inputs::default();
    for input in &case.inputs {
        let mut x = ops::upload(&input.base, precision)?;
        for view in &input.views {
            x = ops::run(&view.op, &Inputs(vec![("x".into(), x)]), &view.args)?.remove(0);
        }
        inputs.0.push((input.name.clone(), x));
    }
    Ok(inputs)
}

/// `Ok` if the library returns its error.
fn refused(case: &Case, precision: Precision) -> Result<(), Verdict> {
    match ops::run(&case.op, &inputs(case, precision)?, &case.args) {
        Err(Failure::Error(_) | Failure::Unsayable) => Ok(()),
        Err(Failure::NotCovered(what)) => Err(Verdict::NotCovered(what)),
        Ok(_) => Err(Verdict::Wrong("was accepted, expected an error".into())),
    }
}
