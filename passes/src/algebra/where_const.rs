//! Chooses once where every element is chosen alike.
//!
//! ```text
//! c = bool[1]{true}
//! y = Where(c, a, b)     =>   y = a
//! n = Not(c)
//! y = Where(n, a, b)     =>   y = Where(c, b, a)
//! m = Not(n)             =>   m = c
//! ```
//!
//! Saves the choice, or the negation. Exact: fires where what is chosen has the shape of the
//! result.

use kiln_ir::ops::select::Select;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};

use crate::forms::dims;

/// See the module.
pub struct WhereConst;

impl Rewrite for WhereConst {
    fn name(&self) -> &'static str {
        "where_const"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if let Some(x) = negated(g, root.first()).and_then(|n| negated(g, n)) {
            return Ok(Some(Edit::replacing(root.first(), x)));
        }
        let Op::Select(Select::Where) = g.op(root) else { return Ok(None) };
        let [Some(c), Some(a), Some(b)] = [0, 1, 2].map(|i| g.input_of(root, i)) else {
            return Ok(None);
        };
        if let Some(x) = chosen(g, c, a, b) {
            let shape = dims(g, root.first());
            return match shape.is_some() && dims(g, x) == shape {
                true => Ok(Some(Edit::replacing(root.first(), x))),
                false => Err(Decline::new("the other operands stretch what is chosen")),
            };
        }
        let Some(c) = negated(g, c) else { return Ok(None) };
        let mut e = Edit::default();
        let y = e.node(Select::Where, &[c, b, a].map(|v| Some(Source::from(v))));
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// What a value is the negation of.
fn negated(g: &Graph, v: Value) -> Option<Value> {
    g.input_of(v.node, 0).filter(|_| g.op(v.node).name() == "Not")
}

/// The operand that every element is of.
fn chosen(g: &Graph, c: Value, a: Value, b: Value) -> Option<Value> {
    if a == b {
        return Some(a);
    }
    let all = g.constant_of(c)?.as_slice::<bool>().ok()?;
    let first = *all.first()?;
    all.iter().all(|&x| x == first).then_some(if first { a } else { b })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn takes_what_is_always_chosen() {
        check(
            &WhereConst,
            "c = bool[2]{0, 0}\nz = f32[]{0.0}\ny = Where(c, z, x: f32[N,2])\n\
             w = Where(d: bool[2], x, x)\nv = Sub(y, w)\nreturn v",
            expect![[r#"
                x: f32[N,2]
                d: bool[2]
                v = Sub(x, x)
                return v
            "#]],
        );
    }

    #[test]
    fn reads_conditions_without_their_negation() {
        check(
            &WhereConst,
            "n = Not(c: bool[N])\ny = Where(n, a: f32[N], b: f32[N])\nm = Not(n)\n\
             z = Where(m, a, b)\nreturn y, z",
            expect![[r#"
                c: bool[N]
                a: f32[N]
                b: f32[N]
                z = Where(c, a, b)
                y = Where(c, b, a)
                return y, z
            "#]],
        );
    }

    #[test]
    fn keeps_what_stretches_and_what_is_mixed() {
        check(
            &WhereConst,
            "c = bool[2]{1, 1}\nd = bool[2]{1, 0}\nz = f32[]{0.0}\n\
             y = Where(c, z, x: f32[N,2])\nw = Where(d, z, x)\nreturn y, w",
            expect![[r#"
                (unchanged)
                # where_const @ y: the other operands stretch what is chosen
            "#]],
        );
    }
}
