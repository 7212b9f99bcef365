//! Runs elementwise operators that feed one another as one.
//!
//! ```text
//! a = Mul(x, s)
//! b = Tanh(a)
//! y = Add(b, z)      =>   y = ai.kiln.Region(x, s, z) {body=..}
//! ```
//!
//! Saves a write and a read of every value between. Exact: the same functions of the same
//! numbers. Values between have the shape of the result and one reader; all are `f32`, or bytes
//! between quantizers.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_ir::ops::region::Region;
use kiln_ir::{
    Decline, Edit, Graph, NodeId, Op, Operator, Result, Rewrite, Source, Type, Value, Verdict,
};
use kiln_tensor::DType;

use crate::quant::{dequantized, quantizes};

/// See the module.
pub struct Elementwise;

/// No body holds more operators: tiles of all its values share the first cache.
const MOST: usize = 64;

impl Rewrite for Elementwise {
    fn name(&self) -> &'static str {
        "elementwise"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if !takes(g, root) || flows_on(g, root) {
            return Ok(None);
        }
        let group = group(g, root);
        if group.len() < 2 {
            return Ok(None);
        }
        let joined = join(g, &group).map_err(|_| Decline::new("the bodies do not join"))?;
        let (region, operands) = joined;
        let inputs: Vec<_> = operands.into_iter().map(|v| Some(Source::from(v))).collect();
        let mut e = Edit::default();
        let y = e.node(region, &inputs);
        e.replace(root.first(), y);
        e.absorb_below(&group);
        Ok(Some(e))
    }
}

/// Whether a group may read the node: it is in a larger one then.
fn flows_on(g: &Graph, node: NodeId) -> bool {
    let v = node.first();
    let mut readers = g.readers(v).map(|(n, _)| n);
    let Some(reader) = readers.next().filter(|_| !g.is_output(v)) else { return false };
    readers.all(|n| n == reader)
        && takes(g, reader)
        && same_shape(g, v, reader.first())
        && size(g.op(reader)) + size(g.op(node)) <= MOST
}

/// The node and what feeds nothing else, readers first.
fn group(g: &Graph, root: NodeId) -> Vec<NodeId> {
    let mut group = vec![root];
    let mut operators = size(g.op(root));
    let mut next = 0;
    while let Some(&reader) = group.get(next) {
        next += 1;
        for v in g.inputs_of(reader).into_iter().flatten() {
            let inside = |n: NodeId| group.contains(&n);
            let joins = takes(g, v.node)
                && !inside(v.node)
                && same_shape(g, v, root.first())
                && !g.is_output(v)
                && g.readers(v).all(|(n, _)| inside(n))
                && operators + size(g.op(v.node)) <= MOST;
            if joins {
                operators += size(g.op(v.node));
                group.push(v.node);
            }
        }
    }
    group
}

fn same_shape(g: &Graph, a: Value, b: Value) -> bool {
    matches!((g.ty(a), g.ty(b)), (Type::Tensor(a), Type::Tensor(b)) if a.shape == b.shape)
}

/// Whether a node is elementwise, with one output, and all `f32`, or a quantizer of bytes.
fn takes(g: &Graph, node: NodeId) -> bool {
    let op = g.op(node);
    let is =
        |v: Value, dtypes: &[DType]| g.ty(v).as_tensor().is_ok_and(|t| dtypes.contains(&t.dtype));
    let (floats, bytes) = (&[DType::F32][..], &[DType::U8, DType::I8][..]);
    let both = &[DType::F32, DType::U8, DType::I8][..];
    let x = g.input_of(node, 0);
    let known = match op {
        Op::Unary(_) | Op::Binary(_) | Op::Select(_) => {
            is(node.first(), floats)
                && g.inputs_of(node).iter().all(|v| v.is_some_and(|v| is(v, floats)))
        }
        Op::Region(_) => {
            is(node.first(), both)
                && g.inputs_of(node).iter().all(|v| v.is_some_and(|v| is(v, both)))
        }
        Op::QuantizeLinear(_) => {
            let one = quantizes(g, node).is_some_and(|l| l.is_ok_and(|l| l.single().is_some()));
            one && is(node.first(), bytes) && x.is_some_and(|x| is(x, floats))
        }
        Op::DequantizeLinear(_) => {
            let one = dequantized(g, node.first());
            let one = one.is_some_and(|l| l.is_ok_and(|l| l.single().is_some()));
            one && x.is_some_and(|x| is(x, bytes))
        }
        _ => false,
    };
    known
        && op.traits().elementwise
        && g.outputs_of(node).count() == 1
        && g.ty(node.first()).rank().is_some()
}

/// How many operators a node runs.
fn size(op: &Op) -> usize {
    match op {
        Op::Region(r) => {
            let body = r.body();
            body.nodes().filter(|&n| !matches!(body.op(n), Op::Input(_) | Op::Const(_))).count()
        }
        _ => 1,
    }
}

/// A body that is being written.
struct Body {
    graph: Graph,
    /// The values of the graph outside that are inputs, in order, and what they are inside.
    operands: Vec<Value>,
    inside: HashMap<Value, Value>,
    names: usize,
}

impl Body {
    /// What a value of the graph outside is inside.
    fn operand(&mut self, g: &Graph, v: Value) -> Value {
        if let Some(v) = self.inside.get(&v) {
            return *v;
        }
        let made = match g.constant_of(v).filter(|t| t.rank() == 0) {
            Some(t) => {
                let name = format!("c{}", self.next());
                self.graph.constant(&name, t.clone())
            }
            None => {
                let name = format!("x{}", self.operands.len());
                self.operands.push(v);
                let dtype = g.ty(v).as_tensor().map_or(DType::F32, |t| t.dtype);
                self.graph.input(&name, Type::tensor(dtype, None))
            }
        };
        self.inside.insert(v, made);
        made
    }

