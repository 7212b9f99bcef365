//! Resizing: every element of the result is sampled from its place in the input.
//!
//! ```text
//! y = Resize(x: f32[N,C,H,W], roi, scales: f32[4], sizes: i64[4])     y: f32[sizes]
//! ```
//! Only one of `scales` and `sizes` is given. All kernels are separable, so the axes are
//! resized one after the other, those that shrink first.

mod old;
mod sample;

use std::ops::RangeInclusive;

use kiln_tensor::shape::{axis, numel};
use kiln_tensor::{DType, Datum, Scalar, Tensor, match_element, match_integer};

use crate::eval::{optional, tensor};
use crate::ops::layout::target_shape;
use crate::ops::real::{Real, Ticks, is_real, match_real, narrow, widen};
use crate::{
    Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attr_enum, attrs, invalid,
};
pub(crate) use sample::copy;
use sample::{Axis, blend};

attr_enum! {
    /// How the elements around a place give its value.
    pub enum Mode {
        /// The nearest one.
        Nearest = "nearest",
        /// The two around it along each axis.
        Linear = "linear",
        /// The four around it along each axis.
        Cubic = "cubic",
    }
}

attr_enum! {
    /// How a result's index becomes a place in the input.
    pub enum Coordinate {
        /// Centers of elements are mapped.
        HalfPixel = "half_pixel",
        /// As `HalfPixel`; the middle of the input is that of the output.
        HalfPixelSymmetric = "half_pixel_symmetric",
        /// As `HalfPixel`; a single element lies at 0.
        PytorchHalfPixel = "pytorch_half_pixel",
        /// The first and the last elements are mapped onto each other.
        AlignCorners = "align_corners",
        /// The first element lies at 0.
        Asymmetric = "asymmetric",
        /// As `HalfPixel`, half an element further.
        TfHalfPixelForNn = "tf_half_pixel_for_nn",
        /// A region of the input is resized.
        TfCropAndResize = "tf_crop_and_resize",
    }
}

attr_enum! {
    /// Which element is the nearest.
    pub enum NearestMode {
        /// The nearer one, ties down.
        RoundPreferFloor = "round_prefer_floor",
        /// The nearer one, ties up.
        RoundPreferCeil = "round_prefer_ceil",
        /// The one below.
        Floor = "floor",
        /// The one above.
        Ceil = "ceil",
    }
}

attr_enum! {
    /// What sizes mean.
    pub enum Policy {
        /// The lengths of the result.
        Stretch = "stretch",
        /// Upper bounds; all axes have one scale.
        NotLarger = "not_larger",
        /// Lower bounds; all axes have one scale.
        NotSmaller = "not_smaller",
    }
}

attrs! {
    /// The attributes of a resize.
    pub struct Sampling {
        /// How the elements around a place give its value.
        mode: Mode = Mode::Nearest,
        /// How indices become places.
        coordinate "coordinate_transformation_mode": Coordinate = Coordinate::HalfPixel,
        /// Which element is the nearest.
        nearest_mode: NearestMode = NearestMode::RoundPreferFloor,
        /// The parameter of the cubic kernel.
        cubic_coeff_a: f32 = -0.75,
        /// Whether elements beside the input have no weight; else they are as those at its edge.
        exclude_outside: bool = false,
        /// The value of places beside the input, where a region is resized.
        extrapolation_value: f32 = 0.0,
        /// Whether kernels are stretched where an axis shrinks.
        antialias: bool = false,
        /// The axes that roi, scales and sizes speak of; all where there are none.
        axes: Option<Vec<i64>> = None,
        /// What sizes mean.
        policy "keep_aspect_ratio_policy": Policy = Policy::Stretch,
    }
}

/// A resize; inputs `x roi scales sizes`.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// How places are sampled.
    pub sampling: Box<Sampling>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "Resize",
        since: 11,
        build: |b| Ok(Resize { sampling: Box::new(Sampling::read(&mut b.attrs)?) }.into()),
    },
    Schema { name: "Resize", since: 10, build: old::build },
    Schema { name: "Upsample", since: 9, build: old::build },
    Schema { name: "Upsample", since: 7, build: old::build_by_attribute },
    Schema { name: "Upsample", since: 1, build: old::build_images },
];

