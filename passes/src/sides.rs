//! Both sides of an edit as graphs of their own.

use std::collections::{HashMap, HashSet};

use kiln_ir::rewrite::{Judge, Proposal, Ruling};
use kiln_ir::{Error, Graph, NodeId, Op, Result, Value};

use crate::pipeline::{Pipeline, run_judged};
use crate::report::Report;

/// What went and what came, as graphs of the same inputs.
#[derive(Clone, Debug)]
pub struct Sides {
    /// What the inputs are in the graph, in order.
    pub(crate) border: Vec<Value>,
    /// The nodes that went; outputs are the values that were replaced.
    pub before: Graph,
    /// The nodes that came; outputs are what took their place, in the same order.
    pub after: Graph,
}

impl Sides {
    /// An error: the edit has no border that stays, or one of its graphs does not infer.
    pub(crate) fn of(g: &Graph, proposal: &Proposal<'_>) -> Result<Self> {
        let old: HashSet<_> = proposal.absorbed.iter().copied().chain([proposal.root]).collect();
        let new: HashSet<_> = proposal.made.iter().copied().collect();
        let (before, after): (Vec<_>, Vec<_>) = proposal.replaced.iter().copied().unzip();
        let mut border = read(g, &before, &old);
        for v in read(g, &after, &new) {
            if !border.contains(&v) {
                border.push(v);
            }
        }
        let (before, after) = (part(g, &border, &before, &old)?, part(g, &border, &after, &new)?);
        Ok(Self { border, before, after })
    }
}

/// What the nodes of `inner` that `outputs` need read from outside, constants left out.
fn read(g: &Graph, outputs: &[Value], inner: &HashSet<NodeId>) -> Vec<Value> {
    let mut open: Vec<Value> = outputs.iter().rev().copied().collect();
    let (mut border, mut seen) = (Vec::new(), HashSet::new());
    while let Some(v) = open.pop() {
        if g.constant_of(v).is_some() || !seen.insert(v) {
            continue;
        }
        match inner.contains(&v.node) {
            true => open.extend(g.inputs_of(v.node).into_iter().rev().flatten()),
            false => border.push(v),
        }
    }
    border
}

/// The nodes of `inner` that `outputs` need, as a graph with `border` as its inputs.
fn part(g: &Graph, border: &[Value], outputs: &[Value], inner: &HashSet<NodeId>) -> Result<Graph> {
    let mut out = Graph::new();
    let mut made: HashMap<Value, Value> = HashMap::new();
    for (i, &v) in border.iter().enumerate() {
        made.insert(v, out.input(&format!("x{i}"), g.ty(v).clone()));
    }
    let mut open: Vec<Value> = outputs.iter().rev().copied().collect();
    while let Some(&v) = open.last() {
        if made.contains_key(&v) {
            open.pop();
            continue;
        }
        let node = g.node(v.node);
        if let Op::Const(c) = &node.op {
            made.insert(v, out.constant(&node.name, c.0.as_ref().clone()));
        } else if !inner.contains(&v.node) {
            return Err(Error::bug(format!("`{}` is outside of its edit", node.name)));
        } else {
            let operands = g.inputs_of(v.node);
            let known = open.len();
            open.extend(operands.iter().flatten().filter(|v| !made.contains_key(v)));
            if open.len() == known {
                let operands: Vec<_> =
                    operands.into_iter().map(|v| v.and_then(|v| made.get(&v).copied())).collect();
                let new = out.add(&node.name, node.op.clone(), &operands)?;
                made.extend(g.outputs_of(v.node).zip(out.outputs_of(new)));
            }
        }
    }
    let name = |i: usize| format!("y{i}").into();
    out.set_outputs(outputs.iter().enumerate().map(|(i, v)| (name(i), made[v])).collect());
    Ok(out)
}

/// Both sides of every edit of a report, in its order; `None` where an edit has no such picture.
///
/// Runs the passes anew on a copy of `g`, which must be the graph that the report is of; only the
/// report's edits are made.
pub fn pictures(g: &Graph, pipeline: &Pipeline, report: &Report) -> Result<Vec<Option<Sides>>> {
    let mut painter = Painter { report, made: vec![] };
    run_judged(&mut g.clone(), pipeline, &mut painter)?;
    Ok(painter.made)
}

struct Painter<'a> {
    report: &'a Report,
    made: Vec<Option<Sides>>,
}

impl Judge for Painter<'_> {
    fn admits(&mut self, rule: &'static str, root: &str) -> bool {
        let next = self.report.patches.get(self.made.len());
        next.is_some_and(|p| p.rule == rule && p.root == root)
    }

    fn takes_all(&self) -> bool {
        true
    }

    fn judge(&mut self, g: &Graph, proposal: &Proposal<'_>) -> Ruling {
        let i = self.made.len();
        self.made.push(Sides::of(g, proposal).ok());
        self.report.patches.get(i).map(|p| p.ruling.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use kiln_ir::{Limits, text};

    use super::*;
    use crate::pipeline::{pipeline, run};

    #[test]
    fn every_edit_is_shown_with_what_it_reads() {
        let g = text::parse(
            "w = f32[1,1,1]{3.0}\nc = Conv(x: f32[1,1,4], w)\nr = Relu(c)\ns = Identity(r)\n\
             return s",
        );
        let g = g.expect("parses");
        let all = pipeline(3, &[], &Limits::default()).expect("no names");
        let report = run(&mut g.clone(), &all).expect("sound");
        let shown = pictures(&g, &all, &report).expect("sound");
        let mut all = String::new();
        for (patch, sides) in report.patches.iter().zip(&shown) {
            let sides = sides.as_ref().expect("a picture");
            let [before, after] = [&sides.before, &sides.after].map(text::print);
            all += &format!("{}\n{before}=>\n{after}\n", patch.rule);
        }
        expect![[r#"
            noop
            x0: f32[1,1,4]
            s = Identity(x0)
            return y0=s
            =>
            x0: f32[1,1,4]
            return y0=x0

            conv_act
            x0: f32[1,1,4]
            w = f32[1,1,1]{3.0}
            c = Conv(x0, w)
            r = Relu(c)
            return y0=r
            =>
            x0: f32[1,1,4]
            w = f32[1,1,1]{3.0}
            r/conv_act0 = ai.kiln.Conv(x0, w) {activation="Relu"}
            return y0=r/conv_act0

        "#]]
        .assert_eq(&all);
    }
}
