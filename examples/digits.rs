//! Trains a CNN on handwritten digits, shows what it gets wrong, saves it, loads it back.
//!
//! `cargo run --release --example digits` trains on the 1,797 scans of 8x8 pixels in `examples/data`;
//! `-- --data DIR` trains on MNIST's files (28x28) instead.

use clap::Parser;
use gradus::nn::data::{CsvOptions, mnist_part, read_csv};
use gradus::nn::metrics::ConfusionMatrix;
use gradus::nn::progress::EpochBar;
use gradus::nn::schedule::{OneCycle, Schedule};
use gradus::prelude::*;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Train a CNN on handwritten digits.
#[derive(Parser)]
struct Args {
    /// Folder with MNIST-format idx or idx.gz files, or a CSV file of 64 pixels (0..16) and the digit, instead of the
    /// digits that ship with the example
    #[arg(long)]
    data: Option<PathBuf>,
    /// Passes over the training images
    #[arg(long, default_value_t = 16)]
    epochs: u64,
    /// Images per step
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 3e-3)]
    lr: f64,
    /// Seed of weights, order and dropout
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// cpu, or cuda:0 if built with --features cuda
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Judge the weights of this file instead of training
    #[arg(long)]
    load: Option<PathBuf>,
    /// Where the trained weights go
    #[arg(long, default_value = "digits.safetensors")]
    output: PathBuf,
}

struct Net {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    fc1: Linear,
    dropout: Dropout,
    fc2: Linear,
    /// Whether the first convolution is pooled too: for images larger than 16x16.
    large: bool,
}
module!(Net { conv1, bn1, conv2, bn2, fc1, dropout, fc2 });

impl Net {
    fn new(size: usize, init: &mut Init) -> Result<Net> {
        let large = size > 16;
        let side = if large { size / 4 } else { size / 2 };
        Ok(Net {
            conv1: Conv2d::new(1, 32, 3, init)?.padding(1),
            bn1: BatchNorm2d::new(32, init)?,
            conv2: Conv2d::new(32, 64, 3, init)?.padding(1),
            bn2: BatchNorm2d::new(64, init)?,
            fc1: Linear::new(64 * side * side, 128, init)?,
            dropout: Dropout::new(0.3, init)?,
            fc2: Linear::new(128, 10, init)?,
            large,
        })
    }
}

impl Forward for Net {
    /// `[n, 1, s, s] -> [n, 10]`
    fn forward(&self, x: &Var) -> Result<Var> {
        let mut x = self.bn1.forward(&self.conv1.forward(x)?)?.relu()?; // [n, 32, s, s]
        if self.large {
            x = x.max_pool2d(2)?; // [n, 32, s/2, s/2]
        }
        let x = self.bn2.forward(&self.conv2.forward(&x)?)?.relu()?.max_pool2d(2)?;
        let x = self.fc1.forward(&x.flatten(1)?)?.relu()?; // [n, 128]
        self.fc2.forward(&self.dropout.forward(&x)?)
    }
}

/// Training and test images `[n, 1, s, s]` in 0..1, and their digits.
fn load_data(args: &Args, device: &Device) -> Result<(TensorDataset, TensorDataset)> {
    if let Some(dir) = args.data.as_ref().filter(|path| !path.is_file()) {
        let test = mnist_part(dir, "t10k", device)?;
        // Without the files to train on, nine tenths of the test file serve.
        let has_train =
            ["", ".gz"].iter().any(|end| dir.join(format!("train-images-idx3-ubyte{end}")).exists());
        return match has_train {
            true => Ok((mnist_part(dir, "train", device)?, test)),
            false => test.split_at(test.len() * 9 / 10),
        };
    }
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/digits.csv.gz");
    let path = args.data.clone().unwrap_or_else(|| shipped.into());
    let table = read_csv(&path, &CsvOptions::default(), device)?;
    if table.values.size(1)? != 65 {
        let message = format!("has {} columns, expected 64 pixels and the digit", table.values.size(1)?);
        return Err(gradus::Error::file(&path, message));
    }
    let table = table.dataset(64).map_err(|e| gradus::Error::file(&path, e))?;
    let images = table.inputs().div_scalar(16.0)?.reshape([table.len(), 1, 8, 8])?;
    // A fixed split, whatever the seed of the training: 1,437 to learn from, 360 to judge by.
    TensorDataset::new(images, table.labels().clone())?.random_split(1437.0 / 1797.0, 0)
}

/// Each batch moved by up to one pixel in a random direction: what a digit is does not depend on it.
fn jittered(images: &Var, generator: &mut Generator) -> Result<Var> {
    let (h, w) = (images.size(2)?, images.size(3)?);
    let framed = images.pad(&[1, 1, 1, 1], 0.0)?;
    framed.narrow(2, generator.below(3), h)?.narrow(3, generator.below(3), w)
}

/// The probability of each class for each image, `[n, 10]`, computed in batches.
fn predict(net: &Net, images: &Tensor) -> Result<Tensor> {
    net.eval();
    let logits = |x: &Tensor| Ok(net.forward(&x.into())?.into_value());
    Tensor::cat(&images.split(256, 0)?.iter().map(logits).collect::<Result<Vec<_>>>()?, 0)?.softmax(1)
}

