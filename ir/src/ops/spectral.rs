//! Fourier transforms along one axis, and of windows that slide over a signal.
//!
//! ```text
//! y = DFT(x: f32[B,N,1])                          y: f32[B,N,2]
//! y = DFT(x: f32[B,N,1]) {onesided=1}             y: f32[B,floor(N/2)+1,2]
//! y = STFT(x: f32[B,N,1], step: i64[], w: f32[F]) y: f32[B,floor((N-F)/step)+1,floor(F/2)+1,2]
//! ```
//! The last axis holds real and imaginary parts, or real ones alone.

use std::ops::RangeInclusive;

use kiln_tensor::shape::{axis, numel};
use kiln_tensor::{DType, Datum, Scalar, Tensor, match_float};

use crate::eval::{optional, tensor};
use crate::ops::real::{Ticks, is_real};
use crate::{Attrs, Build, Built, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid};

mod fft;

use fft::{C, Fft};

/// A Fourier transform; calculated in `f64`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spectral {
    /// `DFT`: inputs x, its length, its axis.
    Dft {
        /// Whether it is the inverse.
        inverse: bool,
        /// Whether the spectrum is that of real numbers, and only its first half is held.
        onesided: bool,
    },
    /// `STFT`: inputs x, the step, a window, its length.
    Stft {
        /// Whether only the first half of each spectrum is held.
        onesided: bool,
    },
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "DFT",
        since: 17,
        build: |b| {
            let axis = b.take::<i64>("axis")?.unwrap_or(1);
            let axis = b.constant(Tensor::scalar(axis));
            b.set_input(2, Some(axis));
            dft(b)
        },
    },
    Schema { name: "DFT", since: 20, build: dft },
    Schema {
        name: "STFT",
        since: 17,
        build: |b| Ok(Spectral::Stft { onesided: b.take("onesided")?.unwrap_or(true) }.into()),
    },
];

fn dft(b: &mut Build<'_>) -> Result<Built> {
    let inverse = b.take("inverse")?.unwrap_or(false);
    Ok(Spectral::Dft { inverse, onesided: b.take("onesided")?.unwrap_or(false) }.into())
}

/// A length read from a scalar; it must be positive.
fn length(t: &Tensor, what: &str) -> Result<usize> {
    match usize::try_from(t.to_scalar::<i64>()?) {
        Ok(n) if n > 0 => Ok(n),
        _ => invalid!("{what} must be positive"),
    }
}

/// The first element of a small input as a length.
fn known(cx: &mut Infer<'_>, i: usize) -> Dim {
    match cx.dims(i).as_deref() {
        Some([d]) => d.clone(),
        _ => cx.fresh(),
    }
}

fn half(n: &Dim) -> Dim {
    n.floor_div(&2i64.into()) + Dim::from(1i64)
}

/// An error unless the last axis holds real parts, or real and imaginary parts.
fn check_parts(d: &Dim) -> Result<()> {
    match d.as_const() {
        None | Some(1 | 2) => Ok(()),
        Some(n) => invalid!("the last axis has {n} elements, expected 1 (real) or 2 (complex)"),
    }
}

fn dft_shape(cx: &mut Infer<'_>, inverse: bool, onesided: bool) -> Result<Option<Vec<Dim>>> {
    let Some(x) = cx.shape(0)? else { return Ok(None) };
    let Some((parts, _)) = x.split_last().filter(|(_, lead)| !lead.is_empty()) else {
        invalid!("the input has rank {}, the transform needs 2 or more", x.len());
    };
    check_parts(parts)?;
    let real = inverse && onesided;
    let mut shape = x.to_vec();
    shape[x.len() - 1] = if real { 1i64 } else { 2 }.into();
    let at = match (cx.has(2), cx.ints(2)?.as_deref()) {
        (false, _) => Some(x.len() - 2),
        (true, Some([a])) => Some(axis(*a, x.len())?),
        _ => None,
    };
    let Some(at) = at else {
        let lead = x.len() - 1;
        shape.splice(..lead, cx.fresh_shape(lead));
        return Ok(Some(shape));
    };
    if at == x.len() - 1 {
        invalid!("the last axis holds the parts of numbers, it cannot be transformed");
    }
    let n = match cx.has(1) {
        true => known(cx, 1),
        false if real => Dim::from(2i64) * (x[at].clone() - Dim::from(1i64)),
        false => x[at].clone(),
    };
    shape[at] = if onesided && !inverse { half(&n) } else { n };
    Ok(Some(shape))
}

