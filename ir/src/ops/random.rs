//! Random numbers.
//!
//! ```text
//! y = RandomNormal() {shape=[2,3], mean=1.0, seed=7.0}
//! y = Bernoulli(p: f32[N])                                  y: f32[N]
//! ```
//!
//! Numbers follow from a seed: the attribute, or else the seed of the run mixed with the name
//! of the node, so that two nodes do not draw the same numbers.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Scalar, Tensor, match_scalar};

use super::mersenne::Mersenne;
use super::real::{Ticks, is_real};
use crate::eval::tensor;
use crate::{
    Attrs, Build, Built, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, Traits,
    invalid,
};

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    /// A normal distribution.
    Normal {
        /// Its mean.
        mean: f32,
        /// Its standard deviation.
        scale: f32,
    },
    /// Equally likely numbers.
    Uniform {
        /// The least.
        low: f32,
        /// The end, which is not drawn.
        high: f32,
    },
    /// 1 with the probability that the input holds, else 0.
    Bernoulli,
    /// Columns of a matrix of logarithms of odds, for each row.
    Multinomial {
        /// How many for each row.
        sample_size: i64,
    },
}

/// Random numbers in a shape of their own or in that of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Random {
    /// What is drawn.
    pub draw: Draw,
    /// The shape; the input's where there is none.
    pub shape: Option<Box<[i64]>>,
    /// The element type; the input's where there is none.
    pub dtype: Option<DType>,
    /// Where the numbers begin.
    pub seed: Option<f32>,
    /// What sets the node apart from others without a seed.
    stream: u32,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "RandomNormal", since: 1, build: |b| shaped(b, normal) },
    Schema { name: "RandomUniform", since: 1, build: |b| shaped(b, uniform) },
    Schema { name: "RandomNormalLike", since: 1, build: |b| like(b, normal) },
    Schema { name: "RandomUniformLike", since: 1, build: |b| like(b, uniform) },
    Schema { name: "Bernoulli", since: 15, build: |b| like(b, |_| Ok(Draw::Bernoulli)) },
    Schema {
        name: "Multinomial",
        since: 7,
        build: |b| {
            let sample_size = b.take("sample_size")?.unwrap_or(1);
            let dtype = Some(b.take("dtype")?.unwrap_or(DType::I32));
            let draw = Draw::Multinomial { sample_size };
            Ok(Random { draw, shape: None, dtype, seed: b.take("seed")?, stream: stream(b) }.into())
        },
    },
];

fn normal(b: &mut Build<'_>) -> Result<Draw> {
    let (mean, scale) = (b.take("mean")?.unwrap_or(0.0), b.take("scale")?.unwrap_or(1.0));
    Ok(Draw::Normal { mean, scale })
}

fn uniform(b: &mut Build<'_>) -> Result<Draw> {
    let (low, high) = (b.take("low")?.unwrap_or(0.0), b.take("high")?.unwrap_or(1.0));
    Ok(Draw::Uniform { low, high })
}

fn shaped(b: &mut Build<'_>, draw: fn(&mut Build<'_>) -> Result<Draw>) -> Result<Built> {
    let shape = Some(b.require::<Vec<i64>>("shape")?.into());
    let dtype = Some(b.take("dtype")?.unwrap_or(DType::F32));
    let (draw, seed) = (draw(b)?, b.take("seed")?);
    Ok(Random { draw, shape, dtype, seed, stream: stream(b) }.into())
}

fn like(b: &mut Build<'_>, draw: fn(&mut Build<'_>) -> Result<Draw>) -> Result<Built> {
    let (draw, dtype, seed) = (draw(b)?, b.take("dtype")?, b.take("seed")?);
    Ok(Random { draw, shape: None, dtype, seed, stream: stream(b) }.into())
}

/// The 32-bit FNV-1a hash of the node's name.
fn stream(b: &Build<'_>) -> u32 {
    b.name.bytes().fold(0x811c_9dc5, |h, c| (h ^ u32::from(c)).wrapping_mul(0x0100_0193))
}

impl Random {
    fn generator(&self, cx: &Context) -> Mersenne {
        Mersenne::new(match self.seed {
            Some(seed) => seed as i64 as u64,
            None => cx.seed ^ (cx.seed >> 32) ^ u64::from(self.stream),
        })
    }

    fn takes(&self, d: DType) -> bool {
        match self.draw {
            Draw::Normal { .. } | Draw::Uniform { .. } => is_real(d),
            Draw::Bernoulli => d != DType::String && d != DType::C64 && d != DType::C128,
            Draw::Multinomial { .. } => matches!(d, DType::I32 | DType::I64),
        }
    }

