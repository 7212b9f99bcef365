//! `kiln optimize --check`: the flags, what is said of a proof, and the models that show a fault.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args as Flags;
use kiln::{Checked, Checking, Datum, Model, Options};

use crate::failure::{Failure, note};
use crate::files;
use crate::inputs::Feeding;

/// Whether and how the result is proved.
#[derive(Flags, Debug)]
pub struct Proving {
    /// Prove every patch, and drop those that change a value
    #[arg(long)]
    pub check: bool,
    /// Inputs to prove on, too: an .npz, or folders of input_<j>.pb
    #[arg(long, value_name = "FILE.npz|DIR", requires = "check")]
    inputs: Option<String>,
    /// How far outputs may be off, relative to the expected number
    #[arg(long, value_name = "R", default_value_t = 1e-3, requires = "check")]
    #[arg(hide_short_help = true)]
    rtol: f64,
    /// How far outputs may be off beside that
    #[arg(long, value_name = "A", default_value_t = 1e-4, requires = "check")]
    #[arg(hide_short_help = true)]
    atol: f64,
}

impl Proving {
    /// Optimizes with proof.
    pub fn prove(&self, model: &Model, options: &Options) -> Result<Checked, Failure> {
        let mut checking = Checking { rtol: self.rtol, atol: self.atol, ..Checking::default() };
        for inputs in self.samples()? {
            let wanted = model.inputs();
            let values = Feeding::from(inputs).resolve(&wanted, options.seed, model.limits())?;
            checking.given.push(values.into_iter().map(|(_, d)| d).collect());
        }
        Ok(model.check(options, &checking)?)
    }

    /// Files or folders of one sample each.
    fn samples(&self) -> Result<Vec<String>, Failure> {
        let Some(inputs) = &self.inputs else { return Ok(vec![]) };
        let path = Path::new(inputs);
        if !path.is_dir() || path.join("input_0.pb").exists() {
            return Ok(vec![inputs.clone()]);
        }
        let entries = fs::read_dir(path)?.flatten().map(|e| e.path());
        let mut folders: Vec<_> = entries
            .filter(|p| p.join("input_0.pb").exists())
            .map(|p| p.display().to_string())
            .collect();
        folders.sort();
        match folders.is_empty() {
            false => Ok(folders),
            true => Err(Failure::usage(
                format!("--inputs {inputs}: no input_0.pb in it, nor in its folders"),
                "name an .npz, or a folder of input_<j>.pb",
            )),
        }
    }
}

/// Says what was proved and what was dropped, and writes a model for each fault beside `output`.
pub fn tell(model: &Model, checked: &Checked, output: &Path) -> Result<(), Failure> {
    let patches = &checked.report.patches;
    let proved = patches.iter().filter(|p| p.ruling.checked && p.ruling.dropped.is_none());
    let text = match checked.samples.len() {
        0 => "nothing is proved: the model runs on no sample; give some with --inputs".to_owned(),
        n => format!(
            "{} of {} patches proved on {n} samples: {}",
            proved.count(),
            patches.iter().filter(|p| p.ruling.dropped.is_none()).count(),
            checked.samples.join(", ")
        ),
    };
    note(&text);
    for p in patches {
        if let Some(reason) = &p.ruling.dropped {
            note(&format!("patch {} dropped: {} at `{}`: {reason}", p.number, p.rule, p.root));
        }
    }
    for (i, culprit) in checked.culprits.iter().enumerate() {
        let folder = repro(output, i, culprit.rule);
        fs::create_dir_all(&folder)?;
        let sides = [("before.onnx", &culprit.before), ("after.onnx", &culprit.after)];
        for (file, graph) in sides {
            files::write(&folder.join(file), &model.export(graph)?)?;
        }
        let inputs: Vec<(String, Datum)> =
            culprit.inputs.iter().enumerate().map(|(j, d)| (format!("x{j}"), d.clone())).collect();
        for (j, (name, datum)) in inputs.iter().enumerate() {
            files::write_value(&folder.join(format!("input_{j}.pb")), name, datum)?;
        }
        note(&format!("{} shows it: please report it", folder.display()));
    }
    match &checked.left {
        None => Ok(()),
        Some(what) => {
            note(&format!("a difference is left: {what}"));
            Err(Failure::Check)
        }
    }
}

/// Where the fault of number `i` is shown.
fn repro(output: &Path, i: usize, rule: &str) -> PathBuf {
    let mut name = output.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".fault-{i}-{rule}"));
    output.with_file_name(name)
}
