//! Joins all parts at once.
//!
//! ```text
//! a = Concat(p, q) {axis=1}
//! y = Concat(a, r) {axis=1}   =>   y = Concat(p, q, r) {axis=1}
//! ```
//!
//! Saves a copy of the parts that are joined first. Exact.

use kiln_ir::ops::concat::Concat;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::shape::axis;

use crate::forms::{sole_reader, sources};

/// See the module.
pub struct ConcatChain;

impl Rewrite for ConcatChain {
    fn name(&self) -> &'static str {
        "concat_chain"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(along) = axis_of(g, root) else { return Ok(None) };
        let operands: Vec<Value> = g.inputs_of(root).into_iter().flatten().collect();
        let joins = |v: &Value| axis_of(g, v.node) == Some(along);
        let own = |v: &Value| joins(v) && sole_reader(g, *v) == Some(root);
        if !operands.iter().any(own) {
            return match operands.iter().any(joins) {
                true => Err(Decline::new("the Concat before has another reader")),
                false => Ok(None),
            };
        }
        let cuts =
            |n| matches!(g.op(n), Op::Slice(_) | Op::Gather(_) | Op::Concat(Concat::Split { .. }));
        if g.readers(root.first()).any(|(n, _)| cuts(n)) {
            return Err(Decline::new("a part is taken, which may be that of one operand"));
        }
        let mut inputs: Vec<Option<Source>> = Vec::new();
        for v in operands {
            match own(&v) {
                true => inputs.extend(sources(g, v.node)),
                false => inputs.push(Some(v.into())),
            }
        }
        if inputs.len() > MOST {
            return Err(Decline::new("the joined Concat would have too many operands"));
        }
        let mut e = Edit::default();
        let y = e.node(Concat::Join { axis: along as i64 }, &inputs);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// Operands of one Concat: a chain of doublings has no end.
const MOST: usize = 1024;

/// The axis along which a Concat of known rank joins.
fn axis_of(g: &Graph, node: NodeId) -> Option<usize> {
    let Op::Concat(Concat::Join { axis: along }) = g.op(node) else { return None };
    axis(*along, g.ty(node.first()).rank()?).ok()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn joins_three_levels_however_the_axis_is_counted() {
        check(
            &ConcatChain,
            "a = Concat(p: f32[N,1], q: f32[N,2]) {axis=1}\nb = Concat(r: f32[N,3], a) {axis=-1}\n\
             y = Concat(b, p, b) {axis=1}\nreturn y",
            expect![[r#"
                p: f32[N,1]
                q: f32[N,2]
                r: f32[N,3]
                y = Concat(r, p, q, p, r, p, q) {axis=1}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_other_axes_and_what_others_read() {
        check(
            &ConcatChain,
            "a = Concat(p: f32[N,1], q: f32[N,2]) {axis=1}\nb = Concat(a, a) {axis=0}\n\
             c = Concat(p, p) {axis=0}\nd = Concat(c, p) {axis=0}\ny = Neg(c)\n\
             e = Concat(q, q) {axis=0}\nf = Concat(q, e) {axis=0}\n\
             s, t = Split(f) {num_outputs=2}\nreturn b, d, y, s",
            expect![[r#"
                (unchanged)
                # concat_chain @ d: the Concat before has another reader
                # concat_chain @ f: a part is taken, which may be that of one operand
            "#]],
        );
    }
}
