//! Optimizers, clipping and schedules against answers recorded from PyTorch, and what they do about missing gradients.

use autograd::Gradients;
use gradus_nn::optim::*;
use gradus_nn::schedule::*;
use gradus_nn::state::load_tensors;
use gradus_nn::{
    Init, Linear, Module, Param, clip_grad_norm, clip_grad_norm_finite, clip_grad_value, module,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use tensor::{DType, Device, Result, Tensor};

fn cpu() -> Device {
    Device::cpu()
}

/// The recorded cases of one op, and their tensors.
fn recorded(op: &str) -> Vec<(Value, BTreeMap<String, Tensor>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let text = std::fs::read_to_string(folder.join("optim.json")).unwrap();
    let tensors = load_tensors(folder.join("optim.safetensors"), &cpu()).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let of_op = cases["cases"].as_array().unwrap().iter().filter(|case| case["op"] == op);
    let with_tensors = of_op.map(|case| {
        let named = |list: &Value| -> Vec<(String, Tensor)> {
            let entries = list.as_array().into_iter().flatten();
            let tensor = |e: &Value| tensors[e["tensor"].as_str().unwrap()].to_dtype(DType::F64).unwrap();
            entries.map(|e| (e["name"].as_str().unwrap().to_string(), tensor(e))).collect()
        };
        let all = named(&case["inputs"]).into_iter().chain(named(&case["outputs"]));
        (case.clone(), all.collect())
    });
    with_tensors.collect()
}

fn assert_close(got: &Tensor, expected: &Tensor, what: &Value) {
    // The tolerance of the recorded answers in double precision.
    assert!(got.all_close(expected, 1e-10, 1e-11).unwrap(), "{what}: got {got}, expected {expected}");
}

/// The optimizer of a recorded case.
fn optimizer(model: &Vec<Param>, kind: &str, hyper: &Value) -> Result<Box<dyn Optimizer>> {
    let number = |name: &str, default: f64| hyper.get(name).and_then(Value::as_f64).unwrap_or(default);
    let flag = |name: &str| hyper.get(name).and_then(Value::as_bool).unwrap_or(false);
    let betas = |(a, b): (f64, f64)| match hyper.get("betas") {
        Some(betas) => (betas[0].as_f64().unwrap(), betas[1].as_f64().unwrap()),
        None => (a, b),
    };
    Ok(match kind {
        "sgd" => Box::new(Sgd::new(
            model,
            SgdConfig {
                lr: number("lr", 1e-3),
                momentum: number("momentum", 0.0),
                dampening: number("dampening", 0.0),
                weight_decay: number("weight_decay", 0.0),
                nesterov: flag("nesterov"),
                maximize: flag("maximize"),
            },
        )?),
        "adam" => {
            let d = AdamConfig::default();
            Box::new(Adam::new(
                model,
                AdamConfig {
                    lr: number("lr", d.lr),
                    betas: betas(d.betas),
                    eps: number("eps", d.eps),
                    weight_decay: number("weight_decay", d.weight_decay),
                    amsgrad: flag("amsgrad"),
                },
            )?)
        }
        "adamw" => {
            let d = AdamWConfig::default();
            Box::new(AdamW::new(
                model,
                AdamWConfig {
                    lr: number("lr", d.lr),
                    betas: betas(d.betas),
                    eps: number("eps", d.eps),
                    weight_decay: number("weight_decay", d.weight_decay),
                    amsgrad: flag("amsgrad"),
                },
            )?)
        }
        "rmsprop" => {
            let d = RmsPropConfig::default();
            Box::new(RmsProp::new(
                model,
                RmsPropConfig {
                    lr: number("lr", d.lr),
                    alpha: number("alpha", d.alpha),
                    eps: number("eps", d.eps),
                    weight_decay: number("weight_decay", 0.0),
                    momentum: number("momentum", 0.0),
                    centered: flag("centered"),
                },
            )?)
        }
        "adagrad" => {
            let d = AdaGradConfig::default();
            Box::new(AdaGrad::new(
                model,
                AdaGradConfig {
                    lr: number("lr", d.lr),
                    lr_decay: number("lr_decay", 0.0),
                    weight_decay: number("weight_decay", 0.0),
                    ..d
                },
            )?)
        }
        other => panic!("no optimizer is called {other}"),
    })
}

#[test]
fn optimizers_take_the_recorded_steps() {
    let cases = recorded("optim");
    assert!(cases.len() >= 26);
    for (case, tensors) in cases {
        let args = &case["args"];
        let model: Vec<Param> = (0..2)
            .filter_map(|i| tensors.get(&format!("p{i}")))
            .map(|p| Param::new(p.copy().unwrap()))
            .collect();
        let made = optimizer(&model, args["kind"].as_str().unwrap(), &args["hyper"]);
        if case["expect"] == "error" {
            assert!(made.is_err(), "{case}");
            continue;
        }
        let mut optimizer = made.unwrap();
        for step in 0..args["steps"].as_u64().unwrap() {
            let skipped = |i: usize| {
                let skipped = args["skip"][step.to_string()].as_array().cloned().unwrap_or_default();
                skipped.contains(&Value::from(i))
            };
            let mut gradients = Gradients::default();
            for (i, param) in model.iter().enumerate() {
                if skipped(i) {
                    param.freeze();
                } else {
                    param.unfreeze();
                    let g = tensors[&format!("g{i}")].select(0, step as isize).unwrap();
                    gradients.set(&param.leaf(), g);
                }
            }
            optimizer.step(&gradients).unwrap();
        }
        for (i, param) in model.iter().enumerate() {
            assert_close(&param.value(), &tensors[&format!("o{i}")], args);
        }
    }
}

fn gradients_of(tensors: &BTreeMap<String, Tensor>) -> (Vec<Param>, Gradients) {
    let given = (0..).map_while(|i| tensors.get(&format!("g{i}")));
    let mut gradients = Gradients::default();
    let model = given.map(|g| {
        let param = Param::new(g.zeros_like().unwrap());
        gradients.set(&param.leaf(), g.clone());
        param
    });
    (model.collect(), gradients)
}

#[test]
fn clipping_gives_the_recorded_gradients() {
    for (case, tensors) in recorded("clip_grad_norm") {
        let (model, mut gradients) = gradients_of(&tensors);
        let norm_type = case["args"]["norm_type"].as_f64().unwrap_or(f64::INFINITY);
        let max_norm = case["args"]["max_norm"].as_f64().unwrap();
        let total = clip_grad_norm(&mut gradients, &model, max_norm, norm_type).unwrap();
        let outputs = case["outputs"].as_array().unwrap();
        let total = Tensor::full((), total, (DType::F64, &cpu())).unwrap();
        let got = model.iter().map(|p| gradients.get(&p.leaf()).unwrap().clone());
        // The total is recorded before or after the gradients: it is the one output more.
        let mut got: Vec<Tensor> = got.collect();
        let named = |i: usize| &tensors[outputs[i]["name"].as_str().unwrap()];
        match named(0).dims() == [3, 4] {
            true => got.push(total),
            false => got.insert(0, total),
        }
        assert_eq!(got.len(), outputs.len());
        got.iter().enumerate().for_each(|(i, got)| assert_close(got, named(i), &case["args"]));
    }
    for (case, tensors) in recorded("clip_grad_value") {
        let (model, mut gradients) = gradients_of(&tensors);
        clip_grad_value(&mut gradients, &model, case["args"]["value"].as_f64().unwrap()).unwrap();
        for (param, output) in model.iter().zip(case["outputs"].as_array().unwrap()) {
            let expected = &tensors[output["name"].as_str().unwrap()];
            assert_close(gradients.get(&param.leaf()).unwrap(), expected, &case["args"]);
        }
    }
}

#[test]
fn a_norm_that_is_not_finite_names_its_origin() {
    let given = |values: [f32; 2]| Tensor::from_slice(&values, [2], &cpu()).unwrap();
    let model = Linear::new(2, 1, &mut Init::new(1)).unwrap();
    let mut gradients = Gradients::default();
    gradients.set(&model.weight.leaf(), given([1.0, 2.0]).reshape([1, 2]).unwrap());
    let bias = model.bias.as_ref().unwrap();
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        gradients.set(&bias.leaf(), Tensor::from_slice(&[bad], [1], &cpu()).unwrap());
        let error = clip_grad_norm_finite(&mut gradients, &model, 1.0, 2.0).unwrap_err().to_string();
        assert_eq!(error, format!("clip_grad_norm: the norm of the gradients is {shown}, {shown} from bias"));
        let kept = gradients.get(&model.weight.leaf()).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(kept, [1.0, 2.0]);
    }
    assert!(clip_grad_norm(&mut gradients, &model, 1.0, 2.0).unwrap().is_infinite());
    assert!(clip_grad_norm(&mut gradients, &model, -1.0, 2.0).is_err());
    assert!(clip_grad_norm(&mut gradients, &model, 1.0, 0.0).is_err());
    assert!(clip_grad_value(&mut gradients, &model, f64::NAN).is_err());
}

