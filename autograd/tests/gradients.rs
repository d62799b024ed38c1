//! Every rule against finite differences: the tables are walked, so a new row is tested the moment it exists.

use gradus_autograd::{Backward, CheckOptions, ClassLoss, Reduction, Var, gradcheck, gradgradcheck};
use tensor::op::{BinaryOp, UnaryOp};
use tensor::{Conv, DType, Device, Distribution, Generator, Pool, Result, Tensor};

fn random(shape: &[usize], seed: u64) -> Tensor {
    let normal = Distribution::Normal { mean: 0.0, std: 1.0 };
    Tensor::random(normal, shape, (DType::F64, &Device::cpu()), &mut Generator::new(seed))
        .expect("a small tensor")
}

/// Values inside `(low, high)`, away from kinks at multiples of 1.
fn within(shape: &[usize], low: f64, high: f64, seed: u64) -> Tensor {
    let uniform = Distribution::Uniform { low, high };
    Tensor::random(uniform, shape, (DType::F64, &Device::cpu()), &mut Generator::new(seed))
        .expect("a small tensor")
}

/// Where an op is smooth.
fn domain(op: UnaryOp) -> (f64, f64) {
    use UnaryOp::{
        Abs, Acos, Asin, Ceil, Floor, Hardsigmoid, Hardswish, Log, Log1p, Log2, Log10, Recip, Relu, Relu6,
        Round, Rsqrt, Sign, Sqrt, Trunc,
    };
    match op {
        Sqrt | Rsqrt | Log | Log2 | Log10 | Recip => (0.3, 3.0),
        Asin | Acos => (-0.9, 0.9),
        Log1p => (-0.6, 2.0),
        Floor | Ceil | Round | Trunc => (0.1, 0.4),
        Abs | Sign | Relu | Relu6 | Hardswish | Hardsigmoid => (0.1, 2.5),
        // Smooth everywhere: so is what a new op is taken for, until it gets a line here.
        _ => (-1.4, 1.4),
    }
}

#[test]
fn every_unary_rule_is_the_slope_of_its_op() {
    for (i, &op) in UnaryOp::ALL.iter().enumerate() {
        let (low, high) = domain(op);
        let x = within(&[2, 3], low, high, i as u64);
        for x in [x.clone(), x.t().unwrap()] {
            gradcheck(|v| v[0].unary(op), std::slice::from_ref(&x), &CheckOptions::default())
                .unwrap_or_else(|e| panic!("{}: {e}", op.name()));
            gradgradcheck(|v| v[0].unary(op), &[x], &CheckOptions { rtol: 1e-4, ..Default::default() })
                .unwrap_or_else(|e| panic!("second derivative of {}: {e}", op.name()));
        }
    }
}

/// Values at which rules tend to go wrong, and others.
fn edges(dtype: DType) -> Tensor {
    let edges = [0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 20.0, 25.0, -25.0, f64::NAN, 1e-3, 0.5, -0.7, 2.2];
    Tensor::from_slice(&edges, [3, 5], &Device::cpu())
        .and_then(|x| x.to_dtype(dtype))
        .expect("a small tensor")
}

#[test]
fn the_gradient_in_one_pass_is_that_of_the_rule() -> Result<()> {
    for (&op, dtype) in
        UnaryOp::ALL.iter().flat_map(|op| [(op, DType::F64), (op, DType::F32), (op, DType::BF16)])
    {
        let g = random(&[3, 5], 9).to_dtype(dtype)?;
        for x in [edges(dtype), edges(dtype).t()?] {
            let g = if x.dims() == g.dims() { g.clone() } else { g.t()? };
            let leaf = Var::leaf(x.clone());
            let pass = |create_graph| {
                let options = Backward { gradient: Some(g.clone()), create_graph, ..Default::default() };
                leaf.unary(op)?.backward_with(&options)?.get(&leaf)?.to_dtype(DType::F64)?.to_vec::<f64>()
            };
            let (once, composed) = (pass(false)?, pass(true)?);
            let unit = match dtype {
                DType::F64 => 1e-13,
                DType::F32 => 4e-6,
                _ => 0.03,
            };
            for (i, (a, b)) in once.iter().zip(&composed).enumerate() {
                let close = (a - b).abs() <= unit * (1.0 + b.abs()) || a == b || (a.is_nan() && b.is_nan());
                assert!(close, "{} of {dtype} at {i}: {a} and {b}", op.name());
            }
        }
    }
    Ok(())
}

