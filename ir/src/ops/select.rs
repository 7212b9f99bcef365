//! Elements picked by a condition (Where) or by two bounds (Clip).

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Number, Tensor, match_element, match_number, shape};

use super::binary::{POLL, is_plain};
use super::cast::{RoundMode, convert};
use super::layout::known_dims;
use crate::eval::{optional, tensor};
use crate::{Attrs, Build, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, invalid};

/// A choice between elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// Where input 0 is true the element of input 1, else that of input 2.
    Where,
    /// `min(max(x, lower), upper)` with scalar bounds; NaN stays NaN.
    Clip,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Where", since: 9, build: |_| Ok(Select::Where.into()) },
    Schema {
        name: "Clip",
        since: 1,
        build: |b| {
            b.take::<Vec<i64>>("consumed_inputs")?;
            bound(b, "min", 1, None)?;
            bound(b, "max", 2, None)?;
            Ok(Select::Clip.into())
        },
    },
    Schema {
        name: "Clip",
        since: 6,
        build: |b| {
            bound(b, "min", 1, Some(f32::MIN))?;
            bound(b, "max", 2, Some(f32::MAX))?;
            Ok(Select::Clip.into())
        },
    },
    Schema { name: "Clip", since: 11, build: |_| Ok(Select::Clip.into()) },
];

/// Moves a bound from an attribute, or its default, to input `i`.
fn bound(b: &mut Build<'_>, name: &str, i: usize, default: Option<f32>) -> Result<()> {
    if let Some(x) = b.take::<f32>(name)?.or(default) {
        let x = convert(&Tensor::scalar(x), b.dtype(0)?, true, RoundMode::Up)?;
        let v = b.constant(x);
        b.set_input(i, Some(v));
    }
    Ok(())
}

impl Operator for Select {
    fn name(&self) -> &str {
        match self {
            Select::Where => "Where",
            Select::Clip => "Clip",
        }
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
    }

    fn traits(&self) -> Traits {
        Traits::ELEMENTWISE
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Select::Where => 3..=3,
            Select::Clip => 1..=3,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        match self {
            Select::Where => infer_where(cx),
            Select::Clip => infer_clip(cx),
        }
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let y = match self {
            Select::Where => pick(cx, x, tensor(inputs, 1)?, tensor(inputs, 2)?)?,
            Select::Clip => match_number!(x.dtype(), T => {
                let (lower, upper) = (limit::<T>(inputs, 1)?, limit::<T>(inputs, 2)?);
                let data = x.as_slice::<T>()?.iter().map(|&v| clip(v, lower, upper)).collect();
                Tensor::from_vec(x.shape(), data)?
            }, else invalid!("Clip takes no {}", x.dtype())),
        };
        Ok(vec![y.into()])
    }
}

fn infer_where(cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
    cx.dtype_in(0, |d| d == DType::Bool)?;
    let dtype = cx.same_dtype(1..3)?;
    let shape = cx.broadcast(0..3)?;
    // A condition on lengths knows its answers as 0 and 1.
    let condition = match cx.constant(0) {
        Some(t) if t.rank() < 2 && t.len() <= 64 => {
            Some(t.to_vec::<i64>()?.into_iter().map(Dim::from).collect())
        }
        _ => cx.dims(0),
    };
    let dims = match (condition, known_dims(cx, 1), known_dims(cx, 2)) {
        (Some(c), Some(a), Some(b)) => pick_dims(&c, &a, &b),
        _ => None,
    };
    Ok(vec![Fact::tensor(dtype, shape).with_dims(dims)])
}

fn pick_dims(condition: &[Dim], a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let all = [condition, a, b];
    let n = all.iter().map(|v| v.len()).find(|&n| n != 1).unwrap_or(1);
    let at =
        |v: &[Dim], i: usize| if v.len() == 1 { v.first().cloned() } else { v.get(i).cloned() };
    if all.iter().any(|v| v.len() != 1 && v.len() != n) {
        return None;
    }
    let one = |i| if at(condition, i)?.as_const()? != 0 { at(a, i) } else { at(b, i) };
    (0..n).map(one).collect()
}

