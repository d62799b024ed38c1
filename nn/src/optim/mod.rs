//! Optimizers: how parameters change, given their gradients.
//!
//! An optimizer is a [`Rule`], which is also its configuration, and [`Optim`], which holds the parameters, their state and
//! their groups. A step either finds a gradient for every parameter that is not frozen, or changes nothing: no parameter is
//! left behind silently. Parameters that change alike are one call of a rule, and so one kernel where the device has it.

mod adagrad;
mod adam;
mod rmsprop;
mod rule;
mod sgd;

pub use adagrad::{AdaGrad, AdaGradConfig};
pub use adam::{Adam, AdamConfig, AdamW, AdamWConfig};
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use rule::{Rule, Update, each};
pub use sgd::{Sgd, SgdConfig};

use crate::grouped::grouped;
use crate::param::not_in_place;
use crate::{Module, Param, clip};
use autograd::{Gradients, Var};
use std::collections::{BTreeMap, BTreeSet};
use tensor::{DType, Device, Error, ErrorKind, Result, Tensor};

/// What changes parameters: any of them can stand behind `dyn Optimizer`.
pub trait Optimizer {
    /// Changes every parameter that is not frozen.
    ///
    /// # Errors
    /// When one of them has no gradient: the message names it and, where known, the op that cut it off. Nothing is
    /// changed then.
    fn step(&mut self, gradients: &Gradients) -> Result<()>;

    /// As [`step`](Self::step), with gradients multiplied by `min(1, max_norm / (total + 1e-6))`, where `total` is the 2-norm of
    /// all their elements together; returns `total`, `[]`, on the device of the first parameter.
    ///
    /// It changes parameters as [`clip_grad_norm`](crate::clip_grad_norm) and a step do, to the last bit. But gradients are read
    /// once less and written not at all, and on a device that works by itself nothing waits for the norm.
    ///
    /// # Errors
    /// As for a step, and when the bound makes no sense.
    fn step_clipped(&mut self, gradients: &Gradients, max_norm: f64) -> Result<Tensor>;

    /// The learning rate of the parameters that are in no group of their own.
    fn lr(&self) -> f64;

    /// Changes the learning rate; those of groups change by the same factor.
    fn set_lr(&mut self, lr: f64);

    /// All that later steps depend on, by name: what a checkpoint keeps.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Goes on from what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// When it is not the state of such an optimizer for these parameters. Nothing is changed then.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;
}

/// An optimizer: parameters, their state, and the [`Rule`] that changes them.
#[derive(Clone, Debug)]
pub struct Optim<R> {
    lr: f64,
    groups: Vec<Group<R>>,
    members: Vec<Member>,
}

/// Parameters with hyperparameters of their own.
#[derive(Clone, Debug)]
struct Group<R> {
    rule: R,
    /// Its learning rate over that of the optimizer.
    ratio: f64,
}

/// A parameter and what is known about its past.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    param: Param,
    group: usize,
    steps: u64,
    /// One for each slot of the rule, once it has made a step.
    state: Vec<Tensor>,
}

impl<R: Rule> Optim<R> {
    /// For all parameters of a model; create it after moving the model to its device.
    ///
    /// # Errors
    /// When a hyperparameter makes no sense.
    pub fn new<M: Module + ?Sized>(model: &M, config: R) -> Result<Optim<R>> {
        config.check()?;
        let member = |(name, param): (String, &Param)| Member {
            name,
            param: param.clone(),
            group: 0,
            steps: 0,
            state: vec![],
        };
        Ok(Optim {
            lr: config.lr(),
            members: model.params().into_iter().map(member).collect(),
            groups: vec![Group { rule: config, ratio: 1.0 }],
        })
    }

