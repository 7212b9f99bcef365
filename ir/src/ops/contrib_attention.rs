//! The attentions of `com.microsoft`, written with `Attention`.
//!
//! ```text
//! y, k, v = com.microsoft.MultiHeadAttention(q: f32[B,S,H*D], k: f32[B,T,H*D], v) {num_heads=H}
//!   => y, k, v = Attention(q as [B,H,S,D], k as [B,H,T,D], v as [B,H,T,D])
//! ```

use kiln_tensor::{DType, Tensor};

use super::rotary::RotaryEmbedding;
use crate::{Attrs, Build, Built, Error, Result, Schema, Value, invalid};

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "com.microsoft.Attention", since: 1, build: attention },
    Schema { name: "com.microsoft.MultiHeadAttention", since: 1, build: multi_head },
    Schema { name: "com.microsoft.GroupQueryAttention", since: 1, build: group_query },
];

/// What the calls of `Attention` have in common.
#[derive(Default)]
struct Call {
    mask: Option<Value>,
    past: [Option<Value>; 2],
    lengths: Option<Value>,
    attrs: Attrs,
}

impl Call {
    /// The heads of y side by side in each row, and all keys and values.
    fn add(self, b: &mut Build<'_>, [q, k, v]: [Value; 3]) -> Result<Vec<Value>> {
        let [pk, pv] = self.past;
        let inputs = [Some(q), Some(k), Some(v), self.mask, pk, pv, self.lengths];
        let last = inputs.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
        let mut out = b.call("Attention", &inputs[..last], self.attrs, 3)?;
        let y = b.transpose(out[0], &[0, 2, 1, 3])?;
        out[0] = b.reshape(y, &[0, 0, -1])?;
        Ok(out)
    }
}

fn given(b: &Build<'_>, i: usize) -> Option<Value> {
    b.inputs.get(i).copied().flatten()
}

fn rank(b: &Build<'_>, v: Value) -> Result<usize> {
    let shape = b.ty(v).as_tensor()?.shape.as_ref();
    shape
        .map(Vec::len)
        .ok_or_else(|| Error::unsupported("attention needs inputs of known rank: give them shapes"))
}

fn unsupported<T>(what: &str) -> Result<T> {
    Err(Error::unsupported(format!("{what} of this attention is not supported")))
}

/// `[B,S,n*D]` as `[B,n,S,D]`; what has rank 4 stays.
fn split_heads(b: &mut Build<'_>, v: Value, n: i64) -> Result<Value> {
    match rank(b, v)? {
        4 => Ok(v),
        3 => {
            let v = b.reshape(v, &[0, 0, n, -1])?;
            b.transpose(v, &[0, 2, 1, 3])
        }
        r => invalid!("expected rows of heads, the rank is {r}"),
    }
}

/// Equal parts of the last axis, or parts of these sizes.
fn parts(b: &mut Build<'_>, v: Value, n: usize, sizes: Option<&[i64]>) -> Result<Vec<Value>> {
    let attrs = Attrs::default().with("axis", -1i64);
    match sizes {
        Some(sizes) => {
            let sizes = b.ints(sizes);
            b.call("Split", &[Some(v), Some(sizes)], attrs, n)
        }
        None => b.call("Split", &[Some(v)], attrs.with("num_outputs", n as i64), n),
    }
}

/// Part `i` of axis `axis`, which goes away.
fn part(b: &mut Build<'_>, v: Value, axis: i64, i: i64) -> Result<Value> {
    let i = b.constant(Tensor::scalar(i));
    b.op_with("Gather", &[v, i], Attrs::default().with("axis", axis))
}

fn unsqueeze(b: &mut Build<'_>, v: Value, axes: &[i64]) -> Result<Value> {
    let axes = b.ints(axes);
    b.op("Unsqueeze", &[v, axes])
}

