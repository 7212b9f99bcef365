//! Tables for the analysis of signals: windows, and weights that gather frequencies into bands.
//!
//! ```text
//! w = HannWindow(size: i64[])                                          w: f32[size]
//! m = MelWeightMatrix(bands, dft_length, sample_rate, lowest, highest) m: f32[bins,bands]
//! ```

use std::f64::consts::PI;
use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Scalar, Tensor, match_number};

use crate::eval::tensor;
use crate::ops::real::is_real;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid};

/// A table that a few numbers decide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SignalTable {
    /// A sum of cosines, as long as the input says.
    Window {
        /// Which cosines.
        shape: WindowShape,
        /// Whether the first element follows the last; else they are the same.
        periodic: bool,
        /// The element type.
        dtype: DType,
    },
    /// A triangle over frequencies for each band; the bands are as wide in mel.
    Mel {
        /// The element type.
        dtype: DType,
    },
}

/// The form of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowShape {
    /// `1/2 - 1/2 cos x`.
    Hann,
    /// `25/46 - 21/46 cos x`.
    Hamming,
    /// `0.42 - 0.5 cos x + 0.08 cos 2x`.
    Blackman,
}

macro_rules! window {
    ($name:literal, $shape:ident) => {
        Schema {
            name: $name,
            since: 17,
            build: |b| {
                let dtype = b.take("output_datatype")?.unwrap_or(DType::F32);
                let periodic = b.take("periodic")?.unwrap_or(true);
                Ok(SignalTable::Window { shape: WindowShape::$shape, periodic, dtype }.into())
            },
        }
    };
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    window!("HannWindow", Hann),
    window!("HammingWindow", Hamming),
    window!("BlackmanWindow", Blackman),
    Schema {
        name: "MelWeightMatrix",
        since: 17,
        build: |b| {
            let dtype = b.take("output_datatype")?.unwrap_or(DType::F32);
            Ok(SignalTable::Mel { dtype }.into())
        },
    },
];

impl WindowShape {
    fn run(self, cx: &Context, n: usize, periodic: bool) -> Result<Vec<f64>> {
        let [a, b, c] = match self {
            WindowShape::Hann => [0.5, 0.5, 0.0],
            WindowShape::Hamming => [25.0 / 46.0, 21.0 / 46.0, 0.0],
            WindowShape::Blackman => [0.42, 0.5, 0.08],
        };
        cx.numel(DType::F64, &[n])?;
        let period = if periodic { n } else { n.saturating_sub(1) } as f64;
        // One element that does not repeat is 0 / 0, as by ONNX's own formula.
        let at = |i: usize| {
            let x = 2.0 * PI * i as f64 / period;
            a - b * x.cos() + c * (2.0 * x).cos()
        };
        Ok((0..n).map(at).collect())
    }
}

fn length(t: &Tensor, what: &str) -> Result<usize> {
    match usize::try_from(t.to_scalar::<i64>()?) {
        Ok(n) => Ok(n),
        Err(_) => invalid!("{what} must not be negative"),
    }
}

/// Frequencies in hertz where bands begin, culminate and end, as places in a spectrum.
fn edges(bands: usize, dft: usize, rate: f64, [low, high]: [f64; 2]) -> Result<Vec<usize>> {
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / 10f64.ln();
    let step = (mel(high) - mel(low)) / (bands as f64 + 2.0);
    let edge = |i: usize| {
        let hertz = 700.0 * ((i as f64 * step + mel(low)) / 2595.0 * 10f64.ln()).exp_m1();
        let place = ((dft as f64 + 1.0) * hertz / rate).floor();
        if !(0.0..=(dft / 2 + 1) as f64).contains(&place) {
            invalid!("{hertz} hertz lie outside of the spectrum");
        }
        Ok(place as usize)
    };
    let edges = (0..bands + 2).map(edge).collect::<Result<Vec<_>>>()?;
    if !edges.is_sorted() {
        invalid!("the lowest frequency must not lie above the highest");
    }
    Ok(edges)
}

fn mel(cx: &Context, inputs: &[Option<&Datum>]) -> Result<([usize; 2], Vec<f64>)> {
    let t = |i: usize| tensor(inputs, i);
    let (bands, dft) = (length(t(0)?, "num_mel_bins")?, length(t(1)?, "dft_length")?);
    let rate = length(t(2)?, "sample_rate")?;
    let hertz = [t(3)?.to_scalar::<f64>()?, t(4)?.to_scalar::<f64>()?];
    let shape = [dft / 2 + 1, bands];
    let mut y = cx.zeros::<f64>(&shape)?;
    let edges = edges(bands, dft, rate as f64, hertz)?;
    for (i, e) in edges.windows(3).enumerate() {
        let [first, top, end] = [e[0], e[1], e[2]];
        if top >= shape[0] {
            invalid!("band {i} culminates outside of the spectrum");
        }
        for j in first..=top {
            let share = (j - first) as f64 / (top - first) as f64;
            y[j * bands + i] = if first == top { 1.0 } else { share };
        }
        for j in top..end {
            y[j * bands + i] = (end - j) as f64 / (end - top) as f64;
        }
    }
    Ok((shape, y))
}

