//! Names GroupNormalization, and lets normalizations of channels scale and shift.
//!
//! ```text
//! r = Reshape(x: f32[N,6,H,W], [0,2,-1])
//! n = InstanceNormalization(r, ones, zeros)
//! b = Reshape(n, shape of x)
//! m = Mul(b, scale)
//! y = Add(m, bias)      =>   y = GroupNormalization(x, scale, bias) {num_groups=2}
//! ```
//!
//! Saves two passes over `x` of three. Not exact: factors are multiplied before, and terms added.

use kiln_ir::ops::group_norm::GroupNorm;
use kiln_ir::ops::layout::Layout;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};
use kiln_tensor::{DType, Scalar, Tensor, match_float};

use crate::forms::{dims, per_channel};

/// See the module.
pub struct GroupNormalization;

impl Rewrite for GroupNormalization {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        match g.op(root) {
            Op::Layout(Layout::Reshape { .. }) => grouped(g, root),
            op if op.name() == "Mul" => affine(g, root, true),
            op if op.name() == "Add" => affine(g, root, false),
            _ => Ok(None),
        }
    }
}

/// A normalization of channels, with the constants it scales by and adds.
struct Norm {
    op: GroupNorm,
    x: Value,
    scale: Vec<f64>,
    bias: Vec<f64>,
    dtype: DType,
}

fn norm(g: &Graph, v: Value) -> Option<Norm> {
    let Op::GroupNorm(op) = g.op(v.node) else { return None };
    let operand = |i| g.input_of(v.node, i);
    let list = |i| g.constant_of(operand(i)?)?.to_vec::<f64>().ok();
    let dtype = g.constant_of(operand(1)?)?.dtype();
    Some(Norm { op: *op, x: operand(0)?, scale: list(1)?, bias: list(2)?, dtype })
}

/// The number of channels, where it is known.
fn channels(g: &Graph, x: Value) -> Option<usize> {
    dims(g, x).filter(|d| d.len() >= 2)?[1].as_len().filter(|&c| c > 0)
}

/// One factor for each channel, of factors for channels or for groups of them.
fn spread(list: Vec<f64>, channels: usize) -> Option<Vec<f64>> {
    let each = channels.checked_div(list.len())?;
    (each * list.len() == channels)
        .then(|| list.iter().flat_map(|x| std::iter::repeat_n(*x, each)).collect())
}

/// The normalization of groups that one of single channels is between two reshapes.
fn grouped(g: &Graph, root: NodeId) -> Verdict {
    let Some(inner) = g.input_of(root, 0) else { return Ok(None) };
    let Some(n) = norm(g, inner).filter(|n| n.op.groups.is_none()) else { return Ok(None) };
    let Op::Layout(Layout::Reshape { .. }) = g.op(n.x.node) else { return Ok(None) };
    let Some(x) = g.input_of(n.x.node, 0) else { return Ok(None) };
    let (Some(from), Some(mid), Some(to)) = (dims(g, x), dims(g, n.x), dims(g, root.first()))
    else {
        return Ok(None);
    };
    let (Some(channels), Some(groups)) = (channels(g, x), channels(g, n.x)) else {
        return Err(Decline::new("the number of channels is unknown"));
    };
    if from != to || mid[0] != from[0] || mid.len() != 3 || channels % groups != 0 {
        return Err(Decline::new("the reshapes do not put channels together and take them apart")
            .advise("fix the symbols of the lengths with --dim NAME=N"));
    }
    let op = GroupNorm { groups: i64::try_from(groups).ok(), ..n.op };
    let (Some(scale), Some(bias)) = (spread(n.scale, channels), spread(n.bias, channels)) else {
        return Ok(None);
    };
    let mut e = edit(root, Norm { op, x, scale, bias, dtype: n.dtype })?;
    e.absorb(inner);
    e.absorb(n.x);
    Ok(Some(e))
}

