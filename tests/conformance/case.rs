//! One case: a model, and folders of inputs with the outputs that are expected.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use kiln::{DType, Datum, Kind, Limits, Model, Options, Result, Session, pb};
use kiln_testing::{Tolerance, compare};
use serde_json::Value;

/// Levels and threads that all give what is expected.
const SETTINGS: [(u8, usize); 2] = [(0, 1), (3, 2)];

/// A case on disk.
pub struct Case {
    /// The suite and the case.
    pub name: String,
    /// Where its model lies.
    pub folder: PathBuf,
}

/// What running a case comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All outputs are as expected.
    Pass,
    /// Operators that kiln lacks.
    Missing(Vec<String>),
    /// Anything else.
    Fail(String),
}

impl Case {
    /// Runs the case; a panic fails it.
    pub fn run(&self) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| self.attempt())) {
            Ok(Ok(None)) => Outcome::Pass,
            Ok(Ok(Some(what))) => Outcome::Fail(what),
            Ok(Err(e)) if e.kind() == Kind::Unsupported && !e.missing_ops().is_empty() => {
                Outcome::Missing(e.missing_ops().to_vec())
            }
            Ok(Err(e)) => Outcome::Fail(e.to_string()),
            Err(_) => Outcome::Fail("panicked".into()),
        }
    }

    /// What is wrong, if anything.
    fn attempt(&self) -> Result<Option<String>> {
        let model = Model::load(self.folder.join("model.onnx"))?;
        for (opt_level, threads) in SETTINGS {
            let session = model.compile(&Options { opt_level, threads, ..Options::default() })?;
            for set in 0.. {
                let folder = self.folder.join(format!("test_data_set_{set}"));
                if !folder.exists() {
                    break;
                }
                if let Some(what) = self.judge(&session, &folder)? {
                    let at = format!("level {opt_level}, {threads} threads");
                    return Ok(Some(format!("{what} ({at})")));
                }
            }
        }
        Ok(None)
    }

    fn judge(&self, session: &Session, folder: &Path) -> Result<Option<String>> {
        let mut inputs = Vec::new();
        for (i, want) in session.inputs().iter().enumerate() {
            // Inputs that are left out are optional ones.
            if let Ok(bytes) = fs::read(folder.join(format!("input_{i}.pb"))) {
                let value = pb::read(bytes.into(), &want.ty, &Limits::default())?;
                inputs.push((want.name.clone(), value));
            }
        }
        let rules = self.rules();
        let outputs = session.run(inputs)?;
        for (j, (declared, (name, got))) in session.outputs().iter().zip(&outputs).enumerate() {
            let Ok(bytes) = fs::read(folder.join(format!("output_{j}.pb"))) else { continue };
            let want = pb::read(bytes.into(), &declared.ty, &Limits::default())?;
            if let Err(what) = rules.compare(&want, got) {
                return Ok(Some(format!("output `{name}`: {what}")));
            }
        }
        Ok(None)
    }

    /// What the case's `data.json` says, over the rules of the ONNX runner.
    fn rules(&self) -> Rules {
        let text = fs::read_to_string(self.folder.join("data.json")).unwrap_or_default();
        let meta: Value = serde_json::from_str(&text).unwrap_or_default();
        let number = |key: &str, usual: f64| meta[key].as_f64().unwrap_or(usual);
        Rules {
            tolerance: Tolerance { atol: number("atol", 1e-7), rtol: number("rtol", 1e-3) },
            shape_only: meta["shape_only"].as_bool().unwrap_or(false),
        }
    }
}

struct Rules {
    tolerance: Tolerance,
    /// Whether the elements are random.
    shape_only: bool,
}

impl Rules {
    fn compare(&self, want: &Datum, got: &Datum) -> std::result::Result<(), String> {
        let (Datum::Tensor(w), Datum::Tensor(g)) = (want, got) else {
            return compare(want, got, Some(self.tolerance));
        };
        if self.shape_only && w.dtype() == g.dtype() && w.shape() == g.shape() {
            return Ok(());
        }
        // Two units in the last place.
        let least = if w.dtype() == DType::BF16 { 2f64.powi(-6) } else { 0.0 };
        let rtol = self.tolerance.rtol.max(least);
        compare(want, got, Some(Tolerance { rtol, ..self.tolerance }))
    }
}
