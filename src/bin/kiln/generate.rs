//! Inputs made up from a seed: small numbers that every operator can stand.

use std::collections::{BTreeMap, BTreeSet};

use kiln::{DType, Datum, Limits, Map, MapKeys, Result, Tensor, Type, ValueInfo};
use kiln_ir::{Context, Dim, Error};
use kiln_tensor::{Scalar, match_scalar};

/// What the symbols stand for.
#[derive(Clone, Debug, Default)]
pub struct Lengths(BTreeMap<String, i64>);

impl Lengths {
    /// Sets a symbol.
    pub fn set(&mut self, name: &str, n: i64) {
        self.0.insert(name.to_owned(), n);
    }

    /// Sets the symbols of `ty` that are not set yet to the lengths of a value of that type.
    pub fn learn(&mut self, ty: &Type, value: &Datum) {
        let (Type::Tensor(t), Datum::Tensor(v)) = (ty, value) else { return };
        for (dim, &n) in t.shape.iter().flatten().zip(v.shape()) {
            if let Some(s) = dim.as_sym() {
                self.0.entry(s.name().to_owned()).or_insert(i64::try_from(n).unwrap_or(i64::MAX));
            }
        }
    }

    /// The length of an axis; symbols that are not set are 1.
    fn of(&self, dim: &Dim) -> Result<usize> {
        let n = dim.eval(&|s| Some(self.0.get(s.name()).copied().unwrap_or(1)));
        n.and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| Error::invalid(format!("the length {dim} is not a number")))
    }
}

/// The symbols in the shapes of the inputs.
pub fn symbols(inputs: &[ValueInfo]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for input in inputs {
        if let Type::Tensor(t) = &input.ty {
            for dim in t.shape.iter().flatten() {
                dim.symbols(&mut |s| {
                    all.insert(s.name().to_owned());
                });
            }
        }
    }
    all
}

/// A value of this type: floats in -1..1, integers 0 and 1, short texts. Tensors of unknown rank
/// have one element, sequences and maps one entry.
///
/// An error is *limit*: the tensor is too large.
pub fn value(ty: &Type, lengths: &Lengths, seed: u64, limits: &Limits) -> Result<Datum> {
    let mut random = Random(seed ^ 0x6b69_6c6e);
    make(ty, lengths, &mut random, limits)
}

fn make(ty: &Type, lengths: &Lengths, random: &mut Random, limits: &Limits) -> Result<Datum> {
    Ok(match ty {
        Type::Tensor(t) => {
            let dims = t.shape.as_deref().unwrap_or(&[]);
            let shape = dims.iter().map(|d| lengths.of(d)).collect::<Result<Vec<_>>>()?;
            tensor(t.dtype, &shape, random, limits)?.into()
        }
        Type::Sequence(inner) => Datum::Sequence(vec![make(inner, lengths, random, limits)?]),
        Type::Optional(inner) => {
            Datum::Optional(Some(Box::new(make(inner, lengths, random, limits)?)))
        }
        Type::Map(key, inner) => {
            let keys = match key {
                DType::String => MapKeys::String(vec![random.text()]),
                _ => MapKeys::Int(vec![random.bit()]),
            };
            let values = tensor(inner.as_tensor()?.dtype, &[1], random, limits)?;
            Datum::Map(Map::new(keys, values)?)
        }
    })
}

fn tensor(dtype: DType, shape: &[usize], random: &mut Random, limits: &Limits) -> Result<Tensor> {
    let n = Context::new(limits.clone()).numel(dtype, shape)?;
    if dtype == DType::String {
        return Ok(Tensor::from_strings(shape, (0..n).map(|_| random.text()).collect())?);
    }
    match_scalar!(dtype, T => {
        let one = |_| match dtype.is_float() {
            true => <T as Scalar>::from_f64(random.float()),
            false => <T as Scalar>::from_i128(i128::from(random.bit())),
        };
        Ok(Tensor::from_vec(shape, (0..n).map(one).collect::<Vec<T>>())?)
    }, else Ok(Tensor::zeros(dtype, shape)?))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in -1..1 that an f32 holds exactly.
    fn float(&mut self) -> f64 {
        (self.next() >> 40) as f64 / f64::from(1 << 23) - 1.0
    }

    /// 0 or 1: an index that is in range almost anywhere.
    fn bit(&mut self) -> i64 {
        (self.next() >> 63) as i64
    }

    fn text(&mut self) -> String {
        char::from(b'a' + (self.next() >> 61) as u8).to_string()
    }
}

#[cfg(test)]
mod tests {
    use kiln_ir::text::parse_type;

    use super::*;

    fn made(ty: &str, lengths: &Lengths) -> Result<Datum> {
        value(&parse_type(ty).expect("a type"), lengths, 7, &Limits::default())
    }

    #[test]
    fn symbols_are_one_unless_known() {
        let mut lengths = Lengths::default();
        let shape = |lengths: &Lengths| {
            made("f32[N,2*M,3]", lengths).and_then(|d| Ok(d.as_tensor()?.shape().to_vec()))
        };
        assert_eq!(shape(&lengths).expect("small"), [1, 2, 3]);
        lengths.set("M", 4);
        let seen = Datum::Tensor(Tensor::vector(vec![0i64; 5]));
        lengths.learn(&parse_type("i64[N]").expect("a type"), &seen);
        assert_eq!(shape(&lengths).expect("small"), [5, 8, 3]);
        lengths.set("N", i64::MAX);
        assert_eq!(shape(&lengths).expect_err("too large").kind(), kiln::Kind::Limit);
    }

    #[test]
    fn every_type_has_values() {
        for &d in DType::ALL {
            let datum = made(&format!("{d}[64]"), &Lengths::default()).expect("a value");
            let t = datum.as_tensor().expect("a tensor");
            assert_eq!((t.dtype(), t.len()), (d, 64));
        }
        for ty in ["seq(map(str,f32[]))", "opt(i64[2])", "map(i64,f32[])"] {
            made(ty, &Lengths::default()).expect("a value");
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let ty = parse_type("f32[100]").expect("a type");
        let of = |seed| value(&ty, &Lengths::default(), seed, &Limits::default()).expect("small");
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let t = of(3);
        let v = t.as_tensor().and_then(|t| t.as_slice::<f32>()).expect("floats");
        assert!(v.iter().all(|x| (-1.0..1.0).contains(x)) && v.iter().any(|x| *x < 0.0));
    }
}
