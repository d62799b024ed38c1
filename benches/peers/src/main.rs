//! Gradus beside candle, Burn, ndarray and PyTorch, on the same shapes and data, in turn in the same run.
//!
//! Each number of threads gets a process of its own, whose environment tells every library how many it may use. That
//! process measures the machine's limits, then row after row, and prints results as lines of JSON; the first process
//! collects them and writes the table.

mod conv;
mod conv_kinds;
mod data;
mod elementwise;
mod form;
mod gemm;
mod limits;
mod machine;
mod measure;
mod models;
mod optim;
mod overhead;
mod peers;
mod reduce_norm;
mod rnn;
mod row;
mod table;
mod train;

use clap::Parser;
use row::{Peer, Row};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Measures the machine's limits, then Gradus and other libraries on the same shapes, and writes a Markdown table.
#[derive(Parser, Clone)]
struct Args {
    /// Only the headline rows, in short: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Only rows whose name, `family/what/shape/dtype`, contains one of these, separated by commas.
    #[arg(long)]
    only: Option<String>,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// A Python that has PyTorch.
    #[arg(long)]
    python: Option<String>,
    /// Peers, of torch, torch-nhwc, torch-compile, candle, burn and ndarray; a quick run takes the first two and
    /// candle if not told otherwise.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Rounds of every row; times are the least of all rounds.
    #[arg(long)]
    rounds: Option<usize>,
    /// Where the table goes; by default a file in benches/results named by machine, date and instruction set.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Measures in this process, with this many threads, and prints JSON.
    #[arg(long, hide = true)]
    worker: Option<usize>,
}

impl Args {
    /// Whom to measure, Gradus included.
    fn peers(&self) -> Result<Vec<Peer>, String> {
        if self.peers.is_empty() {
            let slow = [Peer::TorchCompiled, Peer::Burn, Peer::Ndarray];
            return Ok(Peer::ALL.into_iter().filter(|p| !(self.quick && slow.contains(p))).collect());
        }
        let find = |name: &String| {
            let found = Peer::ALL.into_iter().find(|p| p.name() == name);
            found.ok_or_else(|| format!("no peer is called {name:?}"))
        };
        let wanted = self.peers.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        Ok(Peer::ALL.into_iter().filter(|p| *p == Peer::Gradus || wanted.contains(p)).collect())
    }

    fn wants(&self, row: &Row) -> bool {
        let named = |only: &String| only.split(',').any(|part| row.name.contains(part));
        (row.quick || !self.quick) && self.only.as_ref().is_none_or(named)
    }
}

/// All rows, those of a family together.
fn rows() -> Vec<Row> {
    let families = [
        gemm::rows,
        conv::rows,
        conv_kinds::rows,
        rnn::rows,
        elementwise::rows,
        reduce_norm::rows,
        optim::rows,
        overhead::rows,
        train::rows,
    ];
    let mut rows: Vec<Row> = families.into_iter().flat_map(|family| family()).collect();
    let family = |row: &Row| row.name.split('/').next().unwrap_or_default().to_string();
    let order: Vec<String> = rows.iter().map(family).collect();
    rows.sort_by_key(|row| order.iter().position(|name| *name == family(row)));
    rows
}

/// Measures everything with one number of threads, and prints it.
fn work(args: &Args, threads: usize) -> Result<(), String> {
    let peers = args.peers()?;
    let start = |wanted: fn(&Peer) -> bool| match &args.python {
        Some(python) if peers.iter().any(wanted) => peers::torch::Torch::start(python, threads).map(Some),
        _ => Ok(None),
    };
    let torch = start(|p| matches!(p, Peer::Torch | Peer::TorchLast))?;
    let compiled = start(|p| *p == Peer::TorchCompiled)?;
    let version = torch.as_ref().or(compiled.as_ref()).map(|t| t.borrow().version.clone());
    let limits = limits::measure(threads);
    let isa = gradus::tensor::cpu::isa::isa().name();
    println!("{}", json!({ "limits": limits.to_json(), "isa": isa, "torch": version }));
    let plan = measure::Plan {
        threads,
        rounds: args.rounds.unwrap_or(if args.quick { 3 } else { 5 }),
        slice: if args.quick { 0.01 } else { 0.03 },
        peers,
        torch,
        compiled,
        isa,
    };
    // A library's panic is reported as its row's error.
    std::panic::set_hook(Box::new(|_| {}));
    for row in rows().iter().filter(|row| args.wants(row)) {
        println!("{}", measure::measure(row, &plan, &limits));
    }
    Ok(())
}