impl Resize {
    /// The axes that scales and sizes speak of, in their order.
    fn axes(&self, rank: usize) -> Result<Vec<usize>> {
        let Some(axes) = &self.sampling.axes else { return Ok((0..rank).collect()) };
        let axes: Vec<usize> = axes.iter().map(|&a| Ok(axis(a, rank)?)).collect::<Result<_>>()?;
        if (0..rank).any(|k| axes.iter().filter(|&&a| a == k).count() > 1) {
            invalid!("an axis is named twice in axes");
        }
        Ok(axes)
    }

    /// The output length of an axis that is `n` long.
    fn scaled(n: usize, scale: f32) -> Result<usize> {
        if !scale.is_finite() || scale <= 0.0 {
            invalid!("a scale is {scale}, not a positive number");
        }
        Ok((n as f32 * scale).floor() as usize)
    }

    /// The lengths and scales that `sizes` ask for.
    fn sized(&self, n: &[usize], sizes: &[i64]) -> Result<Vec<(usize, f64)>> {
        let Some(sizes) =
            sizes.iter().map(|&s| usize::try_from(s).ok()).collect::<Option<Vec<_>>>()
        else {
            invalid!("sizes are {sizes:?}, one is negative");
        };
        let each = n.iter().zip(&sizes).map(|(&n, &s)| s as f64 / n.max(1) as f64);
        let common = match self.sampling.policy {
            Policy::Stretch => return Ok(sizes.iter().copied().zip(each).collect()),
            Policy::NotLarger => each.fold(f64::INFINITY, f64::min),
            Policy::NotSmaller => each.fold(0.0, f64::max),
        };
        Ok(n.iter().map(|&n| ((common * n as f64 + 0.5) as usize, common)).collect())
    }

    /// How each axis of `x` is resized.
    fn plan(&self, inputs: &[Option<&Datum>]) -> Result<Vec<Axis>> {
        let shape = tensor(inputs, 0)?.shape();
        let axes = self.axes(shape.len())?;
        let n: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
        let given = |i: usize| optional(inputs, i).map(|t| t.filter(|t| !t.is_empty()));
        let sizes = given(3)?;
        let lengths = match (given(2)?, sizes) {
            (_, Some(sizes)) if sizes.len() == n.len() => self.sized(&n, &sizes.to_vec()?)?,
            (Some(scales), None) if scales.len() == n.len() => {
                let of = |(&n, s): (&usize, f32)| Ok((Self::scaled(n, s)?, f64::from(s)));
                n.iter().zip(scales.to_vec::<f32>()?).map(of).collect::<Result<_>>()?
            }
            _ if n.is_empty() => vec![],
            (None, None) => invalid!("neither scales nor sizes are given"),
            _ => invalid!("{} axes need as many scales or sizes", n.len()),
        };
        let roi = match given(1)? {
            _ if self.sampling.coordinate != Coordinate::TfCropAndResize => None,
            Some(roi) if roi.len() == 2 * n.len() => Some(roi.to_vec::<f64>()?),
            _ => invalid!("{} axes need a roi of {} elements", n.len(), 2 * n.len()),
        };
        let region = |i: usize| roi.as_ref().map_or((0.0, 1.0), |r| (r[i], r[i + n.len()]));
        let plan = (0..n.len()).map(|i| {
            let (out, scale) = lengths[i];
            Axis { axis: axes[i], n: n[i], out, scale, given: sizes.is_none(), roi: region(i) }
        });
        Ok(plan.collect())
    }

    /// Copies the nearest elements along all axes.
    fn nearest<T: Clone>(
        &self,
        cx: &Context,
        plan: &[Axis],
        t: &Tensor,
        x: &[T],
        fill: &T,
    ) -> Result<Vec<T>> {
        let (mut shape, mut y) = (t.shape().to_vec(), x.to_vec());
        for a in plan {
            cx.cancel.poll()?;
            let indices = a.nearest(&self.sampling);
            let mut longer = shape.clone();
            longer[a.axis] = a.out;
            cx.numel(t.dtype(), &longer)?;
            y = copy(&y, &shape, a.axis, &indices, fill)?;
            shape = longer;
        }
        Ok(y)
    }

    /// Blends elements along all axes.
    fn blended<R: Real>(&self, cx: &Context, plan: &[Axis], t: &Tensor, x: &[R]) -> Result<Vec<R>> {
        let (mut shape, mut y) = (t.shape().to_vec(), x.to_vec());
        let mut ticks = Ticks::new(cx);
        let fill = R::of(self.sampling.extrapolation_value.into());
        for a in plan {
            let inner = numel(&shape[a.axis + 1..])?;
            shape[a.axis] = a.out;
            let mut longer = cx.zeros::<R>(&shape)?;
            let taps = a.taps(&self.sampling);
            blend(&mut ticks, (&y, &mut longer), (a.n, inner), &taps, fill)?;
            y = longer;
        }
        Ok(y)
    }

