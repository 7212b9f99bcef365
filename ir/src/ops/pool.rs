//! Pools: the maximum, the average or the p-norm of each window.
//!
//! ```text
//! y, indices = MaxPool(x: f32[N,C,H,W]) {kernel_shape=[2,2]}     y: f32[N,C,oH,oW]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::{numel, strides};
use kiln_tensor::{DType, Datum, Number, Tensor, match_number};

use crate::eval::tensor;
use crate::ops::real::{Real, Ticks, abs, is_real, match_real, narrow, widen};
use crate::ops::window::{Axis, Window, each_tap};
use crate::{Attrs, Build, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, invalid};

/// A pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The geometry.
    pub window: Box<Window>,
    /// Whether windows that hang over the end count.
    pub ceil_mode: bool,
    /// What is calculated of each window.
    pub kind: PoolKind,
}

/// What is calculated of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The greatest element, and its flat index as a second output.
    Max {
        /// Whether indices count the last spatial axis slowest.
        column_major: bool,
    },
    /// The mean.
    Average {
        /// Whether elements of the padding count, as 0.
        count_include_pad: bool,
    },
    /// The p-norm.
    Lp {
        /// The exponent.
        p: i64,
    },
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "MaxPool",
        since: 1,
        build: |b| {
            let column_major = b.take("storage_order")?.unwrap_or(false);
            Ok(pool(b, PoolKind::Max { column_major })?.into())
        },
    },
    Schema {
        name: "AveragePool",
        since: 1,
        build: |b| {
            let count_include_pad = b.take("count_include_pad")?.unwrap_or(false);
            Ok(pool(b, PoolKind::Average { count_include_pad })?.into())
        },
    },
    Schema {
        name: "LpPool",
        since: 2,
        build: |b| {
            let p = b.take("p")?.unwrap_or(2);
            Ok(pool(b, PoolKind::Lp { p })?.into())
        },
    },
    Schema {
        name: "LpPool",
        since: 1,
        build: |b| {
            let p = whole(b.take("p")?.unwrap_or(2.0))?;
            Ok(pool(b, PoolKind::Lp { p })?.into())
        },
    },
];

/// An exponent that was a float once.
pub(crate) fn whole(p: f32) -> Result<i64> {
    match p.fract() == 0.0 && (1.0..1e6).contains(&p) {
        true => Ok(p as i64),
        false => invalid!("p is {p}, which is no positive integer"),
    }
}

fn pool(b: &mut Build<'_>, kind: PoolKind) -> Result<Pool> {
    let ceil_mode = b.take("ceil_mode")?.unwrap_or(false);
    let window = Box::new(Window::take(&mut b.attrs)?);
    if window.kernel_shape.is_empty() {
        invalid!("attribute `kernel_shape` is missing");
    }
    Ok(Pool { window, ceil_mode, kind })
}

impl Pool {
    /// The window along each of `n` axes.
    pub fn axes(&self, n: usize) -> Result<Vec<Axis>> {
        let mut axes = self.window.axes(n, &self.window.kernel_shape)?;
        axes.iter_mut().for_each(|a| a.ceil = self.ceil_mode);
        Ok(axes)
    }

    fn max<T: Number>(&self, g: &Geometry<'_>, x: &[T]) -> Result<(Vec<T>, Vec<i64>)> {
        let mut y = g.cx.zeros::<T>(&g.shape)?;
        let mut at = g.cx.zeros::<i64>(&g.shape)?;
        y.fill(T::LEAST);
        g.each(x, &mut y, &mut at, |x, first, read, y, at| {
            if *y < x || (x.is_nan() && !y.is_nan()) || (*at == 0 && *y == x) {
                // Indices are stored from 1 up until all are found: 0 is none.
                (*y, *at) = (x, (first + read) as i64 + 1);
            }
        })?;
        let column_major = matches!(self.kind, PoolKind::Max { column_major: true });
        at.iter_mut().for_each(|at| *at = g.index((*at - 1).max(0), column_major));
        Ok((y, at))
    }

