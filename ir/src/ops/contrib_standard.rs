//! Operators of `com.microsoft` that have a standard twin, or nearly.
//!
//! ```text
//! y = com.microsoft.Range(start: f32[1], limit: f32[1])
//!   => a = Reshape(start, i64[0]{}); b = Reshape(limit, i64[0]{}); y = Range(a, b, 1.0)
//! y, i, n = com.microsoft.Unique(x: f32[N])
//!   => y, _, i, n = Unique(x) {sorted=0}
//! ```

use kiln_tensor::{DType, Tensor};

use crate::schema::{NodeSpec, add};
use crate::{Attrs, Build, Built, Error, Result, Schema, Value, invalid};

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "com.microsoft.CausalConvWithState", since: 1, build: causal_conv },
    Schema { name: "com.microsoft.ConvTransposeWithDynamicPads", since: 1, build: conv_transpose },
    Schema { name: "com.microsoft.GatherND", since: 1, build: gather_nd },
    Schema { name: "com.microsoft.GridSample", since: 1, build: grid_sample },
    Schema { name: "com.microsoft.Irfft", since: 1, build: |b| fourier(b, true) },
    Schema { name: "com.microsoft.LinearAttention", since: 1, build: linear_attention },
    Schema { name: "com.microsoft.MatMulInteger16", since: 1, build: matmul_16 },
    Schema { name: "com.microsoft.Pad", since: 1, build: pad },
    Schema { name: "com.microsoft.Range", since: 1, build: range },
    Schema { name: "com.microsoft.Rfft", since: 1, build: |b| fourier(b, false) },
    Schema { name: "com.microsoft.TorchEmbedding", since: 1, build: embedding },
    Schema { name: "com.microsoft.UnfoldTensor", since: 1, build: unfold },
    Schema { name: "com.microsoft.Unique", since: 1, build: unique },
];

fn given(b: &Build<'_>, i: usize) -> Option<Value> {
    b.inputs.get(i).copied().flatten()
}

/// The newest form of the standard operator of this name.
fn same(b: &mut Build<'_>, op: &str, opset: i64) -> Result<Built> {
    let (inputs, attrs) = (std::mem::take(&mut b.inputs), std::mem::take(&mut b.attrs));
    let (name, outputs) = (b.name.clone(), b.outputs);
    let spec = NodeSpec { op, opset, name: &name, inputs, attrs, outputs };
    Ok(Built::Values(add(b.graph, spec)?))
}

/// An error where an attribute is not what the standard operator does.
fn only(b: &mut Build<'_>, name: &str, value: i64) -> Result<()> {
    match b.take::<i64>(name)? {
        Some(v) if v != value => {
            Err(Error::unsupported(format!("{name}={v} is not supported, only {value} is")))
        }
        _ => Ok(()),
    }
}

fn causal_conv(b: &mut Build<'_>) -> Result<Built> {
    for (name, value) in [("state_window", 0), ("channels_last", 0), ("dilation", 1), ("ndim", 1)] {
        only(b, name, value)?;
    }
    same(b, "CausalConvWithState", i64::MAX)
}

fn linear_attention(b: &mut Build<'_>) -> Result<Built> {
    only(b, "state_window", 0)?;
    same(b, "LinearAttention", i64::MAX)
}

fn grid_sample(b: &mut Build<'_>) -> Result<Built> {
    same(b, "GridSample", 16)
}

fn gather_nd(b: &mut Build<'_>) -> Result<Built> {
    let indices = b.input(1)?;
    b.inputs[1] = Some(b.cast(indices, DType::I64)?);
    same(b, "GatherND", i64::MAX)
}

fn embedding(b: &mut Build<'_>) -> Result<Built> {
    let (weight, indices) = (b.input(0)?, b.input(1)?);
    Ok(b.op("Gather", &[weight, indices])?.into())
}

/// A value of one element as a scalar.
fn scalar(b: &mut Build<'_>, v: Value) -> Result<Value> {
    b.reshape(v, &[])
}

fn range(b: &mut Build<'_>) -> Result<Built> {
    let (start, limit) = (b.input(0)?, b.input(1)?);
    let delta = match given(b, 2) {
        Some(delta) => delta,
        None => {
            let (one, dtype) = (b.constant(Tensor::scalar(1i64)), b.dtype(0)?);
            b.cast(one, dtype)?
        }
    };
    let (start, limit, delta) = (scalar(b, start)?, scalar(b, limit)?, scalar(b, delta)?);
    Ok(b.op("Range", &[start, limit, delta])?.into())
}

fn pad(b: &mut Build<'_>) -> Result<Built> {
    let pads = b.input(1)?;
    b.inputs[1] = Some(b.reshape(pads, &[-1])?);
    if let Some(value) = given(b, 2) {
        b.inputs[2] = Some(scalar(b, value)?);
    }
    same(b, "Pad", i64::MAX)
}

/// The unique elements in the order in which they come.
fn unique(b: &mut Build<'_>) -> Result<Built> {
    let x = b.input(0)?;
    let out = b.call("Unique", &[Some(x)], Attrs::default().with("sorted", false), 4)?;
    Ok(Built::Values(vec![out[0], out[2], out[3]]))
}

