//! Replays a case and judges what comes of it.

use crate::format::{Case, Expect, Group, Output, Reference};
use crate::judge::{Precision, Rule};
use crate::ops::{self, Failure, Inputs};
use gradus::autograd::{Gradients, Var};
use gradus::tensor::Tensor;
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
    let Uploaded { inputs, leaves } = upload(case, precision)?;
    let got = ops::run(&case.op, &inputs, &case.args)?;
    if got.len() != outputs.len() {
        return Err(Verdict::Wrong(format!("{} outputs, expected {}", got.len(), outputs.len())));
    }
    let judge = |what: String, rule: Rule, reference: &Reference, got: &Tensor| {
        let got = ops::download(got).map_err(Failure::from)?;
        rule.judge(reference, &got).map_err(|why| Verdict::Wrong(format!("{what}: {why}")))
    };
    for (n, (output, got)) in outputs.iter().zip(&got).enumerate() {
        judge(format!("output {n}"), rule, &output.reference, got.value())?;
    }
    if leaves.is_empty() {
        return Ok(());
    }
    // Even the gradient of a view sums, which rounds in float32.
    let sums = Rule { bits: rule.bits && precision == Precision::F64, ..rule };
    let grads = gradients(outputs, &got, precision)?;
    for (leaf, (name, reference)) in leaves {
        let zeros = || leaf.value().zeros_like().map_err(Failure::from);
        let grad = grads.find(&leaf).map_or_else(zeros, |g| Ok(g.value().clone()))?;
        judge(format!("gradient of {name}"), sums, reference, &grad)?;
    }
    Ok(())
}

/// The vector-Jacobian product of every differentiable output with its cotangent.
fn gradients(outputs: &[Output], got: &[Var], precision: Precision) -> Result<Gradients, Failure> {
    let mut total: Option<Var> = None;
    for (output, got) in outputs.iter().zip(got) {
        let Some(cotangent) = &output.cotangent else { continue };
        let term = got.mul(&ops::upload(&cotangent.array(), precision)?.into())?.sum_all()?;
        total = Some(total.map_or(Ok(term.clone()), |sum| sum.add(&term))?);
    }
    // Constants have nothing to go back through.
    Ok(match total.filter(Var::requires_grad) {
        Some(total) => total.backward()?,
        None => Gradients::default(),
    })
}

/// What a case is replayed on.
struct Uploaded<'a> {
    inputs: Inputs,
    /// The differentiated inputs before their views, with names and recorded gradients.
    leaves: Vec<(Var, (&'a str, &'a Reference))>,
}

/// The inputs of a case, after their views.
fn upload(case: &Case, precision: Precision) -> Result<Uploaded<'_>, Failure> {
    let mut uploaded = Uploaded { inputs: Inputs::default(), leaves: Vec::new() };
    for input in &case.inputs {
        let base = ops::upload(&input.base, precision)?;
        let mut x = match &input.grad {
            None => Var::from(base),
            Some(reference) => {
                let leaf = Var::leaf(base);
                uploaded.leaves.push((leaf.clone(), (&input.name, reference)));
                leaf
            }
        };
        for view in &input.views {
            x = ops::run(&view.op, &Inputs(vec![("x".into(), x)]), &view.args)?.remove(0);
        }
        uploaded.inputs.0.push((input.name.clone(), x));
    }
    Ok(uploaded)
}

/// `Ok` if the library returns its error.
fn refused(case: &Case, precision: Precision) -> Result<(), Verdict> {
    match ops::run(&case.op, &upload(case, precision)?.inputs, &case.args) {
        Err(Failure::Error(_) | Failure::Unsayable) => Ok(()),
        Err(Failure::NotCovered(what)) => Err(Verdict::NotCovered(what)),
        Ok(_) => Err(Verdict::Wrong("was accepted, expected an error".into())),
    }
}
