//! `kiln compare`: whether two models, levels, backends or saved outputs give the same.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args as Flags;
use kiln::{BackendKind, Datum, Error, Limits, Options, Session, Tensor, Type, npy};
use serde_json::{Value, json};

use crate::difference::{Difference, Tolerance, difference};
use crate::failure::{Failure, note};
use crate::inputs::Feeding;
use crate::options::Reading;
use crate::{files, inputs, show};

/// Compare the outputs of two models, levels, backends or files
#[derive(Flags, Debug)]
#[command(after_help = "Examples:\n  \
    kiln compare model.onnx@0 model.onnx@3 --random 5\n  \
    kiln compare model.onnx expected.npz --inputs inputs.npz\n\n\
    Values agree where |a - b| <= atol + rtol * |b|; whole numbers and texts must be equal.\n\
    Exit code 1 says that some do not.")]
pub struct Args {
    /// A model, MODEL@LEVEL, MODEL@BACKEND, a folder of output_<j>.pb, or a .npz, .npy
    a: String,
    /// What it is compared with
    b: String,
    #[command(flatten)]
    feeding: Feeding,
    /// Compare on so many sets of inputs that are made up
    #[arg(long, value_name = "N", default_value_t = 1)]
    random: u64,
    /// Where random numbers begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The relative tolerance
    #[arg(long, default_value_t = 1e-3, value_parser = tolerance)]
    rtol: f64,
    /// The absolute tolerance
    #[arg(long, default_value_t = 1e-5, value_parser = tolerance)]
    atol: f64,
    /// Threads inside one run; 0 is one per core
    #[arg(long, value_name = "T", default_value_t = 0)]
    threads: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: Reading,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let n = text.parse::<f64>().ok().filter(|n| *n >= 0.0);
    n.ok_or_else(|| "expected a number, 0 or more".to_owned())
}

type Named = Vec<(String, Datum)>;

/// One of the two.
enum Side {
    Model {
        path: String,
        options: Options,
    },
    /// Saved outputs; those of a folder have no names.
    Saved {
        path: PathBuf,
        named: bool,
    },
}

impl Side {
    fn parse(text: &str, args: &Args) -> Result<Self, Failure> {
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Side::Saved { path: path.into(), named: false });
        }
        if path.extension().is_some_and(|e| e == "npz" || e == "npy") {
            return Ok(Side::Saved { path: path.into(), named: true });
        }
        let options = Options { threads: args.threads, seed: args.seed, ..Options::default() };
        let Some((model, place)) = text.rsplit_once('@').filter(|_| !path.exists()) else {
            return Ok(Side::Model { path: text.to_owned(), options });
        };
        let options = match (place.parse::<u8>(), place.parse::<BackendKind>()) {
            (Ok(opt_level @ 0..=3), _) => Options { opt_level, ..options },
            // The definitions are the yardstick: nothing may be rewritten before.
            (_, Ok(backend @ BackendKind::Reference)) => {
                Options { backend, opt_level: 0, ..options }
            }
            (_, Ok(backend)) => Options { backend, ..options },
            _ => {
                let what = format!("{text}: `{place}` is neither a level nor a backend");
                return Err(Failure::usage(
                    what,
                    "levels are 0 to 3; backends cpu, cuda, reference",
                ));
            }
        };
        Ok(Side::Model { path: model.to_owned(), options })
    }
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    let sides = [Side::parse(&args.a, &args)?, Side::parse(&args.b, &args)?];
    let mut sets: Option<Vec<Named>> = None;
    let mut types: Option<Vec<(String, Type)>> = None;
    let mut outputs: [Vec<Named>; 2] = Default::default();
    for (side, out) in sides.iter().zip(&mut outputs) {
        if let Side::Model { path, options } = side {
            let (session, limits) = compile(path, options, &args.reading)?;
            if sets.is_none() {
                sets = Some(make_sets(&session, &args, &limits)?);
            }
            types.get_or_insert_with(|| {
                session.outputs().iter().map(|o| (o.name.clone(), o.ty.clone())).collect()
            });
            for set in sets.iter().flatten() {
                out.push(session.run(set.clone()).map_err(|e| e.in_file(path))?);
            }
        }
    }
    let limits = args.reading.limits();
    for (side, out) in sides.iter().zip(&mut outputs) {
        if let Side::Saved { path, named } = side {
            out.push(saved(path, *named, types.as_deref(), &limits)?);
        }
    }
    judge(&args, &outputs)
}

fn compile(path: &str, options: &Options, reading: &Reading) -> Result<(Session, Limits), Failure> {
    let model = reading.load(path)?;
    model.warnings().iter().for_each(|w| note(w));
    Ok((model.compile(options)?, model.limits().within(model.nbytes())))
}

/// The inputs: given ones once, else as many sets as asked for.
fn make_sets(session: &Session, args: &Args, limits: &Limits) -> Result<Vec<Named>, Failure> {
    let wanted = session.inputs();
    let sets = if args.feeding.is_given() || wanted.is_empty() { 1 } else { args.random.max(1) };
    let set = |i: u64| {
        let seed = args.seed.wrapping_add(i.wrapping_mul(wanted.len() as u64));
        args.feeding.resolve(wanted, seed, limits)
    };
    (0..sets).map(set).collect()
}

