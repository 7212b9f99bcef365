//! Names the normalizations that exporters spell out.
//!
//! ```text
//! m = ReduceMean(x, [-1])
//! d = Sub(x, m)
//! q = Pow(d, 2)
//! v = ReduceMean(q, [-1])
//! e = Add(v, 1e-5)
//! r = Sqrt(e)
//! y = Div(d, r)              =>   y = LayerNormalization(x, ones)
//! ```
//!
//! Without the difference it is an `RMSNormalization`; over all axes behind the channels, of which
//! there are two or more, an `InstanceNormalization`. Saves six passes over `x` of seven. Not
//! exact: sums are taken in another order.

use kiln_ir::ops::reduce::Reduce;
use kiln_ir::{
    Attrs, Decline, Dim, Edit, Graph, Match, NodeId, Op, Rewrite, Source, Value, Verdict,
};
use kiln_tensor::{DType, Scalar, Tensor, match_float};

use crate::forms::{Forms, ints, scalar};

/// See the module.
pub struct Norm {
    divided: Forms,
    centered: Forms,
}

/// `1 / sqrt(mean(d * d) + e)` in one of its forms, times `d`.
macro_rules! spread {
    () => {
        "Add(v@ReduceMean([Pow(d, 2) | Mul(d, d)], ..), $e)"
    };
}

impl Norm {
    /// The rule with its forms.
    pub fn new() -> Self {
        Self {
            divided: Forms::new(&[
                concat!("Div(d, Sqrt(", spread!(), "))"),
                concat!("Div(d, Pow(", spread!(), ", 0.5))"),
                concat!("Mul(d, Reciprocal(Sqrt(", spread!(), ")))"),
                concat!("Mul(d, Div(1, Sqrt(", spread!(), ")))"),
                concat!("Mul(d, Pow(", spread!(), ", -0.5))"),
            ]),
            centered: Forms::new(&["Sub(x, m@ReduceMean(x, ..))"]),
        }
    }
}

impl Default for Norm {
    fn default() -> Self {
        Self::new()
    }
}

impl Rewrite for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(outer) = self.divided.find(g, root) else { return Ok(None) };
        let (Some(d), Some(e)) = (outer.get("d"), outer.get("e")) else { return Ok(None) };
        let Some(epsilon) = scalar(g, e) else {
            return Err(Decline::new("what is added to the variance is no single constant"));
        };
        let inner = self.centered.find_value(g, d).filter(|m| {
            let axes = |m: &Match, name| m.node(name).and_then(|n| trailing(g, n).ok());
            axes(m, "m").is_some() && axes(m, "m") == axes(&outer, "v")
        });
        let x = inner.as_ref().and_then(|m| m.get("x")).unwrap_or(d);
        let Some(v) = outer.node("v") else { return Ok(None) };
        let axis = trailing(g, v)?;
        let attrs = Attrs::default().with("epsilon", epsilon as f32);
        let mut edit = Edit::default();
        let y = match channels(g, x, axis).filter(|_| inner.is_some()) {
            Some((ones, zeros)) => {
                let (ones, zeros) = (edit.constant(ones), edit.constant(zeros));
                edit.call("InstanceNormalization", &[x.into(), ones, zeros].map(Some), attrs)
            }
            None => {
                let ones = trailing_ones(g, x, axis).ok_or(
                    Decline::new("a length that is normalized over is unknown")
                        .advise("fix its symbol with --dim NAME=N"),
                )?;
                let name = if inner.is_some() { "LayerNormalization" } else { "RMSNormalization" };
                let ones = edit.constant(ones);
                edit.call(name, &[Source::from(x), ones].map(Some), attrs.with("axis", axis))
            }
        };
        edit.replace(root.first(), y);
        edit.absorb_below(outer.nodes());
        inner.iter().flat_map(|m| m.nodes()).for_each(|n| edit.absorb(n.first()));
        Ok(Some(edit))
    }
}

/// The first axis that a node takes the mean over, from the end, where it is over all after it.
fn trailing(g: &Graph, node: NodeId) -> Result<i64, Decline> {
    let Op::Reduce(Reduce { keepdims, .. }) = g.op(node) else {
        return Err(Decline::new("no mean"));
    };
    let (Some(x), Some(axes)) = (g.input_of(node, 0), g.input_of(node, 1)) else {
        return Err(Decline::new("the mean is over all axes"));
    };
    let axes = ints(g, axes).ok_or(Decline::new("the axes are not constant"))?;
    let rank = g.ty(x).rank().ok_or(Decline::new("the rank is unknown"))? as i64;
    let mut axes: Vec<i64> = axes.iter().map(|a| if *a < 0 { *a } else { a - rank }).collect();
    axes.sort_unstable();
    let last = axes.iter().rev().zip(1..).all(|(a, i)| *a == -i);
    match (last && *keepdims, axes.first()) {
        (true, Some(&first)) => Ok(first),
        _ => Err(Decline::new("the mean is not over the last axes, or does not keep them")),
    }
}

