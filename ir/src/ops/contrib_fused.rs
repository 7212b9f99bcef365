//! Operators of `com.microsoft` that optimizers fuse, as the nodes that they stand for.
//!
//! ```text
//! y = com.microsoft.BiasSplitGelu(x: f32[N,S,2*D], b: f32[2*D])
//!   => s = Add(x, b); l, r = Split(s) {axis=-1}; g = Gelu(r); y = Mul(l, g)
//! y, s = com.microsoft.SkipGroupNorm(x: f32[N,H,W,C], gamma: f32[C], beta, skip, bias)
//!   => the sum s, its channels moved to axis 1; y = GroupNormalization(..), moved back
//! ```

use kiln_tensor::DType;

use super::activation::Activation;
use crate::schema::{NodeSpec, add};
use crate::{Attrs, Build, Built, Error, Result, Schema, Value, invalid};

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
    "BiasAdd" => bias_add;
    "BiasSoftmax" => bias_softmax;
    "BiasSplitGelu" => bias_split_gelu;
    "ComplexMul" => |b| complex(b, false);
    "ComplexMulConj" => |b| complex(b, true);
    "FusedMatMulActivation" => matmul_activation;
    "GatedAdd" => gated_add;
    "GatedRMSNorm" => gated_norm;
    "GemmFastGelu" => gemm_gelu;
    "GroupNorm" => group_norm;
    "NhwcConv" => nhwc_conv;
    "ScaledSiLU" => scaled_silu;
    "SkipGroupNorm" => skip_group_norm;
}

fn given(b: &Build<'_>, i: usize) -> Option<Value> {
    b.inputs.get(i).copied().flatten()
}

fn known_rank(b: &Build<'_>, v: Value) -> Result<i64> {
    let shape = b.ty(v).as_tensor()?.shape.as_ref();
    let rank = shape.map(|s| s.len() as i64);
    rank.ok_or_else(|| Error::unsupported("the inputs must have a known rank: give them shapes"))
}

/// Moves the channels from the end to axis 1.
fn inward(b: &mut Build<'_>, v: Value) -> Result<Value> {
    let n = known_rank(b, v)?;
    let perm: Vec<i64> = [0, n - 1].into_iter().chain(1..n - 1).collect();
    b.transpose(v, &perm)
}

/// Moves the channels from axis 1 to the end.
fn outward(b: &mut Build<'_>, v: Value) -> Result<Value> {
    let n = known_rank(b, v)?;
    let perm: Vec<i64> = [0].into_iter().chain(2..n).chain([1]).collect();
    b.transpose(v, &perm)
}

/// Two halves of the last axis.
fn halves(b: &mut Build<'_>, v: Value) -> Result<[Value; 2]> {
    let attrs = Attrs::default().with("axis", -1i64).with("num_outputs", 2i64);
    let parts = b.call("Split", &[Some(v)], attrs, 2)?;
    Ok([parts[0], parts[1]])
}

fn bias_add(b: &mut Build<'_>) -> Result<Built> {
    let (x, bias, skip) = (b.input(0)?, b.input(1)?, b.input(2)?);
    let sum = b.op("Add", &[x, bias])?;
    Ok(b.op("Add", &[sum, skip])?.into())
}

fn bias_split_gelu(b: &mut Build<'_>) -> Result<Built> {
    let (x, bias) = (b.input(0)?, b.input(1)?);
    let sum = b.op("Add", &[x, bias])?;
    let [left, right] = halves(b, sum)?;
    let right = b.op("Gelu", &[right])?;
    Ok(b.op("Mul", &[left, right])?.into())
}

/// The softmax of all axes from one on, taken as one.
fn bias_softmax(b: &mut Build<'_>) -> Result<Built> {
    b.take::<i64>("is_inner_broadcast")?;
    let attrs = Attrs::default().with("axis", b.take::<i64>("axis")?.unwrap_or(1));
    let (x, bias) = (b.input(0)?, b.input(1)?);
    let inputs = vec![Some(b.op("Add", &[x, bias])?)];
    let name = b.name.clone();
    let spec = NodeSpec { op: "Softmax", opset: 11, name: &name, inputs, attrs, outputs: 1 };
    Ok(Built::Values(add(b.graph, spec)?))
}

