//! The attentions of `com.microsoft`, written with `Attention`.
//!
//! ```text
//! y, k, v = com.microsoft.MultiHeadAttention(q: f32[B,S,H*D], k: f32[B,T,H*D], v) {num_heads=H}
//!   => y, k, v = Attention(q as [B,H,S,D], k as [B,H,T,D], v as [B,H,T,D])
//! ```

mod group;
mod mask;

use kiln_tensor::{DType, Tensor};

use crate::{Attrs, Build, Built, Error, Result, Schema, Value, invalid};

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "com.microsoft.Attention", since: 1, build: attention },
    Schema { name: "com.microsoft.QAttention", since: 1, build: quantized },
    Schema { name: "com.microsoft.MultiHeadAttention", since: 1, build: multi_head },
    Schema {
        name: "com.microsoft.DecoderMaskedMultiHeadAttention",
        since: 1,
        build: decoder_masked,
    },
    Schema { name: "com.microsoft.GroupQueryAttention", since: 1, build: group::build },
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

/// The length of an axis, where it is a number.
fn given_dim(b: &Build<'_>, v: Value, axis: i64) -> Result<Option<i64>> {
    Ok(b.dim(v, axis)?.and_then(|d| d.as_const()))
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

/// What `Attention` reads beside its projections.
struct Projected {
    heads: i64,
    sizes: Option<Vec<i64>>,
    filter: f32,
    call: Call,
}

impl Projected {
    fn take(b: &mut Build<'_>) -> Result<Self> {
        let heads = b.require::<i64>("num_heads")?;
        let sizes = b.take::<Vec<i64>>("qkv_hidden_sizes")?.filter(|s| !s.is_empty());
        let filter = b.take("mask_filter_value")?.unwrap_or(-10000.0);
        for flag in ["do_rotary", "past_present_share_buffer"] {
            if b.take(flag)?.unwrap_or(false) {
                return unsupported(flag);
            }
        }
        b.take::<i64>("rotary_embedding_dim")?;
        Ok(Self { heads, sizes, filter, call: Call { attrs: common(b)?, ..Call::default() } })
    }

    /// Attention of queries, keys and values side by side in `x`; the inputs from `mask` on are
    /// at these places.
    fn add(mut self, b: &mut Build<'_>, x: Value, [mask, past, bias]: [usize; 3]) -> Result<Built> {
        let qkv = parts(b, x, 3, self.sizes.as_deref())?;
        let mut of = [qkv[0]; 3];
        for (to, from) in of.iter_mut().zip(qkv) {
            *to = split_heads(b, from, self.heads)?;
        }
        if let Some(past) = given(b, past) {
            self.call.past = [Some(part(b, past, 0, 0)?), Some(part(b, past, 0, 1)?)];
        }
        let keys = mask::Keys { q: of[0], k: of[1], filter: self.filter };
        keys.mask(b, &mut self.call, given(b, mask))?;
        add_bias(b, &mut self.call, given(b, bias))?;
        let out = self.call.add(b, of)?;
        if b.outputs < 2 {
            return Ok(out[0].into());
        }
        let (k, v) = (unsqueeze(b, out[1], &[0])?, unsqueeze(b, out[2], &[0])?);
        let present = b.op_with("Concat", &[k, v], Attrs::default().with("axis", 0i64))?;
        Ok(Built::Values(vec![out[0], present]))
    }
}

fn attention(b: &mut Build<'_>) -> Result<Built> {
    let projected = Projected::take(b)?;
    let (x, weights) = (b.input(0)?, b.input(1)?);
    let mut x = b.op("MatMul", &[x, weights])?;
    if let Some(bias) = given(b, 2) {
        x = b.op("Add", &[x, bias])?;
    }
    projected.add(b, x, [3, 4, 5])
}

/// `Attention` whose input and weights are integers.
fn quantized(b: &mut Build<'_>) -> Result<Built> {
    let projected = Projected::take(b)?;
    let inputs = [0, 1, 3, 4, 6, 7, 2].map(|i| given(b, i));
    let x = b.call("com.microsoft.MatMulIntegerToFloat", &inputs, Attrs::default(), 1)?[0];
    projected.add(b, x, [5, 8, usize::MAX])
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
    let of = unpacked(b)?;
    Heads::take(b)?.add(b, of, Places { bias: 3, mask: 4, scores: 5, past: 6, length: 8 })
}

/// `MultiHeadAttention` of one token, with its inputs in another order.
fn decoder_masked(b: &mut Build<'_>) -> Result<Built> {
    if b.take("output_qk")?.unwrap_or(false) {
        return unsupported("output_qk");
    }
    b.take::<bool>("past_present_share_buffer")?;
    if given(b, 9).is_some() {
        return unsupported("cache_indirection");
    }
    let q = b.input(0)?;
    let of = match (given(b, 1), given(b, 2)) {
        (Some(k), Some(v)) => [q, k, v],
        _ => {
            let all = parts(b, q, 3, None)?;
            [all[0], all[1], all[2]]
        }
    };
    Heads::take(b)?.add(b, of, Places { bias: 10, mask: 3, scores: 4, past: 5, length: 7 })
}

/// Which inputs are what; those of the past of keys and values are neighbours.
struct Places {
    bias: usize,
    mask: usize,
    scores: usize,
    past: usize,
    length: usize,
}

/// The attributes of attention without projections.
struct Heads {
    heads: i64,
    filter: f32,
    call: Call,
}

impl Heads {
    fn take(b: &mut Build<'_>) -> Result<Self> {
        let heads = b.require::<i64>("num_heads")?;
        let filter = b.take("mask_filter_value")?.unwrap_or(-10000.0);
        Ok(Self { heads, filter, call: Call { attrs: common(b)?, ..Call::default() } })
    }

    fn add(mut self, b: &mut Build<'_>, mut of: [Value; 3], at: Places) -> Result<Built> {
        if let Some(bias) = given(b, at.bias) {
            biased(b, &mut of, bias)?;
        }
        for v in &mut of {
            *v = split_heads(b, *v, self.heads)?;
        }
        let mut present = None;
        match ([given(b, at.past), given(b, at.past + 1)], given(b, at.length)) {
            ([Some(k), Some(v)], Some(length)) => {
                let all = [shared(b, k, of[1], length)?, shared(b, v, of[2], length)?];
                (of[1], of[2]) = (all[0][1], all[1][1]);
                present = Some([all[0][0], all[1][0]]);
            }
            (past, _) => self.call.past = past,
        }
        let keys = mask::Keys { q: of[0], k: of[1], filter: self.filter };
        keys.mask(b, &mut self.call, given(b, at.mask))?;
        add_bias(b, &mut self.call, given(b, at.scores))?;
        let mut out = self.call.add(b, of)?;
        if let Some(present) = present {
            out.truncate(1);
            out.extend(present);
        }
        Ok(Built::Values(out))
    }
}

/// Adds the parts of a bias to queries, keys and values.
fn biased(b: &mut Build<'_>, of: &mut [Value; 3], bias: Value) -> Result<()> {
    if rank(b, of[0])? != 3 {
        return unsupported("a bias of packed inputs");
    }
    let widths = |b: &Build<'_>, v| b.length(v, -1, "the length of a row");
    let (q, total) = (widths(b, of[0])?, widths(b, bias)?);
    let biases = parts(b, bias, 3, Some(&[q, q, total.saturating_sub(q).saturating_sub(q)]))?;
    for (v, bias) in of.iter_mut().zip(biases) {
        // Keys and values that are split into heads have their bias already.
        if rank(b, *v)? == 3 {
            *v = b.op("Add", &[*v, bias])?;
        }
    }
    Ok(())
}

/// A cache with the new rows behind the first `length`, and the part of it that is filled.
fn shared(b: &mut Build<'_>, cache: Value, new: Value, length: Value) -> Result<[Value; 2]> {
    let first = b.cast(length, DType::I64)?;
    let first = b.reshape(first, &[1])?;
    let batch = b.op_with("Shape", &[new], Attrs::default().with("end", 1i64))?;
    let places = b.op("Expand", &[first, batch])?;
    let all = b.op("TensorScatter", &[cache, new, places])?;
    let n = b.op_with("Shape", &[new], Attrs::default().with("start", 2i64).with("end", 3i64))?;
    let (end, zero, axis) = (b.op("Add", &[first, n])?, b.ints(&[0]), b.ints(&[2]));
    Ok([all, b.op("Slice", &[all, zero, end, axis])?])
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
        assert!(types(&text.replace("do_rotary=1", "sliding_window_cache=1")).is_err());
    }

    #[test]
    fn a_sink_takes_its_part() {
        let head = "y, k2, v2 = com.microsoft.GroupQueryAttention(q: f32[1,2,2], k: f32[1,2,1], \
                    v: f32[1,2,1], _, _, n: i32[1], t: i32[]";
        let tail = "num_heads=2, kv_num_heads=1, scale=1.0}\nreturn y";
        let mut inputs = vec![
            t(&[1, 2, 2], &[0.; 4]),
            t(&[1, 2, 1], &[5., 7.]),
            t(&[1, 2, 1], &[12., 60.]),
            Tensor::vector(vec![1i32]),
            Tensor::scalar(2i32),
        ];
        let smooth = format!("{head}) {{smooth_softmax=1, {tail}");
        let out = run(&smooth, &inputs).expect("runs");
        assert_close(&f(&out[0]), &[6., 6., 24., 24.], 1e-5);
        let window = format!("{head}) {{smooth_softmax=1, local_window_size=1, {tail}");
        let out = run(&window, &inputs).expect("runs");
        assert_close(&f(&out[0]), &[6., 6., 30., 30.], 1e-5);
        inputs.push(t(&[2], &[0., 2f32.ln()]));
        let sinks = format!("{head}, _, _, _, _, h: f32[2]) {{{tail}");
        let out = run(&sinks, &inputs).expect("runs");
        assert_close(&f(&out[0]), &[6., 4., 24., 18.], 1e-5);
    }

    #[test]
    fn masks_of_every_form() {
        let past = t(&[2, 1, 1, 1, 1], &[0., 3.]);
        // The keys are all alike: what is seen of the values 3, 6, 90 is averaged.
        for (mask, shape, extra, want) in [
            (vec![2i32], "1", "", [4.5, 4.5]),
            (vec![3, 1], "2", "", [48., 48.]),
            (vec![3], "1", "unidirectional=1, ", [4.5, 33.]),
            (vec![1, 0, 1], "1,3", "", [46.5, 46.5]),
            (vec![1, 0, 0, 1, 1, 0], "1,2,3", "", [3., 4.5]),
            (vec![0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 1, 0, 9, 9, 9, 9], "1,1,4,4", "", [48., 46.5]),
        ] {
            let text = format!(
                "y, p2 = com.microsoft.Attention(x: f32[1,2,1], w: f32[1,3], b: f32[3], \
                 m: i32[{shape}], p: f32[2,1,1,1,1]) {{{extra}num_heads=1}}\nreturn y"
            );
            let dims: Vec<usize> = shape.split(',').map(|d| d.parse().expect("a length")).collect();
            let inputs = [
                t(&[1, 2, 1], &[6., 90.]),
                t(&[1, 3], &[0., 0., 1.]),
                t(&[3], &[0.; 3]),
                Tensor::from_vec(&dims, mask).expect("lengths agree"),
                past.clone(),
            ];
            let out = run(&text, &inputs).expect(shape);
            assert_close(&f(&out[0]), &want, 1e-4);
        }
    }

    #[test]
    fn a_token_behind_a_shared_cache() {
        let text = "y, k2, v2 = com.microsoft.DecoderMaskedMultiHeadAttention(q: f32[1,1,1], \
                    k: f32[1,1,1], v: f32[1,1,1], _, _, pk: f32[1,1,3,1], pv: f32[1,1,3,1], \
                    n: i32[1]) {num_heads=1, past_present_share_buffer=1}\nreturn y, k2, v2";
        let inputs = [
            t(&[1, 1, 1], &[0.]),
            t(&[1, 1, 1], &[8.]),
            t(&[1, 1, 1], &[9.]),
            t(&[1, 1, 3, 1], &[1., 2., 3.]),
            t(&[1, 1, 3, 1], &[5., 99., 99.]),
            Tensor::vector(vec![1i32]),
        ];
        let out = run(text, &inputs).expect("runs");
        assert_close(&f(&out[0]), &[7.], 1e-5);
        assert_eq!((f(&out[1]), f(&out[2])), (vec![1., 8., 3.], vec![5., 9., 99.]));
    }

    #[test]
    fn integer_projections() {
        let text = "y = com.microsoft.QAttention(x: u8[1,2,1], w: i8[1,3], b: f32[3], s: f32[], \
                    r: f32[3], m: i32[1], z: u8[], k: i8[]) {num_heads=1}\nreturn y";
        let inputs = [
            Tensor::from_vec(&[1, 2, 1], vec![12u8, 14]).expect("1x2x1"),
            Tensor::from_vec(&[1, 3], vec![1i8, 1, 5]).expect("1x3"),
            t(&[3], &[0., 0., 1.]),
            Tensor::scalar(0.5f32),
            t(&[3], &[1., 1., 2.]),
            Tensor::vector(vec![2i32]),
            Tensor::scalar(10u8),
            Tensor::scalar(1i8),
        ];
        // Values are 2 and 4, times 4, times 0.5 * 2, and 1.
        let out = run(text, &inputs).expect("runs");
        assert_close(&f(&out[0]), &[13., 13.], 1e-5);
    }
}
