//! Convolutions over any number of spatial axes, with a fused activation.
//!
//! ```text
//! y = Conv(x: f32[N,C,H,W], w: f32[M,C/group,kH,kW], b: f32[M])      y: f32[N,M,oH,oW]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::numel;
use kiln_tensor::{DType, Datum, Number};

use crate::eval::{optional, tensor};
use crate::ops::activation::Activation;
use crate::ops::binary::Binary;
use crate::ops::real::{Ticks, axpy, is_real, match_real, narrow, widen};
use crate::ops::window::{Axis, Tap, Window};
use crate::{
    Attrs, Build, Built, Context, Dim, Error, Fact, Graph, Infer, Operator, Result, Schema, Type,
    invalid,
};

/// A convolution and what is applied to its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// The geometry.
    pub window: Box<Window>,
    /// How many groups the channels fall into.
    pub group: i64,
    /// What is applied to the result.
    pub activation: Option<Activation>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Conv", since: 1, build: |b| Ok(Conv::take(&mut b.attrs)?.into()) },
    Schema { name: "ai.kiln.Conv", since: 1, build: |b| Ok(Conv::take(&mut b.attrs)?.into()) },
    Schema { name: "com.microsoft.FusedConv", since: 1, build: fused },
];

/// A convolution, a fourth input that is added to it, an activation.
fn fused(b: &mut Build<'_>) -> Result<Built> {
    let mut conv = Conv::take(&mut b.attrs)?;
    let Some(z) = b.inputs.get(3).copied().flatten() else { return Ok(conv.into()) };
    let activation = conv.activation.take();
    let dtype = b.dtype(0)?;
    let name = b.name.clone();
    let y = b.graph.add(&name, conv, &b.inputs[..3])?.first();
    let mut y = b.node(Binary::Add, &[y, z])?;
    if let Some(a) = activation {
        y = a.add(b.graph, &name, dtype, y)?;
    }
    Ok(y.into())
}

impl Conv {
    fn take(attrs: &mut Attrs) -> Result<Self> {
        Ok(Self {
            group: attrs.take("group")?.unwrap_or(1),
            activation: Activation::take(attrs)?,
            window: Box::new(Window::take(attrs)?),
        })
    }

    /// The convolution and its activation as two standard nodes; `None` where there is no
    /// activation.
    pub fn expansion(&self) -> Option<Graph> {
        let activation = self.activation?;
        let mut g = Graph::new();
        let operands =
            ["x", "w", "b"].map(|name| Some(g.input(name, Type::tensor(DType::F32, None))));
        let conv = Conv { activation: None, ..self.clone() };
        let y = g.add("conv", conv, &operands).ok()?.first();
        let y = activation.add(&mut g, "y", DType::F32, y).ok()?;
        g.set_outputs(vec![("y".into(), y)]);
        Some(g)
    }
}

/// The attributes that every convolution writes.
pub(crate) fn write(window: &Window, group: i64) -> Attrs {
    window.write().with("group", (group != 1).then_some(group))
}

/// The shape of a convolution; `None` where too little is known.
pub(crate) fn conv_dims(
    window: &Window,
    group: i64,
    x: Option<&[Dim]>,
    w: Option<&[Dim]>,
) -> Result<Option<Vec<Dim>>> {
    let (Some(x), Some(w)) = (x, w) else { return Ok(None) };
    if x.len() < 2 || w.len() != x.len() {
        invalid!("x has rank {}, the weights have rank {}", x.len(), w.len());
    }
    if group < 1 {
        invalid!("group is {group}");
    }
    if let (Some(c), Some(k)) = (x[1].as_const(), w[1].as_const())
        && k.checked_mul(group) != Some(c)
    {
        invalid!("the weights take {k} channels in each of {group} groups, x has {c}");
    }
    if w[0].as_const().is_some_and(|m| m % group != 0) {
        invalid!("{} output channels do not fall into {group} groups", w[0]);
    }
    let kernel: Option<Vec<i64>> = w[2..].iter().map(Dim::as_const).collect();
    let kernel = match kernel {
        Some(k) if !window.kernel_shape.is_empty() && k != window.kernel_shape => {
            invalid!("kernel_shape is {:?}, the weights have {k:?}", window.kernel_shape)
        }
        Some(k) => k,
        None if !window.kernel_shape.is_empty() => window.kernel_shape.clone(),
        None => return Ok(None),
    };
    let mut out = vec![x[0].clone(), w[0].clone()];
    for (axis, n) in window.axes(x.len() - 2, &kernel)?.iter().zip(&x[2..]) {
        out.push(axis.positions(n)?);
    }
    Ok(Some(out))
}