fn store(dtype: DType, shape: &[usize], y: Vec<f64>) -> Result<Tensor> {
    match_number!(dtype, T => {
        // Integers are cut, not rounded; what single precision takes for whole, is.
        let cut = |y: f64| if dtype.is_integer() { f64::from((y as f32).trunc()) } else { y };
        let data = y.into_iter().map(|y| <T as Scalar>::from_f64(cut(y))).collect();
        Ok(Tensor::from_vec::<T>(shape, data)?)
    }, else invalid!("a table is not stored as {dtype}"))
}

impl Operator for SignalTable {
    fn name(&self) -> &str {
        match self {
            SignalTable::Window { shape: WindowShape::Hann, .. } => "HannWindow",
            SignalTable::Window { shape: WindowShape::Hamming, .. } => "HammingWindow",
            SignalTable::Window { shape: WindowShape::Blackman, .. } => "BlackmanWindow",
            SignalTable::Mel { .. } => "MelWeightMatrix",
        }
    }

    fn attrs(&self) -> Attrs {
        let (SignalTable::Window { dtype, .. } | SignalTable::Mel { dtype }) = *self;
        let attrs =
            Attrs::default().with("output_datatype", (dtype != DType::F32).then_some(dtype));
        match self {
            SignalTable::Window { periodic: false, .. } => attrs.with("periodic", false),
            _ => attrs,
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            SignalTable::Window { .. } => 1..=1,
            SignalTable::Mel { .. } => 5..=5,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let (SignalTable::Window { dtype, .. } | SignalTable::Mel { dtype }) = *self;
        if !dtype.is_number() {
            invalid!("output_datatype is {dtype}, no type of numbers");
        }
        let mut scalar = |i: usize| -> Result<Dim> {
            cx.dtype_in(i, |d| matches!(d, DType::I32 | DType::I64))?;
            Ok(match cx.dims(i).as_deref() {
                Some([d]) => d.clone(),
                _ => cx.fresh(),
            })
        };
        let shape = match self {
            SignalTable::Window { .. } => vec![scalar(0)?],
            SignalTable::Mel { .. } => {
                let bins = scalar(1)?.floor_div(&2i64.into()) + Dim::from(1i64);
                scalar(2)?;
                let shape = vec![bins, scalar(0)?];
                cx.dtype_in(3, is_real)?;
                cx.dtype_in(4, is_real)?;
                shape
            }
        };
        if shape.iter().any(|d| d.as_const().is_some_and(|n| n < 0)) {
            invalid!("a length is negative");
        }
        Ok(vec![Fact::shaped(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        Ok(vec![match *self {
            SignalTable::Window { shape, periodic, dtype } => {
                let n = length(tensor(inputs, 0)?, "size")?;
                store(dtype, &[n], shape.run(cx, n, periodic)?)?.into()
            }
            SignalTable::Mel { dtype } => {
                let (shape, y) = mel(cx, inputs)?;
                store(dtype, &shape, y)?.into()
            }
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run1, types};

    fn window(op: &str, n: i64) -> Result<Vec<f32>> {
        let y =
            run1(&format!("y = {op}\nreturn y").replace("()", "(n: i64[])"), &[Tensor::scalar(n)])?;
        Ok(y.to_vec::<f32>()?)
    }

    #[test]
    fn windows() {
        let ok = |op: &str, n: i64, want: &[f32]| {
            assert_close(&window(op, n).expect(op), want, 1e-6);
        };
        ok("HannWindow()", 4, &[0.0, 0.5, 1.0, 0.5]);
        ok("HannWindow() {periodic=0}", 3, &[0.0, 1.0, 0.0]);
        ok("HammingWindow()", 2, &[4.0 / 46.0, 1.0]);
        ok("BlackmanWindow()", 4, &[0.0, 0.34, 1.0, 0.34]);
        ok("BlackmanWindow()", 1, &[0.0]);
        assert!(window("BlackmanWindow() {periodic=0}", 1).expect("one")[0].is_nan());
        ok("HannWindow() {output_datatype=6}", 4, &[0.0, 0.0, 1.0, 0.0]);
        // 0.42 + 0.5 + 0.08 is just below 1 in double precision.
        ok("BlackmanWindow() {output_datatype=6}", 4, &[0.0, 0.0, 1.0, 0.0]);
        ok("HannWindow()", 0, &[]);
        assert!(window("HannWindow()", -1).is_err());
        assert!(window("HannWindow()", 1 << 60).is_err());
        let t = types("y = HammingWindow(n: i64[]) {output_datatype=11}\nreturn y");
        assert_eq!(t.expect("types"), ["f64[?1]"]);
    }

    #[test]
    fn bands() {
        let text = "y = MelWeightMatrix(b: i64[], n: i64[], r: i64[], l: f32[], h: f32[])\n\
                    return y";
        let s = |x: i64| Tensor::scalar(x);
        let f = |x: f32| Tensor::scalar(x);
        // From 0 to 700 hertz are 781.17 mel: edges at 0, 260.39, 520.78 mel are 0, 181.95
        // and 411.2 hertz, places 0, 1 and 3 of 17/2000 per hertz.
        let y = run1(text, &[s(1), s(16), s(2000), f(0.0), f(700.0)]).expect("runs");
        assert_eq!(y.shape(), [9, 1]);
        let want = [0.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_close(y.as_slice::<f32>().expect("f32"), &want, 1e-6);
        for (low, high) in [(700.0, 0.0), (0.0, 1e6), (f32::NAN, 1.0), (-900.0, 1.0)] {
            assert!(run1(text, &[s(1), s(16), s(2000), f(low), f(high)]).is_err(), "{low}");
        }
    }
}
