//! `GroupQueryAttention`: a cache, rotations, and a sink beside the keys.

use kiln_tensor::{DType, Tensor};

use super::{Call, common, given, parts, split_heads, unsqueeze, unsupported};
use crate::ops::rotary::RotaryEmbedding;
use crate::{Attrs, Build, Built, Result, Value, invalid};

/// Refuses what it has beside the usual.
fn plain(b: &mut Build<'_>) -> Result<()> {
    for flag in ["qk_output", "sliding_window_cache"] {
        if b.take::<i64>(flag)?.is_some_and(|f| f > 0) {
            return unsupported(flag);
        }
    }
    for name in ["k_quant_type", "v_quant_type"] {
        if b.take::<String>(name)?.is_some_and(|t| t != "NONE") {
            return unsupported(name);
        }
    }
    b.take::<i64>("kv_cache_bit_width")?;
    if given(b, 12).is_some() || given(b, 13).is_some() {
        return unsupported("a quantized cache");
    }
    Ok(())
}

/// The attributes.
struct Groups {
    heads: i64,
    kv_heads: i64,
    /// How many keys a query sees, itself counted; -1: all.
    window: i64,
    causal: bool,
    softcap: f32,
    scale: Option<f32>,
    /// `[interleaved]` where queries and keys are turned.
    rotary: Option<bool>,
    /// What is added to the mean square of queries and keys.
    epsilon: f32,
    /// Whether the weights leave room for a sink of score 0.
    smooth: bool,
}

impl Groups {
    fn take(b: &mut Build<'_>) -> Result<Self> {
        plain(b)?;
        let (rotary, interleaved) = (b.take("do_rotary")?, b.take("rotary_interleaved")?);
        let all = Self {
            heads: b.require("num_heads")?,
            kv_heads: b.require("kv_num_heads")?,
            window: b.take("local_window_size")?.unwrap_or(-1),
            causal: b.take("causal")?.unwrap_or(true),
            softcap: b.take("softcap")?.unwrap_or(0.0),
            scale: b.take::<f32>("scale")?.filter(|&s| s != 0.0),
            rotary: rotary.unwrap_or(false).then_some(interleaved.unwrap_or(false)),
            epsilon: b.take("qk_norm_epsilon")?.unwrap_or(1e-6),
            smooth: b.take::<i64>("smooth_softmax")?.is_some_and(|f| f > 0),
        };
        if all.window == 0 || all.window < -1 {
            invalid!("local_window_size is {}, expected -1 or a number of keys", all.window);
        }
        if all.heads < 1 || all.kv_heads < 1 || all.heads % all.kv_heads != 0 {
            invalid!("{} heads of keys do not serve {} of queries", all.kv_heads, all.heads);
        }
        Ok(all)
    }

    /// Queries, keys and values in heads, normalized where there are weights for it.
    fn operands(&self, b: &mut Build<'_>) -> Result<[Value; 3]> {
        let mut of = match (given(b, 1), given(b, 2)) {
            (Some(k), Some(v)) => [b.input(0)?, k, v],
            _ => {
                let qkv = b.input(0)?;
                let all = self.heads.saturating_add(self.kv_heads.saturating_mul(2));
                let size = b.length(qkv, -1, "the length of a row")?.checked_div(all).unwrap_or(0);
                let counts = [self.heads, self.kv_heads, self.kv_heads];
                let sizes = counts.map(|n| size.saturating_mul(n));
                let p = parts(b, qkv, 3, Some(&sizes))?;
                [p[0], p[1], p[2]]
            }
        };
        for (v, n) in of.iter_mut().zip([self.heads, self.kv_heads, self.kv_heads]) {
            *v = split_heads(b, *v, n)?;
        }
        for (v, at) in of.iter_mut().zip([14, 15]) {
            if let Some(weight) = given(b, at) {
                let attrs = Attrs::default().with("epsilon", self.epsilon);
                *v = b.op_with("RMSNormalization", &[*v, weight], attrs)?;
            }
        }
        Ok(of)
    }
}

