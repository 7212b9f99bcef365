//! Quantized operators of `com.microsoft`, written with standard ones, that are not in `qlinear`.
//!
//! ```text
//! z = com.microsoft.QLinearWhere(c: bool[N], x: u8[N], xs, xz, y: u8[N], ys, yz, zs, zz)
//!   => a = DequantizeLinear(x, xs, xz); b = DequantizeLinear(y, ys, yz)
//!      w = Where(c, a, b); z = QuantizeLinear(w, zs, zz)
//! y = com.microsoft.GatherBlockQuantized(data: u4[N,64], at: i64[M], scales: f32[N,4])
//!   => rows of data and of scales; y = DequantizeLinear(..) {axis=1, block_size=16}
//! ```

use kiln_tensor::{DType, Tensor};

use crate::{Attrs, Build, Built, Error, Result, Schema, Value, invalid};

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "com.microsoft.DynamicQuantizeLSTM", since: 1, build: lstm },
    Schema { name: "com.microsoft.GatherBlockQuantized", since: 1, build: gather_blocks },
    Schema { name: "com.microsoft.MatMulBnb4", since: 1, build: matmul_bnb4 },
    Schema { name: "com.microsoft.MulInteger", since: 1, build: mul },
    Schema { name: "com.microsoft.QEmbedLayerNormalization", since: 1, build: embed },
    Schema { name: "com.microsoft.QLinearConv", since: 1, build: conv },
    Schema { name: "com.microsoft.QLinearReduceMean", since: 1, build: mean },
    Schema { name: "com.microsoft.QLinearWhere", since: 1, build: select },
    Schema { name: "com.microsoft.ReduceSumInteger", since: 1, build: sum },
];

fn given(b: &Build<'_>, i: usize) -> Option<Value> {
    b.inputs.get(i).copied().flatten()
}

fn known_rank(b: &Build<'_>, v: Value) -> Result<i64> {
    let shape = b.ty(v).as_tensor()?.shape.as_ref();
    let rank = shape.map(|s| s.len() as i64);
    rank.ok_or_else(|| Error::unsupported("the inputs must have a known rank: give them shapes"))
}

/// Input `i` in real numbers, by the scale and the zero point at the places given.
fn real(b: &mut Build<'_>, i: usize, scale: usize, zero: usize) -> Result<Value> {
    let inputs = [Some(b.input(i)?), Some(b.input(scale)?), given(b, zero)];
    Ok(b.call("DequantizeLinear", &inputs, Attrs::default(), 1)?[0])
}

/// Real numbers quantized by the scale at input `scale` and the zero point behind it; to `dtype`
/// where there is none.
fn quantize(b: &mut Build<'_>, y: Value, scale: usize, dtype: DType) -> Result<Value> {
    let zero = given(b, scale + 1);
    let attrs = Attrs::default().with("output_dtype", Some(dtype).filter(|_| zero.is_none()));
    let inputs = [Some(y), Some(b.input(scale)?), zero];
    Ok(b.call("QuantizeLinear", &inputs, attrs, 1)?[0])
}

fn select(b: &mut Build<'_>) -> Result<Built> {
    let (dtype, condition) = (b.dtype(1)?, b.input(0)?);
    let (x, y) = (real(b, 1, 2, 3)?, real(b, 4, 5, 6)?);
    let z = b.op("Where", &[condition, x, y])?;
    Ok(quantize(b, z, 7, dtype)?.into())
}

/// The attributes of old reductions, as those of new ones and an input.
fn axes(b: &mut Build<'_>) -> Result<(Attrs, Option<Value>)> {
    let attrs = Attrs::default().with("keepdims", b.take::<bool>("keepdims")?);
    let axes = b.take::<Vec<i64>>("axes")?;
    Ok((attrs, axes.map(|a| b.ints(&a))))
}

fn mean(b: &mut Build<'_>) -> Result<Built> {
    let (dtype, (attrs, axes)) = (b.dtype(0)?, axes(b)?);
    let x = real(b, 0, 1, 2)?;
    let y = b.call("ReduceMean", &[Some(x), axes], attrs, 1)?[0];
    Ok(quantize(b, y, 3, dtype)?.into())
}