/// The shape of a convolution of inputs 0 and `w`; lengths that are not known are new symbols.
pub(crate) fn infer_dims(
    window: &Window,
    group: i64,
    cx: &mut Infer<'_>,
    w: usize,
) -> Result<Option<Vec<Dim>>> {
    let (x, w) = (cx.shape(0)?, cx.shape(w)?);
    if let Some(out) = conv_dims(window, group, x, w)? {
        return Ok(Some(out));
    }
    let Some(rank) = x.or(w).map(<[Dim]>::len) else { return Ok(None) };
    let mut out = cx.fresh_shape(rank.max(2));
    for (out, d) in out.iter_mut().zip([x.and_then(<[Dim]>::first), w.and_then(<[Dim]>::first)]) {
        *out = d.cloned().unwrap_or_else(|| out.clone());
    }
    Ok(Some(out))
}

/// The lengths of a convolution at work.
pub(crate) struct Shapes {
    /// The shape of the result.
    pub(crate) shape: Vec<usize>,
    pub(crate) groups: usize,
    /// Input channels of one group.
    pub(crate) inner: usize,
    /// Output channels of one group.
    pub(crate) outer: usize,
    pub(crate) axes: Vec<Axis>,
    pub(crate) input: Vec<usize>,
    pub(crate) output: Vec<usize>,
}

impl Shapes {
    /// The lengths for concrete shapes; axes may be merged.
    pub(crate) fn of(window: &Window, group: i64, x: &[usize], w: &[usize]) -> Result<Self> {
        Self::unmerged(window, group, x, w)?.merged()
    }

    /// The lengths for concrete shapes.
    pub(crate) fn unmerged(window: &Window, group: i64, x: &[usize], w: &[usize]) -> Result<Self> {
        let dims = |s: &[usize]| s.iter().map(|&d| Dim::from(d)).collect::<Vec<_>>();
        if conv_dims(window, group, Some(&dims(x)), Some(&dims(w)))?.is_none() {
            return Err(Error::bug("the shape of a convolution is unknown"));
        }
        let kernel: Vec<i64> = w[2..].iter().map(|&k| k as i64).collect();
        let axes = window.axes(x.len() - 2, &kernel)?;
        let resolved: Result<Vec<_>> =
            axes.into_iter().zip(&x[2..]).map(|(a, &n)| a.resolve(n)).collect();
        let (axes, output) = resolved?.into_iter().unzip();
        let groups = group as usize;
        let (inner, outer) = (w[1], w[0] / groups);
        let mut shape = vec![x[0], w[0]];
        shape.extend(&output);
        let input = x[2..].to_vec();
        Ok(Self { shape, groups, inner, outer, axes, input, output })
    }

    /// Axes with nothing but single taps are one axis.
    fn merged(mut self) -> Result<Self> {
        let point = |a: &Axis| (a.kernel, a.stride, a.begin, a.end) == (1, 1, 0, 0);
        if self.axes.iter().all(point) {
            let n = numel(&self.input)?;
            self.axes.truncate(1);
            (self.input, self.output) = (vec![n], vec![n]);
        }
        Ok(self)
    }
}

/// The convolution of `x` with `w`: each sum runs over the channels of the group, then over
/// the taps; taps in the padding are left out.
pub(crate) fn correlate<T: Number>(cx: &Context, s: &Shapes, x: &[T], w: &[T]) -> Result<Vec<T>> {
    let mut y = cx.zeros::<T>(&s.shape)?;
    let (plane, area) = (numel(&s.output)?, numel(&s.input)?);
    let taps: usize = s.axes.iter().map(|a| a.kernel as usize).product();
    if y.is_empty() || area == 0 || s.inner == 0 {
        return Ok(y);
    }
    let mut ticks = Ticks::new(cx);
    let channels = s.groups * s.outer;
    for (i, y) in y.chunks_exact_mut(plane).enumerate() {
        let (n, m) = (i / channels, i % channels);
        let first = (n * s.groups + m / s.outer) * s.inner;
        let x = &x[first * area..][..s.inner * area];
        let w = &w[m * s.inner * taps..][..s.inner * taps];
        for (x, w) in x.chunks_exact(area).zip(w.chunks_exact(taps)) {
            for (tap, &w) in w.iter().enumerate() {
                let tap = Tap::new(&s.axes, tap, &s.output, &s.input);
                tap.rows(|o, len, i, step| {
                    let (x, y) = (&x[i..], &mut y[o..o + len]);
                    match step {
                        1 => axpy(w, &x[..len], y),
                        _ => axpy_from(w, x.iter().step_by(step), y),
                    }
                });
                ticks.add(plane)?;
            }
        }
    }
    Ok(y)
}

