//! Operators between quantizers and dequantizers.
//!
//! Every step is a power of two, so that sums of products are exact in `f32`: ties are rounded
//! alike in floats and in integers.

use kiln_ir::{Attrs, Value};
use kiln_tensor::Tensor;

use super::Maker;

/// Steps of data, of weights, and of what they make.
const DATA: f32 = 1.0 / 64.0;
const WEIGHTS: f32 = 1.0 / 32.0;
const MADE: f32 = 1.0 / 16.0;

/// A value between two quantizers, what it goes through, and real numbers again.
pub(super) fn quantized(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    // Functions like this hardly ever give a tie, which other roundings would break.
    let x = m.plain("Tanh", &[x])?;
    let mut q = quantize(m, x, DATA)?;
    if m.random.u8(..4) == 0 {
        let d = dequantize(m, q, DATA)?;
        q = quantize(m, d, DATA)?;
    }
    let d = dequantize(m, q, DATA)?;
    let made = match m.random.u8(..6) {
        0 => product(m, d)?,
        1 => general(m, d).or_else(|| product(m, d))?,
        2 => moved_by(m, d)?,
        3 | 4 => convolved(m, d).or_else(|| moved(m, d))?,
        _ => moved(m, d)?,
    };
    let made = match m.random.u8(..) % 4 {
        0 | 2 => m.plain("Relu", &[made])?,
        // What goes on in real numbers.
        1 => return Some(made),
        _ => made,
    };
    let q = quantize(m, made, MADE)?;
    dequantize(m, q, MADE)
}

/// The zero point lies at the end of the type, or in its middle.
fn parameters(m: &mut Maker, step: f32) -> [Value; 2] {
    let zero = if step == MADE { 0u8 } else { 128 };
    [m.constant(Tensor::scalar(step)), m.constant(Tensor::scalar(zero))]
}

fn quantize(m: &mut Maker, x: Value, step: f32) -> Option<Value> {
    let [s, z] = parameters(m, step);
    m.plain("QuantizeLinear", &[x, s, z])
}

fn dequantize(m: &mut Maker, q: Value, step: f32) -> Option<Value> {
    let [s, z] = parameters(m, step);
    m.plain("DequantizeLinear", &[q, s, z])
}

/// Dequantized weights, with one scale or one for each place along `axis`.
fn weights(m: &mut Maker, shape: &[usize], axis: usize) -> Option<Value> {
    let data = (0..shape.iter().product()).map(|_| m.random.i8(-20..=20)).collect();
    let w = m.constant(Tensor::from_vec::<i8>(shape, data).ok()?);
    if m.random.bool() {
        let s = m.constant(Tensor::scalar(WEIGHTS));
        return m.plain("DequantizeLinear", &[w, s]);
    }
    let steps = (0..shape[axis]).map(|i| if i % 2 == 0 { WEIGHTS } else { 0.5 * WEIGHTS });
    let s = m.constant(Tensor::vector(steps.collect::<Vec<f32>>()));
    m.node("DequantizeLinear", &[w, s], Attrs::default().with("axis", axis as i64))
}

fn product(m: &mut Maker, d: Value) -> Option<Value> {
    let (k, n) = (m.shape(d)?.last()?.as_len()?, m.random.usize(1..=4));
    let w = weights(m, &[k, n], 1)?;
    m.plain("MatMul", &[d, w])
}

fn general(m: &mut Maker, d: Value) -> Option<Value> {
    let shape = m.shape(d)?;
    let [_, k] = &shape[..] else { return None };
    let n = m.random.usize(1..=4);
    let w = weights(m, &[n, k.as_len()?], 0)?;
    let bias = m.constant(Tensor::vector(vec![0.25f32; n]));
    m.node("Gemm", &[d, w, bias], Attrs::default().with("transB", 1i64))
}

/// A convolution of points, or the means of pairs.
fn convolved(m: &mut Maker, d: Value) -> Option<Value> {
    let shape = m.shape(d)?;
    let [_, channels, area @ ..] = &shape[..] else { return None };
    let pairs = area.iter().all(|n| n.as_len().is_some_and(|n| n >= 2));
    if area.is_empty() {
        return None;
    }
    if pairs && m.random.bool() {
        let attrs = Attrs::default().with("kernel_shape", vec![2i64; area.len()]);
        return m.node("AveragePool", &[d], attrs);
    }
    let n = m.random.usize(1..=4);
    let mut filters = vec![n, channels.as_len()?];
    filters.resize(shape.len(), 1);
    let mut inputs = vec![d, weights(m, &filters, 0)?];
    if m.random.bool() {
        inputs.push(m.constant(Tensor::vector(vec![0.5f32; n])));
    }
    m.plain("Conv", &inputs)
}

/// Plus weights that no integer operator takes.
fn moved_by(m: &mut Maker, d: Value) -> Option<Value> {
    let n = m.shape(d)?.last()?.as_len()?;
    let w = weights(m, &[n], 0)?;
    m.plain("Add", &[d, w])
}

/// The same numbers in another order.
fn moved(m: &mut Maker, d: Value) -> Option<Value> {
    if m.random.bool() {
        return m.plain("Transpose", &[d]);
    }
    let to = m.ints(&[-1]);
    m.plain("Reshape", &[d, to])
}
