//! Lets attention put keys and values behind those of the past itself.
//!
//! ```text
//! j = Concat(past_key: f32[B,2,P,64], k: f32[B,2,S,64]) {axis=2}
//! w = Concat(past_value, v) {axis=2}
//! y = Attention(q, j, w, mask)   =>   y, j, w = Attention(q, k, v, mask, past_key, past_value)
//! ```
//!
//! Saves two nodes, and reading what they have just written: a runtime that owns the caches may
//! write what is new behind what is there. Exact: the same numbers in the same order.

use kiln_ir::ops::attention::Settings;
use kiln_ir::ops::concat::Concat;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};

use crate::forms::{dims, sources, transposed};

/// See the module.
pub struct AttentionCache;

/// The axis of places in `[batch, heads, places, size]`.
const PLACES: i64 = 2;

impl Rewrite for AttentionCache {
    fn name(&self) -> &'static str {
        "attention_cache"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Attention(op) = g.op(root) else { return Ok(None) };
        let [Some(keys), Some(values)] = [1, 2].map(|i| g.input_of(root, i)) else {
            return Ok(None);
        };
        let [Some((past_key, k)), Some((past_value, v))] = [grown(g, keys)?, grown(g, values)?]
        else {
            return Ok(None);
        };
        let mut inputs = sources(g, root);
        if op.settings().outputs != 1 || inputs.iter().skip(4).any(Option::is_some) {
            return Err(Decline::new("there is a past already"));
        }
        if keys == values {
            return Err(Decline::new("keys and values are the same, and joined once"));
        }
        if by_place(op.settings()) {
            return Err(Decline::new("queries have places, which a past would move"));
        }
        let elsewhere = |v: Value| g.readers(v).any(|(n, _)| n != root);
        if elsewhere(keys) || elsewhere(values) {
            return Err(Decline::new("the joined keys or values have another reader"));
        }
        let places = |v: Value| dims(g, v).map(|d| &d[PLACES as usize]);
        if places(k) != places(v) {
            return Err(Decline::new("keys and values may not be as many"));
        }
        inputs.resize(4, None);
        (inputs[1], inputs[2]) = (Some(k.into()), Some(v.into()));
        inputs.extend([Some(past_key.into()), Some(past_value.into())]);
        let mut e = Edit::default();
        let attrs = g.op(root).attrs().with("made_outputs", 3i64);
        let y = e.call("Attention", &inputs, attrs);
        // The last one gives the name.
        e.replace(keys, y.slot(1));
        e.replace(values, y.slot(2));
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// Whether what a query sees depends on its place, which is counted from the end of the past.
fn by_place(s: &Settings) -> bool {
    s.is_causal || (s.left_window_size, s.right_window_size) != (-1, -1)
}

/// What is of the past, and what is new; `None` where nothing is joined.
fn grown(g: &Graph, v: Value) -> Result<Option<(Value, Value)>, Decline> {
    const LAYOUT: Decline = Decline::new("keys or values of the past are kept in another layout")
        .advise("keep them as [batch, heads, places, size]");
    let joined = |v: Value| match g.op(v.node) {
        Op::Concat(Concat::Join { axis }) => Some(*axis),
        _ => None,
    };
    if transposed(g, v).is_some_and(|(x, _)| joined(x).is_some()) {
        return Err(LAYOUT);
    }
    let (Some(axis), Some(rank)) = (joined(v), g.ty(v).rank()) else { return Ok(None) };
    if rank != 4 || (axis != PLACES && axis != PLACES - 4) {
        return Err(LAYOUT);
    }
    match g.inputs_of(v.node)[..] {
        [Some(past), Some(new)] => Ok(Some((past, new))),
        _ => Err(Decline::new("more than a past and what is new are joined")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn takes_keys_and_values_of_the_past() {
        check(
            &AttentionCache,
            "pk = Concat(a: f32[B,2,P,4], k: f32[B,2,S,4]) {axis=2}\n\
             pv = Concat(b: f32[B,2,P,3], v: f32[B,2,S,3]) {axis=-2}\n\
             y = Attention(q: f32[B,4,S,4], pk, pv, m: f32[S,P+S]) {scale=0.5}\n\
             ik = Concat(a, k) {axis=2}\niv = Concat(b, v) {axis=2}\n\
             z = Attention(q, ik, iv)\nreturn y, pk, pv, z",
            expect![[r#"
                a: f32[B,2,P,4]
                k: f32[B,2,S,4]
                b: f32[B,2,P,3]
                v: f32[B,2,S,3]
                q: f32[B,4,S,4]
                m: f32[S,S+P]
                z, z#1, z#2 = Attention(q, k, v, _, a, b) {made_outputs=3}
                y, y#1, y#2 = Attention(q, k, v, m, a, b) {made_outputs=3, scale=0.5}
                return y, pk=y#1, pv=y#2, z
            "#]],
        );
    }

    #[test]
    fn keeps_other_layouts_other_readers_and_places() {
        check(
            &AttentionCache,
            "ak = Concat(a: f32[B,P,2,4], k: f32[B,S,2,4]) {axis=1}\n\
             at = Transpose(ak) {perm=[0,2,1,3]}\n\
             o = Attention(q: f32[B,2,S,4], at, at)\n\
             bk = Concat(c: f32[B,2,P,4], l: f32[B,2,S,4]) {axis=2}\n\
             bv = Concat(d: f32[B,2,P,4], l) {axis=2}\n\
             p = Attention(q, bk, bv) {is_causal=1}\n\
             ck = Concat(c, l) {axis=2}\ncv = Concat(d, l) {axis=2}\n\
             r = Relu(ck)\ns = Attention(q, ck, cv)\n\
             dk = Concat(c, l) {axis=2}\ndv = Concat(l, c) {axis=2}\n\
             t = Attention(q, dk, dv)\n\
             ek = Concat(c, l, l) {axis=2}\nu = Attention(q, ek, ek)\n\
             fk = Concat(c, l) {axis=2}\nw = Attention(q, fk, fk)\n\
             gk = Concat(c, l) {axis=2}\ngv = Concat(d, l) {axis=2}\n\
             x = Attention(q, gk, gv, _, c, d)\n\
             return o, p, r, s, t, u, w, x",
            expect![[r#"
                (unchanged)
                # attention_cache @ o: keys or values of the past are kept in another layout
                # attention_cache @ p: queries have places, which a past would move
                # attention_cache @ s: the joined keys or values have another reader
                # attention_cache @ t: keys and values may not be as many
                # attention_cache @ u: more than a past and what is new are joined
                # attention_cache @ w: keys and values are the same, and joined once
                # attention_cache @ x: there is a past already
            "#]],
        );
    }
}
