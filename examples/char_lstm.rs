//! Trains a multi-layer LSTM on a text, character by character, and lets it write.
//!
//! `cargo run --release --example char_lstm -- --text FILE`; without a file it reads "Alice's Adventures in Wonderland",
//! which ships in `examples/data`.

use clap::Parser;
use gradus::nn::data::{CharVocab, TextWindows, read_text};
use gradus::nn::progress::EpochBar;
use gradus::nn::schedule::{OneCycle, Schedule};
use gradus::prelude::*;
use std::f64::consts::LN_2;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Train a character-level LSTM on a text and generate more of it.
#[derive(Parser)]
struct Args {
    /// Text to learn from, UTF-8; its last tenth is held out
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/alice.txt"))]
    text: PathBuf,
    /// Steps of training
    #[arg(long, default_value_t = 1500)]
    steps: u64,
    /// Streams of text read side by side
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Characters per step and stream
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Layers of the LSTM
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    layers: u32,
    /// Units of each layer
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    hidden: u32,
    /// Highest learning rate of the one-cycle schedule
    #[arg(long, default_value_t = 4e-3)]
    lr: f64,
    /// Seed of weights, dropout and the generated text
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// cpu, or cuda:0 if built with --features cuda
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Write with the weights of this file instead of training; text, layers and units are those it was trained with
    #[arg(long)]
    load: Option<PathBuf>,
    /// Where the trained weights go
    #[arg(long, default_value = "char_lstm.safetensors")]
    output: PathBuf,
    /// What the generated text starts with
    #[arg(long, default_value = "The ")]
    prompt: String,
    /// Below 1 the likelier characters are favoured, above 1 the text is wilder
    #[arg(long, default_value_t = 0.7)]
    temperature: f64,
    /// Characters to generate
    #[arg(long, default_value_t = 400)]
    length: usize,
}

struct CharLm {
    embed: Embedding,
    rnn: Lstm,
    dropout: Dropout,
    head: Linear,
}
module!(CharLm { embed, rnn, dropout, head });

impl CharLm {
    fn new(vocab: usize, args: &Args, init: &mut Init) -> Result<CharLm> {
        let (hidden, layers) = (args.hidden as usize, args.layers as usize);
        Ok(CharLm {
            embed: Embedding::new(vocab, 64, init)?,
            rnn: Lstm::new(
                64,
                hidden,
                RnnConfig { num_layers: layers, dropout: 0.1, ..Default::default() },
                init,
            )?,
            dropout: Dropout::new(0.1, init)?,
            head: Linear::new(hidden, vocab, init)?,
        })
    }

    /// Tokens `[t, n]` to logits `[t, n, vocab]`, and the state after them.
    fn forward(&self, tokens: &Tensor, state: Option<&LstmState>) -> Result<(Var, LstmState)> {
        let (y, state) = self.rnn.forward(&self.embed.forward(tokens)?, state)?;
        Ok((self.head.forward(&self.dropout.forward(&y)?)?, state))
    }

    /// The mean of `-log p` of each next character, in nats.
    fn loss(&self, inputs: &Tensor, targets: &Tensor, state: Option<&LstmState>) -> Result<(Var, LstmState)> {
        let (logits, state) = self.forward(inputs, state)?;
        Ok((logits.flatten_range(0, 1)?.cross_entropy(&targets.flatten(0)?)?, state))
    }
}

/// Bits per character over a held-out text.
fn evaluate(model: &CharLm, windows: &TextWindows) -> Result<f64> {
    model.eval();
    let (mut state, mut nats) = (None, 0.0);
    for window in windows.iter() {
        let window = window?;
        let (loss, next) = gradus::no_grad(|| model.loss(&window.inputs, &window.targets, state.as_ref()))?;
        (state, nats) = (Some(next), nats + loss.item()?);
    }
    Ok(nats / windows.len() as f64 / LN_2)
}