fn stft_shape(cx: &mut Infer<'_>, onesided: bool) -> Result<Vec<Dim>> {
    let x = match cx.shape(0)? {
        None => cx.fresh_shape(3),
        Some(x) if x.len() == 3 => x.to_vec(),
        Some(x) => invalid!("the signal has rank {}, expected [batch,length,parts]", x.len()),
    };
    check_parts(&x[2])?;
    let frame = match (cx.has(2), cx.has(3)) {
        (_, true) => known(cx, 3),
        (true, false) => match cx.shape(2)? {
            Some([n]) => n.clone(),
            Some(s) => invalid!("the window has rank {}, not 1", s.len()),
            None => cx.fresh(),
        },
        (false, false) => x[1].clone(),
    };
    let step = known(cx, 1);
    let frames = (x[1].clone() - frame.clone()).floor_div(&step) + Dim::from(1i64);
    let bins = if onesided { half(&frame) } else { frame };
    Ok(vec![x[0].clone(), frames, bins, 2i64.into()])
}

/// Numbers read from a tensor whose last axis holds their parts.
struct Signal {
    data: Vec<f64>,
    parts: usize,
}

impl Signal {
    fn new(x: &Tensor) -> Result<Self> {
        match x.shape().last() {
            Some(&parts @ (1 | 2)) => Ok(Self { data: x.to_vec::<f64>()?, parts }),
            _ => invalid!("the last axis of {:?} must hold 1 or 2 parts", x.shape()),
        }
    }

    fn at(&self, i: usize) -> C {
        let p = &self.data[i * self.parts..][..self.parts];
        (p[0], p.get(1).copied().unwrap_or(0.0))
    }
}

fn store(dtype: DType, shape: &[usize], y: Vec<f64>) -> Result<Tensor> {
    match_float!(dtype, T => {
        let data = y.into_iter().map(<T as Scalar>::from_f64).collect();
        Ok(Tensor::from_vec::<T>(shape, data)?)
    }, else invalid!("a spectrum is not stored as {dtype}"))
}

/// Makes half of a spectrum, whose numbers `x` begins with, that of `n` real numbers.
fn mirror(x: &mut [C]) {
    let n = x.len();
    x[0].1 = 0.0;
    if n.is_multiple_of(2) {
        x[n / 2].1 = 0.0;
    }
    for k in n / 2 + 1..n {
        x[k] = (x[n - k].0, -x[n - k].1);
    }
}

fn run_dft(
    cx: &Context,
    inputs: &[Option<&Datum>],
    inverse: bool,
    onesided: bool,
) -> Result<Tensor> {
    let x = tensor(inputs, 0)?;
    let real = inverse && onesided;
    let at = optional(inputs, 2)?.map_or(Ok(-2), Tensor::to_scalar::<i64>)?;
    let at = axis(at, x.rank())?;
    if at + 1 >= x.rank() {
        invalid!("the last axis holds the parts of numbers, it cannot be transformed");
    }
    let have = x.shape()[at];
    let n = match optional(inputs, 1)? {
        Some(n) => length(n, "dft_length")?,
        None if real => have.saturating_sub(1).saturating_mul(2),
        None => have,
    };
    let (signal, mut shape) = (Signal::new(x)?, x.shape().to_vec());
    let (bins, parts) = match (onesided, inverse) {
        (true, false) => (n / 2 + 1, 2),
        (true, true) => (n, 1),
        _ => (n, 2),
    };
    (shape[at], shape[x.rank() - 1]) = (bins, parts);
    let mut y = cx.zeros::<f64>(&shape)?;
    if n == 0 || y.is_empty() {
        return store(x.dtype(), &shape, y);
    }
    cx.numel(DType::C128, &[Fft::space(n)])?;
    let (fft, mut row) = (Fft::new(n), vec![(0.0, 0.0); n]);
    let inner = numel(&x.shape()[at + 1..x.rank() - 1])?;
    let used = if real { n / 2 + 1 } else { n }.min(have);
    let mut ticks = Ticks::new(cx);
    for i in 0..numel(&x.shape()[..at])? * inner {
        ticks.add(Fft::space(n) * 4)?;
        let (outer, offset) = (i / inner, i % inner);
        row.fill((0.0, 0.0));
        for (k, z) in row[..used].iter_mut().enumerate() {
            *z = signal.at((outer * have + k) * inner + offset);
        }
        match (real, inverse) {
            (true, _) => {
                mirror(&mut row);
                fft.backward(&mut row);
            }
            (_, true) => fft.backward(&mut row),
            _ => fft.forward(&mut row),
        }
        for (k, z) in row[..bins].iter().enumerate() {
            let at = ((outer * bins + k) * inner + offset) * parts;
            y[at..at + parts].copy_from_slice(&[z.0, z.1][..parts]);
        }
    }
    store(x.dtype(), &shape, y)
}

