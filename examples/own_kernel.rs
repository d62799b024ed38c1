//! A CUDA kernel of one's own as a differentiable op: written, launched, tested and trained with.
//!
//! `cargo run --release --features cuda --example own_kernel`
//!
//! The kernels stand in `own_kernel.cu`. On a machine with a GPU and nvcc they run there. Anywhere else they run, as they are, on an
//! emulated GPU, which finds what a kernel does wrong; compiling it and the library's kernels for it takes minutes the first time.

use gradus::cuda::own::{In, Kernel, Kernels, Launch, Out, empty};
use gradus::cuda::{self, emulator};
use gradus::prelude::*;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// `y = x + sin²(a x) / a`: an activation that learns what is periodic (Ziyin et al., 2020).
#[derive(Clone)]
struct Snake(Arc<SnakeKernels>);

struct SnakeKernels {
    forward: Kernel<(Out<f32>, In<f32>, f32)>,
    backward: Kernel<(Out<f32>, In<f32>, In<f32>, f32)>,
}

impl Snake {
    fn new(device: &Device) -> Result<Snake> {
        let kernels = Kernels::compile(device, source(), folder())?;
        // SAFETY: both kernels have these parameters, and touch no element at or past the count of a slice: `run` gives all slices
        // of a launch the same count.
        let (forward, backward) = unsafe { (kernels.get("snake")?, kernels.get("snake_backward")?) };
        Ok(Snake(Arc::new(SnakeKernels { forward, backward })))
    }

    /// The op on tensors of any layout.
    fn forward(&self, x: &Tensor, a: f32) -> Result<Tensor> {
        let (x, mut y) = (x.contiguous()?, empty(x)?);
        self.0.forward.launch(Launch::over(x.numel(), 256), (&mut y, &x, a))?;
        Ok(y)
    }

    /// The gradient of `x`, from that of the result.
    fn backward(&self, grad: &Tensor, x: &Tensor, a: f32) -> Result<Tensor> {
        let (grad, x, mut dx) = (grad.contiguous()?, x.contiguous()?, empty(x)?);
        self.0.backward.launch(Launch::over(x.numel(), 256), (&mut dx, &grad, &x, a))?;
        Ok(dx)
    }

    /// The op on values with a history: what makes it differentiable is the rule.
    fn apply(&self, x: &Var, a: f32) -> Result<Var> {
        let (kernels, saved) = (self.clone(), x.clone());
        Ok(Var::record("snake", self.forward(x.value(), a)?, &[x], move |b| {
            Ok(vec![b.want(0, || kernels.gradient(b.grad(), &saved, a))?])
        }))
    }

    /// The gradient as a value with a history too, so that whoever asks for its gradient is told that there is none.
    fn gradient(&self, grad: &Var, x: &Var, a: f32) -> Result<Var> {
        let dx = self.backward(grad.value(), x.value(), a)?;
        Ok(Var::record("snake_backward", dx, &[grad, x], |_| {
            Err(gradus::Error::argument("snake", "it has no second derivative"))
        }))
    }
}

/// The same in ops of the library: what the kernels are tested against.
fn composed(x: &Var, a: f64) -> Result<Var> {
    x.add(&x.mul_scalar(a)?.sin()?.square()?.div_scalar(a)?)
}

/// The largest difference of values and gradients between the kernels and the composed form on the CPU, over shapes with tails, views
/// and no elements at all.
fn test(snake: &Snake, device: &Device) -> Result<f64> {
    let mut worst = 0f64;
    for dims in [[1usize, 1], [7, 37], [256, 2], [0, 5]] {
        let x = Tensor::randn(dims, &Device::cpu())?;
        let (here, there) = (Var::leaf(x.clone()), Var::leaf(x.to_device(device)?));
        // Turned around, so that rows are not where they lie in memory.
        let (y, expected) = (snake.apply(&there.t()?, 2.0)?, composed(&here.t()?, 2.0)?);
        let (grads, expected_grads) =
            (y.square()?.sum_all()?.backward()?, expected.square()?.sum_all()?.backward()?);
        let pairs = [
            (y.value().clone(), expected.value().clone()),
            (grads.get(&there)?.clone(), expected_grads.get(&here)?.clone()),
        ];
        for (got, expected) in pairs.iter().filter(|(got, _)| got.numel() > 0) {
            let difference =
                got.to_device(&Device::cpu())?.sub(expected)?.abs()?.flatten(0)?.max(0, false)?.0;
            worst = worst.max(difference.item()?);
        }
    }
    Ok(worst)
}

/// Fits `sin(3 x)` by one hidden layer with the activation; the losses before and after.
fn train(snake: &Snake, device: &Device) -> Result<(f64, f64)> {
    let mut init = Init::new(1).device(device);
    let (hidden, out) = (Linear::new(1, 16, &mut init)?, Linear::new(16, 1, &mut init)?);
    let model = Sequential::new().add(hidden.clone()).add(out.clone());
    let mut adam = Adam::new(&model, AdamConfig { lr: 0.02, ..Default::default() })?;
    let values: Vec<f32> = (0..64).map(|i| i as f32 / 16.0 - 2.0).collect();
    let x = Var::from(Tensor::from_slice(&values, [64, 1], device)?);
    let target = x.mul_scalar(3.0)?.sin()?;
    let mut losses = vec![];
    for _ in 0..40 {
        let y = out.forward(&snake.apply(&hidden.forward(&x)?, 2.0)?)?;
        let loss = y.sub(&target)?.square()?.mean_all()?;
        adam.step(&loss.backward()?)?;
        losses.push(loss.item()?);
    }
    Ok((losses[0], losses[losses.len() - 1]))
}

fn source() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/own_kernel.cu"))
}

/// Where compiled kernels are kept; the tests of this repository keep those of the emulator there too.
fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tmp"))
}

/// The device that the command line names; else the first GPU, where the system has one; else the emulated one. The emulator takes the
/// driver's place, so the driver is not asked first.
fn open() -> Result<Device> {
    let named = std::env::args().nth(1);
    let has_gpu = ["/dev/nvidia0", "/dev/dxg"].iter().any(|file| Path::new(file).exists());
    match named.as_deref() {
        Some(name) if name != "emulated" => gradus::device(name),
        None if has_gpu => cuda::device(0),
        _ => {
            println!("compiling the kernels for the emulated GPU");
            emulator::device(&[source().to_owned()], folder())
                .map_err(|error| gradus::Error::file(source(), error))
        }
    }
}

fn run() -> Result<()> {
    let device = open()?;
    println!("{}", cuda::devices()?[0]);
    let snake = Snake::new(&device)?;
    let worst = test(&snake, &device)?;
    println!("test: values and gradients are those of the composed form up to {worst:.1e}");
    if worst > 1e-4 {
        return Err(gradus::Error::argument("snake", "the kernels compute something else"));
    }
    let (before, after) = train(&snake, &device)?;
    println!("training: loss {before:.4} before, {after:.4} after 40 steps");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What a kernel did wrong is said by the emulator.
            let report = emulator::last_report().map(|report| format!("; {report}"));
            eprintln!("error: {error}{}", report.unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}
