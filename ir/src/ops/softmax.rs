//! Normalization along an axis: Softmax, LogSoftmax, Hardmax and LpNormalization.
//!
//! ```text
//! y = Softmax(x: f32[N,C]) {axis=1}      y = exp(x) / sum(exp(x))
//! ```

use std::ops::RangeInclusive;

use half::{bf16, f16};
use kiln_tensor::shape::axis;
use kiln_tensor::{DType, Datum, Tensor};

use super::binary::Binary;
use super::layout::Layout;
use super::real::{Real, Ticks, abs, is_real, match_real, narrow, widen};
use super::reduce::{Reduce, ReduceKind};
use crate::eval::tensor;
use crate::{
    Attrs, Build, Built, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid, unsupported,
};

/// What is done with the elements along the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SoftmaxKind {
    /// The exponentials, divided by their sum.
    Soft,
    /// The logarithms of those.
    Log,
    /// 1 at the first greatest element, 0 elsewhere.
    Hard,
    /// The sum of the absolute values becomes 1; zeros stay.
    L1,
    /// The sum of the squares becomes 1; zeros stay.
    L2,
}

/// A normalization along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Softmax {
    /// What is done.
    pub kind: SoftmaxKind,
    /// The axis.
    pub axis: i64,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Softmax", since: 1, build: |b| flat(b, SoftmaxKind::Soft) },
    Schema { name: "Softmax", since: 13, build: |b| along(b, SoftmaxKind::Soft) },
    Schema { name: "LogSoftmax", since: 1, build: |b| flat(b, SoftmaxKind::Log) },
    Schema { name: "LogSoftmax", since: 13, build: |b| along(b, SoftmaxKind::Log) },
    Schema { name: "Hardmax", since: 1, build: |b| flat(b, SoftmaxKind::Hard) },
    Schema { name: "Hardmax", since: 13, build: |b| along(b, SoftmaxKind::Hard) },
    Schema {
        name: "LpNormalization",
        since: 1,
        build: |b| match b.take::<i64>("p")?.unwrap_or(2) {
            1 => along(b, SoftmaxKind::L1),
            2 => along(b, SoftmaxKind::L2),
            p => invalid!("p is {p}; it must be 1 or 2"),
        },
    },
    Schema { name: "MeanVarianceNormalization", since: 1, build: mean_variance },
];

fn along(b: &mut Build<'_>, kind: SoftmaxKind) -> Result<Built> {
    Ok(Softmax { kind, axis: b.take("axis")?.unwrap_or(-1) }.into())
}

/// Before opset 13, all axes from `axis` on are taken as one.
fn flat(b: &mut Build<'_>, kind: SoftmaxKind) -> Result<Built> {
    let first = b.take("axis")?.unwrap_or(1);
    let x = b.input(0)?;
    let dims = b.ty(x).as_tensor()?.shape.clone();
    let last = Softmax { kind, axis: -1 };
    if let Some(dims) = dims {
        let first = if first == dims.len() as i64 { dims.len() } else { axis(first, dims.len())? };
        let mut wide = (first..dims.len()).filter(|&i| dims[i].as_const() != Some(1));
        match (wide.next(), wide.next()) {
            (Some(only), None) => return Ok(Softmax { kind, axis: only as i64 }.into()),
            (None, _) if first < dims.len() => {
                return Ok(Softmax { kind, axis: first as i64 }.into());
            }
            _ => {}
        }
    } else if first < 0 {
        unsupported!("a negative `axis` needs an input of known rank; use opset 13 or later");
    }
    let shape = b.node(Layout::Shape { start: 0, end: None }, &[x])?;
    let rows = b.node(Layout::Flatten { axis: first }, &[x])?;
    let y = b.node(last, &[rows])?;
    Ok(b.node(Layout::Reshape { allow_zero: true }, &[y, shape])?.into())
}

