//! State files and checkpoints.

use autograd::Var;
use gradus_nn::data::{DataLoader, TensorDataset};
use gradus_nn::optim::{Adam, AdamConfig, Optimizer, Sgd, SgdConfig};
use gradus_nn::state::*;
use gradus_nn::{Buffer, Forward, Init, Linear, Param, load, module, save};
use gradus_nn::{load_checkpoint, load_with, save_checkpoint};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tensor::{DType, Device, Distribution, Generator, Result, Tensor};

fn cpu() -> Device {
    Device::cpu()
}

/// An empty folder of a test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("gradus-state-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Net {
    fc1: Linear,
    fc2: Linear,
    seen: Buffer,
}
module!(Net { fc1, fc2, seen });

fn net(seed: u64) -> Net {
    let mut init = Init::new(seed);
    Net {
        fc1: Linear::new(3, 8, &mut init).unwrap(),
        fc2: Linear::new(8, 2, &mut init).unwrap(),
        seen: Buffer::new(Tensor::full((), seed as i64, (DType::I64, &cpu())).unwrap()),
    }
}

impl Forward for Net {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.fc2.forward(&self.fc1.forward(x)?.tanh()?)
    }
}

/// One tensor of each dtype, with shapes that are easy to get wrong. Draws from a generator of its own: the global one's position
/// is part of the checkpoints that other tests of this file compare.
fn assorted() -> BTreeMap<String, Tensor> {
    let values = Tensor::from_slice(&[0f64, 1., -2.5, 100., 7.], [5], &cpu()).unwrap();
    let mut tensors: BTreeMap<String, Tensor> =
        DType::ALL.iter().map(|&d| (d.name().to_string(), values.to_dtype(d).unwrap())).collect();
    tensors.insert("scalar".into(), Tensor::full((), 3.5, &cpu()).unwrap());
    tensors.insert("empty".into(), Tensor::zeros([0, 3], &cpu()).unwrap());
    let normal = Distribution::Normal { mean: 0.0, std: 1.0 };
    let drawn = Tensor::random(normal, [2, 3], &cpu(), &mut Generator::new(1)).unwrap();
    tensors.insert("transposed".into(), drawn.t().unwrap());
    tensors
}

#[test]
fn every_dtype_and_layout_comes_back_as_it_was() {
    let folder = Folder::new("dtypes");
    let (path, tensors) = (folder.0.join("all.safetensors"), assorted());
    save_tensors(&tensors, &path).unwrap();
    let read = load_tensors(&path, &cpu()).unwrap();
    assert!(read.keys().eq(tensors.keys()));
    for (name, tensor) in &tensors {
        let back = &read[name];
        assert_eq!((back.shape(), back.dtype()), (tensor.shape(), tensor.dtype()), "{name}");
        let bytes = |t: &Tensor| t.device().backend().download(t).unwrap();
        assert_eq!(bytes(back), bytes(tensor), "{name}");
    }
    assert_eq!(folder.names(), ["all.safetensors"]);
}