    /// A scale or a zero point of one element, as a scalar.
    fn parameter(&mut self, g: &Graph, v: Value) -> Value {
        match g.constant_of(v).and_then(|t| t.reshape(&[]).ok()) {
            Some(t) => {
                let name = format!("c{}", self.next());
                self.graph.constant(&name, t)
            }
            None => self.operand(g, v),
        }
    }

    fn next(&mut self) -> usize {
        self.names += 1;
        self.names
    }

    /// Adds what a node does, and returns its result.
    fn add(&mut self, g: &Graph, node: NodeId) -> Result<Value> {
        let quantizer = matches!(g.op(node), Op::QuantizeLinear(_) | Op::DequantizeLinear(_));
        let operands: Vec<Value> = (g.inputs_of(node).into_iter().flatten().enumerate())
            .map(
                |(i, v)| if quantizer && i > 0 { self.parameter(g, v) } else { self.operand(g, v) },
            )
            .collect();
        let Op::Region(region) = g.op(node) else {
            let operands: Vec<_> = operands.into_iter().map(Some).collect();
            let name = format!("v{}", self.next());
            return Ok(self.graph.add(&name, g.op(node).clone(), &operands)?.first());
        };
        let body = region.body();
        let mut made: HashMap<Value, Value> = body.inputs().zip(operands).collect();
        for id in body.order()? {
            match body.op(id) {
                Op::Input(_) => {}
                Op::Const(c) => {
                    let name = format!("c{}", self.next());
                    let c = self.graph.constant(&name, c.0.as_ref().clone());
                    made.insert(id.first(), c);
                }
                op => {
                    let operands: Vec<_> = (body.inputs_of(id).into_iter())
                        .map(|v| v.and_then(|v| made.get(&v).copied()))
                        .collect();
                    let name = format!("v{}", self.next());
                    let y = self.graph.add(&name, op.clone(), &operands)?;
                    made.insert(id.first(), y.first());
                }
            }
        }
        let (_, y) = &body.outputs()[0];
        made.get(y).copied().ok_or_else(|| kiln_ir::Error::bug("a body without its output"))
    }
}

/// All nodes of a group as one, and its operands.
fn join(g: &Graph, group: &[NodeId]) -> Result<(Region, Vec<Value>)> {
    let mut body = Body { graph: Graph::new(), operands: vec![], inside: HashMap::new(), names: 0 };
    for &node in group.iter().rev() {
        let made = body.add(g, node)?;
        body.inside.insert(node.first(), made);
    }
    let y = group.first().and_then(|root| body.inside.get(&root.first()).copied());
    let y = y.ok_or_else(|| kiln_ir::Error::bug("a group of nothing"))?;
    body.graph.set_outputs(vec![("y".into(), y)]);
    Ok((Region::new(Arc::new(body.graph))?, body.operands))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn joins_a_chain_and_what_it_reads() {
        check(
            &Elementwise,
            "h = f32[]{0.5}\na = Mul(x: f32[N,2], h)\nb = Tanh(a)\nc = Add(b, z: f32[2])\n\
             y = Mul(c, x)\nreturn y",
            expect![[r#"
                x: f32[N,2]
                z: f32[2]
                y = ai.kiln.Region(x, z) {body=graph {
                  x0: f32[..]
                  x1: f32[..]
                  c1 = f32[]{0.5}
                  v2 = Mul(x0, c1)
                  v3 = Tanh(v2)
                  v4 = Add(v3, x1)
                  v5 = Mul(v4, x0)
                  return y=v5
                }}
                return y
            "#]],
        );
    }

    #[test]
    fn takes_quantizers_of_bytes() {
        check(
            &Elementwise,
            "s = f32[1]{0.5}\nz = u8[]{3}\nt = f32[2]{0.5, 0.25}\n\
             d = DequantizeLinear(x: u8[N,2], s, z)\ne = DequantizeLinear(v: i8[N,2], s)\n\
             a = Add(d, e)\ny = QuantizeLinear(a, s, z)\nb = Neg(a2: f32[N,2])\n\
             q = QuantizeLinear(b, t)\nreturn y, q",
            expect![[r#"
                x: u8[N,2]
                v: i8[N,2]
                a2: f32[N,2]
                t = f32[2]{0.5, 0.25}
                b = Neg(a2)
                q = QuantizeLinear(b, t)
                y = ai.kiln.Region(v, x) {body=graph {
                  x0: i8[..]
                  x1: u8[..]
                  c1 = f32[]{0.5}
                  v2 = DequantizeLinear(x0, c1)
                  c3 = f32[]{0.5}
                  c4 = u8[]{3}
                  v5 = DequantizeLinear(x1, c3, c4)
                  v6 = Add(v5, v2)
                  c7 = f32[]{0.5}
                  c8 = u8[]{3}
                  v9 = QuantizeLinear(v6, c7, c8)
                  return y=v9
                }}
                return y, q
            "#]],
        );
    }

    #[test]
    fn keeps_what_others_read_or_has_another_shape() {
        check(
            &Elementwise,
            "a = Neg(x: f32[2])\nb = Add(a, z: f32[N,2])\nc = Abs(b)\nd = Abs(w: f64[2])\n\
             y = Neg(d)\nreturn c, b, y",
            expect![[r#"
                (unchanged)
            "#]],
        );
    }
}