#[test]
fn every_binary_rule_is_the_slope_of_its_op() {
    use BinaryOp::{Elu, FloorDivide, Fmod, LeakyRelu, Remainder};
    for (i, &op) in BinaryOp::ALL.iter().enumerate() {
        let i = i as u64;
        // Away from jumps of the rounding ops, kinks and ties.
        let (a, b) = match op {
            FloorDivide | Remainder | Fmod => {
                (within(&[2, 1, 3], 3.1, 3.4, i), within(&[4, 1], 1.2, 1.4, i + 100))
            }
            _ => (within(&[2, 1, 3], 0.5, 1.4, i), within(&[4, 1], 1.5, 2.5, i + 100)),
        };
        gradcheck(|v| v[0].binary(op, &v[1]), &[a.clone(), b.clone()], &CheckOptions::default())
            .unwrap_or_else(|e| panic!("{}: {e}", op.name()));
        gradgradcheck(
            |v| v[0].binary(op, &v[1]),
            &[a, b],
            &CheckOptions { rtol: 1e-4, ..Default::default() },
        )
        .unwrap_or_else(|e| panic!("second derivative of {}: {e}", op.name()));
    }
    for op in [LeakyRelu, Elu] {
        let (a, slope) = (within(&[5], -1.5, -0.2, 7), within(&[1], 0.1, 0.4, 8));
        gradcheck(|v| v[0].binary(op, &v[1]), &[a, slope], &CheckOptions::default()).unwrap();
    }
}

