//! Between numbers and their quantized forms.
//!
//! ```text
//! y = QuantizeLinear(x: f32[N,C], scale: f32[C], zero: i8[C])     y: i8[N,C]
//! x = DequantizeLinear(y: i8[N,C], scale: f32[C], zero: i8[C])    x: f32[N,C]
//! ```
//! A scale is one for all, one for each place along `axis`, or one for each block of
//! `block_size` places along it.

use std::ops::RangeInclusive;

use kiln_tensor::minifloat::Overflow;
use kiln_tensor::shape::{axis, numel};
use kiln_tensor::{
    DType, Datum, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, Scalar, Tensor, match_float,
};

use crate::eval::{optional, tensor};
use crate::ops::quantized::saturate;
use crate::ops::real::is_real;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, attrs, invalid};

attrs! {
    /// `saturate(round(x / scale) + zero_point)`; inputs `x scale zero_point`.
    #[derive(Copy)]
    pub struct QuantizeLinear {
        /// The axis along which scales change.
        axis: i64 = 1,
        /// Places that share a scale; 0 where scales are not blocked.
        block_size: i64 = 0,
        /// The type of the result; the zero point's, else `u8`, where there is none.
        output_dtype: Option<DType> = None,
        /// The type in which x is divided; the scale's where there is none.
        precision: Option<DType> = None,
        /// Whether floats of 8 bits saturate; else what is too large is infinite or NaN.
        saturate: bool = true,
    }
}

attrs! {
    /// `(x - zero_point) * scale`; inputs `x scale zero_point`.
    #[derive(Copy)]
    pub struct DequantizeLinear {
        /// The axis along which scales change.
        axis: i64 = 1,
        /// Places that share a scale; 0 where scales are not blocked.
        block_size: i64 = 0,
        /// The type of the result; the scale's where there is none.
        output_dtype: Option<DType> = None,
    }
}

/// Quantizes to `u8` by the range of the data, which is made to hold 0; outputs
/// `y scale zero_point`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamicQuantizeLinear;

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "QuantizeLinear",
        since: 10,
        build: |b| {
            let mut q = QuantizeLinear::read(&mut b.attrs)?;
            q.output_dtype =
                q.output_dtype.filter(|_| !b.inputs.get(2).is_some_and(Option::is_some));
            Ok(q.into())
        },
    },
    Schema {
        name: "DequantizeLinear",
        since: 10,
        build: |b| Ok(DequantizeLinear::read(&mut b.attrs)?.into()),
    },
    Schema {
        name: "com.microsoft.QuantizeLinear",
        since: 1,
        build: |b| Ok(QuantizeLinear::read(&mut b.attrs)?.into()),
    },
    Schema {
        name: "com.microsoft.DequantizeLinear",
        since: 1,
        build: |b| Ok(DequantizeLinear::read(&mut b.attrs)?.into()),
    },
    Schema {
        name: "DynamicQuantizeLinear",
        since: 11,
        build: |_| Ok(DynamicQuantizeLinear.into()),
    },
];

/// Where the scale of each element lies: runs of `inner` elements share one.
enum Grid {
    One,
    Along { inner: usize, n: usize },
    Blocks { inner: usize, n: usize, size: usize, blocks: usize },
}

impl Grid {
    fn of(x: &[usize], scale: &[usize], at: i64, block_size: i64) -> Result<Self> {
        if block_size == 0 && (scale.is_empty() || scale == [1]) {
            return Ok(Grid::One);
        }
        let at = axis(at, x.len())?;
        let (n, inner) = (x[at], numel(&x[at + 1..])?);
        let Some(size) = usize::try_from(block_size).ok() else {
            invalid!("block_size is {block_size}");
        };
        if size == 0 {
            if scale != [n] {
                invalid!("the scale has shape {scale:?}, axis {at} has {n} places");
            }
            return Ok(Grid::Along { inner, n });
        }
        let blocks = n.div_ceil(size);
        let mut want = x.to_vec();
        want[at] = blocks;
        if scale != want {
            invalid!("the scale has shape {scale:?}, blocks of {size} need {want:?}");
        }
        Ok(Grid::Blocks { inner, n, size, blocks })
    }

