//! Whole models give the outputs of the library they come from.
//!
//! The models of `models/` are always run; so is the benchmark zoo where the variable
//! `KILN_ZOO`, or the folder `shared/zoo/small` beside the repository, leads to it, and MiniLM
//! where the zoo's generator has written it (below `ZOO`, or `~/.cache/kiln-zoo`).

mod compare;

use std::fs;
use std::path::{Path, PathBuf};

use kiln::{DType, Datum, Model, Options, Session, Tensor, npy};
use serde_json::Value;

use compare::{Allowed, compare};

/// Models whose answer is decided by rounding. `svc_linear_breast` sums unscaled terms of 1e5 to
/// decisions of about 1: the rounding of its coefficients to f32 moves probabilities by 0.005.
const UNSTABLE: &[(&str, Allowed)] =
    &[("svc_linear_breast", Allowed { atol: 0.01, rtol: 0.0, labels: 0 })];

/// Whether the plain graph and the optimized one give the same.
const LEVELS: [u8; 2] = [0, 3];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folders of the benchmark zoo; none where it is not there.
fn zoo() -> Vec<PathBuf> {
    let beside = root().join("../shared/zoo/small");
    let zoo = std::env::var_os("KILN_ZOO").map_or(beside, PathBuf::from);
    let entries = fs::read_dir(&zoo).into_iter().flatten().flatten().map(|e| e.path());
    let mut folders: Vec<_> = entries.filter(|f| f.join("model.onnx").exists()).collect();
    folders.sort();
    if folders.is_empty() {
        println!("{} holds no models: only those of models/ are run", zoo.display());
    }
    folders
}

fn name(folder: &Path) -> String {
    folder.file_name().expect("a folder has a name").to_string_lossy().into_owned()
}

fn arrays(file: &Path) -> Result<Vec<(String, Tensor)>, String> {
    let bytes = fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    npy::read_npz(&bytes.into()).map_err(|e| format!("{}: {e}", file.display()))
}

/// How far `output` may be off, by what the zoo's `meta.json` says of the model.
///
/// Deep models state a tolerance. The others state how far ONNX Runtime is from the library
/// that the model comes from: that is the yardstick.
fn tolerance(meta: &Value, output: &str) -> Allowed {
    let name = meta["name"].as_str().unwrap_or("");
    if let Some((_, tolerance)) = UNSTABLE.iter().find(|(model, _)| *model == name) {
        return *tolerance;
    }
    if let Some(atol) = meta["atol"].as_f64() {
        return Allowed { atol, rtol: atol, labels: 0 };
    }
    let peer = &meta["ort_check"][output];
    let (off, range) = (peer["max_abs"].as_f64(), peer["ref_absmax"].as_f64());
    let usual = 1e-5 * range.unwrap_or(1.0).max(1.0);
    Allowed { atol: usual.max(4.0 * off.unwrap_or(0.0)), rtol: 0.0, labels: 0 }
}

/// The tolerances of `models/zoo.toml`, one for each of its sections.
fn carried() -> Vec<(String, Allowed)> {
    let text = fs::read_to_string(root().join("models/zoo.toml")).expect("the list is carried");
    let mut models: Vec<(String, Allowed)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            models.push((name.into(), Allowed { atol: 0.0, rtol: 0.0, labels: 0 }));
        } else if let Some((key, value)) = line.split_once(" = ")
            && let Some((_, tolerance)) = models.last_mut()
        {
            match key {
                "atol" => tolerance.atol = value.parse().expect("a number"),
                "rtol" => tolerance.rtol = value.parse().expect("a number"),
                _ => {}
            }
        }
    }
    models
}

/// Runs a model at one level.
fn run(folder: &Path, level: u8) -> Result<Vec<(String, Datum)>, String> {
    let inputs = arrays(&folder.join("inputs.npz"))?.into_iter().map(|(n, t)| (n, t.into()));
    let model = Model::load(folder.join("model.onnx")).map_err(|e| e.to_string())?;
    let options = Options { opt_level: level, ..Options::default() };
    let session = model.compile(&options).map_err(|e| e.to_string())?;
    session.run(inputs.collect()).map_err(|e| e.to_string())
}

