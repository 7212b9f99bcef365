//! Steps that exporters take one by one, and that passes join or leave out.

use std::sync::Arc;

use kiln_ir::{Attrs, Value, text};
use kiln_tensor::Tensor;

use super::Maker;

/// A permutation that is not in order, where there are two axes.
fn shuffled(m: &mut Maker, rank: usize) -> Vec<i64> {
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    m.random.shuffle(&mut perm);
    if perm.is_sorted() {
        perm.reverse();
    }
    perm
}

fn transpose(m: &mut Maker, x: Value, perm: &[i64]) -> Option<Value> {
    m.node("Transpose", &[x], Attrs::default().with("perm", perm.to_vec()))
}

/// Transpositions before operators that work in any order of axes.
pub(super) fn sunk(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let other = m.plain("Softsign", &[x])?;
    let perm = shuffled(m, m.shape(x)?.len());
    let (a, b) = (transpose(m, x, &perm)?, transpose(m, other, &perm)?);
    match m.random.u8(..4) {
        0 => {
            let b = m.plain("Elu", &[b])?;
            m.plain("Sub", &[a, b])
        }
        1 => m.node("Concat", &[a, b], Attrs::default().with("axis", 0i64)),
        2 => {
            let c = m.constant(Tensor::scalar(0.25f32));
            let y = m.plain("Max", &[a, c])?;
            let back = shuffled(m, perm.len());
            transpose(m, y, &back)
        }
        _ => {
            let (axes, keepdims) = (m.ints(&[-1]), m.random.bool());
            m.node("ReduceSum", &[a, axes], Attrs::default().with("keepdims", keepdims))
        }
    }
}

/// A part of the last axis.
fn part(m: &mut Maker, x: Value, start: i64, end: i64) -> Option<Value> {
    let operands = [m.ints(&[start]), m.ints(&[end]), m.ints(&[-1])];
    m.plain("Slice", &[x, operands[0], operands[1], operands[2]])
}

/// Parts of parts, joins of joins, and parts of what was joined.
pub(super) fn parts(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let axis = m.shape(x)?.len() as i64 - 1;
    let n = m.shape(x)?.last()?.as_len().filter(|n| (1..=8).contains(n))? as i64;
    let join = |m: &mut Maker, parts: &[Value]| {
        m.node("Concat", parts, Attrs::default().with("axis", axis))
    };
    let other = m.plain("Softsign", &[x])?;
    let both = join(m, &[x, other])?;
    match m.random.u8(..5) {
        0 => {
            let y = part(m, both, 1, i64::MAX)?;
            part(m, y, 0, -1)
        }
        1 => part(m, both, n, 2 * n),
        2 => join(m, &[other, both]),
        3 => {
            let lengths = m.ints(&[n, n]);
            let attrs = Attrs::default().with("axis", axis).with("num_outputs", 2i64);
            let first = m.node("Split", &[both, lengths], attrs)?;
            let second = first.node.out(1);
            let order = if m.random.bool() { [first, second] } else { [second, first] };
            let y = join(m, &order)?;
            m.plain("Elu", &[y])
        }
        _ => {
            let wide = join(m, &[both, both])?;
            let indices: Vec<i64> = (0..4 * n).collect();
            let some = m.random.usize(..indices.len().min(3));
            let indices = m.ints(&indices[some..]);
            m.node("Gather", &[wide, indices], Attrs::default().with("axis", axis))
        }
    }
}

/// Choices that are always the same, and a truth turned around.
pub(super) fn chosen(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let other = m.plain("Softsign", &[x])?;
    if m.random.bool() {
        let c = m.random.bool();
        let c = m.constant(Tensor::vector(vec![c]));
        return m.plain("Where", &[c, other, x]);
    }
    // A truth that the data decides would make the function jump.
    let shape = m.plain("Shape", &[x])?;
    let zero = m.ints(&[0]);
    let first = m.plain("Gather", &[shape, zero])?;
    let two = m.ints(&[2]);
    let mut c = m.plain("Less", &[first, two])?;
    for _ in 0..m.random.u8(1..=2) {
        c = m.plain("Not", &[c])?;
    }
    m.plain("Where", &[c, x, other])
}

/// A row, expanded before it is added.
pub(super) fn expanded(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let n = m.shape(x)?.last()?.as_len()?;
    let (row, shape) = (m.weights(&[n])?, m.plain("Shape", &[x])?);
    let y = m.plain("Expand", &[row, shape])?;
    let op = if m.random.bool() { "Add" } else { "Mul" };
    m.plain(op, &[y, x])
}