/// An integer type of 32 bits that holds what another holds.
fn wide(dtype: DType) -> DType {
    if dtype == DType::U8 { DType::U32 } else { DType::I32 }
}

fn sum(b: &mut Build<'_>) -> Result<Built> {
    let (x, to, (attrs, axes)) = (b.input(0)?, wide(b.dtype(0)?), axes(b)?);
    let x = b.cast(x, to)?;
    Ok(b.call("ReduceSum", &[Some(x), axes], attrs, 1)?[0].into())
}

fn mul(b: &mut Build<'_>) -> Result<Built> {
    let mut sides = [b.input(0)?, b.input(2)?];
    for (side, zero) in sides.iter_mut().zip([1, 3]) {
        *side = b.cast(*side, DType::I32)?;
        if let Some(zero) = given(b, zero) {
            let zero = b.cast(zero, DType::I32)?;
            *side = b.op("Sub", &[*side, zero])?;
        }
    }
    Ok(b.op("Mul", &sides)?.into())
}

fn conv(b: &mut Build<'_>) -> Result<Built> {
    let last = b.take("channels_last")?.unwrap_or(false);
    let (mut inputs, attrs) = (std::mem::take(&mut b.inputs), std::mem::take(&mut b.attrs));
    let Some(Some(x)) = inputs.first().copied() else { invalid!("input 0 is missing") };
    if !last {
        return Ok(b.call("QLinearConv", &inputs, attrs, 1)?[0].into());
    }
    let n = known_rank(b, x)?;
    let inward: Vec<i64> = [0, n - 1].into_iter().chain(1..n - 1).collect();
    let outward: Vec<i64> = [0].into_iter().chain(2..n).chain([1]).collect();
    inputs[0] = Some(b.transpose(x, &inward)?);
    let y = b.call("QLinearConv", &inputs, attrs, 1)?[0];
    Ok(b.transpose(y, &outward)?.into())
}

/// The tables in real numbers.
fn embed(b: &mut Build<'_>) -> Result<Built> {
    let attrs = Attrs::default().with("epsilon", b.take::<f32>("epsilon")?);
    let mut inputs = vec![given(b, 0), given(b, 1)];
    for i in 0..5 {
        let table = given(b, 2 + i);
        inputs.push(match table {
            Some(_) => Some(real(b, 2 + i, 8 + i, 13 + i)?),
            None => None,
        });
    }
    inputs.push(given(b, 7));
    let out = b.call("com.microsoft.EmbedLayerNormalization", &inputs, attrs, 2)?;
    Ok(Built::Values(out[..2].to_vec()))
}

/// An LSTM whose weights are turned, and in real numbers; what it reads is not rounded.
fn lstm(b: &mut Build<'_>) -> Result<Built> {
    let attrs = std::mem::take(&mut b.attrs);
    let mut inputs: Vec<_> = (0..8).map(|i| given(b, i)).collect();
    for (i, scale) in [(1, 8), (2, 10)] {
        let w = b.input(i)?;
        let w = b.cast(w, DType::F32)?;
        let scale_value = b.input(scale)?;
        let zero = given(b, scale + 1);
        let mut less = w;
        if let Some(zero) = zero {
            let zero = b.cast(zero, DType::F32)?;
            let zero = by_direction(b, zero)?;
            less = b.op("Sub", &[w, zero])?;
        }
        let scale_value = by_direction(b, scale_value)?;
        let w = b.op("Mul", &[less, scale_value])?;
        inputs[i] = Some(b.transpose(w, &[0, 2, 1])?);
    }
    let outputs = b.outputs.max(1);
    Ok(Built::Values(b.call("LSTM", &inputs, attrs, outputs)?))
}

/// One number for each direction, or for each of its columns, as `[directions, 1, columns]`.
fn by_direction(b: &mut Build<'_>, v: Value) -> Result<Value> {
    match known_rank(b, v)? {
        1 => b.reshape(v, &[0, 1, 1]),
        _ => {
            let axes = b.ints(&[1]);
            b.op("Unsqueeze", &[v, axes])
        }
    }
}