#[test]
fn a_model_comes_back_and_its_file_is_always_the_same() {
    let folder = Folder::new("model");
    let path = folder.0.join("net.safetensors");
    let (a, b) = (net(1), net(2));
    save(&a, &path).unwrap();
    load(&b, &path).unwrap();
    assert_eq!(save_to_bytes(&b).unwrap(), std::fs::read(&path).unwrap());
    let names: Vec<String> = load_tensors(&path, &cpu()).unwrap().into_keys().collect();
    assert_eq!(names, ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight", "seen"]);
    assert_eq!(b.seen.value().item().unwrap(), 1.0);
}

/// The message of loading tensors into a model, which stays as it was.
fn refusal(model: &Net, tensors: &BTreeMap<String, Tensor>, options: &LoadOptions) -> String {
    let folder = Folder::new("refusal");
    let path = folder.0.join("w.safetensors");
    save_tensors(tensors, &path).unwrap();
    let before = save_to_bytes(model).unwrap();
    let error = load_with(model, &path, options).unwrap_err().to_string();
    assert_eq!(save_to_bytes(model).unwrap(), before);
    error.strip_prefix(&format!("{}: does not fit the model: ", path.display())).expect(&error).to_string()
}

#[test]
fn all_that_does_not_fit_is_said_at_once() {
    let model = net(1);
    let mut tensors = state_dict(&model);
    let weight = tensors.remove("fc1.weight").unwrap();
    tensors.insert("fc.weight".into(), weight);
    tensors.insert("fc2.bias".into(), Tensor::zeros([3], &cpu()).unwrap());
    tensors.insert("fc2.weight".into(), tensors["fc2.weight"].to_dtype(DType::F16).unwrap());
    tensors.remove("seen");
    assert_eq!(
        refusal(&model, &tensors, &LoadOptions::default()),
        "missing fc1.weight (the file has fc.weight), seen; unexpected fc.weight; \
         misshapen fc2.bias [3] (the model has [2]); \
         of another dtype fc2.weight float16 (the model has float32), which LoadOptions { cast: true } converts"
    );
    let lenient = LoadOptions { strict: false, cast: true, rename: None };
    assert_eq!(refusal(&model, &tensors, &lenient), "misshapen fc2.bias [3] (the model has [2])");
    tensors.remove("fc2.bias");
    tensors.insert("seen".into(), Tensor::zeros((), &cpu()).unwrap());
    let kinds = refusal(&model, &tensors, &lenient);
    assert_eq!(kinds, "of another dtype seen float32 (the model has int64)");
}

#[test]
fn options_let_pass_convert_and_rename() {
    let (a, b) = (net(1), net(2));
    let mut tensors: BTreeMap<String, Tensor> = state_dict(&a)
        .into_iter()
        .filter(|(name, _)| name != "fc2.bias")
        .map(|(name, t)| {
            (format!("net.{name}"), if name == "fc1.bias" { t.to_dtype(DType::BF16).unwrap() } else { t })
        })
        .collect();
    tensors.insert("net.fc3.bias".into(), Tensor::zeros([2], &cpu()).unwrap());
    let folder = Folder::new("options");
    let path = folder.0.join("w");
    save_tensors(&tensors, &path).unwrap();
    let strip = |name: &str| name.trim_start_matches("net.").to_string();
    let options = LoadOptions { strict: false, cast: true, rename: Some(Box::new(strip)) };
    let loaded = load_with(&b, &path, &options).unwrap();
    assert_eq!(
        (loaded.missing, loaded.unexpected),
        (vec!["fc2.bias".to_string()], vec!["fc3.bias".to_string()])
    );
    let bias = |n: &Net| n.fc1.bias.as_ref().unwrap().value();
    assert_eq!(bias(&b).dtype(), DType::F32);
    assert!(bias(&b).all_close(&bias(&a), 1.0 / 256.0, 0.0).unwrap()); // half an ulp of bfloat16
    assert_eq!(b.fc1.weight.value().to_vec::<f32>().unwrap(), a.fc1.weight.value().to_vec::<f32>().unwrap());
}

struct Tied {
    embed: Param,
    head: Param,
}
module!(Tied { embed, head });

#[test]
fn a_shared_parameter_is_saved_once_and_loads_under_any_of_its_names() {
    let shared = Param::new(Tensor::zeros([2], &cpu()).unwrap());
    let model = Tied { embed: shared.clone(), head: shared.clone() };
    assert_eq!(state_dict(&model).into_keys().collect::<Vec<_>>(), ["embed"]);
    for (names, value) in [(vec!["embed"], 1.0), (vec!["head"], 2.0), (vec!["embed", "head"], 3.0)] {
        let tensor = Tensor::full([2], value, &cpu()).unwrap();
        let folder = Folder::new("tied");
        let path = folder.0.join("w");
        save_tensors(&names.iter().map(|n| (n.to_string(), tensor.clone())).collect(), &path).unwrap();
        load(&model, &path).unwrap();
        assert_eq!(shared.value().to_vec::<f32>().unwrap(), [value as f32; 2]);
    }
}

fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn damaged_files_are_errors_that_say_what_is_wrong() {
    let entry = |dtype: &str, shape: &str, end: u64| {
        format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    // Sizes that only overflow when they are added up.
    let eighth = u64::MAX / 8 / 4 * 4;
    let huge: Vec<String> = (0..9)
        .map(|i| {
            let (start, end) = ((i as u64).wrapping_mul(eighth), (i as u64 + 1).wrapping_mul(eighth));
            format!(r#""t{i}":{{"dtype":"F32","shape":[{}],"data_offsets":[{start},{end}]}}"#, eighth / 4)
        })
        .collect();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "bytes: truncated: a safetensors file starts with 8 bytes, this one has 0"),
        (b"PK\x03\x04zipzip".to_vec(), "bytes: not a safetensors file: its header would take"),
        (vec![9, 0, 0, 0, 0, 0, 0, 0, b'{'], "bytes: truncated: the header takes 9 bytes, file has 1"),
        (with_header("not json", &[]), "bytes: corrupt header: expected ident"),
        (with_header(&"[".repeat(100_000), &[]), "bytes: corrupt header: "),
        (with_header("\u{1}\n", &[]), "bytes: corrupt header: "),
        (
            with_header(&entry("F32", "[2]", 8), &[0; 7]),
            "truncated: the header describes 8 bytes of tensors, file has 7",
        ),
        (
            with_header(&entry("F32", "[2]", 8), &[0; 9]),
            "corrupt: the header describes 8 bytes of tensors, file has 9",
        ),
        (with_header(&entry("F32", "[3]", 8), &[0; 8]), "invalid shape, data type, or offset"),
        (with_header(&entry("F32", "[4294967296,4294967296,4294967296]", 8), &[0; 8]), "overflow"),
        (with_header(&entry("U64", "[1]", 8), &[0; 8]), "x is stored as U64, which no tensor has"),
        (with_header(&entry("F99", "[1]", 8), &[0; 8]), "corrupt header"),
        (with_header(&entry("U8", "[1,1,1,1,1,1,1,1,1]", 1), &[0]), "which no tensor has"),
        (with_header(&entry("U8", "[0,9223372036854775807]", 0), &[]), "which no tensor has"),
        (with_header(&format!("{{{}}}", huge.join(",")), &[]), "bytes: "),
    ];
    for (bytes, words) in cases {
        let error = load_tensors_from_bytes(&bytes, &cpu()).unwrap_err().to_string();
        assert!(error.starts_with("bytes: ") && error.contains(words), "{error}");
        assert!(!error.contains('\n') && error.len() < 400, "{error}");
    }
    let good = save_to_bytes(&net(1)).unwrap();
    for cut in 0..good.len() {
        assert!(load_from_bytes(&net(2), &good[..cut], &LoadOptions::default()).is_err());
    }
    assert!(load_from_bytes(&net(2), &good, &LoadOptions::default()).is_ok());
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing_behind() {
    let folder = Folder::new("write");
    std::fs::create_dir(folder.0.join("taken")).unwrap();
    std::fs::write(folder.0.join("taken/inside"), b"x").unwrap();
    let error = save(&net(1), folder.0.join("taken")).unwrap_err().to_string();
    assert!(error.contains("taken: cannot be written: "), "{error}");
    assert_eq!(folder.names(), ["taken"]);
    let error = save(&net(1), folder.0.join("missing/w")).unwrap_err().to_string();
    assert!(error.ends_with("missing/w: cannot be written: no such file"), "{error}");
    assert!(save(&net(1), "/").is_err());
    let error = load(&net(1), folder.0.join("none")).unwrap_err().to_string();
    assert!(error.ends_with("none: no such file"), "{error}");
}

// --- checkpoints ---

fn examples() -> TensorDataset {
    let x: Vec<f32> = (0..11 * 3).map(|i| ((i * 37) % 19) as f32 / 19.0 - 0.5).collect();
    let labels: Vec<i64> = (0..11).map(|i| i % 2).collect();
    let inputs = Tensor::from_slice(&x, [11, 3], &cpu()).unwrap();
    TensorDataset::new(inputs, Tensor::from_slice(&labels, [11], &cpu()).unwrap()).unwrap()
}

/// Trains from where the checkpoint stands, or from the start, to `until` steps; leaves a checkpoint.
fn train(path: &PathBuf, until: u64, momentum: Option<f64>) -> Vec<u8> {
    let model = net(3);
    let mut optimizer: Box<dyn Optimizer> = match momentum {
        Some(momentum) => {
            Box::new(Sgd::new(&model, SgdConfig { lr: 0.1, momentum, ..Default::default() }).unwrap())
        }
        None => Box::new(Adam::new(&model, AdamConfig { lr: 0.05, ..Default::default() }).unwrap()),
    };
    let loader = DataLoader::new(examples(), 2).shuffle(5);
    let mut state = TrainState::default();
    if path.exists() {
        state = load_checkpoint(path, &model, optimizer.as_mut()).unwrap();
        loader.resume(state.loader);
    }
    'training: loop {
        for batch in loader.epoch().unwrap() {
            let batch = batch.unwrap();
            optimizer.set_lr(0.05 / (1.0 + state.step as f64));
            let loss = model.forward(&batch.inputs).unwrap().cross_entropy(&batch.labels).unwrap();
            optimizer.step(&loss.backward().unwrap()).unwrap();
            state.step += 1;
            if state.step == until {
                break 'training;
            }
        }
    }
    state.loader = loader.state();
    state.epoch = state.loader.epoch;
    state.extra.insert("best".into(), Tensor::full([1], 0.5, &cpu()).unwrap());
    save_checkpoint(path, &model, optimizer.as_ref(), &state).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_resumed_run_ends_in_the_same_bytes_as_an_uninterrupted_one() {
    let folder = Folder::new("resume");
    for momentum in [None, Some(0.9)] {
        let straight = folder.0.join("straight");
        let whole = train(&straight, 20, momentum);
        std::fs::remove_file(&straight).unwrap();
        for cut in [1, 6, 10] {
            let path = folder.0.join("halves");
            train(&path, cut, momentum);
            assert!(train(&path, 20, momentum) == whole, "cut after {cut} steps, momentum {momentum:?}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_checkpoint_of_something_else_changes_nothing() {
    let folder = Folder::new("other");
    let path = folder.0.join("checkpoint");
    train(&path, 3, None);
    let model = net(1);
    let before = save_to_bytes(&model).unwrap();
    let mut sgd = Sgd::new(&model, SgdConfig { momentum: 0.9, ..Default::default() }).unwrap();
    let error = load_checkpoint(&path, &model, &mut sgd).unwrap_err().to_string();
    assert!(error.contains("checkpoint: sgd: its state has no fc1.weight.momentum_buffer"), "{error}");
    let small = Linear::new(3, 8, &mut Init::new(1)).unwrap();
    let mut adam = Adam::new(&small, AdamConfig::default()).unwrap();
    let error = load_checkpoint(&path, &small, &mut adam).unwrap_err().to_string();
    assert!(
        error.contains("missing weight (the file has fc1.weight), bias (the file has fc1.bias)"),
        "{error}"
    );
    save(&model, &path).unwrap();
    let error = load_checkpoint(&path, &model, &mut sgd).unwrap_err().to_string();
    assert!(error.ends_with("is not a checkpoint: it has no position"), "{error}");
    assert_eq!(save_to_bytes(&model).unwrap(), before);
}