/// `y[i] += a * x[i]`.
fn axpy_from<'a, T: Number>(a: T, x: impl Iterator<Item = &'a T>, y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = y.plus(a.times(x));
    }
}

/// Checks that a bias has one element for each channel.
pub(crate) fn check_bias(bias: &[Dim], channels: &Dim) -> Result<()> {
    match (bias, channels.as_const()) {
        ([b], Some(m)) if b.as_const().is_some_and(|b| b != m) => {
            invalid!("the bias has {b} elements for {m} channels")
        }
        ([_], _) => Ok(()),
        _ => invalid!("the bias has rank {}, not 1", bias.len()),
    }
}

/// Adds one element of `bias` to each channel of `y`, whose shape is `[N, channels, ..]`.
pub(crate) fn add_bias<T: Number>(y: &mut [T], shape: &[usize], bias: &[T]) -> Result<()> {
    if bias.len() != shape[1] {
        invalid!("the bias has {} elements for {} channels", bias.len(), shape[1]);
    }
    if y.is_empty() {
        return Ok(());
    }
    let plane: usize = shape[2..].iter().product();
    for (y, &b) in y.chunks_exact_mut(plane).zip(bias.iter().cycle()) {
        y.iter_mut().for_each(|y| *y = y.plus(b));
    }
    Ok(())
}

impl Operator for Conv {
    fn name(&self) -> &str {
        if self.activation.is_some() { "ai.kiln.Conv" } else { "Conv" }
    }

