//! Names the rotation of pairs that exporters spell out.
//!
//! ```text
//! a = Slice(x: f32[B,H,S,D], 0, D/2)          angles: f32[S,D/2]
//! b = Slice(x, D/2, D)                        both = Concat(angles, angles)
//! r = Concat(Neg(b), a)
//! p = Mul(x, Cos(both))
//! q = Mul(r, Sin(both))
//! y = Add(p, q)                   =>   y = RotaryEmbedding(x, Cos(angles), Sin(angles))
//! ```
//!
//! Saves six passes over `x` of seven, and half of the sines. Not exact: a compiler may round
//! once where two products are added. The halves of the factors must be seen to be equal: by a
//! Concat of one value with itself, or in constants; below them casts, unsqueezing, look-ups by
//! place and factors are seen through.

use kiln_ir::ops::concat::Concat;
use kiln_ir::{
    Attrs, Decline, Dim, Edit, Graph, Match, NodeId, Op, Operator, Rewrite, Source, Value, Verdict,
};
use kiln_tensor::Tensor;
use kiln_tensor::shape::axis;

use crate::forms::{Forms, dims, ints, sources};
use crate::spans::spans;

/// See the module.
pub struct Rotary {
    forms: Forms,
}

impl Rotary {
    /// The rule with its forms.
    pub fn new() -> Self {
        Self {
            forms: Forms::new(&[
                "Add(Mul(x, c), Mul(j@Concat(Neg(b@Slice(x, ..)), a@Slice(x, ..)), s))",
                "Add(Mul(x, c), Mul(j@Concat(Neg(Split#1(x, ..)), Split#0(x, ..)), s))",
            ]),
        }
    }
}

impl Default for Rotary {
    fn default() -> Self {
        Self::new()
    }
}

impl Rewrite for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if g.op(root).name() != "Add" {
            return Ok(None);
        }
        let Some(m) = self.forms.find(g, root) else { return Ok(None) };
        let (Some(x), Some(c), Some(s)) = (m.get("x"), m.get("c"), m.get("s")) else {
            return Ok(None);
        };
        let Some([batch, _, rows, size]) = dims(g, x) else {
            return Err(Decline::new("what turns has not the axes batch, heads, rows and size"));
        };
        let half = halves(g, &m, size).ok_or(Decline::new("what turns is not cut in halves"))?;
        if g.ty(x) != g.ty(root.first()) {
            return Err(Decline::new("the factors stretch what turns"));
        }
        let mut e = Edit::default();
        let mut of = Angles { x, batch, rows, half, chain: vec![], lengths: None };
        let (cos, sin) = (of.cache(g, &mut e, c)?, of.cache(g, &mut e, s)?);
        let inputs = [Some(Source::from(x)), Some(cos), Some(sin)];
        let y = e.call("RotaryEmbedding", &inputs, Attrs::default());
        e.replace(root.first(), y);
        e.absorb_below(m.nodes());
        private(g, of.chain, m.nodes()).into_iter().for_each(|n| e.absorb(n.first()));
        Ok(Some(e))
    }
}

/// Half the length of the last axis, where the match cuts it there and joins it along it.
fn halves(g: &Graph, m: &Match, size: &Dim) -> Option<usize> {
    let half = size.as_len().filter(|n| n.is_multiple_of(2) && *n > 0)? / 2;
    let join = m.node("j")?;
    let Op::Concat(Concat::Join { axis: along }) = g.op(join) else { return None };
    let parts = g.inputs_of(join);
    let is_half =
        |v: &Option<Value>| v.and_then(|v| dims(g, v)).is_some_and(|d| d[3].as_len() == Some(half));
    let cut = match (m.node("a"), m.node("b")) {
        (Some(a), Some(b)) => {
            begins(g, a, 2 * half) == Some(0) && begins(g, b, 2 * half) == Some(half)
        }
        _ => true,
    };
    (axis(*along, 4).ok()? == 3 && parts.iter().all(is_half) && cut).then_some(half)
}

/// Where a Slice of the last of four axes alone begins, in steps of one.
fn begins(g: &Graph, slice: NodeId, n: usize) -> Option<usize> {
    let (_, all) = spans(g, slice).ok()??;
    let [span] = all[..] else { return None };
    let run = span.run(n).filter(|_| span.axis == 3)?;
    (run.step == 1).then_some(run.start)
}

