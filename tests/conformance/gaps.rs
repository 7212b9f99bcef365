//! The list of what is missing, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Deserialize;

use crate::case::Outcome;

/// `gaps.toml`: names with reasons.
#[derive(Deserialize)]
pub struct Gaps {
    /// Operators that kiln lacks.
    operators: BTreeMap<String, String>,
    /// Single cases, `suite/case`.
    cases: BTreeMap<String, String>,
}

impl Gaps {
    /// Reads the list of the repository.
    pub fn load() -> Self {
        let file = crate::root().join("tests/conformance/gaps.toml");
        let text = fs::read_to_string(file).expect("the list is carried");
        toml::from_str(&text).expect("the list has `operators` and `cases` with reasons")
    }

    /// Cases that fail and are not listed, and what is listed and passes.
    pub fn findings(&self, outcomes: &[(&str, Outcome)]) -> Vec<String> {
        let mut findings = Vec::new();
        let mut seen = BTreeSet::new();
        for (case, outcome) in outcomes {
            let suite = case.split('/').next().unwrap_or(case);
            seen.insert(suite);
            let listed = self.cases.contains_key(*case);
            match outcome {
                Outcome::Pass if listed => findings.push(format!("{case} passes: delete it")),
                Outcome::Fail(what) if !listed => findings.push(format!("{case}: {what}")),
                Outcome::Missing(ops) if !listed => {
                    let unknown = ops.iter().filter(|op| !self.operators.contains_key(*op));
                    findings.extend(unknown.map(|op| format!("{case}: kiln lacks {op}")));
                }
                _ => {}
            }
        }
        let missing = |(op, _): &(&String, &String)| kiln_has(op);
        let there = self.operators.iter().filter(missing);
        findings.extend(there.map(|(op, _)| format!("kiln has {op}: delete it from the list")));
        let run: BTreeSet<_> = outcomes.iter().map(|(case, _)| *case).collect();
        let stray = (self.cases.keys())
            .filter(|c| seen.contains(c.split('/').next().unwrap_or(c)) && !run.contains(&***c));
        findings.extend(stray.map(|case| format!("there is no case {case}: delete it")));
        findings
    }
}

/// Whether a row reads the operator, named as errors name it: `ai.onnx::Relu`.
fn kiln_has(op: &str) -> bool {
    let (domain, name) = op.split_once("::").unwrap_or(("", op));
    kiln_ir::schema::find(&kiln_ir::schema::qualified(domain, name), i64::MAX).is_some()
}

#[test]
fn findings_are_what_the_list_does_not_say() {
    let gaps: Gaps = toml::from_str(
        "[operators]\n\"ai.onnx::NoSuch\" = \"why\"\n\"ai.onnx::Relu\" = \"why\"\n\
         [cases]\n\"s/a\" = \"why\"\n\"s/b\" = \"why\"\n\"s/c\" = \"why\"\n\"t/a\" = \"why\"\n",
    )
    .expect("it is such a list");
    let missing = |op: &str| Outcome::Missing(vec![op.into()]);
    let findings = gaps.findings(&[
        ("s/a", Outcome::Pass),
        ("s/b", Outcome::Fail("wrong".into())),
        ("s/d", Outcome::Pass),
        ("s/e", missing("ai.onnx::NoSuch")),
        ("s/f", missing("ai.onnx::Other")),
        ("s/g", Outcome::Fail("wrong".into())),
    ]);
    assert_eq!(
        findings,
        [
            "s/a passes: delete it",
            "s/f: kiln lacks ai.onnx::Other",
            "s/g: wrong",
            "kiln has ai.onnx::Relu: delete it from the list",
            "there is no case s/c: delete it",
        ]
    );
}
