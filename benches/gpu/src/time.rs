//! Times of single ops without another library beside them: a line of JSON each. `gpu-time [DEVICE] [--tiny]`
//!
//! Every op runs on several sets of random tensors in turn, 256 MiB of them and more, so that no cache holds them. The time is the least
//! of some rounds, from the first launch to the end of the queue's work, divided by the launches.

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod timing {
    use gradus::prelude::*;
    use gradus_gpu_check::ops;
    use std::time::Instant;

    /// Sets of tensors have so many bytes together, unless one set has more.
    const BYTES: usize = 256 << 20;

    struct Op {
        name: &'static str,
        /// Of the tensors; dims of 2,048 and more shrink for `--tiny`.
        shapes: Vec<Vec<usize>>,
        dtype: DType,
        numbers: Vec<f64>,
        /// Bytes read and written at least, and multiplications and additions.
        bytes: f64,
        flops: f64,
    }

    fn elementwise(name: &'static str, operands: usize, dtype: DType) -> Op {
        let n = 8192 * 8192;
        let bytes = (n * (operands + 1) * dtype.size()) as f64;
        Op { name, shapes: vec![vec![8192, 8192]; operands], dtype, numbers: vec![-1.0], bytes, flops: 0.0 }
    }

    fn product(n: usize, dtype: DType) -> Op {
        let (bytes, flops) = ((3 * n * n * dtype.size()) as f64, 2.0 * (n as f64).powi(3));
        Op { name: "matmul", shapes: vec![vec![n, n]; 2], dtype, numbers: vec![], bytes, flops }
    }

    fn table() -> Vec<Op> {
        let mut table = vec![];
        for dtype in [DType::F32, DType::BF16] {
            for (name, operands) in [
                ("copy", 1),
                ("transpose", 1),
                ("exp", 1),
                ("add", 2),
                ("softmax", 1),
                ("cumsum", 1),
                ("sum", 1),
            ] {
                table.push(elementwise(name, operands, dtype));
            }
            for n in [2048, 4096, 8192] {
                table.push(product(n, dtype));
            }
        }
        table
    }

    fn time(op: &Op, device: &Device, tiny: bool) -> Result<f64> {
        let size = |&n: &usize| if tiny { n / 128 } else { n };
        let shapes: Vec<Vec<usize>> = op.shapes.iter().map(|dims| dims.iter().map(size).collect()).collect();
        let bytes: usize = shapes.iter().map(|dims| dims.iter().product::<usize>() * op.dtype.size()).sum();
        let sets = if tiny { 2 } else { (BYTES / bytes).clamp(2, 64) };
        let mut runs = vec![];
        for _ in 0..sets {
            let random = |dims: &Vec<usize>| Tensor::randn(dims, (op.dtype, device));
            runs.push(ops::prepare(op.name, shapes.iter().map(random).collect::<Result<_>>()?, &op.numbers)?);
        }
        let (mut least, rounds, launches) = (f64::INFINITY, if tiny { 1 } else { 7 }, sets.max(8));
        for round in 0..=rounds {
            device.synchronize()?;
            let start = Instant::now();
            for i in 0..launches {
                runs[i % sets]()?;
            }
            device.synchronize()?;
            let seconds = start.elapsed().as_secs_f64() / launches as f64;
            // The first round loads kernels and memory.
            least = if round == 0 { least } else { least.min(seconds) };
        }
        Ok(least)
    }

    pub(crate) fn main() -> Result<()> {
        let mut arguments = std::env::args().skip(1).collect::<Vec<_>>();
        let tiny = arguments.iter().position(|a| a == "--tiny").map(|at| arguments.remove(at)).is_some();
        let device = gradus::device(arguments.first().map_or("cuda:0", String::as_str))?;
        for op in table() {
            let (name, dtype, shape) = (op.name, op.dtype, &op.shapes[0]);
            match time(&op, &device, tiny) {
                Ok(seconds) => println!(
                    "{{\"op\": \"{name}\", \"dtype\": \"{dtype}\", \"shape\": {shape:?}, \"us\": {:.2}, \"gb_s\": {:.1}, \"tflop_s\": {:.2}}}",
                    1e6 * seconds,
                    op.bytes / seconds / 1e9,
                    op.flops / seconds / 1e12
                ),
                Err(error) => println!(
                    "{{\"op\": \"{name}\", \"dtype\": \"{dtype}\", \"error\": {:?}}}",
                    error.to_string()
                ),
            }
        }
        Ok(())
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn main() -> std::process::ExitCode {
    match timing::main() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn main() {
    println!("there are no CUDA devices on this system");
}
