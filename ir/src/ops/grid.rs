//! Sampling at the places that a grid names, and grids of affine maps.
//!
//! ```text
//! g = AffineGrid(theta: f32[N,2,3], size: i64[4])              g: f32[N,H,W,2]
//! y = GridSample(x: f32[N,C,A,B], g)                           y: f32[N,C,H,W]
//! ```
//! Along each axis, -1 and 1 are the ends of the input; the last axis comes first in a place.

use std::ops::RangeInclusive;

use kiln_tensor::shape::{numel, strides};
use kiln_tensor::{DType, Datum, Scalar, Tensor, match_element, match_integer};

use crate::eval::tensor;
use crate::ops::layout::{lengths, target_shape};
use crate::ops::real::{Real, Ticks, is_real, match_real, narrow, widen};
use crate::ops::resize::Mode;
use crate::{
    Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attr_enum, attrs, invalid,
    unsupported,
};

attr_enum! {
    /// What lies beside the input.
    pub enum Padding {
        /// Zeros.
        Zeros = "zeros",
        /// The nearest element at the edge.
        Border = "border",
        /// The input, reflected at its edges.
        Reflection = "reflection",
    }
}

/// Samples `x` at the places of a grid; inputs `x grid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GridSample {
    /// How the elements around a place give its value.
    pub mode: Mode,
    /// What lies beside the input.
    pub padding: Padding,
    /// Whether the ends are the centers of the first and last elements, not their outer edges.
    pub align_corners: bool,
}

attrs! {
    /// The images of an even grid under affine maps; inputs `theta size`.
    #[derive(Copy)]
    pub struct AffineGrid {
        /// Whether the ends are the centers of the first and last elements.
        align_corners: bool = false,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "GridSample",
        since: 16,
        build: |b| {
            let mode = match b.take::<String>("mode")?.as_deref() {
                None | Some("linear" | "bilinear") => Mode::Linear,
                Some("cubic" | "bicubic") => Mode::Cubic,
                Some("nearest") => Mode::Nearest,
                Some(other) => {
                    invalid!("attribute `mode`: `{other}` is none of linear, cubic, nearest")
                }
            };
            let padding = b.take("padding_mode")?.unwrap_or(Padding::Zeros);
            let align_corners = b.take("align_corners")?.unwrap_or(false);
            Ok(GridSample { mode, padding, align_corners }.into())
        },
    },
    Schema { name: "AffineGrid", since: 20, build: |b| Ok(AffineGrid::read(&mut b.attrs)?.into()) },
];

/// The elements around a place along one axis: their indices and weights.
#[derive(Clone, Copy)]
struct Line {
    at: [Option<usize>; 4],
    weight: [f64; 4],
    len: usize,
}

/// Sampling more axes than this takes too long to be meant.
const MOST_AXES: usize = 8;

impl GridSample {
    /// The first and the last place of an axis.
    fn ends(&self, n: usize) -> (f64, f64) {
        let edge = if self.align_corners { 0.0 } else { 0.5 };
        (-edge, n as f64 - 1.0 + edge)
    }

    /// The place of a coordinate between -1 and 1; `round` rounds each step.
    fn place(&self, v: f64, n: usize, round: fn(f64) -> f64) -> f64 {
        // Beyond this, neighbours of a place are no longer exact.
        const FAR: f64 = 1e15;
        let (n, v) = (n as f64, round(v + 1.0));
        let x = match self.align_corners {
            true => round(v / 2.0 * (n - 1.0)),
            false => round(round(round(v * n) - 1.0) / 2.0),
        };
        x.clamp(-FAR, FAR)
    }

    /// The index of an element that may lie beside the input.
    fn index(&self, i: i64, n: usize) -> Option<usize> {
        let last = n.checked_sub(1)?;
        match self.padding {
            Padding::Zeros => usize::try_from(i).ok().filter(|&i| i <= last),
            Padding::Border => Some(i.clamp(0, last as i64) as usize),
            Padding::Reflection => {
                let (low, high) = self.ends(n);
                Some((reflect(i as f64, low, high).max(0.0) as usize).min(last))
            }
        }
    }