/// How a table is packed.
struct Blocks {
    bits: i64,
    size: i64,
    gather: i64,
    quantize: i64,
}

impl Blocks {
    fn take(b: &mut Build<'_>) -> Result<Self> {
        let data = b.input(0)?;
        let rank = known_rank(b, data)? as usize;
        let axis = |v: i64| kiln_tensor::shape::axis(v, rank).map(|a| a as i64);
        let all = Self {
            bits: b.take("bits")?.unwrap_or(4),
            size: b.take("block_size")?.unwrap_or(128),
            gather: axis(b.take("gather_axis")?.unwrap_or(0))?,
            quantize: axis(b.take("quantize_axis")?.unwrap_or(1))?,
        };
        if all.size < 1 || !matches!(all.bits, 2 | 4 | 8) {
            invalid!("blocks of {} elements of {} bits", all.size, all.bits);
        }
        if all.gather == all.quantize {
            invalid!("the axis that is gathered along cannot be in blocks");
        }
        Ok(all)
    }
}

/// Bytes as the elements that they hold, the lowest bits first, along the last axis.
fn unpack(b: &mut Build<'_>, v: Value, bits: i64) -> Result<Value> {
    if bits == 8 {
        return Ok(v);
    }
    let last = b.ints(&[-1]);
    let v = b.op("Unsqueeze", &[v, last])?;
    let shifts: Vec<u8> = (0..8 / bits).map(|i| (i * bits) as u8).collect();
    let shifts = b.constant(Tensor::vector(shifts));
    let mask = b.constant(Tensor::scalar(((1u16 << bits) - 1) as u8));
    let right = Attrs::default().with("direction", "RIGHT".to_owned());
    let v = b.op_with("BitShift", &[v, shifts], right)?;
    let v = b.op("BitwiseAnd", &[v, mask])?;
    let n = known_rank(b, v)? - 2;
    let shape: Vec<i64> = (0..n).map(|_| 0).chain([-1]).collect();
    b.reshape(v, &shape)
}

fn gather_blocks(b: &mut Build<'_>) -> Result<Built> {
    let blocks = Blocks::take(b)?;
    let (data, at, scales) = (b.input(0)?, b.input(1)?, b.input(2)?);
    let shift = known_rank(b, at)? - 1;
    let along = Attrs::default().with("axis", blocks.gather);
    let mut rows = |v: Value| b.op_with("Gather", &[v, at], along.clone());
    let (mut data, scales) = (rows(data)?, rows(scales)?);
    let packed = b.dtype(0)? == DType::U8;
    let mut zero = match given(b, 3) {
        Some(zero) => Some(b.op_with("Gather", &[zero, at], along)?),
        None => None,
    };
    if packed {
        data = unpack(b, data, blocks.bits)?;
        zero = Some(match zero {
            Some(zero) => trimmed(b, zero, scales, blocks.bits)?,
            None => {
                let middle = b.constant(Tensor::scalar(1u8 << (blocks.bits - 1)));
                let shape = b.op("Shape", &[scales])?;
                b.op("Expand", &[middle, shape])?
            }
        });
    }
    let axis = blocks.quantize + if blocks.quantize > blocks.gather { shift } else { 0 };
    let attrs = Attrs::default().with("axis", axis).with("block_size", blocks.size);
    Ok(b.call("DequantizeLinear", &[Some(data), Some(scales), zero], attrs, 1)?[0].into())
}

/// Zero points out of bytes, as many as there are scales.
fn trimmed(b: &mut Build<'_>, zero: Value, scales: Value, bits: i64) -> Result<Value> {
    let zero = unpack(b, zero, bits)?;
    let end = b.op_with("Shape", &[scales], Attrs::default().with("start", -1i64))?;
    let (start, axis) = (b.ints(&[0]), b.ints(&[-1]));
    b.op("Slice", &[zero, start, end, axis])
}