fn run_stft(cx: &Context, inputs: &[Option<&Datum>], onesided: bool) -> Result<Tensor> {
    let x = tensor(inputs, 0)?;
    let [batch, total, _] = *x.shape() else {
        invalid!("the signal has shape {:?}, expected [batch,length,parts]", x.shape());
    };
    let signal = Signal::new(x)?;
    let step = length(tensor(inputs, 1)?, "frame_step")?;
    let window = optional(inputs, 2)?.map(Tensor::to_vec::<f64>).transpose()?;
    let frame = match (optional(inputs, 3)?, &window) {
        (Some(n), _) => length(n, "frame_length")?,
        (None, Some(w)) => w.len(),
        (None, None) => total,
    };
    if window.as_ref().is_some_and(|w| w.len() != frame) || frame == 0 || frame > total {
        let window = window.map_or(frame, |w| w.len());
        invalid!("a window of {window} and frames of {frame} do not fit a signal of {total}");
    }
    let frames = (total - frame) / step + 1;
    let bins = if onesided { frame / 2 + 1 } else { frame };
    let shape = [batch, frames, bins, 2];
    let mut y = Vec::with_capacity(cx.numel(DType::F64, &shape)?);
    cx.numel(DType::C128, &[Fft::space(frame)])?;
    let (fft, mut row) = (Fft::new(frame), vec![(0.0, 0.0); frame]);
    let mut ticks = Ticks::new(cx);
    for i in 0..batch * frames {
        ticks.add(Fft::space(frame) * 4)?;
        let start = i / frames * total + i % frames * step;
        for (k, z) in row.iter_mut().enumerate() {
            let (x, w) = (signal.at(start + k), window.as_ref().map_or(1.0, |w| w[k]));
            *z = (x.0 * w, x.1 * w);
        }
        fft.forward(&mut row);
        y.extend(row[..bins].iter().flat_map(|z| [z.0, z.1]));
    }
    store(x.dtype(), &shape, y)
}

impl Operator for Spectral {
    fn name(&self) -> &str {
        match self {
            Spectral::Dft { .. } => "DFT",
            Spectral::Stft { .. } => "STFT",
        }
    }