/// Runs this program again as the measuring process for a number of threads.
fn collect(threads: usize) -> Result<Vec<Value>, String> {
    let say = |e: std::io::Error| e.to_string();
    let mut command = Command::new(std::env::current_exe().map_err(say)?);
    command.args(std::env::args_os().skip(1)).arg("--worker").arg(threads.to_string()).stdout(Stdio::piped());
    let variables = [
        "GRADUS_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "MATMUL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
    ];
    let mut child = command.envs(variables.map(|name| (name, threads.to_string()))).spawn().map_err(say)?;
    let mut results = vec![];
    for line in BufReader::new(child.stdout.take().ok_or("no stdout")?).lines() {
        let result: Value = serde_json::from_str(&line.map_err(say)?).map_err(|e| e.to_string())?;
        if let Some(name) = result["row"].as_str() {
            eprintln!("{threads} {name} {}", result["seconds"]);
        }
        results.push(result);
    }
    let status = child.wait().map_err(say)?;
    if status.success() {
        Ok(results)
    } else {
        Err(format!("the process for {threads} threads ended with {status}"))
    }
}

fn run(args: &Args) -> Result<(), String> {
    if let Some(threads) = args.worker {
        return work(args, threads);
    }
    let (peers, start) = (args.peers()?, Instant::now());
    let (mut limits, mut results, mut head) = (String::new(), vec![], Value::Null);
    for &threads in &args.threads {
        let mut part = collect(threads)?.into_iter();
        head = part.next().ok_or("nothing was measured")?;
        limits += &table::limits(threads, &head["limits"]);
        results.extend(part);
    }
    // Rows in their order, and each row's numbers of threads together.
    let order: Vec<String> = rows().into_iter().map(|row| row.name).collect();
    results.sort_by_key(|r| order.iter().position(|name| r["row"] == name.as_str()));
    let isa = head["isa"].as_str().unwrap_or("?").to_string();
    let torch = args.python.as_ref().and(head["torch"].as_str());
    let shown: Vec<Peer> = peers.into_iter().filter(|p| torch.is_some() || !p.is_torch()).collect();
    let text = format!(
        "# {}, {isa}\n\n{}\n\n## Limits\n\n| what | threads | measured |\n|---|---|---|\n{limits}{}\n\
         ## Behind PyTorch\n\nThe faster of its eager layouts against Gradus.\n\n{}",
        machine::title(),
        table_intro(torch, start.elapsed().as_secs()),
        table::table(&results, &shown),
        table::behind(&results),
    );
    let out = args.out.clone().unwrap_or_else(|| machine::default_path(&isa));
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    std::fs::write(&out, &text).map_err(|e| format!("{}: {e}", out.display()))?;
    eprintln!("written to {}", out.display());
    Ok(())
}

/// What the numbers mean.
fn table_intro(torch: Option<&str>, seconds: u64) -> String {
    let torch = torch.map_or("without PyTorch".to_string(), |version| format!("PyTorch {version}"));
    format!(
        "{}; candle {}, Burn {} (flex), ndarray {}, {torch}; {seconds} s in all.\n\n\
         Times are the least of all rounds; the libraries take turns in every round, on the same random data. Under a peer \
         stands its time divided by Gradus's: above 1, Gradus is faster. `of limit` is the time that the arithmetic or the \
         traffic alone would take at the measured limits, as a part of Gradus's time. Errors are those of 1024 elements \
         against `f64`, as parts of the sum of magnitudes.",
        machine::date(),
        machine::version("candle-core"),
        machine::version("burn"),
        machine::version("ndarray"),
    )
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
