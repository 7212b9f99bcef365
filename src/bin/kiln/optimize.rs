//! `kiln optimize`: a model in, an equal and cheaper model out.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args as Flags;

use crate::failure::{Failure, note};
use crate::inputs::checked_dims;
use crate::options::{Passing, Reading, number};
use crate::prove::{self, Proving};
use crate::{files, page, report};

/// Optimize a model and write it as ONNX
#[derive(Flags, Debug)]
#[command(after_help = "Examples:\n  \
    kiln optimize model.onnx -o fast.onnx\n  \
    kiln optimize model.onnx -o fast.onnx --dim batch=8 --report report.json\n  \
    kiln optimize model.onnx -o fast.onnx --check --inputs samples.npz")]
pub struct Args {
    /// The ONNX file; - is stdin
    model: String,
    /// The file to write; - is stdout
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// Replace a symbol of the inputs by a number
    #[arg(long = "dim", value_name = "NAME=N", value_parser = number)]
    dims: Vec<(String, u64)>,
    /// Write the optimized graph as text
    #[arg(long, value_name = "FILE")]
    ir: Option<PathBuf>,
    /// Write what each pass did, as data or as a page with pictures
    #[arg(long, value_name = "FILE.json|.html")]
    report: Option<PathBuf>,
    #[command(flatten)]
    proving: Proving,
    #[command(flatten)]
    passing: Passing,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    check(&args)?;
    let model = args.reading.load(&args.model)?;
    let dims = checked_dims(&args.dims, &model.inputs())?;
    let model = model.with_dims(&dims)?;
    model.warnings().iter().for_each(|w| note(w));
    let options = args.passing.options();
    let (graph, done, proof) = match args.proving.check {
        false => {
            let (graph, done) = model.optimize(&options).map_err(|e| e.in_file(&args.model))?;
            (graph, done, None)
        }
        true => {
            let mut checked = args.proving.prove(&model, &options)?;
            let (graph, done) = (std::mem::take(&mut checked.graph), checked.report.clone());
            (graph, done, Some(checked))
        }
    };
    let bytes = model.export(&graph).map_err(|e| e.in_file(&args.model))?;
    if let Some(path) = &args.ir {
        files::write(path, kiln_ir::text::print(&graph).as_bytes())?;
    }
    if let Some(path) = &args.report {
        let document = match is(path, "html") {
            true => page::page(&args.model, &done, &model.pictures(&options, &done)?),
            false => format!("{:#}\n", report::json(&args.model, &done)),
        };
        files::write(path, document.as_bytes())?;
    }
    let mut out = io::stdout().lock();
    if args.output == Path::new("-") {
        out.write_all(&bytes)?;
    } else {
        files::write(&args.output, &bytes)?;
        out.write_all(report::text(&done).as_bytes())?;
    }
    out.flush()?;
    match proof {
        Some(checked) => prove::tell(&model, &checked, &args.output),
        None => Ok(()),
    }
}

/// Refuses outputs that are the input, and formats that are not there.
fn check(args: &Args) -> Result<(), Failure> {
    let input = Path::new(&args.model);
    let outputs = [Some(&args.output), args.ir.as_ref(), args.report.as_ref()];
    for path in outputs.into_iter().flatten() {
        if files::same(input, path) {
            let what = format!("{} is the input: it is not overwritten", path.display());
            return Err(Failure::usage(what, "name another file"));
        }
    }
    if args.output != Path::new("-") && !is(&args.output, "onnx") && !is(&args.output, "pb") {
        let what = format!("{}: optimized models are written as .onnx", args.output.display());
        return Err(Failure::usage(what, "end the name in .onnx"));
    }
    match args.report.as_deref() {
        Some(path) if !is(path, "json") && !is(path, "html") => Err(Failure::usage(
            format!("{}: reports are written as .json or .html", path.display()),
            "end the name in .json or .html",
        )),
        _ => Ok(()),
    }
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}