    fn place(&self, i: usize) -> usize {
        match *self {
            Grid::One => 0,
            Grid::Along { inner, n } => i / inner % n,
            Grid::Blocks { inner, n, size, blocks } => {
                (i / (inner * n) * blocks + i / inner % n / size) * inner + i % inner
            }
        }
    }
}

/// The zero points of a grid, which must look like the scales.
fn zeros(zero: Option<&Tensor>, scale: &Tensor) -> Result<Vec<f64>> {
    match zero {
        None => Ok(vec![0.0; scale.len()]),
        Some(z) if z.len() == scale.len() => Ok(z.to_vec::<f64>()?),
        Some(z) => invalid!("{} scales and {} zero points", scale.len(), z.len()),
    }
}

/// What holds where each element has its own quotient or product: a vector of scales is one that
/// broadcasts along the axis.
fn by_element(block_size: i64) -> Traits {
    Traits { elementwise: block_size == 0, ..Traits::default() }
}

/// Rounds to a float type that calculates.
fn rounding(dtype: DType) -> fn(f64) -> f64 {
    match_float!(dtype, T => |x| T::from_f64(x).to_f64(), else |x| f64::from(x as f32))
}

/// Rounds to a float of 8 bits without saturating.
fn overflowing(dtype: DType, shape: &[usize], v: &[f64]) -> Result<Tensor> {
    macro_rules! cast {
        ($($d:ident),*) => {
            match dtype {
                $(DType::$d => {
                    let cast = |&x: &f64| $d::from_f32(x as f32, Overflow::Infinite);
                    Ok(Tensor::from_vec::<$d>(shape, v.iter().map(cast).collect())?)
                })*
                d => invalid!("values are not cast to {d} without saturating"),
            }
        };
    }
    cast!(F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ)
}

fn is_float8(d: DType) -> bool {
    matches!(d, DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ)
}

/// Whether numbers are quantized to the type.
fn is_quantized(d: DType) -> bool {
    use DType::{F4E2M1, F6E2M3, F6E3M2, I2, I4, I8, I16, U2, U4, U8, U16};
    let float = matches!(d, F4E2M1 | F6E2M3 | F6E3M2) || is_float8(d);
    float || matches!(d, I2 | I4 | I8 | I16 | U2 | U4 | U8 | U16)
}

/// Checks what is known of the scale's shape.
fn check_scale(cx: &Infer<'_>, at: i64, block_size: i64) -> Result<()> {
    let (Some(x), Some(scale)) = (cx.shape(0)?, cx.shape(1)?) else { return Ok(()) };
    let known = |d: &[Dim]| d.iter().map(Dim::as_len).collect::<Option<Vec<_>>>();
    if let (Some(x), Some(scale)) = (known(x), known(scale)) {
        Grid::of(&x, &scale, at, block_size)?;
    }
    if cx.has(2)
        && let Some(zero) = cx.shape(2)?
        && let (Some(scale), Some(zero)) = (known(scale), known(zero))
        && numel(&scale)? != numel(&zero)?
    {
        invalid!("the scale has shape {scale:?}, the zero point {zero:?}");
    }
    Ok(())
}

impl QuantizeLinear {
    fn dtype(&self, zero: Option<DType>) -> DType {
        zero.or(self.output_dtype).unwrap_or(DType::U8)
    }
}