    fn attrs(&self) -> Attrs {
        let attrs = write(&self.window, self.group);
        self.activation.map_or(attrs.clone(), |a| a.put(attrs))
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype(0..3)?;
        let out = infer_dims(&self.window, self.group, cx, 1)?;
        if cx.has(2)
            && let (Some(b), Some(y)) = (cx.shape(2)?, &out)
        {
            check_bias(b, &y[1])?;
        }
        Ok(vec![Fact::tensor(dtype, out)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, w) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let s = Shapes::of(&self.window, self.group, x.shape(), w.shape())?;
        let y = match_real!(x.dtype(), R => {
            let mut y = correlate(cx, &s, &widen::<R>(x)?, &widen::<R>(w)?)?;
            if let Some(b) = optional(inputs, 2)? {
                add_bias(&mut y, &s.shape, &widen::<R>(b)?)?;
            }
            if let Some(a) = self.activation {
                // What is fused is still calculated on results in the type of the tensors.
                let t = narrow(x.dtype(), &[y.len()], y)?;
                y = widen::<R>(&t)?.iter().map(|&y| a.apply(y)).collect();
            }
            narrow(x.dtype(), &s.shape, y)?
        }, else invalid!("Conv takes no {}", x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use kiln_tensor::Tensor;

    use crate::ops::testing::{run, run1, t, types};
    use crate::text;

    fn ramp(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        t(shape, &(0..n).map(|i| i as f32).collect::<Vec<_>>())
    }

    #[test]
    fn one_two_and_three_axes() {
        let text = "y = Conv(x: f32[1,1,4], w: f32[1,1,2], b: f32[1]) {strides=[2]}\nreturn y";
        let y = run1(text, &[ramp(&[1, 1, 4]), t(&[1, 1, 2], &[1.0, 10.0]), t(&[1], &[0.5])]);
        assert_eq!(y.expect("runs"), t(&[1, 1, 2], &[10.5, 32.5]));
        let text = "y = Conv(x: f32[1,1,2,2], w: f32[1,1,2,2]) {pads=[0,0,1,1]}\nreturn y";
        let w = t(&[1, 1, 2, 2], &[1.0, 10.0, 100.0, 1000.0]);
        let y = run1(text, &[ramp(&[1, 1, 2, 2]), w]).expect("runs");
        assert_eq!(y, t(&[1, 1, 2, 2], &[3210.0, 301.0, 32.0, 3.0]));
        let text = "y = Conv(x: f32[1,1,2,1,2], w: f32[1,1,2,1,1]) {dilations=[1,1,1]}\nreturn y";
        let y = run1(text, &[ramp(&[1, 1, 2, 1, 2]), t(&[1, 1, 2, 1, 1], &[1.0, 10.0])]);
        assert_eq!(y.expect("runs"), t(&[1, 1, 1, 1, 2], &[20.0, 31.0]));
    }

    #[test]
    fn groups_channels_and_points() {
        let text = "y = Conv(x: f32[1,4,1,2], w: f32[2,2,1,1]) {group=2}\nreturn y";
        let w = t(&[2, 2, 1, 1], &[1.0, 10.0, 2.0, 1.0]);
        let y = run1(text, &[ramp(&[1, 4, 1, 2]), w]).expect("runs");
        assert_eq!(y, t(&[1, 2, 1, 2], &[20.0, 31.0, 14.0, 17.0]));
    }

    #[test]
    fn dilation_and_same_padding() {
        let text = "y = Conv(x: f32[1,1,5], w: f32[1,1,2]) {dilations=[3]}\nreturn y";
        let y = run1(text, &[ramp(&[1, 1, 5]), t(&[1, 1, 2], &[1.0, 10.0])]).expect("runs");
        assert_eq!(y, t(&[1, 1, 2], &[30.0, 41.0]));
        for (side, want) in [("UPPER", [20.0, 2.0]), ("LOWER", [10.0, 31.0])] {
            let text = format!(
                "y = Conv(x: f32[1,1,4], w: f32[1,1,2]) {{auto_pad=\"SAME_{side}\", \
                 strides=[2], dilations=[2]}}\nreturn y"
            );
            let y = run1(&text, &[ramp(&[1, 1, 4]), t(&[1, 1, 2], &[1.0, 10.0])]);
            assert_eq!(y.expect("runs"), t(&[1, 1, 2], &want), "{side}");
        }
    }

    #[test]
    fn a_fused_activation_is_the_activation_of_the_result() {
        let text = "y = ai.kiln.Conv(x: f32[1,1,2], w: f32[1,1,1]) {activation=\"LeakyRelu\", \
                    activation_params=[0.5]}\nreturn y";
        let x = t(&[1, 1, 2], &[-2.0, 4.0]);
        let y = run1(text, &[x.clone(), t(&[1, 1, 1], &[1.0])]).expect("runs");
        assert_eq!(y, t(&[1, 1, 2], &[-1.0, 4.0]));
        let g = text::parse(text).expect("parses");
        let conv = g.op(g.outputs()[0].1.node).clone();
        let wide = text::print(&conv.expansion().expect("fused"));
        assert!(wide.contains("= Conv(x, w, b)") && wide.contains("LeakyRelu("), "{wide}");
        let fused = "y = com.microsoft.FusedConv(x: f32[1,1,2], w: f32[1,1,1], _, z: f32[1,1,2]) \
                     {activation=\"Relu\"}\nreturn y";
        let inputs = [x, t(&[1, 1, 1], &[1.0]), t(&[1, 1, 2], &[1.0, 1.0])];
        let y = run(fused, &inputs).expect("runs");
        assert_eq!(y[0].as_tensor().expect("tensor"), &t(&[1, 1, 2], &[0.0, 5.0]));
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |op: &str| types(&format!("y = {op}\nreturn y"));
        let same = ty("Conv(x: f32[N,3,H,W], w: f32[8,3,3,3], b: f32[8]) {pads=[1,1,1,1]}");
        assert_eq!(same.expect("types"), ["f32[N,8,H,W]"]);
        let half = ty("Conv(x: f32[N,3,H], w: f32[8,3,2]) {strides=[2]}").expect("types");
        assert_eq!(half, ["f32[N,8,floor(H,2)]"]);
        for wrong in [
            "Conv(x: f32[1,3,8], w: f32[8,2,3])",
            "Conv(x: f32[1,3,8], w: f32[8,3,3,3])",
            "Conv(x: f32[1,3,8], w: f32[8,3,3], b: f32[7])",
            "Conv(x: f32[1,4,8], w: f32[3,2,3]) {group=2}",
            "Conv(x: f32[1,3,8], w: f32[8,3,9])",
            "Conv(x: f32[1,3,8], w: f32[8,3,3]) {strides=[0]}",
            "Conv(x: i32[1,3,8], w: i32[8,3,3])",
        ] {
            assert!(ty(wrong).is_err(), "{wrong}");
        }
    }
}