#[test]
fn schedules_give_the_recorded_rates() {
    let cases = recorded("lr_sched");
    assert!(cases.len() >= 13);
    for (case, tensors) in cases {
        let (args, hyper) = (&case["args"], &case["args"]["hyper"]);
        let number = |name: &str, default: f64| hyper.get(name).and_then(Value::as_f64).unwrap_or(default);
        let whole = |name: &str| hyper.get(name).and_then(Value::as_u64).unwrap_or(0);
        let lr = args["base_lr"].as_f64().unwrap();
        let steps = args["steps"].as_u64().unwrap();
        let schedule: Box<dyn Schedule> = match args["kind"].as_str().unwrap() {
            "step" => Box::new(StepLr { lr, step_size: whole("step_size"), gamma: number("gamma", 0.1) }),
            "multi_step" => {
                let milestones = hyper["milestones"].as_array().unwrap();
                let milestones = milestones.iter().map(|m| m.as_u64().unwrap()).collect();
                Box::new(MultiStep { lr, milestones, gamma: number("gamma", 0.1) })
            }
            "exponential" => Box::new(Exponential { lr, gamma: number("gamma", 0.1) }),
            "cosine" => {
                Box::new(CosineAnnealing { lr, t_max: whole("T_max"), eta_min: number("eta_min", 0.0) })
            }
            "linear" => Box::new(LinearLr {
                lr,
                start_factor: number("start_factor", 1.0 / 3.0),
                end_factor: number("end_factor", 1.0),
                total_iters: whole("total_iters"),
            }),
            "one_cycle" => Box::new(OneCycle {
                pct_start: number("pct_start", 0.3),
                anneal: if hyper["anneal_strategy"] == "linear" { Anneal::Linear } else { Anneal::Cosine },
                div_factor: number("div_factor", 25.0),
                final_div_factor: number("final_div_factor", 1e4),
                three_phase: hyper["three_phase"] == true,
                ..OneCycle::new(number("max_lr", 0.0), whole("total_steps")).unwrap()
            }),
            "plateau" => {
                let much = number("threshold", 1e-4);
                let absolute = hyper["threshold_mode"] == "abs";
                let mut plateau = ReduceLrOnPlateau {
                    factor: number("factor", 0.1),
                    patience: whole("patience"),
                    cooldown: whole("cooldown"),
                    min_lr: number("min_lr", 0.0),
                    goal: if hyper["mode"] == "max" { Goal::Max } else { Goal::Min },
                    threshold: if absolute { Threshold::Absolute(much) } else { Threshold::Relative(much) },
                    ..ReduceLrOnPlateau::new(lr)
                };
                let metrics = args["metrics"].as_array().unwrap().clone();
                let mut rates = vec![lr];
                rates.extend(metrics.iter().map(|m| plateau.step(m.as_f64().unwrap())));
                Box::new(move |step: u64| rates[step as usize])
            }
            other => panic!("no schedule is called {other}"),
        };
        let rates: Vec<f64> = (0..steps).map(|step| schedule.lr(step)).collect();
        let rates = Tensor::from_slice(&rates, [rates.len()], &cpu()).unwrap();
        assert_close(&rates, &tensors[case["outputs"][0]["name"].as_str().unwrap()], args);
    }
}