/// The 16 values of a code: of sign, exponent and fraction, or quantiles of a normal distribution.
const CODES: [[f32; 16]; 2] = [
    [
        0.0,
        5.208_333_3e-3,
        0.666_666_7,
        1.0,
        0.333_333_34,
        0.5,
        0.166_666_67,
        0.25,
        -0.0,
        -5.208_333_3e-3,
        -0.666_666_7,
        -1.0,
        -0.333_333_34,
        -0.5,
        -0.166_666_67,
        -0.25,
    ],
    [
        -1.0,
        -0.696_192_8,
        -0.525_073_05,
        -0.394_917_5,
        -0.284_441_38,
        -0.184_773_43,
        -0.091_050_036,
        0.0,
        0.079_580_3,
        0.160_930_2,
        0.246_112_3,
        0.337_915_24,
        0.440_709_83,
        0.562_617,
        0.722_956_84,
        1.0,
    ],
];

/// A product with a matrix whose elements are 4 bits of a code, its rows one after another, and
/// which shares a factor in blocks.
fn matmul_bnb4(b: &mut Build<'_>) -> Result<Built> {
    b.take::<i64>("training_mode")?;
    let [k, n, size] = ["K", "N", "block_size"].map(|name| b.require::<i64>(name));
    let (k, n, size) = (k?, n?, size?);
    let turned = b.take("transB")?.unwrap_or(true);
    let kind = b.require::<i64>("quant_type")?;
    let Some(code) = usize::try_from(kind).ok().and_then(|i| CODES.get(i)) else {
        invalid!("quant_type is {kind}, expected 0 (FP4) or 1 (NF4)");
    };
    let total = k.checked_mul(n).filter(|&t| k > 0 && n > 0 && t <= 1 << 40);
    let Some(total) = total.filter(|_| size > 0) else {
        invalid!("a matrix of {n} x {k} in blocks of {size}");
    };
    let values = decoded(b, code, [total, size])?;
    let mut w = b.reshape(values, &[n, k])?;
    if turned {
        w = b.transpose(w, &[1, 0])?;
    }
    let (x, dtype) = (b.input(0)?, b.dtype(0)?);
    let x = b.cast(x, DType::F32)?;
    let y = b.op("MatMul", &[x, w])?;
    Ok(b.cast(y, dtype)?.into())
}

