//! The public ONNX suites, in this process: every case passes, or is listed in `gaps.toml`.
//!
//! The suites lie in the folder that `KILN_SUITES` names, or in `shared/conformance/suites`
//! beside the repository; without them the test says so and passes.

mod case;
mod gaps;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use case::{Case, Outcome};
use gaps::Gaps;

/// The suites whose every case must pass or be listed.
const SUITES: &[&str] = &["onnx-node", "onnx-simple", "onnx-light"];

/// Suites of older models; too long for every run.
const MORE: &[&str] = &[
    "onnx-node-older",
    "onnx-pytorch-converted",
    "onnx-pytorch-operator",
    "onnx2c",
    "polygraphy",
    "real",
    "tract",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Unpacks a suite and returns its cases; `None` where it is not there.
fn cases(suite: &str, to: &Path) -> Option<Vec<Case>> {
    let beside = root().join("../shared/conformance/suites");
    let folder = std::env::var_os("KILN_SUITES").map_or(beside, PathBuf::from);
    let file = File::open(folder.join(format!("{suite}.zip"))).ok()?;
    let mut archive = zip::ZipArchive::new(file).expect("a suite is a zip");
    archive.extract(to.join(suite)).expect("there is room for the suite");
    let case = |file: &str| {
        let name = file.strip_suffix("/model.onnx")?;
        Some(Case { name: format!("{suite}/{name}"), folder: to.join(suite).join(name) })
    };
    let mut cases: Vec<_> = archive.file_names().flatten().filter_map(|file| case(&file)).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Some(cases)
}

/// What every case comes to, two at a time.
fn outcomes(cases: &[Case]) -> Vec<(&str, Outcome)> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = case.run();
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((&*case.name, outcome));
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn check(suites: &[&str]) {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let found = suites.iter().map(|suite| (suite, cases(suite, folder.path())));
    let mut all = Vec::new();
    for (suite, cases) in found {
        match cases {
            Some(cases) => all.extend(cases),
            None => println!("{suite} is not there: its cases are not run"),
        }
    }
    let outcomes = outcomes(&all);
    let passed = outcomes.iter().filter(|(_, o)| *o == Outcome::Pass).count();
    println!("{passed} of {} cases pass", outcomes.len());
    let findings = Gaps::load().findings(&outcomes);
    assert!(findings.is_empty(), "{} findings\n  {}\n", findings.len(), findings.join("\n  "));
}

#[test]
fn every_case_passes_or_is_a_known_gap() {
    check(SUITES);
}

#[test]
#[ignore = "takes minutes: run it with --ignored"]
fn every_case_of_older_models_passes_or_is_a_known_gap() {
    check(MORE);
}
