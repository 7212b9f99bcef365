//! `LinearAttention`: attention by a state that each token updates and reads.
//!
//! ```text
//! y, state = LinearAttention(q: f32[B,T,H*D], k: f32[B,T,K*D], v: f32[B,T,K*E], past, decay, beta)
//! state: f32[B,K,D,E]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::real::{Ticks, axpy, narrow, widen};
use crate::{
    Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attr_enum, attrs, invalid,
};

attrs! {
    /// A recurrence over tokens: decay the state, write `k v`, read `q`.
    #[derive(Copy)]
    pub struct LinearAttention {
        /// How many tokens faster ways do at once; of no effect on the result.
        chunk_size: i64 = 64,
        /// The heads of keys and values.
        kv_num_heads: i64,
        /// The heads of queries, a multiple.
        q_num_heads: i64,
        /// Factor of the output; where 0, `1/sqrt` of the length of a query.
        scale: f32 = 0.0,
        /// How the state changes.
        rule "update_rule": Rule = Rule::GatedDelta,
    }
}

attr_enum! {
    /// How the state changes with each token.
    pub enum Rule {
        /// `S + k v`.
        Linear = "linear",
        /// `exp(g) S + k v`.
        Gated = "gated",
        /// `S + k beta (v - S k)`.
        Delta = "delta",
        /// `exp(g) S + k beta (v - exp(g) S k)`.
        GatedDelta = "gated_delta",
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "LinearAttention",
    since: 27,
    build: |b| Ok(LinearAttention::read(&mut b.attrs)?.into()),
}];

impl Rule {
    fn decays(self) -> bool {
        matches!(self, Rule::Gated | Rule::GatedDelta)
    }

    fn corrects(self) -> bool {
        matches!(self, Rule::Delta | Rule::GatedDelta)
    }
}

/// The lengths.
#[derive(Clone, Copy)]
struct Lengths {
    batch: usize,
    tokens: usize,
    q_heads: usize,
    kv_heads: usize,
    key: usize,
    value: usize,
}

impl LinearAttention {
    /// The heads of queries and of keys.
    fn heads(&self) -> Result<[usize; 2]> {
        let of = |n: i64| usize::try_from(n).ok().filter(|&n| n > 0 && n <= 1 << 32);
        match (of(self.q_num_heads), of(self.kv_num_heads)) {
            (Some(q), Some(kv)) if q.is_multiple_of(kv) => Ok([q, kv]),
            _ => invalid!(
                "{} heads of keys cannot serve {} heads of queries",
                self.kv_num_heads,
                self.q_num_heads
            ),
        }
    }

    fn lengths(&self, [q, k, v]: [&Tensor; 3]) -> Result<Lengths> {
        let [q_heads, kv_heads] = self.heads()?;
        let ([b, t, width], [kb, kt, kw], [vb, vt, vw]) = (q.shape(), k.shape(), v.shape()) else {
            invalid!("queries, keys and values must have rank 3");
        };
        let fits = (b, t, b, t) == (kb, kt, vb, vt)
            && width.is_multiple_of(q_heads)
            && width / q_heads * kv_heads == *kw
            && vw.is_multiple_of(kv_heads);
        if !fits {
            let (q, k, v) = (q.shape(), k.shape(), v.shape());
            invalid!("{q_heads} and {kv_heads} heads: {q:?}, {k:?} and {v:?} do not fit");
        }
        let (key, value) = (width / q_heads, vw / kv_heads);
        Ok(Lengths { batch: *b, tokens: *t, q_heads, kv_heads, key, value })
    }
}

/// One value per token for each head, each element of its keys, or for all heads.
struct Gate {
    data: Vec<f32>,
    width: usize,
}

impl Gate {
    fn new(name: &str, t: &Tensor, n: &Lengths, widths: [usize; 2]) -> Result<Self> {
        match *t.shape() {
            [b, s, width] if (b, s) == (n.batch, n.tokens) && widths.contains(&width) => {
                Ok(Self { data: t.to_vec::<f32>()?, width })
            }
            _ => invalid!("{name} has shape {:?}, expected rows of {widths:?}", t.shape()),
        }
    }

    /// The values of one head of one token: one, or one for each of `heads` parts of the row.
    fn of(&self, token: usize, head: usize, heads: usize) -> &[f32] {
        let n = (self.width / heads).max(1);
        let head = if self.width < heads { 0 } else { head };
        &self.data[token * self.width + head * n..][..n]
    }
}

struct Gates {
    decay: Option<Gate>,
    beta: Option<Gate>,
}

