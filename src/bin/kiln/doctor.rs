//! `kiln doctor`: the machine as kiln sees it.

use std::io::{self, Write};

use clap::Args as Flags;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::{machine, show};

/// Show what this machine offers
#[derive(Flags, Debug)]
#[command(after_help = "Example:\n  kiln doctor --json")]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    let cuda = match kiln_cuda::Cuda::locate() {
        Ok(_) => "ready".to_owned(),
        Err(e) => e.message().to_owned(),
    };
    let text = |n: Option<u64>, unit: &str| n.map_or("unknown".into(), |n| format!("{n} {unit}"));
    let facts = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("build", if cfg!(debug_assertions) { "debug: slow" } else { "release" }.to_owned()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("cpu", machine::cpu()),
        ("cores", machine::cores().to_string()),
        ("features", machine::features().join(" ")),
        ("memory", text(machine::memory_mb(), "MiB")),
        ("load", machine::load().map_or("unknown".into(), |l| format!("{l:.2}"))),
        ("cuda", cuda),
    ];
    let mut out = io::stdout().lock();
    if args.json {
        let mut document = Map::from_iter([("schema".to_owned(), json!("kiln-doctor/1"))]);
        document.extend(facts.into_iter().map(|(k, v)| (k.to_owned(), Value::from(v))));
        return Ok(writeln!(out, "{:#}", Value::Object(document))?);
    }
    let rows: Vec<_> = facts.into_iter().map(|(k, v)| vec![k.to_owned(), v]).collect();
    Ok(out.write_all(show::table(&rows).as_bytes())?)
}