pub(super) fn build(b: &mut Build<'_>) -> Result<Built> {
    let groups = Groups::take(b)?;
    let mut of = groups.operands(b)?;
    let past = given(b, 3).zip(given(b, 4));
    let ends = if past.is_some() { Some(ends(b, of[0])?) } else { None };
    if let Some(interleaved) = groups.rotary {
        let first = ends.map(|[first, _]| first);
        for v in &mut of[..2] {
            *v = turned(b, *v, first, interleaved)?;
        }
    }
    if let (Some((pk, pv)), Some([first, _])) = (past, ends) {
        of[1] = cached(b, pk, of[1], first)?;
        of[2] = cached(b, pv, of[2], first)?;
    }
    if groups.smooth || given(b, 11).is_some() {
        return groups.with_sink(b, of, ends);
    }
    let window = (groups.window > 0).then_some(groups.window - 1);
    let attrs = common(b)?
        .with("scale", groups.scale)
        .with("softcap", (groups.softcap != 0.0).then_some(groups.softcap))
        .with("left_window_size", window)
        .with("is_causal", groups.causal.then_some(true));
    let lengths = ends.map(|[_, end]| end);
    let call = Call { attrs, mask: given(b, 10), lengths, ..Call::default() };
    Ok(Built::Values(call.add(b, of)?))
}

impl Groups {
    /// Attention whose weights do not add up to 1: each head has a sink beside the keys, which
    /// takes its part and has no value.
    fn with_sink(
        &self,
        b: &mut Build<'_>,
        [q, k, v]: [Value; 3],
        ends: Option<[Value; 2]>,
    ) -> Result<Built> {
        let dtype = b.ty(q).as_tensor()?.dtype;
        let scores = self.scores(b, q, k)?;
        let scores = self.masked(b, scores, ends)?;
        let sink = match given(b, 11) {
            Some(sink) => b.cast(sink, DType::F32)?,
            None => b.constant(Tensor::vector(vec![0f32])),
        };
        let sink = b.reshape(sink, &[1, -1, 1, 1])?;
        let (rows, one) =
            (b.op_with("Shape", &[scores], Attrs::default().with("end", 3i64))?, b.ints(&[1]));
        let axis = |axis: i64| Attrs::default().with("axis", axis);
        let column = b.op_with("Concat", &[rows, one], axis(0))?;
        let column = b.op("Expand", &[sink, column])?;
        let all = b.op_with("Concat", &[scores, column], axis(-1))?;
        let weights = b.op_with("Softmax", &[all], axis(-1))?;
        let [zero, end, last] = [0, -1, -1].map(|i| b.ints(&[i]));
        let weights = b.op("Slice", &[weights, zero, end, last])?;
        let values = self.for_queries(b, v)?;
        let y = b.op("MatMul", &[weights, values])?;
        let y = b.transpose(y, &[0, 2, 1, 3])?;
        let y = b.reshape(y, &[0, 0, -1])?;
        Ok(Built::Values(vec![b.cast(y, dtype)?, k, v]))
    }

    /// Keys or values in single precision, once for each head of queries.
    fn for_queries(&self, b: &mut Build<'_>, v: Value) -> Result<Value> {
        let v = b.cast(v, DType::F32)?;
        let each = self.heads / self.kv_heads;
        let heads = b.ints(&(0..self.heads).map(|h| h / each).collect::<Vec<_>>());
        b.op_with("Gather", &[v, heads], Attrs::default().with("axis", 1i64))
    }

    /// How well each query fits each key, pressed under the cap.
    fn scores(&self, b: &mut Build<'_>, q: Value, k: Value) -> Result<Value> {
        let size = b.length(q, 3, "the size of a head")?;
        let scale = self.scale.map_or(1.0 / (size as f64).sqrt(), f64::from);
        let (q, scale) = (b.cast(q, DType::F32)?, b.float(DType::F32, scale)?);
        let (q, keys) = (b.op("Mul", &[q, scale])?, self.for_queries(b, k)?);
        let keys = b.transpose(keys, &[0, 1, 3, 2])?;
        let scores = b.op("MatMul", &[q, keys])?;
        if self.softcap == 0.0 {
            return Ok(scores);
        }
        let cap = b.float(DType::F32, self.softcap.into())?;
        let scores = b.op("Div", &[scores, cap])?;
        let scores = b.op("Tanh", &[scores])?;
        b.op("Mul", &[scores, cap])
    }