/// The product of complex numbers, which are pairs; of the second's conjugate, if told so.
fn complex(b: &mut Build<'_>, conjugate: bool) -> Result<Built> {
    let (x, y) = (b.input(0)?, b.input(1)?);
    let ([a, ai], [c, ci]) = (halves(b, x)?, halves(b, y)?);
    let mut mul = |x: Value, y: Value| b.op("Mul", &[x, y]);
    let (ac, aici, aci, aic) = (mul(a, c)?, mul(ai, ci)?, mul(a, ci)?, mul(ai, c)?);
    let [re, im] = if conjugate { ["Add", "Sub"] } else { ["Sub", "Add"] };
    let parts = [b.op(re, &[ac, aici])?, b.op(im, &[aic, aci])?];
    Ok(b.op_with("Concat", &parts, Attrs::default().with("axis", -1i64))?.into())
}

fn matmul_activation(b: &mut Build<'_>) -> Result<Built> {
    let name = b.take::<String>("activation")?.unwrap_or_default();
    let axis = b.take::<i64>("activation_axis")?.unwrap_or(-1);
    let params = ["activation_alpha", "activation_beta", "activation_gamma"];
    let params = params.map(|p| b.take::<f32>(p)).into_iter().collect::<Result<Vec<_>>>()?;
    let params: Vec<f32> = params.into_iter().map_while(|p| p).collect();
    let (attrs, dtype, node) = (std::mem::take(&mut b.attrs), b.dtype(0)?, b.name.clone());
    let sides = [b.input(0)?, b.input(1)?];
    let y = b.op_with("com.microsoft.FusedMatMul", &sides, attrs)?;
    Ok(match &*name {
        "" => y,
        "Softmax" => b.op_with("Softmax", &[y], Attrs::default().with("axis", axis))?,
        name => Activation::new(name, &params)?.add(b.graph, &node, dtype, y)?,
    }
    .into())
}

fn gemm_gelu(b: &mut Build<'_>) -> Result<Built> {
    let (x, w, bias) = (b.input(0)?, b.input(1)?, given(b, 2));
    let y = b.op("MatMul", &[x, w])?;
    let inputs: Vec<_> = [y].into_iter().chain(bias).collect();
    Ok(b.op("com.microsoft.FastGelu", &inputs)?.into())
}

fn gated_add(b: &mut Build<'_>) -> Result<Built> {
    let (x, y, gate) = (b.input(0)?, b.input(1)?, b.input(2)?);
    let y = b.op("Mul", &[y, gate])?;
    Ok(b.op("Add", &[x, y])?.into())
}

/// `z * sigmoid(z)` of the scaled input, each step rounded to its type.
fn scaled_silu(b: &mut Build<'_>) -> Result<Built> {
    let (x, dtype) = (b.input(0)?, b.dtype(0)?);
    let alpha = b.take::<f32>("alpha")?.unwrap_or(1.0);
    let scale = match given(b, 1) {
        Some(scale) => b.cast(scale, DType::F32)?,
        None => b.float(DType::F32, alpha.into())?,
    };
    let x = b.cast(x, DType::F32)?;
    let z = b.op("Mul", &[x, scale])?;
    let z = b.cast(z, dtype)?;
    let s = b.op("Sigmoid", &[z])?;
    Ok(b.op("Mul", &[z, s])?.into())
}

fn gated_norm(b: &mut Build<'_>) -> Result<Built> {
    let (x, scale, gate, dtype) = (b.input(0)?, b.input(1)?, b.input(2)?, b.dtype(0)?);
    let attrs = Attrs::default().with("epsilon", b.take::<f32>("epsilon")?);
    let shape = b.op("Shape", &[x])?;
    let [x, scale, gate] = [x, scale, gate].map(|v| b.cast(v, DType::F32));
    let (x, scale, gate) = (x?, scale?, gate?);
    let n = b.op("Shape", &[scale])?;
    let all = b.ints(&[-1]);
    let rows = b.op_with("Concat", &[all, n], Attrs::default().with("axis", 0i64))?;
    let rows = b.op("Reshape", &[x, rows])?;
    let y = b.op_with("RMSNormalization", &[rows, scale], attrs)?;
    let y = b.op("Reshape", &[y, shape])?;
    let gate = match &*b.take::<String>("activation")?.unwrap_or("silu".into()) {
        "silu" | "swish" => b.op("Swish", &[gate])?,
        "sigmoid" => b.op("Sigmoid", &[gate])?,
        other => invalid!("activation is `{other}`, expected silu, swish or sigmoid"),
    };
    let y = b.op("Mul", &[y, gate])?;
    Ok(b.cast(y, dtype)?.into())
}

