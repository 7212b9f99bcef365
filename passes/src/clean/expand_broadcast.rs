//! Leaves out an Expand before an operator that broadcasts by itself.
//!
//! ```text
//! e = Expand(b: f32[1,C], [N,C])
//! y = Add(x: f32[N,C], e)          =>   y = Add(x, b)
//! ```
//!
//! Saves a write and a read of every copy. Exact. Fires where another operand has the length that
//! an axis is expanded to, symbol or not.

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::select::Select;
use kiln_ir::{Decline, Dim, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};

use crate::forms::dims;

/// See the module.
pub struct ExpandBroadcast;

impl Rewrite for ExpandBroadcast {
    fn name(&self) -> &'static str {
        "expand_broadcast"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(operands) = broadcast(g, root) else { return Ok(None) };
        let narrow = narrowed(g, root, &operands).ok_or(
            Decline::new("no other operand is known to have the length expanded to")
                .advise("fix its symbol with --dim NAME=N"),
        )?;
        let inputs: Vec<_> = narrow.into_iter().map(|v| Some(Source::from(v))).collect();
        let mut e = Edit::default();
        let y = e.node(g.op(root).clone(), &inputs);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// Whether a node is about to read what is expanded instead of the copies.
pub(super) fn fires(g: &Graph, node: NodeId) -> bool {
    broadcast(g, node).is_some_and(|operands| narrowed(g, node, &operands).is_some())
}

/// The operands of a node that broadcasts them, where one is expanded.
fn broadcast(g: &Graph, node: NodeId) -> Option<Vec<Value>> {
    let broadcasts = match g.op(node) {
        Op::Binary(b) => *b != Binary::PRelu,
        Op::Select(s) => *s == Select::Where,
        Op::Compare(_) | Op::Variadic(_) => true,
        _ => false,
    };
    let operands: Vec<Value> = g.inputs_of(node).into_iter().flatten().collect();
    let any = operands.iter().any(|&v| expanded(g, v).is_some());
    (broadcasts && any && dims(g, node.first()).is_some()).then_some(operands)
}

/// The operands with as many as possible read before they are expanded, if any can be.
fn narrowed(g: &Graph, node: NodeId, operands: &[Value]) -> Option<Vec<Value>> {
    let out = dims(g, node.first())?;
    let mut narrow = operands.to_vec();
    for i in 0..narrow.len() {
        let Some(x) = expanded(g, narrow[i]) else { continue };
        let wide = std::mem::replace(&mut narrow[i], x);
        if !gives(g, &narrow, out) {
            narrow[i] = wide;
        }
    }
    (narrow != operands).then_some(narrow)
}

/// What a value is expanded from.
fn expanded(g: &Graph, v: Value) -> Option<Value> {
    let Op::Layout(Layout::Expand) = g.op(v.node) else { return None };
    g.input_of(v.node, 0)
}

/// Whether operands are known to broadcast to a shape.
fn gives(g: &Graph, operands: &[Value], out: &[Dim]) -> bool {
    let shapes: Option<Vec<&[Dim]>> = operands.iter().map(|&v| dims(g, v)).collect();
    let Some(shapes) = shapes else { return false };
    let one = |d: &Dim| d.as_const() == Some(1);
    (0..out.len()).all(|i| {
        let from_end = out.len() - i;
        let mut here = shapes.iter().filter_map(|s| s.get(s.len().checked_sub(from_end)?));
        one(&out[i]) || here.any(|d| *d == out[i])
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn reads_what_is_not_expanded() {
        check(
            &ExpandBroadcast,
            "s = Shape(x: f32[N,C])\ne = Expand(b: f32[C], s)\ny = Add(x, e)\n\
             t = i64[2]{3, 4}\nf = Expand(p: f32[3,1], t)\nh = Expand(q: f32[1,4], t)\n\
             z = Where(m: bool[1], f, h)\nreturn y, z",
            expect![[r#"
                x: f32[N,C]
                b: f32[C]
                p: f32[3,1]
                q: f32[1,4]
                m: bool[1]
                z = Where(m, p, q)
                y = Add(x, b)
                return y, z
            "#]],
        );
    }

    #[test]
    fn one_of_two_is_left_to_give_the_length() {
        check(
            &ExpandBroadcast,
            "s = i64[2]{3, 4}\na = Expand(p: f32[4], s)\nb = Expand(q: f32[4], s)\n\
             y = Mul(a, b)\nreturn y",
            expect![[r#"
                p: f32[4]
                q: f32[4]
                s = i64[2]{3, 4}
                b = Expand(q, s)
                y = Mul(p, b)
                return y
                # expand_broadcast @ y: no other operand is known to have the length expanded to
            "#]],
        );
    }

    #[test]
    fn keeps_what_gives_the_length() {
        check(
            &ExpandBroadcast,
            "s = i64[2]{3, 4}\na = Expand(p: f32[4], s)\ny = Mul(a, q: f32[4])\nz = Relu(a)\n\
             w = Expand(p, t: i64[2])\nv = Add(w, u: f32[N,4])\nreturn y, z, v",
            expect![[r#"
                (unchanged)
                # expand_broadcast @ y: no other operand is known to have the length expanded to
                # expand_broadcast @ v: no other operand is known to have the length expanded to
            "#]],
        );
    }
}
