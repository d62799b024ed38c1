//! Matrix products. FLOPs: `2 · m · n · k`.

use crate::data::random;
use crate::form::{form, sure};
use crate::peers::{burn, candle, gradus as ours, ndarray};
use crate::row::{Peer, Reference, Row, Type, Work};
use gradus::prelude::*;
use gradus::{F32Mode, with_f32_mode};

/// `[m, k] · [k, n]` in numbers of 32 bits, or with `nt` `[m, k] · [n, k]ᵀ`, as a layer's weights stand.
fn f32_row(what: &str, [m, k, n]: [usize; 3], nt: bool) -> Row {
    let b = if nt { [n, k] } else { [k, n] };
    let name = format!("gemm/{what}/{m}x{k}x{n}/f32");
    let product = if nt { "a @ b.t()" } else { "torch.mm(a, b)" };
    Row::new(name, Work::Flops(2.0 * (m * k * n) as f64, Type::F32))
        .with(Peer::Gradus, move || {
            let (a, b) = (ours::tensor(1, [m, k]).map_err(text)?, ours::tensor(2, b).map_err(text)?);
            if nt { form(move || a.matmul(&b.t()?)) } else { form(move || a.matmul(&b)) }
        })
        .with(Peer::Candle, move || {
            let (a, b) =
                (candle::tensor(1, (m, k)).map_err(text)?, candle::tensor(2, (b[0], b[1])).map_err(text)?);
            if nt { form(move || a.matmul(&b.t()?)) } else { form(move || a.matmul(&b)) }
        })
        .with(Peer::Burn, move || {
            let (a, b) = (burn::tensor(1, [m, k]), burn::tensor(2, b));
            sure(move || a.clone().matmul(if nt { b.clone().transpose() } else { b.clone() }))
        })
        .with(Peer::Ndarray, move || {
            let (a, b) = (ndarray::array(1, (m, k)), ndarray::array(2, (b[0], b[1])));
            sure(move || if nt { a.dot(&b.t()) } else { a.dot(&b) })
        })
        .torch(format!("a = rnd(1, {m}, {k}); b = rnd(2, {}, {})\nf = lambda: {product}", b[0], b[1]))
        .exact(move || exact([m, k, n], nt))
}

/// As [`f32_row`], in a mode of Gradus; the others have none.
fn mode_row(mode: F32Mode, n: usize, of: Type, tolerance: f32) -> Row {
    let name = format!("gemm/{}/{n}x{n}x{n}/f32", mode.name());
    Row::new(name, Work::Flops(2.0 * (n * n * n) as f64, of))
        .within(tolerance)
        .with(Peer::Gradus, move || {
            let (a, b) = (ours::tensor(1, [n, n]).map_err(text)?, ours::tensor(2, [n, n]).map_err(text)?);
            form(move || with_f32_mode(mode, || a.matmul(&b)))
        })
        .torch(format!("a = rnd(1, {n}, {n}); b = rnd(2, {n}, {n})\nf = lambda: torch.mm(a, b)"))
        .exact(move || exact([n, n, n], false))
}

/// A layer without bias and graph: its weights may be kept packed between calls.
fn layer_row([m, k, n]: [usize; 3]) -> Row {
    Row::new(format!("gemm/linear/{m}x{k}x{n}/f32"), Work::Flops(2.0 * (m * k * n) as f64, Type::F32))
        .with(Peer::Gradus, move || {
            let layer = Linear::new(k, n, &mut Init::new(0)).map_err(text)?.no_bias();
            layer.weight.set(ours::tensor(2, [n, k]).map_err(text)?).map_err(text)?;
            let x = Var::from(ours::tensor(1, [m, k]).map_err(text)?);
            form(move || no_grad(|| layer.forward(&x)))
        })
        .with(Peer::Candle, move || {
            let (x, w) = (candle::tensor(1, (m, k)).map_err(text)?, candle::tensor(2, (n, k)).map_err(text)?);
            let layer = candle_nn::Linear::new(w, None);
            form(move || candle_nn::Module::forward(&layer, &x))
        })
        .with(Peer::Burn, move || {
            let (a, b) = (burn::tensor(1, [m, k]), burn::tensor(2, [n, k]));
            sure(move || a.clone().matmul(b.clone().transpose()))
        })
        .torch(format!("x = rnd(1, {m}, {k}); w = rnd(2, {n}, {k})\nf = lambda: F.linear(x, w)"))
        .exact(move || exact([m, k, n], true))
}

