//! Optimizing with proof: every edit and the whole result are held against the untouched graph.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_ir::{Context, Graph, Limits, Op, Operator, Result, eval};
use kiln_passes::{Bound, Culprit, Gap, Pipeline, Proof, Report, Sample};
use kiln_tensor::{DType, Datum, Tensor};

use crate::builder::{self, Options};
use crate::model::Model;

/// What a proof may use.
#[derive(Clone, Debug)]
pub struct Checking {
    /// Inputs to prove on, each a value for every input in order; more are made up.
    pub given: Vec<Vec<Datum>>,
    /// How far outputs may be off in the end, relative to the expected number. For a graph that
    /// quantizes, see [`kiln_passes::Bound::Length`].
    pub rtol: f64,
    /// How far outputs may be off in the end, beside that.
    pub atol: f64,
    /// How long the untouched graph may be run on samples that are made up; one is always tried.
    pub time: Duration,
}

impl Default for Checking {
    fn default() -> Self {
        Self { given: vec![], rtol: 1e-3, atol: 1e-4, time: Duration::from_secs(10) }
    }
}

/// An optimized graph, and what was found on the way.
#[derive(Debug)]
pub struct Checked {
    /// The graph; what was guilty has not been applied.
    pub graph: Graph,
    /// What the passes did.
    pub report: Report,
    /// The edits that were dropped.
    pub culprits: Vec<Culprit>,
    /// The names of the samples.
    pub samples: Vec<String>,
    /// What still differs: the backend's kernels, if anything.
    pub left: Option<String>,
}

/// How often the passes are run anew without the edit that was found guilty.
const TRIES: usize = 64;

/// How far the outputs of a graph that quantizes may be off, by their length: a cosine of 0.99.
const QUANTIZED: f64 = 0.14;

/// How often inputs are moved to see how far a graph sways.
const DRAWS: u64 = 4;

/// Room for the samples that are made up.
const SAMPLE_BYTES: usize = 256 << 20;

/// Optimizes `model`, and proves it.
///
/// An error: the model fails on inputs that were given.
pub(crate) fn check(model: &Model, options: &Options, checking: &Checking) -> Result<Checked> {
    let pipeline = kiln_passes::pipeline(options.opt_level, &options.skip, model.limits())?;
    let mut prover = Prover { model, options, checking, denied: HashSet::new() };
    let mut culprits = Vec::new();
    for _ in 0..TRIES {
        let mut proof = prover.proof()?;
        let mut graph = model.graph.clone();
        let report = kiln_passes::run_judged(&mut graph, &pipeline, &mut proof)?;
        for culprit in proof.culprits() {
            prover.denied.insert((culprit.rule, culprit.root.clone()));
        }
        let found = proof.culprits().iter().cloned();
        culprits.extend(found);
        if let Some(guilty) = prover.bisect(&pipeline, &graph, &report, &proof)? {
            prover.denied.insert(guilty);
            continue;
        }
        let left = prover.backend(&graph, &proof)?;
        let samples = proof.expected().map(|(s, _)| s.name.clone()).collect();
        return Ok(Checked { graph, report, culprits, samples, left });
    }
    Err(kiln_ir::Error::bug(format!("{TRIES} edits are wrong one after another"))
        .help("leave out the passes with --opt-level 0"))
}

struct Prover<'a> {
    model: &'a Model,
    options: &'a Options,
    checking: &'a Checking,
    denied: HashSet<(&'static str, String)>,
}

