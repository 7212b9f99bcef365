//! Operators of `com.microsoft` that are a few standard ones in a row.
//!
//! ```text
//! y = com.microsoft.BiasGelu(x: f32[N,D], b: f32[D])
//!   => s = Add(x, b); y = Gelu(s)
//! y, mean, inv, s = com.microsoft.SkipLayerNormalization(x, skip, gamma, beta, bias)
//!   => t = Add(x, skip); s = Add(t, bias); y, mean, inv = LayerNormalization(s, gamma, beta)
//! ```

use kiln_tensor::DType;

use super::activation::Activation;
use super::layer_norm::{LayerNorm, Trailing};
use super::matmul::Gemm;
use crate::{Attrs, Build, Built, Result, Schema, Value, invalid};

macro_rules! rows {
    ($($name:literal => $build:expr;)*) => {
        /// The schema rows of this family.
        pub const SCHEMAS: &[Schema] = &[$(Schema {
            name: concat!("com.microsoft.", $name),
            since: 1,
            build: $build,
        },)*];
    };
}

rows! {
    "FusedGemm" => fused_gemm;
    "FastGelu" => |b| gelu(b, "tanh");
    "BiasGelu" => |b| gelu(b, "none");
    "QuickGelu" => |b| {
        let (x, alpha) = (b.input(0)?, b.take::<f32>("alpha")?.unwrap_or(1.702));
        Ok(b.op_with("Swish", &[x], Attrs::default().with("alpha", alpha))?.into())
    };
    "SkipLayerNormalization" => |b| skip(b, true);
    "SkipSimplifiedLayerNormalization" => |b| skip(b, false);
    "EmbedLayerNormalization" => embed;
    "NhwcMaxPool" => nhwc_max_pool;
}

fn fused_gemm(b: &mut Build<'_>) -> Result<Built> {
    let name = b.take::<String>("activation")?.unwrap_or_default();
    let params = ["activation_alpha", "activation_beta", "activation_gamma"];
    let params = params.map(|p| b.take::<f32>(p)).into_iter().collect::<Result<Vec<_>>>()?;
    let params: Vec<f32> = params.into_iter().map_while(|p| p).collect();
    let gemm = Gemm::read(&mut b.attrs)?;
    if name.is_empty() {
        return Ok(gemm.into());
    }
    let (dtype, node) = (b.dtype(0)?, b.name.clone());
    let inputs = std::mem::take(&mut b.inputs);
    let y = b.graph.add(&node, gemm, &inputs)?.first();
    Ok(Activation::new(&name, &params)?.add(b.graph, &node, dtype, y)?.into())
}

fn gelu(b: &mut Build<'_>, form: &str) -> Result<Built> {
    let mut x = b.input(0)?;
    if let Some(bias) = b.inputs.get(1).copied().flatten() {
        x = b.op("Add", &[x, bias])?;
    }
    let attrs = Attrs::default().with("approximate", form.to_owned());
    Ok(b.op_with("Gelu", &[x], attrs)?.into())
}

/// How other runtimes normalize the last axis.
fn trailing(b: &mut Build<'_>) -> Result<Trailing> {
    let mut t = Trailing::read(&mut Attrs::default())?;
    t.epsilon = b.take("epsilon")?.unwrap_or(1e-12);
    Ok(t)
}

fn normalized(
    b: &mut Build<'_>,
    norm: LayerNorm,
    x: Value,
    scale: Value,
    bias: Option<Value>,
) -> Result<Vec<Value>> {
    let name = b.name.clone();
    let mut inputs = vec![Some(x), Some(scale)];
    inputs.extend(bias.map(Some));
    let node = b.graph.add(&name, norm, &inputs)?;
    Ok(b.graph.outputs_of(node).collect())
}