/// Puts a mask of keys into a call: its zeros (or what lies behind a length) are not seen.
fn mask_keys(b: &mut Build<'_>, call: &mut Call, mask: Option<Value>, filter: f32) -> Result<()> {
    let Some(mask) = mask else { return Ok(()) };
    let axes: &[i64] = match rank(b, mask)? {
        1 => {
            if call.past[0].is_some() || call.attrs.has("is_causal") {
                return unsupported("a mask of lengths with a past or a direction");
            }
            call.lengths = Some(b.cast(mask, DType::I64)?);
            return Ok(());
        }
        2 => &[1, 2],
        3 => &[1],
        _ => return unsupported("a mask of rank 4"),
    };
    let dtype = b.dtype(0)?;
    let mask = b.cast(mask, dtype)?;
    let (one, filter) = (b.float(dtype, 1.0)?, b.float(dtype, filter.into())?);
    let hidden = b.op("Sub", &[one, mask])?;
    let bias = b.op("Mul", &[hidden, filter])?;
    call.mask = Some(unsqueeze(b, bias, axes)?);
    Ok(())
}

/// Adds a bias to the mask of a call.
fn add_bias(b: &mut Build<'_>, call: &mut Call, bias: Option<Value>) -> Result<()> {
    call.mask = match (call.mask, bias) {
        (Some(m), Some(bias)) => Some(b.op("Add", &[m, bias])?),
        (m, bias) => m.or(bias),
    };
    Ok(())
}

/// The factor and the direction, as `Attention` spells them.
fn common(b: &mut Build<'_>) -> Result<Attrs> {
    let scale = b.take::<f32>("scale")?.filter(|&s| s != 0.0);
    let causal = b.take("unidirectional")?.unwrap_or(false);
    Ok(Attrs::default().with("scale", scale).with("is_causal", causal.then_some(true)))
}

fn attention(b: &mut Build<'_>) -> Result<Built> {
    let heads = b.require::<i64>("num_heads")?;
    let sizes = b.take::<Vec<i64>>("qkv_hidden_sizes")?.filter(|s| !s.is_empty());
    let filter = b.take("mask_filter_value")?.unwrap_or(-10000.0);
    for flag in ["do_rotary", "past_present_share_buffer"] {
        if b.take(flag)?.unwrap_or(false) {
            return unsupported(flag);
        }
    }
    b.take::<i64>("rotary_embedding_dim")?;
    let mut call = Call { attrs: common(b)?, ..Call::default() };
    let (x, weights) = (b.input(0)?, b.input(1)?);
    let mut x = b.op("MatMul", &[x, weights])?;
    if let Some(bias) = given(b, 2) {
        x = b.op("Add", &[x, bias])?;
    }
    let qkv = parts(b, x, 3, sizes.as_deref())?;
    let mut of = [qkv[0]; 3];
    for (to, from) in of.iter_mut().zip(qkv) {
        *to = split_heads(b, from, heads)?;
    }
    if let Some(past) = given(b, 4) {
        call.past = [Some(part(b, past, 0, 0)?), Some(part(b, past, 0, 1)?)];
    }
    mask_keys(b, &mut call, given(b, 3), filter)?;
    add_bias(b, &mut call, given(b, 5))?;
    let out = call.add(b, of)?;
    if b.outputs < 2 {
        return Ok(out[0].into());
    }
    let (k, v) = (unsqueeze(b, out[1], &[0])?, unsqueeze(b, out[2], &[0])?);
    let present = b.op_with("Concat", &[k, v], Attrs::default().with("axis", 0i64))?;
    Ok(Built::Values(vec![out[0], present]))
}

/// Queries, keys and values of `MultiHeadAttention`, unpacked where they are packed.
fn unpacked(b: &mut Build<'_>) -> Result<[Value; 3]> {
    let q = b.input(0)?;
    let packed = |b: &mut Build<'_>, v: Value, i: i64| -> Result<Value> {
        let v = part(b, v, 3, i)?;
        b.transpose(v, &[0, 2, 1, 3])
    };
    Ok(match (given(b, 1), given(b, 2)) {
        (Some(k), Some(v)) => [q, k, v],
        (Some(kv), None) if rank(b, kv)? == 5 => [q, packed(b, kv, 0)?, packed(b, kv, 1)?],
        (None, None) if rank(b, q)? == 5 => [packed(b, q, 0)?, packed(b, q, 1)?, packed(b, q, 2)?],
        _ => invalid!("keys and values are missing, and nothing is packed"),
    })
}

