//! Names the attention that exporters spell out.
//!
//! ```text
//! s = com.microsoft.FusedMatMul(q, k) {alpha=0.125, transB=1}
//! m = Add(s, mask)
//! p = Softmax(m)
//! y = MatMul(p, v)             =>   y = Attention(q, k, v, mask) {scale=0.125}
//! ```
//!
//! Saves the scores, `[batch, heads, queries, keys]`, which are then never in memory as a whole.
//! Not exact: sums are taken in another order. The factor may stand anywhere before the mask;
//! `algebra` has brought it into the product.

use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::matmul::MatMul;
use kiln_ir::{Attrs, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};

/// See the module.
pub struct Attention;

impl Rewrite for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if !matches!(g.op(root), Op::MatMul(m) if *m == MatMul::PLAIN) {
            return Ok(None);
        }
        let [Some(p), Some(v)] = [g.input_of(root, 0), g.input_of(root, 1)] else {
            return Ok(None);
        };
        let Some(scores) = softmax_of(g, p) else { return Ok(None) };
        let Some(found) = Scores::of(g, scores) else { return Ok(None) };
        let Scores { product, mask, q, k, alpha, across } = found;
        if [q, k, v].iter().any(|v| g.ty(*v).rank() != Some(4)) {
            return Err(Decline::new("queries, keys or values have no axes for batch and heads")
                .advise("export them as [batch, heads, length, size]"));
        }
        if mask.is_some_and(|m| !mask_fits(g, m)) {
            return Err(Decline::new("the rank of the mask is not 2 to 4"));
        }
        let mut e = Edit::default();
        let k = match across {
            true => Source::from(k),
            false => untwisted(g, &mut e, k)?,
        };
        let mut inputs = vec![Some(Source::from(q)), Some(k), Some(v.into())];
        inputs.extend(mask.map(|m| Some(m.into())));
        let y = e.call("Attention", &inputs, Attrs::default().with("scale", alpha));
        e.replace(root.first(), y);
        e.absorb(p);
        e.absorb(scores);
        e.absorb(product);
        Ok(Some(e))
    }
}

/// What a value is the softmax over the last axis of.
fn softmax_of(g: &Graph, v: Value) -> Option<Value> {
    let Op::Softmax(s) = g.op(v.node) else { return None };
    if g.op(v.node).name() != "Softmax" {
        return None;
    }
    let rank = g.ty(v).rank()? as i64;
    let last = s.axis == -1 || s.axis == rank - 1;
    g.input_of(v.node, 0).filter(|_| last)
}

/// Scores, taken apart.
struct Scores {
    product: Value,
    mask: Option<Value>,
    q: Value,
    k: Value,
    alpha: f32,
    /// Whether `k` is read across: `[.., keys, size]`.
    across: bool,
}

impl Scores {
    fn of(g: &Graph, v: Value) -> Option<Self> {
        let (product, mask) = match g.op(v.node).name() {
            "Add" => {
                let (a, b) = (g.input_of(v.node, 0)?, g.input_of(v.node, 1)?);
                let is_product = |v: Value| matches!(g.op(v.node), Op::MatMul(_));
                if is_product(a) { (a, Some(b)) } else { (b, Some(a)) }
            }
            _ => (v, None),
        };
        let Op::MatMul(m) = g.op(product.node) else { return None };
        let plain = MatMul { alpha: m.alpha, trans_b: m.trans_b, ..MatMul::PLAIN };
        let (q, k) = (g.input_of(product.node, 0)?, g.input_of(product.node, 1)?);
        let found = Self { product, mask, q, k, alpha: m.alpha, across: m.trans_b };
        (*m == plain).then_some(found)
    }
}

/// A mask is added by places from the right, and has axes for queries and keys.
fn mask_fits(g: &Graph, mask: Value) -> bool {
    g.ty(mask).rank().is_some_and(|r| (2..=4).contains(&r))
}

/// Keys as `[.., keys, size]` from what stands as `[.., size, keys]`.
fn untwisted(g: &Graph, e: &mut Edit, k: Value) -> Result<Source, Decline> {
    let (mut perm, x) = match g.op(k.node) {
        Op::Layout(Layout::Transpose { perm: Some(perm) }) if perm.len() == 4 => {
            (perm.clone(), g.input_of(k.node, 0))
        }
        _ => return Err(Decline::new("the keys are stored across")),
    };
    perm.swap(2, 3);
    let x = x.ok_or(Decline::new("the keys are missing"))?;
    Ok(e.node(Layout::Transpose { perm: Some(perm) }, &[Some(x.into())]))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn names_it_with_and_without_mask() {
        check(
            &Attention,
            "s = com.microsoft.FusedMatMul(q: f32[N,2,3,4], k: f32[N,2,5,4]) {alpha=0.5,transB=1}\n\
             m = Add(mask: f32[N,1,1,5], s)\np = Softmax(m)\ny = MatMul(p, v: f32[N,2,5,4])\n\
             t = Transpose(h: f32[N,5,2,4]) {perm=[0,2,3,1]}\nr = MatMul(q, t)\n\
             w = Softmax(r) {axis=3}\n\
             z = MatMul(w, v)\nreturn y, z",
            expect![[r#"
                q: f32[N,2,3,4]
                k: f32[N,2,5,4]
                mask: f32[N,1,1,5]
                v: f32[N,2,5,4]
                h: f32[N,5,2,4]
                z/attention0 = Transpose(h) {perm=[0,2,1,3]}
                z = Attention(q, z/attention0, v) {scale=1.0}
                y = Attention(q, k, v, mask) {scale=0.5}
                return y, z
            "#]],
        );
    }

    #[test]
    fn keeps_other_axes_ranks_and_scores_that_are_outputs() {
        check(
            &Attention,
            "s = com.microsoft.FusedMatMul(q: f32[N,2,3,4], k: f32[N,2,3,4]) {transB=1}\n\
             p = Softmax(s) {axis=2}\ny = MatMul(p, v: f32[N,2,3,4])\n\
             t = com.microsoft.FusedMatMul(a: f32[3,4], a) {transB=1}\nu = Softmax(t)\n\
             z = MatMul(u, a)\n\
             r = Softmax(s)\nw = MatMul(r, v)\nreturn y, z, w, r",
            expect![[r#"
                (unchanged)
                # attention @ z: queries, keys or values have no axes for batch and heads
                # attention @ w: an inner value is an output of the graph
            "#]],
        );
    }
}
