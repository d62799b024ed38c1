//! Graphs on the emulated GPU, with the caching allocator, or on the one that `GRADUS_TEST_DEVICE` names: replays compute what the same steps compute one by one.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod steps;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gradus_kernels_cuda::emulator::{self, EmulatorError};
use gradus_kernels_cuda::{Graph, device};
use tensor::backend::{AdamStep, AdamUpdate, CrossEntropy, SgdStep, SgdUpdate};
use tensor::{Conv, Device, Generator, Result, Tensor};

/// The GPU, one test at a time; `None`, and a word about it, where there is no C++ compiler.
fn gpu() -> Option<(Device, MutexGuard<'static, Option<Option<Device>>>)> {
    static DEVICE: Mutex<Option<Option<Device>>> = Mutex::new(None);
    let mut turn = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    let device = turn.get_or_insert_with(open).clone()?;
    Some((device, turn))
}

fn open() -> Option<Device> {
    if std::env::var("GRADUS_TEST_DEVICE").is_ok_and(|named| named.starts_with("cuda")) {
        return emulator::device_for_tests(&[], env!("CARGO_TARGET_TMPDIR").as_ref()).unwrap();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let mut sources: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    sources.sort();
    match emulator::compile_all(&sources, env!("CARGO_TARGET_TMPDIR").as_ref()) {
        Ok(library) => emulator::install_with_cache(&library).unwrap(),
        Err(error @ EmulatorError::NoCompiler { .. }) => {
            eprintln!("skipped: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    }
    Some(device(0).unwrap())
}

/// A tensor of numbers that look random, the same for the same seed.
fn tensor(seed: u64, dims: &[usize], device: &Device) -> Tensor {
    let mut generator = Generator::new(seed);
    let values: Vec<f32> =
        (0..dims.iter().product()).map(|_| generator.below(2001) as f32 / 1000.0 - 1.0).collect();
    Tensor::from_slice(&values, dims, device).unwrap()
}

fn bits(x: &Tensor) -> Vec<u8> {
    x.device().backend().download(x).unwrap()
}

/// A linear classifier with dropout, trained by Adam.
struct Model {
    weight: Tensor,
    mean: Tensor,
    square: Tensor,
    bias: Tensor,
    momentum: Tensor,
    generator: Generator,
    steps: u64,
}

impl Model {
    fn new(gpu: &Device) -> Model {
        let [weight, mean, square] = [1, 2, 3].map(|seed| tensor(seed, &[5, 7], gpu));
        let [bias, momentum] = [4, 5].map(|seed| tensor(seed, &[5], gpu));
        let square = square.square().unwrap();
        Model { weight, mean, square, bias, momentum, generator: Generator::new(9), steps: 0 }
    }

    /// One step, and its loss.
    fn step(&mut self, x: &Tensor, target: &Tensor) -> Result<Tensor> {
        self.steps += 1;
        let (dropped, _) = x.dropout(0.25, &mut self.generator)?;
        let noise = Tensor::full(x.shape(), 0.5, x.device())?;
        let y = dropped.add(&noise)?.linear(&self.weight, Some(&self.bias))?;
        let options = CrossEntropy {
            weight: None,
            ignore_index: -100,
            label_smoothing: 0.1,
            reduction: Default::default(),
        };
        let (loss, grad) = y.cross_entropy(target, &options, true)?;
        let grad = grad.expect("it was asked for");
        let grad_weight = grad.t()?.matmul(&dropped)?;
        let adam = AdamStep {
            lr: 0.05,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            decoupled: true,
            step: self.steps,
            grad_scale: 1.0,
        };
        let sgd =
            SgdStep { momentum: 0.9, weight_decay: 0.01, nesterov: true, first: false, ..steps::down(0.1) };
        let backend = x.device().clone();
        let backend = backend.backend();
        let (param, mean, square) = (&mut self.weight, &mut self.mean, &mut self.square);
        backend.adam_step(&adam, None, &mut [AdamUpdate { param, grad: &grad_weight, mean, square }])?;
        let (param, grad, momentum) = (&mut self.bias, grad.sum(0, false)?, Some(&mut self.momentum));
        backend.sgd_step(&sgd, None, &mut [SgdUpdate { param, grad: &grad, momentum }])?;
        Ok(loss)
    }

    fn bits(&self) -> Vec<Vec<u8>> {
        [&self.weight, &self.mean, &self.square, &self.bias, &self.momentum].map(bits).to_vec()
    }
}

fn batch(i: u64, gpu: &Device) -> (Tensor, Tensor) {
    let mut generator = Generator::new(100 + i);
    let classes: Vec<i64> = (0..6).map(|_| generator.below(5) as i64).collect();
    (tensor(200 + i, &[6, 7], gpu), Tensor::from_slice(&classes, [6], gpu).unwrap())
}

#[test]
fn replays_of_a_training_step_are_the_steps_one_by_one_to_the_last_bit() {
    let Some((gpu, _turn)) = gpu() else { return };
    let (mut eager, mut captured) = (Model::new(&gpu), Model::new(&gpu));
    // Warm, as the docs advise.
    let (x, target) = batch(0, &gpu);
    assert_eq!(bits(&eager.step(&x, &target).unwrap()), bits(&captured.step(&x, &target).unwrap()));

    let before = captured.bits();
    let (graph, loss) = Graph::capture(&gpu, || captured.step(&x, &target)).unwrap();
    assert_eq!(captured.bits(), before, "a capture changes nothing");
    for i in 1..5 {
        let (new_x, new_target) = batch(i, &gpu);
        let expected = eager.step(&new_x, &new_target).unwrap();
        graph.write(&x, &new_x).unwrap();
        graph.write(&target, &new_target).unwrap();
        graph.replay().unwrap();
        // Work in between uses memory of its own.
        drop(tensor(i, &[50, 50], &gpu).square().unwrap());
        assert_eq!(bits(&loss), bits(&expected), "loss {i}");
        assert_eq!(captured.bits(), eager.bits(), "state after step {i}");
        graph.check().unwrap();
    }
    assert_eq!(graph.replays(), 4);
    assert_eq!(format!("{graph:?}"), "Graph of cuda:0 after 4 replays");
}

#[test]
fn a_check_says_that_a_class_of_the_last_replay_was_out_of_range() {
    let Some((gpu, _turn)) = gpu() else { return };
    let mut model = Model::new(&gpu);
    let (x, target) = batch(0, &gpu);
    let (graph, _loss) = Graph::capture(&gpu, || model.step(&x, &target)).unwrap();
    graph.write(&target, &Tensor::full([6], 5, (target.dtype(), &gpu)).unwrap()).unwrap();
    graph.replay().unwrap();
    let error = graph.check().unwrap_err().to_string();
    assert!(error.contains("class 5 is out of range"), "{error}");
    graph.write(&target, &batch(1, &gpu).1).unwrap();
    graph.replay().unwrap();
    graph.check().unwrap();
}

#[test]
fn memory_that_a_graph_uses_is_nobody_elses_until_it_is_dropped() {
    let Some((gpu, _turn)) = gpu() else { return };
    gradus_kernels_cuda::empty_cache(0).unwrap();
    let before = emulator::allocated();
    let stats = || gpu.backend().memory_stats();
    let live = stats().live_bytes;
    let (x, w) = (tensor(1, &[40, 40], &gpu), tensor(2, &[40, 40], &gpu));
    let expected = x.matmul(&w).unwrap().matmul(&w).unwrap().square().unwrap();
    let (graph, y) = Graph::capture(&gpu, || x.matmul(&w)?.matmul(&w)?.square()).unwrap();
    // An operand that is dropped is kept for the graph, and so is all it had of intermediate results.
    drop(w);
    let others: Vec<Tensor> = (0..40).map(|i| tensor(i, &[40, 40], &gpu)).collect();
    let of_others: Vec<_> = others.iter().map(bits).collect();
    graph.replay().unwrap();
    assert_eq!(bits(&y), bits(&expected));
    assert_eq!(others.iter().map(bits).collect::<Vec<_>>(), of_others);
    drop(others);
    // A result stays valid after the graph.
    drop(graph);
    let others: Vec<Tensor> = (0..40).map(|i| tensor(i, &[40, 40], &gpu)).collect();
    assert_eq!(bits(&y), bits(&expected));
    drop((others, x, y, expected));
    gradus_kernels_cuda::empty_cache(0).unwrap();
    assert_eq!((emulator::allocated(), emulator::graphs(), stats().live_bytes), (before, 0, live));
}

#[test]
fn what_cannot_be_captured_is_an_error_and_leaves_everything_usable() {
    let Some((gpu, _turn)) = gpu() else { return };
    let x = tensor(1, &[4, 4], &gpu);
    type Step = fn(&Tensor) -> Result<()>;
    let steps: [(&str, Step); 6] = [
        ("a transfer from the GPU", |x| x.sum_all()?.item().map(drop)),
        ("a transfer to the GPU", |x| Tensor::from_slice(&[1f32], [1], x.device()).map(drop)),
        ("waiting for the GPU", |x| x.device().synchronize()),
        ("a transfer from the GPU", |x| x.nonzero().map(drop)),
        ("a capture", |x| Graph::capture(x.device(), || Ok(())).map(drop)),
        // Also where the closure makes light of it.
        ("a transfer from the GPU", |x| x.to_vec::<f32>().map(drop).or(Ok(()))),
    ];
    for (what, step) in steps {
        let error = Graph::capture(&gpu, || step(&x.square()?)).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("captured in a graph"), "{error}");
        assert_eq!(x.add(&x).unwrap().to_vec::<f32>().unwrap().len(), 16);
    }
    // An error or a panic of the closure's own.
    assert!(Graph::capture(&gpu, || x.matmul(&x.narrow(0, 0, 3)?)).is_err());
    let planned = || Graph::capture(&gpu, || -> Result<()> { panic!("planned") }).is_ok();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(planned)).is_err());
    // One of the driver's.
    let functions = ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags", "cuLaunchKernel"];
    for name in functions.into_iter().filter(|_| emulator::installed()) {
        let error = emulator::failing(name, 999, || Graph::capture(&gpu, || x.square()).unwrap_err());
        assert!(error.to_string().contains("999"), "{error}");
    }
    assert!(Graph::capture(&Device::cpu(), || Ok(())).is_err());
    assert_eq!(emulator::graphs(), 0);

    let (graph, y) = Graph::capture(&gpu, || x.square()).unwrap();
    assert!(Graph::capture(&gpu, || graph.replay()).is_err());
    graph.replay().unwrap();
    assert_eq!(bits(&y), bits(&x.square().unwrap()));
    // What is written must fit.
    assert!(graph.write(&x, &tensor(1, &[4], &gpu)).is_err());
    assert!(graph.write(&x, &Tensor::full([4, 4], 1, (tensor::DType::I64, &gpu)).unwrap()).is_err());
    assert!(graph.write(&tensor(1, &[4, 4], &Device::cpu()), &x).is_err());
}

#[test]
fn a_step_that_could_not_go_on_from_where_the_last_one_ended_is_refused() {
    let Some((gpu, _turn)) = gpu() else { return };
    let mut model = Model::new(&gpu);
    let (x, target) = batch(0, &gpu);
    let shared = model.weight.clone();
    let error = Graph::capture(&gpu, || model.step(&x, &target)).unwrap_err().to_string();
    assert!(error.contains("that another tensor shares"), "{error}");
    drop(shared);
    assert!(Graph::capture(&gpu, || model.step(&x, &target)).is_ok());
}

#[test]
fn other_threads_go_on_during_a_capture() {
    let Some((gpu, _turn)) = gpu() else { return };
    let x = tensor(1, &[8, 8], &gpu);
    let (graph, y) = Graph::capture(&gpu, || {
        let y = x.square()?;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Result<Vec<f32>> {
                assert!(Graph::capture(&gpu, || Ok(())).is_err());
                tensor(2, &[8, 8], &gpu).square()?.to_vec::<f32>()
            });
            let there = other.join().expect("it does not panic")?;
            assert_eq!(there, tensor(2, &[8, 8], &Device::cpu()).square()?.to_vec::<f32>()?);
            y.add(&x)
        })
    })
    .unwrap();
    graph.replay().unwrap();
    assert_eq!(bits(&y), bits(&x.square().unwrap().add(&x).unwrap()));
}

