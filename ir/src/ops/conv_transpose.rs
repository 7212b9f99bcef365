//! Transposed convolutions: each input element adds a scaled kernel to the output.
//!
//! ```text
//! y = ConvTranspose(x: f32[N,C,H,W], w: f32[C,M/group,kH,kW], b: f32[M])
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::numel;
use kiln_tensor::{Datum, Number};

use crate::eval::{optional, tensor};
use crate::ops::conv::{add_bias, check_bias};
use crate::ops::real::{Ticks, axpy, is_real, match_real, narrow, widen};
use crate::ops::window::{AutoPad, Axis, Tap, Window};
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid};

/// A transposed convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose {
    /// The geometry, and what only transposed convolutions have.
    pub geometry: Box<Geometry>,
    /// How many groups the channels fall into.
    pub group: i64,
}

/// The geometry of a transposed convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// The window that the convolution would have.
    pub window: Window,
    /// Elements that only the end of the output has; 0 each where empty.
    pub output_padding: Vec<i64>,
    /// The spatial lengths of the output, which then decide the pads; empty where pads decide.
    pub output_shape: Vec<i64>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "ConvTranspose",
    since: 1,
    build: |b| {
        let window = Window::take(&mut b.attrs)?;
        let mut output_padding: Vec<i64> = b.take("output_padding")?.unwrap_or_default();
        if output_padding.iter().all(|&p| p == 0) {
            output_padding.clear();
        }
        let output_shape = b.take("output_shape")?.unwrap_or_default();
        let group = b.take("group")?.unwrap_or(1);
        let geometry = Box::new(Geometry { window, output_padding, output_shape });
        Ok(ConvTranspose { geometry, group }.into())
    },
}];

impl Geometry {
    /// The window along each axis with its pads set, and the lengths of the output.
    fn resolve(&self, input: &[Dim], kernel: &[i64]) -> Result<(Vec<Axis>, Vec<Dim>)> {
        let n = input.len();
        let shape = match self.output_shape.len() {
            // Some exporters write the batch and the channels, too.
            k if k == n + 2 => &self.output_shape[2..],
            k if k == 0 || k == n => &self.output_shape[..],
            k => invalid!("output_shape has {k} numbers for {n} spatial axes"),
        };
        if !self.output_padding.is_empty() && self.output_padding.len() != n {
            invalid!("output_padding has {} numbers, not {n}", self.output_padding.len());
        }
        let axes = self.window.axes(n, kernel)?;
        let each = axes.into_iter().zip(input).enumerate();
        each.map(|(i, (a, x))| {
            let extra = self.output_padding.get(i).copied().unwrap_or(0);
            spread(a, x, extra, shape.get(i).copied())
        })
        .collect()
    }
}

/// One axis with its pads set, and the length of the output along it.
fn spread(mut a: Axis, n: &Dim, extra: i64, want: Option<i64>) -> Result<(Axis, Dim)> {
    if !(0..1 << 30).contains(&extra) || want.is_some_and(|w| !(0..1 << 40).contains(&w)) {
        invalid!("output_padding {extra} or output_shape {want:?} makes no sense");
    }
    let steps = (n.clone() - Dim::from(1i64)) * Dim::from(a.stride);
    let full = steps + Dim::from(a.extent() + extra);
    let auto = a.auto != AutoPad::NotSet;
    let out = match want {
        Some(w) => Dim::from(w),
        None if auto => n.clone() * Dim::from(a.stride),
        None => full.clone() - Dim::from(a.begin + a.end),
    };
    if (auto || want.is_some())
        && let (Some(f), Some(o)) = (full.as_const(), out.as_const())
    {
        let total = (f - o).max(0);
        a.begin = if a.auto == AutoPad::SameUpper { total / 2 } else { total - total / 2 };
        a.end = total - a.begin;
    }
    match out.as_const() {
        Some(o) if o < 0 => invalid!("the pads are larger than the output"),
        _ => Ok((a, out)),
    }
}

