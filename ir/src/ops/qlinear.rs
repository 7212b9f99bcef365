//! Quantized operators of com.microsoft. All but one are written with standard operators:
//!
//! ```text
//! QLinearAdd(a, b)          = QuantizeLinear(Add(DequantizeLinear(a), DequantizeLinear(b)))
//! DynamicQuantizeMatMul(a)  = Cast(MatMulInteger(DynamicQuantizeLinear(a), b)) * scale + bias
//! ```

mod nbits;

pub use nbits::{MatMulNBits, Packing};

use kiln_tensor::{DType, Tensor};

use crate::ops::binary::Binary;
use crate::ops::matmul_quantized::MatMulInteger;
use crate::ops::quantize::{DequantizeLinear, DynamicQuantizeLinear, QuantizeLinear};
use crate::schema::{NodeSpec, add};
use crate::{Attrs, Build, Built, Error, Result, Schema, Value, unsupported};

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "com.microsoft.QLinearAdd", since: 1, build: |b| binary(b, Binary::Add) },
    Schema { name: "com.microsoft.QLinearMul", since: 1, build: |b| binary(b, Binary::Mul) },
    Schema { name: "com.microsoft.QLinearConcat", since: 1, build: concat },
    Schema { name: "com.microsoft.QLinearSigmoid", since: 1, build: |b| unary(b, "Sigmoid") },
    Schema { name: "com.microsoft.QLinearLeakyRelu", since: 1, build: |b| unary(b, "LeakyRelu") },
    Schema {
        name: "com.microsoft.QLinearAveragePool",
        since: 1,
        build: |b| pool(b, "AveragePool"),
    },
    Schema {
        name: "com.microsoft.QLinearGlobalAveragePool",
        since: 1,
        build: |b| pool(b, "GlobalAveragePool"),
    },
    Schema { name: "com.microsoft.QLinearSoftmax", since: 1, build: softmax },
    Schema { name: "com.microsoft.DynamicQuantizeMatMul", since: 1, build: dynamic_matmul },
    Schema { name: "com.microsoft.MatMulIntegerToFloat", since: 1, build: matmul_to_float },
    Schema { name: "com.microsoft.QGemm", since: 1, build: gemm },
    Schema { name: "com.microsoft.MatMulNBits", since: 1, build: nbits::build },
];

/// Input `i`, where it is given.
fn given(b: &Build<'_>, i: usize) -> Option<Value> {
    b.inputs.get(i).copied().flatten()
}

/// Input `i` in real numbers; its scale and its zero point are the next inputs.
fn dequantize(b: &mut Build<'_>, i: usize) -> Result<Value> {
    let op = DequantizeLinear { axis: 1, block_size: 0, output_dtype: None };
    let mut inputs = vec![b.input(i)?, b.input(i + 1)?];
    inputs.extend(given(b, i + 2));
    b.node(op, &inputs)
}

/// Real numbers quantized by the scale at input `i` and the zero point behind it; to `dtype`
/// where there is none.
fn quantize(b: &mut Build<'_>, y: Value, i: usize, dtype: DType) -> Result<Value> {
    let zero = given(b, i + 1);
    let op = QuantizeLinear {
        axis: 1,
        block_size: 0,
        output_dtype: Some(dtype).filter(|_| zero.is_none()),
        precision: None,
        saturate: true,
    };
    let mut inputs = vec![y, b.input(i)?];
    inputs.extend(zero);
    b.node(op, &inputs)
}

/// The first output of a standard operator.
fn call(b: &mut Build<'_>, op: &str, inputs: &[Value], attrs: Attrs) -> Result<Value> {
    let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
    let made = b.call(op, &inputs, attrs, 1)?;
    made.first().copied().ok_or_else(|| Error::bug(format!("{op} has no output")))
}

fn binary(b: &mut Build<'_>, op: Binary) -> Result<Built> {
    let dtype = b.dtype(0)?;
    let (x, y) = (dequantize(b, 0)?, dequantize(b, 3)?);
    let y = b.node(op, &[x, y])?;
    Ok(quantize(b, y, 6, dtype)?.into())
}