    fn run(&self, cx: &Context, plan: &[Axis], x: &Tensor, shape: &[usize]) -> Result<Tensor> {
        let (dtype, op) = (x.dtype(), &self.sampling);
        let value = op.extrapolation_value;
        match op.mode {
            Mode::Nearest if dtype == DType::String => {
                let y = self.nearest(cx, plan, x, x.strings()?, &String::new())?;
                Ok(Tensor::from_strings(shape, y)?)
            }
            Mode::Nearest => match_element!(dtype, T => {
                let fill = Tensor::scalar(value);
                let fill = crate::ops::cast::convert(&fill, dtype, true, CAST_ROUND);
                let fill = fill.ok().and_then(|f| f.as_slice::<T>().ok()?.first().copied());
                let y = self.nearest(cx, plan, x, x.as_slice::<T>()?, &fill.unwrap_or_default())?;
                Ok(Tensor::from_vec::<T>(shape, y)?)
            }, else invalid!("Resize takes no {dtype}")),
            _ if is_real(dtype) => match_real!(dtype, R => {
                narrow(dtype, shape, self.blended::<R>(cx, plan, x, &widen::<R>(x)?)?)
            }, else invalid!("Resize takes no {dtype}")),
            _ => match_integer!(dtype, T => {
                let y = self.blended::<f64>(cx, plan, x, &x.to_vec::<f64>()?)?;
                let y = y.iter().map(|v| T::from_f64(v.round_ties_even())).collect();
                Ok(Tensor::from_vec::<T>(shape, y)?)
            }, else invalid!("{dtype} is only resized by the nearest element")),
        }
    }

    /// The length of an axis from what is known of it and of its scale.
    fn scaled_dim(cx: &mut Infer<'_>, n: &Dim, scale: f32) -> Result<Dim> {
        if let Some(n) = n.as_len() {
            return Ok(Self::scaled(n, scale)?.into());
        }
        Self::scaled(1, scale)?;
        let (whole, part) = (scale, scale.recip());
        Ok(match () {
            () if whole.fract() == 0.0 && whole < 1e6 => n.clone() * Dim::from(whole as i64),
            // A power of two divides exactly.
            () if part.fract() == 0.0 && part < 1e6 && (part as u64).is_power_of_two() => {
                n.floor_div(&Dim::from(part as i64))
            }
            () => cx.fresh(),
        })
    }

    /// The lengths of the resized axes, in their order.
    fn infer_lengths(&self, cx: &mut Infer<'_>, n: &[Dim]) -> Result<Vec<Dim>> {
        let count = |got: usize| match got == n.len() {
            true => Ok(()),
            false => invalid!("{} axes are resized, {got} scales or sizes are given", n.len()),
        };
        // An empty tensor stands for none.
        let empty = |d: Option<&[Dim]>| d.is_some_and(|d| d.contains(&0i64.into()));
        if cx.has(3) && !(cx.has(2) && empty(cx.shape(3)?)) {
            let known: Option<Vec<usize>> = n.iter().map(Dim::as_len).collect();
            if self.sampling.policy == Policy::Stretch
                && cx.dims(3).is_some()
                && let Some(sizes) = target_shape(cx, 3)?
            {
                count(sizes.len())?;
                return Ok(sizes);
            }
            if let (Some(n), Some(sizes)) = (known, cx.ints(3)?) {
                count(sizes.len())?;
                return Ok(self.sized(&n, &sizes)?.into_iter().map(|(n, _)| n.into()).collect());
            }
        } else if cx.has(2)
            && let Some(scales) = cx.constant(2)
        {
            let scales = scales.to_vec::<f32>()?;
            count(scales.len())?;
            return n.iter().zip(scales).map(|(n, s)| Self::scaled_dim(cx, n, s)).collect();
        }
        Ok(cx.fresh_shape(n.len()))
    }
}

const CAST_ROUND: crate::ops::cast::RoundMode = crate::ops::cast::RoundMode::Up;

impl Operator for Resize {
    fn name(&self) -> &str {
        "Resize"
    }