impl ConvTranspose {
    /// The shape of the result, and the axes; `None` where too little is known.
    fn resolve(&self, x: &[Dim], w: &[Dim]) -> Result<Option<(Vec<Axis>, Vec<Dim>)>> {
        if x.len() < 2 || w.len() != x.len() {
            invalid!("x has rank {}, the weights have rank {}", x.len(), w.len());
        }
        if self.group < 1 {
            invalid!("group is {}", self.group);
        }
        match (x[1].as_const(), w[0].as_const()) {
            (Some(c), Some(k)) if c != k || c % self.group != 0 => {
                invalid!("x has {c} channels, the weights take {k} in {} groups", self.group)
            }
            _ => {}
        }
        let known: Option<Vec<i64>> = w[2..].iter().map(Dim::as_const).collect();
        let declared = &self.geometry.window.kernel_shape;
        let kernel = match known {
            Some(k) if !declared.is_empty() && k != *declared => {
                invalid!("kernel_shape is {declared:?}, the weights have {k:?}")
            }
            Some(k) => k,
            None if !declared.is_empty() => declared.clone(),
            None => return Ok(None),
        };
        let (axes, out) = self.geometry.resolve(&x[2..], &kernel)?;
        let mut shape = vec![x[0].clone(), w[1].clone() * Dim::from(self.group)];
        shape.extend(out);
        Ok(Some((axes, shape)))
    }

    fn run<T: Number>(
        &self,
        cx: &Context,
        (x_shape, x): (&[usize], &[T]),
        (w_shape, w): (&[usize], &[T]),
    ) -> Result<(Vec<usize>, Vec<T>)> {
        let dims = |s: &[usize]| s.iter().map(|&d| Dim::from(d)).collect::<Vec<_>>();
        let Some((axes, shape)) = self.resolve(&dims(x_shape), &dims(w_shape))? else {
            invalid!("the weights have no lengths");
        };
        let shape: Vec<usize> = shape.iter().filter_map(Dim::as_len).collect();
        let mut y = cx.zeros::<T>(&shape)?;
        if y.is_empty() || x.is_empty() {
            return Ok((shape, y));
        }
        let (area, plane) = (numel(&x_shape[2..])?, numel(&shape[2..])?);
        let taps = numel(&w_shape[2..])?;
        let groups = self.group as usize;
        let (inner, outer) = (x_shape[1] / groups, w_shape[1]);
        let mut ticks = Ticks::new(cx);
        for (i, y) in y.chunks_exact_mut(plane).enumerate() {
            let (n, m) = (i / shape[1], i % shape[1]);
            let (g, m) = (m / outer, m % outer);
            for c in g * inner..(g + 1) * inner {
                let x = &x[(n * x_shape[1] + c) * area..][..area];
                let w = &w[(c * outer + m) * taps..][..taps];
                for (tap, &w) in w.iter().enumerate() {
                    let tap = Tap::new(&axes, tap, &x_shape[2..], &shape[2..]);
                    tap.rows(|from, len, to, step| {
                        scatter(w, &x[from..][..len], &mut y[to..], step)
                    });
                    ticks.add(area)?;
                }
            }
        }
        Ok((shape, y))
    }
}

/// `y[i * step] += a * x[i]`.
pub(crate) fn scatter<T: Number>(a: T, x: &[T], y: &mut [T], step: usize) {
    if step == 1 {
        return axpy(a, x, y);
    }
    for (y, &x) in y.iter_mut().step_by(step).zip(x) {
        *y = y.plus(a.times(x));
    }
}

impl Operator for ConvTranspose {
    fn name(&self) -> &str {
        "ConvTranspose"
    }

