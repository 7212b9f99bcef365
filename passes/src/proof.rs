//! The judge that trusts no rule: it calculates both sides of every edit and compares.
//!
//! Before the first pass the untouched graph is run by the definitions of its operators, and
//! every value is kept. An edit promises that the values at its border stay what they are; so
//! only its new nodes have to be calculated, from kept values, to hold it to that.

use std::collections::{HashMap, HashSet};

use kiln_ir::rewrite::{Judge, Proposal, Ruling};
use kiln_ir::{Context, Graph, NodeId, Op, Operator, Result, Value, eval};
use kiln_tensor::Datum;

use crate::closeness::{Bound, Gap};
use crate::sides::Sides;

/// Values for the inputs of a graph, in their order.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is, for messages.
    pub name: String,
    /// The values.
    pub inputs: Vec<Datum>,
    /// Whether it holds infinities, NaN or numbers near the ends of their type: only rules that
    /// promise every bit are held to it.
    pub extreme: bool,
}

/// An edit that changed a value.
#[derive(Clone, Debug)]
pub struct Culprit {
    /// The rule.
    pub rule: &'static str,
    /// The node at which it fired.
    pub root: String,
    /// What differs, and on which sample.
    pub reason: String,
    /// The nodes that went, with what they read as inputs.
    pub before: Graph,
    /// The nodes that came in their place.
    pub after: Graph,
    /// Values of the inputs of `before`, on which the two differ.
    pub inputs: Vec<Datum>,
}

/// The judge. It drops what changes a value, and remembers it.
pub struct Proof {
    context: Context,
    recordings: Vec<Recording>,
    denied: HashSet<(&'static str, String)>,
    culprits: Vec<Culprit>,
}

struct Recording {
    sample: Sample,
    values: HashMap<Value, Datum>,
    outputs: Vec<Datum>,
}

impl Proof {
    /// A judge without samples: it admits everything, and compares nothing.
    pub fn new(context: Context) -> Self {
        Self { context, recordings: vec![], denied: HashSet::new(), culprits: vec![] }
    }

    /// Runs the untouched graph on a sample and keeps every value.
    ///
    /// An error: the graph itself fails on this sample, which then proves nothing.
    pub fn record(&mut self, g: &Graph, sample: Sample) -> Result<()> {
        let mut values: HashMap<_, _> = g.inputs().zip(sample.inputs.iter().cloned()).collect();
        let outputs = eval::run_with(g, &self.context, sample.inputs.clone(), &mut |v, datum| {
            values.insert(v, datum.clone());
        })?;
        self.recordings.push(Recording { sample, values, outputs });
        Ok(())
    }

    /// How many samples it holds.
    pub fn samples(&self) -> usize {
        self.recordings.len()
    }

    /// Never lets the rule fire at the node again.
    pub fn deny(&mut self, rule: &'static str, root: &str) {
        self.denied.insert((rule, root.to_owned()));
    }

    /// What was dropped.
    pub fn culprits(&self) -> &[Culprit] {
        &self.culprits
    }

    /// The samples, with what the untouched graph gives for each.
    pub fn expected(&self) -> impl Iterator<Item = (&Sample, &[Datum])> {
        self.recordings.iter().map(|r| (&r.sample, r.outputs.as_slice()))
    }
}

impl Judge for Proof {
    fn admits(&mut self, rule: &'static str, root: &str) -> bool {
        self.denied.is_empty() || !self.denied.contains(&(rule, root.to_owned()))
    }

    fn takes_all(&self) -> bool {
        true
    }