/// A branch that always runs.
pub(super) fn branched(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let c = m.random.bool();
    let c = m.constant(Tensor::scalar(c));
    let ty = m.g.ty(x).to_string();
    let body = |op: &str| {
        let body = text::parse(&format!("a: {ty}\nb = {op}(a)\nc = Add(a, b)\nreturn c"));
        body.ok().map(Arc::new)
    };
    let attrs = Attrs::default()
        .with("captures", 1i64)
        .with("then_branch", body("Tanh")?)
        .with("else_branch", body("Erf")?);
    m.node("If", &[c, x], attrs)
}

/// Softmax or its logarithm, in steps.
pub(super) fn weighed(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    m.shape(x)?.last()?;
    // The exponentials of large values are no numbers.
    let x = m.plain("Tanh", &[x])?;
    let axes = m.ints(&[-1]);
    let mut d = x;
    if m.random.bool() {
        let most = m.plain("ReduceMax", &[x, axes])?;
        d = m.plain("Sub", &[x, most])?;
    }
    if m.random.u8(..3) == 0 {
        let s = m.plain("ReduceLogSumExp", &[d, axes])?;
        return m.plain("Sub", &[d, s]);
    }
    let e = m.plain("Exp", &[d])?;
    let s = m.plain("ReduceSum", &[e, axes])?;
    let y = m.plain("Div", &[e, s])?;
    if m.random.bool() { m.plain("Log", &[y]) } else { Some(y) }
}

/// Groups of channels, normalized as single ones between two reshapes, then scaled and moved.
pub(super) fn grouped(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let shape = m.shape(x)?;
    let c = shape.get(1)?.as_len().filter(|&c| c > 0)?;
    if shape.len() < 3 || shape[2..].iter().any(|d| d.as_len().is_none_or(|n| n == 0)) {
        return None;
    }
    let groups = if c % 2 == 0 { c / 2 } else { c };
    let apart = m.ints(&[0, groups as i64, -1]);
    let (one, zero) = (vec![1f32; groups], vec![0f32; groups]);
    let (one, zero) = (m.constant(Tensor::vector(one)), m.constant(Tensor::vector(zero)));
    let y = m.plain("Reshape", &[x, apart])?;
    let attrs = Attrs::default().with("epsilon", 0.25f32);
    let y = m.node("InstanceNormalization", &[y, one, zero], attrs)?;
    let back = m.plain("Shape", &[x])?;
    let y = m.plain("Reshape", &[y, back])?;
    let mut per_channel = vec![1; shape.len() - 1];
    per_channel[0] = c;
    let (scale, bias) = (m.weights(&per_channel)?, m.weights(&per_channel)?);
    let y = m.plain("Mul", &[y, scale])?;
    m.plain("Add", &[y, bias])
}

/// A reciprocal of what is far from 0, times something.
pub(super) fn inverted(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let one = m.constant(Tensor::scalar(1f32));
    let y = m.plain("Abs", &[x])?;
    let y = m.plain("Add", &[y, one])?;
    let y = if m.random.bool() { m.plain("Reciprocal", &[y])? } else { m.plain("Div", &[one, y])? };
    m.plain("Mul", &[x, y])
}

/// Several small products of one value.
pub(super) fn headed(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let k = m.shape(x)?.last()?.as_len()?;
    let heads = m.random.usize(3..=5);
    let biased = m.random.bool();
    let gemm = m.shape(x)?.len() == 2 && m.random.bool();
    let mut sum = None;
    for _ in 0..heads {
        let (w, bias) = (m.weights(&[k, 1])?, m.weights(&[1])?);
        let y = match (gemm, biased) {
            (true, true) => m.plain("Gemm", &[x, w, bias])?,
            (true, false) => m.plain("Gemm", &[x, w])?,
            (false, _) => {
                let y = m.plain("MatMul", &[x, w])?;
                if biased { m.plain("Add", &[y, bias])? } else { y }
            }
        };
        sum = match sum {
            None => Some(y),
            Some(sum) => m.plain("Max", &[y, sum]),
        };
    }
    sum
}

