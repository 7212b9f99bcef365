//! Many jobs through one process: JSON lines in, JSON lines out. No job ends the process.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::Instant;

use kiln::{Error, Kind, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::{Building, Reading};
use crate::{bugs, files, inputs};

/// Answers every job of `source`, in order; `-` is stdin.
pub fn run(source: &str, building: &Building, reading: &Reading) -> Result<(), Failure> {
    let failed = |e| Error::io(source.as_ref(), &e);
    let lines: Box<dyn BufRead> = match source {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).map_err(failed)?)),
    };
    let mut out = io::stdout().lock();
    for line in lines.split(b'\n') {
        let line = line.map_err(failed)?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let answer = answer(&line, building, reading);
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(line: &[u8], building: &Building, reading: &Reading) -> Value {
    let job: Value = match serde_json::from_slice(line) {
        Ok(job) => job,
        Err(e) => {
            let reason = format!("the job is no JSON: {e}");
            return json!({"id": null, "status": "error", "reason": reason});
        }
    };
    let mut answer = Map::new();
    answer.insert("id".into(), job["id"].clone());
    match bugs::catch(|| one(&job, building, reading, &mut answer)) {
        Ok(Ok(())) => set(&mut answer, "status", "ok"),
        Ok(Err(e)) => refuse(&mut answer, &e),
        Err(panic) => {
            set(&mut answer, "status", "error");
            set(&mut answer, "reason", &format!("bug: {panic}"));
        }
    }
    Value::Object(answer)
}

fn set(answer: &mut Map<String, Value>, key: &str, text: &str) {
    answer.insert(key.into(), text.into());
}

fn refuse(answer: &mut Map<String, Value>, e: &Error) {
    set(answer, "status", if e.kind() == Kind::Unsupported { "unsupported" } else { "error" });
    set(answer, "reason", &e.to_string());
    if let Some(help) = e.remedy() {
        set(answer, "help", help);
    }
    if !e.missing_ops().is_empty() {
        answer.insert("unsupported".into(), json!(e.missing_ops()));
    }
}

fn one(
    job: &Value,
    building: &Building,
    reading: &Reading,
    answer: &mut Map<String, Value>,
) -> Result<()> {
    let start = Instant::now();
    let path = text(job, "model")?;
    let model = reading.open(path)?;
    let session = model.compile(&building.options())?;
    let limits = model.limits().clone();
    drop(model);
    answer.insert("load_ms".into(), millis(start));
    let given = job["inputs"].as_object();
    let mut fed = Vec::new();
    for want in session.inputs() {
        if let Some(file) = given.and_then(|g| g.get(&want.name)).and_then(Value::as_str) {
            fed.push((want.name.clone(), inputs::read(file, &want.ty, &limits)?));
        }
    }
    if let Some(name) =
        given.into_iter().flat_map(Map::keys).find(|&n| fed.iter().all(|(f, _)| f != n))
    {
        return Err(Error::invalid(format!(
            "the model has no input `{name}`, or its file is no text"
        )));
    }
    let start = Instant::now();
    let outputs = session.run(fed).map_err(|e| e.in_file(path))?;
    answer.insert("run_ms".into(), millis(start));
    files::write_folder(Path::new(text(job, "output_dir")?), &outputs)
}

fn text<'a>(job: &'a Value, key: &str) -> Result<&'a str> {
    job[key].as_str().ok_or_else(|| Error::invalid(format!("the job lacks `{key}`, a text")))
}

fn millis(start: Instant) -> Value {
    json!(start.elapsed().as_secs_f64() * 1e3)
}
