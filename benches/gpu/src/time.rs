//! Times of single ops without another library beside them: a line of JSON each. `gpu-time [DEVICE] [--tiny]`
//!
//! Every op runs on several sets of random tensors in turn, 256 MiB of them and more, so that no cache holds them. The time is the least
//! of some rounds, from the first launch to the end of the queue's work, divided by the launches. `--tiny` takes one round of small
//! tensors: what runs is what matters then, to tools that look for wrong accesses.
//!
//! `gpu-time --emulator FOLDER` compiles the kernels for the emulated GPU into a folder and prints the path of that library.

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod timing {
    use gradus::cuda::emulator;
    use gradus::prelude::*;
    use gradus_gpu_check::ops;
    use std::time::Instant;

    /// Sets of tensors have so many bytes together, unless one set has more.
    const BYTES: usize = 256 << 20;

    /// A tensor that an op takes.
    enum Input {
        /// Random numbers.
        Random(Vec<usize>),
        /// Random integers below a bound.
        Below(i64, Vec<usize>),
    }
    use Input::{Below, Random};

    struct Op {
        name: &'static str,
        inputs: Vec<Input>,
        dtype: DType,
        numbers: Vec<f64>,
        /// Bytes read and written at least, and multiplications and additions; 0 where the time is all that is asked for.
        bytes: f64,
        flops: f64,
    }

    /// What is timed, with small sizes if `tiny`.
    fn table(tiny: bool) -> Vec<Op> {
        let n = |size: usize, small: usize| if tiny { small } else { size };
        let mut table = vec![];
        for dtype in [DType::F32, DType::BF16] {
            let op = |name, inputs, numbers, bytes, flops| Op { name, inputs, dtype, numbers, bytes, flops };
            let (rows, size) = (n(8192, 64), dtype.size() as f64);
            let square =
                |operands: usize| (0..operands).map(|_| Random(vec![rows, rows])).collect::<Vec<_>>();
            let all = (rows * rows) as f64 * size;
            for (name, operands) in
                [("copy", 1), ("transpose", 1), ("exp", 1), ("add", 2), ("softmax", 1), ("cumsum", 1)]
            {
                table.push(op(name, square(operands), vec![-1.0], all * (operands + 1) as f64, 0.0));
            }
            table.push(op("sum", square(1), vec![-1.0], all, 0.0));
            let affine = || vec![Random(vec![rows, rows]), Random(vec![rows]), Random(vec![rows])];
            table.push(op("layer_norm", affine(), vec![], 2.0 * all, 0.0));
            let classes = vec![Random(vec![rows, rows]), Below(rows as i64, vec![rows])];
            table.push(op("cross_entropy", classes, vec![], 2.0 * all, 0.0));
            for side in [n(2048, 16), n(4096, 40), n(8192, 65)] {
                let work = 2.0 * (side as f64).powi(3);
                let sides = || vec![Random(vec![side, side]), Random(vec![side, side])];
                table.push(op("matmul", sides(), vec![], 3.0 * size * (side * side) as f64, work));
            }
            let (images, c, side) = (n(32, 2), n(128, 8), n(28, 5));
            let (image, weight) = (vec![images, c, side, side], vec![c, c, 3, 3]);
            let work = 2.0 * (images * side * side * c * c * 9) as f64;
            let numbers = |of: &[usize]| [1, 1, 1, 1].iter().chain(of).map(|&n| n as f64).collect::<Vec<_>>();
            let conv = |name, left: &[usize], right: &[usize], of: &[usize]| {
                op(name, vec![Random(left.to_vec()), Random(right.to_vec())], numbers(of), 0.0, work)
            };
            table.push(conv("conv", &image, &weight, &[]));
            table.push(conv("conv_grad_input", &image, &weight, &image));
            table.push(conv("conv_grad_weight", &image, &image, &weight));
            table.push(op("max_pool", vec![Random(image.clone())], vec![2.0, 2.0, 0.0], 0.0, 0.0));
            table.push(op("avg_pool", vec![Random(image)], vec![2.0, 2.0, 0.0], 0.0, 0.0));
            let (t, b, h) = (n(128, 5), n(32, 3), n(512, 16));
            let lstm: [&[usize]; 7] =
                [&[t, b, h], &[b, h], &[b, h], &[4 * h, h], &[4 * h, h], &[4 * h], &[4 * h]];
            let work = (16 * t * b * h * h) as f64;
            for (name, times) in [("lstm", 1.0), ("lstm_both", 3.0)] {
                let inputs = lstm.iter().map(|dims| Random(dims.to_vec())).collect();
                table.push(op(name, inputs, vec![], 0.0, times * work));
            }
        }
        let op =
            |name, inputs, numbers, bytes| Op { name, inputs, dtype: DType::F32, numbers, bytes, flops: 0.0 };
        let (rows, places) = (n(4096, 8), n(8192, 70));
        let square = || Random(vec![rows, places]);
        let index = || Below(places as i64, vec![rows, places]);
        let all = 4.0 * (rows * places) as f64;
        table.push(op("sort", vec![square()], vec![1.0], 3.0 * all));
        table.push(op("topk", vec![square()], vec![1.0, 7.0], all));
        table.push(op("gather", vec![square(), index()], vec![1.0], 4.0 * all));
        table.push(op("scatter_add", vec![square(), index(), square()], vec![1.0], 5.0 * all));
        let (images, c, side) = (n(32, 4), n(64, 6), n(56, 5));
        let image = vec![Random(vec![images, c, side, side]), Random(vec![c]), Random(vec![c])];
        table.push(op("batch_norm", image, vec![], 12.0 * (images * c * side * side) as f64));
        table.push(op("dropout", vec![square()], vec![], 0.0));
        table.push(op("adam", vec![square(), square()], vec![], 7.0 * all));
        table
    }

    fn make(op: &Op, device: &Device) -> Result<Vec<Tensor>> {
        let tensor = |input: &Input| match input {
            Random(dims) => Tensor::randn(dims, (op.dtype, device)),
            Below(bound, dims) => Tensor::randint(0, *bound, dims, device),
        };
        op.inputs.iter().map(tensor).collect()
    }

    /// Seconds of one run.
    fn time(op: &Op, device: &Device, tiny: bool) -> Result<f64> {
        let first = make(op, device)?;
        let bytes: usize = first.iter().map(|x| x.numel() * x.dtype().size()).sum();
        let sets = if tiny { 1 } else { (BYTES / bytes.max(1)).clamp(2, 64) };
        let mut runs = vec![ops::prepare(op.name, first, &op.numbers)?];
        for _ in 1..sets {
            runs.push(ops::prepare(op.name, make(op, device)?, &op.numbers)?);
        }
        let (mut least, rounds, launches) =
            (f64::INFINITY, if tiny { 1 } else { 7 }, if tiny { 1 } else { sets.max(8) });
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

    /// What a line calls an op: its name, dtype and first shape.
    fn label(op: &Op) -> String {
        let (Random(dims) | Below(_, dims)) = &op.inputs[0];
        let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
        format!("{} {} {}", op.name, dims.join("x"), op.dtype)
    }

    pub(crate) fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let mut arguments = std::env::args().skip(1).collect::<Vec<_>>();
        if let [first, folder] = &arguments[..]
            && first == "--emulator"
        {
            println!("{}", emulator::compile_with(&[], folder.as_ref())?.display());
            return Ok(());
        }
        let tiny = arguments.iter().position(|a| a == "--tiny").map(|at| arguments.remove(at)).is_some();
        let device = gradus::device(arguments.first().map_or("cuda:0", String::as_str))?;
        let mut failed = 0;
        for op in table(tiny) {
            match time(&op, &device, tiny) {
                Ok(seconds) => println!(
                    "{{\"kind\": \"alone\", \"name\": \"{}\", \"us\": {:.2}, \"gb_s\": {:.1}, \"tflop_s\": {:.2}}}",
                    label(&op),
                    1e6 * seconds,
                    op.bytes / seconds / 1e9,
                    op.flops / seconds / 1e12
                ),
                Err(error) => {
                    failed += 1;
                    let what = error.to_string().replace(['"', '\\', '\n'], " ");
                    println!(
                        "{{\"kind\": \"failed\", \"family\": \"alone\", \"name\": \"{}\", \"error\": \"{what}\"}}",
                        label(&op)
                    );
                }
            }
        }
        if failed > 0 { Err(format!("{failed} ops failed").into()) } else { Ok(()) }
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
