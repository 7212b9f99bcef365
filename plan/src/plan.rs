//! Steps in order, each value with its place: what a run does, as plain data.

use std::collections::{HashMap, HashSet};

use kiln_ir::{Error, Graph, Limits, NodeId, Op, Result, Type, Value};

use kiln_tensor::DType;

use crate::bind::Bindings;
use crate::memory::{Life, Span, place};

/// Where a value lives while a model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory of its own, freed after its last reader.
    Held,
    /// In the arena, with this shape.
    Arena(Span, Vec<usize>),
}

/// One node at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The node.
    pub node: NodeId,
    /// Whether a kernel runs it; else its definition does.
    pub kernel: bool,
    /// Held values that nothing reads after this step.
    pub frees: Vec<Value>,
}

/// A graph made concrete for the shapes of one call.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
    /// The arena's bytes.
    pub arena: usize,
    places: HashMap<Value, Place>,
}

/// What a backend says of a node that it has a kernel for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its first output may lie where its first input lay.
    pub in_place: bool,
}

impl Plan {
    /// Plans a graph; `claim` says which nodes have a kernel.
    ///
    /// A value lies in the arena where it is `f32`, its length is known, a kernel makes it and
    /// kernels alone read it. An error where the arena is over the limit `memory-bytes`.
    pub fn build(
        g: &Graph,
        bindings: &Bindings,
        claim: &dyn Fn(NodeId) -> Option<Claim>,
        limits: &Limits,
    ) -> Result<Self> {
        let order = g.order()?;
        let at: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &n)| (n, i)).collect();
        let claims: HashMap<NodeId, Claim> =
            order.iter().filter_map(|&n| Some((n, claim(n)?))).collect();
        let reads = last_reads(g, &order);
        let last = |v: Value| reads.get(&v).copied().unwrap_or(at[&v.node]);
        let outputs: HashSet<Value> = g.outputs().iter().map(|(_, v)| *v).collect();
        let mut values = Vec::new();
        for &node in order.iter().filter(|n| claims.contains_key(n)) {
            for v in g.outputs_of(node).filter(|&v| v.slot() == 0 || g.is_read(v)) {
                let native =
                    g.readers(v).all(|(n, _)| claims.contains_key(&n)) && !outputs.contains(&v);
                if let (true, Some((shape, bytes))) = (native, known(g, bindings, v)) {
                    values.push((v, shape, Life { bytes, first: at[&node], last: last(v) }));
                }
            }
        }
        let groups = share(g, &values, &claims);
        let (spans, arena) = place(&lives(&values, &groups));
        if arena as u64 > limits.memory_bytes {
            let text = format!("this run needs {arena} bytes for its intermediate values");
            return Err(Error::limit("memory-bytes", text));
        }
        let places = (values.into_iter().zip(&groups))
            .map(|((v, shape, life), &group)| {
                let span = Span { offset: spans[group].offset, bytes: life.bytes };
                (v, Place::Arena(span, shape))
            })
            .collect();
        let steps =
            steps(g, &order, &claims, &|v, at| reads.get(&v) == Some(&at) && !outputs.contains(&v));
        Ok(Self { steps, arena, places })
    }

    /// Where a value lives.
    pub fn place(&self, v: Value) -> &Place {
        self.places.get(&v).unwrap_or(&Place::Held)
    }
}

/// For each value that nodes read, the place in the order of the last of them.
fn last_reads(g: &Graph, order: &[NodeId]) -> HashMap<Value, usize> {
    let reads = |(at, &n)| g.inputs_of(n).into_iter().flatten().map(move |v| (v, at));
    order.iter().enumerate().flat_map(reads).collect()
}

