//! Wrong rewrites, planted among the true ones: each must be caught and named.

use std::cell::Cell;
use std::collections::HashSet;

use kiln_ir::rewrite::Edit;
use kiln_ir::text;
use kiln_ir::{Context, Graph, Limits, NodeId, Operator, Pattern, Rewrite, Source, Verdict, eval};
use kiln_tensor::{DType, Tensor};

use crate::bisect::guilty;
use crate::closeness::{Bound, Gap};
use crate::pipeline::{Pipeline, phases, run_judged};
use crate::proof::{Proof, Sample};
use crate::samples::samples;

mod table;

use crate::forms::sources;
use table::{Change, PLANTED};

/// A wrong rewrite.
struct Planted {
    name: &'static str,
    /// What it looks for.
    pattern: Pattern,
    change: &'static Change,
    /// Once is enough: some see their own work again.
    fired: Cell<bool>,
}

impl Rewrite for Planted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn begin(&self) {
        self.fired.set(false);
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if self.fired.get() {
            return Ok(None);
        }
        let Some(m) = self.pattern.find(g, root) else { return Ok(None) };
        self.fired.set(true);
        let mut inputs = sources(g, root);
        let mut e = Edit::default();
        let (mut op, mut attrs) = (g.op(root).name().to_owned(), g.op(root).attrs());
        match self.change {
            Change::Swap => inputs.swap(0, 1),
            Change::Op(other) => op = (*other).to_owned(),
            Change::Attr(key, value) => attrs.set(key, value()),
            Change::Drop(i) => {
                inputs.remove(*i);
            }
            Change::Ints(i, data) => inputs[*i] = Some(e.constant(Tensor::vector(data.to_vec()))),
            Change::Number(i, x) => inputs[*i] = Some(e.constant(Tensor::scalar(*x))),
            Change::To(name) => {
                e.replace(root.first(), m.get(name).expect("the pattern names it"));
                return Ok(Some(e));
            }
            Change::Zero => {
                let zeros = Tensor::zeros(DType::F32, &[4, 8]).expect("small");
                let zeros = e.constant(zeros);
                e.replace(root.first(), zeros);
                return Ok(Some(e));
            }
            Change::Reread(i, name) => inputs[*i] = m.get(name).map(Source::from),
        }
        let y = e.call(&op, &inputs, attrs);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// All true passes, and the wrong one before them.
fn pipeline(i: usize) -> Pipeline {
    let mut phases = phases(&Limits::default());
    let (name, pattern, change, _) = &PLANTED[i];
    let pattern = pattern.parse().expect("the pattern parses");
    phases[0].rules.insert(0, Box::new(Planted { name, pattern, change, fired: Cell::new(false) }));
    Pipeline { phases }
}

fn graph(i: usize) -> (Graph, Vec<Sample>) {
    let g = text::parse(PLANTED[i].3).unwrap_or_else(|e| panic!("{}: {e}", PLANTED[i].0));
    let samples = samples(&g, 7, 1 << 20);
    assert!(!samples.is_empty(), "{}", PLANTED[i].0);
    (g, samples)
}

/// Whether two graphs give the same on the samples; a sample on which `g` fails tells nothing.
fn same(g: &Graph, other: &Graph, samples: &[Sample]) -> bool {
    let cx = Context::default();
    samples.iter().all(|s| {
        let Ok(want) = eval::run(g, &cx, s.inputs.clone()) else { return true };
        let Ok(got) = eval::run(other, &cx, s.inputs.clone()) else { return false };
        want.iter().zip(&got).all(|(w, g)| Gap::between(w, g, Bound::Bits).fault.is_none())
    })
}

#[test]
fn there_are_many_and_no_two_alike() {
    let names: HashSet<_> = PLANTED.iter().map(|p| p.0).collect();
    assert!(names.len() == PLANTED.len() && names.len() >= 50, "{}", names.len());
}

#[test]
fn the_proof_drops_every_wrong_edit_names_it_and_leaves_the_graph_right() {
    for (i, (name, ..)) in PLANTED.iter().enumerate() {
        let (g, samples) = graph(i);
        let mut proof = Proof::new(Context::default());
        for s in &samples {
            // Lengths of 0 and 1 do not fit everywhere.
            let _ = proof.record(&g, s.clone());
        }
        let mut after = g.clone();
        let report = run_judged(&mut after, &pipeline(i), &mut proof).expect(name);
        let dropped: Vec<_> =
            report.patches.iter().filter(|p| p.ruling.dropped.is_some()).map(|p| p.rule).collect();
        assert!(!dropped.is_empty(), "{name} is not caught: {}", text::print(&after));
        assert!(dropped.iter().all(|rule| rule == name), "{name}: {dropped:?}");
        assert!(same(&g, &after, &samples), "{name}: {}", text::print(&after));
        let culprit = &proof.culprits()[0];
        let repro = [&culprit.before, &culprit.after]
            .map(|g| eval::run(g, &Context::default(), culprit.inputs.clone()).ok());
        assert_ne!(
            repro[0].as_ref().map(|d| format!("{d:?}")),
            repro[1].as_ref().map(|d| format!("{d:?}")),
            "{name}"
        );
    }
}

#[test]
fn bisecting_names_every_wrong_edit_without_looking_inside() {
    for (i, (name, ..)) in PLANTED.iter().enumerate() {
        let (g, samples) = graph(i);
        let mut wrong = |after: &Graph| Ok(!same(&g, after, &samples));
        match guilty(&g, &pipeline(i), &HashSet::new(), &mut wrong) {
            Ok(step) => assert_eq!(step.map(|s| s.patch.rule), Some(*name)),
            // It changes a type: the engine itself has noticed.
            Err(e) => assert!(e.message().contains(name), "{name}: {e}"),
        }
    }
}