/// Rows divided by their lengths, where these are not 0.
pub(super) fn shortened(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    m.shape(x)?.last()?;
    let axes = m.ints(&[-1]);
    let n = match m.random.u8(..3) {
        0 => {
            let y = m.plain("Abs", &[x])?;
            m.plain("ReduceSum", &[y, axes])?
        }
        1 => {
            let y = m.plain("Mul", &[x, x])?;
            let y = m.plain("ReduceSum", &[y, axes])?;
            m.plain("Sqrt", &[y])?
        }
        _ => m.plain("ReduceL2", &[x, axes])?,
    };
    let (zero, one) = (m.constant(Tensor::scalar(0f32)), m.constant(Tensor::scalar(1f32)));
    let empty = m.plain("Equal", &[n, zero])?;
    let n = m.plain("Where", &[empty, one, n])?;
    m.plain("Div", &[x, n])
}

/// Pairs of elements, turned by angles that grow with the place.
pub(super) fn turned(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let shape = m.shape(x)?;
    let [_, _, rows, _] = &shape[..] else { return None };
    let rows = rows.as_len().filter(|n| *n > 0)?;
    // Twice along the last axis, so that its length is even.
    let x = m.node("Concat", &[x, x], Attrs::default().with("axis", 3i64))?;
    let half = shape[3].as_len().filter(|n| *n > 0)?;
    let angles = m.weights(&[rows, half])?;
    let sum = m.node("ReduceSum", &[x], Attrs::default().with("keepdims", 0i64))?;
    let scale = m.plain("Tanh", &[sum])?;
    let angles = m.plain("Mul", &[angles, scale])?;
    let both = m.node("Concat", &[angles, angles], Attrs::default().with("axis", -1i64))?;
    let (cos, sin) = (m.plain("Cos", &[both])?, m.plain("Sin", &[both])?);
    let half = half as i64;
    let (axis, from, middle, end) =
        (m.ints(&[3]), m.ints(&[0]), m.ints(&[half]), m.ints(&[2 * half]));
    let a = m.plain("Slice", &[x, from, middle, axis])?;
    let b = m.plain("Slice", &[x, middle, end, axis])?;
    let b = m.plain("Neg", &[b])?;
    let r = m.node("Concat", &[b, a], Attrs::default().with("axis", 3i64))?;
    let (p, q) = (m.plain("Mul", &[x, cos])?, m.plain("Mul", &[r, sin])?);
    m.plain("Add", &[p, q])
}

/// Blocks of pixels that become channels, and channels that become blocks, in steps.
pub(super) fn blocked(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    if m.shape(x)?.len() != 4 {
        return None;
    }
    // Four times along an axis, or twice along two.
    let twice = |m: &mut Maker, x: Value, axis: i64| {
        m.node("Concat", &[x, x], Attrs::default().with("axis", axis))
    };
    let deep = m.random.bool();
    let x = twice(m, x, if deep { 1 } else { 2 })?;
    let x = twice(m, x, if deep { 1 } else { 3 })?;
    let shape = m.shape(x)?;
    let length = |i: usize| shape[i].as_const().filter(|n| *n > 0);
    let (c, h, w) = (length(1)?, length(2)?, length(3)?);
    let (split, perm, to) = match (deep, m.random.bool()) {
        (true, true) => ([0, 2, 2, c / 4, h, w], [0, 3, 4, 1, 5, 2], [-1, c / 4, 2 * h, 2 * w]),
        (true, false) => ([0, c / 4, 2, 2, h, w], [0, 1, 4, 2, 5, 3], [-1, c / 4, 2 * h, 2 * w]),
        (false, true) => {
            ([0, c, h / 2, 2, w / 2, 2], [0, 3, 5, 1, 2, 4], [-1, 4 * c, h / 2, w / 2])
        }
        (false, false) => return focused(m, x),
    };
    let (split, to) = (m.ints(&split), m.ints(&to));
    let x = m.plain("Reshape", &[x, split])?;
    let x = transpose(m, x, &perm)?;
    m.plain("Reshape", &[x, to])
}

/// Every second pixel of each axis, four times, joined.
fn focused(m: &mut Maker, x: Value) -> Option<Value> {
    let (end, step) = (m.ints(&[i64::MAX, i64::MAX]), m.ints(&[2, 2]));
    let axes = m.ints(&[2, 3]);
    let mut places = [[0, 0], [1, 0], [0, 1], [1, 1]];
    if m.random.bool() {
        m.random.shuffle(&mut places);
    }
    let mut parts = Vec::new();
    for place in places {
        let start = m.ints(&place);
        parts.push(m.plain("Slice", &[x, start, end, axes, step])?);
    }
    m.node("Concat", &parts, Attrs::default().with("axis", 1i64))
}