fn steps(
    g: &Graph,
    order: &[NodeId],
    claims: &HashMap<NodeId, Claim>,
    dies: &dyn Fn(Value, usize) -> bool,
) -> Vec<Step> {
    let run = order.iter().enumerate();
    let run = run.filter(|&(_, &n)| !matches!(g.op(n), Op::Input(_) | Op::Const(_)));
    run.map(|(at, &node)| {
        let operands = g.inputs_of(node).into_iter().flatten();
        let mut frees: Vec<Value> =
            operands.filter(|&v| dies(v, at) && g.constant_of(v).is_none()).collect();
        frees.sort_unstable();
        frees.dedup();
        Step { node, kernel: claims.contains_key(&node), frees }
    })
    .collect()
}

/// The shape and the bytes of a value of `f32`, where both are known: nothing else lies in the
/// arena.
fn known(g: &Graph, bindings: &Bindings, v: Value) -> Option<(Vec<usize>, usize)> {
    let shape = bindings.shape(g, v)?;
    let Type::Tensor(ty) = g.ty(v) else { return None };
    if ty.dtype != DType::F32 {
        return None;
    }
    let bytes = kiln_tensor::shape::numel(&shape).ok()?.checked_mul(ty.dtype.size())?;
    Some((shape, bytes))
}

type Planned = (Value, Vec<usize>, Life);

/// Values that may share a span: a result that lies where its dying first operand lay.
/// Gives each value the index of its group.
fn share(g: &Graph, values: &[Planned], claims: &HashMap<NodeId, Claim>) -> Vec<usize> {
    let index: HashMap<Value, usize> =
        values.iter().enumerate().map(|(i, (v, ..))| (*v, i)).collect();
    let mut group: Vec<usize> = (0..values.len()).collect();
    for (i, (v, _, life)) in values.iter().enumerate() {
        let in_place = v.slot() == 0 && claims.get(&v.node).is_some_and(|c| c.in_place);
        let operand = g.input_of(v.node, 0).and_then(|x| index.get(&x));
        if let (true, Some(&x)) = (in_place, operand)
            && values[x].2.last == life.first
            && values[x].2.bytes == life.bytes
            && g.only_reader(values[x].0).is_some()
        {
            group[i] = group[x];
        }
    }
    group
}

/// The life of each group, at the index of its first value; other entries need nothing.
fn lives(values: &[Planned], groups: &[usize]) -> Vec<Life> {
    let mut out: Vec<Life> =
        (values.iter()).map(|(_, _, life)| Life { bytes: 0, ..*life }).collect();
    for ((_, _, life), &group) in values.iter().zip(groups) {
        out[group].bytes = life.bytes;
        out[group].last = out[group].last.max(life.last);
    }
    out
}

#[cfg(test)]
mod tests {
    use kiln_ir::text;

    use super::*;

    fn plan(graph: &str, in_place: bool) -> (Graph, Plan) {
        let g = text::parse(graph).expect("parses");
        let claim = |n: NodeId| {
            let runs = !matches!(g.op(n), Op::Input(_) | Op::Const(_));
            runs.then_some(Claim { in_place })
        };
        let plan = Plan::build(&g, &Bindings::default(), &claim, &Limits::default());
        let plan = plan.expect("plans");
        (g, plan)
    }

    #[test]
    fn in_place_halves_a_chain() {
        let chain = "a = Exp(x: f32[64])\nb = Neg(a)\nc = Abs(b)\ny = Exp(c)\nreturn y";
        assert_eq!(plan(chain, false).1.arena, 512);
        assert_eq!(plan(chain, true).1.arena, 256);
    }

    #[test]
    fn a_value_with_two_readers_is_not_overwritten() {
        let (g, p) = plan("a = Exp(x: f32[64])\nb = Neg(a)\ny = Add(b, a)\nreturn y", true);
        let at = |name: &str| {
            let n = g.nodes().find(|&n| &*g.node(n).name == name).expect("a node");
            p.place(n.first()).clone()
        };
        assert_ne!(at("a"), at("b"));
        assert_eq!(at("y"), Place::Held);
    }
}