struct Two {
    used: Linear,
    other: Linear,
}
module!(Two { used, other });

fn two() -> Two {
    let mut init = Init::new(5);
    Two { used: Linear::new(3, 3, &mut init).unwrap(), other: Linear::new(3, 3, &mut init).unwrap() }
}

fn values(model: &impl Module) -> Vec<Vec<f32>> {
    model.params().iter().map(|(_, p)| p.value().to_vec().unwrap()).collect()
}

#[test]
fn a_parameter_without_a_gradient_is_an_error_that_changes_nothing() {
    let model = two();
    let mut sgd = Sgd::new(&model, SgdConfig { lr: 0.1, ..Default::default() }).unwrap();
    let before = values(&model);
    let loss = || model.used.weight.var().square().unwrap().sum_all().unwrap();
    let sum = loss().add(&model.used.bias.as_ref().unwrap().var().sum_all().unwrap()).unwrap();
    let error = sgd.step(&sum.backward().unwrap()).unwrap_err().to_string();
    assert_eq!(
        error,
        "optimizer step: other.weight got no gradient: it took no part in computing the loss; \
         use it, or take it out of training on purpose with freeze()"
    );
    assert_eq!(values(&model), before);
    model.other.freeze();
    let sum = loss().add(&model.used.bias.as_ref().unwrap().var().sum_all().unwrap()).unwrap();
    sgd.step(&sum.backward().unwrap()).unwrap();
    let after = values(&model);
    assert!(after[0] != before[0] && after[1] != before[1] && after[2..] == before[2..]);
}

