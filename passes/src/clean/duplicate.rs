//! Computes equal things once.
//!
//! ```text
//! a = Relu(x)
//! b = Relu(x)        a = Relu(x)
//! c = Add(a, b)  =>  c = Add(a, a)
//! ```
//!
//! Saves one of two nodes of the same operator, attributes and operands; constants of equal
//! content are equal operands. Exact; random operators are left alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use kiln_ir::{Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};

/// A value that is read, and the family of operators that reads it.
type Kind = (Value, Discriminant<Op>);

/// See the module.
#[derive(Default)]
pub struct Duplicate {
    /// The first of each kind that reads a value, so that not all readers are looked at each
    /// time. What is in it may be gone, or another node by now.
    seen: RefCell<HashMap<Kind, Vec<NodeId>>>,
}

impl Rewrite for Duplicate {
    fn name(&self) -> &'static str {
        "duplicate"
    }

    fn begin(&self) {
        self.seen.borrow_mut().clear();
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let op = g.op(root);
        if matches!(op, Op::Input(_) | Op::Const(_)) || op.traits().random {
            return Ok(None);
        }
        let operands = g.inputs_of(root);
        let variable = operands.iter().flatten().find(|v| g.constant_of(**v).is_none());
        let Some(shared) = variable else { return Ok(None) };
        let crowded = |v| g.readers(v).any(|(n, _)| g.operands(n).nth(CROWD).is_some());
        if g.outputs_of(root).any(crowded) {
            return Ok(None);
        }
        let mut seen = self.seen.borrow_mut();
        let first = seen.entry((*shared, discriminant(op))).or_default();
        first.retain(|&n| n != root && g.contains(n));
        let twin = first.iter().copied().find(|&n| {
            let others = g.inputs_of(n);
            g.op(n) == op
                && others.len() == operands.len()
                && others.iter().zip(&operands).all(|(a, b)| same(g, *a, *b))
        });
        if twin.is_none() {
            first.push(root);
        }
        Ok(twin.map(|twin| {
            let mut e = Edit::default();
            for v in g.outputs_of(root) {
                e.replace(v, twin.out(v.slot()));
            }
            e
        }))
    }
}

/// Readers of more operands than this keep them: to change one takes time in proportion to all.
const CROWD: usize = 1024;

/// Whether two operands are the same value, or constants of the same content.
fn same(g: &Graph, a: Option<Value>, b: Option<Value>) -> bool {
    a == b
        || matches!((a, b), (Some(a), Some(b)) if match (g.constant_of(a), g.constant_of(b)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn merges_equal_nodes_and_equal_constants() {
        check(
            &Duplicate::default(),
            "c = f32[1]{2.0}\nd = f32[1]{2.0}\na = Mul(x: f32[N], c)\nb = Mul(x, d)\n\
             y = Add(a, b)\nreturn y",
            expect![[r#"
                x: f32[N]
                c = f32[1]{2.0}
                a = Mul(x, c)
                y = Add(a, a)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_other_attributes_and_the_other_order() {
        check(
            &Duplicate::default(),
            "a = LeakyRelu(x: f32[N]) {alpha=0.5}\nb = LeakyRelu(x)\nc = Sub(a, b)\n\
             d = Sub(b, a)\nreturn c, d",
            expect!["(unchanged)\n"],
        );
    }
}
