//! Loaders, text windows and file readers.

use flate2::Compression;
use flate2::write::GzEncoder;
use gradus_nn::data::*;
use std::io::Write;
use std::path::{Path, PathBuf};
use tensor::{DType, Device, Error, Result, Tensor};

fn cpu() -> Device {
    Device::cpu()
}

/// An empty folder of a test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("gradus-data-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a temporary file can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

fn numbered(n: usize) -> TensorDataset {
    let labels = Tensor::arange(0, n, 1, (DType::I64, &cpu())).unwrap();
    TensorDataset::new(labels.to_dtype(DType::F32).unwrap().unsqueeze(1).unwrap(), labels).unwrap()
}

fn labels(epoch: Epoch<'_, TensorDataset>) -> Vec<Vec<i64>> {
    epoch.map(|batch| batch.unwrap().labels.to_vec().unwrap()).collect()
}

// --- sets and loaders ---

#[test]
fn without_a_seed_batches_come_in_order_and_the_last_is_smaller() {
    let loader = DataLoader::new(numbered(5), 2);
    assert_eq!(loader.len(), 3);
    assert_eq!(labels(loader.epoch().unwrap()), [vec![0, 1], vec![2, 3], vec![4]]);
    let loader = DataLoader::new(numbered(5), 2).drop_last(true);
    assert_eq!(loader.len(), 2);
    assert_eq!(labels(loader.epoch().unwrap()), [[0, 1], [2, 3]]);
}

#[test]
fn inputs_and_labels_of_a_batch_stay_together() {
    for batch in DataLoader::new(numbered(37), 5).shuffle(3).epoch().unwrap() {
        let batch = batch.unwrap();
        let inputs = batch.inputs.value().to_vec::<f32>().unwrap();
        let labels = batch.labels.to_vec::<i64>().unwrap();
        assert_eq!(inputs, labels.iter().map(|&l| l as f32).collect::<Vec<_>>());
        assert_eq!(batch.len, labels.len());
    }
}

#[test]
fn the_order_depends_on_seed_and_epoch_alone() {
    let (a, b) = (DataLoader::new(numbered(20), 6).shuffle(1), DataLoader::new(numbered(20), 6).shuffle(1));
    let first = labels(a.epoch().unwrap());
    let second = labels(a.epoch().unwrap());
    assert_ne!(first, second);
    b.resume(LoaderState { epoch: 1, batch: 0 });
    assert_eq!(labels(b.epoch().unwrap()), second);
    let other = DataLoader::new(numbered(20), 6).shuffle(2);
    assert_ne!(labels(other.epoch().unwrap()), first);
    let mut all: Vec<i64> = second.concat();
    all.sort();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_resumed_loader_gives_what_was_left() {
    let whole = DataLoader::new(numbered(11), 2).shuffle(9);
    let expected: Vec<_> = (0..3).flat_map(|_| labels(whole.epoch().unwrap())).collect();
    for cut in 0..expected.len() {
        let first = DataLoader::new(numbered(11), 2).shuffle(9);
        let mut got = Vec::new();
        'epochs: for _ in 0..3 {
            for batch in first.epoch().unwrap() {
                got.push(batch.unwrap().labels.to_vec::<i64>().unwrap());
                if got.len() > cut {
                    break 'epochs;
                }
            }
        }
        let second = DataLoader::new(numbered(11), 2).shuffle(9);
        second.resume(first.state());
        while second.state().epoch < 3 {
            got.extend(labels(second.epoch().unwrap()));
        }
        assert_eq!(got, expected, "cut after batch {cut}");
    }
}

#[test]
fn an_epoch_that_was_broken_off_is_not_taken_up_again() {
    let loader = DataLoader::new(numbered(4), 2);
    assert!(loader.epoch().unwrap().next().is_some());
    assert_eq!(loader.state(), LoaderState { epoch: 0, batch: 1 });
    assert_eq!(loader.epoch().unwrap().number(), 1);
    assert_eq!(labels(loader.epoch().unwrap()), [[0, 1], [2, 3]]);
}