/// A scale and a bias that change nothing, for each channel, where all of two or more axes behind
/// the channels are normalized.
fn channels(g: &Graph, x: Value, axis: i64) -> Option<(Tensor, Tensor)> {
    let ty = g.ty(x).as_tensor().ok()?;
    let dims = ty.shape.as_ref().filter(|d| d.len() >= 4 && axis == 2 - d.len() as i64)?;
    let n = [dims[1].as_len()?];
    Some((filled(ty.dtype, &n, 1.0)?, filled(ty.dtype, &n, 0.0)?))
}

/// Ones in the shape of the axes from `axis`, in the type of `x`.
fn trailing_ones(g: &Graph, x: Value, axis: i64) -> Option<Tensor> {
    let ty = g.ty(x).as_tensor().ok()?;
    let dims = ty.shape.as_ref()?;
    let first = dims.len().checked_add_signed(isize::try_from(axis).ok()?)?;
    let shape: Vec<usize> = dims[first..].iter().map(Dim::as_len).collect::<Option<_>>()?;
    filled(ty.dtype, &shape, 1.0)
}

/// A tensor of floats that are all `x`.
fn filled(dtype: DType, shape: &[usize], x: f64) -> Option<Tensor> {
    let n = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    match_float!(dtype, T => {
        Tensor::from_vec::<T>(shape, vec![<T as Scalar>::from_f64(x); n]).ok()
    }, else None)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn names_layer_normalization() {
        check(
            &Norm::new(),
            "a = i64[1]{-1}\ntwo = f32[]{2.0}\neps = f32[]{0.5}\nm = ReduceMean(x: f32[N,3], a)\n\
             d = Sub(x, m)\nq = Pow(d, two)\nv = ReduceMean(q, a)\ns = Add(eps, v)\nr = Sqrt(s)\n\
             y = Div(d, r)\nreturn y",
            expect![[r#"
                x: f32[N,3]
                y/norm0 = f32[3]{1.0, 1.0, 1.0}
                y, y#1, y#2 = LayerNormalization(x, y/norm0) {epsilon=0.5}
                return y
            "#]],
        );
    }

    #[test]
    fn names_root_mean_square_over_two_axes() {
        check(
            &Norm::new(),
            "a = i64[2]{1, 2}\none = f32[]{1.0}\neps = f32[1]{0.5}\nq = Mul(x: f32[N,2,2], x)\n\
             v = ReduceMean(q, a)\ns = Add(v, eps)\nr = Sqrt(s)\ni = Div(one, r)\n\
             y = Mul(i, x)\nreturn y",
            expect![[r#"
                x: f32[N,2,2]
                y/norm0 = f32[2,2]{1.0, 1.0, 1.0, 1.0}
                y = RMSNormalization(x, y/norm0) {axis=-2, epsilon=0.5}
                return y
            "#]],
        );
    }

    #[test]
    fn names_instance_normalization_of_images() {
        check(
            &Norm::new(),
            "a = i64[2]{2, 3}\neps = f32[]{0.5}\nm = ReduceMean(x: f32[N,2,H,W], a)\n\
             d = Sub(x, m)\nq = Mul(d, d)\nv = ReduceMean(q, a)\ns = Add(v, eps)\nr = Sqrt(s)\n\
             y = Div(d, r)\nreturn y",
            expect![[r#"
                x: f32[N,2,H,W]
                y/norm0 = f32[2]{1.0, 1.0}
                y/norm1 = f32[2]{0.0, 0.0}
                y = InstanceNormalization(x, y/norm0, y/norm1) {epsilon=0.5}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_other_axes_and_unknown_lengths() {
        check(
            &Norm::new(),
            "a = i64[1]{0}\nb = i64[1]{-1}\neps = f32[]{0.5}\nq = Mul(x: f32[3,N], x)\n\
             v = ReduceMean(q, a)\ns = Add(v, eps)\nr = Sqrt(s)\ny = Div(x, r)\n\
             w = ReduceMean(q, b)\nt = Add(w, eps)\nu = Sqrt(t)\nz = Div(x, u)\nreturn y, z",
            expect![[r#"
                (unchanged)
                # norm @ y: the mean is not over the last axes, or does not keep them
                # norm @ z: a length that is normalized over is unknown
            "#]],
        );
    }
}