    /// The elements around a coordinate along an axis.
    fn line(&self, v: f64, n: usize, round: fn(f64) -> f64) -> Line {
        let mut x = self.place(v, n, round);
        if self.mode == Mode::Nearest {
            x = x.round_ties_even();
        }
        let (low, high) = self.ends(n);
        if x < low || x > high {
            x = match self.padding {
                Padding::Zeros => x,
                Padding::Border => x.clamp(0.0, (n as f64 - 1.0).max(0.0)),
                Padding::Reflection => reflect(x, low, high),
            };
        }
        let first = if self.mode == Mode::Nearest { x.trunc() } else { x.floor() };
        let t = x - first;
        let (shift, len, weight) = match self.mode {
            Mode::Nearest => (0, 1, [1.0, 0.0, 0.0, 0.0]),
            Mode::Linear => (0, 2, [1.0 - t, t, 0.0, 0.0]),
            Mode::Cubic => (-1, 4, [t + 1.0, t, 1.0 - t, 2.0 - t].map(cubic)),
        };
        let mut at = [None; 4];
        for (k, at) in at.iter_mut().enumerate().take(len) {
            *at = self.index(first as i64 + shift + k as i64, n);
        }
        Line { at, weight, len }
    }

    /// Calls `f(batch, place, taps)` for every place of the grid, with the offsets of elements
    /// in their plane and their weights.
    fn each(
        &self,
        cx: &Context,
        (x, grid): (&Tensor, &Tensor),
        mut f: impl FnMut(usize, usize, &[(usize, f64)]),
    ) -> Result<()> {
        let spatial = &x.shape()[2..];
        let (r, step) = (spatial.len(), strides(spatial));
        let places = numel(&grid.shape()[1..=r])?;
        // Coordinates are rounded as those who made the grid do it.
        let round: fn(f64) -> f64 = match grid.dtype() {
            DType::F64 => |v| v,
            _ => |v| f64::from(v as f32),
        };
        let mut ticks = Ticks::new(cx);
        let (mut taps, mut longer) = (Vec::new(), Vec::new());
        for (i, place) in grid.to_vec::<f64>()?.chunks_exact(r).enumerate() {
            taps.clear();
            taps.push((0, 1.0));
            for (d, &v) in place.iter().rev().enumerate() {
                let line = self.line(v, spatial[d], round);
                let found = (0..line.len).filter_map(|k| Some((line.at[k]?, line.weight[k])));
                longer.clear();
                for &(at, weight) in &taps {
                    longer.extend(found.clone().map(|(k, w)| (at + k * step[d], weight * w)));
                }
                std::mem::swap(&mut taps, &mut longer);
            }
            f(i / places, i % places, &taps);
            ticks.add((taps.len() + 1).saturating_mul(x.shape()[1]))?;
        }
        Ok(())
    }

    /// The weighted sums of elements.
    fn blend<R: Real>(
        &self,
        cx: &Context,
        (x, grid): (&Tensor, &Tensor),
        shape: &[usize],
        data: &[R],
    ) -> Result<Vec<R>> {
        let mut y = cx.zeros::<R>(shape)?;
        let (channels, area) = (shape[1], numel(&x.shape()[2..])?);
        let places = numel(&shape[2..])?;
        self.each(cx, (x, grid), |n, place, taps| {
            for c in n * channels..(n + 1) * channels {
                let mut sum = R::ZERO;
                for &(at, weight) in taps {
                    sum += R::of(weight) * data[c * area + at];
                }
                y[c * places + place] = sum;
            }
        })?;
        Ok(y)
    }

