//! Joins two transpositions.
//!
//! ```text
//! a = Transpose(x) {perm=[0,2,1]}
//! y = Transpose(a) {perm=[2,0,1]}   =>   y = Transpose(x) {perm=[1,0,2]}
//! ```
//!
//! Saves one of two moves of all elements, and the other, too, where the two cancel out. Exact.

use kiln_ir::ops::layout::Layout;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Verdict};

/// See the module.
pub struct TransposeChain;

impl Rewrite for TransposeChain {
    fn name(&self) -> &'static str {
        "transpose_chain"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Layout(Layout::Transpose { perm: outer }) = g.op(root) else { return Ok(None) };
        let Some(middle) = g.input_of(root, 0) else { return Ok(None) };
        let Op::Layout(Layout::Transpose { perm: inner }) = g.op(middle.node) else {
            return Ok(None);
        };
        let Some(x) = g.input_of(middle.node, 0) else { return Ok(None) };
        let rank = g.ty(x).rank().ok_or(Decline("the rank is unknown"))?;
        let (outer, inner) = (order(outer.as_deref(), rank), order(inner.as_deref(), rank));
        let perm: Option<Vec<i64>> =
            outer.iter().map(|&i| inner.get(usize::try_from(i).ok()?).copied()).collect();
        let Some(perm) = perm else { return Ok(None) };
        let mut e = Edit::default();
        let joined = Layout::Transpose { perm: Some(perm) };
        let y = e.node(joined, &[Some(Source::Old(x))]);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// The order of the axes; they are turned around where none is given.
fn order(perm: Option<&[i64]>, rank: usize) -> Vec<i64> {
    perm.map_or_else(|| (0..rank as i64).rev().collect(), <[i64]>::to_vec)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn joins_a_chain_of_three() {
        check(
            &TransposeChain,
            "a = Transpose(x: f32[N,2,3]) {perm=[0,2,1]}\nb = Transpose(a)\n\
             y = Transpose(b) {perm=[1,2,0]}\nreturn y",
            expect![[r#"
                x: f32[N,2,3]
                y = Transpose(x) {perm=[2,0,1]}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_others_read_and_what_it_cannot_know() {
        check(
            &TransposeChain,
            "a = Transpose(x: f32[N,2,3]) {perm=[0,2,1]}\ny = Transpose(a) {perm=[0,2,1]}\n\
             b = Transpose(z: f32[..])\nt = Transpose(b)\nreturn a, y, t",
            expect![[r#"
                x: f32[N,2,3]
                z: f32[..]
                a = Transpose(x) {perm=[0,2,1]}
                b = Transpose(z)
                t = Transpose(b)
                y = Transpose(x) {perm=[0,1,2]}
                return a, y, t
                # transpose_chain @ t: the rank is unknown
            "#]],
        );
    }
}