    fn attrs(&self) -> Attrs {
        let g = &self.geometry;
        let list = |v: &Vec<i64>| (!v.is_empty()).then(|| v.clone());
        crate::ops::conv::write(&g.window, self.group)
            .with("output_padding", list(&g.output_padding))
            .with("output_shape", list(&g.output_shape))
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype(0..3)?;
        let (Some(x), Some(w)) = (cx.shape(0)?, cx.shape(1)?) else {
            let rank = cx.shape(0)?.or(cx.shape(1)?).map(<[Dim]>::len);
            let shape = rank.map(|r| cx.fresh_shape(r));
            return Ok(vec![Fact::tensor(dtype, shape)]);
        };
        let shape = match self.resolve(x, w)? {
            Some((_, shape)) => shape,
            None => cx.fresh_shape(x.len()),
        };
        if cx.has(2)
            && let Some(b) = cx.shape(2)?
        {
            check_bias(b, &shape[1])?;
        }
        Ok(vec![Fact::shaped(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, w) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let y = match_real!(x.dtype(), R => {
            let (a, b) = (widen::<R>(x)?, widen::<R>(w)?);
            let (shape, mut y) = self.run(cx, (x.shape(), &a), (w.shape(), &b))?;
            if let Some(b) = optional(inputs, 2)? {
                add_bias(&mut y, &shape, &widen::<R>(b)?)?;
            }
            narrow(x.dtype(), &shape, y)?
        }, else invalid!("ConvTranspose takes no {}", x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{run1, t, types};

    #[test]
    fn kernels_are_spread() {
        let x = t(&[1, 1, 3], &[1.0, 2.0, 3.0]);
        let w = t(&[1, 1, 2], &[1.0, 10.0]);
        let cases: &[(&str, &[f32])] = &[
            ("", &[1.0, 12.0, 23.0, 30.0]),
            ("{strides=[2]}", &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]),
            ("{strides=[2], output_padding=[1]}", &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 0.0]),
            ("{pads=[1,0]}", &[12.0, 23.0, 30.0]),
            ("{dilations=[2]}", &[1.0, 2.0, 13.0, 20.0, 30.0]),
            ("{strides=[2], output_shape=[5]}", &[10.0, 2.0, 20.0, 3.0, 30.0]),
            ("{auto_pad=\"SAME_UPPER\"}", &[1.0, 12.0, 23.0]),
            ("{auto_pad=\"SAME_LOWER\"}", &[12.0, 23.0, 30.0]),
        ];
        for (attrs, want) in cases {
            let text = format!("y = ConvTranspose(x: f32[1,1,3], w: f32[1,1,2]) {attrs}\nreturn y");
            let y = run1(&text, &[x.clone(), w.clone()]).expect("runs");
            assert_eq!(y, t(&[1, 1, want.len()], want), "{attrs}");
        }
    }

    #[test]
    fn groups_and_bias() {
        let text = "y = ConvTranspose(x: f32[1,2,1,2], w: f32[2,2,1,1], b: f32[4]) {group=2}\n\
                    return y";
        let inputs = [
            t(&[1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0]),
            t(&[2, 2, 1, 1], &[1.0, 10.0, 1.0, -1.0]),
            t(&[4], &[0.0, 0.0, 0.5, 0.0]),
        ];
        let y = run1(text, &inputs).expect("runs");
        assert_eq!(y, t(&[1, 4, 1, 2], &[1.0, 2.0, 10.0, 20.0, 3.5, 4.5, -3.0, -4.0]));
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |op: &str| types(&format!("y = {op}\nreturn y"));
        let twice = ty("ConvTranspose(x: f32[N,3,H], w: f32[3,8,2]) {strides=[2]}");
        assert_eq!(twice.expect("types"), ["f32[N,8,2*H]"]);
        for wrong in [
            "ConvTranspose(x: f32[1,3,8], w: f32[2,8,2])",
            "ConvTranspose(x: f32[1,3,8], w: f32[3,8,2]) {output_shape=[1,2]}",
            "ConvTranspose(x: f32[1,3,8], w: f32[3,8,2]) {output_shape=[-4]}",
            "ConvTranspose(x: f32[1,3,8], w: f32[3,8,2]) {pads=[100,0]}",
        ] {
            assert!(ty(wrong).is_err(), "{wrong}");
        }
    }
}