/// A convolution whose input, weight and output have their channels at the end.
fn nhwc_conv(b: &mut Build<'_>) -> Result<Built> {
    let (x, w, bias) = (b.input(0)?, b.input(1)?, given(b, 2));
    let (x, w) = (inward(b, x)?, inward(b, w)?);
    let attrs = std::mem::take(&mut b.attrs);
    let y = b.call("Conv", &[Some(x), Some(w), bias], attrs, 1)?[0];
    Ok(outward(b, y)?.into())
}

fn group_norm(b: &mut Build<'_>) -> Result<Built> {
    let last = b.take("channels_last")?.unwrap_or(true);
    let x = b.input(0)?;
    Ok(normalized(b, x, last)?.into())
}

fn skip_group_norm(b: &mut Build<'_>) -> Result<Built> {
    let last = b.take("channels_last")?.unwrap_or(true);
    let (x, mut skip, bias) = (b.input(0)?, b.input(3)?, given(b, 4));
    if known_rank(b, skip)? == 2 {
        let axes = b.ints(if last { &[1, 2] } else { &[2, 3] });
        skip = b.op("Unsqueeze", &[skip, axes])?;
    }
    let mut sum = b.op("Add", &[x, skip])?;
    if let Some(mut bias) = bias {
        if !last {
            bias = b.reshape(bias, &[-1, 1, 1])?;
        }
        sum = b.op("Add", &[sum, bias])?;
    }
    Ok(Built::Values(vec![normalized(b, sum, last)?, sum]))
}

/// Channels in groups, each normalized in single precision, scaled by inputs 1 and 2, activated.
fn normalized(b: &mut Build<'_>, x: Value, last: bool) -> Result<Value> {
    let (gamma, beta, dtype) = (b.input(1)?, b.input(2)?, b.dtype(0)?);
    let attrs = Attrs::default()
        .with("num_groups", b.require::<i64>("groups")?)
        .with("epsilon", b.take::<f32>("epsilon")?);
    let activation = b.take::<i64>("activation")?.unwrap_or(0);
    let mut y = b.cast(x, DType::F32)?;
    if last {
        y = inward(b, y)?;
    }
    let (gamma, beta) = (b.cast(gamma, DType::F32)?, b.cast(beta, DType::F32)?);
    y = b.op_with("GroupNormalization", &[y, gamma, beta], attrs)?;
    match activation {
        0 => {}
        1 => y = b.op("Swish", &[y])?,
        a => invalid!("activation is {a}, expected 0 (none) or 1 (SiLU)"),
    }
    if last {
        y = outward(b, y)?;
    }
    b.cast(y, dtype)
}

#[cfg(test)]
mod tests {
    use kiln_tensor::Tensor;

    use crate::ops::testing::{assert_close, run, run1, t, types};

    fn y(op: &str, inputs: &[Tensor]) -> Vec<f32> {
        let y = run1(&format!("y = com.microsoft.{op}\nreturn y"), inputs).expect(op);
        y.to_vec::<f32>().expect("f32")
    }

    #[test]
    fn sums() {
        let [x, bias, skip] = [t(&[1, 2], &[1., 2.]), t(&[2], &[10., 20.]), t(&[1, 2], &[3., 4.])];
        let op = "BiasAdd(x: f32[1,2], b: f32[2], s: f32[1,2])";
        assert_eq!(y(op, &[x.clone(), bias.clone(), skip.clone()]), [14., 26.]);
        let got = y("BiasSplitGelu(x: f32[1,2], b: f32[2])", &[x.clone(), t(&[2], &[2., -1.])]);
        assert_close(&got, &[3. * 0.841_344_7], 1e-6);
        let gate = t(&[1, 1], &[2.]);
        assert_eq!(
            y("GatedAdd(x: f32[1,2], k: f32[1,2], g: f32[1,1])", &[x, skip, gate]),
            [7., 10.]
        );
    }