/// The normalization with a constant factor or summand of each channel as its own.
fn affine(g: &Graph, root: NodeId, product: bool) -> Verdict {
    let [Some(a), Some(b)] = [g.input_of(root, 0), g.input_of(root, 1)] else { return Ok(None) };
    let found = [(a, b), (b, a)].into_iter().find_map(|(v, c)| Some((v, c, norm(g, v)?)));
    let Some((v, c, n)) = found else { return Ok(None) };
    let Some(t) = g.constant_of(c) else {
        return Err(Decline::new("the factor or the summand is not constant"));
    };
    let channels = channels(g, n.x).ok_or(Decline::new("the number of channels is unknown"))?;
    let rank = dims(g, n.x).map_or(0, <[_]>::len);
    let t = per_channel(t, channels, 1, rank)
        .ok_or(Decline::new("the constant is not one number for each channel"))?;
    let (Some(scale), Some(bias)) = (spread(n.scale, channels), spread(n.bias, channels)) else {
        return Ok(None);
    };
    let with = |list: Vec<f64>, f: fn(f64, f64) -> f64| -> Vec<f64> {
        list.into_iter().zip(&t).map(|(x, t)| f(x, *t)).collect()
    };
    let (scale, bias) = match product {
        true => (with(scale, |x, t| x * t), with(bias, |x, t| x * t)),
        false => (scale, with(bias, |x, t| x + t)),
    };
    let mut e = edit(root, Norm { scale, bias, ..n })?;
    e.absorb(v);
    Ok(Some(e))
}

fn edit(root: NodeId, n: Norm) -> Result<Edit, Decline> {
    let mut e = Edit::default();
    let mut constant = |list: Vec<f64>| {
        let t = match_float!(n.dtype, T => {
            let list: Vec<T> = list.into_iter().map(<T as Scalar>::from_f64).collect();
            list.iter().all(|x| x.to_f64().is_finite()).then(|| Tensor::vector(list))
        }, else None);
        t.map(|t| e.constant(t)).ok_or(Decline::new("a folded factor would not be finite"))
    };
    let (scale, bias) = (constant(n.scale)?, constant(n.bias)?);
    let y = e.node(n.op, &[Some(n.x.into()), Some(scale), Some(bias)]);
    e.replace(root.first(), y);
    Ok(e)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn names_groups_and_takes_their_scale_and_bias() {
        check(
            &GroupNormalization,
            "s = i64[3]{0, 2, -1}\none = f32[2]{1.0, 1.0}\nzero = f32[2]{0.0, 0.0}\n\
             r = Reshape(x: f32[N,4,H,W], s)\n\
             n = InstanceNormalization(r, one, zero) {epsilon=0.5}\nt = Shape(x)\n\
             b = Reshape(n, t)\nk = f32[4,1,1]{1.0, 2.0, 3.0, 4.0}\nm = Mul(k, b)\n\
             c = f32[1,4,1,1]{0.5, 0.0, 0.0, 1.0}\ny = Add(m, c)\nreturn y",
            expect![[r#"
                x: f32[N,4,H,W]
                y/group_norm0 = f32[4]{1.0, 2.0, 3.0, 4.0}
                y/group_norm1 = f32[4]{0.5, 0.0, 0.0, 1.0}
                y = GroupNormalization(x, y/group_norm0, y/group_norm1) {epsilon=0.5, num_groups=2}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_other_shapes_and_constants() {
        check(
            &GroupNormalization,
            "s = i64[3]{0, 2, -1}\none = f32[2]{1.0, 1.0}\nzero = f32[2]{0.0, 0.0}\n\
             r = Reshape(x: f32[N,4,H,W], s)\nn = InstanceNormalization(r, one, zero)\n\
             t = i64[3]{0, 4, -1}\nb = Reshape(n, t)\nk = f32[2]{1.0, 2.0}\n\
             i = InstanceNormalization(z: f32[N,2,2], one, zero)\ny = Mul(i, k)\nreturn b, y",
            expect![[r#"
                (unchanged)
                # group_norm @ b: the reshapes do not put channels together and take them apart
                # group_norm @ y: the constant is not one number for each channel
            "#]],
        );
    }
}
