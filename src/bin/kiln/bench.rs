//! `kiln bench`: how long a model loads and runs, and what memory it takes.

use std::hint::black_box;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args as Flags;
use kiln::{DType, Datum, Error, NodeTime, Profile, Session, Tensor, Type, npy};
use serde_json::{Value, json};

use crate::failure::{Failure, note};
use crate::inputs::Feeding;
use crate::options::{Building, Reading};
use crate::statistics::Times;
use crate::{files, machine, show};

/// Measure how fast a model loads and runs
#[derive(Flags, Debug)]
#[command(after_help = "Examples:\n  \
    kiln bench model.onnx --batch 32 --threads 1 --profile\n  \
    kiln bench model.onnx --input x=x.npy --iters 100 --json times.json")]
pub struct Args {
    /// The ONNX file
    model: String,
    #[command(flatten)]
    feeding: Feeding,
    /// The length of axis 0 of made-up inputs; throughput counts it
    #[arg(long, value_name = "N")]
    batch: Option<u64>,
    /// Untimed runs after the first; if not given, as many as take 200 ms
    #[arg(long, value_name = "W")]
    warmup: Option<usize>,
    /// Timed runs; if not given, as many as --duration allows
    #[arg(long, value_name = "I", conflicts_with = "duration")]
    iters: Option<usize>,
    /// Time runs for so many seconds, ten at least
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    duration: f64,
    /// Write the measurements; - is stdout
    #[arg(long, value_name = "OUT.json")]
    json: Option<PathBuf>,
    /// Say how long each node takes, the longest first
    #[arg(long)]
    profile: bool,
    /// Write the first 2000 rows of the main output
    #[arg(long, value_name = "FILE.npy")]
    save_output: Option<PathBuf>,
    #[command(flatten)]
    building: Building,
    #[command(flatten)]
    reading: Reading,
}

fn seconds(text: &str) -> Result<f64, String> {
    let n = text.parse::<f64>().ok().filter(|n| (0.0..=86_400.0).contains(n));
    n.ok_or_else(|| "expected seconds, a day at most".to_owned())
}

/// The most rows that are saved.
const SAVED_ROWS: usize = 2000;
/// Nodes of a profile that are printed.
const LONGEST: usize = 20;
const WARM: Duration = Duration::from_millis(200);
const FEWEST: usize = 10;
/// Memory for times is taken while runs are timed, so there is an end.
const MOST: usize = 10_000_000;

/// What is measured; what a failure prevents stays empty.
#[derive(Default)]
struct Measured {
    load_ms: f64,
    first_ms: f64,
    latency_ns: Vec<u64>,
    cpu_ms: f64,
    rss_base_mb: Option<f64>,
    rss_load_mb: Option<f64>,
    main_output: Option<String>,
    batch: u64,
    nodes: Vec<NodeTime>,
    /// Runs of the model that `nodes` is of; a node runs once for each block of rows.
    profiled: u32,
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    let busy = machine::load().filter(|l| *l > machine::cores() as f64 / 2.0);
    if let Some(load) = busy {
        note(&format!("the machine is busy (load {load:.1}): times will vary"));
    }
    let mut seen = Measured { batch: args.batch.unwrap_or(1), ..Measured::default() };
    let result = measure(&args, &mut seen);
    if let Some(path) = &args.json {
        let document = format!("{}\n", document(&args, &seen, result.as_ref().err()));
        match path == Path::new("-") {
            true => io::stdout().write_all(document.as_bytes())?,
            false => files::write(path, document.as_bytes())?,
        }
    }
    result?;
    if args.json.as_deref() == Some(Path::new("-")) {
        return Ok(());
    }
    Ok(io::stdout().write_all(summary(&seen).as_bytes())?)
}

fn measure(args: &Args, seen: &mut Measured) -> Result<(), Failure> {
    seen.rss_base_mb = machine::rss_mb();
    let start = Instant::now();
    let model = args.reading.load(&args.model)?;
    let session = model.compile(&args.building.options())?;
    let limits = model.limits().within(model.nbytes());
    drop(model);
    seen.load_ms = millis(start);
    seen.rss_load_mb = machine::rss_mb();
    let mut feeding = args.feeding.clone();
    feeding.set_batch(session.inputs(), args.batch);
    let inputs = feeding.resolve(session.inputs(), args.building.seed, &limits)?;
    if args.batch.is_none() {
        seen.batch = rows(&inputs);
    }
    let start = Instant::now();
    let outputs = run(&session, &inputs, args)?;
    seen.first_ms = millis(start);
    let (name, main) = main_output(&outputs)?;
    seen.main_output = Some(name.to_owned());
    if let Some(path) = &args.save_output {
        files::write(path, &npy::write(&first_rows(&main)?).map_err(files::numpy)?)?;
    }
    drop((main, outputs));
    Ok(time(args, &session, &inputs, seen)?)
}