impl Prover<'_> {
    fn context(&self, inputs: &[Datum]) -> Context {
        let given = inputs.iter().map(|d| d.nbytes() as u64).sum::<u64>();
        let limits = self.model.limits();
        // Every value is kept.
        let limits = Limits { memory_bytes: limits.memory_bytes, ..limits.clone() };
        let mut context = Context::new(limits.within(self.model.nbytes().saturating_add(given)));
        context.seed = self.options.seed;
        context
    }

    /// A judge that has run the untouched graph on all samples there is time for.
    fn proof(&self) -> Result<Proof> {
        let g = &self.model.graph;
        let mut proof = Proof::new(self.context(&[]));
        for (rule, root) in &self.denied {
            proof.deny(rule, root);
        }
        for (i, inputs) in self.checking.given.iter().enumerate() {
            let name = format!("given {i}");
            proof.record(g, Sample { name, inputs: inputs.clone(), extreme: false })?;
        }
        let start = Instant::now();
        for sample in kiln_passes::samples(g, self.options.seed, SAMPLE_BYTES) {
            if proof.samples() > 0 && start.elapsed() * 2 > self.checking.time {
                break;
            }
            // What was made up may break rules that no type tells: then it proves nothing.
            let _ = proof.record(g, sample);
        }
        Ok(proof)
    }

    /// How far outputs may be off. Where the graph quantizes, a sum may be rounded to the next
    /// step, which shows in all that follows: then it is the direction that must stay.
    fn bound(&self) -> Bound {
        let g = &self.model.graph;
        if g.nodes().any(|n| matches!(g.op(n), Op::QuantizeLinear(_))) {
            return Bound::Length(QUANTIZED);
        }
        Bound::Within { rtol: self.checking.rtol, atol: self.checking.atol }
    }

    /// The edit that makes the whole graph wrong although it looked right by itself.
    fn bisect(
        &self,
        pipeline: &Pipeline,
        graph: &Graph,
        report: &Report,
        proof: &Proof,
    ) -> Result<Option<(&'static str, String)>> {
        if report.patches.is_empty() || self.wrong(graph, proof).is_none() {
            return Ok(None);
        }
        let mut denied = self.denied.clone();
        denied.extend(proof.culprits().iter().map(|c| (c.rule, c.root.clone())));
        let mut wrong = |g: &Graph| Ok(self.wrong(g, proof).is_some());
        let patch = kiln_passes::guilty(&self.model.graph, pipeline, &denied, &mut wrong)?;
        Ok(patch.map(|p| (p.rule, p.root)))
    }

    /// What differs on ordinary samples, by the definitions.
    fn wrong(&self, graph: &Graph, proof: &Proof) -> Option<String> {
        proof.expected().filter(|(s, _)| !s.extreme).find_map(|(sample, want)| {
            let got = eval::run(graph, &self.context(&sample.inputs), sample.inputs.clone());
            match got {
                Ok(got) => self.differ(sample, want, &got),
                Err(e) => Some(format!("sample `{}`: {e}", sample.name)),
            }
        })
    }

    /// What differs too much. Unless the caller says how much is too much, two things are not:
    /// what is rounding beside the largest number of an output, for the small ones may be
    /// differences of large ones; and what lies within the sway of the graph.
    fn differ(&self, sample: &Sample, want: &[Datum], got: &[Datum]) -> Option<String> {
        let usual = Checking::default();
        let (rtol, atol) = (self.checking.rtol, self.checking.atol);
        let fault = differ(sample, want, got, self.bound())?;
        let rounding = || differ(sample, want, got, Bound::Rounding(1.0)).is_none();
        let swaying = || {
            self.sway(sample, want).is_some_and(|by| {
                let mut all = want.iter().zip(got).zip(by);
                let bound = |atol| Bound::Within { rtol: 0.0, atol };
                all.all(|((want, got), by)| Gap::between(want, got, bound(by)).fault.is_none())
            })
        };
        let passes = (rtol, atol) == (usual.rtol, usual.atol) && (rounding() || swaying());
        (!passes).then_some(fault)
    }

    /// How far each output of the untouched graph moves, at most, where every input moves by one
    /// unit in the last place: nobody's rounding can be held to less. `None` where it cannot run.
    fn sway(&self, sample: &Sample, want: &[Datum]) -> Option<Vec<f64>> {
        let mut sway = vec![0f64; want.len()];
        for draw in 0..DRAWS {
            let inputs: Option<Vec<Datum>> =
                sample.inputs.iter().map(|d| nudged(d, draw)).collect();
            let moved =
                eval::run(&self.model.graph, &self.context(&sample.inputs), inputs?).ok()?;
            for ((sway, want), moved) in sway.iter_mut().zip(want).zip(&moved) {
                let all = Bound::Within { rtol: 0.0, atol: f64::INFINITY };
                *sway = sway.max(Gap::between(want, moved, all).largest);
            }
        }
        Some(sway)
    }

    /// What differs where the backend runs the result; random operators are not compared.
    fn backend(&self, graph: &Graph, proof: &Proof) -> Result<Option<String>> {
        let random = |g: &Graph| g.nodes().any(|n| g.op(n).traits().random);
        if random(graph) {
            return Ok(None);
        }
        let backend = builder::backend(self.options)?;
        let executable = backend.compile(Arc::new(graph.clone()), self.model.limits())?;
        for (sample, want) in proof.expected().filter(|(s, _)| !s.extreme) {
            let cx = self.context(&sample.inputs);
            let fault = match executable.run(&cx, sample.inputs.clone()) {
                Ok(got) => self.differ(sample, want, &got),
                Err(e) => Some(format!("sample `{}`: {e}", sample.name)),
            };
            if fault.is_some() {
                return Ok(fault);
            }
        }
        Ok(None)
    }
}

/// A value whose floats are each the next one, up or down; others as they are.
fn nudged(d: &Datum, draw: u64) -> Option<Datum> {
    let Datum::Tensor(t) = d else { return Some(d.clone()) };
    let up = |i: usize| (i as u64 ^ draw << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 0;
    let moved = match t.dtype() {
        DType::F32 => {
            let x = t.as_slice::<f32>().ok()?.iter().enumerate();
            let next = |(i, x): (usize, &f32)| if up(i) { x.next_up() } else { x.next_down() };
            Tensor::from_vec(t.shape(), x.map(next).collect()).ok()?
        }
        DType::F64 => {
            let x = t.as_slice::<f64>().ok()?.iter().enumerate();
            let next = |(i, x): (usize, &f64)| if up(i) { x.next_up() } else { x.next_down() };
            Tensor::from_vec(t.shape(), x.map(next).collect()).ok()?
        }
        _ => t.clone(),
    };
    Some(moved.into())
}

fn differ(sample: &Sample, want: &[Datum], got: &[Datum], bound: Bound) -> Option<String> {
    let mut all = want.iter().zip(got).enumerate();
    all.find_map(|(j, (want, got))| {
        let fault = Gap::between(want, got, bound).fault?;
        Some(format!("sample `{}`, output {j}: {fault}", sample.name))
    })
}
