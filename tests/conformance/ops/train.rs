//! Optimizers, clipping and learning rates.

use super::{Answer, Failure, Inputs, Op, Value};
use crate::device::device;
use crate::format::Args;
use gradus::autograd::Gradients;
use gradus::nn::optim::{
    AdaGrad, AdaGradConfig, Adam, AdamConfig, AdamW, AdamWConfig, Optimizer, RmsProp, RmsPropConfig, Sgd,
    SgdConfig,
};
use gradus::nn::schedule::{
    Anneal, CosineAnnealing, Exponential, Goal, LinearLr, MultiStep, OneCycle, ReduceLrOnPlateau, Schedule,
    StepLr, Threshold,
};
use gradus::nn::{Param, clip_grad_norm, clip_grad_value};
use gradus::tensor::Tensor;

pub(super) fn lookup(name: &str) -> Option<Op> {
    match name {
        "optim" => Some(optim),
        "clip_grad_norm" => Some(|i, a| {
            let (params, mut grads) = with_grads(i);
            let total = clip_grad_norm(&mut grads, &params, a.f64("max_norm"), a.f64("norm_type"))?;
            let total = Tensor::from_slice(&[total], (), device())?;
            Ok([total.into()].into_iter().chain(clipped(&params, &grads)?).collect())
        }),
        "clip_grad_value" => Some(|i, a| {
            let (params, mut grads) = with_grads(i);
            clip_grad_value(&mut grads, &params, a.f64("value"))?;
            clipped(&params, &grads)
        }),
        "lr_sched" => Some(|_, a| {
            let rates = rates(a)?;
            Ok(vec![Tensor::from_slice(&rates, [rates.len()], device())?.into()])
        }),
        _ => None,
    }
}

/// Fills a struct of hyperparameters from the record; absent ones keep their defaults.
macro_rules! config {
    ($Config:ident, $hyper:ident: $($number:ident)* $(; flags $($flag:ident)*)?) => {{
        let mut config = $Config::default();
        $(config.$number = $hyper.opt_f64(stringify!($number)).unwrap_or(config.$number);)*
        $($(config.$flag = $hyper.bool(stringify!($flag));)*)?
        config
    }};
}

fn optim(i: &Inputs, a: &Args) -> Answer {
    let params: Vec<Param> = i.numbered("p").iter().map(|p| Param::new(p.value().clone())).collect();
    let hyper = a.nested("hyper");
    let betas = hyper.list_of_f64("betas").map(|b| (b[0], b[1]));
    let mut optimizer: Box<dyn Optimizer> = match a.str("kind") {
        "sgd" => {
            let config =
                config!(SgdConfig, hyper: lr momentum dampening weight_decay; flags nesterov maximize);
            Box::new(Sgd::new(&params, config)?)
        }
        "adam" => {
            let mut config = config!(AdamConfig, hyper: lr eps weight_decay; flags amsgrad);
            config.betas = betas.unwrap_or(config.betas);
            Box::new(Adam::new(&params, config)?)
        }
        "adamw" => {
            let mut config = config!(AdamWConfig, hyper: lr eps weight_decay; flags amsgrad);
            config.betas = betas.unwrap_or(config.betas);
            Box::new(AdamW::new(&params, config)?)
        }
        "rmsprop" => {
            let config = config!(RmsPropConfig, hyper: lr alpha eps weight_decay momentum; flags centered);
            Box::new(RmsProp::new(&params, config)?)
        }
        "adagrad" => {
            let config =
                config!(AdaGradConfig, hyper: lr lr_decay weight_decay initial_accumulator_value eps);
            Box::new(AdaGrad::new(&params, config)?)
        }
        other => return Err(Failure::NotCovered(format!("optim {other}"))),
    };
    let skip = a.nested("skip");
    for step in 0..a.int("steps") {
        let skipped = skip.opt_ints(&step.to_string()).unwrap_or_default();
        let mut grads = Gradients::default();
        for (n, param) in params.iter().enumerate() {
            // What gets no gradient has to be taken out of training: nothing is left behind silently.
            if skipped.contains(&(n as i64)) {
                param.freeze();
                continue;
            }
            param.unfreeze();
            grads.set(&param.leaf(), i.tensor(&format!("g{n}")).select(0, step as isize)?);
        }
        optimizer.step(&grads)?;
    }
    Ok(params.iter().map(|p| Value::from(p.value())).collect())
}

