//! Names the reductions of squares and of absolute values.
//!
//! ```text
//! q = Mul(x, x)
//! s = ReduceSum(q, [-1])
//! y = Sqrt(s)             =>   y = ReduceL2(x, [-1])
//! ```
//!
//! Saves a write and a read of every square. `ReduceSum(Abs(x))` is `ReduceL1(x)`. Not exact:
//! squares are not rounded before they are added.

use kiln_ir::ops::reduce::{Reduce, ReduceKind};
use kiln_ir::{Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};

use crate::forms::scalar;

/// See the module.
pub struct Reduction;

impl Rewrite for Reduction {
    fn name(&self) -> &'static str {
        "reduction"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(v) = g.input_of(root, 0) else { return Ok(None) };
        let found = match (g.op(root), g.op(v.node)) {
            (Op::Reduce(r), op) if r.kind == ReduceKind::Sum => {
                summed(g, v, op).map(|(kind, x)| (Reduce { kind, ..*r }, x, root))
            }
            (op, Op::Reduce(r)) if op.name() == "Sqrt" && r.kind == ReduceKind::SumSquare => {
                let x = g.input_of(v.node, 0);
                x.map(|x| (Reduce { kind: ReduceKind::L2, ..*r }, x, v.node))
            }
            _ => None,
        };
        let Some((reduce, x, reducing)) = found else { return Ok(None) };
        if !g.ty(x).as_tensor().is_ok_and(|t| t.dtype.is_float()) {
            return Ok(None);
        }
        let mut e = Edit::default();
        let inputs = [Some(Source::from(x)), g.input_of(reducing, 1).map(Source::from)];
        let y = e.node(reduce, &inputs);
        e.replace(root.first(), y);
        e.absorb(v);
        Ok(Some(e))
    }
}

/// What a sum of `v` is of what `v` is made from.
fn summed(g: &Graph, v: Value, op: &Op) -> Option<(ReduceKind, Value)> {
    let x = g.input_of(v.node, 0)?;
    let other = g.input_of(v.node, 1);
    let squared = match op.name() {
        "Mul" => other == Some(x),
        "Pow" => scalar(g, other?) == Some(2.0) && g.ty(x) == g.ty(v),
        "Abs" => return Some((ReduceKind::L1, x)),
        _ => false,
    };
    squared.then_some((ReduceKind::SumSquare, x))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn names_norms() {
        check(
            &Reduction,
            "a = i64[1]{-1}\ntwo = f32[]{2.0}\nq = Pow(x: f32[N,M], two)\ns = ReduceSum(q, a)\n\
             y = Sqrt(s)\nb = Abs(x)\nz = ReduceSum(b) {keepdims=0}\nreturn y, z",
            expect![[r#"
                x: f32[N,M]
                a = i64[1]{-1}
                y = ReduceL2(x, a)
                z = ReduceL1(x) {keepdims=0}
                return y, z
            "#]],
        );
    }

    #[test]
    fn keeps_other_powers_integers_and_what_others_read() {
        check(
            &Reduction,
            "three = f32[]{3.0}\nq = Pow(x: f32[N], three)\ns = ReduceSum(q)\nb = Abs(x)\n\
             t = ReduceSum(b)\nc = Mul(i: i64[N], i)\nu = ReduceSum(c)\nreturn s, t, b, u",
            expect![[r#"
                (unchanged)
                # reduction @ t: an inner value is an output of the graph
            "#]],
        );
    }
}