    /// The scores, with a bias, of the keys that each query sees.
    fn masked(
        &self,
        b: &mut Build<'_>,
        mut scores: Value,
        ends: Option<[Value; 2]>,
    ) -> Result<Value> {
        if let Some(bias) = given(b, 10) {
            let bias = b.cast(bias, DType::F32)?;
            scores = b.op("Add", &[scores, bias])?;
        }
        let queries = places(b, scores, 2)?;
        let (mut queries, keys) = (unsqueeze(b, queries, &[1])?, places(b, scores, 3)?);
        if let Some([first, _]) = ends {
            let first = b.reshape(first, &[-1, 1, 1, 1])?;
            queries = b.op("Add", &[queries, first])?;
        }
        let mut hidden = vec![];
        if self.causal {
            hidden.push(b.op("Greater", &[keys, queries])?);
        } else if let Some([_, end]) = ends {
            let end = b.reshape(end, &[-1, 1, 1, 1])?;
            hidden.push(b.op("GreaterOrEqual", &[keys, end])?);
        }
        if self.window > 0 {
            let window = b.ints(&[self.window]);
            let before = b.op("Sub", &[queries, window])?;
            hidden.push(b.op("LessOrEqual", &[keys, before])?);
        }
        let never = b.float(DType::F32, f64::NEG_INFINITY)?;
        for hidden in hidden {
            scores = b.op("Where", &[hidden, never, scores])?;
        }
        Ok(scores)
    }
}

/// The places along an axis.
fn places(b: &mut Build<'_>, v: Value, axis: i64) -> Result<Value> {
    let attrs = Attrs::default().with("start", axis).with("end", axis + 1);
    let n = b.op_with("Shape", &[v], attrs)?;
    let [zero, one] = [0i64, 1].map(|i| b.constant(Tensor::scalar(i)));
    let n = b.reshape(n, &[])?;
    b.op("Range", &[zero, n, one])
}

/// Where the new keys of each element of the batch begin and end among all keys.
fn ends(b: &mut Build<'_>, q: Value) -> Result<[Value; 2]> {
    let last = b.input(5)?;
    let (last, one) = (b.cast(last, DType::I64)?, b.ints(&[1]));
    let (last, end) = (b.reshape(last, &[-1])?, one);
    let end = b.op("Add", &[last, end])?;
    let n = b.op_with("Shape", &[q], Attrs::default().with("start", 2i64).with("end", 3i64))?;
    // A first prompt that ends in padding begins at 0 all the same.
    let end = b.op("Max", &[end, n])?;
    Ok([b.op("Sub", &[end, n])?, end])
}

/// Queries or keys, turned by their places.
fn turned(b: &mut Build<'_>, x: Value, first: Option<Value>, interleaved: bool) -> Result<Value> {
    let (cos, sin) = (b.input(7)?, b.input(8)?);
    let rotary_embedding_dim = b.length(cos, -1, "the number of angles")?.saturating_mul(2);
    let places = match given(b, 9).or(first) {
        Some(p) => p,
        None => b.ints(&[0]),
    };
    let op = RotaryEmbedding { interleaved, num_heads: 0, rotary_embedding_dim };
    b.node(op, &[x, cos, sin, places])
}

/// A cache, long enough for all keys, with the new ones in their places.
fn cached(b: &mut Build<'_>, past: Value, new: Value, first: Value) -> Result<Value> {
    let total = b.input(6)?;
    let (total, zero) = (b.cast(total, DType::I64)?, b.ints(&[0]));
    let total = b.reshape(total, &[1])?;
    let have = Attrs::default().with("start", 2i64).with("end", 3i64);
    let have = b.op_with("Shape", &[past], have)?;
    let more = b.op("Sub", &[total, have])?;
    let more = b.op("Max", &[more, zero])?;
    let before = b.ints(&[0; 6]);
    let pads = b.op_with("Concat", &[before, more, zero], Attrs::default().with("axis", 0i64))?;
    let cache = b.op("Pad", &[past, pads])?;
    b.op("TensorScatter", &[cache, new, first])
}