type Named = Vec<(String, Datum)>;

fn run(session: &Session, inputs: &Named, args: &Args) -> kiln::Result<Named> {
    session.run(inputs.clone()).map_err(|e| e.in_file(&args.model))
}

fn time(args: &Args, session: &Session, inputs: &Named, seen: &mut Measured) -> kiln::Result<()> {
    let named = |name: &str| inputs.iter().find(|(n, _)| n == name).map(|(_, d)| d.clone());
    let ordered: Vec<Datum> = session.inputs().iter().filter_map(|i| named(&i.name)).collect();
    let start = Instant::now();
    let mut warm = 0;
    while args.warmup.map_or(start.elapsed() < WARM, |w| warm < w) {
        run(session, inputs, args)?;
        warm += 1;
    }
    let span = Duration::from_secs_f64(args.duration);
    let cpu = machine::cpu_ms();
    let start = Instant::now();
    loop {
        let n = seen.latency_ns.len();
        let enough = n >= MOST || n >= FEWEST && start.elapsed() >= span;
        if args.iters.map_or(enough, |i| n >= i) {
            break;
        }
        let fed = ordered.clone();
        let begin = Instant::now();
        let outputs = black_box(session.run_values(fed));
        let ns = begin.elapsed().as_nanos();
        outputs.map_err(|e| e.in_file(&args.model))?;
        seen.latency_ns.push(u64::try_from(ns).unwrap_or(u64::MAX));
    }
    seen.cpu_ms = machine::cpu_ms() - cpu;
    if args.profile {
        let profile = Arc::new(Profile::default());
        let start = Instant::now();
        for i in 0.. {
            if i >= FEWEST && start.elapsed() >= WARM {
                break;
            }
            black_box(session.run_profiled(ordered.clone(), &profile))?;
            seen.profiled += 1;
        }
        seen.nodes = profile.nodes();
    }
    Ok(())
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// The length of axis 0 of the first input that has one.
fn rows(inputs: &Named) -> u64 {
    let first = inputs.iter().find_map(|(_, d)| d.as_tensor().ok()?.shape().first().copied());
    first.map_or(1, |n| n as u64)
}

/// The probabilities of a classifier, else the first output, as a tensor.
fn main_output(outputs: &Named) -> kiln::Result<(&str, Tensor)> {
    let is_label =
        |d: &Datum| d.as_tensor().is_ok_and(|t| matches!(t.dtype(), DType::I64 | DType::String));
    let (name, value) = match &outputs[..] {
        [] => return Err(Error::invalid("the model has no outputs")),
        [(_, label), (name, scores)] if is_label(label) && !is_label(scores) => (name, scores),
        [(name, value), ..] => (name, value),
    };
    Ok((name, as_tensor(value)?))
}

/// A tensor, or rows of maps as a matrix.
fn as_tensor(value: &Datum) -> kiln::Result<Tensor> {
    let Datum::Sequence(maps) = value else { return Ok(value.as_tensor()?.clone()) };
    let mut all = Vec::new();
    for map in maps {
        all.extend(map.as_map()?.values.to_vec::<f32>()?);
    }
    let columns = all.len() / maps.len().max(1);
    Ok(Tensor::from_vec(&[maps.len(), columns], all)?)
}

fn first_rows(t: &Tensor) -> kiln::Result<Tensor> {
    let Some((&n, rest)) = t.shape().split_first().filter(|(n, _)| **n > SAVED_ROWS) else {
        return Ok(t.clone());
    };
    let shape = [&[SAVED_ROWS], rest].concat();
    let count = t.len() / n * SAVED_ROWS;
    Ok(t.take(&shape, 0..count)?)
}

fn document(args: &Args, seen: &Measured, failure: Option<&Failure>) -> Value {
    let missing = match failure {
        Some(Failure::Library(e)) => e.missing_ops(),
        _ => &[],
    };
    let threads = match args.building.threads {
        0 => machine::cores(),
        n => n,
    };
    let mut document = json!({
        "schema": "kiln-bench/1",
        "runtime": "kiln",
        "version": env!("CARGO_PKG_VERSION"),
        "model": args.model,
        "backend": args.building.backend_name(),
        "batch": seen.batch,
        "threads": threads,
        "device": machine::cpu(),
        "load_ms": seen.load_ms,
        "first_ms": seen.first_ms,
        "latency_ns": seen.latency_ns,
        "cpu_ms": seen.cpu_ms,
        "rss_base_mb": seen.rss_base_mb,
        "rss_load_mb": seen.rss_load_mb,
        "peak_rss_mb": machine::peak_rss_mb(),
        "main_output": seen.main_output,
        "error": failure.map(Failure::to_string),
        "unsupported": missing,
    });
    if let Some(times) = Times::new(&seen.latency_ns) {
        document["min_ns"] = json!(times.percentile(0.0));
        document["mean_ns"] = json!(times.mean());
        for (key, share) in PERCENTILES {
            document[format!("{key}_ns")] = json!(times.percentile(share));
        }
        document["rows_per_s"] = json!(rate(seen, &times));
    }
    if args.profile {
        let node = |n: &NodeTime| {
            let mean = micros(n, seen.profiled);
            json!({"name": n.name, "op": n.op, "by": n.by, "mean_us": mean, "runs": n.runs})
        };
        document["nodes"] = seen.nodes.iter().map(node).collect();
    }
    document
}

const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

fn rate(seen: &Measured, times: &Times) -> f64 {
    seen.batch as f64 * 1e9 / (times.percentile(0.5).max(1) as f64)
}

fn summary(seen: &Measured) -> String {
    let ms = |x: f64| format!("{} ms", show::float(x));
    let row = |name: &str, text: String| vec![name.to_owned(), text];
    let mut rows = vec![row("load", ms(seen.load_ms)), row("first run", ms(seen.first_ms))];
    if let Some(times) = Times::new(&seen.latency_ns) {
        rows.push(row("runs", seen.latency_ns.len().to_string()));
        let uncertainty = times.uncertainty();
        let spread = uncertainty.map(|u| format!(" ± {:.1} %", u * 100.0)).unwrap_or_default();
        rows.push(row("mean", ms(times.mean() / 1e6) + &spread));
        rows.push(row("min", ms(times.percentile(0.0) as f64 / 1e6)));
        let shares = PERCENTILES.iter();
        rows.extend(shares.map(|(k, s)| row(k, ms(times.percentile(*s) as f64 / 1e6))));
        rows.push(row("throughput", format!("{} rows/s", show::float(rate(seen, &times)))));
        if uncertainty.is_some_and(|u| u > 0.05) {
            note("the mean is uncertain by more than 5 %: run longer, or on a quieter machine");
        }
    }
    if let Some(peak) = machine::peak_rss_mb() {
        rows.push(row("peak memory", format!("{peak:.1} MiB")));
    }
    let mut text = show::table(&rows);
    if !seen.nodes.is_empty() {
        text.push('\n');
        text += &show::table(&longest(seen));
    }
    text
}

/// What a node takes of a run of the model.
fn micros(n: &NodeTime, runs: u32) -> f64 {
    n.total.as_secs_f64() * 1e6 / f64::from(runs.max(1))
}

/// The nodes that take longest, with their share of all.
fn longest(seen: &Measured) -> Vec<Vec<String>> {
    let nodes = &seen.nodes;
    let all: f64 = nodes.iter().map(|n| n.total.as_secs_f64()).sum();
    let row = |n: &NodeTime| {
        let share = 100.0 * n.total.as_secs_f64() / all.max(f64::MIN_POSITIVE);
        let time = format!("{:.1} us", micros(n, seen.profiled));
        vec![time, format!("{share:.1} %"), n.op.clone(), n.by.to_owned(), n.name.clone()]
    };
    nodes.iter().take(LONGEST).map(row).collect()
}

impl Feeding {
    /// Makes the symbols of axis 0 stand for `batch`, except those that have a length already.
    fn set_batch(&mut self, inputs: &[kiln::ValueInfo], batch: Option<u64>) {
        let Some(batch) = batch else { return };
        for input in inputs {
            if let Type::Tensor(t) = &input.ty
                && let Some(s) = t.shape.iter().flatten().next().and_then(|d| d.as_sym())
            {
                self.set_default(s.name(), batch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifiers_are_judged_by_their_scores() {
        let label = || Datum::Tensor(Tensor::vector(vec![1i64]));
        let scores = || Datum::Tensor(Tensor::vector(vec![0.5f32]));
        let name = |outputs: Vec<Datum>| {
            let names = ["a", "b", "c"].map(str::to_owned).into_iter();
            let outputs: Named = names.zip(outputs).collect();
            main_output(&outputs).expect("tensors").0.to_owned()
        };
        assert_eq!(name(vec![label(), scores()]), "b");
        assert_eq!(name(vec![scores(), label()]), "a");
        assert_eq!(name(vec![label(), label()]), "a");
        assert_eq!(name(vec![label(), scores(), scores()]), "a");
    }

    #[test]
    fn rows_are_cut() {
        let t = Tensor::from_vec(&[2001, 2], (0..4002).collect::<Vec<i32>>()).expect("4002");
        let cut = first_rows(&t).expect("rows");
        assert_eq!((cut.shape(), cut.len()), (&[2000, 2][..], 4000));
        assert_eq!(first_rows(&cut).expect("rows"), cut);
    }
}