/// Products of numbers of 16 bits.
fn half_row(n: usize, dtype: DType, torch: &str, of: Type) -> Row {
    let candle_type = if dtype == DType::BF16 { candle_core::DType::BF16 } else { candle_core::DType::F16 };
    let short = if dtype == DType::BF16 { "bf16" } else { "f16" };
    Row::new(format!("gemm/nn/{n}x{n}x{n}/{short}"), Work::Flops(2.0 * (n * n * n) as f64, of))
        .within(3e-2)
        .with(Peer::Gradus, move || {
            let half = |seed| ours::tensor(seed, [n, n]).and_then(|t| t.to_dtype(dtype)).map_err(text);
            let (a, b) = (half(1)?, half(2)?);
            form(move || a.matmul(&b))
        })
        .with(Peer::Candle, move || {
            let half =
                |seed| candle::tensor(seed, (n, n)).and_then(|t| t.to_dtype(candle_type)).map_err(text);
            let (a, b) = (half(1)?, half(2)?);
            form(move || a.matmul(&b))
        })
        .torch(format!(
            "a = rnd(1, {n}, {n}).{torch}(); b = rnd(2, {n}, {n}).{torch}()\nf = lambda: torch.mm(a, b)"
        ))
}

/// Products of bytes, summed in integers of 32 bits.
fn byte_row([m, k, n]: [usize; 3]) -> Row {
    Row::new(format!("gemm/int_mm/{m}x{k}x{n}/i8"), Work::Flops(2.0 * (m * k * n) as f64, Type::I8))
        .within(0.0)
        .with(Peer::Gradus, move || {
            let bytes = |seed, shape: [usize; 2]| {
                ours::labels(seed, shape, 255).and_then(|t| t.sub_scalar(127)?.to_dtype(DType::I8)).map_err(text)
            };
            let (a, b) = (bytes(1, [m, k])?, bytes(2, [k, n])?);
            form(move || a.int_mm(&b))
        })
        .torch(format!(
            "a = (ints(1, {m}, {k}, below=255) - 127).to(torch.int8)\nb = (ints(2, {k}, {n}, below=255) - 127).to(torch.int8)\n\
             f = lambda: torch._int_mm(a, b)"
        ))
}

/// The product in f64, element by element.
fn exact([m, k, n]: [usize; 3], nt: bool) -> Reference {
    let (a, b) = (random(1, m * k, 1.0), random(2, k * n, 1.0));
    Box::new(move |at| {
        let (i, j) = (at / n, at % n);
        (0..k).fold((0.0, 0.0), |(sum, scale), l| {
            let product = f64::from(a[i * k + l]) * f64::from(b[if nt { j * k + l } else { l * n + j }]);
            (sum + product, scale + product.abs())
        })
    })
}

/// An error as text.
pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(crate) fn rows() -> Vec<Row> {
    let square = |n| f32_row("nn", [n, n, n], false);
    vec![
        square(256).quick(),
        square(512),
        square(1024).quick(),
        square(2048),
        mode_row(F32Mode::Strict, 1024, Type::StrictF32, 1e-4),
        mode_row(F32Mode::Strict, 2048, Type::StrictF32, 1e-4),
        mode_row(F32Mode::Fast, 1024, Type::FastF32, 1e-3),
        mode_row(F32Mode::Bf16, 1024, Type::BF16, 3e-2),
        f32_row("nt", [1024, 1024, 1024], true),
        f32_row("nn", [32, 1024, 4096], false),
        layer_row([32, 1024, 4096]).quick(),
        f32_row("nn", [32, 256, 1024], false),
        layer_row([32, 256, 1024]),
        layer_row([64, 784, 128]),
        f32_row("nn", [1, 4096, 4096], false),
        layer_row([1, 4096, 4096]),
        square(16).quick(),
        square(64),
        half_row(1024, DType::BF16, "bfloat16", Type::BF16).quick(),
        half_row(2048, DType::BF16, "bfloat16", Type::BF16),
        half_row(1024, DType::F16, "half", Type::F16),
        byte_row([1024, 1024, 1024]),
        byte_row([32, 1024, 4096]),
    ]
}
