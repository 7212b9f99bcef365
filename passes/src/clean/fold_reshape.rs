//! Tells a Reshape its lengths by a constant.
//!
//! ```text
//! n = Gather(Shape(x: f32[N,6]), 0)
//! s = Concat(n, [2], [3])
//! y = Reshape(x, s)                 =>   y = Reshape(x, [0,2,3])
//! ```
//!
//! Saves the sub-graph that calculates the lengths, and lets later rules see what the view is.
//! Exact: 0 stands for the length at the same place of `x`. Fires where these are all lengths that
//! are not known, or where only one is not.

use kiln_ir::ops::layout::Layout;
use kiln_ir::{Decline, Dim, Edit, Graph, NodeId, Op, Rewrite, Verdict};
use kiln_tensor::Tensor;

use crate::forms::dims;

/// See the module.
pub struct FoldReshape;

impl Rewrite for FoldReshape {
    fn name(&self) -> &'static str {
        "fold_reshape"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Layout(Layout::Reshape { .. }) = g.op(root) else { return Ok(None) };
        let [Some(x), Some(to)] = [0, 1].map(|i| g.input_of(root, i)) else { return Ok(None) };
        let (None, Some(from), Some(lengths)) =
            (g.constant_of(to), dims(g, x), dims(g, root.first()))
        else {
            return Ok(None);
        };
        if lengths.iter().any(|d| d.as_const() == Some(0)) {
            return Ok(None);
        }
        let to = target(from, lengths).ok_or(
            Decline::new("two lengths of the result are unknown")
                .advise("fix all symbols but one, with --dim NAME=N"),
        )?;
        let mut e = Edit::default();
        let to = e.constant(Tensor::vector(to));
        let y = e.node(Layout::Reshape { allow_zero: false }, &[Some(x.into()), Some(to)]);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// The lengths as `Reshape` takes them. There is never a -1 beside a 0: where that length is 0,
/// the -1 could be anything.
fn target(from: &[Dim], lengths: &[Dim]) -> Option<Vec<i64>> {
    let unknown = lengths.iter().filter(|d| d.as_const().is_none()).count();
    let length = |(i, d): (usize, &Dim)| match d.as_const() {
        Some(n) => Some(n),
        None if from.get(i) == Some(d) => Some(0),
        None => (unknown == 1).then_some(-1),
    };
    lengths.iter().enumerate().map(length).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn a_calculated_target_becomes_a_constant() {
        check(
            &FoldReshape,
            "z = i64[1]{0}\nh = i64[1]{12}\nr = i64[2]{2, 3}\ns = Shape(x: f32[N,S,6])\n\
             n = Gather(s, z)\nb = Shape(x) {end=2}\nt = Concat(b, r) {axis=0}\n\
             y = Reshape(x, t)\nm = Mul(n, h)\nd = Shape(x) {start=1, end=2}\n\
             w = Mul(d, n)\nu = Concat(w, r) {axis=0}\nv = Reshape(x, u)\nreturn y, v",
            expect![[r#"
                x: f32[N,S,6]
                z = i64[1]{0}
                h = i64[1]{12}
                s = Shape(x)
                n = Gather(s, z)
                v/fold_reshape0 = i64[3]{-1, 2, 3}
                v = Reshape(x, v/fold_reshape0)
                m = Mul(n, h)
                y/fold_reshape0 = i64[4]{0, 0, 2, 3}
                y = Reshape(x, y/fold_reshape0)
                return y, v
            "#]],
        );
    }

    #[test]
    fn keeps_two_unknown_lengths_at_new_places() {
        check(
            &FoldReshape,
            "a = Shape(x: f32[N,2,S]) {end=1}\nb = Shape(x) {start=2}\nt = i64[1]{2}\n\
             s = Concat(a, b, t) {axis=0}\ny = Reshape(x, s)\nc = i64[2]{-1, 2}\n\
             z = Reshape(x, c)\nreturn y, z",
            expect![[r#"
                (unchanged)
                # fold_reshape @ y: two lengths of the result are unknown
            "#]],
        );
    }
}