fn concat(b: &mut Build<'_>) -> Result<Built> {
    let axis: i64 = b.require("axis")?;
    let dtype = b.dtype(2)?;
    let parts =
        (2..b.inputs.len()).step_by(3).map(|i| dequantize(b, i)).collect::<Result<Vec<_>>>()?;
    let y = call(b, "Concat", &parts, Attrs::default().with("axis", axis))?;
    Ok(quantize(b, y, 0, dtype)?.into())
}

fn unary(b: &mut Build<'_>, op: &str) -> Result<Built> {
    let (dtype, attrs) = (b.dtype(0)?, std::mem::take(&mut b.attrs));
    let x = dequantize(b, 0)?;
    let y = call(b, op, &[x], attrs)?;
    Ok(quantize(b, y, 3, dtype)?.into())
}

fn pool(b: &mut Build<'_>, op: &str) -> Result<Built> {
    let last = b.take("channels_last")?.unwrap_or(false);
    let (dtype, attrs) = (b.dtype(0)?, std::mem::take(&mut b.attrs));
    let mut y = dequantize(b, 0)?;
    let Some(n) = b.rank(0)?.filter(|&n| n > 2).or((!last).then_some(0)) else {
        unsupported!("pooling with channels last needs an input of known rank, 3 or more");
    };
    let n = n as i64;
    let transpose = |b: &mut Build<'_>, y: Value, perm: Vec<i64>| match last {
        true => call(b, "Transpose", &[y], Attrs::default().with("perm", perm)),
        false => Ok(y),
    };
    y = transpose(b, y, [0, n - 1].into_iter().chain(1..n - 1).collect())?;
    y = call(b, op, &[y], attrs)?;
    y = transpose(b, y, [0].into_iter().chain(2..n).chain([1]).collect())?;
    Ok(quantize(b, y, 3, dtype)?.into())
}

fn softmax(b: &mut Build<'_>) -> Result<Built> {
    let opset = b.take("opset")?.unwrap_or(i64::MAX);
    let attrs = Attrs::default().with("axis", b.take::<i64>("axis")?.unwrap_or(-1));
    let dtype = b.dtype(0)?;
    let inputs = vec![Some(dequantize(b, 0)?)];
    let name = b.name.clone();
    let spec = NodeSpec { op: "Softmax", opset, name: &name, inputs, attrs, outputs: 1 };
    let y = add(b.graph, spec)?;
    Ok(quantize(b, y[0], 3, dtype)?.into())
}

/// A value in another type.
fn cast(b: &mut Build<'_>, v: Value, to: DType) -> Result<Value> {
    match b.ty(v).as_tensor()?.dtype {
        d if d == to => Ok(v),
        _ => call(b, "Cast", &[v], Attrs::default().with("to", to)),
    }
}

/// The product of integers less their zero points, where these are given.
fn product(b: &mut Build<'_>, inputs: [Option<Value>; 4]) -> Result<Value> {
    let name = b.name.clone();
    Ok(b.graph.add(&name, MatMulInteger, &inputs)?.first())
}

/// `sum * scale * other + bias` in single precision.
fn scaled(b: &mut Build<'_>, sum: Value, scales: [Value; 2], bias: Option<Value>) -> Result<Value> {
    let sum = cast(b, sum, DType::F32)?;
    let scales = [cast(b, scales[0], DType::F32)?, cast(b, scales[1], DType::F32)?];
    let scale = b.node(Binary::Mul, &scales)?;
    let y = b.node(Binary::Mul, &[sum, scale])?;
    match bias {
        Some(bias) => {
            let bias = cast(b, bias, DType::F32)?;
            b.node(Binary::Add, &[y, bias])
        }
        None => Ok(y),
    }
}