fn multi_head(b: &mut Build<'_>) -> Result<Built> {
    let heads = b.require::<i64>("num_heads")?;
    let filter = b.take("mask_filter_value")?.unwrap_or(-10000.0);
    let mut call = Call { attrs: common(b)?, ..Call::default() };
    if given(b, 8).is_some() || given(b, 9).is_some() {
        return unsupported("a shared cache");
    }
    let mut of = unpacked(b)?;
    if let Some(bias) = given(b, 3) {
        let widths = |b: &Build<'_>, v| b.length(v, -1, "the length of a row");
        if rank(b, of[0])? != 3 {
            return unsupported("a bias of packed inputs");
        }
        let (q, total) = (widths(b, of[0])?, widths(b, bias)?);
        let biases = parts(b, bias, 3, Some(&[q, q, total.saturating_sub(q).saturating_sub(q)]))?;
        for (v, bias) in of.iter_mut().zip(biases) {
            // Keys and values that are split into heads have their bias already.
            if rank(b, *v)? == 3 {
                *v = b.op("Add", &[*v, bias])?;
            }
        }
    }
    for v in &mut of {
        *v = split_heads(b, *v, heads)?;
    }
    call.past = [given(b, 6), given(b, 7)];
    mask_keys(b, &mut call, given(b, 4), filter)?;
    add_bias(b, &mut call, given(b, 5))?;
    Ok(Built::Values(call.add(b, of)?))
}