/// A sum of two or three, normalized; the sum is the fourth output.
fn skip(b: &mut Build<'_>, centered: bool) -> Result<Built> {
    let t = trailing(b)?;
    let (x, skip, gamma) = (b.input(0)?, b.input(1)?, b.input(2)?);
    let given = |b: &Build<'_>, i: usize| b.inputs.get(i).copied().flatten();
    let (beta, bias) = match centered {
        true => (given(b, 3), given(b, 4)),
        false => (None, given(b, 3)),
    };
    let mut sum = b.op("Add", &[x, skip])?;
    if let Some(bias) = bias {
        sum = b.op("Add", &[sum, bias])?;
    }
    let mut outputs = if centered {
        normalized(b, LayerNorm::Layer(t), sum, gamma, beta)?
    } else {
        let y = normalized(b, LayerNorm::Simplified(t), sum, gamma, None)?;
        let last = b.ints(&[-1]);
        vec![y[0], b.op("ReduceMean", &[sum, last])?, y[1]]
    };
    outputs.push(sum);
    Ok(Built::Values(outputs))
}

/// The sum of embeddings of words, places and segments, normalized.
fn embed(b: &mut Build<'_>) -> Result<Built> {
    let t = trailing(b)?;
    b.take::<i64>("mask_index_type")?;
    let given = |b: &Build<'_>, i: usize| b.inputs.get(i).copied().flatten();
    let (ids, words, places) = (b.input(0)?, b.input(2)?, b.input(3)?);
    let word = b.op("Gather", &[words, ids])?;
    let place = match given(b, 8) {
        Some(at) => b.op("Gather", &[places, at])?,
        None => {
            let attrs = Attrs::default().with("start", 1i64).with("end", 2i64);
            let (zero, n) = (b.ints(&[0]), b.op_with("Shape", &[ids], attrs)?);
            b.op("Slice", &[places, zero, n, zero])?
        }
    };
    let mut sum = b.op("Add", &[word, place])?;
    if let (Some(segments), Some(table)) = (given(b, 1), given(b, 4)) {
        let segment = b.op("Gather", &[table, segments])?;
        sum = b.op("Add", &[sum, segment])?;
    }
    let (gamma, beta) = (b.input(5)?, given(b, 6));
    let y = normalized(b, LayerNorm::Layer(t), sum, gamma, beta)?[0];
    // How many tokens of each row are not masked; without a mask nothing is counted.
    let mask = match given(b, 7) {
        Some(mask) => mask,
        None => b.op("Sub", &[ids, ids])?,
    };
    let (mask, one) = (b.cast(mask, DType::I32)?, b.ints(&[1]));
    let count = b.op_with("ReduceSum", &[mask, one], Attrs::default().with("keepdims", false))?;
    Ok(Built::Values(vec![y, count, sum]))
}

fn nhwc_max_pool(b: &mut Build<'_>) -> Result<Built> {
    let x = b.input(0)?;
    let Some(rank @ 3..=8) = b.rank(0)?.map(|r| r as i64) else {
        invalid!("NhwcMaxPool needs an input of known rank, 3 or more");
    };
    let mut inward = vec![0, rank - 1];
    inward.extend(1..rank - 1);
    let mut outward = vec![0];
    outward.extend(2..rank);
    outward.push(1);
    let x = b.transpose(x, &inward)?;
    let attrs = std::mem::take(&mut b.attrs);
    let y = b.call("MaxPool", &[Some(x)], attrs, 1)?[0];
    Ok(b.transpose(y, &outward)?.into())
}

#[cfg(test)]
mod tests {
    use kiln_tensor::Tensor;

    use crate::ops::testing::{assert_close, run, run1, t, types};

    #[test]
    fn activations() {
        let y = |op: &str, inputs: &[Tensor]| {
            let y = run1(&format!("y = com.microsoft.{op}\nreturn y"), inputs).expect(op);
            y.to_vec::<f32>().expect("f32")
        };
        let two = [t(&[1], &[0.5]), t(&[1], &[0.5])];
        assert_close(&y("BiasGelu(x: f32[1], b: f32[1])", &two), &[0.841_344_7], 1e-6);
        assert_close(&y("FastGelu(x: f32[1], b: f32[1])", &two), &[0.841_192], 1e-5);
        assert_close(&y("FastGelu(x: f32[1])", &[t(&[1], &[1.0])]), &[0.841_192], 1e-5);
        assert_close(&y("QuickGelu(x: f32[1])", &[t(&[1], &[1.0])]), &[0.845_795], 1e-5);
        let gemm = "FusedGemm(a: f32[1,1], b: f32[1,2]) {alpha=2.0, activation=\"LeakyRelu\", \
                    activation_alpha=0.5}";
        assert_close(&y(gemm, &[t(&[1, 1], &[1.]), t(&[1, 2], &[3., -3.])]), &[6., -3.], 1e-6);
    }

