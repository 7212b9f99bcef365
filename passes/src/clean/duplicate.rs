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

use kiln_ir::{Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};

/// See the module.
pub struct Duplicate;

impl Rewrite for Duplicate {
    fn name(&self) -> &'static str {
        "duplicate"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let op = g.op(root);
        if matches!(op, Op::Input(_) | Op::Const(_)) || op.traits().random {
            return Ok(None);
        }
        let operands = g.inputs_of(root);
        let variable = operands.iter().flatten().find(|v| g.constant_of(**v).is_none());
        let Some(shared) = variable else { return Ok(None) };
        let twin = g.readers(*shared).map(|(n, _)| n).filter(|&n| n < root).find(|&n| {
            let others = g.inputs_of(n);
            g.op(n) == op
                && others.len() == operands.len()
                && others.iter().zip(&operands).all(|(a, b)| same(g, *a, *b))
        });
        Ok(twin.map(|twin| {
            let mut e = Edit::default();
            for v in g.outputs_of(root) {
                e.replace(v, twin.out(v.slot()));
            }
            e
        }))
    }
}

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
            &Duplicate,
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
            &Duplicate,
            "a = LeakyRelu(x: f32[N]) {alpha=0.5}\nb = LeakyRelu(x)\nc = Sub(a, b)\n\
             d = Sub(b, a)\nreturn c, d",
            expect!["(unchanged)\n"],
        );
    }
}