fn dynamic_matmul(b: &mut Build<'_>) -> Result<Built> {
    let (a, w, scale) = (b.input(0)?, b.input(1)?, b.input(2)?);
    let (zero, bias) = (given(b, 3), given(b, 4));
    let a = b.nodes(DynamicQuantizeLinear, &[a])?;
    let sum = product(b, [Some(a.first()), Some(w), Some(a.out(2)), zero])?;
    Ok(scaled(b, sum, [a.out(1), scale], bias)?.into())
}

/// An error where input `i` is known to hold more than one number.
fn single(b: &Build<'_>, i: usize) -> Result<()> {
    let Some(v) = given(b, i) else { return Ok(()) };
    let many = |d: &crate::Dim| d.as_const().is_some_and(|d| d != 1);
    match &b.ty(v).as_tensor()?.shape {
        Some(shape) if shape.iter().any(many) => {
            unsupported!("input {i} has more than one element; one for the whole of A is taken")
        }
        _ => Ok(()),
    }
}

fn matmul_to_float(b: &mut Build<'_>) -> Result<Built> {
    single(b, 2)?;
    single(b, 4)?;
    let (a, w) = (b.input(0)?, b.input(1)?);
    let scales = [b.input(2)?, b.input(3)?];
    let dtype = b.dtype(2)?;
    let (zeros, bias) = ([given(b, 4), given(b, 5)], given(b, 6));
    let sum = product(b, [Some(a), Some(w), zeros[0], zeros[1]])?;
    let y = scaled(b, sum, scales, bias)?;
    Ok(cast(b, y, dtype)?.into())
}

