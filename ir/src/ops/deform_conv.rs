//! Convolutions whose taps are moved by offsets and weighted by a mask.
//!
//! ```text
//! y = DeformConv(x: f32[N,C,H,W], w: f32[M,C/group,kH,kW],
//!                offset: f32[N,offset_group*kH*kW*2,oH,oW], b: f32[M],
//!                mask: f32[N,offset_group*kH*kW,oH,oW])
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::Datum;
use kiln_tensor::shape::{numel, strides};

use crate::eval::{optional, tensor};
use crate::ops::conv::{Shapes, add_bias, check_bias, infer_dims, write};
use crate::ops::matmul::multiply;
use crate::ops::real::{Real, Ticks, is_real, match_real, narrow, widen};
use crate::ops::window::Window;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, invalid};

/// A deformable convolution; elements between positions are interpolated linearly, those
/// outside are 0.
#[derive(Clone, Debug, PartialEq)]
pub struct DeformConv {
    /// The geometry.
    pub window: Box<Window>,
    /// How many groups the channels fall into.
    pub group: i64,
    /// How many groups of channels have offsets of their own.
    pub offset_group: i64,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "DeformConv",
    since: 19,
    build: |b| {
        let window = Box::new(Window::take(&mut b.attrs)?);
        let group = b.take("group")?.unwrap_or(1);
        let offset_group = b.take("offset_group")?.unwrap_or(1);
        Ok(DeformConv { window, group, offset_group }.into())
    },
}];

/// What one group of channels reads: the corners around a place and their weights.
struct Corners<R> {
    at: Vec<usize>,
    weight: Vec<R>,
}

impl<R: Real> Corners<R> {
    /// The corners of the cell around `place` that lie inside a plane of lengths `shape`.
    fn around(&mut self, place: &[R], shape: &[usize], strides: &[usize]) {
        self.at.clear();
        self.weight.clear();
        for corner in 0..1usize << place.len() {
            let (mut at, mut weight) = (0, R::ONE);
            for (i, &p) in place.iter().enumerate() {
                let low = p.map(f64::floor, f32::floor);
                let up = corner >> i & 1 == 1;
                let share = if up { p - low } else { R::ONE - (p - low) };
                let k = low.to_f64() + f64::from(u8::from(up));
                // Also false for a place that is NaN.
                if !(k >= 0.0 && k < shape[i] as f64) {
                    weight = R::ZERO;
                    break;
                }
                at += k as usize * strides[i];
                weight = weight * share;
            }
            if weight != R::ZERO {
                self.at.push(at);
                self.weight.push(weight);
            }
        }
    }

    fn read(&self, plane: &[R]) -> R {
        self.at.iter().zip(&self.weight).fold(R::ZERO, |sum, (&i, &w)| sum + w * plane[i])
    }
}

impl DeformConv {
    /// The groups of offsets; an error where the channels do not fall into them.
    fn offset_groups(&self, channels: usize) -> Result<usize> {
        match usize::try_from(self.offset_group) {
            Ok(g) if g > 0 && channels.is_multiple_of(g) => Ok(g),
            _ => invalid!("{channels} channels do not fall into {} groups", self.offset_group),
        }
    }

    /// The elements that the window sees, for one element of the batch: one row for each
    /// channel and tap, one column for each position.
    fn columns<R: Real>(
        &self,
        ticks: &mut Ticks<'_>,
        s: &Shapes,
        [x, offset, mask]: [&[R]; 3],
        out: &mut [R],
    ) -> Result<()> {
        let (area, plane) = (numel(&s.input)?, numel(&s.output)?);
        let channels = x.len() / area;
        let groups = self.offset_groups(channels)?;
        let (spatial, taps) = (s.axes.len(), s.axes.iter().map(|a| a.kernel as usize).product());
        let own = strides(&s.input);
        let kernel: Vec<usize> = s.axes.iter().map(|a| a.kernel as usize).collect();
        let (tap_strides, out_strides) = (strides(&kernel), strides(&s.output));
        let mut corners = Corners { at: vec![], weight: vec![] };
        let mut place = vec![R::ZERO; spatial];
        let share = channels / groups;
        for g in 0..groups {
            for tap in 0..taps {
                let first = g * taps + tap;
                for p in 0..plane {
                    for i in 0..spatial {
                        let o = p / out_strides[i] % s.output[i];
                        let t = tap / tap_strides[i] % kernel[i];
                        let shift = offset[(first * spatial + i) * plane + p];
                        place[i] = R::of(s.axes[i].at(o, t) as f64) + shift;
                    }
                    corners.around(&place, &s.input, &own);
                    let weight = if mask.is_empty() { R::ONE } else { mask[first * plane + p] };
                    for c in g * share..(g + 1) * share {
                        let value = corners.read(&x[c * area..][..area]);
                        out[(c * taps + tap) * plane + p] = value * weight;
                    }
                }
                ticks.add(plane.saturating_mul(share << spatial))?;
            }
        }
        Ok(())
    }

