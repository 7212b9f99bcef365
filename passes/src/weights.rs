//! Weights of convolutions and products, scaled and shifted by output channel.

use kiln_ir::ops::batch_norm::BatchNorm;
use kiln_ir::ops::binary::Binary;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Source, Value, Verdict};
use kiln_tensor::{DType, Scalar, Tensor, match_float};

use crate::forms::per_channel;

/// `x * factor + shift`, per channel.
pub(crate) struct Affine {
    pub factor: Vec<f64>,
    pub shift: Vec<f64>,
}

impl Affine {
    /// A batch normalization by given statistics, all of which must be constant.
    pub(crate) fn of_norm(g: &Graph, root: NodeId, norm: BatchNorm) -> Result<Self, Decline> {
        let parameter = |i| match g.input_of(root, i) {
            Some(v) => values(constant(g, v)?),
            None => Err(Decline::new("the weights or statistics are not constant")),
        };
        let [scale, shift, mean, var] =
            [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
        let n = scale.len();
        if [&shift, &mean, &var].iter().any(|p| p.len() != n) {
            return Err(Decline::new("the statistics have different lengths"));
        }
        let epsilon = f64::from(norm.epsilon);
        let factor: Vec<f64> =
            scale.iter().zip(&var).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
        let shift = (shift.iter().zip(&mean).zip(&factor)).map(|((s, m), f)| s - m * f).collect();
        Ok(Self { factor, shift })
    }
}

/// A factor or summand that is constant.
pub(crate) struct Step<'a> {
    /// What is scaled or moved.
    pub x: Value,
    op: Binary,
    by: &'a Tensor,
}

impl<'a> Step<'a> {
    /// What `root` does to a value that `takes` holds for.
    pub(crate) fn at(g: &'a Graph, root: NodeId, takes: impl Fn(Value) -> bool) -> Option<Self> {
        let Op::Binary(op @ (Binary::Mul | Binary::Div | Binary::Add | Binary::Sub)) = g.op(root)
        else {
            return None;
        };
        let (a, b) = (g.input_of(root, 0)?, g.input_of(root, 1)?);
        let swaps = matches!(op, Binary::Mul | Binary::Add);
        let (x, by) = if takes(a) || !swaps { (a, b) } else { (b, a) };
        let by = g.constant_of(by)?;
        takes(x).then_some(Self { x, op: *op, by })
    }

    /// Whether it moves, and does not scale.
    pub(crate) fn is_sum(&self) -> bool {
        matches!(self.op, Binary::Add)
    }

    /// The same for each of `n` channels, which lie along `axis` of `rank`.
    pub(crate) fn affine(&self, n: usize, axis: usize, rank: usize) -> Result<Affine, Decline> {
        let p = per_channel(self.by, n, axis, rank)
            .ok_or(Decline::new("the constant differs within a channel"))?;
        let (ones, zeros) = (vec![1.0; n], vec![0.0; n]);
        Ok(match self.op {
            Binary::Mul => Affine { factor: p, shift: zeros },
            Binary::Div => Affine { factor: p.iter().map(|x| 1.0 / x).collect(), shift: zeros },
            Binary::Add => Affine { factor: ones, shift: p },
            _ => Affine { factor: ones, shift: p.iter().map(|x| -x).collect() },
        })
    }
}

/// Whether a value is what a convolution gives.
pub(crate) fn is_conv(g: &Graph, v: Value) -> bool {
    matches!(g.op(v.node), Op::Conv(_) | Op::ConvTranspose(_))
}