/// `(x - mean) / (sqrt(mean((x - mean)^2)) + 1e-9)`.
fn mean_variance(b: &mut Build<'_>) -> Result<Built> {
    let axes = b.take("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let dtype = b.dtype(0)?;
    let x = b.input(0)?;
    let axes = b.constant(Tensor::vector(axes));
    let mean = Reduce { kind: ReduceKind::Mean, keepdims: true, noop_with_empty_axes: false };
    let center = b.node(mean, &[x, axes])?;
    let y = b.node(Binary::Sub, &[x, center])?;
    // The mean square of what is left is the variance, without the cancellation.
    let squares = b.node(Binary::Mul, &[y, y])?;
    let variance = b.node(mean, &[squares, axes])?;
    let deviation = b.call("Sqrt", &[Some(variance)], Attrs::default(), 1)?[0];
    let epsilon = match_real!(dtype, R => narrow(dtype, &[], vec![R::of(1e-9)])?,
        else invalid!("MeanVarianceNormalization takes no {dtype}"));
    let epsilon = b.constant(epsilon);
    let divisor = b.node(Binary::Add, &[deviation, epsilon])?;
    Ok(b.node(Binary::Div, &[y, divisor])?.into())
}

/// Rounds to halves, as ONNX's definition by standard operators does after each of them.
fn round<R: Real>(dtype: DType) -> fn(R) -> R {
    match dtype {
        DType::F16 => |x| R::of(f16::from_f64(x.to_f64()).to_f64()),
        DType::BF16 => |x| R::of(bf16::from_f64(x.to_f64()).to_f64()),
        _ => |x| x,
    }
}

impl SoftmaxKind {
    /// Normalizes the elements `x`.
    /// `round` rounds to the element type.
    fn run<R: Real>(self, x: &mut [R], round: impl Fn(R) -> R) {
        let peak = x.iter().copied().fold(R::LEAST, |a, b| if b > a { b } else { a });
        match self {
            SoftmaxKind::Soft => {
                x.iter_mut().for_each(|x| *x = round(round(*x - peak).exp()));
                let sum = round(R::of(x.iter().map(|x| x.to_f64()).sum()));
                x.iter_mut().for_each(|x| *x = *x / sum);
            }
            SoftmaxKind::Log => {
                let sum: f64 = x.iter().map(|&x| (x - peak).exp().to_f64()).sum();
                let log = R::of(sum.ln());
                x.iter_mut().for_each(|x| *x = *x - peak - log);
            }
            SoftmaxKind::Hard => {
                let at = x.iter().position(|&x| x == peak);
                x.iter_mut().enumerate().for_each(|(i, x)| {
                    *x = if Some(i) == at { R::ONE } else { R::ZERO };
                });
            }
            SoftmaxKind::L1 => divide(x, x.iter().map(|&x| abs(x).to_f64()).sum()),
            SoftmaxKind::L2 => {
                divide(x, x.iter().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt());
            }
        }
    }
}

/// Divides by the norm; by 1 where that is 0.
fn divide<R: Real>(x: &mut [R], norm: f64) {
    if norm != 0.0 {
        x.iter_mut().for_each(|x| *x = R::of(x.to_f64() / norm));
    }
}

impl Operator for Softmax {
    fn name(&self) -> &str {
        match self.kind {
            SoftmaxKind::Soft => "Softmax",
            SoftmaxKind::Log => "LogSoftmax",
            SoftmaxKind::Hard => "Hardmax",
            SoftmaxKind::L1 | SoftmaxKind::L2 => "LpNormalization",
        }
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
            .with("axis", (self.axis != -1).then_some(self.axis))
            .with("p", (self.kind == SoftmaxKind::L1).then_some(1i64))
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        let shape = cx.shape(0)?.map(<[Dim]>::to_vec);
        if let Some(shape) = &shape {
            axis(self.axis, shape.len())?;
        }
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let at = axis(self.axis, x.rank())?;
        if x.is_empty() {
            return Ok(vec![x.clone().into()]);
        }
        let inner: usize = x.shape()[at + 1..].iter().product();
        let n = x.shape()[at];
        let y = match_real!(x.dtype(), R => {
            let mut y = widen::<R>(x)?.into_owned();
            let mut column = vec![R::of(0.0); n];
            let mut ticks = Ticks::new(cx);
            for block in y.chunks_exact_mut(n * inner) {
                for i in 0..inner {
                    column.iter_mut().enumerate().for_each(|(k, c)| *c = block[k * inner + i]);
                    self.kind.run(&mut column, round::<R>(x.dtype()));
                    column.iter().enumerate().for_each(|(k, &c)| block[k * inner + i] = c);
                    ticks.add(n)?;
                }
            }
            narrow(x.dtype(), x.shape(), y)?
        }, else invalid!("{} takes no {}", self.name(), x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run1, t, types};
    use crate::schema::{NodeSpec, add};
    use crate::{Graph, Type, eval};

    fn of(op: &str, attrs: &str, x: &Tensor) -> Vec<f32> {
        let dims: Vec<String> = x.shape().iter().map(usize::to_string).collect();
        let text = format!("y = {op}(x: f32[{}]) {{{attrs}}}\nreturn y", dims.join(","));
        run1(&text, std::slice::from_ref(x)).expect("runs").to_vec().expect("floats")
    }

    #[test]
    fn rows_and_columns() {
        let ln3 = 3f32.ln();
        let x = t(&[2, 2], &[1000.0, 1000.0 + ln3, 0.0, ln3]);
        assert_close(&of("Softmax", "", &x), &[0.25, 0.75, 0.25, 0.75], 1e-4);
        let x = t(&[2, 2], &[0.0, 5.0, ln3, 5.0]);
        assert_close(&of("Softmax", "axis=0", &x), &[0.25, 0.5, 0.75, 0.5], 1e-6);
        let logs = [0.25f32, 0.5, 0.75, 0.5].map(f32::ln);
        assert_close(&of("LogSoftmax", "axis=0", &x), &logs, 1e-6);
        assert_eq!(of("Hardmax", "axis=0", &x), [0.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn norms() {
        let x = t(&[2, 2], &[3.0, -4.0, 0.0, 0.0]);
        assert_close(&of("LpNormalization", "", &x), &[0.6, -0.8, 0.0, 0.0], 1e-6);
        let x = t(&[2, 2], &[1.0, 0.0, -3.0, 0.0]);
        assert_close(&of("LpNormalization", "p=1, axis=0", &x), &[0.25, 0.0, -0.75, 0.0], 1e-6);
        let x = t(&[1, 1, 2, 1], &[1.0, 3.0]);
        assert_close(&of("MeanVarianceNormalization", "", &x), &[-1.0, 1.0], 1e-6);
    }

    /// The value of an operator of opset 11 for an input that may have any lengths.
    fn old(attrs: Attrs, x: &Tensor) -> (usize, Vec<f32>) {
        let mut g = Graph::new();
        let dims = (0..x.rank()).map(|i| Dim::sym(&format!("D{i}"))).collect();
        let v = g.input("x", Type::tensor(DType::F32, Some(dims)));
        let inputs = vec![Some(v)];
        let y = add(
            &mut g,
            NodeSpec { op: "Softmax", opset: 11, name: "y", inputs, attrs, outputs: 1 },
        );
        g.set_outputs(vec![("y".into(), y.expect("builds")[0])]);
        let nodes = g.order().expect("ordered").len();
        let out = eval::run(&g, &Context::default(), vec![x.clone().into()]).expect("runs");
        let y = out[0].as_tensor().expect("a tensor");
        assert_eq!(y.shape(), x.shape());
        (nodes, y.to_vec().expect("floats"))
    }

    #[test]
    fn old_versions_flatten() {
        let x = t(&[1, 2, 2], &[0.0; 4]);
        assert_eq!(old(Attrs::default(), &x).1, [0.25; 4]);
        let (nodes, y) = old(Attrs::default().with("axis", 2i64), &x);
        assert_eq!((nodes, y), (2, vec![0.5; 4]), "one axis needs no flattening");
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |text: &str| types(&format!("y = {text}\nreturn y"));
        assert_eq!(ty("Softmax(x: f16[N,C,3]) {axis=1}").expect("types"), ["f16[N,C,3]"]);
        assert!(ty("Softmax(x: f32[2]) {axis=1}").is_err());
        assert!(ty("Softmax(x: i32[2])").is_err());
        assert!(ty("LpNormalization(x: f32[2]) {p=3}").is_err());
        assert!(of("Softmax", "", &t(&[2, 0], &[])).is_empty());
        assert!(of("Softmax", "", &t(&[2], &[f32::NAN, 1.0]))[1].is_nan());
    }
}