    #[test]
    fn products() {
        let [a, b] = [t(&[1, 2], &[1., 2.]), t(&[1, 2], &[3., -4.])];
        let two = [a.clone(), b];
        assert_eq!(y("ComplexMul(a: f32[1,2], b: f32[1,2])", &two), [11., 2.]);
        assert_eq!(y("ComplexMulConj(a: f32[1,2], b: f32[1,2])", &two), [-5., 10.]);
        let op = "FusedMatMulActivation(a: f32[1,2], b: f32[1,2]) {transB=1, \
                  activation=\"LeakyRelu\", activation_alpha=0.5}";
        assert_eq!(y(op, &two), [-2.5]);
        let op = "FusedMatMulActivation(a: f32[1,2], b: f32[2,2]) {activation=\"Softmax\"}";
        let l = 3f32.ln();
        assert_close(&y(op, &[a.clone(), t(&[2, 2], &[l, 0., 0., 0.])]), &[0.75, 0.25], 1e-6);
        let op = "GemmFastGelu(a: f32[1,2], b: f32[2,1], c: f32[1])";
        let inputs = [a, t(&[2, 1], &[1., 1.]), t(&[1], &[-2.])];
        assert_close(&y(op, &inputs), &[0.841_192], 1e-5);
    }

    #[test]
    fn a_softmax_of_several_axes() {
        let x = t(&[1, 2, 2], &[0., 0., 0., 0.]);
        let bias = t(&[1, 1, 2], &[3f32.ln(), 0.]);
        let op = "BiasSoftmax(x: f32[1,2,2], b: f32[1,1,2]) {axis=1, is_inner_broadcast=0}";
        assert_close(&y(op, &[x, bias]), &[0.375, 0.125, 0.375, 0.125], 1e-6);
    }

    #[test]
    fn gates() {
        let x = t(&[1], &[0.5]);
        let half = 0.731_058_6;
        assert_close(
            &y("ScaledSiLU(x: f32[1]) {alpha=2.0}", std::slice::from_ref(&x)),
            &[half],
            1e-6,
        );
        let scale = [x, Tensor::scalar(2f32)];
        assert_close(&y("ScaledSiLU(x: f32[1], s: f32[]) {alpha=9.0}", &scale), &[half], 1e-6);
        let inputs = [t(&[1, 4], &[3., 4., 0., 2.]), t(&[2], &[1., 2.]), t(&[1, 4], &[0.; 4])];
        let op = "GatedRMSNorm(x: f32[1,4], s: f32[2], g: f32[1,4]) \
                  {activation=\"sigmoid\", epsilon=0.0}";
        let [a, b] = [12.5f32.sqrt(), 2f32.sqrt()];
        assert_close(&y(op, &inputs), &[1.5 / a, 4. / a, 0., 2. / b], 1e-6);
    }

    #[test]
    fn groups_of_channels_that_come_last() {
        let text = "y, s = com.microsoft.SkipGroupNorm(x: f16[1,1,2,2], g: f32[2], b: f32[2], \
                    k: f16[1,2], c: f16[2]) {groups=2, epsilon=0.0}\nreturn y, s";
        assert_eq!(types(text).expect("types"), ["f16[1,1,2,2]"; 2]);
        let text = text.replace("f16", "f32");
        let inputs = [
            t(&[1, 1, 2, 2], &[1., 10., 3., 30.]),
            t(&[2], &[1., 2.]),
            t(&[2], &[0., 5.]),
            t(&[1, 2], &[1., 1.]),
            t(&[2], &[0., 1.]),
        ];
        let out = run(&text, &inputs).expect("runs");
        let f = |i: usize| out[i].as_tensor().expect("t").to_vec::<f32>().expect("f32");
        assert_close(&f(0), &[-1., 3., 1., 7.], 1e-5);
        assert_eq!(f(1), [2., 12., 4., 32.]);
        let first = "GroupNorm(x: f32[1,2,1,2], g: f32[2], b: f32[2]) \
                     {groups=2, epsilon=0.0, channels_last=0, activation=1}";
        let inputs = [t(&[1, 2, 1, 2], &[1., 3., 10., 30.]), inputs[1].clone(), inputs[2].clone()];
        let silu = |x: f32| x / (1. + (-x).exp());
        assert_close(&y(first, &inputs), &[-1., 1., 3., 7.].map(silu), 1e-5);
    }

    #[test]
    fn a_convolution_with_channels_last() {
        let inputs = [
            t(&[1, 1, 2, 2], &[1., 2., 3., 4.]),
            t(&[1, 1, 2, 2], &[1., 10., 100., 1000.]),
            t(&[1], &[5.]),
        ];
        let op = "NhwcConv(x: f32[1,1,2,2], w: f32[1,1,2,2], b: f32[1])";
        assert_eq!(y(op, &inputs), [4326.]);
    }
}
