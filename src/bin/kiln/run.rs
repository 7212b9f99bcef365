//! `kiln run`: one model on one set of inputs, or many jobs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args as Flags;
use kiln::{Datum, Type};

use crate::failure::Failure;
use crate::inputs::Feeding;
use crate::options::{Building, Reading, pair};
use crate::{files, jobs, show};

/// Run a model on inputs
#[derive(Flags, Debug)]
#[command(after_help = "Examples:\n  \
    kiln run model.onnx --input x=x.npy --output y=y.npy\n  \
    kiln run model.onnx --dim batch=8 --seed 1\n\n\
    Jobs are JSON lines {\"id\", \"model\", \"inputs\": {name: file}, \"output_dir\"};\n\
    answers are {\"id\", \"status\": \"ok\" | \"unsupported\" | \"error\", \"reason\"}.")]
pub struct Args {
    /// The ONNX file; - is stdin
    #[arg(required_unless_present = "jobs")]
    model: Option<String>,
    #[command(flatten)]
    feeding: Feeding,
    /// Write output j as DIR/output_<j>.pb
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Write one output as .npy or .pb; - is stdout
    #[arg(long = "output", short = 'o', value_name = "NAME=FILE", value_parser = pair)]
    output: Vec<(String, String)>,
    /// Read jobs, one JSON object a line, from FILE; - is stdin
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["model", "input", "inputs", "output", "output_dir"])]
    jobs: Option<String>,
    #[command(flatten)]
    building: Building,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    let Some(path) = &args.model else {
        return jobs::run(args.jobs.as_deref().unwrap_or("-"), &args.building, &args.reading);
    };
    let model = args.reading.load(path)?;
    for warning in model.warnings() {
        crate::failure::note(warning);
    }
    let session = model.compile(&args.building.options())?;
    let limits = model.limits().within(model.nbytes());
    // The session holds what it needs of the model.
    drop(model);
    check_names(&args.output, session.outputs().iter().map(|o| o.name.as_str()))?;
    let inputs = args.feeding.resolve(session.inputs(), args.building.seed, &limits)?;
    let outputs = session.run(inputs).map_err(|e| e.in_file(path))?;
    write(&args, &outputs)
}

fn check_names<'a>(
    asked: &[(String, String)],
    there: impl Iterator<Item = &'a str>,
) -> Result<(), Failure> {
    let there: Vec<_> = there.collect();
    match asked.iter().find(|(name, _)| !there.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => Err(Failure::usage(
            format!("the model has no output `{name}`"),
            format!("its outputs are {}", there.join(", ")),
        )),
    }
}

fn write(args: &Args, outputs: &[(String, Datum)]) -> Result<(), Failure> {
    if let Some(folder) = &args.output_dir {
        files::write_folder(folder, outputs)?;
    }
    for (name, file) in &args.output {
        for (_, value) in outputs.iter().filter(|(n, _)| n == name) {
            files::write_value(Path::new(file), name, value)?;
        }
    }
    if args.output_dir.is_none() && args.output.is_empty() {
        let row = |(name, value): &(String, Datum)| {
            vec![name.clone(), Type::of(value).to_string(), show::head(value)]
        };
        let rows: Vec<_> = outputs.iter().map(row).collect();
        io::stdout().write_all(show::table(&rows).as_bytes())?;
    }
    Ok(())
}
