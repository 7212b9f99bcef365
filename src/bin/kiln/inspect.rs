//! `kiln inspect`: what is in a model, and what of it is supported.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args as Flags;
use kiln::{Error, Facts, Finding, Limits, Model, ValueInfo};
use kiln_ir::readable;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::options::Reading;
use crate::{dot, files, show};

/// Show what is in a model and what of it is supported
#[derive(Flags, Debug)]
#[command(after_help = "Examples:\n  \
    kiln inspect model.onnx\n  \
    kiln inspect model.onnx --graph model.dot\n\n\
    Exit code 3 says that operators are missing; all of them are listed.\n\
    The warnings of --lint leave the exit code at 0; --json has them as \"lints\".")]
pub struct Args {
    /// The ONNX file; - is stdin
    model: String,
    /// Print one JSON document
    #[arg(long, conflicts_with_all = ["ir", "ops", "lint"])]
    json: bool,
    /// Print the graph as text
    #[arg(long)]
    ir: bool,
    /// Print the operators only
    #[arg(long, conflicts_with = "ir")]
    ops: bool,
    /// Print warnings of wrong exports only; nothing where there are none
    #[arg(long, conflicts_with_all = ["ir", "ops"])]
    lint: bool,
    /// Draw the graph for Graphviz
    #[arg(long, value_name = "OUT.dot", value_parser = drawing)]
    graph: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

fn drawing(text: &str) -> Result<PathBuf, String> {
    match Path::new(text).extension().is_some_and(|e| e == "dot" || e == "gv") {
        true => Ok(text.into()),
        false => Err("drawings are written as .dot; `dot -Tsvg` makes pictures of them".into()),
    }
}

/// The file, read once where it can be read only once.
fn open(args: &Args) -> kiln::Result<(Facts, kiln::Result<Model>)> {
    let limits = args.reading.limits();
    if args.model != "-" {
        return Ok((Facts::read(&args.model, &limits)?, args.reading.open(&args.model)));
    }
    let bytes = stdin(&limits)?;
    let facts = Facts::from_bytes(bytes.clone(), &limits).map_err(|e| e.in_file("-"))?;
    Ok((facts, Model::from_bytes_with(bytes, &limits).map_err(|e| e.in_file("-"))))
}

fn stdin(limits: &Limits) -> kiln::Result<Bytes> {
    let mut bytes = Vec::new();
    let read =
        io::stdin().lock().take(limits.model_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| Error::io("stdin".as_ref(), &e))?;
    Ok(bytes.into())
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    let (facts, model) = open(&args)?;
    let seen = Seen::new(&args.model, facts, &model);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", seen.json())?;
    } else if args.ops {
        out.write_all(show::table(&seen.operators()).as_bytes())?;
    } else if args.lint {
        out.write_all(blocks(&seen.lints).as_bytes())?;
    } else if !args.ir {
        out.write_all(seen.text().as_bytes())?;
    }
    let model = model?;
    if args.ir {
        out.write_all(kiln_ir::text::print(model.graph()).as_bytes())?;
    }
    if let Some(path) = &args.graph {
        files::write(path, dot::draw(model.graph()).as_bytes())?;
    }
    Ok(out.flush()?)
}

/// All that there is to say.
struct Seen {
    file: String,
    facts: Facts,
    outputs: Vec<ValueInfo>,
    /// As `domain::Op`.
    missing: BTreeSet<String>,
    warnings: Vec<String>,
    lints: Vec<Finding>,
    problem: Option<String>,
}

impl Seen {
    fn new(file: &str, facts: Facts, model: &kiln::Result<Model>) -> Self {
        let failed = model.as_ref().err();
        let missing = failed.map(|e| e.missing_ops().iter().cloned().collect());
        Self {
            file: file.to_owned(),
            outputs: model.as_ref().map_or_else(|_| facts.outputs.clone(), Model::outputs),
            facts,
            missing: missing.unwrap_or_default(),
            warnings: model.as_ref().map(|m| m.warnings().to_vec()).unwrap_or_default(),
            lints: model.as_ref().map(kiln::lint).unwrap_or_default(),
            problem: failed.map(ToString::to_string),
        }
    }

    fn operators(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<_> = self.facts.ops.iter().collect();
        rows.sort_by_key(|(op, n)| (std::cmp::Reverse(**n), *op));
        let row = |(op, n): (&String, &usize)| {
            let missing = if self.missing.contains(op) { "missing" } else { "" };
            vec![op.clone(), n.to_string(), missing.to_owned()]
        };
        rows.into_iter().map(row).collect()
    }

    fn text(&self) -> String {
        let f = &self.facts;
        let opsets: Vec<_> = f.opsets.iter().map(|(d, v)| format!("{d} {v}")).collect();
        let row = |name: &str, text: String| vec![name.to_owned(), text];
        let mut head = vec![row("file", self.file.clone())];
        if !f.producer.is_empty() {
            head.push(row("producer", f.producer.clone()));
        }
        head.push(row("version", format!("IR {}, {}", f.ir_version, opsets.join(", "))));
        if !f.functions.is_empty() {
            head.push(row("functions", f.functions.join(", ")));
        }
        let initializers = format!("{} in {} initializers", f.parameters, f.initializers);
        head.push(row("parameters", initializers));
        head.push(row("nodes", f.nodes.to_string()));
        let mut text = show::table(&head);
        text += &section("inputs", &values(&f.inputs));
        text += &section("outputs", &values(&self.outputs));
        text += &section("operators", &self.operators());
        let warnings: Vec<_> = self.warnings.iter().map(|w| vec![w.clone()]).collect();
        text + &section("warnings", &warnings)
    }

    fn json(&self) -> Value {
        let f = &self.facts;
        let values = |all: &[ValueInfo]| -> Vec<Value> {
            all.iter().map(|v| json!({"name": v.name, "type": v.ty.to_string()})).collect()
        };
        json!({
            "schema": "kiln-inspect/1",
            "file": self.file,
            "ir_version": f.ir_version,
            "opsets": f.opsets,
            "producer": f.producer,
            "graph": f.graph,
            "functions": f.functions,
            "inputs": values(&f.inputs),
            "outputs": values(&self.outputs),
            "nodes": f.nodes,
            "initializers": f.initializers,
            "parameters": f.parameters,
            "ops": f.ops,
            "unsupported": self.missing,
            "warnings": self.warnings,
            "lints": self.lints.iter().map(finding).collect::<Vec<_>>(),
            "error": self.problem,
        })
    }
}

fn values(all: &[ValueInfo]) -> Vec<Vec<String>> {
    all.iter().map(|v| vec![v.name.clone(), v.ty.to_string()]).collect()
}

/// Two lines per finding.
fn blocks(findings: &[Finding]) -> String {
    let block = |f: &Finding| {
        let place = f.node.index.map_or_else(String::new, |i| format!("#{i} "));
        let (name, op) = (readable(&f.node.name), &f.node.op);
        let at = format!("node {place}`{name}` ({op})");
        format!("warning: {}: {at}: {}\n  help: {}\n", f.lint, f.what, f.help)
    };
    findings.iter().map(block).collect()
}

fn finding(f: &Finding) -> Value {
    let node = json!({"index": f.node.index, "name": f.node.name, "op": f.node.op});
    json!({"lint": f.lint, "node": node, "what": f.what, "help": f.help})
}

/// A heading and indented rows; nothing where there are no rows.
fn section(heading: &str, rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows = show::table(rows);
    let rows = rows.lines().map(|l| format!("  {l}\n"));
    format!("{heading}\n{}", rows.collect::<String>())
}