fn train(net: &Net, data: TensorDataset, args: &Args) -> Result<()> {
    let loader = DataLoader::new(data, args.batch_size as usize).shuffle(args.seed);
    let mut adam = AdamW::new(net, AdamWConfig { lr: args.lr, ..Default::default() })?;
    let schedule = OneCycle::new(args.lr, args.epochs * loader.len() as u64)?;
    let mut generator = Generator::new(args.seed);
    let mut step = 0;
    for epoch in 1..=args.epochs {
        net.train();
        let bar = EpochBar::new(epoch, args.epochs, loader.len());
        let (start, mut loss_sum, mut hits, mut seen) = (Instant::now(), 0.0, 0.0, 0);
        for batch in loader.epoch()? {
            let batch = batch?;
            let logits = net.forward(&jittered(&batch.inputs, &mut generator)?)?;
            let loss = logits.cross_entropy(&batch.labels)?;
            adam.set_lr(schedule.lr(step));
            adam.step(&loss.backward()?)?;
            step += 1;
            loss_sum += loss.item()? * batch.len as f64;
            hits += logits.value().argmax(1, false)?.eq(&batch.labels)?.sum_all()?.item()?;
            seen += batch.len;
            bar.step(loss_sum / seen as f64, Some(hits / seen as f64));
        }
        bar.finish();
        let (loss, accuracy, seconds) =
            (loss_sum / seen as f64, hits / seen as f64, start.elapsed().as_secs_f64());
        println!("epoch {epoch:>2}/{}  loss {loss:.4}  accuracy {accuracy:.4}  {seconds:.2} s", args.epochs);
    }
    Ok(())
}

/// Side by side, a few images that were misread; if there are none, those whose reading was least sure.
fn draw_hardest(images: &Tensor, labels: &[i64], odds: &Tensor) -> Result<()> {
    let (sure, read) = odds.max(1, false)?;
    let (sure, read) = (sure.to_vec::<f32>()?, read.to_vec::<i64>()?);
    let mut hardest: Vec<usize> = (0..labels.len()).collect();
    hardest.sort_by(|&a, &b| {
        (labels[a] == read[a]).cmp(&(labels[b] == read[b])).then(sure[a].total_cmp(&sure[b]))
    });
    let misread = labels.iter().zip(&read).filter(|(label, read)| label != read).count();
    hardest.truncate(if misread == 0 { 3 } else { misread.min(3) });
    println!("{misread} misread{}", if misread == 0 { "; the least sure readings were" } else { "" });
    let titles: Vec<String> =
        hardest.iter().map(|&i| format!("{} as {}, {:.0} %", labels[i], read[i], 100.0 * sure[i])).collect();
    // Large images are drawn at half their size, to fit side by side.
    let images = if images.size(3)? > 16 { images.avg_pool2d(2)? } else { images.clone() };
    let side = images.size(3)?;
    let pictures = hardest
        .iter()
        .map(|&i| images.select(0, i as isize)?.flatten(0)?.to_vec::<f32>())
        .collect::<Result<Vec<_>>>()?;
    let width = (2 * side).max(14);
    println!("{}", titles.iter().map(|t| format!("{t:width$}  ")).collect::<String>());
    for row in 0..images.size(2)? {
        let shade = |x: &f32| [" ", "░", "▒", "▓", "█"][(x * 4.0).round().clamp(0.0, 4.0) as usize].repeat(2);
        let line = |p: &Vec<f32>| p[row * side..(row + 1) * side].iter().map(shade).collect::<String>();
        println!("{}", pictures.iter().map(|p| format!("{:width$}  ", line(p))).collect::<String>());
    }
    Ok(())
}

fn run(args: &Args) -> Result<()> {
    let device = gradus::device(&args.device)?;
    let (train_data, test_data) = load_data(args, &device)?;
    let (images, labels) = (test_data.inputs().clone(), test_data.labels().clone());
    let size = images.size(3)?;
    let net = Net::new(size, &mut Init::new(args.seed).device(&device))?;
    println!(
        "{} training and {} test images of {size}x{size}, {} parameters",
        train_data.len(),
        test_data.len(),
        net.num_params()
    );
    match &args.load {
        Some(path) => gradus::load(&net, path)?,
        None => {
            let start = Instant::now();
            train(&net, train_data, args)?;
            println!("trained in {:.1} s", start.elapsed().as_secs_f64());
        }
    }

    let odds = predict(&net, &images)?;
    let mut matrix = ConfusionMatrix::new(10);
    matrix.add(&odds, &labels)?;
    println!("\nconfusion matrix of the test images\n{matrix}\n");
    draw_hardest(&images, &labels.to_vec()?, &odds)?;

    if args.load.is_some() {
        println!("\ntest accuracy: {:.4}", matrix.accuracy());
        return Ok(());
    }
    gradus::save(&net, &args.output)?;
    let again = Net::new(size, &mut Init::new(args.seed + 1).device(&device))?;
    gradus::load(&again, &args.output)?;
    println!("\ntest accuracy: {:.4}", matrix.accuracy());
    if predict(&again, &images)?.to_vec::<f32>()? != odds.to_vec::<f32>()? {
        return Err(gradus::Error::file(&args.output, "the reloaded network predicts differently"));
    }
    println!("saved {}; reloaded: predictions identical", args.output.display());
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
