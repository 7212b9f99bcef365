//! `kiln explain`: what each pass does to a model, what it leaves alone, and why.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args as Flags;
use kiln::Options;
use kiln_passes::{PassReport, Report};

use crate::failure::{Failure, note};
use crate::inputs::checked_dims;
use crate::options::{Passing, Reading, number, pass};
use crate::show::{amount, savings};
use crate::{ablate, report, show};

/// Say what each pass does to a model, what it leaves alone, and why
#[derive(Flags, Debug)]
#[command(after_help = "Examples:\n  \
    kiln explain model.onnx\n  \
    kiln explain model.onnx --why conv_bn\n  \
    kiln explain model.onnx --ablate --dim batch=8\n\n\
    Savings are counted per run, with every symbol that --dim does not fix standing for 1.")]
pub struct Args {
    /// The ONNX file; - is stdin
    model: String,
    /// The nodes that a pass recognised and left alone, with what would help
    #[arg(long, value_name = "PASS", value_parser = pass)]
    why: Option<String>,
    /// Measure what each pass is worth here, by leaving it out
    #[arg(long, conflicts_with_all = ["why", "json"])]
    ablate: bool,
    /// Threads inside one run that is measured; 0 is one per core
    #[arg(long, value_name = "T", default_value_t = 0, requires = "ablate")]
    threads: usize,
    /// Replace a symbol of the inputs by a number
    #[arg(long = "dim", value_name = "NAME=N", value_parser = number)]
    dims: Vec<(String, u64)>,
    /// Print one JSON document, as `optimize --report` writes it
    #[arg(long, conflicts_with = "why")]
    json: bool,
    #[command(flatten)]
    passing: Passing,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    let model = args.reading.load(&args.model)?;
    let dims = checked_dims(&args.dims, &model.inputs())?;
    let model = model.with_dims(&dims)?;
    model.warnings().iter().for_each(|w| note(w));
    let options = Options { threads: args.threads, ..args.passing.options() };
    let (_, done) = model.optimize(&options).map_err(|e| e.in_file(&args.model))?;
    let text = match &args.why {
        Some(pass) => why(pass, &done),
        None if args.ablate => ablate::measure(&model, &options, &done)?,
        None if args.json => format!("{:#}\n", report::json(&args.model, &done)),
        None => overview(&done),
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// One line a pass, and below the reasons why it did not fire more often.
fn overview(done: &Report) -> String {
    let mut rows = vec![vec!["pass".into(), "fired".into(), "declined".into(), "saves".into()]];
    for p in &done.passes {
        let counts = [p.fired, p.declined.len()].map(|n| n.to_string());
        rows.push([[p.name.to_owned()].as_slice(), &counts, &[savings(&p.saved)]].concat());
    }
    let (before, after) = (&done.before, &done.after);
    let mut text = format!(
        "nodes {} → {}, FLOPs {} → {}, bytes moved {} → {}\n\n{}",
        done.nodes_before,
        done.nodes_after,
        amount(before.flops),
        amount(after.flops),
        amount(before.bytes),
        amount(after.bytes),
        show::table(&rows)
    );
    for p in done.passes.iter().filter(|p| !p.declined.is_empty()) {
        text += &format!("\n{} left alone:\n", p.name);
        for (reason, n) in reasons(p) {
            text += &format!("  {n} × {reason}\n");
        }
    }
    text
}

/// How often a pass refused for each reason.
fn reasons(p: &PassReport) -> BTreeMap<&'static str, usize> {
    let mut reasons = BTreeMap::new();
    for d in &p.declined {
        *reasons.entry(d.reason).or_insert(0) += 1;
    }
    reasons
}

/// Every near-miss of a pass.
fn why(pass: &str, done: &Report) -> String {
    let Some(p) = done.passes.iter().find(|p| p.name == pass) else {
        return format!("{pass} does not run at this level\n");
    };
    let mut text = format!("{pass} fired {} times", p.fired);
    if p.declined.is_empty() {
        return text + " and left nothing alone that it recognised\n";
    }
    text += ", and left alone:\n";
    for d in &p.declined {
        text += &format!("  {}: {}\n", d.node, d.reason);
        if !d.advice.is_empty() {
            text += &format!("    help: {}\n", d.advice);
        }
    }
    text
}
