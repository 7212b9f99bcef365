//! Optimizing with proof: every edit and the whole result are held against the untouched graph.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_ir::rewrite::Patch;
use kiln_ir::{Context, Graph, Limits, Op, Operator, Result, eval};
use kiln_passes::{Bound, Culprit, Gap, Pipeline, Proof, Report, Sample, Step};
use kiln_tensor::Datum;

use crate::builder::{self, Options};
use crate::model::Model;
use crate::sway::Sway;

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

/// Room for the samples that are made up.
const SAMPLE_BYTES: usize = 256 << 20;

/// Optimizes `model`, and proves it.
///
/// An error: the model fails on inputs that were given.
pub(crate) fn check(model: &Model, options: &Options, checking: &Checking) -> Result<Checked> {
    let pipeline = kiln_passes::pipeline(options.opt_level, &options.skip, model.limits())?;
    let mut prover = Prover::new(model, options, checking);
    let (mut culprits, mut dropped) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        let mut proof = prover.proof()?;
        let mut graph = model.graph.clone();
        let mut report = kiln_passes::run_judged(&mut graph, &pipeline, &mut proof)?;
        for culprit in proof.culprits() {
            prover.denied.insert((culprit.rule, culprit.root.clone()));
        }
        let found = proof.culprits().iter().cloned();
        culprits.extend(found);
        if let Some((culprit, patch)) = prover.bisect(&pipeline, &graph, &report, &proof)? {
            prover.denied.insert((culprit.rule, culprit.root.clone()));
            dropped.extend(report.patches.into_iter().filter(|p| p.ruling.dropped.is_some()));
            dropped.push(patch);
            culprits.push(culprit);
            continue;
        }
        for patch in dropped {
            report.patches.push(Patch { number: report.patches.len(), ..patch });
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
    /// Of samples by name, measured where it is asked for.
    sways: RefCell<HashMap<String, Option<Sway>>>,
}

impl<'a> Prover<'a> {
    fn new(model: &'a Model, options: &'a Options, checking: &'a Checking) -> Self {
        Self { model, options, checking, denied: HashSet::new(), sways: RefCell::default() }
    }

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
        let rounds = |op: &Op| matches!(op, Op::QuantizeLinear(_) | Op::DynamicQuantizeLinear(_));
        if g.nodes().any(|n| rounds(g.op(n))) {
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
    ) -> Result<Option<(Culprit, Patch)>> {
        if report.patches.is_empty() || self.wrong(graph, proof).is_none() {
            return Ok(None);
        }
        let mut denied = self.denied.clone();
        denied.extend(proof.culprits().iter().map(|c| (c.rule, c.root.clone())));
        // The last graph found wrong is the one behind the guilty edit.
        let mut found = None;
        let mut wrong = |g: &Graph| {
            let fault = self.wrong(g, proof);
            let is_wrong = fault.is_some();
            found = fault.or(found.take());
            Ok(is_wrong)
        };
        let step = kiln_passes::guilty(&self.model.graph, pipeline, &denied, &mut wrong)?;
        let (Some(step), Some((sample, reason))) = (step, found) else { return Ok(None) };
        let Step { mut patch, before, after } = step;
        let reason = format!("the whole model is off: {reason}");
        patch.ruling.dropped = Some(reason.clone());
        let (rule, root, inputs) = (patch.rule, patch.root.clone(), sample.inputs.clone());
        Ok(Some((Culprit { rule, root, reason, before, after, inputs }, patch)))
    }

    /// What differs on an ordinary sample, by the definitions.
    fn wrong<'p>(&self, graph: &Graph, proof: &'p Proof) -> Option<(&'p Sample, String)> {
        proof.expected().filter(|(s, _)| !s.extreme).find_map(|(sample, want)| {
            let got = eval::run(graph, &self.context(&sample.inputs), sample.inputs.clone());
            let fault = match got {
                Ok(got) => self.differ(sample, want, &got),
                Err(e) => Some(format!("sample `{}`: {e}", sample.name)),
            };
            fault.map(|fault| (sample, fault))
        })
    }

    /// What differs too much. Unless the caller says how much is too much, two things are not:
    /// what is rounding beside the largest number of an output, for the small ones may be
    /// differences of large ones; and what lies within the sway of the graph.
    fn differ(&self, sample: &Sample, want: &[Datum], got: &[Datum]) -> Option<String> {
        let bound = self.bound();
        let usual = Checking::default();
        let strict = (self.checking.rtol, self.checking.atol) != (usual.rtol, usual.atol);
        want.iter().zip(got).enumerate().find_map(|(j, (w, g))| {
            let fault = Gap::between(w, g, bound).fault?;
            let rounds = || Gap::between(w, g, Bound::Rounding(1.0)).fault.is_none();
            let passes = !strict && (rounds() || self.sways(sample, want, j, g));
            (!passes).then(|| format!("sample `{}`, output {j}: {fault}", sample.name))
        })
    }

    /// Whether output `j` differs by no more than the untouched graph sways.
    fn sways(&self, sample: &Sample, want: &[Datum], j: usize, got: &Datum) -> bool {
        let measure = || {
            let run = |inputs| eval::run(&self.model.graph, &self.context(&sample.inputs), inputs);
            Sway::of(run, &sample.inputs, want)
        };
        let mut sways = self.sways.borrow_mut();
        let sway = sways.entry(sample.name.clone()).or_insert_with(measure);
        sway.as_ref().is_some_and(|sway| sway.covers(j, &want[j], got))
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