fn infer_clip(cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
    let dtype = cx.dtype_in(0, is_plain)?;
    cx.same_dtype(0..cx.len())?;
    for i in (1..3).filter(|&i| cx.has(i)).collect::<Vec<_>>() {
        let len = cx.shape(i)?.and_then(|s| super::layout::product(s).as_const());
        if len.is_some_and(|n| n != 1) {
            invalid!("bound {i} must be a scalar");
        }
    }
    let only = |d: Option<Vec<Dim>>| d.and_then(|d| d.into_iter().next());
    let (lower, upper) = (only(known_dims(cx, 1)), only(known_dims(cx, 2)));
    let open = (cx.has(1) && lower.is_none()) || (cx.has(2) && upper.is_none());
    let dims = known_dims(cx, 0).filter(|_| !open);
    let clip = |d: Dim| {
        let d = lower.as_ref().map_or(d.clone(), |l| d.larger(l));
        upper.as_ref().map_or(d.clone(), |u| d.clone() + u.clone() - d.larger(u))
    };
    let dims = dims.map(|d| d.into_iter().map(clip).collect());
    Ok(vec![Fact::tensor(dtype, cx.shape(0)?.map(<[_]>::to_vec)).with_dims(dims)])
}

/// The value within its bounds; above the upper one wins.
pub fn clip<T: Number>(x: T, lower: Option<T>, upper: Option<T>) -> T {
    let x = lower.map_or(x, |l| if x < l { l } else { x });
    upper.map_or(x, |u| if x > u { u } else { x })
}

fn limit<T: Number>(inputs: &[Option<&Datum>], i: usize) -> Result<Option<T>> {
    match optional(inputs, i)? {
        Some(t) if t.len() != 1 => {
            invalid!("bound {i} must be a scalar, it has shape {:?}", t.shape())
        }
        Some(t) => Ok(t.as_slice::<T>()?.first().copied()),
        None => Ok(None),
    }
}