/// Folds what happens at `root` to the convolution `c` into its weights and bias; `affine` is
/// told the number of channels. Nothing where `c` is no convolution.
pub(crate) fn into_conv(
    g: &Graph,
    root: NodeId,
    c: Value,
    affine: impl FnOnce(usize) -> Result<Affine, Decline>,
) -> Verdict {
    let Some(group) = group(g.op(c.node))? else { return Ok(None) };
    let operand = |i| g.input_of(c.node, i);
    let (Some(x), Some(w)) = (operand(0), operand(1)) else { return Ok(None) };
    let w = constant(g, w)?;
    let transposed = matches!(g.op(c.node), Op::ConvTranspose(_));
    let n = if transposed { w.shape()[1] * group } else { w.shape()[0] };
    let Affine { factor, shift } = affine(n)?;
    let bias = match operand(2) {
        Some(b) => values(constant(g, b)?)?,
        None => vec![0.0; n],
    };
    if [&bias, &factor, &shift].iter().any(|p| p.len() != n) {
        return Err(Decline::new("the bias has another length than the statistics"));
    }
    let channels = channels(w.shape(), group, transposed);
    let weights = values(w)?;
    let scaled = weights.iter().enumerate().map(|(i, w)| w * factor[channels.of(i)]);
    let moved = bias.iter().zip(&factor).zip(&shift).map(|((b, f), s)| b * f + s);
    let b = rounded(w.dtype(), &[n], moved)?;
    let w = rounded(w.dtype(), w.shape(), scaled)?;
    let mut e = Edit::default();
    let (w, b) = (e.constant(w), e.constant(b));
    let folded = e.node(g.op(c.node).clone(), &[Some(Source::Old(x)), Some(w), Some(b)]);
    e.replace(root.first(), folded);
    e.absorb(c);
    Ok(Some(e))
}

/// The number of groups of a plain convolution; `None` for other operators.
fn group(op: &Op) -> Result<Option<usize>, Decline> {
    match op {
        Op::Conv(c) if c.residual => Err(Decline::new("an addition lies between")),
        Op::Conv(c) if c.activation.is_some() => Err(Decline::new("an activation lies between")),
        Op::Conv(c) => Ok(usize::try_from(c.group).ok()),
        Op::ConvTranspose(c) => Ok(usize::try_from(c.group).ok()),
        _ => Ok(None),
    }
}

pub(crate) fn constant(g: &Graph, v: Value) -> Result<&Tensor, Decline> {
    g.constant_of(v).ok_or(Decline::new("the weights or statistics are not constant"))
}

pub(crate) fn values(t: &Tensor) -> Result<Vec<f64>, Decline> {
    t.to_vec::<f64>().map_err(|_| Decline::new("the weights are no floats"))
}

/// Which output channel an element of the weights belongs to.
struct Channels {
    /// Output channels in a group.
    outer: usize,
    /// Elements that share a channel, side by side.
    run: usize,
    /// Elements after which a new group begins.
    group: usize,
}

impl Channels {
    fn of(&self, i: usize) -> usize {
        i / self.group * self.outer + i / self.run % self.outer
    }
}

/// Weights are `[M, C/group, ..]`, those of a transposed convolution `[C, M/group, ..]`.
fn channels(shape: &[usize], group: usize, transposed: bool) -> Channels {
    let product = |s: &[usize]| s.iter().product::<usize>().max(1);
    let part = product(shape) / group.max(1);
    match transposed {
        true => Channels { outer: shape[1].max(1), run: product(&shape[2..]), group: part.max(1) },
        false => {
            let outer = (shape[0] / group.max(1)).max(1);
            Channels { outer, run: product(&shape[1..]), group: part.max(1) }
        }
    }
}

/// A tensor of rounded values, all of which must be finite.
pub(crate) fn rounded(
    dtype: DType,
    shape: &[usize],
    data: impl Iterator<Item = f64>,
) -> Result<Tensor, Decline> {
    const OVERFLOW: Decline = Decline::new("a folded weight would not be finite");
    match_float!(dtype, T => {
        let data: Vec<T> = data.map(T::from_f64).collect();
        if data.iter().any(|x| !x.to_f64().is_finite()) {
            return Err(OVERFLOW);
        }
        Tensor::from_vec(shape, data).map_err(|_| OVERFLOW)
    }, else Err(Decline::new("the weights are no floats")))
}