/// `total` numbers out of input 1, each block of `size` times its number of input 2.
fn decoded(b: &mut Build<'_>, code: &[f32], [total, size]: [i64; 2]) -> Result<Value> {
    let (packed, most) = (b.input(1)?, b.input(2)?);
    // The high bits of a byte come first.
    let shifts = b.constant(Tensor::vector(vec![4u8, 0]));
    let bytes = b.reshape(packed, &[-1, 1])?;
    let right = Attrs::default().with("direction", "RIGHT".to_owned());
    let bits = b.op_with("BitShift", &[bytes, shifts], right)?;
    let mask = b.constant(Tensor::scalar(15u8));
    let bits = b.op("BitwiseAnd", &[bits, mask])?;
    let bits = b.cast(bits, DType::I32)?;
    let bits = b.reshape(bits, &[-1])?;
    let code = b.constant(Tensor::vector(code.to_vec()));
    let values = b.op("Gather", &[code, bits])?;
    let (start, end) = (b.ints(&[0]), b.ints(&[total]));
    let values = b.op("Slice", &[values, start, end])?;
    let pads = b.ints(&[0, (size - total % size) % size]);
    let values = b.op("Pad", &[values, pads])?;
    let values = b.reshape(values, &[-1, size])?;
    let most = b.cast(most, DType::F32)?;
    let most = b.reshape(most, &[-1, 1])?;
    let values = b.op("Mul", &[values, most])?;
    let values = b.reshape(values, &[-1])?;
    b.op("Slice", &[values, start, end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, run1, t, types};

    fn y(op: &str, inputs: &[Tensor]) -> Tensor {
        run1(&format!("y = com.microsoft.{op}\nreturn y"), inputs).expect(op)
    }

    fn bytes(shape: &[usize], v: &[u8]) -> Tensor {
        Tensor::from_vec(shape, v.to_vec()).expect("lengths agree")
    }

    fn one(v: f32) -> Tensor {
        Tensor::scalar(v)
    }

    #[test]
    fn choices_and_sums() {
        let zero = Tensor::scalar(10u8);
        let inputs = [
            Tensor::vector(vec![true, false]),
            bytes(&[2], &[14, 14]),
            one(0.5),
            zero.clone(),
            bytes(&[2], &[11, 11]),
            one(4.0),
            zero.clone(),
            one(1.0),
            Tensor::scalar(100u8),
        ];
        let op = "QLinearWhere(c: bool[2], x: u8[2], xs: f32[], xz: u8[], k: u8[2], ys: f32[], \
                  yz: u8[], zs: f32[], zz: u8[])";
        assert_eq!(y(op, &inputs), bytes(&[2], &[102, 104]));
        let x = bytes(&[1, 2], &[14, 20]);
        let op = "QLinearReduceMean(x: u8[1,2], s: f32[], z: u8[], r: f32[]) \
                  {axes=[1], keepdims=0}";
        assert_eq!(y(op, &[x.clone(), one(0.5), zero.clone(), one(0.5)]), bytes(&[1], &[7]));
        let sum = y("ReduceSumInteger(x: u8[1,2]) {axes=[1]}", std::slice::from_ref(&x));
        assert_eq!(sum, Tensor::from_vec(&[1, 1], vec![34u32]).expect("1x1"));
        let product = y("MulInteger(x: u8[1,2], z: u8[], k: u8[1,2])", &[x.clone(), zero, x]);
        assert_eq!(product, Tensor::from_vec(&[1, 2], vec![56i32, 200]).expect("1x2"));
    }

    #[test]
    fn a_convolution_with_channels_last() {
        let inputs = [
            bytes(&[1, 1, 2, 2], &[1, 2, 3, 4]),
            one(1.0),
            Tensor::scalar(0u8),
            Tensor::from_vec(&[1, 2, 1, 1], vec![1i8, 10]).expect("1x2x1x1"),
            one(1.0),
            Tensor::scalar(0i8),
            one(1.0),
            Tensor::scalar(5u8),
        ];
        let op = "QLinearConv(x: u8[1,1,2,2], a: f32[], b: u8[], w: i8[1,2,1,1], c: f32[], \
                  d: i8[], e: f32[], f: u8[]) {channels_last=1}";
        assert_eq!(y(op, &inputs), bytes(&[1, 1, 2, 1], &[26, 48]));
    }

    #[test]
    fn tables_in_blocks() {
        let at = Tensor::from_vec(&[1, 1], vec![1i64]).expect("1x1");
        let data = bytes(&[2, 2], &[0, 0, 0x21, 0x43]);
        let scales = t(&[2, 2], &[9., 9., 1., 10.]);
        let op = "GatherBlockQuantized(d: u8[2,2], i: i64[1,1], s: f32[2,2]) {block_size=2}";
        let inputs = [data.clone(), at.clone(), scales.clone()];
        assert_eq!(y(op, &inputs), t(&[1, 1, 4], &[-7., -6., -50., -40.]));
        let op = "GatherBlockQuantized(d: u8[2,2], i: i64[1,1], s: f32[2,2], z: u8[2,1]) \
                  {block_size=2}";
        let inputs = [data, at.clone(), scales, bytes(&[2, 1], &[0, 0x31])];
        assert_eq!(y(op, &inputs), t(&[1, 1, 4], &[0., 1., 0., 10.]));
        let op =
            "GatherBlockQuantized(d: u8[2,2], i: i64[1,1], s: f32[2,1]) {block_size=2, bits=8}";
        let inputs = [bytes(&[2, 2], &[0, 0, 130, 126]), at, t(&[2, 1], &[9., 0.5])];
        assert_eq!(y(op, &inputs), t(&[1, 1, 2], &[1., -1.]));
        let wrong = "y = com.microsoft.GatherBlockQuantized(d: u8[2,2], i: i64[1], s: f32[2,1]) \
                     {quantize_axis=0}\nreturn y";
        assert!(types(wrong).is_err());
    }

    #[test]
    fn codes_of_four_bits() {
        let a = t(&[1, 2], &[1., 10.]);
        // 1, -1 and 0.25, 0 times 2.
        let inputs = [a.clone(), bytes(&[2], &[0x3b, 0x70]), t(&[1], &[2.])];
        let op = "MatMulBnb4(a: f32[1,2], b: u8[2], m: f32[1]) {K=2, N=2, block_size=16, \
                  quant_type=0";
        assert_eq!(y(&format!("{op}}}"), &inputs), t(&[1, 2], &[-18., 0.5]));
        assert_eq!(y(&format!("{op}, transB=0}}"), &inputs), t(&[1, 2], &[7., -2.]));
        let inputs = [a, bytes(&[1], &[0xf0]), t(&[1], &[3.])];
        let op = "MatMulBnb4(a: f32[1,2], b: u8[1], m: f32[1]) {K=2, N=1, block_size=16, \
                  quant_type=1}";
        assert_eq!(y(op, &inputs), t(&[1, 1], &[-27.]));
    }

    #[test]
    fn recurrent_weights_are_turned() {
        let gates = |op: &str, w: &str| {
            format!("y, h = {op}(x: f32[2,1,1], {w}) {{hidden_size=1}}\nreturn y, h")
        };
        let plain = gates("LSTM", "w: f32[1,4,1], r: f32[1,4,1]");
        let packed = gates(
            "com.microsoft.DynamicQuantizeLSTM",
            "w: u8[1,1,4], r: i8[1,1,4], _, _, _, _, _, a: f32[1], b: u8[1], c: f32[1,4], \
             d: i8[1,4]",
        );
        let x = t(&[2, 1, 1], &[1., -2.]);
        let (w, r) = (t(&[1, 4, 1], &[0.5, 1., -0.5, 0.]), t(&[1, 4, 1], &[1., 4., 9., -4.]));
        let want = run(&plain, &[x.clone(), w, r]).expect("runs");
        let i8s = |v: &[i8; 4], shape: &[usize]| Tensor::from_vec(shape, v.to_vec()).expect("fits");
        let inputs = [
            x,
            bytes(&[1, 1, 4], &[11, 12, 9, 10]),
            i8s(&[1, 2, 3, -1], &[1, 1, 4]),
            t(&[1], &[0.5]),
            bytes(&[1], &[10]),
            t(&[1, 4], &[1., 2., 3., 4.]),
            i8s(&[0; 4], &[1, 4]),
        ];
        let got = run(&packed, &inputs).expect("runs");
        let f = |d: &kiln_tensor::Datum| d.as_tensor().expect("t").to_vec::<f32>().expect("f32");
        assert_close(&f(&got[0]), &f(&want[0]), 1e-6);
        assert_close(&f(&got[1]), &f(&want[1]), 1e-6);
    }

    #[test]
    fn quantized_embeddings() {
        let text = "y, n = com.microsoft.QEmbedLayerNormalization(i: i32[1,1], _, w: u8[2,2], \
                    p: u8[1,2], _, g: u8[2], b: u8[2], _, ws: f32[], ps: f32[], _, gs: f32[], \
                    bs: f32[], wz: u8[], pz: u8[], _, gz: u8[], bz: u8[]) {epsilon=0.0}\n\
                    return y, n";
        let zero = Tensor::scalar(0u8);
        let inputs = [
            Tensor::from_vec(&[1, 1], vec![1i32]).expect("1x1"),
            bytes(&[2, 2], &[0, 0, 1, 2]),
            bytes(&[1, 2], &[1, 4]),
            bytes(&[2], &[1, 2]),
            bytes(&[2], &[1, 1]),
            one(1.),
            one(1.),
            one(3.),
            one(0.5),
            zero.clone(),
            zero.clone(),
            zero.clone(),
            zero,
        ];
        // The sum 2, 6 is -1, 1 normalized; times 3, 6, and a half.
        let out = run(text, &inputs).expect("runs");
        assert_eq!(out[0].as_tensor().expect("t"), &t(&[1, 1, 2], &[-2.5, 6.5]));
    }
}