    #[test]
    fn sums_are_normalized() {
        let text = "y, m, i, s = com.microsoft.SkipLayerNormalization(x: f32[1,2], k: f32[1,2], \
                    g: f32[2], b: f32[2], c: f32[2]) {epsilon=0.0}\nreturn y, m, i, s";
        let inputs = [
            t(&[1, 2], &[0., 1.]),
            t(&[1, 2], &[0., 1.]),
            t(&[2], &[1., 2.]),
            t(&[2], &[0., 0.5]),
            t(&[2], &[1., 1.]),
        ];
        let f = |d: &kiln_tensor::Datum| d.as_tensor().expect("t").to_vec::<f32>().expect("f32");
        let out: Vec<_> = run(text, &inputs).expect("runs").iter().map(f).collect();
        assert_eq!(out, [vec![-1., 2.5], vec![2.], vec![1.], vec![1., 3.]]);
        let text = "y, m, i, s = com.microsoft.SkipSimplifiedLayerNormalization(x: f32[1,2], \
                    k: f32[1,2], g: f32[2]) {epsilon=0.0}\nreturn y, s";
        let inputs = [t(&[1, 2], &[0., 3.]), t(&[1, 2], &[1., 4.]), t(&[2], &[1., 10.])];
        let out: Vec<_> = run(text, &inputs).expect("runs").iter().map(f).collect();
        assert_close(&out[0], &[0.2, 14.0], 1e-6);
        assert_eq!(out[1], [1., 7.]);
    }

    #[test]
    fn embeddings() {
        let text = "y, n, s = com.microsoft.EmbedLayerNormalization(i: i32[1,2], g: i32[1,2], \
                    w: f32[3,2], p: f32[4,2], t: f32[2,2], a: f32[2], b: f32[2], m: i32[1,2]) \
                    {epsilon=0.0}\nreturn y, n, s";
        let i = |v: &[i32]| Tensor::from_vec(&[1, 2], v.to_vec()).expect("1x2");
        let inputs = [
            i(&[2, 0]),
            i(&[0, 1]),
            t(&[3, 2], &[0., 1., 9., 9., 2., 6.]),
            t(&[4, 2], &[10., 10., 20., 22., 9., 9., 9., 9.]),
            t(&[2, 2], &[100., 100., 200., 200.]),
            t(&[2], &[1., 1.]),
            t(&[2], &[0., 0.]),
            i(&[1, 0]),
        ];
        let out = run(text, &inputs).expect("runs");
        let at = |i: usize| out[i].as_tensor().expect("tensor").clone();
        assert_eq!(at(0), t(&[1, 2, 2], &[-1., 1., -1., 1.]));
        assert_eq!(at(1), Tensor::vector(vec![1i32]));
        assert_eq!(at(2), t(&[1, 2, 2], &[112., 116., 220., 223.]));
    }

    #[test]
    fn channels_last() {
        let text = "y = com.microsoft.NhwcMaxPool(x: u8[1,4,C,2]) {kernel_shape=[2,1], \
                    strides=[2,1]}\nreturn y";
        assert_eq!(types(text).expect("types"), ["u8[1,2,C,2]"]);
        let x = Tensor::from_vec(&[1, 4, 1, 2], vec![1u8, 2, 3, 0, 5, 6, 4, 7]).expect("1x4x1x2");
        let y = run1(text, &[x]).expect("runs");
        assert_eq!(y.as_slice::<u8>().expect("u8"), [3, 2, 5, 7]);
    }
}
