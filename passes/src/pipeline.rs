//! The only place where the order of phases lives; inside a phase, any order will do.

use std::collections::HashSet;
use std::time::Instant;

use kiln_ir::cost::total;
use kiln_ir::rewrite::{self, Judge, Outcome};
use kiln_ir::{Decline, Error, Graph, Limits, NodeId, Op, Result, Rewrite, verify};

use crate::report::{Declined, PassReport, Report};
use crate::{algebra, attend, clean, fuse, ml, quant, recognize, region, skip};

/// Rules that may run in any order until none fires.
pub(crate) struct Phase {
    name: &'static str,
    pub(crate) rules: Vec<Box<dyn Rewrite>>,
}

/// Phases in the order in which they run.
pub struct Pipeline {
    pub(crate) phases: Vec<Phase>,
}

/// A rule may enable another in its phase this many times; it never takes as many.
const ROUNDS: usize = 16;

pub(crate) fn phases(limits: &Limits) -> Vec<Phase> {
    vec![
        // First, because every later rule has less to look at, and sees constants as such.
        Phase { name: "clean", rules: clean::rules(limits) },
        // Before anything takes an operator that integers could calculate for one of floats.
        Phase { name: "quant", rules: quant::rules() },
        // Before algebra moves the constants by which operators are recognised.
        Phase { name: "recognize", rules: recognize::rules() },
        // Before fusing, so that fewer spellings of one thing are left.
        Phase { name: "algebra", rules: algebra::rules(limits) },
        // Before fusing puts a bias where a folded one would go.
        Phase { name: "ml", rules: ml::rules() },
        // Before fusing takes the products and their masks for products with a bias.
        Phase { name: "attend", rules: attend::rules() },
        // Late, because fused operators are recognised by fewer rules than their parts.
        Phase { name: "fuse", rules: fuse::rules() },
        // Additions that no product has taken.
        Phase { name: "skip", rules: skip::rules() },
        // Last, for what no other operator has taken.
        Phase { name: "region", rules: region::rules() },
    ]
}

/// A pass as tables and messages show it.
#[derive(Clone, Copy, Debug)]
pub struct PassInfo {
    /// The name of its file, of its flag, and of its line in every report.
    pub name: &'static str,
    /// The phase that it runs in, and the folder of its file.
    pub phase: &'static str,
    /// Whether it leaves every bit of every output as it was.
    pub exact: bool,
}

/// All passes, in order.
pub fn passes() -> Vec<PassInfo> {
    let phases = phases(&Limits::default());
    let rules = phases.iter().flat_map(|p| p.rules.iter().map(|r| (p.name, r)));
    rules.map(|(phase, r)| PassInfo { name: r.name(), phase, exact: r.exact() }).collect()
}

/// The names of all passes, in order.
pub fn names() -> Vec<&'static str> {
    passes().iter().map(|p| p.name).collect()
}

/// The passes of a level, those in `skip` left out: 0 none, 1 clean only, 2 and up all.
///
/// An error names a pass in `skip` that does not exist.
pub fn pipeline(level: u8, skip: &[String], limits: &Limits) -> Result<Pipeline> {
    let known = names();
    if let Some(unknown) = skip.iter().find(|s| !known.contains(&s.as_str())) {
        return Err(Error::invalid(format!("there is no pass `{unknown}`"))
            .help(format!("the passes are {}", known.join(", "))));
    }
    let mut phases = phases(limits);
    match level {
        0 => phases.clear(),
        1 => phases.retain(|p| p.name == "clean"),
        _ => {}
    }
    for p in &mut phases {
        p.rules.retain(|r| !skip.iter().any(|s| s == r.name()));
    }
    Ok(Pipeline { phases })
}

/// Runs the passes.
pub fn run(g: &mut Graph, pipeline: &Pipeline) -> Result<Report> {
    run_judged(g, pipeline, &mut ())
}

/// Runs the passes; `judge` may keep rules from firing, and drop what they did.
pub fn run_judged(g: &mut Graph, pipeline: &Pipeline, judge: &mut dyn Judge) -> Result<Report> {
    let start = Instant::now();
    let mut report = Report { nodes_before: operators(g), before: total(g), ..Report::default() };
    pipeline.phases.iter().flat_map(|p| &p.rules).for_each(|r| r.begin());
    let entry = |p: &'static str, r: &dyn Rewrite| PassReport::new(r.name(), p);
    let rules = pipeline.phases.iter().flat_map(|p| p.rules.iter().map(|r| (p.name, r)));
    report.passes.extend(rules.map(|(phase, r)| entry(phase, r.as_ref())));
    for _ in 0..ROUNDS {
        let patches = report.patches.len();
        let mut first = 0;
        for phase in &pipeline.phases {
            run_phase(g, phase, judge, (first, &mut report))?;
            first += phase.rules.len();
        }
        // What a late phase makes may be work for an early one.
        if report.patches.len() == patches {
            break;
        }
    }
    (report.nodes_after, report.after) = (operators(g), total(g));
    report.micros = micros(start);
    Ok(report)
}

/// Runs the rules of a phase in turn until none has anything new to look at.
fn run_phase(
    g: &mut Graph,
    phase: &Phase,
    judge: &mut dyn Judge,
    (first, report): (usize, &mut Report),
) -> Result<()> {
    for _ in 0..ROUNDS {
        let before = report.patches.len();
        let order = g.order()?;
        for (i, rule) in phase.rules.iter().enumerate() {
            run_rule(g, rule.as_ref(), &order, judge, (first + i, report))?;
        }
        if report.patches.len() == before {
            break;
        }
        // What is known of the rest follows; until now it was true, but perhaps less than the
        // new nodes tell.
        g.reinfer()?;
        if cfg!(debug_assertions) {
            verify::verify(g).map_err(|e| Error::bug(format!("after {}: {e}", phase.name)))?;
        }
    }
    Ok(())
}

/// Runs one rule and adds what it did to its entry.
fn run_rule(
    g: &mut Graph,
    rule: &dyn Rewrite,
    order: &[NodeId],
    judge: &mut dyn Judge,
    (entry, report): (usize, &mut Report),
) -> Result<()> {
    let start = Instant::now();
    let outcome = rewrite::run(g, rule, order, report.patches.len(), judge)?;
    let pass = &mut report.passes[entry];
    for patch in outcome.patches.iter().filter(|p| p.ruling.dropped.is_none()) {
        pass.fired += 1;
        pass.saved = pass.saved + patch.saved;
    }
    remember(&mut pass.declined, &outcome);
    pass.micros += micros(start);
    report.patches.extend(outcome.patches);
    Ok(())
}

/// Adds the refusals of a run to those of runs before, which saw most of them, too; where the rule
/// has fired since, there is none any more.
fn remember(declined: &mut Vec<Declined>, outcome: &Outcome) {
    let fired: HashSet<_> = outcome.patches.iter().map(|p| p.root.as_str()).collect();
    declined.retain(|d| !fired.contains(d.node.as_str()));
    let known: HashSet<_> = declined.iter().map(|d| (d.node.clone(), d.reason)).collect();
    for (node, Decline { reason, advice }) in &outcome.declined {
        if !known.contains(&(node.clone(), *reason)) {
            declined.push(Declined { node: node.clone(), reason, advice });
        }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn operators(g: &Graph) -> usize {
    g.nodes().filter(|&n| !matches!(g.op(n), Op::Input(_) | Op::Const(_))).count()
}