#[test]
fn impossible_loaders_are_errors() {
    let message = |r: Result<Epoch<'_, TensorDataset>>| r.map(|_| ()).unwrap_err().to_string();
    assert!(message(DataLoader::new(numbered(4), 0).epoch()).contains("batch_size is 0"));
    let loader = DataLoader::new(numbered(4), 2);
    loader.resume(LoaderState { epoch: 0, batch: 3 });
    assert_eq!(message(loader.epoch()), "DataLoader: cannot resume at batch 3 of 2");
    assert_eq!(labels(DataLoader::new(numbered(0), 2).shuffle(1).epoch().unwrap()), Vec::<Vec<i64>>::new());
}

#[test]
fn a_set_splits_into_parts_that_make_it_up() {
    let set = numbered(10);
    let (head, tail) = set.split_at(3).unwrap();
    assert_eq!(head.labels().to_vec::<i64>().unwrap(), [0, 1, 2]);
    assert_eq!((tail.len(), tail.batch(&[6]).unwrap().labels.to_vec::<i64>().unwrap()), (7, vec![9]));
    let (train, test) = set.random_split(0.8, 4).unwrap();
    let mut all = train.labels().to_vec::<i64>().unwrap();
    assert_eq!(all, set.random_split(0.8, 4).unwrap().0.labels().to_vec::<i64>().unwrap());
    all.extend(test.labels().to_vec::<i64>().unwrap());
    all.sort();
    assert_eq!((train.len(), test.len(), all), (8, 2, (0..10).collect()));
    assert!(set.split_at(11).is_err() && set.random_split(f64::NAN, 0).is_err());
    assert!(set.get(10).is_err() && set.batch(&[10]).is_err());
}

#[test]
fn tensors_of_different_lengths_make_no_set() {
    let (a, b) = (Tensor::zeros([3, 2], &cpu()).unwrap(), Tensor::zeros([4], &cpu()).unwrap());
    let error = TensorDataset::new(a, b).unwrap_err().to_string();
    assert_eq!(
        error,
        "TensorDataset: shapes [3, 2] and [4] do not match; inputs and labels share their first dim"
    );
    let scalar = Tensor::zeros((), &cpu()).unwrap();
    assert!(TensorDataset::new(scalar.clone(), scalar).is_err());
}

// --- text ---

#[test]
fn windows_of_a_stream_continue_each_other() {
    let tokens: Vec<i64> = (0..103).collect();
    let windows = TextWindows::new(&tokens, 4, 6, &cpu()).unwrap();
    assert_eq!(windows.len(), 4); // streams of 25: 24 steps have a successor
    let mut streams = vec![Vec::new(); 4];
    for window in windows.iter() {
        let window = window.unwrap();
        assert_eq!(window.inputs.dims(), [6, 4]);
        let (x, y) = (window.inputs.to_vec::<i64>().unwrap(), window.targets.to_vec::<i64>().unwrap());
        assert!(x.iter().zip(&y).all(|(x, y)| x + 1 == *y));
        x.chunks(4).for_each(|step| streams.iter_mut().zip(step).for_each(|(s, &t)| s.push(t)));
    }
    for (j, stream) in streams.iter().enumerate() {
        assert_eq!(*stream, (25 * j as i64..25 * j as i64 + 24).collect::<Vec<_>>());
    }
    assert!(windows.get(4).is_err());
}

#[test]
fn a_text_too_short_for_a_window_is_an_error() {
    assert!(TextWindows::new(&[1, 2], 1, 1, &cpu()).is_ok());
    let error = TextWindows::new(&[1, 2, 3, 4], 2, 2, &cpu()).unwrap_err().to_string();
    assert!(error.contains("4 tokens are too few for 2 streams of 2 steps"), "{error}");
    assert!(TextWindows::new(&[1, 2], 0, 1, &cpu()).is_err());
    assert!(TextWindows::new(&[1, 2], 1, 0, &cpu()).is_err());
}

#[test]
fn a_vocabulary_names_the_character_it_does_not_know() {
    let vocab = CharVocab::of("größe\n");
    assert_eq!(vocab.decode(&vocab.encode("größe").unwrap()).unwrap(), "größe");
    let error = vocab.encode("groß!").unwrap_err().to_string();
    assert_eq!(error, "encode: 'o' at byte 2 is not among the 6 characters");
    assert!(vocab.decode(&[-1]).is_err() && vocab.decode(&[6]).is_err());
    assert!(CharVocab::of("").is_empty());
}