/// Updates the state of one head by one token.
fn update(n: &Lengths, s: &mut [f32], k: &[f32], v: &mut [f32], [g, beta]: [Option<&[f32]>; 2]) {
    if let Some(g) = g {
        for (i, row) in s.chunks_exact_mut(n.value.max(1)).enumerate() {
            let by = g[i % g.len()].exp();
            row.iter_mut().for_each(|s| *s *= by);
        }
    }
    if let Some(beta) = beta {
        let mut held = vec![0.0; n.value];
        read(n, s, k, &mut held);
        v.iter_mut().zip(held).for_each(|(v, h)| *v = beta[0] * (*v - h));
    }
    for (row, &k) in s.chunks_exact_mut(n.value.max(1)).zip(k) {
        axpy(k, v, row);
    }
}

/// Adds what the state holds for a key.
fn read(n: &Lengths, s: &[f32], key: &[f32], out: &mut [f32]) {
    for (row, &k) in s.chunks_exact(n.value.max(1)).zip(key) {
        axpy(k, row, out);
    }
}

impl Operator for LinearAttention {
    fn name(&self) -> &str {
        "LinearAttention"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=6
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let [q_heads, kv_heads] = self.heads()?.map(Dim::from);
        cx.dtype_in(0, |d| matches!(d, DType::F32 | DType::F16 | DType::BF16))?;
        let dtype = cx.same_dtype([0, 1, 2, 4, 5])?;
        let state = if cx.has(3) { cx.dtype(3)? } else { dtype };
        if cx.has(4) != self.rule.decays() || cx.has(5) != self.rule.corrects() {
            invalid!("the rule `{}` does not go with these gates", self.rule.text());
        }
        let (Some(q), Some(v)) = (cx.shape(0)?, cx.shape(2)?) else {
            return Ok(vec![Fact::tensor(dtype, None), Fact::tensor(state, None)]);
        };
        let ([b, t, width], [_, _, vw]) = (q, v) else {
            invalid!("queries and values must have rank 3");
        };
        let (key, value) = (width.floor_div(&q_heads), vw.floor_div(&kv_heads));
        let y = vec![b.clone(), t.clone(), q_heads * value.clone()];
        let s = vec![b.clone(), kv_heads, key, value];
        Ok(vec![Fact::shaped(dtype, y), Fact::shaped(state, s)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let of = [tensor(inputs, 0)?, tensor(inputs, 1)?, tensor(inputs, 2)?];
        let n = self.lengths(of)?;
        cx.numel(DType::F32, &[n.batch, n.tokens, n.q_heads])?;
        let gate = |i: usize, name: &str, widths| {
            optional(inputs, i)?.map(|t| Gate::new(name, t, &n, widths)).transpose()
        };
        let gates = Gates {
            decay: gate(4, "decay", [n.kv_heads, n.kv_heads.saturating_mul(n.key)])?,
            beta: gate(5, "beta", [n.kv_heads, 1])?,
        };
        if gates.decay.is_some() != self.rule.decays()
            || gates.beta.is_some() != self.rule.corrects()
        {
            invalid!("the rule `{}` does not go with these gates", self.rule.text());
        }
        let shape = [n.batch, n.kv_heads, n.key, n.value];
        let past = optional(inputs, 3)?;
        let mut state = match past {
            None => cx.zeros::<f32>(&shape)?,
            Some(p) if p.shape() == shape => p.to_vec::<f32>()?,
            Some(p) => invalid!("past_state has shape {:?}, expected {shape:?}", p.shape()),
        };
        let y = self.run(cx, &n, of, &gates, &mut state)?;
        let out = [n.batch, n.tokens, n.q_heads * n.value];
        let stored = past.map_or(of[0].dtype(), Tensor::dtype);
        Ok(vec![narrow(of[0].dtype(), &out, y)?.into(), narrow(stored, &shape, state)?.into()])
    }
}

impl LinearAttention {
    fn run(
        &self,
        cx: &Context,
        n: &Lengths,
        [q, k, v]: [&Tensor; 3],
        gates: &Gates,
        state: &mut [f32],
    ) -> Result<Vec<f32>> {
        let (q, k, mut v) = (widen::<f32>(q)?, widen::<f32>(k)?, widen::<f32>(v)?.into_owned());
        let mut y = cx.zeros::<f32>(&[n.batch, n.tokens, n.q_heads, n.value])?;
        let scale = if self.scale == 0.0 { 1.0 / (n.key as f32).sqrt() } else { self.scale };
        let (group, size) = (n.q_heads / n.kv_heads, n.key.saturating_mul(n.value));
        let mut ticks = Ticks::new(cx);
        for (token, h) in (0..n.batch * n.tokens).flat_map(|t| (0..n.kv_heads).map(move |h| (t, h)))
        {
            ticks.add(size.saturating_mul(3 + group).saturating_add(1))?;
            let s = &mut state[(token / n.tokens * n.kv_heads + h) * size..][..size];
            let at = token * n.kv_heads + h;
            let decay = gates.decay.as_ref().map(|g| g.of(token, h, n.kv_heads));
            let beta = gates.beta.as_ref().map(|g| g.of(token, h, n.kv_heads));
            let v = &mut v[at * n.value..][..n.value];
            update(n, s, &k[at * n.key..][..n.key], v, [decay, beta]);
            for i in 0..group {
                let at = token * n.q_heads + h * group + i;
                let y = &mut y[at * n.value..][..n.value];
                read(n, s, &q[at * n.key..][..n.key], y);
                y.iter_mut().for_each(|y| *y *= scale);
            }
        }
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, t, types};

    /// Two tokens, one head, keys and values of length 1: `[y, state]`.
    fn two(rule: &str, gates: &str, more: &[Tensor]) -> [Vec<f32>; 2] {
        let text = format!(
            "y, s = LinearAttention(q: f32[1,2,1], k: f32[1,2,1], v: f32[1,2,1], \
             p: f32[1,1,1,1]{gates}) {{q_num_heads=1, kv_num_heads=1, scale=10.0, \
             update_rule=\"{rule}\"}}\nreturn y, s"
        );
        let mut inputs = vec![
            t(&[1, 2, 1], &[1., 1.]),
            t(&[1, 2, 1], &[2., 1.]),
            t(&[1, 2, 1], &[3., 4.]),
            t(&[1, 1, 1, 1], &[1.]),
        ];
        inputs.extend_from_slice(more);
        let out = run(&text, &inputs).expect("runs");
        [0, 1].map(|i| out[i].as_tensor().expect("tensor").to_vec::<f32>().expect("f32"))
    }

    #[test]
    fn rules_by_hand() {
        let halve = || t(&[1, 2, 1], &[0.0, 0.5f32.ln()]);
        let beta = || t(&[1, 2, 1], &[1.0, 0.5]);
        // 1 + 2*3 = 7, 7 + 1*4 = 11.
        assert_eq!(two("linear", "", &[]), [vec![70., 110.], vec![11.]]);
        // 7, 7/2 + 4.
        let [y, s] = two("gated", ", g: f32[1,2,1]", &[halve()]);
        assert_close(&[&y[..], &s].concat(), &[70., 75., 7.5], 1e-4);
        // 1 + 2 (3 - 2) = 3, 3 + (4 - 3)/2.
        assert_eq!(two("delta", ", _, b: f32[1,2,1]", &[beta()]), [vec![30., 35.], vec![3.5]]);
        // 3, 3/2 + (4 - 3/2)/2.
        let [y, s] = two("gated_delta", ", g: f32[1,2,1], b: f32[1,2,1]", &[halve(), beta()]);
        assert_close(&[&y[..], &s].concat(), &[30., 27.5, 2.75], 1e-4);
    }

    #[test]
    fn heads_and_lengths() {
        let text = "y, s = LinearAttention(q: f16[B,T,4*D], k: f16[B,T,2*D], v: f16[B,T,6]) \
                    {q_num_heads=4, kv_num_heads=2, update_rule=\"linear\"}\nreturn y, s";
        assert_eq!(types(text).expect("types"), ["f16[B,T,12]", "f16[B,2,D,3]"]);
        assert!(types(&text.replace("q_num_heads=4", "q_num_heads=3")).is_err());
        assert!(types(&text.replace("\"linear\"", "\"gated\"")).is_err());
        let text = "y, s = LinearAttention(q: f32[1,1,4], k: f32[1,1,2], v: f32[1,1,2]) \
                    {q_num_heads=2, kv_num_heads=1, scale=1.0, update_rule=\"linear\"}\n\
                    return y, s";
        let q = t(&[1, 1, 4], &[1., 0., 0., 1.]);
        let out =
            run(text, &[q, t(&[1, 1, 2], &[2., 3.]), t(&[1, 1, 2], &[5., 7.])]).expect("runs");
        let f = |i: usize| out[i].as_tensor().expect("tensor").to_vec::<f32>().expect("f32");
        assert_eq!(f(0), [10., 14., 15., 21.]);
        assert_eq!(f(1), [10., 14., 15., 21.]);
    }
}