#[test]
fn a_weight_that_a_replay_changes_is_seen_by_convolutions_outside_of_the_graph() {
    let Some((gpu, _turn)) = gpu() else { return };
    let (x, mut w) = (tensor(1, &[1, 8, 4, 4], &gpu), tensor(2, &[8, 8, 3, 3], &gpu));
    let conv = Conv::default();
    let agrees = |w: &Tensor| {
        let cpu = Device::cpu();
        let y = x.conv(w, None, &conv).unwrap().to_device(&cpu).unwrap();
        let expected = x.to_device(&cpu).unwrap().conv(&w.to_device(&cpu).unwrap(), None, &conv).unwrap();
        y.all_close(&expected, 1e-4, 1e-4).unwrap()
    };
    assert!(agrees(&w) && agrees(&w));
    let grad = tensor(3, &[8, 8, 3, 3], &gpu);
    let (graph, y) = Graph::capture(&gpu, || {
        let update = SgdUpdate { param: &mut w, grad: &grad, momentum: None };
        gpu.backend().sgd_step(&steps::down(0.5), None, &mut [update])?;
        x.conv(&w, None, &conv)
    })
    .unwrap();
    for _ in 0..2 {
        assert!(agrees(&w));
        let before = bits(&w);
        graph.replay().unwrap();
        assert_ne!(bits(&w), before);
        assert!(agrees(&w), "after a replay");
        assert_eq!(bits(&y), bits(&x.conv(&w, None, &conv).unwrap()), "in the replay");
    }
    graph.write(&w, &tensor(4, &[8, 8, 3, 3], &gpu)).unwrap();
    assert!(agrees(&w), "after it was written");
}
