//! `kiln ops`: every operator that kiln imports.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args as Flags;
use kiln_ir::schema;
use serde_json::json;

use crate::failure::Failure;
use crate::show;

/// List the operators that kiln knows
#[derive(Flags, Debug)]
#[command(after_help = "Examples:\n  \
    kiln ops | grep Conv\n  \
    kiln ops --json\n\n\
    Numbers are the opset versions at which an operator changed; all later ones are read too.")]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    let mut all: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
    for row in schema::all() {
        let (domain, op) = schema::split(row.name);
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        all.entry((domain, op)).or_default().push(row.since);
    }
    all.values_mut().for_each(|v| v.sort_unstable());
    let mut out = io::stdout().lock();
    if args.json {
        let rows = all.iter().map(|((d, op), v)| json!({"domain": d, "op": op, "since": v}));
        let document = json!({"schema": "kiln-ops/1", "ops": rows.collect::<Vec<_>>()});
        return Ok(writeln!(out, "{document:#}")?);
    }
    let rows = all.iter().map(|((domain, op), versions)| {
        let versions: Vec<_> = versions.iter().map(i64::to_string).collect();
        vec![format!("{domain}::{op}"), versions.join(" ")]
    });
    Ok(out.write_all(show::table(&rows.collect::<Vec<_>>()).as_bytes())?)
}