    /// The nearest elements.
    fn pick<T: Clone + Default>(
        &self,
        cx: &Context,
        (x, grid): (&Tensor, &Tensor),
        shape: &[usize],
        data: &[T],
    ) -> Result<Vec<T>> {
        let mut y = vec![T::default(); cx.numel(x.dtype(), shape)?];
        let (channels, area) = (shape[1], numel(&x.shape()[2..])?);
        let places = numel(&shape[2..])?;
        self.each(cx, (x, grid), |n, place, taps| {
            for c in n * channels..(n + 1) * channels {
                if let Some(&(at, _)) = taps.first() {
                    y[c * places + place] = data[c * area + at].clone();
                }
            }
        })?;
        Ok(y)
    }

    /// The shape of the result; an error where the inputs do not fit.
    fn shape(x: &[Dim], grid: &[Dim]) -> Result<Vec<Dim>> {
        let r = x.len().saturating_sub(2);
        if r == 0 || grid.len() != x.len() {
            invalid!(
                "x has rank {} and the grid rank {}: both must be 3 or more",
                x.len(),
                grid.len()
            );
        }
        if r > MOST_AXES {
            unsupported!("sampling along {r} axes");
        }
        let clash =
            |a: &Dim, b: &Dim| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
        if clash(&grid[r + 1], &r.into()) {
            invalid!("places of {} coordinates are sampled along {r} axes", grid[r + 1]);
        }
        if clash(&x[0], &grid[0]) {
            invalid!("x has a batch of {}, the grid of {}", x[0], grid[0]);
        }
        Ok(x[..2].iter().chain(&grid[1..=r]).cloned().collect())
    }
}

/// The weight of an element at a distance below 2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    match x <= 1.0 {
        true => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        false => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
    }
}

/// `x` reflected at both ends until it lies between them.
fn reflect(x: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    let over = if x < low { low - x } else { x - high };
    if over <= 0.0 || over.is_nan() {
        return x;
    }
    if range <= 0.0 {
        return low;
    }
    let (turns, rest) = ((over / range).floor(), over % range);
    if (x < low) == (turns % 2.0 == 0.0) { low + rest } else { high - rest }
}

impl Operator for GridSample {
    fn name(&self) -> &str {
        "GridSample"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
            .with("mode", Some(self.mode).filter(|m| *m != Mode::Linear))
            .with("padding_mode", Some(self.padding).filter(|p| *p != Padding::Zeros))
            .with("align_corners", self.align_corners.then_some(true))
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let nearest = self.mode == Mode::Nearest;
        let whole = |d: DType| match_integer!(d, T => true, else false);
        let dtype = cx.dtype_in(0, |d| nearest || is_real(d) || whole(d))?;
        cx.dtype_in(1, is_real)?;
        let shape = match (cx.shape(0)?, cx.shape(1)?) {
            (Some(x), Some(grid)) => Some(Self::shape(x, grid)?),
            _ => None,
        };
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, grid) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let dims = |t: &Tensor| t.shape().iter().map(|&d| Dim::from(d)).collect::<Vec<_>>();
        let shape = Self::shape(&dims(x), &dims(grid))?;
        let shape: Vec<usize> = shape.iter().filter_map(Dim::as_len).collect();
        let (dtype, of) = (x.dtype(), (x, grid));
        let y = match self.mode {
            Mode::Nearest if dtype == DType::String => {
                Tensor::from_strings(&shape, self.pick(cx, of, &shape, x.strings()?)?)?
            }
            Mode::Nearest => match_element!(dtype, T => {
                Tensor::from_vec::<T>(&shape, self.pick(cx, of, &shape, x.as_slice::<T>()?)?)?
            }, else invalid!("GridSample takes no {dtype}")),
            _ if is_real(dtype) => match_real!(dtype, R => {
                narrow(dtype, &shape, self.blend(cx, of, &shape, &widen::<R>(x)?)?)?
            }, else invalid!("GridSample takes no {dtype}")),
            _ => match_integer!(dtype, T => {
                let y = self.blend(cx, of, &shape, &x.to_vec::<f64>()?)?;
                let y = y.iter().map(|v| T::from_f64(v.round_ties_even())).collect();
                Tensor::from_vec::<T>(&shape, y)?
            }, else invalid!("{dtype} is only sampled by the nearest element")),
        };
        Ok(vec![y.into()])
    }
}