/// Refuses what `GroupQueryAttention` has beside the usual.
fn plain_group_query(b: &mut Build<'_>) -> Result<()> {
    for flag in ["smooth_softmax", "qk_output"] {
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
    if b.inputs.iter().skip(11).any(Option::is_some) {
        return unsupported("a head sink");
    }
    Ok(())
}

fn group_query(b: &mut Build<'_>) -> Result<Built> {
    let (heads, kv_heads) = (b.require::<i64>("num_heads")?, b.require::<i64>("kv_num_heads")?);
    plain_group_query(b)?;
    let window = b.take::<i64>("local_window_size")?.unwrap_or(-1);
    if window == 0 || window < -1 {
        invalid!("local_window_size is {window}, expected -1 or a number of keys");
    }
    let (rotary, interleaved) = (b.take("do_rotary")?, b.take("rotary_interleaved")?);
    let attrs = common(b)?
        .with("softcap", b.take::<f32>("softcap")?)
        .with("left_window_size", (window > 0).then_some(window - 1))
        .with("is_causal", true);
    let mut call = Call { attrs, mask: given(b, 10), ..Call::default() };
    let mut of = match (given(b, 1), given(b, 2)) {
        (Some(k), Some(v)) => [b.input(0)?, k, v],
        _ => {
            let qkv = b.input(0)?;
            let all = heads.saturating_add(kv_heads.saturating_mul(2));
            let size = b.length(qkv, -1, "the length of a row")?.checked_div(all).unwrap_or(0);
            let sizes = [heads, kv_heads, kv_heads].map(|n| size.saturating_mul(n));
            let p = parts(b, qkv, 3, Some(&sizes))?;
            [p[0], p[1], p[2]]
        }
    };
    for (v, n) in of.iter_mut().zip([heads, kv_heads, kv_heads]) {
        *v = split_heads(b, *v, n)?;
    }
    let past = given(b, 3).zip(given(b, 4));
    let ends = if past.is_some() { Some(ends(b, of[0])?) } else { None };
    if rotary.unwrap_or(false) {
        let first = ends.map(|[first, _]| first);
        for v in &mut of[..2] {
            *v = turned(b, *v, first, interleaved.unwrap_or(false))?;
        }
    }
    if let (Some((pk, pv)), Some([first, end])) = (past, ends) {
        of[1] = cached(b, pk, of[1], first)?;
        of[2] = cached(b, pv, of[2], first)?;
        call.lengths = Some(end);
    }
    Ok(Built::Values(call.add(b, of)?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, t, types};
    use kiln_tensor::Datum;

    fn f(d: &Datum) -> Vec<f32> {
        d.as_tensor().expect("tensor").to_vec::<f32>().expect("f32")
    }

    #[test]
    fn many_heads() {
        let text = "y, k2, v2 = com.microsoft.MultiHeadAttention(q: f32[1,1,2], k: f32[1,3,2], \
                    v: f32[1,3,2], b: f32[6], m: i32[1,3]) {num_heads=2, scale=1.0}\n\
                    return y, k2, v2";
        let l = [1f32, 2., 3.].map(f32::ln);
        let inputs = [
            t(&[1, 1, 2], &[0.5, 0.]),
            t(&[1, 3, 2], &[l[0], 5., l[1], 5., l[2], 5.]),
            t(&[1, 3, 2], &[6., 1., 12., 3., 99., 99.]),
            t(&[6], &[0.5, 0., 0., 0., 0., 1.]),
            Tensor::from_vec(&[1, 3], vec![1i32, 1, 0]).expect("1x3"),
        ];
        let out = run(text, &inputs).expect("runs");
        assert_close(&f(&out[0]), &[10., 3.], 1e-5);
        assert_eq!(f(&out[2]), [6., 12., 99., 2., 4., 100.]);
        assert_eq!(types(text).expect("types"), ["f32[1,1,2]", "f32[1,2,3,1]", "f32[1,2,3,1]"]);
    }

    #[test]
    fn projections_and_a_past() {
        let text = "y, p2 = com.microsoft.Attention(x: f32[1,2,1], w: f32[1,3], b: f32[3], _, \
                    p: f32[2,1,1,1,1]) {num_heads=1, unidirectional=1, scale=1.0}\n\
                    return y, p2";
        let inputs = [
            t(&[1, 2, 1], &[1., 2.]),
            t(&[1, 3], &[0., 0., 1.]),
            t(&[3], &[1., 0., 3.]),
            t(&[2, 1, 1, 1, 1], &[2f32.ln(), 10.]),
        ];
        let out = run(text, &inputs).expect("runs");
        // Weights 2/3, 1/3; then 2/4, 1/4, 1/4.
        assert_close(&f(&out[0]), &[8., 7.25], 1e-5);
        assert_close(&f(&out[1]), &[2f32.ln(), 0., 0., 10., 4., 5.], 1e-6);
    }

    #[test]
    fn groups_with_a_cache_of_different_lengths() {
        let text = "y, k2, v2 = com.microsoft.GroupQueryAttention(q: f32[2,1,2], k: f32[2,1,1], \
                    v: f32[2,1,1], pk: f32[2,1,2,1], pv: f32[2,1,2,1], n: i32[2], t: i32[]) \
                    {num_heads=2, kv_num_heads=1, scale=1.0}\nreturn y, k2, v2";
        let inputs = |total: i32| {
            [
                t(&[2, 1, 2], &[0., 1., 0., 0.]),
                t(&[2, 1, 1], &[2f32.ln(), 0.]),
                t(&[2, 1, 1], &[9., 8.]),
                t(&[2, 1, 2, 1], &[0., 7., 0., 0.]),
                t(&[2, 1, 2, 1], &[3., 77., 4., 6.]),
                Tensor::vector(vec![1i32, 2]),
                Tensor::scalar(total),
            ]
        };
        let out = run(text, &inputs(3)).expect("runs");
        // The second place of the first cache is free: the new value goes there.
        assert_close(&f(&out[0]), &[6., 7., 6., 6.], 1e-5);
        assert_eq!(f(&out[2]), [3., 9., 0., 4., 6., 8.]);
    }

    #[test]
    fn groups_without_a_cache() {
        let text = "y = com.microsoft.GroupQueryAttention(x: f32[1,2,6], _, _, _, _, n: i32[1], \
                    t: i32[], c: f32[2,1], s: f32[2,1]) \
                    {num_heads=1, kv_num_heads=1, scale=1.0, do_rotary=1}\nreturn y";
        let inputs = [
            // Rows of q, k, v, of two elements each; the second row turns by a quarter.
            t(&[1, 2, 6], &[0., 0., 1., 0., 1., 2., 0., -1., 0., -1., 3., 4.]),
            Tensor::vector(vec![1i32]),
            Tensor::scalar(2i32),
            t(&[2, 1], &[1., 0.]),
            t(&[2, 1], &[0., 1.]),
        ];
        let out = run(text, &inputs).expect("runs");
        // Both keys and the second query become (1, 0): equal weights.
        assert_close(&f(&out[0]), &[1., 2., 2., 3.], 1e-5);
        assert!(types(&text.replace("do_rotary=1", "smooth_softmax=1")).is_err());
    }
}