    /// The numbers for one element each of the input, or for `n` elements of a shape.
    fn numbers(&self, cx: &Context, n: usize, input: Option<&Tensor>) -> Result<Vec<f64>> {
        cx.numel(DType::F64, &[n])?;
        let mut g = self.generator(cx);
        match self.draw {
            Draw::Normal { mean, scale } => {
                let (mean, scale) = (f64::from(mean), f64::from(scale));
                let mut pairs = std::iter::repeat_with(|| pair(&mut g)).flatten();
                tell(cx, n, || mean + scale * pairs.next().unwrap_or_default())
            }
            Draw::Uniform { low, high } => {
                let (low, high) = (f64::from(low), f64::from(high));
                tell(cx, n, || low + (high - low) * g.uniform())
            }
            Draw::Bernoulli => {
                let odds = input.map_or(Ok(vec![]), Tensor::to_vec::<f64>)?;
                let mut odds = odds.into_iter();
                tell(cx, n, || {
                    let u = g.uniform();
                    f64::from(odds.next().is_some_and(|p| u < p))
                })
            }
            Draw::Multinomial { sample_size } => {
                let x = input.ok_or_else(|| Error::invalid("input 0 is missing"))?;
                let &[rows, columns] = x.shape() else {
                    invalid!("Multinomial takes a matrix, not rank {}", x.rank())
                };
                if columns == 0 && n > 0 {
                    invalid!("there is nothing to draw from");
                }
                let x = x.to_vec::<f64>()?;
                let mut out = Vec::with_capacity(n);
                for row in 0..if n == 0 { 0 } else { rows } {
                    let steps = running_odds(&x[row * columns..][..columns]);
                    let pick = || {
                        let u = g.uniform() * steps.last().copied().unwrap_or_default();
                        steps.partition_point(|&s| s <= u).min(columns - 1) as f64
                    };
                    out.extend(tell(cx, sample_size as usize, pick)?);
                }
                Ok(out)
            }
        }
    }
}

/// `n` numbers, one after the other.
fn tell(cx: &Context, n: usize, mut next: impl FnMut() -> f64) -> Result<Vec<f64>> {
    let mut out = Vec::with_capacity(n);
    let mut ticks = Ticks::new(cx);
    for _ in 0..n {
        out.push(next());
        ticks.add(1)?;
    }
    Ok(out)
}

/// Two numbers of the normal distribution, by Marsaglia's polar method.
fn pair(g: &mut Mersenne) -> [f64; 2] {
    loop {
        let (x, y) = (2.0 * g.uniform() - 1.0, 2.0 * g.uniform() - 1.0);
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            let by = (-2.0 * square.ln() / square).sqrt();
            return [by * y, by * x];
        }
    }
}

/// The running sums of the exponentials.
fn running_odds(x: &[f64]) -> Vec<f64> {
    let peak = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    let step = |x: &f64| {
        sum += (x - peak).exp();
        sum
    };
    x.iter().map(step).collect()
}

/// A length that an attribute gives.
fn length(n: i64) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::invalid(format!("{n} is no length of an axis")))
}

impl Operator for Random {
    fn name(&self) -> &str {
        match (self.draw, &self.shape) {
            (Draw::Normal { .. }, Some(_)) => "RandomNormal",
            (Draw::Normal { .. }, None) => "RandomNormalLike",
            (Draw::Uniform { .. }, Some(_)) => "RandomUniform",
            (Draw::Uniform { .. }, None) => "RandomUniformLike",
            (Draw::Bernoulli, _) => "Bernoulli",
            (Draw::Multinomial { .. }, _) => "Multinomial",
        }
    }

    fn attrs(&self) -> Attrs {
        let known = match self.draw {
            Draw::Multinomial { .. } => Some(DType::I32),
            _ => self.shape.as_ref().map(|_| DType::F32),
        };
        let a = Attrs::default()
            .with("shape", self.shape.as_ref().map(|s| s.to_vec()))
            .with("dtype", self.dtype.filter(|_| self.dtype != known))
            .with("seed", self.seed);
        let other = |x: f32, default: f32| (x != default).then_some(x);
        match self.draw {
            Draw::Normal { mean, scale } => {
                a.with("mean", other(mean, 0.0)).with("scale", other(scale, 1.0))
            }
            Draw::Uniform { low, high } => {
                a.with("low", other(low, 0.0)).with("high", other(high, 1.0))
            }
            Draw::Bernoulli => a,
            Draw::Multinomial { sample_size } => {
                a.with("sample_size", (sample_size != 1).then_some(sample_size))
            }
        }
    }

    fn traits(&self) -> Traits {
        Traits::RANDOM
    }