fn gemm(b: &mut Build<'_>) -> Result<Built> {
    single(b, 1)?;
    single(b, 2)?;
    let alpha: f32 = b.take("alpha")?.unwrap_or(1.0);
    let dtype = b.dtype(0)?;
    let mut sides = [b.input(0)?, b.input(3)?];
    for (side, name) in sides.iter_mut().zip(["transA", "transB"]) {
        if b.take(name)?.unwrap_or(false) {
            let perm = Attrs::default().with("perm", vec![1i64, 0]);
            *side = call(b, "Transpose", &[*side], perm)?;
        }
    }
    let zeros = [given(b, 2), given(b, 5)];
    let mut sum = product(b, [Some(sides[0]), Some(sides[1]), zeros[0], zeros[1]])?;
    if let Some(c) = given(b, 6) {
        sum = b.node(Binary::Add, &[sum, c])?;
    }
    let mut scale = b.input(1)?;
    if alpha != 1.0 {
        let alpha = b.constant(Tensor::scalar(alpha));
        scale = b.node(Binary::Mul, &[scale, alpha])?;
    }
    let other = b.input(4)?;
    let y = scaled(b, sum, [scale, other], None)?;
    match given(b, 7) {
        Some(_) => Ok(quantize(b, y, 7, dtype)?.into()),
        None => Ok(y.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn t<T: kiln_tensor::Element>(shape: &[usize], data: &[T]) -> Tensor {
        Tensor::from_vec(shape, data.to_vec()).expect("lengths agree")
    }

    /// Runs `op` on inputs named `a`, `b` and constants in halves from zero point 1.
    fn halves(op: &str, inputs: &[Tensor]) -> Vec<i64> {
        let text = format!("s = f32[]{{0.5}}\nz = u8[]{{1}}\ny = com.microsoft.{op}\nreturn y");
        run1(&text, inputs).expect("runs").to_vec().expect("integers")
    }

    #[test]
    fn sums_products_and_functions() {
        // In real numbers 0, 2 and 100, and 1, 1 and 40.
        let (a, b) = (t(&[3], &[1u8, 5, 201]), t(&[3], &[3u8, 3, 81]));
        let both = [a.clone(), b.clone()];
        let args = "(a: u8[3], s, z, b: u8[3], s, z, s, z)";
        assert_eq!(halves(&format!("QLinearAdd{args}"), &both), [3, 7, 255]);
        assert_eq!(halves(&format!("QLinearMul{args}"), &both), [1, 5, 255]);
        let concat = "QLinearConcat(s, z, a: u8[3], s, z, b: u8[3], s, z) {axis=0}";
        assert_eq!(halves(concat, &both), [1, 5, 201, 3, 3, 81]);
        let sigmoid = "QLinearSigmoid(a: u8[3], s, z, s, z)";
        assert_eq!(halves(sigmoid, &both[..1]), [2, 3, 3]);
        let relu = "QLinearLeakyRelu(a: u8[3], s, z, s, z) {alpha=2.0}";
        assert_eq!(halves(relu, &[t(&[3], &[0u8, 1, 4])]), [0, 1, 4]);
    }

    #[test]
    fn softmax_of_either_kind() {
        // Before version 13, all axes from `axis` on are one.
        let x = t(&[1, 2, 2], &[1u8, 1, 1, 1]);
        let op = "QLinearSoftmax(a: u8[1,2,2], s, z, s, z)";
        let new = format!("{op} {{opset=13, axis=1}}");
        assert_eq!(halves(&new, std::slice::from_ref(&x)), [2, 2, 2, 2]);
        // A quarter is half a step, which is rounded to none.
        let old = format!("{op} {{opset=12, axis=1}}");
        assert_eq!(halves(&old, &[x]), [1, 1, 1, 1]);
    }

    #[test]
    fn pools_in_either_layout() {
        let x = t(&[1, 2, 1, 2], &[1u8, 3, 5, 7]);
        let op = "QLinearGlobalAveragePool(a: u8[1,2,1,2], s, z, s, z)";
        assert_eq!(halves(op, std::slice::from_ref(&x)), [2, 6]);
        let last = format!("{op} {{channels_last=1}}");
        assert_eq!(halves(&last, std::slice::from_ref(&x)), [3, 5]);
        let op =
            "QLinearAveragePool(a: u8[1,2,1,2], s, z, s, z) {kernel_shape=[2,1], channels_last=1}";
        assert_eq!(halves(op, &[x]), [3, 5]);
    }

    #[test]
    fn products_of_integers() {
        let text = "s = f32[2]{0.5, 2.0}\nz = i8[2]{0, 1}\nc = f32[2]{100.0, 0.0}\n\
                    y = com.microsoft.DynamicQuantizeMatMul(a: f32[1,2], w: i8[2,2], s, z, c)\n\
                    return y";
        // The scale of a is 1.
        let inputs = [t(&[1, 2], &[255f32, 2.0]), t(&[2, 2], &[1i8, 1, 2, 3])];
        let y = run1(text, &inputs).expect("runs");
        assert_eq!(y, t(&[1, 2], &[229.5f32, 8.0]));
        let text = "s = f32[]{0.5}\ny = com.microsoft.MatMulIntegerToFloat(a: u8[1,2], w: i8[2,2], \
                    s, s)\nreturn y";
        let y = run1(text, &[t(&[1, 2], &[8u8, 2]), inputs[1].clone()]).expect("runs");
        assert_eq!(y, t(&[1, 2], &[3f32, 3.5]));
        let text = "s = f32[]{0.5}\nz = u8[]{1}\nc = i32[2]{0,2}\n\
                    y = com.microsoft.QGemm(a: u8[2,1], s, z, b: u8[2,2], s, z, c, s, z) \
                    {transA=1, transB=1, alpha=2.0}\nreturn y";
        // a is 2 4 and b is 0 1, 2 3: sums 4 and 16 with 0 and 2 added, each worth 1/2.
        let y = run1(text, &[t(&[2, 1], &[3u8, 5]), t(&[2, 2], &[1u8, 2, 3, 4])]).expect("runs");
        assert_eq!(y, t(&[1, 2], &[5u8, 19]));
        let wide =
            "y = com.microsoft.MatMulIntegerToFloat(a: u8[1,2], w: i8[2,2], s: f32[2], t: f32[])";
        assert!(types(&format!("{wide}\nreturn y")).is_err());
    }
}
