//! Attention: rows of values, weighted by how well each query fits their keys.
//!
//! ```text
//! y = Attention(q: f32[B,H,S,D], k: f32[B,K,T,D], v: f32[B,K,T,E])       y: f32[B,H,S,E]
//! y = Attention(q: f32[B,S,8*D], k, v) {q_num_heads=8, kv_num_heads=2}
//! ```
//! Each of the `K` heads of keys and values serves `H / K` heads of queries.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum};

use crate::eval::{optional, tensor};
use crate::ops::real::{is_real, match_real};
use crate::{
    Attrs, Build, Built, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, attrs,
    invalid,
};

mod definition;

/// `softmax(softcap(q * k^T * scale) + bias) * v` for each head.
///
/// Inputs: q, k, v, a mask, the past of k and v, the number of keys that are no padding.
/// Outputs: y, all keys and all values as `[B,K,T,_]`, and a stage of the calculation.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention(Arc<Settings>);

attrs! {
    /// The attributes of attention.
    pub struct Settings {
        /// Whether queries see only keys up to their own place.
        is_causal: bool = false,
        /// The heads of keys and values, where they have rank 3.
        kv_num_heads: Option<i64> = None,
        /// How many keys before its own place a query sees; all where -1.
        left_window_size: i64 = -1,
        /// The heads of queries, where they have rank 3.
        q_num_heads: Option<i64> = None,
        /// The stage that is the fourth output: products, capped, biased, weights.
        mode "qk_matmul_output_mode": i64 = 0,
        /// How many keys after its own place a query sees; all where -1.
        right_window_size: i64 = -1,
        /// Factor of the products; without one, `1/sqrt` of the length of a query.
        scale: Option<f32> = None,
        /// The bound that products are pressed under; none where 0.
        softcap: f32 = 0.0,
        /// The type that weights are calculated in.
        softmax_precision: Option<DType> = None,
        /// How many outputs are made: 1, 3 or 4.
        outputs "made_outputs": i64 = 1,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema { name: "Attention", since: 23, build: attention }];

fn attention(b: &mut Build<'_>) -> Result<Built> {
    let counted = b.attrs.has("made_outputs");
    let mut settings = Settings::read(&mut b.attrs)?;
    if !counted {
        settings.outputs = match b.outputs {
            0 | 1 => 1,
            2 | 3 => 3,
            _ => 4,
        };
    }
    settings.check()?;
    Ok(Attention(settings.into()).into())
}

impl Settings {
    fn check(&self) -> Result<()> {
        if !(0..=3).contains(&self.mode) {
            invalid!("qk_matmul_output_mode is {}, expected 0 to 3", self.mode);
        }
        if self.left_window_size < -1 || self.right_window_size < -1 {
            invalid!("a window is -1 (without end) or a number of keys");
        }
        if !matches!(self.outputs, 1 | 3 | 4) {
            invalid!("attention has 1, 3 or 4 outputs, not {}", self.outputs);
        }
        match self.softmax_precision {
            Some(d) if !is_real(d) => invalid!("softmax_precision is {d}, no float type"),
            _ => Ok(()),
        }
    }
}

impl Attention {
    /// The attributes.
    pub fn settings(&self) -> &Settings {
        &self.0
    }
}

/// A part of the input as `[batch, heads, sequence, size]`; `None` where its rank is unknown.
fn heads(cx: &Infer<'_>, i: usize, heads: Option<i64>) -> Result<Option<[Dim; 4]>> {
    let s = match cx.shape(i)? {
        None => return Ok(None),
        Some([b, h, s, d]) => return Ok(Some([b, h, s, d].map(Clone::clone))),
        Some([b, s, d]) => [b, s, d],
        Some(s) => invalid!("input {i} has rank {}, attention takes 3 and 4", s.len()),
    };
    let Some(n) = heads.filter(|&n| n > 0) else {
        invalid!("inputs of rank 3 need q_num_heads and kv_num_heads");
    };
    if s[2].as_const().is_some_and(|d| d % n != 0) {
        invalid!("input {i} has rows of {}, which {n} heads do not share", s[2]);
    }
    let size = s[2].floor_div(&n.into());
    Ok(Some([s[0].clone(), n.into(), s[1].clone(), size]))
}

/// An error where two lengths are known to differ.
fn agree(what: &str, a: &Dim, b: &Dim) -> Result<()> {
    match (a.as_const(), b.as_const()) {
        (Some(x), Some(y)) if x != y => invalid!("{what}: {x} and {y}"),
        _ => Ok(()),
    }
}

impl Attention {
    /// The shapes of the four outputs; `None` where a rank is unknown.
    fn shapes(&self, cx: &Infer<'_>) -> Result<[Option<Vec<Dim>>; 4]> {
        let (q, k, v) = (
            heads(cx, 0, self.0.q_num_heads)?,
            heads(cx, 1, self.0.kv_num_heads)?,
            heads(cx, 2, self.0.kv_num_heads)?,
        );
        let (Some(q), Some(k), Some(v)) = (q, k, v) else { return Ok([const { None }; 4]) };
        agree("queries and keys have different batches", &q[0], &k[0])?;
        agree("keys and values have different batches", &k[0], &v[0])?;
        agree("keys and values have different heads", &k[1], &v[1])?;
        agree("keys and values are not as many", &k[2], &v[2])?;
        agree("queries and keys have different lengths", &q[3], &k[3])?;
        if let (Some(h), Some(n)) = (q[1].as_const(), k[1].as_const())
            && (n < 1 || h % n != 0)
        {
            invalid!("{n} heads of keys cannot serve {h} heads of queries");
        }
        let total = match cx.has(4) {
            false => Some(k[2].clone()),
            true => match cx.shape(4)? {
                None => None,
                Some([_, _, past, _]) => Some(past.clone() + k[2].clone()),
                Some(s) => invalid!("past_key has rank {}, not 4", s.len()),
            },
        };
        let [batch, heads, rows, _] = q;
        let y = match cx.shape(0)?.map(<[_]>::len) {
            Some(3) => vec![batch.clone(), rows.clone(), heads.clone() * v[3].clone()],
            _ => vec![batch.clone(), heads.clone(), rows.clone(), v[3].clone()],
        };
        let present =
            |p: &[Dim; 4]| Some(vec![batch.clone(), k[1].clone(), total.clone()?, p[3].clone()]);
        let scores = total.clone().map(|t| vec![batch.clone(), heads, rows, t]);
        Ok([Some(y), present(&k), present(&v), scores])
    }
}

impl Operator for Attention {
    fn name(&self) -> &str {
        "Attention"
    }

    fn attrs(&self) -> Attrs {
        self.0.write()
    }

    fn traits(&self) -> Traits {
        Traits::optional(3)
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=7
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        self.0.check()?;
        let dtype = cx.dtype_in(0, is_real)?;
        let values = cx.dtype_in(2, is_real)?;
        cx.same_dtype([0, 1, 4])?;
        cx.same_dtype([2, 5])?;
        if cx.has(3) {
            cx.dtype_in(3, |d| d.is_number() || d == DType::Bool)?;
        }
        if cx.has(4) != cx.has(5) || (cx.has(4) && cx.has(6)) {
            invalid!("past_key and past_value go together, and without nonpad_kv_seqlen");
        }
        if cx.has(6) {
            cx.dtype_in(6, |d| d == DType::I64)?;
        }
        let [y, k, v, scores] = self.shapes(cx)?;
        let mut facts = vec![
            Fact::tensor(dtype, y),
            Fact::tensor(dtype, k),
            Fact::tensor(values, v),
            Fact::tensor(dtype, scores),
        ];
        facts.truncate(self.0.outputs as usize);
        Ok(facts)
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let t = |i: usize| tensor(inputs, i);
        let wide = [t(0)?, t(1)?, t(2)?].iter().any(|t| t.dtype() == DType::F64);
        let o = |i: usize| optional(inputs, i);
        let given = definition::Given {
            of: [t(0)?, t(1)?, t(2)?],
            mask: o(3)?,
            past: [o(4)?, o(5)?],
            lengths: o(6)?,
        };
        let dtype = if wide { DType::F64 } else { t(0)?.dtype() };
        match_real!(dtype, R => definition::run::<R>(cx, &self.0, &given),
            else invalid!("attention takes no {dtype}"))
    }
}

#[cfg(test)]
mod tests {
    use kiln_tensor::Tensor;

    use super::*;
    use crate::ops::testing::{assert_close, run, t, types};

    fn f(d: &Datum) -> Vec<f32> {
        d.as_tensor().expect("tensor").to_vec::<f32>().expect("f32")
    }

    /// One head, one query per row, keys of length 1: `y = sum of softmax(q k) v`.
    fn simple(attrs: &str, more: &str, q: &[f32], rest: &[Tensor]) -> Vec<Vec<f32>> {
        let text = format!(
            "y, k2, v2, s = Attention(q: f32[1,1,S,1], k: f32[1,1,T,1], v: f32[1,1,T,1]{more}) \
             {{{attrs}}}\nreturn y, k2, v2, s"
        );
        // exp(k) is 1, 2, 3: the weights of a query 1 are 1/6, 2/6, 3/6.
        let k = [0.0, 2f32.ln(), 3f32.ln()];
        let mut inputs = vec![
            t(&[1, 1, q.len(), 1], q),
            t(&[1, 1, 3, 1], &k),
            t(&[1, 1, 3, 1], &[6., 12., 18.]),
        ];
        inputs.extend_from_slice(rest);
        run(&text, &inputs).expect("runs").iter().map(f).collect()
    }

    #[test]
    fn weights_are_a_softmax_of_products() {
        let out = simple("qk_matmul_output_mode=3", "", &[1.0, 0.0], &[]);
        assert_close(&out[0], &[(6. + 24. + 54.) / 6., 12.], 1e-5);
        assert_close(&out[3], &[1. / 6., 2. / 6., 0.5, 1. / 3., 1. / 3., 1. / 3.], 1e-6);
        let out = simple("scale=2.0", "", &[1.0], &[]);
        assert_close(&out[3], &[0.0, 4f32.ln(), 9f32.ln()], 1e-6);
        let out = simple("softcap=1.0, qk_matmul_output_mode=1", "", &[1.0], &[]);
        assert_close(&out[3], &[0.0, 2f32.ln().tanh(), 3f32.ln().tanh()], 1e-6);
    }

    #[test]
    fn keys_that_are_not_seen() {
        let y = |attrs: &str, more: &str, q: &[f32], rest: &[Tensor]| {
            simple(attrs, more, q, rest)[0].clone()
        };
        assert_close(&y("is_causal=1", "", &[1., 1., 0.], &[]), &[6., 10., 12.], 1e-5);
        let only_own = "left_window_size=0, right_window_size=0";
        assert_close(&y(only_own, "", &[1., 1., 1.], &[]), &[6., 12., 18.], 1e-5);
        let mask = Tensor::from_vec(&[1, 2], vec![true, false]).expect("1x2");
        assert_close(&y("", ", m: bool[1,2]", &[1.], &[mask]), &[6.], 1e-5);
        let none = Tensor::from_vec(&[1, 3], vec![false; 3]).expect("1x3");
        assert_eq!(y("", ", m: bool[1,3]", &[1.], &[none]), [0.0]);
        let bias = t(&[3], &[0.0, f32::NEG_INFINITY, 2f32.ln()]);
        assert_close(&y("", ", m: f32[3]", &[1.], &[bias]), &[(6. + 108.) / 7.], 1e-5);
        let two = ", _, _, _, n: i64[1]";
        let n = Tensor::vector(vec![2i64]);
        assert_close(&y("", two, &[1.], std::slice::from_ref(&n)), &[10.], 1e-5);
        // The last query stands at the last key that is no padding; the first sees none.
        assert_close(&y("is_causal=1", two, &[1., 1., 1.], &[n]), &[0., 6., 10.], 1e-5);
    }

    #[test]
    fn the_past_comes_first() {
        let past = [t(&[1, 1, 1, 1], &[0.0]), t(&[1, 1, 1, 1], &[60.0])];
        let more = ", _, pk: f32[1,1,1,1], pv: f32[1,1,1,1]";
        let out = simple("is_causal=1", more, &[1.], &past);
        assert_close(&out[0], &[33.0], 1e-5);
        assert_eq!(out[2], [60.0, 6.0, 12.0, 18.0]);
        assert_eq!(out[1].len(), 4);
    }

    #[test]
    fn heads_share_keys() {
        let text = "y = Attention(q: f32[1,1,4], k: f32[1,1,2], v: f32[1,1,4]) \
                    {q_num_heads=4, kv_num_heads=2}\nreturn y";
        let q = t(&[1, 1, 4], &[1., 2., 3., 4.]);
        let v = t(&[1, 1, 4], &[1., 2., 3., 4.]);
        let out = run(text, &[q, t(&[1, 1, 2], &[1., 1.]), v]).expect("runs");
        assert_eq!(f(&out[0]), [1., 2., 1., 2., 3., 4., 3., 4.]);
        assert_eq!(types(text).expect("types"), ["f32[1,1,8]"]);
    }

    #[test]
    fn lengths_and_nonsense() {
        let text = "y, k2, v2, s = Attention(q: f16[B,S,8*D], k: f16[B,T,2*D], v: f32[B,T,6], _, \
                    pk: f16[B,2,P,D], pv: f32[B,2,P,3]) {q_num_heads=8, kv_num_heads=2}\n\
                    return y, k2, v2, s";
        let want = ["f16[B,S,24]", "f16[B,2,T+P,D]", "f32[B,2,T+P,3]", "f16[B,8,S,T+P]"];
        assert_eq!(types(text).expect("types"), want);
        let bad = |from: &str, to: &str| {
            assert_ne!(text.replace(from, to), text);
            assert!(types(&text.replace(from, to)).is_err(), "{to}");
        };
        bad("q_num_heads=8", "q_num_heads=3");
        bad("q_num_heads=8, ", "");
        bad("{q_num", "{left_window_size=-2, q_num");
        bad("{q_num", "{qk_matmul_output_mode=4, q_num");
        bad("k: f16[B,T,2*D]", "k: f32[B,T,2*D]");
        bad("pk: f16[B,2,P,D]", "_");
    }
}
