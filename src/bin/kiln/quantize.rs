//! `kiln quantize`: a model in, a model of integers or half floats out.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{ArgAction, Args as Flags};
use kiln::{Method, Metric, Model, Precision, Quantized, Quantizing, npy};
use kiln_ir::Op;
use serde_json::json;

use crate::failure::{Failure, note};
use crate::options::Reading;
use crate::{calibration, files, show};

/// Quantize a model and write it as ONNX
#[derive(Flags, Debug)]
#[command(after_help = "Examples:\n  \
    kiln quantize model.onnx -o small.onnx --calib samples.npz\n  \
    kiln quantize model.onnx -o small.onnx --calib samples.npz --max-drop 0.01 --metric top1\n  \
    kiln quantize model.onnx -o small.onnx --dtype bf16\n  \
    kiln quantize model.onnx -o small.onnx --weights-only\n\n\
    DATA is an .npz of arrays by input, a sample in each row; an .npy or .pb of the only input;\n\
    or a folder of such files, or of folders of input_<j>.pb.")]
pub struct Args {
    /// The ONNX file; - is stdin
    model: String,
    /// The file to write; - is stdout
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// Samples to measure the ranges of activations on
    #[arg(long, value_name = "DATA")]
    calib: Option<String>,
    /// How ranges are chosen: minmax, entropy, percentile or mse
    #[arg(long, default_value = "minmax", value_parser = word::<Method>, hide_default_value = true)]
    method: Method,
    /// What numbers become: int8, or weights only: bf16, f16
    #[arg(long, default_value = "int8", value_parser = word::<Precision>)]
    #[arg(hide_default_value = true)]
    dtype: Precision,
    /// Store weights as int8 and calculate in floats: no samples are needed
    #[arg(long)]
    weights_only: bool,
    /// Give each output channel of the weights a scale; =false for one scale a layer
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    per_channel: bool,
    /// A layer that stays as it is
    #[arg(long, value_name = "NODE")]
    exclude: Vec<String>,
    /// Put layers back until the outputs lose no more than X
    #[arg(long, value_name = "X", value_parser = drop_of)]
    max_drop: Option<f64>,
    /// What is called a loss: top1, mse or cosine (1 - cosine)
    #[arg(long, default_value = "cosine", value_parser = word::<Metric>)]
    #[arg(hide_default_value = true)]
    metric: Metric,
    /// The right labels of the samples, for top1
    #[arg(long, value_name = "FILE.npy")]
    labels: Option<PathBuf>,
    /// Write what became of each layer
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Threads inside one run; 0 is one per core
    #[arg(long, value_name = "T", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    #[command(flatten)]
    reading: Reading,
}

fn word<T: FromStr<Err = kiln::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: kiln::Error| e.message().to_owned())
}

fn drop_of(text: &str) -> Result<f64, String> {
    let x = text.parse::<f64>().ok().filter(|x| *x >= 0.0);
    x.ok_or_else(|| "expected a number, 0 or more".to_owned())
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    check(&args)?;
    let model = args.reading.load(&args.model)?;
    model.warnings().iter().for_each(|w| note(w));
    let forest = |id| matches!(model.graph().op(id), Op::TreeEnsemble(_));
    let needed =
        args.dtype == Precision::Int8 && !args.weights_only && !model.graph().nodes().any(forest);
    if needed && args.calib.is_none() {
        return Err(Failure::usage(
            "int8 needs samples: the ranges of activations are measured",
            "give some with --calib DATA; --weights-only, --dtype bf16 and f16 need none",
        ));
    }
    let samples = match &args.calib {
        Some(path) => calibration::samples(path, &model.inputs(), model.limits())?,
        None => vec![],
    };
    let done = model.quantize(&samples, &how(&args)?)?;
    let bytes = model.export(&done.graph).map_err(|e| e.in_file(&args.model))?;
    if let Some(path) = &args.report {
        let document = report(&args, &model, (samples.len(), bytes.len()), &done);
        files::write(path, document.as_bytes())?;
    }
    let mut out = io::stdout().lock();
    if args.output == Path::new("-") {
        out.write_all(&bytes)?;
    } else {
        files::write(&args.output, &bytes)?;
        out.write_all(text(&args, &model, bytes.len(), &done).as_bytes())?;
    }
    out.flush()?;
    match (args.max_drop, done.loss) {
        // Not-a-number is no loss that is allowed.
        (Some(most), Some(loss)) if loss.is_nan() || loss > most => {
            note(&format!("the outputs lose {loss} even where no layer is quantized"));
            Err(Failure::Check)
        }
        _ => Ok(()),
    }
}