fn matmul_16(b: &mut Build<'_>) -> Result<Built> {
    let unsigned = b.dtype(0)? == DType::U16 && b.dtype(1)? == DType::U16;
    let wide = if unsigned { DType::U32 } else { DType::I32 };
    let (x, y) = (b.input(0)?, b.input(1)?);
    let (x, y) = (b.cast(x, wide)?, b.cast(y, wide)?);
    Ok(b.op("MatMul", &[x, y])?.into())
}

/// The transform of the last axis; of complex numbers, which are pairs, the one before.
fn fourier(b: &mut Build<'_>, inverse: bool) -> Result<Built> {
    for (name, value) in [("onesided", 1), ("normalized", 0), ("signal_ndim", 1)] {
        only(b, name, value)?;
    }
    let mut x = b.input(0)?;
    let last = b.ints(&[-1]);
    if !inverse {
        x = b.op("Unsqueeze", &[x, last])?;
    }
    let axis = b.constant(Tensor::scalar(-2i64));
    let attrs = Attrs::default().with("onesided", true).with("inverse", inverse.then_some(true));
    let y = b.call("DFT", &[Some(x), None, Some(axis)], attrs, 1)?[0];
    Ok(if inverse { b.op("Squeeze", &[y, last])?.into() } else { y.into() })
}

/// A transposed convolution of which the pads are cut off.
fn conv_transpose(b: &mut Build<'_>) -> Result<Built> {
    let (x, w, pads, bias) = (b.input(0)?, b.input(1)?, given(b, 2), given(b, 3));
    let attrs = std::mem::take(&mut b.attrs);
    let y = b.call("ConvTranspose", &[Some(x), Some(w), bias], attrs, 1)?[0];
    let Some(pads) = pads else { return Ok(y.into()) };
    let Some(n @ 3..) = b.rank(0)?.map(|n| n as i64) else {
        invalid!("the convolution needs an input of known rank, 3 or more");
    };
    let attrs = Attrs::default().with("num_outputs", 2i64);
    let sides = b.call("Split", &[Some(pads)], attrs, 2)?;
    let lengths = b.op_with("Shape", &[y], Attrs::default().with("start", 2i64))?;
    let ends = b.op("Sub", &[lengths, sides[1]])?;
    let axes = b.ints(&(2..n).collect::<Vec<_>>());
    Ok(b.op("Slice", &[y, sides[0], ends, axes])?.into())
}