/// Reads saved outputs.
fn saved(
    path: &Path,
    named: bool,
    types: Option<&[(String, Type)]>,
    limits: &Limits,
) -> Result<Named, Failure> {
    if named {
        let bytes = files::read(path)?;
        if npy::is_npz(&bytes) {
            let all = npy::read_npz(&bytes).map_err(files::numpy)?;
            return Ok(all.into_iter().map(|(n, t)| (n, t.into())).collect());
        }
        let only: Tensor = npy::read(&bytes).map_err(files::numpy)?;
        let name = types.and_then(|t| t.first()).map_or("output_0", |(n, _)| n);
        return Ok(vec![(name.to_owned(), only.into())]);
    }
    let mut all = Vec::new();
    for j in 0.. {
        let file = path.join(format!("output_{j}.pb"));
        if !file.exists() {
            break;
        }
        // Without a model nobody says what a file holds: tensors are the rule.
        let tensor = (format!("output_{j}"), Type::tensor(kiln::DType::F32, None));
        let (name, ty) = types.and_then(|t| t.get(j)).unwrap_or(&tensor);
        let text = file.to_string_lossy().into_owned();
        all.push((name.clone(), inputs::read(&text, ty, limits)?));
    }
    if all.is_empty() {
        let there = fs::read_dir(path).map_err(|e| Error::io(path, &e))?.count();
        let what = format!("{} holds no output_0.pb ({there} other files)", path.display());
        return Err(Error::invalid(what).into());
    }
    Ok(all)
}

/// Compares set by set, and reports.
fn judge(args: &Args, [a, b]: &[Vec<Named>; 2]) -> Result<(), Failure> {
    let tolerance = Tolerance { rtol: args.rtol, atol: args.atol };
    let mut rows: Vec<(String, String, Difference)> = Vec::new();
    // Saved outputs are one set, and stand for every set.
    for i in 0..a.len().max(b.len()) {
        let (Some(a), Some(b)) = (a.get(i).or(a.last()), b.get(i).or(b.last())) else { continue };
        for (name, got, want) in pairs(a, b) {
            let (ty, found) = match (got, want) {
                (Some(got), Some(want)) => {
                    (Type::of(got).to_string(), difference(got, want, tolerance)?)
                }
                (Some(_), None) => ("-".into(), Difference::of("only in A")),
                _ => ("-".into(), Difference::of("only in B")),
            };
            match rows.iter_mut().find(|(n, ..)| *n == name) {
                Some((_, _, all)) => all.merge(found),
                None => rows.push((name, ty, found)),
            }
        }
    }
    let bad = rows.iter().filter(|(.., d)| d.fault.is_some()).count();
    let mut out = io::stdout().lock();
    match args.json {
        true => writeln!(out, "{:#}", document(args, &rows))?,
        false => out.write_all(text(&rows).as_bytes())?,
    }
    out.flush()?;
    if bad == 0 && !rows.is_empty() { Ok(()) } else { Err(Failure::Check) }
}

/// Outputs of equal names; by place where no name is shared, as in folders.
fn pairs<'a>(a: &'a Named, b: &'a Named) -> Vec<(String, Option<&'a Datum>, Option<&'a Datum>)> {
    let find = |all: &'a Named, name: &str| all.iter().find(|(n, _)| n == name).map(|(_, d)| d);
    if a.iter().any(|(n, _)| find(b, n).is_some()) {
        let mut all: Vec<_> = a.iter().map(|(n, d)| (n.clone(), Some(d), find(b, n))).collect();
        let rest = b.iter().filter(|(n, _)| find(a, n).is_none());
        all.extend(rest.map(|(n, d)| (n.clone(), None, Some(d))));
        return all;
    }
    let at = |all: &'a Named, j: usize| all.get(j).map(|(_, d)| d);
    let name = |j: usize| a.get(j).or(b.get(j)).map_or(String::new(), |(n, _)| n.clone());
    (0..a.len().max(b.len())).map(|j| (name(j), at(a, j), at(b, j))).collect()
}

fn text(rows: &[(String, String, Difference)]) -> String {
    let head = ["output", "type", "max abs", "max rel", "L2", "cosine", ""];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (name, ty, d) in rows {
        let verdict = d.fault.clone().map_or("same".to_owned(), |f| format!("DIFFERS: {f}"));
        let numbers = [d.max_abs, d.max_rel, d.l2, d.cosine()].map(show::float);
        lines.push([&[name.clone(), ty.clone()], &numbers[..], &[verdict]].concat());
    }
    show::table(&lines)
}

fn document(args: &Args, rows: &[(String, String, Difference)]) -> Value {
    let outputs = rows.iter().map(|(name, ty, d)| {
        json!({
            "name": name,
            "type": ty,
            "max_abs": d.max_abs,
            "max_rel": d.max_rel,
            "l2": d.l2,
            "cosine": d.cosine(),
            "differs": d.fault,
        })
    });
    json!({
        "schema": "kiln-compare/1",
        "a": args.a,
        "b": args.b,
        "rtol": args.rtol,
        "atol": args.atol,
        "outputs": outputs.collect::<Vec<_>>(),
        "same": rows.iter().all(|(.., d)| d.fault.is_none()),
    })
}