// --- files ---

fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
    bytes.extend(data);
    bytes
}

#[test]
fn bad_idx_files_are_errors_that_say_what_is_wrong() {
    let mut short = idx(&[10_000, 28, 28], &[7; 100]);
    let cut = short.len() - 100;
    let cases: [(&[u8], &str); 11] = [
        (&short.clone(), "truncated: header promises 10000x28x28 = 7840000 bytes, file has 100"),
        (&[], "truncated: an IDX file starts with 4 bytes, this one has 0"),
        (&[0, 0, 8], "truncated: an IDX file starts with 4 bytes, this one has 3"),
        (b"\x89PNG\r\n", "not an IDX file: starts with [89, 50, 4e, 47], expected [00, 00, 08, …]"),
        (&[0, 0, 13, 1, 0, 0, 0, 0], "elements are of IDX type 0x0d, expected bytes, 0x08"),
        (&[0, 0, 8, 200], "header promises 200 dims, a tensor has at most 8"),
        (&[0, 0, 8, 2, 0, 0, 0, 1], "truncated: 2 extents take 8 bytes, file has 4"),
        (
            &idx(&[u32::MAX; 4], &[1]),
            "header promises 4294967295x4294967295x4294967295x4294967295 bytes, more than memory can address",
        ),
        (
            &idx(&[1 << 31, 1 << 20], &[1]),
            "truncated: header promises 2147483648x1048576 = 2251799813685248 bytes, file has 1",
        ),
        (&idx(&[2], &[1, 2, 3]), "bytes follow the 2 = 2 that the header promises"),
        (&gzip(&short)[..40], "truncated: the gzip stream ends early"),
    ];
    for (bytes, message) in cases {
        let error = parse_idx(bytes, "digits", &cpu()).unwrap_err().to_string();
        assert_eq!(error, format!("digits: {message}"));
    }
    short.truncate(cut);
    assert!(parse_idx(&idx(&[0, 28], &[])[..], "none", &cpu()).is_ok());
}

#[test]
fn gzip_is_known_by_its_first_bytes_and_checked() {
    let plain = idx(&[2, 3], &[1, 2, 3, 4, 5, 255]);
    let folder = Folder::new("gzip");
    let zipped = gzip(&plain);
    for bytes in [&plain, &zipped] {
        let read = read_idx(folder.write("no-extension", bytes), &cpu()).unwrap();
        assert_eq!(read.to_vec::<u8>().unwrap(), [1, 2, 3, 4, 5, 255]);
    }
    for cut in 2..zipped.len() {
        let error = parse_idx(&zipped[..cut], "cut", &cpu()).unwrap_err().to_string();
        assert!(error.starts_with("cut: truncated"), "{cut}: {error}");
    }
    let mut broken = zipped.clone();
    let last = broken.len() - 6; // the checksum
    broken[last] ^= 1;
    let error = parse_idx(&broken[..], "broken", &cpu()).unwrap_err().to_string();
    assert!(error.starts_with("broken: corrupt gzip stream"), "{error}");
}

fn error_of<T>(result: Result<T>) -> Error {
    result.map(|_| ()).unwrap_err()
}