    fn average<R: Real>(&self, g: &Geometry<'_>, x: &[R], include_pad: bool) -> Result<Vec<R>> {
        let mut y = g.cx.zeros::<R>(&g.shape)?;
        let mut unused = vec![(); y.len()];
        g.each(x, &mut y, &mut unused, |x, _, _, y, _| *y += x)?;
        let counts: Vec<Vec<usize>> = (0..g.axes.len())
            .map(|i| (0..g.output[i]).map(|o| g.counted(i, o, include_pad)).collect())
            .collect();
        let own = strides(g.output);
        let plane = numel(g.output)?.max(1);
        for (i, y) in y.iter_mut().enumerate() {
            let p = i % plane;
            let count: usize =
                (0..own.len()).map(|a| counts[a][p / own[a] % g.output[a]]).product();
            *y = *y / R::of(count.max(1) as f64);
        }
        Ok(y)
    }

    fn norm<R: Real>(&self, g: &Geometry<'_>, x: &[R], p: i64) -> Result<Vec<R>> {
        let mut y = g.cx.zeros::<R>(&g.shape)?;
        let mut unused = vec![(); y.len()];
        g.each(x, &mut y, &mut unused, |x, _, _, y, _| *y += power(x, p))?;
        y.iter_mut().for_each(|y| *y = root(*y, p));
        Ok(y)
    }
}

/// `|x|^p`.
pub(crate) fn power<R: Real>(x: R, p: i64) -> R {
    match p {
        1 => abs(x),
        2 => x * x,
        _ => abs(x).powf(R::of(p as f64)),
    }
}

/// `x^(1/p)`.
pub(crate) fn root<R: Real>(x: R, p: i64) -> R {
    match p {
        1 => x,
        2 => x.sqrt(),
        _ => x.powf(R::of(1.0 / p as f64)),
    }
}

/// The lengths of a pool at work.
struct Geometry<'a> {
    cx: &'a Context,
    axes: Vec<Axis>,
    input: &'a [usize],
    output: &'a [usize],
    shape: Vec<usize>,
}

impl Geometry<'_> {
    /// Calls `f(element, first of its plane, its place there, result, second result)` for each
    /// element of each window; windows see their elements in row-major order.
    fn each<T: Number, U>(
        &self,
        x: &[T],
        y: &mut [T],
        z: &mut [U],
        f: impl Fn(T, usize, usize, &mut T, &mut U),
    ) -> Result<()> {
        if y.is_empty() || x.is_empty() {
            return Ok(());
        }
        let (area, plane) = (numel(self.input)?, numel(self.output)?);
        let mut ticks = Ticks::new(self.cx);
        each_tap(&self.axes, self.output, self.input, |tap| {
            tap.rows(|o, len, i, step| {
                let planes = y.chunks_exact_mut(plane).zip(z.chunks_exact_mut(plane));
                for (c, (x, (y, z))) in x.chunks_exact(area).zip(planes).enumerate() {
                    let outputs = y[o..o + len].iter_mut().zip(&mut z[o..o + len]);
                    for (k, (y, z)) in outputs.enumerate() {
                        let read = i + k * step;
                        f(x[read], c * area, read, y, z);
                    }
                }
            });
            ticks.add(y.len())
        })
    }

    /// How many taps of the window at `position` count along axis `i`.
    fn counted(&self, i: usize, position: usize, include_pad: bool) -> usize {
        let (a, n) = (self.axes[i], self.input[i]);
        if !include_pad {
            return a.taps(position, n).len();
        }
        // Elements behind the padding do not count.
        let behind = n as i64 + a.end - a.at(position, 0);
        let taps = (behind + a.dilation - 1).div_euclid(a.dilation);
        taps.clamp(0, a.kernel) as usize
    }

    /// The index of an element in the order of storage.
    fn index(&self, flat: i64, column_major: bool) -> i64 {
        if !column_major {
            return flat;
        }
        let area: i64 = self.input.iter().map(|&d| d as i64).product();
        let (plane, mut rest) = (flat / area * area, flat % area);
        let mut place = vec![0; self.input.len()];
        for (p, &d) in place.iter_mut().zip(self.input).rev() {
            *p = rest % d as i64;
            rest /= d as i64;
        }
        let inner = place.iter().zip(self.input).rev();
        plane + inner.fold(0, |sum, (p, &d)| sum * d as i64 + p)
    }
}