    fn run<R: Real>(
        &self,
        cx: &Context,
        s: &Shapes,
        [x, w, offset, mask]: [&[R]; 4],
    ) -> Result<Vec<R>> {
        let mut y = cx.zeros::<R>(&s.shape)?;
        if y.is_empty() || x.is_empty() {
            return Ok(y);
        }
        let plane = numel(&s.output)?;
        let rows = numel(&[s.groups, w.len() / s.shape[1]])?;
        let mut columns = cx.zeros::<R>(&[rows, plane])?;
        let mut ticks = Ticks::new(cx);
        let each = |v: &[R]| v.len() / s.shape[0];
        for (n, y) in y.chunks_exact_mut(s.shape[1] * plane).enumerate() {
            let part = |v| -> &[R] { one(v, n, each(v)) };
            self.columns(&mut ticks, s, [part(x), part(offset), part(mask)], &mut columns)?;
            let k = rows / s.groups;
            for (g, y) in y.chunks_exact_mut(s.outer * plane).enumerate() {
                let w = &w[g * s.outer * k..][..s.outer * k];
                multiply(&mut ticks, [s.outer, k, plane], w, &columns[g * k * plane..], y)?;
            }
        }
        Ok(y)
    }
}

fn one<R>(v: &[R], n: usize, len: usize) -> &[R] {
    &v[n * len..(n + 1) * len]
}

impl Operator for DeformConv {
    fn name(&self) -> &str {
        "DeformConv"
    }

    fn attrs(&self) -> Attrs {
        let groups = (self.offset_group != 1).then_some(self.offset_group);
        write(&self.window, self.group).with("offset_group", groups)
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=5
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype(0..5)?;
        let shape = infer_dims(&self.window, self.group, cx, 1)?;
        if cx.has(3)
            && let (Some(b), Some(y)) = (cx.shape(3)?, &shape)
        {
            check_bias(b, &y[1])?;
        }
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, w, offset) = (tensor(inputs, 0)?, tensor(inputs, 1)?, tensor(inputs, 2)?);
        let mask = optional(inputs, 4)?;
        let s = Shapes::unmerged(&self.window, self.group, x.shape(), w.shape())?;
        let groups = self.offset_groups(x.shape()[1])?;
        let taps = numel(&w.shape()[2..])?;
        for (name, t, parts) in [("offset", Some(offset), s.axes.len()), ("mask", mask, 1)] {
            let mut want = vec![x.shape()[0], numel(&[groups, taps, parts])?];
            want.extend(&s.output);
            if t.is_some_and(|t| t.shape() != want) {
                invalid!("{name} must have the shape {want:?}");
            }
        }
        let y = match_real!(x.dtype(), R => {
            let empty = kiln_tensor::Tensor::vector::<R>(vec![]);
            let m = widen::<R>(mask.unwrap_or(&empty))?;
            let parts = [&widen::<R>(x)?[..], &widen::<R>(w)?, &widen::<R>(offset)?, &m];
            let mut y = self.run(cx, &s, parts)?;
            if let Some(b) = optional(inputs, 3)? {
                add_bias(&mut y, &s.shape, &widen::<R>(b)?)?;
            }
            narrow(x.dtype(), &s.shape, y)?
        }, else invalid!("DeformConv takes no {}", x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{assert_close, run1, t};

    #[test]
    fn offsets_interpolate_and_leave_the_plane() {
        let text = "y = DeformConv(x: f32[1,1,2,2], w: f32[1,1,1,1], offset: f32[1,2,2,2], \
                    _, mask: f32[1,1,2,2])\nreturn y";
        let inputs = [
            t(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]),
            t(&[1, 1, 1, 1], &[10.0]),
            // Rows first, then columns.
            t(&[1, 2, 2, 2], &[0.5, 0.0, 0.0, 9.0, 0.0, 0.5, 0.0, 0.0]),
            t(&[1, 1, 2, 2], &[1.0, 1.0, 0.5, 1.0]),
        ];
        let y = run1(text, &inputs).expect("runs");
        assert_close(y.as_slice().expect("f32"), &[20.0, 10.0, 15.0, 0.0], 1e-5);
    }

    #[test]
    fn wrong_offsets_are_refused() {
        let text = "y = DeformConv(x: f32[1,1,2,2], w: f32[1,1,1,1], offset: f32[1,1,2,2])\n\
                    return y";
        let z = |n: usize| t(&[1, n, 2, 2], &vec![0.0; n * 4]);
        assert!(run1(text, &[z(1), t(&[1, 1, 1, 1], &[1.0]), z(1)]).is_err());
    }
}