#[test]
fn the_op_that_cut_a_parameter_off_is_named() {
    let model: Vec<Param> = (0..2).map(|_| Param::new(Tensor::ones([2], &cpu()).unwrap())).collect();
    let mut adam = Adam::new(&model, AdamConfig::default()).unwrap();
    let cut = model[1].var().square().unwrap().detach();
    let loss = model[0].var().mul(&cut).unwrap().sum_all().unwrap();
    let error = adam.step(&loss.backward().unwrap()).unwrap_err().to_string();
    assert!(error.contains("1 got no gradient: its history was cut off by detach"), "{error}");
}

#[test]
fn groups_have_hyperparameters_of_their_own() {
    let model = Linear::new(2, 2, &mut Init::new(3)).unwrap();
    let config = SgdConfig { lr: 0.1, ..Default::default() };
    let mut sgd = Sgd::new(&model, config.clone())
        .unwrap()
        .group(|name| name.ends_with("bias"), SgdConfig { lr: 0.2, ..config.clone() })
        .unwrap();
    let step = |sgd: &mut Sgd| {
        let before = values(&model);
        let mut gradients = Gradients::default();
        model.params().iter().for_each(|(_, p)| gradients.set(&p.leaf(), p.value().ones_like().unwrap()));
        sgd.step(&gradients).unwrap();
        let after = values(&model);
        [0, 1].map(|i| before[i][0] - after[i][0])
    };
    let near = |got: [f32; 2], expected: [f32; 2]| (0..2).all(|i| (got[i] - expected[i]).abs() < 1e-6);
    assert!(near(step(&mut sgd), [0.1, 0.2]));
    sgd.set_lr(0.05); // groups keep their ratio
    assert!(near(step(&mut sgd), [0.05, 0.1]));
    assert!(Sgd::new(&model, config.clone()).unwrap().group(|name| name == "none", config).is_err());
}

#[test]
fn steps_work_in_the_memory_of_the_parameter() {
    let param = Param::new(Tensor::ones([64], &cpu()).unwrap());
    let mut adam = Adam::new(&param, AdamConfig::default()).unwrap();
    let address = |p: &Param| std::ptr::from_ref(p.value().storage()).cast::<u8>() as usize;
    let before = address(&param);
    for _ in 0..3 {
        let gradients = param.var().square().unwrap().sum_all().unwrap().backward().unwrap();
        adam.step(&gradients).unwrap();
    }
    assert_eq!(address(&param), before);
}

#[test]
fn hyperparameters_that_make_no_sense_are_errors() {
    let model = Param::new(Tensor::ones([2], &cpu()).unwrap());
    let error = Adam::new(&model, AdamConfig { betas: (0.9, 1.0), ..Default::default() }).unwrap_err();
    assert_eq!(error.to_string(), "adam: a second beta of 1 makes no sense");
    assert!(Sgd::new(&model, SgdConfig { lr: f64::NAN, ..Default::default() }).is_err());
    assert!(RmsProp::new(&model, RmsPropConfig { eps: -1.0, ..Default::default() }).is_err());
    assert!(AdaGrad::new(&model, AdaGradConfig { lr: f64::INFINITY, ..Default::default() }).is_err());
}

#[test]
fn a_state_of_something_else_is_refused_and_changes_nothing() {
    let model = Linear::new(2, 2, &mut Init::new(3)).unwrap();
    let mut adam = Adam::new(&model, AdamConfig::default()).unwrap();
    let mut gradients = Gradients::default();
    model.params().iter().for_each(|(_, p)| gradients.set(&p.leaf(), p.value().ones_like().unwrap()));
    adam.step(&gradients).unwrap();
    let good = adam.state().unwrap();
    assert_eq!(good.len(), 1 + 2 * 3);
    let keys = |s: BTreeMap<String, Tensor>| s.into_keys().collect::<Vec<_>>();
    let mut refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), words: &str| {
        let mut state = good.clone();
        change(&mut state);
        let error = adam.load_state(&state).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(keys(adam.state().unwrap()), keys(good.clone()));
    };
    let one = || Tensor::ones([1], &cpu()).unwrap();
    refused(&|s| drop(s.remove("lr")), "its state has no lr");
    refused(&|s| drop(s.remove("bias.exp_avg")), "its state has no bias.exp_avg");
    refused(&|s| drop(s.insert("weight.exp_avg".into(), one())), "(in weight.exp_avg)");
    refused(
        &|s| drop(s.insert("conv.exp_avg".into(), one())),
        "has conv.exp_avg, which belongs to no parameter",
    );
    refused(&|s| drop(s.insert("bias.step".into(), one())), "(in bias.step)");
}
