//! Which edit is the first that makes a graph wrong.

use std::collections::HashSet;

use kiln_ir::rewrite::{Judge, Patch};
use kiln_ir::{Graph, Result};

use crate::pipeline::{Pipeline, run_judged};
use crate::report::Report;

/// A judge that lets so many edits through, without some.
struct Prefix<'a> {
    left: usize,
    denied: &'a HashSet<(&'static str, String)>,
}

impl Judge for Prefix<'_> {
    fn admits(&mut self, rule: &'static str, root: &str) -> bool {
        if self.left == 0 || self.denied.contains(&(rule, root.to_owned())) {
            return false;
        }
        self.left -= 1;
        true
    }
}

/// Runs the passes on a copy up to the edit of number `patches`, without those denied.
///
/// Passes are deterministic: a prefix of a run is the run stopped early.
pub fn replay(
    g: &Graph,
    pipeline: &Pipeline,
    patches: usize,
    denied: &HashSet<(&'static str, String)>,
) -> Result<(Graph, Report)> {
    let mut g = g.clone();
    let report = run_judged(&mut g, pipeline, &mut Prefix { left: patches, denied })?;
    Ok((g, report))
}

/// An edit between two graphs.
#[derive(Clone, Debug)]
pub struct Step {
    /// The edit.
    pub patch: Patch,
    /// The whole graph before it.
    pub before: Graph,
    /// The whole graph after it.
    pub after: Graph,
}

/// The first edit after which `wrong` holds; `None` where it holds after none of them.
///
/// Takes about log2 of the number of edits runs of `wrong`, which holds of the result and not of
/// `g` itself.
pub fn guilty(
    g: &Graph,
    pipeline: &Pipeline,
    denied: &HashSet<(&'static str, String)>,
    wrong: &mut dyn FnMut(&Graph) -> Result<bool>,
) -> Result<Option<Step>> {
    let (whole, report) = replay(g, pipeline, usize::MAX, denied)?;
    if !wrong(&whole)? {
        return Ok(None);
    }
    // After `good` edits the graph is right, after `bad` it is wrong.
    let (mut good, mut bad) = (0, report.patches.len());
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match wrong(&replay(g, pipeline, middle, denied)?.0)? {
            true => bad = middle,
            false => good = middle,
        }
    }
    let Some(patch) = report.patches.into_iter().nth(good) else { return Ok(None) };
    let [before, after] = [good, bad].map(|n| replay(g, pipeline, n, denied));
    Ok(Some(Step { patch, before: before?.0, after: after?.0 }))
}