/// Runs a model at every level and compares every output that is expected.
fn check(folder: &Path, tolerance: impl Fn(&str) -> Allowed) -> Result<(), String> {
    let expected = arrays(&folder.join("expected.npz"))?;
    for level in LEVELS {
        let got = run(folder, level).map_err(|e| format!("level {level}: {e}"))?;
        for (output, expected) in &expected {
            let Some((_, got)) = got.iter().find(|(n, _)| n == output) else {
                return Err(format!("level {level}: no output `{output}`"));
            };
            compare(expected, got, tolerance(output))
                .map_err(|e| format!("level {level}, output `{output}`: {e}"))?;
        }
    }
    Ok(())
}

/// Checks a model of the zoo by the tolerance of its `meta.json`.
fn check_by_meta(folder: PathBuf) -> (String, Result<(), String>) {
    let meta = fs::read_to_string(folder.join("meta.json")).map_err(|e| e.to_string());
    let meta = meta.and_then(|m| serde_json::from_str(&m).map_err(|e| e.to_string()));
    let result = meta.and_then(|m: Value| check(&folder, |output| tolerance(&m, output)));
    (name(&folder), result)
}

fn report(results: Vec<(String, Result<(), String>)>) {
    let all = results.len();
    let failed = results.into_iter().filter_map(|(n, r)| r.err().map(|e| format!("{n}: {e}")));
    let failed: Vec<_> = failed.collect();
    println!("{} of {all} models match", all - failed.len());
    assert!(failed.is_empty(), "{} of {all} models\n  {}\n", failed.len(), failed.join("\n  "));
}

#[test]
fn models_of_the_repository_match() {
    let models = carried();
    assert!(models.len() >= 2, "models/zoo.toml lists the models");
    let check = |(name, tolerance): (String, Allowed)| {
        let result = check(&root().join("models").join(&name), |_| tolerance);
        (name, result)
    };
    report(models.into_iter().map(check).collect());
}

#[test]
fn models_of_the_zoo_match() {
    report(zoo().into_iter().map(check_by_meta).collect());
}

#[test]
fn minilm_matches() {
    let home = || std::env::home_dir().map(|h| h.join(".cache/kiln-zoo"));
    let zoo = std::env::var_os("ZOO").map(PathBuf::from).or_else(home).unwrap_or_default();
    let folder = zoo.join("minilm_l6_v2_real");
    match folder.exists() {
        true => report(vec![check_by_meta(folder)]),
        false => println!("{} is not there: MiniLM is not run", folder.display()),
    }
}

#[test]
fn every_array_of_the_zoo_reads() {
    for folder in zoo() {
        for file in ["inputs.npz", "expected.npz"] {
            let arrays = arrays(&folder.join(file));
            assert!(arrays.is_ok_and(|a| !a.is_empty()), "{}/{file}", folder.display());
        }
    }
}

#[test]
fn every_folder_of_models_is_listed() {
    let listed = carried();
    for entry in fs::read_dir(root().join("models")).expect("the folder is carried").flatten() {
        if entry.path().join("model.onnx").exists() {
            let name = name(&entry.path());
            let found = listed.iter().any(|(n, t)| *n == name && t.atol > 0.0);
            assert!(found, "models/{name}: write a section with tolerances in models/zoo.toml");
        }
    }
}