/// Parameters that have the gradients `g0, g1, ..`.
fn with_grads(i: &Inputs) -> (Vec<Param>, Gradients) {
    let mut grads = Gradients::default();
    let param = |g: &Value| {
        let param = Param::new(g.value().clone());
        grads.set(&param.leaf(), g.value().clone());
        param
    };
    (i.numbered("g").iter().map(param).collect(), grads)
}

fn clipped(params: &[Param], grads: &Gradients) -> Answer {
    params.iter().map(|p| Ok(Value::from(grads.get(&p.leaf())?))).collect()
}

/// The learning rate of every step.
fn rates(a: &Args) -> Result<Vec<f64>, Failure> {
    let (lr, hyper, steps) = (a.f64("base_lr"), a.nested("hyper"), u64::try_from(a.int("steps"))?);
    let number = |key: &str, default: f64| hyper.opt_f64(key).unwrap_or(default);
    let count = |key: &str, default: u64| {
        hyper.opt_int(key).map_or(Ok(default), u64::try_from).map_err(Failure::from)
    };
    let schedule: Box<dyn Schedule> = match a.str("kind") {
        "step" => Box::new(StepLr { lr, step_size: count("step_size", 1)?, gamma: number("gamma", 0.1) }),
        "multi_step" => {
            let milestones =
                hyper.ints("milestones").into_iter().map(u64::try_from).collect::<Result<_, _>>()?;
            Box::new(MultiStep { lr, milestones, gamma: number("gamma", 0.1) })
        }
        "exponential" => Box::new(Exponential { lr, gamma: hyper.f64("gamma") }),
        "cosine" => {
            Box::new(CosineAnnealing { lr, t_max: count("T_max", 1)?, eta_min: number("eta_min", 0.0) })
        }
        "linear" => Box::new(LinearLr {
            lr,
            start_factor: number("start_factor", 1.0 / 3.0),
            end_factor: number("end_factor", 1.0),
            total_iters: count("total_iters", 5)?,
        }),
        "one_cycle" => {
            let cycle = OneCycle::new(hyper.f64("max_lr"), count("total_steps", steps)?)?;
            let linear = hyper.get("anneal_strategy").is_some_and(|name| name == "linear");
            Box::new(OneCycle {
                pct_start: number("pct_start", cycle.pct_start),
                anneal: if linear { Anneal::Linear } else { Anneal::Cosine },
                div_factor: number("div_factor", cycle.div_factor),
                final_div_factor: number("final_div_factor", cycle.final_div_factor),
                three_phase: hyper.bool("three_phase"),
                ..cycle
            })
        }
        "plateau" => return plateau(lr, &hyper, a),
        other => return Err(Failure::NotCovered(format!("lr_sched {other}"))),
    };
    Ok((0..steps).map(|step| schedule.lr(step)).collect())
}

/// Steps with a metric after each.
fn plateau(lr: f64, hyper: &Args, a: &Args) -> Result<Vec<f64>, Failure> {
    let mut plateau = ReduceLrOnPlateau::new(lr);
    plateau.factor = hyper.opt_f64("factor").unwrap_or(plateau.factor);
    plateau.min_lr = hyper.opt_f64("min_lr").unwrap_or(plateau.min_lr);
    plateau.eps = hyper.opt_f64("eps").unwrap_or(plateau.eps);
    let count = |key: &str, default: u64| hyper.opt_int(key).map_or(Ok(default), u64::try_from);
    (plateau.patience, plateau.cooldown) = (count("patience", plateau.patience)?, count("cooldown", 0)?);
    let is = |key: &str, value: &str| hyper.get(key).is_some_and(|v| v == value);
    let threshold = hyper.opt_f64("threshold").unwrap_or(1e-4);
    let absolute = is("threshold_mode", "abs");
    plateau.threshold =
        if absolute { Threshold::Absolute(threshold) } else { Threshold::Relative(threshold) };
    plateau.goal = if is("mode", "max") { Goal::Max } else { Goal::Min };
    let metrics = a.list_of_f64("metrics").unwrap_or_default();
    let steps = usize::try_from(a.int("steps"))?;
    let after = metrics.into_iter().map(|metric| plateau.step(metric));
    Ok([lr].into_iter().chain(after).take(steps).collect())
}