impl AffineGrid {
    /// The coordinate of element `i` of an axis.
    fn coordinate(&self, i: usize, n: usize) -> f64 {
        let (i, n) = (i as f64, n as f64);
        match self.align_corners {
            true if n <= 1.0 => -1.0,
            true => 2.0 * i / (n - 1.0) - 1.0,
            false => (2.0 * i + 1.0) / n - 1.0,
        }
    }

    fn run<R: Real>(&self, cx: &Context, theta: &[R], shape: &[usize]) -> Result<Vec<R>> {
        let r = shape.len() - 2;
        let spatial = &shape[1..=r];
        let step = strides(spatial);
        let mut y = cx.zeros::<R>(shape)?;
        let mut ticks = Ticks::new(cx);
        let places = numel(spatial)?;
        for (i, y) in y.chunks_exact_mut(r).enumerate() {
            let (n, place) = (i / places, i % places);
            for (row, y) in y.iter_mut().enumerate() {
                let theta = &theta[(n * r + row) * (r + 1)..][..=r];
                let mut sum = theta[r].to_f64();
                for d in 0..r {
                    let at = self.coordinate(place / step[d] % spatial[d], spatial[d]);
                    sum += theta[r - 1 - d].to_f64() * at;
                }
                *y = R::of(sum);
            }
            ticks.add(r * r)?;
        }
        Ok(y)
    }
}

/// The number of spatial axes of affine maps and of the size they are given.
fn affine_axes(theta: &[Dim], size: usize) -> Result<usize> {
    let r = size.saturating_sub(2);
    let fits = match theta {
        [_, rows, columns] => [(rows, r), (columns, r + 1)]
            .iter()
            .all(|(d, want)| d.as_const().is_none_or(|d| d == *want as i64)),
        _ => false,
    };
    if !(2..=3).contains(&r) || !fits {
        invalid!("a size of {size} lengths needs maps of shape [N,{r},{}]", r + 1);
    }
    Ok(r)
}

