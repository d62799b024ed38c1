//! The results as Markdown.

use crate::row::Peer;
use serde_json::Value;
use std::fmt::Write;

/// Times to three digits.
fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

fn ratio(theirs: Option<f64>, ours: Option<f64>) -> String {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs / ours >= 10.0 => format!("{:.0}", theirs / ours),
        (Some(theirs), Some(ours)) => format!("{:.2}", theirs / ours),
        _ => "-".to_string(),
    }
}

fn seconds(result: &Value, peer: Peer) -> Option<f64> {
    result["seconds"][peer.name()].as_f64()
}

/// The faster of PyTorch's eager layouts.
fn best_torch(result: &Value) -> Option<f64> {
    let both = [Peer::Torch, Peer::TorchLast].into_iter().filter_map(|peer| seconds(result, peer));
    both.reduce(f64::min)
}

fn errors(result: &Value) -> String {
    let of = |peer: Peer| {
        let pair = &result["errors"][peer.name()];
        Some(format!("{:.1e} {:.1e}", pair[0].as_f64()?, pair[1].as_f64()?))
    };
    match (of(Peer::Gradus), of(Peer::Torch)) {
        (None, None) => "-".to_string(),
        (ours, theirs) => {
            format!("{} / {}", ours.unwrap_or("-".to_string()), theirs.unwrap_or("-".to_string()))
        }
    }
}

fn columns(peers: &[Peer]) -> Vec<Peer> {
    Peer::ALL.into_iter().filter(|p| *p != Peer::Gradus && peers.contains(p)).collect()
}

/// The limits that one process measured.
pub(crate) fn limits(threads: usize, limits: &Value) -> String {
    let mut out = String::new();
    let giga = |v: &Value| format!("{:.0}", v.as_f64().unwrap_or(f64::NAN) / 1e9);
    for pair in limits["fma"].as_array().into_iter().flatten() {
        let isa = pair[0].as_str().unwrap_or("?");
        let _ = writeln!(out, "| f32 multiply-adds, {isa} | {threads} | {} GFLOP/s |", giga(&pair[1]));
    }
    if limits["amx"].is_number() {
        let _ = writeln!(out, "| bf16 tile products, AMX | {threads} | {} GFLOP/s |", giga(&limits["amx"]));
    }
    for level in limits["memory"].as_array().into_iter().flatten() {
        let name = level[0].as_str().unwrap_or("?");
        let _ = writeln!(out, "| copy, {name} | {threads} | {} GB/s read and written |", giga(&level[2]));
        let _ = writeln!(out, "| read, {name} | {threads} | {} GB/s |", giga(&level[3]));
    }
    out
}

/// One table per family, rows in order, each at every number of threads.
pub(crate) fn table(results: &[Value], peers: &[Peer]) -> String {
    let mut out = String::new();
    let (columns, mut family) = (columns(peers), "");
    for result in results {
        let name = result["row"].as_str().unwrap_or("?");
        let (this, rest) = name.split_once('/').unwrap_or(("", name));
        if this != family {
            family = this;
            let heads: Vec<_> = columns.iter().map(|p| p.name()).collect();
            let _ = write!(out, "\n## {family}\n\n| row | threads | Gradus | {} |", heads.join(" | "));
            let _ = writeln!(out, " of limit | error (max mean): ours / torch |");
            let _ = writeln!(out, "|---|---|---|{}---|---|", "---|".repeat(columns.len()));
        }
        let ours = seconds(result, Peer::Gradus);
        let cells: Vec<_> = columns.iter().map(|&p| ratio(seconds(result, p), ours)).collect();
        let floor = result["floor"].as_f64();
        let share =
            floor.zip(ours).map_or("-".to_string(), |(floor, ours)| format!("{:.0} %", 100.0 * floor / ours));
        let _ = writeln!(
            out,
            "| {rest} | {} | {} | {} | {share} | {} |",
            result["threads"],
            ours.map_or("-".to_string(), time),
            cells.join(" | "),
            errors(result)
        );
    }
    out
}

/// The rows that take longer than the faster of PyTorch's eager layouts, worst first.
pub(crate) fn behind(results: &[Value]) -> String {
    let mut behind: Vec<(f64, &Value)> = results
        .iter()
        .filter_map(|r| Some((best_torch(r)? / seconds(r, Peer::Gradus)?, r)))
        .filter(|(ratio, _)| *ratio < 1.0)
        .collect();
    behind.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut out = String::from("| row | threads | torch / Gradus | of limit |\n|---|---|---|---|\n");
    for (ratio, result) in behind {
        let floor = result["floor"].as_f64().zip(seconds(result, Peer::Gradus));
        let share = floor.map_or("-".to_string(), |(floor, ours)| format!("{:.0} %", 100.0 * floor / ours));
        let name = result["row"].as_str().unwrap_or("?");
        let _ = writeln!(out, "| {name} | {} | {ratio:.2} | {share} |", result["threads"]);
    }
    out
}