impl Operator for Pool {
    fn name(&self) -> &str {
        match self.kind {
            PoolKind::Max { .. } => "MaxPool",
            PoolKind::Average { .. } => "AveragePool",
            PoolKind::Lp { .. } => "LpPool",
        }
    }

    fn attrs(&self) -> Attrs {
        let attrs = self.window.write().with("ceil_mode", self.ceil_mode.then_some(true));
        match self.kind {
            PoolKind::Max { column_major } => {
                attrs.with("storage_order", column_major.then_some(true))
            }
            PoolKind::Average { count_include_pad } => {
                attrs.with("count_include_pad", count_include_pad.then_some(true))
            }
            PoolKind::Lp { p } => attrs.with("p", (p != 2).then_some(p)),
        }
    }

    fn traits(&self) -> Traits {
        match self.kind {
            PoolKind::Max { .. } => Traits::optional(1),
            _ => Traits::default(),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let max = matches!(self.kind, PoolKind::Max { .. });
        let dtype =
            cx.dtype_in(0, |d| is_real(d) || (max && matches!(d, DType::I8 | DType::U8)))?;
        if matches!(self.kind, PoolKind::Lp { p } if p < 1) {
            invalid!("p must be positive");
        }
        let shape = match cx.shape(0)? {
            Some(x) => Some(dims(x, &self.axes(spatial(x.len())?)?)?),
            None => None,
        };
        let mut facts = vec![Fact::tensor(dtype, shape.clone())];
        if max {
            facts.push(Fact::tensor(DType::I64, shape));
        }
        Ok(facts)
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let axes = self.axes(spatial(x.rank())?)?;
        let resolved: Result<Vec<_>> =
            axes.into_iter().zip(&x.shape()[2..]).map(|(a, &n)| a.resolve(n)).collect();
        let (axes, output): (Vec<_>, Vec<_>) = resolved?.into_iter().unzip();
        let mut shape = x.shape()[..2].to_vec();
        shape.extend(&output);
        let g = Geometry { cx, axes, input: &x.shape()[2..], output: &output, shape };
        let y = match self.kind {
            PoolKind::Max { .. } => {
                return match_number!(x.dtype(), T => {
                    let (y, at) = self.max(&g, x.as_slice::<T>()?)?;
                    let (y, at) = (Tensor::from_vec(&g.shape, y)?, Tensor::from_vec(&g.shape, at)?);
                    Ok(vec![y.into(), at.into()])
                }, else invalid!("MaxPool takes no {}", x.dtype()));
            }
            PoolKind::Average { count_include_pad: pad } => match_real!(x.dtype(), R => {
                narrow(x.dtype(), &g.shape, self.average(&g, &widen::<R>(x)?, pad)?)?
            }, else invalid!("AveragePool takes no {}", x.dtype())),
            PoolKind::Lp { p } => match_real!(x.dtype(), R => {
                narrow(x.dtype(), &g.shape, self.norm(&g, &widen::<R>(x)?, p)?)?
            }, else invalid!("LpPool takes no {}", x.dtype())),
        };
        Ok(vec![y.into()])
    }
}

/// The number of spatial axes.
pub(crate) fn spatial(rank: usize) -> Result<usize> {
    match rank.checked_sub(2) {
        Some(n) if n > 0 => Ok(n),
        _ => invalid!("a tensor of rank {rank} has no spatial axes"),
    }
}

fn dims(x: &[Dim], axes: &[Axis]) -> Result<Vec<Dim>> {
    let spatial = axes.iter().zip(&x[2..]).map(|(a, n)| a.positions(n));
    x[..2].iter().cloned().map(Ok).chain(spatial).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, types};