#[test]
fn mnist_is_found_in_a_folder_zipped_or_not() {
    let folder = Folder::new("mnist");
    let images = idx(&[2, 2, 3], &[0, 51, 102, 153, 204, 255, 0, 0, 0, 0, 0, 255]);
    folder.write("train-images-idx3-ubyte", &images);
    folder.write("train-labels-idx1-ubyte.gz", &gzip(&idx(&[2], &[7, 3])));
    let missing = error_of(mnist_dir(&folder.0, &cpu())).to_string();
    let name = folder.0.display();
    assert_eq!(missing, format!("{name}: has neither t10k-images-idx3-ubyte nor t10k-images-idx3-ubyte.gz"));
    folder.write("t10k-images-idx3-ubyte.gz", &gzip(&images));
    folder.write("t10k-labels-idx1-ubyte", &idx(&[3], &[1, 2, 3]));
    let unequal = error_of(mnist_dir(&folder.0, &cpu())).to_string();
    assert!(unequal.contains("t10k-labels-idx1-ubyte: holds labels [3], expected [2]"), "{unequal}");
    folder.write("t10k-labels-idx1-ubyte", &idx(&[2], &[1, 2]));
    let mnist = mnist_dir(&folder.0, &cpu()).unwrap();
    assert_eq!(mnist.train.inputs().dims(), [2, 1, 2, 3]);
    assert_eq!(mnist.train.inputs().to_vec::<f32>().unwrap()[..6], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    assert_eq!(mnist.train.labels().to_vec::<i64>().unwrap(), [7, 3]);
    assert_eq!(mnist.test.labels().to_vec::<i64>().unwrap(), [1, 2]);
}

#[test]
fn bad_tables_are_errors_that_name_the_line() {
    let cases: [(&str, bool, &str); 6] = [
        ("1,2\n3\n", false, "line 2: 1 field, expected 2"),
        ("1,2\n\n3,4,5\n", false, "line 3: 3 fields, expected 2"),
        ("a,b\n1,2\n1,two\n", true, "line 3, field 2: \"two\" is not a number"),
        ("1,\n", true, "no numbers in it"),
        (
            "a,b\n1,2\n",
            false,
            "line 1, field 1: \"a\" is not a number; set header if the first line names the columns",
        ),
        ("", false, "no numbers in it"),
    ];
    for (text, header, message) in cases {
        let options = CsvOptions { header, ..Default::default() };
        let error = error_of(parse_csv(text.as_bytes(), "t.csv", &options, &cpu())).to_string();
        assert_eq!(error, format!("t.csv: {message}"));
    }
    let error = error_of(parse_csv(&b"1\n\xff\n"[..], "t.csv", &CsvOptions::default(), &cpu())).to_string();
    assert_eq!(error, "t.csv: line 2: not UTF-8 at byte 0");
    let long = "x".repeat(1000);
    let error = error_of(parse_csv(long.as_bytes(), "t.csv", &CsvOptions::default(), &cpu()));
    assert!(error.to_string().len() < 160);
}

#[test]
fn a_table_becomes_inputs_and_labels() {
    let folder = Folder::new("csv");
    let text = "\u{feff}\"x\"; class ;y\r\n1.5;0; -2e1\r\n\"3\";2;nan\r\n";
    let path = folder.write("table.csv.gz", &gzip(text.as_bytes()));
    let table = read_csv(path, &CsvOptions { header: true, separator: ';' }, &cpu()).unwrap();
    assert_eq!(table.names, ["x", "class", "y"]);
    let set = table.dataset(table.column("class").unwrap()).unwrap();
    assert_eq!(set.labels().to_vec::<i64>().unwrap(), [0, 2]);
    let inputs = set.inputs().to_vec::<f32>().unwrap();
    assert_eq!((set.inputs().dims(), &inputs[..3]), (&[2, 2][..], &[1.5, -20., 3.][..]));
    assert!(inputs[3].is_nan());
    assert_eq!(error_of(table.dataset(0)).to_string(), "csv: the label of row 0 is not an integer");
    assert!(table.dataset(2).is_err() && table.dataset(3).is_err());
    let unknown = table.column("z").unwrap_err().to_string();
    assert!(unknown.contains("\"z\"") && unknown.contains("class"), "{unknown}");
}

#[test]
fn text_that_is_not_utf8_is_located() {
    let folder = Folder::new("text");
    assert_eq!(read_text(folder.write("good", &gzip("grüße".as_bytes()))).unwrap(), "grüße");
    let path = folder.write("bad", b"abc\xffdef");
    let error = read_text(&path).unwrap_err().to_string();
    assert_eq!(error, format!("{}: not UTF-8: byte 0xff at position 3", path.display()));
    let missing = read_text(Path::new("/nowhere/at/all")).unwrap_err().to_string();
    assert_eq!(missing, "/nowhere/at/all: no such file");
    let directory = read_text(&folder.0).unwrap_err().to_string();
    assert!(directory.starts_with(&folder.0.display().to_string()), "{directory}");
}