/// Those of `chain` that nothing reads but others of them and `matched`.
fn private(g: &Graph, mut chain: Vec<NodeId>, matched: &[NodeId]) -> Vec<NodeId> {
    loop {
        let inside = |n: NodeId| chain.contains(&n) || matched.contains(&n);
        let own = |v| !g.is_output(v) && g.readers(v).all(|(n, _)| inside(n));
        let kept: Vec<_> = chain.iter().copied().filter(|n| own(n.first())).collect();
        if kept.len() == chain.len() {
            return kept;
        }
        chain = kept;
    }
}

/// What the caches must fit.
struct Angles<'a> {
    x: Value,
    batch: &'a Dim,
    rows: &'a Dim,
    half: usize,
    /// The nodes that were seen through.
    chain: Vec<NodeId>,
    /// `[B,1,1]`, once it is made.
    lengths: Option<Source>,
}

const UNSEEN: Decline = Decline::new("the two halves of a factor are not seen to be equal");

impl Angles<'_> {
    /// A factor of `x` as a cache, `[B,S,D/2]`.
    fn cache(&mut self, g: &Graph, e: &mut Edit, v: Value) -> Result<Source, Decline> {
        let shape = dims(g, v).ok_or(Decline::new("the rank of a factor is unknown"))?;
        let n = shape.len();
        let one = |d: &Dim| d.as_const() == Some(1);
        if n < 2 || &shape[n - 2] != self.rows {
            return Err(Decline::new("a factor is not told for each row"));
        }
        let lead = &shape[..n - 2];
        let by_batch = n == 4 && &lead[0] == self.batch && !one(self.batch);
        let fits = lead.iter().enumerate().all(|(i, d)| one(d) || i == 0 && by_batch);
        if !fits {
            return Err(Decline::new("a factor differs from head to head"));
        }
        let y = self.halved(g, e, v)?;
        let mut unit = |name: &str, i: i64| {
            let at = e.constant(Tensor::vector(vec![i]));
            e.call(name, &[Some(y), Some(at)], Attrs::default())
        };
        let stays = by_batch || one(self.batch);
        let y = match n {
            4 => unit("Squeeze", 1),
            2 if stays => unit("Unsqueeze", 0),
            _ => y,
        };
        if stays {
            return Ok(y);
        }
        let to = self.lengths(e);
        Ok(e.call("Expand", &[Some(y), Some(to)], Attrs::default()))
    }

    /// `[B,1,1]`.
    fn lengths(&mut self, e: &mut Edit) -> Source {
        if let Some(known) = self.lengths {
            return known;
        }
        let made = match self.batch.as_const() {
            Some(b) => e.constant(Tensor::vector(vec![b, 1, 1])),
            None => {
                let first = Attrs::default().with("start", 0i64).with("end", 1i64);
                let length = e.call("Shape", &[Some(self.x.into())], first);
                let ones = e.constant(Tensor::vector(vec![1i64, 1]));
                let join = Attrs::default().with("axis", 0i64);
                e.call("Concat", &[Some(length), Some(ones)], join)
            }
        };
        self.lengths = Some(made);
        made
    }

    /// The first half of a value along its last axis, where the second is seen to be the same.
    fn halved(&mut self, g: &Graph, e: &mut Edit, v: Value) -> Result<Source, Decline> {
        if let Some(t) = g.constant_of(v) {
            return Ok(e.constant(self.half_of(t).ok_or(UNSEEN)?));
        }
        self.chain.push(v.node);
        let (op, inputs) = (g.op(v.node), g.inputs_of(v.node));
        let rank = dims(g, v).map_or(0, <[_]>::len);
        let keeps_last = match op.name() {
            "Cos" | "Sin" | "Cast" => true,
            "Mul" => inputs.get(1).copied().flatten().is_some_and(|c| {
                g.constant_of(c).is_some_and(|t| t.len() == 1 && t.rank() <= rank)
            }),
            "Unsqueeze" => {
                let axes = inputs.get(1).copied().flatten().and_then(|a| ints(g, a));
                let last = |a: &i64| axis(*a, rank).is_ok_and(|a| a + 1 < rank);
                axes.is_some_and(|all| all.iter().all(last))
            }
            "Gather" => {
                let table = inputs[0].and_then(|t| dims(g, t)).map_or(0, <[_]>::len);
                table >= 2 && crate::forms::attr_int(g, v.node, "axis").unwrap_or(0) == 0
            }
            _ => false,
        };
        if let (Op::Concat(Concat::Join { axis: along }), [Some(a), Some(b)]) = (op, &inputs[..]) {
            let last = axis(*along, rank).is_ok_and(|a| a + 1 == rank);
            let is_half = dims(g, *a).and_then(|d| d.last()?.as_len()) == Some(self.half);
            return if a == b && last && is_half { Ok((*a).into()) } else { Err(UNSEEN) };
        }
        let (true, Some(Some(x))) = (keeps_last, inputs.first()) else { return Err(UNSEEN) };
        let mut operands = sources(g, v.node);
        operands[0] = Some(self.halved(g, e, *x)?);
        Ok(e.node(op.clone(), &operands))
    }

    /// The first half of the rows of a constant, where the second is the same.
    fn half_of(&self, t: &Tensor) -> Option<Tensor> {
        let (&n, lead) = t.shape().split_last()?;
        let data = t.as_slice::<f32>().ok().filter(|_| n == 2 * self.half)?;
        let same = |row: &[f32]| {
            let (a, b) = row.split_at(self.half);
            a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
        };
        if !data.chunks_exact(n).all(same) {
            return None;
        }
        let half = data.chunks_exact(n).flat_map(|row| row[..self.half].to_vec()).collect();
        Tensor::from_vec::<f32>(&[lead, &[self.half]].concat(), half).ok()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    const TURNED: &str = "k = i64[1]{-1}\nz = i64[1]{0}\nh = i64[1]{2}\n\
                          end = i64[1]{9223372036854775807}\n\
                          a = Slice(x: f32[B,3,S,4], z, h, k)\nb = Slice(x, h, end, k)\n\
                          n = Neg(b)\nr = Concat(n, a) {axis=-1}\np = Mul(x, c)\nq = Mul(r, s)\n\
                          y = Add(p, q)\nreturn y";

    #[test]
    fn names_a_rotation_by_angles() {
        check(
            &Rotary::new(),
            &format!(
                "both = Concat(t: f32[S,2], t) {{axis=-1}}\nc = Cos(both)\ns = Sin(both)\n{TURNED}"
            ),
            expect![[r#"
                t: f32[S,2]
                x: f32[B,3,S,4]
                y/rotary0 = Cos(t)
                y/rotary1 = Shape(x) {end=1}
                y/rotary2 = i64[2]{1, 1}
                y/rotary3 = Concat(y/rotary1, y/rotary2) {axis=0}
                y/rotary4 = Expand(y/rotary0, y/rotary3)
                y/rotary5 = Sin(t)
                y/rotary6 = Expand(y/rotary5, y/rotary3)
                y = RotaryEmbedding(x, y/rotary4, y/rotary6)
                return y
            "#]],
        );
    }

    #[test]
    fn names_a_rotation_by_tables() {
        check(
            &Rotary::new(),
            &format!(
                "table = f32[3,4]{{1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0}}\n\
                 l = Gather(table, ids: i64[B,S])\none = i64[1]{{1}}\nc = Unsqueeze(l, one)\n\
                 s = Neg(c)\n{TURNED}"
            )
            .replace("s = Neg(c)\n", "s = Unsqueeze(l, one)\n"),
            expect![[r#"
                ids: i64[B,S]
                x: f32[B,3,S,4]
                one = i64[1]{1}
                y/rotary0 = f32[3,2]{1.0, 2.0, 3.0, 4.0, 0.0, 0.0}
                y/rotary1 = Gather(y/rotary0, ids)
                y/rotary2 = Unsqueeze(y/rotary1, one)
                y/rotary3 = i64[1]{1}
                y/rotary4 = Squeeze(y/rotary2, y/rotary3)
                y/rotary5 = f32[3,2]{1.0, 2.0, 3.0, 4.0, 0.0, 0.0}
                y/rotary6 = Gather(y/rotary5, ids)
                y/rotary7 = Unsqueeze(y/rotary6, one)
                y/rotary8 = i64[1]{1}
                y/rotary9 = Squeeze(y/rotary7, y/rotary8)
                y = RotaryEmbedding(x, y/rotary4, y/rotary9)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_other_factors() {
        check(
            &Rotary::new(),
            &format!("c = Cos(t: f32[S,4])\ns = Sin(t)\n{TURNED}"),
            expect![[r#"
                (unchanged)
                # rotary @ y: the two halves of a factor are not seen to be equal
            "#]],
        );
    }
}