    fn attrs(&self) -> Attrs {
        match *self {
            Spectral::Dft { inverse, onesided } => Attrs::default()
                .with("inverse", inverse.then_some(true))
                .with("onesided", onesided.then_some(true)),
            Spectral::Stft { onesided } => {
                Attrs::default().with("onesided", (!onesided).then_some(false))
            }
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Spectral::Dft { .. } => 1..=3,
            Spectral::Stft { .. } => 2..=4,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        let (lengths, shape) = match *self {
            Spectral::Dft { inverse, onesided } => ([1, 2], dft_shape(cx, inverse, onesided)?),
            Spectral::Stft { onesided } => {
                cx.same_dtype([0, 2])?;
                ([1, 3], Some(stft_shape(cx, onesided)?))
            }
        };
        for i in lengths.into_iter().filter(|&i| cx.has(i)).collect::<Vec<_>>() {
            cx.dtype_in(i, |d| matches!(d, DType::I32 | DType::I64))?;
        }
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        Ok(vec![match *self {
            Spectral::Dft { inverse, onesided } => run_dft(cx, inputs, inverse, onesided)?.into(),
            Spectral::Stft { onesided } => run_stft(cx, inputs, onesided)?.into(),
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run1, t, types};

    fn close(y: Result<Tensor>, shape: &[usize], want: &[f32]) {
        let y = y.expect("runs");
        assert_eq!(y.shape(), shape);
        assert_close(y.as_slice::<f32>().expect("f32"), want, 1e-5);
    }

    #[test]
    fn transforms_by_hand() {
        let dft = |attrs: &str, x: Tensor| {
            let ty = crate::Type::of(&x.clone().into());
            run1(&format!("y = DFT(x: {ty}) {{{attrs}}}\nreturn y"), &[x])
        };
        let r = 0.75f32.sqrt();
        let want = [6., 0., -1.5, r, -1.5, -r];
        close(dft("", t(&[3, 1], &[1., 2., 3.])), &[3, 2], &want);
        close(dft("onesided=1", t(&[3, 1], &[1., 2., 3.])), &[2, 2], &want[..4]);
        close(dft("inverse=1", t(&[3, 2], &want)), &[3, 2], &[1., 0., 2., 0., 3., 0.]);
        // Half a spectrum of 1, 2, 3, 4; the imaginary parts at the ends mean nothing.
        let halved = t(&[3, 2], &[10., 5., -2., 2., -2., 5.]);
        close(dft("inverse=1, onesided=1", halved), &[4, 1], &[1., 2., 3., 4.]);
    }

    #[test]
    fn other_axes_and_lengths() {
        let text = "y = DFT(x: f32[2,2,1], n: i64[], a: i64[])\nreturn y";
        let x = t(&[2, 2, 1], &[1., 2., 3., 4.]);
        let s = |i: i64| Tensor::scalar(i);
        close(
            run1(text, &[x.clone(), s(2), s(0)]),
            &[2, 2, 2],
            &[4., 0., 6., 0., -2., 0., -2., 0.],
        );
        close(run1(text, &[x.clone(), s(1), s(-2)]), &[2, 1, 2], &[1., 0., 3., 0.]);
        let four = [3., 0., 1., -2., -1., 0., 1., 2., 7., 0., 3., -4., -1., 0., 3., 4.];
        close(run1(text, &[x.clone(), s(4), s(1)]), &[2, 4, 2], &four);
        for (n, a) in [(0, 1), (-1, 1), (2, 2), (2, -1), (i64::MAX, 1)] {
            assert!(run1(text, &[x.clone(), s(n), s(a)]).is_err(), "{n} {a}");
        }
        let symbols = "y = DFT(x: f32[B,N,2]) {inverse=1, onesided=1}\nreturn y";
        assert_eq!(types(symbols).expect("types"), ["f32[B,2*N-2,1]"]);
        assert!(types("y = DFT(x: f32[B,N,3])\nreturn y").is_err());
    }

    #[test]
    fn sliding_windows() {
        let text = "y = STFT(x: f32[1,5,1], s: i64[], w: f32[2])\nreturn y";
        let x = t(&[1, 5, 1], &[1., 2., 3., 4., 5.]);
        let inputs = [x, Tensor::scalar(2i64), t(&[2], &[1.0, 0.5])];
        close(run1(text, &inputs), &[1, 2, 2, 2], &[2., 0., 0., 0., 5., 0., 1., 0.]);
        let long = text.replace("f32[2]", "f32[6]");
        let inputs = [inputs[0].clone(), Tensor::scalar(2i64), t(&[6], &[1.0; 6])];
        assert!(run1(&long, &inputs).is_err());
        let text = "y = STFT(x: f32[B,9,1], s: i64[], _, n: i64[]) {onesided=0}\nreturn y";
        let ty = types(text).expect("types")[0].clone();
        assert!(ty.starts_with("f32[B,") && ty.ends_with(",2]"), "{ty}");
    }
}