#[test]
fn tolerances_follow_the_meta_data() {
    let meta = |text| serde_json::from_str::<Value>(text).expect("it is JSON");
    let atol = |text, output| tolerance(&meta(text), output).atol;
    assert_eq!(atol(r#"{"atol": 0.001}"#, "y"), 0.001);
    let peer = r#"{"ort_check": {"y": {"max_abs": 0.01, "ref_absmax": 300.0}}}"#;
    assert_eq!(atol(peer, "y"), 0.04);
    assert_eq!(atol(peer, "z"), 1e-5);
    assert_eq!(atol(r#"{"ort_check": {"y": "non-tensor"}}"#, "y"), 1e-5);
    assert_eq!(tolerance(&meta(r#"{"name": "svc_linear_breast"}"#), "label").atol, 0.01);
}

/// Some rows of a tensor.
fn rows(t: &Tensor, rows: std::ops::Range<usize>) -> Tensor {
    let each = t.len() / t.shape()[0];
    let shape: Vec<usize> =
        [rows.len()].into_iter().chain(t.shape()[1..].iter().copied()).collect();
    let range = rows.start * each..rows.end * each;
    let made = match t.dtype() {
        DType::F32 => Tensor::from_vec(&shape, t.as_slice::<f32>().expect("f32")[range].to_vec()),
        DType::I64 => Tensor::from_vec(&shape, t.as_slice::<i64>().expect("i64")[range].to_vec()),
        _ => Tensor::from_strings(&shape, t.strings().expect("strings")[range].to_vec()),
    };
    made.expect("rows of a table")
}

/// The bits of what a session gives for a table, some rows at a time, each output's in turn;
/// nothing where the outputs are no tables.
fn bits(session: &Session, inputs: &[Tensor], at_once: usize) -> Option<Vec<Vec<u64>>> {
    let all = inputs[0].shape()[0];
    let mut out: Vec<Vec<u64>> = vec![vec![]; session.outputs().len()];
    for from in (0..all).step_by(at_once) {
        let part = from..all.min(from + at_once);
        let fed = inputs.iter().map(|t| rows(t, part.clone()).into()).collect();
        for (out, y) in out.iter_mut().zip(session.run_values(fed).expect("runs")) {
            let Datum::Tensor(y) = y else { return None };
            out.extend(match y.dtype() {
                DType::F32 => {
                    y.as_slice::<f32>().ok()?.iter().map(|x| x.to_bits().into()).collect()
                }
                DType::I64 => y.as_slice::<i64>().ok()?.iter().map(|x| *x as u64).collect(),
                _ => vec![],
            });
        }
    }
    Some(out)
}

/// Whether rows get the same bits for any number of threads and any split of the batch.
fn steady(folder: &Path) -> Result<(), String> {
    let inputs: Vec<Tensor> =
        arrays(&folder.join("inputs.npz"))?.into_iter().map(|x| x.1).collect();
    let model = Model::load(folder.join("model.onnx")).map_err(|e| e.to_string())?;
    let mut want = None;
    for threads in [1, 2, 4] {
        let session = model.compile(&Options { threads, ..Options::default() });
        let session = session.map_err(|e| e.to_string())?;
        let inputs: Vec<Tensor> =
            session.inputs().iter().zip(&inputs).map(|(_, t)| t.clone()).collect();
        for at_once in [usize::MAX, 64, 7, 1] {
            let got = bits(&session, &inputs, at_once.min(inputs[0].shape()[0]));
            if *want.get_or_insert(got.clone()) != got {
                return Err(format!("{threads} threads, {at_once} rows at once: other bits"));
            }
        }
    }
    Ok(())
}

#[test]
fn classical_models_give_the_same_bits_for_any_threads_and_batches() {
    let classical = |f: &PathBuf| {
        let meta = fs::read_to_string(f.join("meta.json")).unwrap_or_default();
        let meta: Value = serde_json::from_str(&meta).unwrap_or_default();
        meta["kind"] == "classical"
    };
    let folders = zoo().into_iter().filter(classical);
    report(folders.map(|f| (name(&f), steady(&f))).collect());
}

#[test]
fn models_run_together_on_the_same_rows() {
    let folders = zoo();
    let of = |n: &str| folders.iter().find(|f| name(f) == n).map(|f| f.join("model.onnx"));
    let (Some(a), Some(b)) = (of("lgbm_50x15_breast"), of("dt_clf_breast")) else { return };
    let session = |file: PathBuf| {
        let model = Model::load(file).expect("loads");
        model.compile(&Options { threads: 2, ..Options::default() }).expect("compiles")
    };
    let (a, b) = (session(a), session(b));
    let x: Datum = Tensor::from_vec(&[3, 30], vec![1f32; 90]).expect("a table").into();
    let both = Session::run_many(&[&a, &b], std::slice::from_ref(&x)).expect("threads");
    for (session, got) in [&a, &b].into_iter().zip(both) {
        let want = session.run_values(vec![x.clone()]).expect("runs");
        assert_eq!(format!("{:?}", got.expect("runs")), format!("{want:?}"));
    }
}
