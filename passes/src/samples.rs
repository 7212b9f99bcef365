//! Inputs on which rewrites go wrong, made up from the types of a graph's inputs.

use std::collections::BTreeMap;

use kiln_ir::{Dim, Graph, Sym, Type};
use kiln_tensor::{DType, Datum, Scalar, Tensor, match_number};

use crate::proof::Sample;

/// What the elements of floats are.
#[derive(Clone, Copy)]
enum Fill {
    /// Between -1 and 1, a few of them 0.
    Ordinary,
    Zeros,
    /// Some infinities, NaN and zeros of both signs among ordinary numbers.
    Special,
    /// The smallest numbers of the type.
    Denormal,
    /// Near the ends of the type.
    Large,
}

/// What the symbols stand for.
#[derive(Clone, Copy)]
enum Lengths {
    Same(i64),
    /// Each another one.
    Ragged,
}

/// What is tried, the most telling first.
const KINDS: &[(&str, Lengths, Fill)] = &[
    ("ordinary", Lengths::Same(2), Fill::Ordinary),
    ("ragged lengths", Lengths::Ragged, Fill::Ordinary),
    ("infinities and NaN", Lengths::Same(2), Fill::Special),
    ("lengths of 1", Lengths::Same(1), Fill::Ordinary),
    ("zeros", Lengths::Same(2), Fill::Zeros),
    ("denormal numbers", Lengths::Same(2), Fill::Denormal),
    ("large numbers", Lengths::Same(3), Fill::Large),
    ("empty", Lengths::Same(0), Fill::Ordinary),
];

/// Samples for the inputs of a graph, the most telling first; none where an input is no tensor
/// or has an unknown rank. Tensors larger than `most` bytes are not made.
///
/// A graph may fail on some of them: lengths may depend on one another in ways that no type
/// tells, and integers (0 to 3) may be out of the range of a table.
pub fn samples(g: &Graph, seed: u64, most: usize) -> Vec<Sample> {
    let symbols = symbols(g);
    let kinds = KINDS.iter().filter(|(_, lengths, fill)| {
        // Without symbols, lengths change nothing.
        let plain = matches!(fill, Fill::Ordinary);
        !symbols.is_empty() || !plain || matches!(lengths, Lengths::Same(2))
    });
    let sample = |(i, &(name, lengths, fill)): (usize, &(&str, Lengths, Fill))| {
        let length = |i: usize| match lengths {
            Lengths::Same(n) => n,
            Lengths::Ragged => [3, 5, 2, 7, 4][i % 5],
        };
        let bound: BTreeMap<_, _> =
            symbols.iter().enumerate().map(|(i, s)| (s.clone(), length(i))).collect();
        let mut numbers = Numbers { state: seed.wrapping_add(i as u64 + 1), fill };
        let inputs = g.inputs().map(|v| numbers.value(g.ty(v), &bound, most));
        Some(Sample {
            name: name.to_owned(),
            inputs: inputs.collect::<Option<_>>()?,
            extreme: !matches!(fill, Fill::Ordinary | Fill::Zeros),
        })
    };
    kinds.enumerate().filter_map(sample).collect()
}

/// The symbols of the inputs, in order of appearance.
fn symbols(g: &Graph) -> Vec<Sym> {
    let mut all: Vec<Sym> = Vec::new();
    for v in g.inputs() {
        let Ok(t) = g.ty(v).as_tensor() else { continue };
        for d in t.shape.iter().flatten() {
            d.symbols(&mut |s| {
                if !all.contains(s) {
                    all.push(s.clone());
                }
            });
        }
    }
    all
}

/// Numbers from a seed: the generator of Steele, Lea and Flood (2014), `SplitMix64`.
struct Numbers {
    state: u64,
    fill: Fill,
}

impl Numbers {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn value(&mut self, ty: &Type, bound: &BTreeMap<Sym, i64>, most: usize) -> Option<Datum> {
        let Type::Tensor(ty) = ty else { return None };
        let length = |d: &Dim| usize::try_from(d.eval(&|s| bound.get(s).copied())?).ok();
        let shape: Vec<usize> = ty.shape.as_ref()?.iter().map(length).collect::<Option<_>>()?;
        let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if n.checked_mul(ty.dtype.size().max(1))? > most {
            return None;
        }
        let t = match ty.dtype {
            DType::String => {
                let texts = (0..n).map(|_| char::from(b'a' + self.below(6)).to_string());
                Tensor::from_strings(&shape, texts.collect())
            }
            DType::Bool => {
                let bits = (0..n).map(|_| self.below(2) == 1).collect();
                Tensor::from_vec::<bool>(&shape, bits)
            }
            dtype => match_number!(dtype, T => {
                let data = (0..n).map(|_| <T as Scalar>::from_f64(self.number(dtype)));
                Tensor::from_vec::<T>(&shape, data.collect())
            }, else return None),
        };
        t.ok().map(Datum::Tensor)
    }

    fn below(&mut self, n: u8) -> u8 {
        (self.next() % u64::from(n)) as u8
    }

    fn number(&mut self, dtype: DType) -> f64 {
        if !dtype.is_float() {
            return f64::from(self.below(4));
        }
        let unit = (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        let (least, greatest) = range(dtype);
        match (self.fill, self.below(16)) {
            (Fill::Zeros, _) | (Fill::Ordinary, 0) => 0.0,
            (Fill::Denormal, _) => unit * least,
            (Fill::Large, _) => unit * greatest,
            (Fill::Special, 0) => f64::NAN,
            (Fill::Special, 1) => f64::INFINITY,
            (Fill::Special, 2) => f64::NEG_INFINITY,
            (Fill::Special, 3) => -0.0,
            (Fill::Special, 4) => 0.0,
            _ => unit,
        }
    }
}

/// The least normal number of a type, and the greatest.
fn range(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F64 => (f64::MIN_POSITIVE, f64::MAX),
        DType::F16 => (2f64.powi(-14), 65504.0),
        DType::F32 | DType::BF16 => (f64::from(f32::MIN_POSITIVE), 3e38),
        _ => (2f64.powi(-6), 200.0),
    }
}

#[cfg(test)]
mod tests {
    use kiln_ir::text;

    use super::*;

    #[test]
    fn every_kind_is_made_where_there_are_symbols() {
        let g = text::parse("y = Add(x: f32[N,M,3], z: f32[N,1,1])\nreturn y").expect("parses");
        let all = samples(&g, 0, 1 << 20);
        assert_eq!(all.len(), KINDS.len());
        let shape = |i: usize| all[i].inputs[0].as_tensor().expect("a tensor").shape().to_vec();
        assert_eq!((shape(0), shape(1)), (vec![2, 2, 3], vec![3, 5, 3]));
        assert_eq!(all.iter().filter(|s| s.extreme).count(), 3);
        let special = all.iter().find(|s| s.name.contains("NaN")).expect("made");
        let numbers = special.inputs[0].as_tensor().expect("a tensor").to_vec::<f32>();
        assert!(numbers.expect("floats").iter().any(|x| !x.is_finite()));
    }

    #[test]
    fn without_symbols_lengths_are_tried_once() {
        let g = text::parse("y = Relu(x: f32[2,3])\nreturn y").expect("parses");
        assert_eq!(samples(&g, 0, 1 << 20).len(), KINDS.len() - 3);
        assert!(samples(&g, 0, 4).is_empty());
    }
}
