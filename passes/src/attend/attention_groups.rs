//! Lets heads of queries share keys and values instead of repeating these.
//!
//! ```text
//! u = Unsqueeze(k: f32[B,2,T,D], [2])
//! e = Expand(u, [B,2,4,T,D])
//! r = Reshape(e, [B,8,T,D])
//! y = Attention(q: f32[B,8,S,D], r, v)   =>   y = Attention(q, k, v)
//! ```
//!
//! Saves a copy of all keys and values for every head of queries that shares them. Exact: the
//! same products of the same numbers.

use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};

use crate::forms::{dims, sole_reader, sources};

/// See the module.
pub struct AttentionGroups;

impl Rewrite for AttentionGroups {
    fn name(&self) -> &'static str {
        "attention_groups"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if !matches!(g.op(root), Op::Attention(_)) {
            return Ok(None);
        }
        let mut inputs = sources(g, root);
        let [Some(k), Some(v)] = [1, 2].map(|i| g.input_of(root, i)) else {
            return Ok(None);
        };
        let (Some(keys), Some(values)) = (repeated(g, k), repeated(g, v)) else { return Ok(None) };
        if dims(g, keys).map(|d| &d[1]) != dims(g, values).map(|d| &d[1]) {
            return Err(Decline::new("keys and values are repeated in another way"));
        }
        if g.outputs_of(root).count() > 1 || inputs.iter().skip(4).any(Option::is_some) {
            return Err(Decline::new("there is a past, which has all heads"));
        }
        (inputs[1], inputs[2]) = (Some(keys.into()), Some(values.into()));
        let mut e = Edit::default();
        let y = e.node(g.op(root).clone(), &inputs);
        e.replace(root.first(), y);
        for v in [k, v] {
            // What others read stays for them.
            let expanded = g.input_of(v.node, 0).filter(|_| sole_reader(g, v) == Some(root));
            if let Some(expanded) = expanded {
                e.absorb(v);
                if sole_reader(g, expanded) == Some(v.node) {
                    e.absorb(expanded);
                }
            }
        }
        Ok(Some(e))
    }
}

/// What heads are repeated of: `[B,K,T,D]`, where the value is `[B,K*R,T,D]` with each head `R`
/// times in a row.
fn repeated(g: &Graph, v: Value) -> Option<Value> {
    let below = |v: Value, name: &[&str]| {
        name.contains(&g.op(v.node).name()).then(|| g.input_of(v.node, 0)).flatten()
    };
    let expanded = below(v, &["Reshape"])?;
    let with_axis = below(expanded, &["Expand"])?;
    let x = below(with_axis, &["Unsqueeze", "Reshape"])?;
    let [all, five, one, few] = [v, expanded, with_axis, x].map(|v| dims(g, v));
    let ([b, h, t, d], [fb, fk, fr, ft, fd]) = (all?, five?) else { return None };
    let ([ob, ok, or, ot, od], [xb, xk, xt, xd]) = (one?, few?) else { return None };
    let same = [(b, fb), (b, ob), (b, xb), (t, ft), (t, ot), (t, xt), (d, fd), (d, od), (d, xd)];
    let same = same.iter().all(|(a, b)| a == b) && fk == ok && ok == xk;
    let repeats = or.as_const() == Some(1) && fk.clone() * fr.clone() == *h;
    (same && repeats && fr.as_const() != Some(0)).then_some(x)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    const REPEATED: &str = "a = i64[1]{2}\ns = i64[5]{1, 2, 3, 1, 4}\nr = i64[4]{0, 6, -1, 4}\n\
                            ku = Unsqueeze(k: f32[B,2,T,4], a)\nke = Expand(ku, s)\n\
                            kr = Reshape(ke, r)\nvu = Unsqueeze(v: f32[B,2,T,4], a)\n\
                            ve = Expand(vu, s)\nvr = Reshape(ve, r)\n";

    #[test]
    fn shares_keys_and_values() {
        check(
            &AttentionGroups,
            &format!("{REPEATED}y = Attention(q: f32[B,6,S,4], kr, vr, m: f32[S,T])\nreturn y"),
            expect![[r#"
                k: f32[B,2,T,4]
                v: f32[B,2,T,4]
                q: f32[B,6,S,4]
                m: f32[S,T]
                y = Attention(q, k, v, m)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_a_past_and_heads_in_turn() {
        check(
            &AttentionGroups,
            &format!(
                "{REPEATED}y, pk, pv = Attention(q: f32[B,6,S,4], kr, vr)\n\
                 b = i64[1]{{1}}\nt = i64[5]{{1, 3, 2, 1, 4}}\ntu = Unsqueeze(k, b)\n\
                 te = Expand(tu, t)\ntr = Reshape(te, r)\nz = Attention(q, tr, tr)\n\
                 return y, pk, z"
            ),
            expect![[r#"
                (unchanged)
                # attention_groups @ y: there is a past, which has all heads
            "#]],
        );
    }
}