fn train(model: &CharLm, windows: &TextWindows, held_out: &TextWindows, args: &Args) -> Result<f64> {
    let mut adam = AdamW::new(model, AdamWConfig { lr: args.lr, ..Default::default() })?;
    let schedule = OneCycle::new(args.lr, args.steps)?;
    let (start, mut bits) = (Instant::now(), f64::NAN);
    let stretch = args.steps.div_ceil(10).max(1);
    let mut step = 0;
    let mut state: Option<LstmState> = None;
    while step < args.steps {
        model.train();
        let end = (step + stretch).min(args.steps);
        let bar = EpochBar::new(step / stretch + 1, args.steps.div_ceil(stretch), (end - step) as usize);
        let mut sum = 0.0;
        let first = step;
        while step < end {
            let at = step as usize % windows.len();
            if at == 0 {
                state = None; // the text starts again
            }
            let window = windows.get(at)?;
            let (loss, next) = model.loss(&window.inputs, &window.targets, state.as_ref())?;
            state = Some(next.detach());
            let mut grads = loss.backward()?;
            clip_grad_norm(&mut grads, model, 1.0, 2.0)?;
            adam.set_lr(schedule.lr(step));
            adam.step(&grads)?;
            step += 1;
            sum += loss.item()?;
            bar.step(sum / (step - first) as f64, None);
        }
        bar.finish();
        bits = evaluate(model, held_out)?;
        let training = sum / (end - first) as f64 / LN_2;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "step {step:>5}  training {training:.3}  held out {bits:.3} bits per character  {seconds:.0} s"
        );
    }
    Ok(bits)
}

/// Draws the next characters one by one, each from what the model expects after the ones before.
fn generate(model: &CharLm, vocab: &CharVocab, args: &Args, device: &Device) -> Result<String> {
    model.eval();
    let mut generator = Generator::new(args.seed);
    let mut tokens = vocab.encode(&args.prompt)?;
    let mut input = Tensor::from_slice(&tokens, [tokens.len(), 1], device)?;
    let mut state = None;
    for _ in 0..args.length {
        let (logits, next) = gradus::no_grad(|| model.forward(&input, state.as_ref()))?;
        let last = logits.value().select(0, -1)?.select(0, 0)?.to_dtype(DType::F64)?;
        let odds = last.div_scalar(args.temperature.max(1e-3))?.softmax(0)?.cumsum(0)?.to_vec::<f64>()?;
        let draw = generator.below(1 << 53) as f64 / (1u64 << 53) as f64;
        let token = odds.iter().position(|&p| draw < p).unwrap_or(odds.len() - 1) as i64;
        tokens.push(token);
        (state, input) = (Some(next), Tensor::from_slice(&[token], [1, 1], device)?);
    }
    vocab.decode(&tokens)
}

fn run(args: &Args) -> Result<()> {
    let device = gradus::device(&args.device)?;
    let text = read_text(&args.text)?;
    let vocab = CharVocab::of(&text);
    let tokens = vocab.encode(&text)?;
    let (training, rest) = tokens.split_at(tokens.len() * 9 / 10);
    let (n, steps) = (args.batch_size as usize, args.window as usize);
    let windows = |tokens: &[i64], n| {
        TextWindows::new(tokens, n, steps, &device).map_err(|e| gradus::Error::file(&args.text, e))
    };
    // The held-out text is shorter: fewer streams, so that each is long enough for a window.
    let held_streams = (rest.len() / (4 * (steps + 1))).clamp(1, n);
    let (windows, held_out) = (windows(training, n)?, windows(rest, held_streams)?);
    vocab.encode(&args.prompt).map_err(|e| e.hint("the prompt may only have characters of the text"))?;
    if args.prompt.is_empty() {
        return Err(gradus::Error::argument("char_lstm", "the prompt has at least one character"));
    }

    let model = CharLm::new(vocab.len(), args, &mut Init::new(args.seed).device(&device))?;
    println!("{} characters, {} distinct; {} parameters", tokens.len(), vocab.len(), model.num_params());
    if let Some(path) = &args.load {
        gradus::load(&model, path)?;
        println!("\n{}", generate(&model, &vocab, args, &device)?);
        return Ok(());
    }
    let bits = train(&model, &windows, &held_out, args)?;

    gradus::save(&model, &args.output)?;
    let again = CharLm::new(vocab.len(), args, &mut Init::new(args.seed + 1).device(&device))?;
    gradus::load(&again, &args.output)?;
    let text = generate(&again, &vocab, args, &device)?;
    println!("\n{text}\n");
    if text != generate(&model, &vocab, args, &device)? {
        return Err(gradus::Error::file(&args.output, "the reloaded network writes differently"));
    }
    println!("held out: {bits:.3} bits per character");
    println!("saved {}; reloaded: the same text", args.output.display());
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