    fn ramp(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_vec(shape, (1..=n).map(|i| i as f32).collect()).expect("lengths agree")
    }

    fn apply(op: &str, attrs: &str, x: Tensor) -> Vec<Vec<f32>> {
        let text = format!("y, z = {op}(x: f32[..]) {{{attrs}}}\nreturn y, z");
        let one = format!("y = {op}(x: f32[..]) {{{attrs}}}\nreturn y");
        let text = if op == "MaxPool" { text } else { one };
        let out = run(&text, &[x]).expect("runs");
        out.iter().map(|d| d.as_tensor().expect("tensor").to_vec().expect("numbers")).collect()
    }

    #[test]
    fn maxima_and_their_places() {
        let got = apply("MaxPool", "kernel_shape=[2,2], strides=[1,2]", ramp(&[1, 2, 2, 4]));
        assert_eq!(got, [[6.0, 8.0, 14.0, 16.0], [5.0, 7.0, 13.0, 15.0]]);
        let got = apply("MaxPool", "kernel_shape=[2,2], storage_order=1", ramp(&[1, 2, 2, 3]));
        assert_eq!(got, [[5.0, 6.0, 11.0, 12.0], [3.0, 5.0, 9.0, 11.0]]);
        let least = Tensor::from_vec(&[1, 1, 3], vec![f32::NEG_INFINITY; 3]).expect("3");
        let got = apply("MaxPool", "kernel_shape=[2], pads=[1,0]", least);
        assert_eq!(got[1], [0.0, 0.0, 1.0]);
    }

    #[test]
    fn ceiling_and_dilation() {
        let got = apply("MaxPool", "kernel_shape=[2], strides=[2], ceil_mode=1", ramp(&[1, 1, 5]));
        assert_eq!(got[0], [2.0, 4.0, 5.0]);
        let got = apply("MaxPool", "kernel_shape=[2], dilations=[3]", ramp(&[1, 1, 5]));
        assert_eq!(got[0], [4.0, 5.0]);
    }

    #[test]
    fn averages_count_what_they_are_told() {
        let x = ramp(&[1, 1, 4]);
        let cases: &[(&str, &[f32])] = &[
            ("kernel_shape=[3], pads=[1,1]", &[1.5, 2.0, 3.0, 3.5]),
            ("kernel_shape=[3], pads=[1,1], count_include_pad=1", &[1.0, 2.0, 3.0, 7.0 / 3.0]),
            ("kernel_shape=[3], strides=[2], ceil_mode=1", &[2.0, 3.5]),
            ("kernel_shape=[3], strides=[2], ceil_mode=1, count_include_pad=1", &[2.0, 3.5]),
            ("kernel_shape=[2], auto_pad=\"SAME_LOWER\"", &[1.0, 1.5, 2.5, 3.5]),
        ];
        for (attrs, want) in cases {
            assert_close(&apply("AveragePool", attrs, x.clone())[0], want, 1e-6);
        }
    }

    #[test]
    fn norms() {
        let x = Tensor::from_vec(&[1, 1, 2], vec![3f32, -4.0]).expect("1x1x2");
        for (p, want) in [(1, 7.0), (2, 5.0), (3, 91f32.cbrt())] {
            let got = apply("LpPool", &format!("kernel_shape=[2], p={p}"), x.clone());
            assert_close(&got[0], &[want], 1e-5);
        }
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |op: &str| types(&format!("y = {op}\nreturn y"));
        let half = ty("MaxPool(x: u8[N,C,H]) {kernel_shape=[2], strides=[2]}").expect("types");
        assert_eq!(half, ["u8[N,C,floor(H,2)]"]);
        assert!(ty("MaxPool(x: f32[N,C,H])").is_err());
        assert!(ty("MaxPool(x: f32[N,C]) {kernel_shape=[2]}").is_err());
        assert!(ty("AveragePool(x: u8[N,C,H]) {kernel_shape=[2]}").is_err());
        assert!(ty("MaxPool(x: f32[N,C,3]) {kernel_shape=[5]}").is_err());
    }
}