/// All windows of an axis; the elements of each are a new last axis.
fn unfold(b: &mut Build<'_>) -> Result<Built> {
    let x = b.input(0)?;
    let dim = b.take("dim")?.unwrap_or(-1i64);
    let (size, step) = (b.require::<i64>("size")?, b.take("step")?.unwrap_or(1i64));
    let Some(rank) = b.rank(0)? else {
        return Err(Error::unsupported("the input must have a known rank: give it a shape"));
    };
    let n = b.length(x, dim, "the axis that is unfolded")?;
    let axis = kiln_tensor::shape::axis(dim, rank)?;
    if size < 1 || step < 1 || size > n {
        invalid!("windows of {size} elements, {step} apart, on an axis of {n}");
    }
    let count = (n - size) / step + 1;
    if count.saturating_mul(size) > 1 << 24 {
        return Err(Error::unsupported(format!("{count} windows of {size} elements")));
    }
    let at = (0..count).flat_map(|i| (0..size).map(move |j| i * step + j)).collect();
    let at = b.constant(Tensor::from_vec(&[count as usize, size as usize], at)?);
    let y = b.op_with("Gather", &[x, at], Attrs::default().with("axis", axis as i64))?;
    let within = axis as i64 + 1;
    let perm: Vec<i64> = (0..=rank as i64).filter(|&a| a != within).chain([within]).collect();
    Ok(b.transpose(y, &perm)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, run1, t, types};

    fn y(op: &str, inputs: &[Tensor]) -> Tensor {
        run1(&format!("y = com.microsoft.{op}\nreturn y"), inputs).expect(op)
    }

    #[test]
    fn ranges_from_vectors() {
        let ends = [Tensor::vector(vec![1f32]), Tensor::vector(vec![3.5f32])];
        assert_eq!(y("Range(a: f32[1], b: f32[1])", &ends), t(&[3], &[1., 2., 3.]));
        let ends = [Tensor::scalar(5i32), Tensor::scalar(0i32), Tensor::vector(vec![-2i32])];
        let want = Tensor::vector(vec![5i32, 3, 1]);
        assert_eq!(y("Range(a: i32[], b: i32[], c: i32[1])", &ends), want);
    }

    #[test]
    fn pads_in_a_row() {
        let pads = Tensor::from_vec(&[1, 2], vec![1i64, 2]).expect("1x2");
        let inputs = [t(&[2], &[7., 8.]), pads, t(&[1], &[9.])];
        let want = t(&[5], &[9., 7., 8., 9., 9.]);
        assert_eq!(y("Pad(x: f32[2], p: i64[1,2], v: f32[1])", &inputs), want);
    }

    #[test]
    fn unique_elements_as_they_come() {
        let text = "y, i, n = com.microsoft.Unique(x: i32[6])\nreturn y, i, n";
        let out = run(text, &[Tensor::vector(vec![2i32, 1, 1, 3, 4, 3])]).expect("runs");
        let ints = |i: usize| out[i].as_tensor().expect("tensor").to_vec::<i64>().expect("ints");
        assert_eq!((ints(0), ints(1)), (vec![2, 1, 3, 4], vec![0, 1, 1, 2, 3, 2]));
        assert_eq!(ints(2), [1, 2, 2, 1]);
    }

    #[test]
    fn windows_of_an_axis() {
        let x = t(&[2, 4], &[0., 1., 2., 3., 10., 11., 12., 13.]);
        let want = t(&[2, 2, 2], &[0., 1., 2., 3., 10., 11., 12., 13.]);
        assert_eq!(y("UnfoldTensor(x: f32[2,4]) {size=2, step=2}", std::slice::from_ref(&x)), want);
        let want = t(&[1, 4, 2], &[0., 10., 1., 11., 2., 12., 3., 13.]);
        assert_eq!(y("UnfoldTensor(x: f32[2,4]) {dim=0, size=2}", &[x]), want);
        let wrong = "y = com.microsoft.UnfoldTensor(x: f32[2,4]) {size=5}\nreturn y";
        assert!(types(wrong).is_err());
    }

    #[test]
    fn indices_products_and_tables() {
        let x = t(&[2, 2], &[1., 2., 3., 4.]);
        let at = Tensor::from_vec(&[2, 2], vec![0i32, 1, 1, 0]).expect("2x2");
        let want = t(&[2], &[2., 3.]);
        assert_eq!(y("GatherND(x: f32[2,2], i: i32[2,2])", &[x.clone(), at]), want);
        let at = Tensor::vector(vec![1i64]);
        let want = t(&[1, 2], &[3., 4.]);
        assert_eq!(y("TorchEmbedding(x: f32[2,2], i: i64[1])", &[x, at]), want);
        let sides = [
            Tensor::from_vec(&[1, 2], vec![300i16, -2]).expect("1x2"),
            Tensor::from_vec(&[2, 1], vec![300u16, 1]).expect("2x1"),
        ];
        let want = Tensor::from_vec(&[1, 1], vec![89_998i32]).expect("1x1");
        assert_eq!(y("MatMulInteger16(a: i16[1,2], b: u16[2,1])", &sides), want);
    }

    #[test]
    fn waves_there_and_back() {
        let x = t(&[1, 4], &[1., 2., 3., 5.]);
        let f = y("Rfft(x: f32[1,4])", std::slice::from_ref(&x));
        assert_close(&f.to_vec::<f32>().expect("f32"), &[11., 0., -2., 3., -3., 0.], 1e-5);
        assert_eq!(f.shape(), [1, 3, 2]);
        let back = y("Irfft(x: f32[1,3,2]) {signal_ndim=1}", &[f]);
        assert_close(&back.to_vec::<f32>().expect("f32"), &[1., 2., 3., 5.], 1e-5);
    }

    #[test]
    fn pads_of_a_transposed_convolution_are_cut_off() {
        let pads = Tensor::vector(vec![1i64, 2]);
        let inputs =
            [t(&[1, 1, 3], &[1., 2., 3.]), t(&[1, 1, 2], &[1., 10.]), pads, t(&[1], &[5.])];
        // 1, 10, 2, 20, 3, 30 and the bias.
        let op = "ConvTransposeWithDynamicPads(x: f32[1,1,3], w: f32[1,1,2], p: i64[2], b: f32[1]) \
                  {strides=[2]}";
        assert_eq!(y(op, &inputs), t(&[1, 1, 3], &[15., 7., 25.]));
    }

    #[test]
    fn what_the_standard_operator_lacks_is_an_error() {
        for op in [
            "CausalConvWithState(x: f32[1,2,3], w: f32[2,1,2]) {dilation=2}",
            "Rfft(x: f32[4]) {normalized=1}",
        ] {
            assert!(types(&format!("y = com.microsoft.{op}\nreturn y")).is_err(), "{op}");
        }
        let op = "y, s = com.microsoft.CausalConvWithState(x: f32[1,2,3], w: f32[2,1,2]) \
                  {ndim=1, dilation=1}\nreturn y, s";
        assert_eq!(types(op).expect("types"), ["f32[1,2,3]", "f32[1,2,1]"]);
        let grid = "y = com.microsoft.GridSample(x: f32[1,1,2,2], g: f32[1,1,1,2]) \
                    {mode=\"bilinear\", align_corners=1}\nreturn y";
        let inputs = [t(&[1, 1, 2, 2], &[0., 1., 2., 3.]), t(&[1, 1, 1, 2], &[0., 0.])];
        assert_eq!(run1(grid, &inputs).expect("runs"), t(&[1, 1, 1, 1], &[1.5]));
    }
}