    /// Gives the parameters whose name satisfies `of` hyperparameters of their own.
    ///
    /// ```
    /// use gradus_nn::optim::{AdamW, AdamWConfig};
    /// use gradus_nn::{Init, Linear};
    /// # fn main() -> tensor::Result<()> {
    /// let model = Linear::new(3, 2, &mut Init::new(1))?;
    /// let config = AdamWConfig::default();
    /// let no_decay = AdamWConfig { weight_decay: 0.0, ..config.clone() };
    /// let adam = AdamW::new(&model, config)?.group(|name| name.ends_with("bias"), no_decay)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When no name does, or a hyperparameter makes no sense.
    pub fn group(mut self, of: impl Fn(&str) -> bool, config: R) -> Result<Optim<R>> {
        config.check()?;
        let ratio = if config.lr() == self.lr { 1.0 } else { config.lr() / self.lr };
        if !ratio.is_finite() {
            return Err(Error::argument(R::NAME, "with a learning rate of 0 no group can have another"));
        }
        let mut members = self.members.iter_mut().filter(|m| of(&m.name)).peekable();
        if members.peek().is_none() {
            return Err(Error::argument(R::NAME, "a group has at least one parameter, none was selected"));
        }
        members.for_each(|m| m.group = self.groups.len());
        self.groups.push(Group { rule: config, ratio });
        Ok(self)
    }

    /// The gradient of each parameter that is not frozen, and where it stands; errors if one is missing or unusable.
    fn found<'g>(&self, gradients: &'g Gradients) -> Result<Vec<(usize, &'g Tensor)>> {
        let mut found = vec![];
        for (i, member) in self.members.iter().enumerate().filter(|(_, m)| !m.param.is_frozen()) {
            let leaf = member.param.leaf();
            let gradient =
                gradients.find(&leaf).ok_or_else(|| no_gradient(&member.name, gradients, &leaf))?;
            if gradient.shape() != leaf.shape() {
                return Err(Error::shapes(R::NAME, leaf.shape(), gradient.shape()).at(&member.name));
            }
            if gradient.device() != leaf.device() {
                let (lhs, rhs) = (leaf.device().to_string(), gradient.device().to_string());
                return Err(Error::from(ErrorKind::DeviceMismatch { op: R::NAME, lhs, rhs }).at(&member.name));
            }
            found.push((i, gradient.value()));
        }
        Ok(found)
    }
}

impl<R: Rule> Optim<R> {
    /// Changes the members that were [`found`](Self::found) by their gradients times `clip`.
    fn change(&mut self, found: &[(usize, &Tensor)], clip: Option<&Tensor>) -> Result<()> {
        let mut found = found.iter().peekable();
        let mut alike = vec![];
        for (i, member) in self.members.iter_mut().enumerate() {
            let Some(&(_, grad)) = found.next_if(|(at, _)| *at == i) else { continue };
            member.prepare(&self.groups[member.group].rule, grad)?;
            let value = member.param.value();
            let key = (member.group, member.steps, value.dtype(), value.device().clone());
            alike.push((key, (member, grad)));
        }
        for ((group, steps, dtype, device), mut members) in grouped(alike) {
            let Group { rule, ratio } = &self.groups[group];
            let clip = clip.map(|c| c.to_device(&device)?.to_dtype(dtype.accumulator())).transpose()?;
            let params: Vec<Param> = members.iter().map(|(member, _)| member.param.clone()).collect();
            Param::update_all(&params, |values| {
                let mut updates = vec![];
                for (param, (member, grad)) in values.into_iter().zip(&mut members) {
                    updates.push(Update { name: &member.name, param, grad, state: &mut member.state });
                }
                let before = device.backend().is_capturing().then(|| places(&updates));
                rule.update(self.lr * ratio, steps + 1, clip.as_ref(), &mut updates)?;
                match before.is_none_or(|before| before == places(&updates)) {
                    true => Ok(()),
                    false => Err(not_in_place(R::NAME)),
                }
            })?;
            members.iter_mut().for_each(|(member, _)| member.steps += 1);
        }
        Ok(())
    }
}

/// Says which parameter lacks a gradient, why, and what to do.
fn no_gradient(name: &str, gradients: &Gradients, leaf: &Var) -> Error {
    let cause = match gradients.severed_at(leaf) {
        Some(op) => format!("its history was cut off by {op}"),
        None => "it took no part in computing the loss".to_string(),
    };
    let message = format!("{name} got no gradient: {cause}");
    Error::from(ErrorKind::Gradient { op: "optimizer step", message })
        .hint("use it, or take it out of training on purpose with freeze()")
}