fn pick(cx: &Context, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dtype() != b.dtype() {
        invalid!("Where picks from {} and {}: they must have one type", a.dtype(), b.dtype());
    }
    let out = shape::broadcast(&shape::broadcast(condition.shape(), a.shape())?, b.shape())?;
    let n = cx.numel(a.dtype(), &out)?;
    let at = |t: &Tensor| shape::offsets(&out, &shape::broadcast_strides(t.shape(), &out));
    let condition_at = condition.as_slice::<bool>()?;
    let places = at(condition).map(|i| condition_at[i]).zip(at(a).zip(at(b)));
    if a.dtype() == DType::String {
        let (x, y) = (a.strings()?, b.strings()?);
        let data = places.map(|(c, (i, j))| if c { x[i].clone() } else { y[j].clone() });
        return Ok(Tensor::from_strings(&out, data.collect())?);
    }
    match_element!(a.dtype(), T => {
        let (x, y) = (a.as_slice::<T>()?, b.as_slice::<T>()?);
        let mut data = Vec::with_capacity(n);
        for (k, (c, (i, j))) in places.enumerate() {
            if k % POLL == 0 {
                cx.cancel.poll()?;
            }
            data.push(if c { x[i] } else { y[j] });
        }
        Ok(Tensor::from_vec(&out, data)?)
    }, else invalid!("Where takes no {}", a.dtype()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::ops::testing::{run1, types};
    use crate::schema::{NodeSpec, add};

    #[test]
    fn where_broadcasts_three_ways() {
        let y = run1(
            "y = Where(c: bool[2,1], a: i32[3], b: i32[])\nreturn y",
            &[
                Tensor::from_vec(&[2, 1], vec![true, false]).expect("2x1"),
                Tensor::vector(vec![1, 2, 3]),
                Tensor::scalar(0),
            ],
        );
        let want = Tensor::from_vec(&[2, 3], vec![1, 2, 3, 0, 0, 0]).expect("2x3");
        assert_eq!(y.expect("runs"), want);
        let s = |v: &str| Tensor::from_strings(&[1], vec![v.to_owned()]).expect("one");
        let y = run1(
            "y = Where(c: bool[1], a: str[1], b: str[1])\nreturn y",
            &[Tensor::vector(vec![true]), s("a"), s("b")],
        );
        assert_eq!(y.expect("runs"), s("a"));
        assert!(types("y = Where(c: bool[1], a: f32[1], b: f64[1])\nreturn y").is_err());
    }

    #[test]
    fn clipping() {
        let run = |args: &str, rest: &[f32]| {
            let mut inputs = vec![Tensor::vector(vec![-2f32, 0.0, 2.0, f32::NAN])];
            inputs.extend(rest.iter().map(|&v| Tensor::scalar(v)));
            let y = run1(&format!("y = Clip(x: f32[4]{args})\nreturn y"), &inputs).expect("runs");
            y.as_slice::<f32>().expect("f32")[..3].to_vec()
        };
        assert_eq!(run("", &[]), [-2.0, 0.0, 2.0]);
        assert_eq!(run(", l: f32[]", &[-1.0]), [-1.0, 0.0, 2.0]);
        assert_eq!(run(", _, u: f32[]", &[1.0]), [-2.0, 0.0, 1.0]);
        assert_eq!(run(", l: f32[], u: f32[]", &[1.0, -1.0]), [-1.0, -1.0, -1.0]);
        assert!(types("y = Clip(x: f32[2], l: f32[2])\nreturn y").is_err());
        assert!(types("y = Clip(x: f32[2], l: f64[])\nreturn y").is_err());
    }

    #[test]
    fn bounds_were_attributes_once() {
        let mut g = Graph::new();
        let x = g.input("x", crate::Type::tensor(DType::F16, Some(vec![Dim::sym("N")])));
        let attrs = Attrs::default().with("max", 6f32).with("min", 0f32);
        let spec =
            NodeSpec { op: "Clip", opset: 6, name: "y", inputs: vec![Some(x)], attrs, outputs: 1 };
        let y = add(&mut g, spec).expect("builds")[0];
        let bounds: Vec<_> =
            (1..3).map(|i| g.input_of(y.node, i).and_then(|v| g.constant_of(v))).collect();
        assert_eq!(bounds[1].map(|t| (t.dtype(), t.rank())), Some((DType::F16, 0)));
        assert_eq!(bounds[1].and_then(|t| t.to_scalar::<f32>().ok()), Some(6.0));
        assert_eq!(bounds[0].and_then(|t| t.to_scalar::<f32>().ok()), Some(0.0));
    }

    #[test]
    fn opset_6_clips_infinity() {
        let bound = |opset: i64, i: usize| {
            let mut g = Graph::new();
            let x = Some(g.input("x", crate::Type::tensor(DType::F32, Some(vec![]))));
            let attrs = Attrs::default();
            let spec =
                NodeSpec { op: "Clip", opset, name: "y", inputs: vec![x], attrs, outputs: 1 };
            let y = add(&mut g, spec).expect("builds")[0];
            let v = g.input_of(y.node, i).and_then(|v| g.constant_of(v));
            v.map(|t| t.to_scalar::<f32>().expect("a number"))
        };
        assert_eq!([bound(6, 1), bound(6, 2)], [Some(f32::MIN), Some(f32::MAX)]);
        assert_eq!([bound(1, 1), bound(11, 2)], [None, None]);
    }

    #[test]
    fn nan_stays_nan() {
        assert!(clip(f32::NAN, Some(0.0), Some(1.0)).is_nan());
    }
}
