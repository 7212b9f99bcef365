//! Looks for the nearest rows of a table while their distances are made.
//!
//! ```text
//! s = com.microsoft.CDist(x, c)
//! r = Sqrt(s)
//! d, i = TopK(r, 5) {largest=0}   =>   d, i = ai.kiln.Neighbours(x, c) {k=5, metric=..}
//! ```
//!
//! Saves the matrix of all distances. Not exact: where the distance itself is the root, its square
//! is rounded first.

use kiln_ir::ops::linalg::{Linalg, Metric};
use kiln_ir::ops::neighbours::Neighbours as Fused;
use kiln_ir::ops::unary::{Function, Unary};
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Verdict};

use crate::forms::{scalar, sources};

/// See the module.
pub struct Neighbours;

impl Rewrite for Neighbours {
    fn name(&self) -> &'static str {
        "neighbours"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let (Op::TopK(top), Some(v)) = (g.op(root), g.input_of(root, 0)) else {
            return Ok(None);
        };
        let mut e = Edit::default();
        e.absorb(v);
        let (distances, outer) = match (g.op(v.node), g.input_of(v.node, 0)) {
            (Op::Unary(Unary::Function(Function::Sqrt)), Some(s)) => (s, true),
            _ => (v, false),
        };
        let Op::Linalg(Linalg::Distance(inner)) = g.op(distances.node) else { return Ok(None) };
        if outer {
            e.absorb(distances);
        }
        let metric = match (inner, outer) {
            (Metric::Euclidean, true) => return Err(Decline::new("a root of a root")),
            (Metric::Squared, false) => Metric::Squared,
            _ => Metric::Euclidean,
        };
        if top.largest || !matches!(top.axis, 1 | -1) {
            return Err(Decline::new("these are not the nearest of each row"));
        }
        let Some(k) = g.input_of(root, 1).and_then(|k| scalar(g, k)) else {
            return Err(Decline::new("how many are wanted is not constant"));
        };
        let y = e.node(Fused { k: k as i64, metric }, &sources(g, distances.node));
        e.replace(root.first(), y);
        e.replace(root.out(1), y.slot(1));
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn takes_distances_and_their_roots() {
        check(
            &Neighbours,
            "k = i64[1]{2}\ns = com.microsoft.CDist(x: f32[M,3], c: f32[5,3])\nr = Sqrt(s)\n\
             d, i = TopK(r, k) {largest=0}\n\
             t = com.microsoft.CDist(x, c) {metric=\"euclidean\"}\n\
             e, j = TopK(t, k) {axis=1, largest=0, sorted=0}\nu = com.microsoft.CDist(x, x)\n\
             f, l = TopK(u, k) {largest=0}\nreturn i, e, l",
            expect![[r#"
                x: f32[M,3]
                c: f32[5,3]
                e, e#1 = ai.kiln.Neighbours(x, c) {k=2, metric="euclidean"}
                f, f#1 = ai.kiln.Neighbours(x, x) {k=2}
                d, d#1 = ai.kiln.Neighbours(x, c) {k=2, metric="euclidean"}
                return i=d#1, e, l=f#1
            "#]],
        );
    }

    #[test]
    fn keeps_the_farthest_and_numbers_that_may_change() {
        check(
            &Neighbours,
            "k = i64[1]{2}\ns = com.microsoft.CDist(x: f32[M,3], c: f32[5,3])\n\
             d, i = TopK(s, k)\nt = com.microsoft.CDist(x, c)\n\
             e, j = TopK(t, n: i64[1]) {largest=0}\n\
             u = com.microsoft.CDist(x, c) {metric=\"euclidean\"}\nv = Sqrt(u)\n\
             f, l = TopK(v, k) {largest=0}\nw = com.microsoft.CDist(x, c)\n\
             o, p = TopK(w, k) {largest=0}\nreturn i, j, l, o, w",
            expect![[r#"
                (unchanged)
                # neighbours @ d: these are not the nearest of each row
                # neighbours @ e: how many are wanted is not constant
                # neighbours @ f: a root of a root
                # neighbours @ o: an inner value is an output of the graph
            "#]],
        );
    }
}
