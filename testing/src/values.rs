//! Values for the inputs of a graph.

use fastrand::Rng;
use kiln_ir::{Dim, Error, Graph, Result, Type};
use kiln_tensor::{DType, Datum, Tensor, match_number};

/// Values for the inputs of `g` from a seed: floats in -1..1 with a few exact zeros, all bytes,
/// other integers in 0..=3, truth values and short texts. Every symbol stands for `n`.
///
/// An error: an input is no tensor, or has an unknown rank.
pub fn inputs(g: &Graph, n: i64, seed: u64) -> Result<Vec<Datum>> {
    let mut random = Rng::with_seed(seed);
    g.inputs().map(|v| Ok(value(g.ty(v), n, &mut random)?.into())).collect()
}

/// The graph of a text in which constants have no elements: `w = f32[2,3]`. They are made up.
///
/// # Panics
/// Where the text does not parse: it is the test's.
pub fn graph(source: &str) -> Graph {
    let mut random = Rng::with_seed(3);
    let mut filled = |line: &str| {
        let shape = line.split_once(" = f32[")?.1.strip_suffix(']')?;
        let n = shape.split(',').map(|d| d.parse::<usize>().ok()).product::<Option<usize>>()?;
        let data: Vec<_> =
            (0..n).map(|_| format!("{:?}", number(DType::F32, &mut random) as f32)).collect();
        Some(format!("{line}{{{}}}", data.join(",")))
    };
    let lines = source.lines().map(|line| filled(line).unwrap_or_else(|| line.to_owned()));
    let text = lines.collect::<Vec<_>>().join("\n");
    kiln_ir::text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{source}"))
}

fn value(ty: &Type, n: i64, random: &mut Rng) -> Result<Tensor> {
    let ty = ty.as_tensor()?;
    let Some(dims) = &ty.shape else {
        return Err(Error::invalid("an input of unknown rank cannot be made up"));
    };
    let length = |d: &Dim| d.eval(&|_| Some(n)).and_then(|n| usize::try_from(n).ok());
    let shape: Option<Vec<usize>> = dims.iter().map(length).collect();
    let shape = shape.ok_or_else(|| Error::invalid("the length of an input is negative"))?;
    tensor(ty.dtype, &shape, random)
}

/// A tensor of such values.
pub fn tensor(dtype: DType, shape: &[usize], random: &mut Rng) -> Result<Tensor> {
    let n = shape.iter().product();
    match dtype {
        DType::String => {
            let texts = (0..n).map(|_| random.alphabetic().to_string()).collect();
            Ok(Tensor::from_strings(shape, texts)?)
        }
        DType::Bool => Ok(Tensor::from_vec(shape, (0..n).map(|_| random.bool()).collect())?),
        _ => match_number!(dtype, T => {
            let data = (0..n).map(|_| <T as kiln_tensor::Scalar>::from_f64(number(dtype, random)));
            Ok(Tensor::from_vec::<T>(shape, data.collect())?)
        }, else Err(Error::invalid(format!("no values of type {dtype} are made up")))),
    }
}

fn number(dtype: DType, random: &mut Rng) -> f64 {
    match dtype.is_float() {
        true if random.u8(..16) == 0 => 0.0,
        true => random.f64() * 2.0 - 1.0,
        false if dtype == DType::U8 => f64::from(random.u8(..)),
        false if dtype == DType::I8 => f64::from(random.i8(..)),
        false => f64::from(random.u8(..4)),
    }
}