impl Operator for QuantizeLinear {
    fn name(&self) -> &str {
        "QuantizeLinear"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn traits(&self) -> Traits {
        by_element(self.block_size)
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, |d| is_real(d) || d == DType::I32)?;
        cx.dtype_in(1, |d| is_real(d) || matches!(d, DType::I32 | DType::F8E8M0))?;
        let zero = if cx.has(2) { Some(cx.dtype(2)?) } else { None };
        let dtype = self.dtype(zero);
        if !is_quantized(dtype) {
            invalid!("numbers are not quantized to {dtype}");
        }
        check_scale(cx, self.axis, self.block_size)?;
        Ok(vec![Fact::tensor(dtype, cx.shape(0)?.map(<[_]>::to_vec))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, scale, zero) = (tensor(inputs, 0)?, tensor(inputs, 1)?, optional(inputs, 2)?);
        let dtype = self.dtype(zero.map(Tensor::dtype));
        cx.numel(DType::F64, x.shape())?;
        let grid = Grid::of(x.shape(), scale.shape(), self.axis, self.block_size)?;
        let zero = zeros(zero, scale)?;
        let round = rounding(self.precision.unwrap_or(scale.dtype()));
        let scale = scale.to_vec::<f64>()?;
        let divided = x.to_vec::<f64>()?.into_iter().enumerate().map(|(i, x)| {
            let p = grid.place(i);
            (round(round(x) / round(scale[p])), zero[p])
        });
        if is_float8(dtype) && !self.saturate {
            let values: Vec<f64> = divided.map(|(x, z)| x + z).collect();
            return Ok(vec![overflowing(dtype, x.shape(), &values)?.into()]);
        }
        let (values, zeros): (Vec<f32>, Vec<f32>) =
            divided.map(|(x, z)| (x as f32, z as f32)).unzip();
        let y = saturate(dtype, x.shape(), values.into_iter(), zeros.into_iter())?;
        Ok(vec![y.into()])
    }
}

impl Operator for DequantizeLinear {
    fn name(&self) -> &str {
        "DequantizeLinear"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn traits(&self) -> Traits {
        by_element(self.block_size)
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, |d| is_quantized(d) || d == DType::I32)?;
        cx.same_dtype([0, 2])?;
        let scale = cx.dtype_in(1, |d| is_real(d) || d == DType::F8E8M0)?;
        let dtype = self.output_dtype.unwrap_or(scale);
        if !is_real(dtype) {
            invalid!("numbers are not dequantized to {dtype}: set `output_dtype`");
        }
        check_scale(cx, self.axis, self.block_size)?;
        Ok(vec![Fact::tensor(dtype, cx.shape(0)?.map(<[_]>::to_vec))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, scale) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let dtype = self.output_dtype.unwrap_or(scale.dtype());
        cx.numel(DType::F64, x.shape())?;
        let grid = Grid::of(x.shape(), scale.shape(), self.axis, self.block_size)?;
        let zero = zeros(optional(inputs, 2)?, scale)?;
        let scale = scale.to_vec::<f32>()?;
        // A product of two f32 is exact in f64, so it is rounded once.
        let values = x.to_vec::<f64>()?.into_iter().enumerate().map(|(i, x)| {
            let p = grid.place(i);
            f64::from((x - zero[p]) as f32) * f64::from(scale[p])
        });
        let y = match_float!(dtype, T => {
            Tensor::from_vec::<T>(x.shape(), values.map(T::from_f64).collect())?
        }, else invalid!("numbers are not dequantized to {dtype}"));
        Ok(vec![y.into()])
    }
}

impl Operator for DynamicQuantizeLinear {
    fn name(&self) -> &str {
        "DynamicQuantizeLinear"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, |d| d == DType::F32)?;
        let shape = cx.shape(0)?.map(<[_]>::to_vec);
        Ok(vec![
            Fact::tensor(DType::U8, shape),
            Fact::shaped(DType::F32, vec![]),
            Fact::shaped(DType::U8, vec![]),
        ])
    }

