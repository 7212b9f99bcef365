//! What running a node costs, by counting: floating-point operations and bytes moved.

use std::ops::{Add, Sub};

use kiln_tensor::DType;

use crate::{Dim, Graph, NodeId, Op, Operator, Type, Value};

/// An amount of work; a difference of two may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Nodes that run; inputs, constants and views are none.
    pub nodes: i64,
    /// Additions, multiplications, comparisons and function values.
    pub flops: i64,
    /// Bytes read from operands and written to results.
    pub bytes: i64,
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, o: Cost) -> Cost {
        Cost {
            nodes: self.nodes.saturating_add(o.nodes),
            flops: self.flops.saturating_add(o.flops),
            bytes: self.bytes.saturating_add(o.bytes),
        }
    }
}

impl Sub for Cost {
    type Output = Cost;

    fn sub(self, o: Cost) -> Cost {
        Cost {
            nodes: self.nodes.saturating_sub(o.nodes),
            flops: self.flops.saturating_sub(o.flops),
            bytes: self.bytes.saturating_sub(o.bytes),
        }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(all: I) -> Cost {
        all.fold(Cost::default(), Add::add)
    }
}

/// The cost of a whole graph, where every symbol stands for 1; bodies are not looked into.
pub fn total(g: &Graph) -> Cost {
    g.nodes().map(|n| cost(g, n)).sum()
}

/// The cost of a node, where every symbol stands for 1. Values of unknown rank count nothing.
pub fn cost(g: &Graph, node: NodeId) -> Cost {
    if matches!(g.op(node), Op::Input(_) | Op::Const(_)) || is_view(g, node) {
        return Cost::default();
    }
    let operands: Vec<_> = g.inputs_of(node).into_iter().flatten().collect();
    let values = operands.into_iter().chain(g.outputs_of(node));
    let bytes = values.map(|v| bytes(g, v)).fold(0, i64::saturating_add);
    Cost { nodes: 1, flops: flops(g, node), bytes }
}

/// Whether a node only gives its input another shape.
pub fn is_view(g: &Graph, node: NodeId) -> bool {
    matches!(
        g.op(node).name(),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity" | "Shape" | "Size"
    )
}

fn dims(g: &Graph, v: Value) -> Option<&[Dim]> {
    match g.ty(v) {
        Type::Tensor(t) => t.shape.as_deref(),
        _ => None,
    }
}

/// The elements of a value; 0 where its rank is not known.
pub fn elements(g: &Graph, v: Value) -> i64 {
    let length = |d: &Dim| d.eval(&|_| Some(1)).unwrap_or(1).max(0);
    dims(g, v).map_or(0, |dims| dims.iter().map(length).fold(1, i64::saturating_mul))
}

fn bytes(g: &Graph, v: Value) -> i64 {
    let each = match g.ty(v) {
        Type::Tensor(t) if t.dtype == DType::String => size_of::<String>(),
        Type::Tensor(t) => t.dtype.size(),
        _ => 0,
    };
    elements(g, v).saturating_mul(each as i64)
}

fn flops(g: &Graph, node: NodeId) -> i64 {
    let operand = |i| g.input_of(node, i);
    let size = |i| operand(i).map_or(0, |v| elements(g, v));
    let out = elements(g, node.first());
    // Length `axis` of operand `i`, negative from the end.
    let length = |i, axis: isize| {
        let Some(dims) = operand(i).and_then(|v| dims(g, v)) else { return 1 };
        let at = if axis < 0 { dims.len().checked_add_signed(axis) } else { Some(axis as usize) };
        at.and_then(|a| dims.get(a)).and_then(|d| d.eval(&|_| Some(1))).unwrap_or(1).max(1)
    };
    let products = |n: i64, each: i64| n.saturating_mul(each).saturating_mul(2);
    match g.op(node) {
        Op::Conv(_) | Op::ConvInteger(_) => products(out, size(1) / length(1, 0)),
        Op::QLinearConv(_) => products(out, size(3) / length(3, 0)),
        Op::MatMulInteger(_) | Op::QLinearMatMul(_) | Op::IntegerProduct(_) => {
            products(out, length(0, -1))
        }
        Op::ConvTranspose(_) => products(size(0), size(1) / length(1, 0)),
        Op::MatMul(m) => products(out, length(0, if m.trans_a { -2 } else { -1 })),
        Op::Product(p) => products(out, length(0, if p.matmul.trans_a { -2 } else { -1 })),
        Op::Region(r) => out.saturating_mul(computing(r.body())),
        Op::BatchNorm(_) => out.saturating_mul(2),
        Op::Gemm(m) => products(out, length(0, if m.trans_a { 0 } else { 1 })),
        Op::Attention(_) => {
            let past = operand(4).map_or(0, |_| length(4, -2));
            products(size(0), length(1, -2).saturating_add(past)).saturating_mul(2)
        }
        Op::Rnn(_) => {
            products(length(0, 0).saturating_mul(length(0, 1)), size(1).saturating_add(size(2)))
        }
        Op::Svm(_) | Op::Linear(_) => products(out, length(0, -1)),
        Op::Pool(p) => p.window.kernel_shape.iter().fold(out, |n, k| n.saturating_mul(*k)),
        Op::Reduce(_) | Op::GlobalPool(_) => size(0),
        _ => out,
    }
}

/// How many nodes of a body calculate.
fn computing(body: &Graph) -> i64 {
    let source = |op: &Op| matches!(op, Op::Input(_) | Op::Const(_));
    body.nodes().filter(|&id| !source(body.op(id))).count() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn work_is_counted_by_hand() {
        for (text, flops, bytes) in [
            ("y = Add(x: f32[N,3], b: f32[3])\nreturn y", 3, 36),
            ("y = MatMul(x: f32[2,3], w: f32[3,5])\nreturn y", 60, 4 * (6 + 15 + 10)),
            // Each of 4x6x6 results takes 3x3x3 products.
            (
                "y = Conv(x: f32[N,3,8,8], w: f32[4,3,3,3])\nreturn y",
                2 * 144 * 27,
                4 * (192 + 108 + 144),
            ),
            // 3 queries of length 2 and 9 keys, 4 of which are past.
            (
                "y = Attention(q: f32[1,1,3,2], k: f32[1,1,5,2], v: f32[1,1,5,2], _, \
                 p: f32[1,1,4,2], w: f32[1,1,4,2])\nreturn y",
                2 * 2 * 6 * 9,
                4 * (6 + 10 + 10 + 8 + 8 + 6),
            ),
            ("s = i64[1]{-1}\ny = Reshape(x: f32[2,3], s)\nreturn y", 0, 0),
        ] {
            let g = text::parse(text).expect(text);
            let got = total(&g);
            assert_eq!((got.flops, got.bytes), (flops, bytes), "{text}");
        }
    }

    #[test]
    fn differences_may_be_negative() {
        let (a, b) = (Cost { nodes: 1, flops: 2, bytes: 3 }, Cost { nodes: 2, flops: 2, bytes: 0 });
        assert_eq!(a - b, Cost { nodes: -1, flops: 0, bytes: 3 });
        assert_eq!([a, b].into_iter().sum::<Cost>(), Cost { nodes: 3, flops: 4, bytes: 3 });
    }
}