/// Where the parameters and their state are in memory.
fn places(updates: &[Update]) -> Vec<usize> {
    let of = |x: &Tensor| std::ptr::from_ref(x.storage()).addr();
    updates.iter().flat_map(|u| std::iter::once(of(u.param)).chain(u.state.iter().map(of))).collect()
}

impl Member {
    /// Its state, made at the first step and kept where the parameter lives.
    fn prepare<R: Rule>(&mut self, rule: &R, grad: &Tensor) -> Result<()> {
        if self.steps == 0 {
            let slots = rule.slots();
            if !slots.is_empty() && grad.device().backend().is_capturing() {
                let message = "the state of an optimizer would begin anew with each replay of the graph";
                return Err(Error::argument(R::NAME, message).hint("make a step before the capture"));
            }
            let fresh =
                |(_, start): (_, f64)| Tensor::full(grad.shape(), start, (grad.dtype(), grad.device()));
            self.state = slots.into_iter().map(fresh).collect::<Result<_>>()?;
        }
        for tensor in self.state.iter_mut().filter(|t| t.device() != grad.device()) {
            *tensor = tensor.to_device(grad.device())?;
        }
        Ok(())
    }
}

impl<R: Rule> Optimizer for Optim<R> {
    fn step(&mut self, gradients: &Gradients) -> Result<()> {
        let found = self.found(gradients)?;
        self.change(&found, None)
    }

    fn step_clipped(&mut self, gradients: &Gradients, max_norm: f64) -> Result<Tensor> {
        let found = self.found(gradients)?;
        let (total, factor) = clip::by_norm(found.iter().map(|&(_, grad)| grad), max_norm)?;
        self.change(&found, Some(&factor))?;
        Ok(total)
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let cpu = Device::cpu();
        let mut out = BTreeMap::from([("lr".to_string(), Tensor::full((), self.lr, (DType::F64, &cpu))?)]);
        for member in self.members.iter().filter(|m| m.steps > 0) {
            let steps = Tensor::from_slice(&[member.steps as i64], (), &cpu)?;
            out.insert(format!("{}.step", member.name), steps);
            let slots = self.groups[member.group].rule.slots();
            for ((slot, _), tensor) in slots.into_iter().zip(&member.state) {
                out.insert(format!("{}.{slot}", member.name), tensor.clone());
            }
        }
        Ok(out)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let absent = |name: &str| Error::argument(R::NAME, format!("its state has no {name}"));
        let lr = state.get("lr").ok_or_else(|| absent("lr"))?.item()?;
        let mut used = BTreeSet::from(["lr".to_string()]);
        let mut members = self.members.clone();
        for member in &mut members {
            (member.steps, member.state) = (0, vec![]);
            let counter = format!("{}.step", member.name);
            let Some(steps) = state.get(&counter) else { continue };
            let steps = steps.to_scalar::<i64>().map_err(|e| e.at(&counter))?;
            member.steps = u64::try_from(steps)
                .map_err(|_| Error::argument(R::NAME, format!("{counter} is negative, {steps}")))?;
            used.insert(counter);
            if member.steps == 0 {
                continue;
            }
            let value = member.param.value();
            for (slot, _) in self.groups[member.group].rule.slots() {
                let slot = format!("{}.{slot}", member.name);
                let tensor = state.get(&slot).ok_or_else(|| absent(&slot))?;
                if tensor.shape() != value.shape() {
                    return Err(Error::shapes(R::NAME, value.shape(), tensor.shape()).at(slot));
                }
                if !tensor.dtype().is_float() {
                    return Err(Error::dtype(R::NAME, tensor.dtype(), "floats").at(slot));
                }
                // A copy of its own: the next step works in place.
                member.state.push(tensor.to_device(value.device())?.copy()?);
                used.insert(slot);
            }
        }
        if let Some(stranger) = state.keys().find(|name| !used.contains(*name)) {
            let message = format!("its state has {stranger}, which belongs to no parameter");
            return Err(Error::argument(R::NAME, message));
        }
        (self.lr, self.members) = (lr, members);
        Ok(())
    }
}