    fn eval(&self, _: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let data = x.as_slice::<f32>()?;
        let (scale, zero) = dynamic_range(data);
        let q = |x: &f32| u8::from_f64(f64::from((x / scale).round_ties_even()) + f64::from(zero));
        let y = Tensor::from_vec(x.shape(), data.iter().map(q).collect::<Vec<u8>>())?;
        Ok(vec![y.into(), Tensor::scalar(scale).into(), Tensor::scalar(zero).into()])
    }
}

/// The scale and the zero point by which `u8` holds the range of `x` and 0.
pub(crate) fn dynamic_range(x: &[f32]) -> (f32, u8) {
    let (low, high) = x.iter().fold((0f32, 0f32), |(l, h), &x| (l.min(x), h.max(x)));
    let scale = if high > low { (high - low) / 255.0 } else { 1.0 };
    (scale, u8::from_f64(f64::from((-low / scale).clamp(0.0, 255.0).round_ties_even())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, run1, types};

    fn quantize(rest: &str, x: &[f32]) -> Vec<f64> {
        let text = format!("{rest}\nreturn y");
        let y = run1(&text, &[Tensor::vector(x.to_vec())]).expect("runs");
        y.to_vec().expect("numbers")
    }

    #[test]
    fn rounding_to_even_and_saturating() {
        let got = quantize(
            "s = f32[]{2.0}\nz = i8[]{1}\ny = QuantizeLinear(x: f32[5], s, z)",
            &[1.0, 3.0, 5.0, 1000.0, -1000.0],
        );
        assert_eq!(got, [1.0, 3.0, 3.0, 127.0, -128.0]);
        let got = quantize("s = f32[]{1.0}\ny = QuantizeLinear(x: f32[2], s)", &[-1.0, 2.0]);
        assert_eq!(got, [0.0, 2.0]);
        let narrow = "s = f32[]{1.0}\nz = i4[]{0}\ny = QuantizeLinear(x: f32[3], s, z)";
        assert_eq!(quantize(narrow, &[-20.0, 3.0, 20.0]), [-8.0, 3.0, 7.0]);
        let float8 = "s = f32[]{1.0}\nz = f8e4m3fn[]{0}\ny = QuantizeLinear(x: f32[1], s, z)";
        assert_eq!(quantize(float8, &[1e6]), [448.0]);
        assert!(quantize(&format!("{float8} {{saturate=0}}"), &[1e6])[0].is_nan());
    }

    #[test]
    fn scales_along_an_axis_and_in_blocks() {
        let x = Tensor::from_vec(&[2, 3], vec![1i8, 2, 3, 4, 5, 6]).expect("2x3");
        let dequantize = |scale: &str, attrs: &str| {
            let text =
                format!("s = {scale}\ny = DequantizeLinear(x: i8[2,3], s) {attrs}\nreturn y");
            run1(&text, std::slice::from_ref(&x)).and_then(|y| Ok(y.to_vec::<f32>()?))
        };
        let rows = dequantize("f32[2]{1.0,10.0}", "{axis=0}").expect("runs");
        assert_eq!(rows, [1.0, 2.0, 3.0, 40.0, 50.0, 60.0]);
        let blocks = dequantize("f32[2,2]{1.0,10.0,2.0,20.0}", "{block_size=2}").expect("runs");
        assert_eq!(blocks, [1.0, 2.0, 30.0, 8.0, 10.0, 120.0]);
        assert!(dequantize("f32[2]{1.0,10.0}", "").is_err());
        assert!(dequantize("f32[2,3]{1.0,1.0,1.0,1.0,1.0,1.0}", "{block_size=2}").is_err());
    }

    #[test]
    fn the_range_holds_zero() {
        let text = "y, s, z = DynamicQuantizeLinear(x: f32[3])\nreturn y, s, z";
        let out = run(text, &[Tensor::vector(vec![51f32, 102.0, 255.0])]).expect("runs");
        assert_eq!(out[0].as_tensor().expect("y"), &Tensor::vector(vec![51u8, 102, 255]));
        assert_eq!(out[1].as_tensor().expect("s"), &Tensor::scalar(1f32));
        assert_eq!(out[2].as_tensor().expect("z"), &Tensor::scalar(0u8));
        assert_eq!(dynamic_range(&[-1.0, 4.1]), (5.1 / 255.0, 50));
        assert_eq!(dynamic_range(&[0.0]), (1.0, 0));
    }

    #[test]
    fn types_follow() {
        let ty = |op: &str| types(&format!("y = {op}\nreturn y"));
        let q = ty("QuantizeLinear(x: f32[N], s: f32[]) {output_dtype=22}").expect("types");
        assert_eq!(q, ["i4[N]"]);
        let d = ty("DequantizeLinear(x: u4[N], s: f8e8m0[]) {output_dtype=16}").expect("types");
        assert_eq!(d, ["bf16[N]"]);
        assert!(ty("QuantizeLinear(x: f32[N], s: f32[], z: f32[])").is_err());
        assert!(ty("DequantizeLinear(x: u8[N], s: f32[], z: i8[])").is_err());
    }
}