type Case = (&'static str, fn(&[Var]) -> Result<Var>, Vec<Tensor>);

#[test]
fn composite_and_structural_rules_are_slopes() {
    let x = || random(&[2, 3, 4], 1);
    let image = || random(&[2, 4, 5, 6], 2);
    fn picks() -> Tensor {
        Tensor::from_slice(&[2i64, 0, 2], [3], &Device::cpu()).expect("a small tensor")
    }
    let cases: Vec<Case> = vec![
        (
            "add_scalar",
            |v| v[0].add_scalar(2.0)?.mul_scalar(3.0)?.div_scalar(1.5)?.sub_scalar(1.0),
            vec![x()],
        ),
        ("scalar_binary", |v| &(2.0 - &v[0])? * &(1.0 / &v[0])?, vec![within(&[3], 0.5, 2.0, 3)]),
        ("pow_scalar", |v| v[0].pow_scalar(2.5), vec![within(&[4], 0.5, 2.0, 3)]),
        ("clamp", |v| v[0].clamp(Some(-0.5), Some(0.7)), vec![x()]),
        ("sum", |v| v[0].sum([0, 2], false), vec![x()]),
        ("mean", |v| v[0].mean(1, true), vec![x()]),
        ("var", |v| v[0].var([1, 2], 1, false), vec![x()]),
        ("std", |v| v[0].std(-1, 0, false), vec![x()]),
        ("amax", |v| v[0].amax([0, 1], false), vec![x()]),
        ("min", |v| Ok(v[0].min(1, false)?.0), vec![x()]),
        ("prod", |v| v[0].prod([0, 2], false), vec![x()]),
        ("logsumexp", |v| v[0].logsumexp([1], true), vec![x()]),
        ("norm 2", |v| v[0].norm(2.0, [0], false), vec![x()]),
        ("norm 3", |v| v[0].norm(3.0, .., false), vec![x()]),
        ("cumsum", |v| v[0].cumsum(1), vec![x()]),
        ("cumprod", |v| v[0].cumprod(1), vec![within(&[2, 3, 4], 0.5, 1.5, 5)]),
        ("cummax", |v| Ok(v[0].cummax(1)?.0), vec![x()]),
        ("cummin", |v| Ok(v[0].cummin(-1)?.0), vec![x()]),
        ("logcumsumexp", |v| v[0].logcumsumexp(1), vec![x()]),
        ("var of all", |v| v[0].var(tensor::Dims::ALL, 0, false), vec![x()]),
        ("reshape", |v| v[0].reshape([4, 6])?.t()?.flatten(0), vec![x()]),
        ("permute", |v| v[0].permute([2, 0, 1])?.exp(), vec![x()]),
        ("expand", |v| v[0].unsqueeze(1)?.expand([-1, 5, -1])?.tanh(), vec![random(&[2, 3], 4)]),
        ("slice", |v| v[0].slice(2, Some(1), None, 2)?.slice(1, Some(-2), None, 1)?.square(), vec![x()]),
        ("select", |v| v[0].select(1, -1)?.exp(), vec![x()]),
        ("flip roll", |v| v[0].flip([0, 2])?.roll(&[1, -2], &[1, 2])?.mul(&v[0]), vec![x()]),
        (
            "split cat",
            |v| Var::cat(&v[0].split(2, 2)?.iter().rev().cloned().collect::<Vec<_>>(), 2)?.mul(&v[0]),
            vec![x()],
        ),
        ("stack", |v| Var::stack(&[v[0].clone(), v[1].exp()?], 1), vec![x(), x()]),
        ("pad", |v| v[0].pad(&[1, 2, -1, 0], 0.5)?.square(), vec![x()]),
        ("repeat", |v| v[0].repeat(&[2, 1, 3, 2])?.cumsum(0), vec![x()]),
        ("tril", |v| v[0].tril(-1)?.add(&v[0].triu(1)?)?.square(), vec![x()]),
        ("matmul", |v| v[0].matmul(&v[1]), vec![random(&[2, 1, 3, 4], 5), random(&[3, 4, 2], 6)]),
        ("matmul vector", |v| v[0].matmul(&v[1]), vec![random(&[4], 5), random(&[3, 4, 2], 6)]),
        ("matmul column", |v| v[0].matmul(&v[1]), vec![random(&[3, 2, 4], 5), random(&[4], 6)]),
        ("dot", |v| v[0].matmul(&v[1]), vec![random(&[4], 5), random(&[4], 6)]),
        ("linear", |v| v[0].linear(&v[1], Some(&v[2])), vec![x(), random(&[5, 4], 7), random(&[5], 8)]),
        ("gather", |v| v[0].gather(1, &picks().reshape([1, 3, 1])?), vec![x()]),
        ("index_select", |v| v[0].index_select(1, &picks())?.square(), vec![x()]),
        ("index_add", |v| v[0].index_add(1, &picks(), &v[1])?.square(), vec![x(), x()]),
        (
            "scatter_add",
            |v| v[0].scatter_add(1, &picks().reshape([1, 3, 1])?, &v[1])?.square(),
            vec![x(), x()],
        ),
        ("embedding", |v| v[0].embedding(&picks().reshape([3, 1])?, None)?.exp(), vec![random(&[3, 4], 9)]),
        (
            "masked_select",
            |v| v[0].masked_select(&v[0].value().gt(&v[0].value().zeros_like()?)?)?.square(),
            vec![x()],
        ),
        ("sort", |v| v[0].sort(1, true)?.0.cumsum(1), vec![x()]),
        ("topk", |v| Ok(v[0].topk(2, -1, false)?.0), vec![x()]),
        ("softmax", |v| v[0].softmax(1), vec![x()]),
        ("log_softmax", |v| v[0].log_softmax(-1), vec![x()]),
        (
            "layer_norm",
            |v| v[0].layer_norm(&[3, 4], Some(&v[1]), Some(&v[2]), 1e-5),
            vec![x(), random(&[3, 4], 2), random(&[3, 4], 3)],
        ),
        ("layer_norm plain", |v| v[0].layer_norm(&[4], None, None, 1e-5), vec![x()]),
        ("rms_norm", |v| v[0].rms_norm(&[4], Some(&v[1]), 1e-6), vec![x(), random(&[4], 2)]),
        (
            "group_norm",
            |v| v[0].group_norm(2, Some(&v[1]), Some(&v[2]), 1e-5),
            vec![image(), random(&[4], 2), random(&[4], 3)],
        ),
        (
            "batch_norm",
            |v| Ok(v[0].batch_norm_training(Some(&v[1]), Some(&v[2]), 1e-5)?.0),
            vec![image(), random(&[4], 2), random(&[4], 3)],
        ),
        (
            "batch_norm_eval",
            |v| {
                let stat = Tensor::from_slice(&[0.5f64, 1.0, 2.0, 0.1], [4], &Device::cpu())?;
                v[0].batch_norm_eval(&stat, &stat, Some(&v[1]), None, 1e-5)
            },
            vec![image(), random(&[4], 2)],
        ),
        (
            "conv2d",
            |v| v[0].conv2d(&v[1], Some(&v[2]), &Conv::default().stride(2).padding([1, 2]).dilation([2, 1])),
            vec![image(), random(&[3, 4, 2, 3], 3), random(&[3], 4)],
        ),
        (
            "conv2d groups",
            |v| v[0].conv2d(&v[1], None, &Conv::default().groups(2).padding(1)),
            vec![image(), random(&[6, 2, 3, 3], 3)],
        ),
        (
            "conv1d",
            |v| v[0].conv1d(&v[1], None, &Conv::default().padding(1)),
            vec![x(), random(&[2, 3, 3], 3)],
        ),
        (
            "conv_transpose",
            |v| v[0].conv_transpose(&v[1], Some(&v[2]), &Conv::default().stride(2).padding(1), 1),
            vec![image(), random(&[4, 3, 3, 3], 3), random(&[3], 4)],
        ),
        ("max_pool2d", |v| v[0].max_pool2d(Pool::new(3).stride(2).padding(1)), vec![image()]),
        (
            "avg_pool2d",
            |v| v[0].avg_pool2d(Pool::new(2).stride(1).padding(1).count_include_pad(false)),
            vec![image()],
        ),
        ("avg_pool2d divisor", |v| v[0].avg_pool2d(Pool::new(2).divisor_override(3)), vec![image()]),
        ("adaptive_avg_pool2d", |v| v[0].adaptive_avg_pool2d([2, 4]), vec![image()]),
        ("adaptive_max_pool2d", |v| v[0].adaptive_max_pool2d([2, 3]), vec![image()]),
        ("adaptive_max_pool1d", |v| v[0].adaptive_max_pool1d(2), vec![x()]),
        (
            "cross_entropy of planes",
            |v| {
                let classes = Tensor::from_slice(&[0i64, 2, 1, -1, 2, 2, 0, 1], [2, 4], &Device::cpu())?;
                let options = ClassLoss { ignore_index: -1, reduction: Reduction::Sum, ..Default::default() };
                v[0].cross_entropy_with(&classes, &options)
            },
            vec![x()],
        ),
        (
            "cross_entropy of each row",
            |v| {
                v[0].cross_entropy_with(
                    &picks(),
                    &ClassLoss { reduction: Reduction::None, ..Default::default() },
                )
            },
            vec![random(&[3, 5], 3)],
        ),
        ("cross_entropy", |v| v[0].cross_entropy(&picks()), vec![random(&[3, 5], 3)]),
        (
            "cross_entropy options",
            |v| {
                let weight = Tensor::from_slice(&[1f64, 2.0, 0.5, 1.0, 3.0], [5], &Device::cpu())?;
                v[0].cross_entropy_with(
                    &picks(),
                    &ClassLoss {
                        weight: Some(weight),
                        ignore_index: 0,
                        label_smoothing: 0.1,
                        ..Default::default()
                    },
                )
            },
            vec![random(&[3, 5], 3)],
        ),
        ("mse_loss", |v| v[0].mse_loss(&v[1], Reduction::Mean), vec![x(), random(&[2, 3, 4], 9)]),
        ("huber_loss", |v| v[0].huber_loss(&v[1], 0.7, Reduction::Sum), vec![x(), random(&[2, 3, 4], 9)]),
        (
            "bce_with_logits_loss",
            |v| v[0].bce_with_logits_loss(&v[1], None, None, Reduction::Mean),
            vec![x(), within(&[2, 3, 4], 0.1, 0.9, 9)],
        ),
        ("kl_div", |v| v[0].kl_div(&v[1], false, Reduction::Sum), vec![x(), within(&[2, 3, 4], 0.1, 0.9, 9)]),
    ];
    for (name, f, inputs) in cases {
        gradcheck(f, &inputs, &CheckOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        gradgradcheck(f, &inputs, &CheckOptions { rtol: 1e-4, atol: 1e-6, ..Default::default() })
            .unwrap_or_else(|e| panic!("second derivative of {name}: {e}"));
    }
}

#[test]
fn recurrent_layers_have_first_and_second_derivatives() {
    use gradus_autograd::{RnnVars, rnn, rnn_bidirectional};
    use tensor::{RnnKind, RnnSpec};
    let vars = |x: &Var, v: &[Var]| RnnVars {
        x: x.clone(),
        h0: v[0].clone(),
        c0: v.get(5).cloned(),
        weight_ih: v[1].clone(),
        weight_hh: v[2].clone(),
        bias_ih: Some(v[3].clone()),
        bias_hh: Some(v[4].clone()),
    };
    for kind in [RnnKind::Tanh, RnnKind::Lstm, RnnKind::Gru] {
        // Forwards, in reverse, and both.
        for direction in [Some(false), Some(true), None] {
            let rows = kind.gates() * 2;
            let (weight_ih, weight_hh, bias) = ([rows, 4], [rows, 2], [rows]);
            let mut shapes: Vec<&[usize]> = vec![&[2, 2], &weight_ih, &weight_hh, &bias, &bias];
            if kind == RnnKind::Lstm {
                shapes.push(&[2, 2]);
            }
            let of_one = shapes.len();
            let mut inputs = vec![random(&[3, 2, 4], 1)];
            for seed in [2, 20].into_iter().take(if direction.is_none() { 2 } else { 1 }) {
                inputs.extend(shapes.iter().zip(seed..).map(|(s, i)| random(s, i)));
            }
            let f = |v: &[Var]| {
                let y = match direction {
                    Some(reverse) => rnn(RnnSpec { kind, reverse }, &vars(&v[0], &v[1..]))?,
                    None => {
                        let (first, second) = v[1..].split_at(of_one);
                        rnn_bidirectional(kind, [&vars(&v[0], first), &vars(&v[0], second)])?
                    }
                };
                let mut all = vec![y.output.flatten(0)?, y.h_n.flatten(0)?];
                if let Some(c) = y.c_n {
                    all.push(c.square()?.flatten(0)?);
                }
                Var::cat(&all, 0)
            };
            gradcheck(f, &inputs, &CheckOptions::default()).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
            let loose = CheckOptions { rtol: 1e-4, atol: 1e-6, ..Default::default() };
            gradgradcheck(f, &inputs, &loose)
                .unwrap_or_else(|e| panic!("second derivative of {kind:?}: {e}"));
        }
    }
}
