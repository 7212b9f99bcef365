//! Patterns of a few nodes, written as the calls that they are.
//!
//! ```text
//! Mul(Mul(x, 0.5), Add(Erf(Div(x, 1.4142135)), 1))
//! ```
//!
//! | written | matches |
//! |---|---|
//! | `x` | any value; the same name again, the same value |
//! | `$w` | a constant |
//! | `0.5` | a constant of one element that is this number, as far as its type can tell |
//! | `_` | any value |
//! | `Add(a, b)` | a node of that operator with these inputs, in either order if it commutes |
//! | `Add(a, ..)` | a node with at least these inputs |
//! | `Mul\|Div(a, b)` | a node of one of these operators |
//! | `Cast?(x)` | the node, or its input where the node is not there |
//! | `n@Conv(x, w)` | the node, remembered by the name `n` |
//! | `Split#1(x)` | output 1 of the node |
//! | `[a \| b]` | one of these patterns |

use std::str::FromStr;

use kiln_tensor::{DType, Tensor};

use crate::{Graph, NodeId, Op, Operator, Result, Value};

mod parse;

/// A pattern; parsed from its text.
#[derive(Clone, Debug)]
pub struct Pattern {
    parts: Vec<Part>,
    root: usize,
}

/// A part of a pattern; parts refer to one another by place.
#[derive(Clone, Debug)]
enum Part {
    /// Any value.
    Any,
    /// A value with a name, which may have to be a constant.
    Value { name: String, constant: bool },
    /// A constant of one element.
    Number(f64),
    /// One of these.
    Either(Vec<usize>),
    /// A node.
    Call(Call),
}

#[derive(Clone, Debug)]
struct Call {
    bind: Option<String>,
    ops: Vec<String>,
    slot: usize,
    /// The node may be absent.
    optional: bool,
    args: Vec<usize>,
    /// Inputs beyond `args` are allowed.
    open: bool,
}

impl FromStr for Pattern {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        parse::pattern(text)
    }
}

/// What a pattern matched.
#[derive(Clone, Debug, Default)]
pub struct Match {
    values: Vec<(String, Value)>,
    bound: Vec<(String, NodeId)>,
    nodes: Vec<NodeId>,
}

impl Match {
    /// The value of a name, where the pattern's matched part has it.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }

    /// The node remembered by a name, where the pattern's matched part has it.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.bound.iter().find(|(n, _)| n == name).map(|(_, id)| *id)
    }

    /// Every matched node, the root first.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }
}

/// Something that is still to be matched.
#[derive(Clone, Copy)]
struct Goal {
    part: usize,
    value: Value,
    /// Who reads it, if anyone.
    reader: Option<NodeId>,
}

impl Pattern {
    /// Matches the pattern with `root` as its outermost node.
    pub fn find(&self, g: &Graph, root: NodeId) -> Option<Match> {
        let Part::Call(call) = &self.parts[self.root] else { return None };
        if !call.names(g, root) || call.slot >= g.node(root).outputs.len() {
            return None;
        }
        self.find_value(g, root.out(call.slot))
    }

    /// Matches the pattern with `value` as what it gives.
    pub fn find_value(&self, g: &Graph, value: Value) -> Option<Match> {
        let goal = Goal { part: self.root, value, reader: None };
        self.solve(g, vec![goal], Match::default())
    }

    /// The first way in which every goal holds; goals are worked off from the end.
    fn solve(&self, g: &Graph, mut goals: Vec<Goal>, mut m: Match) -> Option<Match> {
        let Some(goal) = goals.pop() else { return Some(m) };
        match &self.parts[goal.part] {
            Part::Any => self.solve(g, goals, m),
            Part::Number(n) => match is_number(g, goal, *n) {
                true => self.solve(g, goals, m),
                false => None,
            },
            Part::Value { name, constant } => {
                if *constant && g.constant_of(goal.value).is_none() {
                    return None;
                }
                match m.get(name) {
                    Some(known) if known != goal.value => return None,
                    Some(_) => {}
                    None => m.values.push((name.clone(), goal.value)),
                }
                self.solve(g, goals, m)
            }
            Part::Either(parts) => parts.iter().find_map(|&part| {
                let mut goals = goals.clone();
                goals.push(Goal { part, ..goal });
                self.solve(g, goals, m.clone())
            }),
            Part::Call(call) => self.solve_call(g, call, goal, goals, m),
        }
    }

    fn solve_call(
        &self,
        g: &Graph,
        call: &Call,
        goal: Goal,
        goals: Vec<Goal>,
        m: Match,
    ) -> Option<Match> {
        let node = goal.value.node;
        if call.names(g, node) && call.slot == goal.value.slot() {
            let mut m = m.clone();
            if let Some(name) = &call.bind {
                m.bound.push((name.clone(), node));
            }
            if !m.nodes.contains(&node) {
                m.nodes.push(node);
            }
            let swaps = if g.op(node).traits().commutative { 2 } else { 1 };
            let found = (0..swaps).find_map(|swap| {
                let mut goals = goals.clone();
                goals.extend(call.operands(g, node, swap == 1)?);
                self.solve(g, goals, m.clone())
            });
            if found.is_some() {
                return found;
            }
        }
        if !call.optional {
            return None;
        }
        let mut goals = goals;
        goals.push(Goal { part: *call.args.first()?, ..goal });
        self.solve(g, goals, m)
    }
}

impl Call {
    fn names(&self, g: &Graph, node: NodeId) -> bool {
        let op = g.op(node);
        !matches!(op, Op::Input(_) | Op::Const(_)) && self.ops.iter().any(|o| o == op.name())
    }

    /// The goals of the operands, the first on top.
    fn operands(&self, g: &Graph, node: NodeId, swapped: bool) -> Option<Vec<Goal>> {
        let mut inputs = g.inputs_of(node);
        let fits = match self.open {
            true => inputs.len() >= self.args.len(),
            false => inputs.len() == self.args.len(),
        };
        if !fits || swapped && inputs.len() < 2 {
            return None;
        }
        if swapped {
            inputs.swap(0, 1);
        }
        let goal = |(&part, v): (&usize, Option<Value>)| {
            Some(Goal { part, value: v?, reader: Some(node) })
        };
        let goals: Option<Vec<_>> = self.args.iter().zip(inputs).map(goal).collect();
        let mut goals = goals?;
        goals.reverse();
        Some(goals)
    }
}

/// Whether a goal's value is a constant of one element, `n`, that does not change the shape of
/// what its reader makes.
fn is_number(g: &Graph, goal: Goal, n: f64) -> bool {
    let Some(t) = g.constant_of(goal.value) else { return false };
    t.len() == 1
        && number(t).is_some_and(|x| (x - n).abs() <= precision(t.dtype()) * n.abs())
        && (t.rank() == 0 || goal.reader.is_none_or(|r| keeps_rank(g, r, t.rank())))
}

/// Whether another operand of the reader has as many axes, or more.
fn keeps_rank(g: &Graph, reader: NodeId, rank: usize) -> bool {
    let others = g.inputs_of(reader).into_iter().flatten();
    let mut others = others.filter(|v| g.constant_of(*v).is_none());
    others.any(|v| g.ty(v).rank().is_some_and(|r| r >= rank))
}

fn number(t: &Tensor) -> Option<f64> {
    t.to_vec::<f64>().ok()?.first().copied()
}

/// How far apart two roundings of a number may lie, relative to it: exporters write constants
/// in decimal and in narrower types.
fn precision(dtype: DType) -> f64 {
    match dtype {
        DType::F32 | DType::F64 => 4e-6,
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;