impl Operator for AffineGrid {
    fn name(&self) -> &str {
        "AffineGrid"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        cx.dtype_in(1, |d| d == DType::I64)?;
        let (Some(theta), Some(size)) = (cx.shape(0)?, target_shape(cx, 1)?) else {
            return Ok(vec![Fact::tensor(dtype, None)]);
        };
        let r = affine_axes(theta, size.len())?;
        let mut shape = vec![theta[0].clone()];
        shape.extend_from_slice(&size[2..]);
        shape.push(r.into());
        Ok(vec![Fact::shaped(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (theta, size) = (tensor(inputs, 0)?, lengths(tensor(inputs, 1)?)?);
        let dims: Vec<Dim> = theta.shape().iter().map(|&d| d.into()).collect();
        let r = affine_axes(&dims, size.len())?;
        let mut shape = vec![theta.shape()[0]];
        shape.extend_from_slice(&size[2..]);
        shape.push(r);
        let dtype = theta.dtype();
        let y = match_real!(dtype, R => {
            narrow(dtype, &shape, self.run(cx, &widen::<R>(theta)?, &shape)?)?
        }, else invalid!("AffineGrid takes no {dtype}"));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run1, types};

    /// Samples 1 2 3 4 at some coordinates.
    fn sample(at: &[f32], attrs: &str) -> Vec<f32> {
        let text = format!(
            "y = GridSample(x: f32[1,1,4], g: f32[1,{},1]) {{{attrs}}}\nreturn y",
            at.len()
        );
        let x = Tensor::from_vec(&[1, 1, 4], vec![1f32, 2.0, 3.0, 4.0]).expect("1x1x4");
        let grid = Tensor::from_vec(&[1, at.len(), 1], at.to_vec()).expect("a grid");
        run1(&text, &[x, grid]).expect("runs").to_vec().expect("floats")
    }

    #[test]
    fn lines_and_what_lies_beside_them() {
        // Places -0.5, 0.75, 3.5 and 5.5.
        let at = [-1.0, -0.375, 1.0, 2.0];
        assert_close(&sample(&at, ""), &[0.5, 1.75, 2.0, 0.0], 1e-6);
        assert_close(&sample(&at, "padding_mode=\"border\""), &[1.0, 1.75, 4.0, 4.0], 1e-6);
        let reflected = sample(&at, "padding_mode=\"reflection\"");
        assert_close(&reflected, &[1.0, 1.75, 4.0, 2.5], 1e-6);
        // Places 0, 1.5, 3 and 4.5.
        let corners =
            sample(&[-1.0, 0.0, 1.0, 2.0], "align_corners=1, padding_mode=\"reflection\"");
        assert_close(&corners, &[1.0, 2.5, 4.0, 2.5], 1e-6);
    }

    #[test]
    fn nearest_and_cubic() {
        // Places 0.5 and 1.5 are ties: the even element.
        assert_eq!(sample(&[-0.5, 0.0, 9.0], "mode=\"nearest\""), [1.0, 3.0, 0.0]);
        // Half way, the weights are -3/32, 19/32, 19/32 and -3/32.
        assert_close(&sample(&[0.0], "mode=\"cubic\""), &[2.5], 1e-6);
        let got = sample(&[-0.5], "mode=\"cubic\"");
        assert_close(&got, &[(19.0 * 3.0 - 3.0 * 3.0) / 32.0], 1e-6);
        assert!(sample(&[f32::NAN], "")[0].is_nan());
        assert_eq!(sample(&[f32::INFINITY], ""), [0.0]);
    }

    #[test]
    fn coordinates_come_in_reverse() {
        let text = "y = GridSample(x: i32[1,2,2,2], g: f32[1,1,1,2]) {mode=\"nearest\"}\nreturn y";
        let x = Tensor::from_vec(&[1, 2, 2, 2], (0..8).collect::<Vec<i32>>()).expect("8");
        let grid = Tensor::from_vec(&[1, 1, 1, 2], vec![0.5f32, -0.5]).expect("2");
        let want = Tensor::from_vec(&[1, 2, 1, 1], vec![1i32, 5]).expect("2");
        assert_eq!(run1(text, &[x, grid]).expect("runs"), want);
    }

    #[test]
    fn grids_of_affine_maps() {
        let grid = |attrs: &str| {
            let text = format!(
                "s = i64[4]{{1,1,1,2}}\ny = AffineGrid(t: f32[1,2,3], s) {attrs}\nreturn y"
            );
            let theta = vec![2f32, 0.0, 0.5, 1.0, 1.0, 0.0];
            let theta = Tensor::from_vec(&[1, 2, 3], theta).expect("1x2x3");
            run1(&text, &[theta]).expect("runs").to_vec::<f32>().expect("floats")
        };
        // x is -1/2 and 1/2, y is 0.
        assert_close(&grid(""), &[-0.5, -0.5, 1.5, 0.5], 1e-6);
        // x is -1 and 1, y is -1.
        assert_close(&grid("{align_corners=1}"), &[-1.5, -2.0, 2.5, 0.0], 1e-6);
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |text: &str| types(&format!("{text}\nreturn y"));
        let y = ty("y = GridSample(x: f16[N,C,A,B], g: f32[N,H,W,2])").expect("types");
        assert_eq!(y, ["f16[N,C,H,W]"]);
        let y = ty("s = i64[4]{1,2,3,4}\ny = AffineGrid(t: f32[N,2,3], s)").expect("types");
        assert_eq!(y, ["f32[N,3,4,2]"]);
        assert!(ty("y = GridSample(x: f32[N,C,A,B], g: f32[N,H,W,3])").is_err());
        assert!(ty("y = GridSample(x: f32[2,C,A,B], g: f32[3,H,W,2])").is_err());
        assert!(ty("y = GridSample(x: bool[N,C,A], g: f32[N,H,1])").is_err());
        assert!(ty("s = i64[4]{1,2,3,4}\ny = AffineGrid(t: f32[N,3,4], s)").is_err());
    }
}