/// What the flags ask for.
fn how(args: &Args) -> Result<Quantizing, Failure> {
    Ok(Quantizing {
        precision: args.dtype,
        method: args.method,
        per_channel: args.per_channel,
        weights_only: args.weights_only,
        exclude: args.exclude.clone(),
        max_drop: args.max_drop,
        metric: args.metric,
        labels: args.labels.as_deref().map(labels).transpose()?,
        threads: args.threads,
    })
}

/// Refuses what makes no sense before anything is read.
fn check(args: &Args) -> Result<(), Failure> {
    let input = Path::new(&args.model);
    for path in [Some(&args.output), args.report.as_ref()].into_iter().flatten() {
        if files::same(input, path) {
            let what = format!("{} is the input: it is not overwritten", path.display());
            return Err(Failure::usage(what, "name another file"));
        }
    }
    let ends =
        |path: &Path, all: &[&str]| path.extension().is_some_and(|e| all.iter().any(|a| e == *a));
    let wrong = |path: &Path, what: &str, ending: &str| {
        let text = format!("{}: {what} are written as {ending}", path.display());
        Err(Failure::usage(text, format!("end the name in {ending}")))
    };
    if args.output != Path::new("-") && !ends(&args.output, &["onnx", "pb"]) {
        return wrong(&args.output, "quantized models", ".onnx");
    }
    if let Some(path) = args.report.as_deref().filter(|p| !ends(p, &["json"])) {
        return wrong(path, "reports", ".json");
    }
    if args.weights_only && (args.dtype != Precision::Int8 || args.max_drop.is_some()) {
        return Err(Failure::usage(
            "--weights-only: weights become int8, and no loss is measured",
            "leave out --dtype and --max-drop",
        ));
    }
    match args.labels.is_some() && args.metric != Metric::Top1 {
        false => Ok(()),
        true => Err(Failure::usage("--labels: only --metric top1 looks at labels", "add it")),
    }
}

/// The labels of a file, whatever its shape.
fn labels(path: &Path) -> Result<Vec<i64>, Failure> {
    let tensor = npy::read(&files::read(path)?).map_err(files::numpy)?;
    match tensor.dtype().is_float() {
        false => Ok(tensor.to_vec::<i64>().map_err(kiln::Error::from)?),
        true => Err(Failure::usage(
            format!("--labels {}: labels are whole numbers", path.display()),
            "write the places of the right classes as integers",
        )),
    }
}

fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Mse => "mse",
        Metric::Top1 => "top1",
        _ => "cosine",
    }
}

fn dtype(precision: Precision) -> &'static str {
    match precision {
        Precision::Bf16 => "bf16",
        Precision::F16 => "f16",
        _ => "int8",
    }
}

/// The document of `--report`.
fn report(
    args: &Args,
    model: &Model,
    (samples, bytes): (usize, usize),
    done: &Quantized,
) -> String {
    let layers = done.layers.iter().map(|l| {
        json!({
            "name": l.name,
            "op": l.op,
            "quantized": l.left.is_none(),
            "reason": l.left,
            "loss": l.loss,
        })
    });
    let document = json!({
        "schema": "kiln-quantize/1",
        "model": args.model,
        "dtype": dtype(args.dtype),
        "samples": samples,
        "metric": metric(args.metric),
        "loss": done.loss,
        "bytes_before": model.nbytes(),
        "bytes_after": bytes,
        "layers": layers.collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

/// What was done, and what was left.
fn text(args: &Args, model: &Model, bytes: usize, done: &Quantized) -> String {
    let quantized = done.layers.iter().filter(|l| l.left.is_none()).count();
    let mut rows = vec![
        vec![
            "layers".to_owned(),
            format!("{quantized} of {} in {}", done.layers.len(), dtype(args.dtype)),
        ],
        vec!["bytes".to_owned(), format!("{} → {bytes}", model.nbytes())],
    ];
    if let Some(loss) = done.loss {
        rows.push(vec!["loss".to_owned(), format!("{loss:.6} ({})", metric(args.metric))]);
    }
    for layer in &done.layers {
        if let Some(why) = &layer.left {
            rows.push(vec!["left".to_owned(), format!("{} `{}`: {why}", layer.op, layer.name)]);
        }
    }
    show::table(&rows)
}