    fn arity(&self) -> RangeInclusive<usize> {
        if self.shape.is_some() { 0..=0 } else { 1..=1 }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        if matches!(self.draw, Draw::Bernoulli | Draw::Multinomial { .. }) {
            cx.dtype_in(0, is_real)?;
        }
        let dtype = match self.dtype {
            Some(dtype) => dtype,
            None => cx.dtype(0)?,
        };
        if !self.takes(dtype) {
            invalid!("{} makes no {dtype}; set `dtype`", self.name());
        }
        let shape = match (&self.shape, self.draw) {
            (Some(shape), _) => {
                let dims: Result<Vec<Dim>> = shape.iter().map(|&n| Ok(length(n)?.into())).collect();
                Some(dims?)
            }
            (None, Draw::Multinomial { sample_size }) => match cx.shape(0)? {
                Some([rows, _]) => Some(vec![rows.clone(), length(sample_size)?.into()]),
                Some(x) => invalid!("Multinomial takes a matrix, not rank {}", x.len()),
                None => Some(vec![cx.fresh(), length(sample_size)?.into()]),
            },
            (None, _) => cx.shape(0)?.map(<[Dim]>::to_vec),
        };
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let input = match self.shape {
            Some(_) => None,
            None => Some(tensor(inputs, 0)?),
        };
        let shape: Vec<usize> = match (&self.shape, self.draw, input.map(Tensor::shape)) {
            (Some(shape), ..) => shape.iter().map(|&n| length(n)).collect::<Result<_>>()?,
            (None, Draw::Multinomial { sample_size }, Some([rows, _])) => {
                vec![*rows, length(sample_size)?]
            }
            (None, _, shape) => shape.unwrap_or_default().to_vec(),
        };
        let dtype = self.dtype.or(input.map(Tensor::dtype)).unwrap_or(DType::F32);
        let n = cx.numel(dtype, &shape)?;
        let numbers = self.numbers(cx, n, input)?;
        let y: Tensor = match_scalar!(dtype, T => {
            Tensor::from_vec(&shape, numbers.into_iter().map(<T as Scalar>::from_f64).collect())?
        }, else invalid!("{} makes no {dtype}", self.name()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn draw(text: &str, inputs: &[Tensor]) -> Vec<f64> {
        let y = run1(&format!("y = {text}\nreturn y"), inputs).expect("runs");
        y.to_vec().expect("numbers")
    }

    fn moments(x: &[f64]) -> (f64, f64) {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        (mean, variance)
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let (mean, variance) =
            moments(&draw("RandomNormal() {shape=[100, 200], mean=3.0, scale=2.0, seed=1.0}", &[]));
        assert!((mean - 3.0).abs() < 0.06 && (variance - 4.0).abs() < 0.2, "{mean} {variance}");
        let x = draw("RandomUniform() {shape=[20000], low=-1.0, high=3.0, dtype=11}", &[]);
        assert!(x.iter().all(|x| (-1.0..3.0).contains(x)));
        let (mean, variance) = moments(&x);
        assert!((mean - 1.0).abs() < 0.04 && (variance - 4.0 / 3.0).abs() < 0.05, "{variance}");
        let odds = Tensor::vector(vec![0.25f32; 20_000]);
        let (mean, _) = moments(&draw("Bernoulli(p: f32[20000])", &[odds]));
        assert!((mean - 0.25).abs() < 0.02, "{mean}");
        let sure = Tensor::vector(vec![0f32, 1.0]);
        assert_eq!(draw("Bernoulli(p: f32[2]) {dtype=9}", &[sure]), [0.0, 1.0]);
    }

    #[test]
    fn columns_by_their_odds() {
        let odds = [f32::NEG_INFINITY, 1f32.ln(), 3f32.ln(), 0.0, f32::NEG_INFINITY, -1000.0];
        let x = Tensor::from_vec(&[2, 3], odds.to_vec()).expect("2x3");
        let y = draw("Multinomial(x: f32[2,3]) {sample_size=10000}", &[x]);
        let (first, second) = y.split_at(10_000);
        let twos = first.iter().filter(|&&y| y == 2.0).count();
        assert!(first.iter().all(|&y| y > 0.0) && (7300..7700).contains(&twos), "{twos}");
        assert!(second.iter().all(|&y| y == 0.0));
    }

    #[test]
    fn seeds_decide() {
        let of = |attrs: &str| draw(&format!("RandomUniform() {{shape=[4]{attrs}}}"), &[]);
        assert_eq!(of(", seed=5.0"), of(", seed=5.0"));
        assert_ne!(of(", seed=5.0"), of(", seed=6.0"));
        // As NumPy's legacy generator begins from seed 5.
        assert!((of(", seed=5.0")[0] - 0.221_993_17).abs() < 1e-6);
        let text = "a = RandomUniform() {shape=[4]}\nb = RandomUniform() {shape=[4]}\n\
                    y = Sub(a, b)\nreturn y";
        assert!(run1(text, &[]).expect("runs").to_vec::<f32>().expect("f32")[0] != 0.0);
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |text: &str| types(&format!("y = {text}\nreturn y"));
        assert_eq!(ty("RandomNormalLike(x: i32[N,2]) {dtype=10}").expect("types"), ["f16[N,2]"]);
        assert_eq!(ty("Multinomial(x: f32[N,2]) {dtype=7}").expect("types"), ["i64[N,1]"]);
        assert!(ty("RandomNormalLike(x: i32[N,2])").is_err());
        assert!(ty("RandomNormal() {shape=[-1]}").is_err());
        assert!(ty("Multinomial(x: f32[N]) {sample_size=2}").is_err());
        let huge = "y = RandomNormal() {shape=[4611686018427387904]}\nreturn y";
        assert!(run1(huge, &[]).is_err());
    }
}