    fn judge(&mut self, g: &Graph, proposal: &Proposal<'_>) -> Ruling {
        let mut ruling = Ruling::default();
        let mut wrong = None;
        for (i, recording) in self.recordings.iter_mut().enumerate() {
            let gap = recording.gap(g, &self.context, proposal);
            ruling.checked |= gap.compared;
            if gap.largest > ruling.max_error || gap.largest.is_nan() {
                ruling.max_error = gap.largest;
            }
            if let Some(fault) = gap.fault {
                wrong = Some((i, format!("sample `{}`: {fault}", recording.sample.name)));
                break;
            }
        }
        if let Some((i, reason)) = wrong {
            let root = g.node(proposal.root).name.to_string();
            self.deny(proposal.rule, &root);
            let shown = self.recordings[i].culprit(g, proposal);
            self.culprits.extend(shown.map(|(Sides { before, after, .. }, inputs)| {
                let reason = reason.clone();
                Culprit { rule: proposal.rule, root, reason, before, after, inputs }
            }));
            ruling.dropped = Some(reason);
        }
        ruling
    }
}

impl Recording {
    /// Calculates both sides from the same kept values, and compares what takes the place of
    /// old values.
    fn gap(&mut self, g: &Graph, cx: &Context, proposal: &Proposal<'_>) -> Gap {
        let mut gap = Gap::default();
        for &n in proposal.made {
            match self.run(g, cx, n) {
                Ok(true) => {}
                // A value that was never calculated, behind a branch that was not taken.
                Ok(false) => return gap,
                Err(e) => {
                    let name = &g.node(n).name;
                    return Gap::fault(format!("the new node `{name}` fails: {e}"));
                }
            }
        }
        let compares = !self.sample.extreme || proposal.exact;
        let mut old_side = OldSide {
            kept: self,
            inner: proposal.absorbed.iter().copied().chain([proposal.root]).collect(),
            made: HashMap::new(),
        };
        for (old, new) in proposal.replaced.iter().filter(|_| compares) {
            let (want, got) = (old_side.value(g, cx, *old), old_side.kept.get(g, *new));
            let (Some(want), Some(got)) = (want, got) else { continue };
            let bound = match proposal.exact {
                true => Bound::Bits,
                false => Bound::Rounding(proposal.slack),
            };
            gap.merge(Gap::between(&want, &got, bound).at(&g.node(old.node).name));
        }
        // Later edits are held to the values of the untouched graph, and not to what roundings
        // of this one add up to.
        for (old, new) in proposal.replaced.iter().filter(|_| gap.fault.is_none()) {
            let kept = self.values.get(old).filter(|_| proposal.made.contains(&new.node));
            if let Some(kept) = kept.cloned() {
                self.values.insert(*new, kept);
            }
        }
        gap
    }

    fn get(&self, g: &Graph, v: Value) -> Option<Datum> {
        let constant = || g.constant_of(v).map(|t| t.clone().into());
        constant().or_else(|| self.values.get(&v).cloned())
    }

    /// Calculates a node; false where an operand is not known.
    fn run(&mut self, g: &Graph, cx: &Context, node: NodeId) -> Result<bool> {
        if matches!(g.op(node), Op::Const(_)) {
            return Ok(true);
        }
        let operands: Vec<_> =
            g.inputs_of(node).into_iter().map(|v| v.map(|v| self.get(g, v))).collect();
        if operands.iter().any(|o| matches!(o, Some(None))) {
            return Ok(false);
        }
        let seen: Vec<_> = operands.iter().map(|o| o.as_ref().and_then(Option::as_ref)).collect();
        let made = g.op(node).eval(cx, &seen)?;
        self.values.extend(g.outputs_of(node).zip(made));
        Ok(true)
    }

    /// Both sides of an edit as graphs of the same inputs, and values for these.
    fn culprit(&self, g: &Graph, proposal: &Proposal<'_>) -> Option<(Sides, Vec<Datum>)> {
        let sides = Sides::of(g, proposal).ok()?;
        let inputs = sides.border.iter().map(|&v| self.get(g, v)).collect::<Option<_>>()?;
        Some((sides, inputs))
    }
}

/// The nodes that go, calculated anew: an earlier edit may have made some of them.
struct OldSide<'a> {
    kept: &'a Recording,
    inner: HashSet<NodeId>,
    made: HashMap<Value, Datum>,
}

impl OldSide<'_> {
    /// A value, from kept values at the border; `None` where one of these is not known.
    fn value(&mut self, g: &Graph, cx: &Context, v: Value) -> Option<Datum> {
        if !self.inner.contains(&v.node) {
            return self.kept.get(g, v);
        }
        if let Some(made) = self.made.get(&v) {
            return Some(made.clone());
        }
        let mut operands = Vec::new();
        for operand in g.inputs_of(v.node) {
            operands.push(match operand {
                Some(operand) => Some(self.value(g, cx, operand)?),
                None => None,
            });
        }
        let seen: Vec<_> = operands.iter().map(Option::as_ref).collect();
        let made = g.op(v.node).eval(cx, &seen).ok()?;
        self.made.extend(g.outputs_of(v.node).zip(made));
        self.made.get(&v).cloned()
    }
}