    fn attrs(&self) -> Attrs {
        self.sampling.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=4
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let nearest = self.sampling.mode == Mode::Nearest;
        let whole = |d: DType| match_integer!(d, T => true, else false);
        let dtype = cx.dtype_in(0, |d| nearest || is_real(d) || whole(d))?;
        if cx.has(2) {
            cx.dtype_in(2, |d| d == DType::F32)?;
        }
        if cx.has(3) {
            cx.dtype_in(3, |d| d == DType::I64)?;
        }
        let Some(x) = cx.shape(0)? else { return Ok(vec![Fact::tensor(dtype, None)]) };
        let axes = self.axes(x.len())?;
        let n: Vec<Dim> = axes.iter().map(|&a| x[a].clone()).collect();
        let mut shape = x.to_vec();
        for (a, length) in axes.into_iter().zip(self.infer_lengths(cx, &n)?) {
            shape[a] = length;
        }
        Ok(vec![Fact::shaped(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let mut plan = self.plan(inputs)?;
        let mut shape = x.shape().to_vec();
        plan.iter().for_each(|a| shape[a.axis] = a.out);
        plan.retain(|a| !a.is_same(&self.sampling));
        if cx.numel(x.dtype(), &shape)? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), &shape)?.into()]);
        }
        if let Some(a) = plan.iter().find(|a| a.n == 0) {
            invalid!("axis {} has no elements to resize to {}", a.axis, a.out);
        }
        // The axes that shrink come first: fewer elements are made on the way.
        plan.sort_by(|a, b| (a.out as f64 / a.n as f64).total_cmp(&(b.out as f64 / b.n as f64)));
        Ok(vec![self.run(cx, &plan, x, &shape)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run1, t, types};

    fn resize(n: usize, how: &str, attrs: &str) -> Vec<f32> {
        let text = format!("{how}\ny = Resize(x: f32[{n}], _, {{attrs}}\nreturn y");
        let text = text.replace("{attrs}", attrs);
        let x: Vec<f32> = (0..n).map(|i| (i * i) as f32).collect();
        run1(&text, &[Tensor::vector(x)]).expect("runs").to_vec().expect("floats")
    }

    #[test]
    fn nearest_elements() {
        let twice = "s = f32[1]{2.0}";
        let modes = [
            ("half_pixel", "round_prefer_floor", [0.0, 0.0, 1.0, 1.0, 4.0, 4.0]),
            ("asymmetric", "floor", [0.0, 0.0, 1.0, 1.0, 4.0, 4.0]),
            ("asymmetric", "ceil", [0.0, 1.0, 1.0, 4.0, 4.0, 4.0]),
            ("asymmetric", "round_prefer_floor", [0.0, 0.0, 1.0, 1.0, 4.0, 4.0]),
            ("asymmetric", "round_prefer_ceil", [0.0, 1.0, 1.0, 4.0, 4.0, 4.0]),
            ("tf_half_pixel_for_nn", "floor", [0.0, 0.0, 1.0, 1.0, 4.0, 4.0]),
            // 0, 0.4, 0.8, 1.2, 1.6, 2.
            ("align_corners", "round_prefer_floor", [0.0, 0.0, 1.0, 1.0, 4.0, 4.0]),
        ];
        for (coordinate, nearest, want) in modes {
            let attrs = format!(
                "s) {{coordinate_transformation_mode=\"{coordinate}\", nearest_mode=\"{nearest}\"}}"
            );
            assert_eq!(resize(3, twice, &attrs), want, "{coordinate} {nearest}");
        }
    }

    #[test]
    fn places_are_where_they_were_meant() {
        let floor = "nearest_mode=\"floor\"}";
        // At 3.5 - 0.5 of 7, and at 0, 3 and 6 of 9.
        assert_eq!(resize(7, "s = i64[1]{1}", &format!("_, s) {{{floor}")), [9.0]);
        let attrs = format!("s) {{coordinate_transformation_mode=\"asymmetric\", {floor}");
        assert_eq!(resize(9, "s = f32[1]{0.33333334}", &attrs), [0.0, 9.0, 36.0]);
    }

    #[test]
    fn lines_and_cubics() {
        let linear = resize(3, "s = f32[1]{2.0}", "s) {mode=\"linear\"}");
        assert_close(&linear, &[0.0, 0.25, 0.75, 1.75, 3.25, 4.0], 1e-6);
        let corners = "s) {mode=\"linear\", coordinate_transformation_mode=\"align_corners\"}";
        assert_close(&resize(3, "s = f32[1]{1.7}", corners).as_slice()[..1], &[0.0], 1e-6);
        // Half way between 1 and 4 of 0 1 4 9, whose weights are -a/8, 1/2 + a/8 and so on.
        let halves = "_, s) {mode=\"cubic\", coordinate_transformation_mode=\"align_corners\"}";
        let cubic = resize(4, "s = i64[1]{7}", halves);
        assert_close(&cubic[3..4], &[2.5 * 1.1875 - 9.0 * 0.09375], 1e-5);
        let excluded = halves.replace("}", ", exclude_outside=1, cubic_coeff_a=-0.5}");
        // At 0.5, of 0 1 4 with weights 9/16, 9/16 and -1/16.
        let cubic = resize(4, "s = i64[1]{7}", &excluded);
        assert_close(&cubic[1..2], &[(9.0 - 4.0) / 17.0], 1e-6);
    }

    #[test]
    fn antialiasing_stretches_the_kernel() {
        // Half the length: weights 1/8 3/8 3/8 1/8 around 0.5 and 2.5, edges repeated.
        let got = resize(4, "s = f32[1]{0.5}", "s) {mode=\"linear\", antialias=1}");
        assert_close(&got, &[0.875, (1.0 + 12.0 + 27.0 + 9.0) / 8.0], 1e-6);
    }

    #[test]
    fn regions_are_cropped() {
        let text = "s = i64[1]{3}\nr = f32[2]{0.5, 1.5}\n\
            y = Resize(x: f32[3,5], r, _, s) {mode=\"linear\", axes=[-1], extrapolation_value=9.0, \
            coordinate_transformation_mode=\"tf_crop_and_resize\"}\nreturn y";
        let x = t(
            &[3, 5],
            &[0.0; 10].iter().chain(&[1.0, 2.0, 3.0, 4.0, 5.0]).copied().collect::<Vec<_>>(),
        );
        let y = run1(text, &[x]).expect("runs").to_vec::<f32>().expect("floats");
        // Places 2, 4 and 6 of 5.
        assert_eq!(y[6..], [3.0, 5.0, 9.0]);
    }

    #[test]
    fn other_types() {
        let text = "s = f32[1]{2.0}\ny = Resize(x: str[2], _, s)\nreturn y";
        let x = Tensor::from_strings(&[2], vec!["a".into(), "b".into()]).expect("two");
        let y = run1(text, &[x]).expect("runs");
        assert_eq!(y.strings().expect("text"), ["a", "a", "b", "b"]);
        let text = "s = i64[1]{3}\ny = Resize(x: u8[2], _, _, s) {mode=\"linear\", \
                    coordinate_transformation_mode=\"align_corners\"}\nreturn y";
        let y = run1(text, &[Tensor::vector(vec![0u8, 255])]).expect("runs");
        assert_eq!(y, Tensor::vector(vec![0u8, 128, 255]));
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |text: &str| types(&format!("{text}\nreturn y"));
        let of = |how: &str| ty(how).expect("types").remove(0);
        let scales = "s = f32[4]{1.0,1.0,2.0,0.5}\ny = Resize(x: f32[N,C,H,W], _, s)";
        assert_eq!(of(scales), "f32[N,C,2*H,floor(W,2)]");
        let bounds = "s = i64[2]{7,8}\ny = Resize(x: f32[N,2,4], _, _, s) \
                      {axes=[2,1], keep_aspect_ratio_policy=\"not_larger\"}";
        assert_eq!(of(bounds), "f32[N,4,7]");
        assert_eq!(of(&bounds.replace("larger", "smaller")), "f32[N,8,16]");
        let like = "s = Shape(z: f32[A,B])\ny = Resize(x: f32[M,N], _, _, s)";
        assert_eq!(of(like), "f32[A,B]");
        assert!(ty("s = f32[1]{2.0}\ny = Resize(x: f32[N,C], _, s)").is_err());
        assert!(ty("s = f32[2]{2.0, -1.0}\ny = Resize(x: f32[N,C], _, s)").is_err());
        assert!(ty("s = f32[1]{2.0}\ny = Resize(x: bool[N], _, s) {mode=\"linear\"}").is_err());
        let empty = "s = i64[1]{2}\ny = Resize(x: f32[0], _, _, s)\nreturn y";
        assert!(run1(empty, &[t(&[0], &[])]).is_err());
    }
}
