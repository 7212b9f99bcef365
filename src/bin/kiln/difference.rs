//! How far two values are apart.

use kiln::{DType, Datum, Map, MapKeys, Result, Tensor, Type};
use kiln_tensor::Complex;

/// What still counts as the same: `|a - b| <= atol + rtol * |b|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Relative.
    pub rtol: f64,
    /// Absolute.
    pub atol: f64,
}

/// How far two values are apart, and why they do not count as the same, if they do not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// The largest |a - b|.
    pub max_abs: f64,
    /// The largest |a - b| / |b|.
    pub max_rel: f64,
    /// The root of the sum of |a - b|².
    pub l2: f64,
    /// The first element that differs too much, or what differs instead of elements.
    pub fault: Option<String>,
    dot: f64,
    squares: [f64; 2],
}

impl Difference {
    /// A difference that is no number.
    pub fn of(fault: impl Into<String>) -> Self {
        Self { fault: Some(fault.into()), ..Self::default() }
    }

    /// The cosine of the angle between all elements of a and of b; 1 where both are zero.
    pub fn cosine(&self) -> f64 {
        match self.squares {
            [0.0, 0.0] => 1.0,
            [a, b] => self.dot / (a.sqrt() * b.sqrt()),
        }
    }

    /// Counts another part of the same output.
    pub fn merge(&mut self, other: Self) {
        self.max_abs = larger(self.max_abs, other.max_abs);
        self.max_rel = larger(self.max_rel, other.max_rel);
        self.l2 = self.l2.hypot(other.l2);
        self.dot += other.dot;
        self.squares = [0, 1].map(|i| self.squares[i] + other.squares[i]);
        if self.fault.is_none() {
            self.fault = other.fault;
        }
    }

    fn at(mut self, place: &str) -> Self {
        self.fault = self.fault.map(|f| format!("{place}{f}"));
        self
    }
}

/// The larger; not-a-number is larger than every number.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Compares `a` with `b`.
pub fn difference(a: &Datum, b: &Datum, tolerance: Tolerance) -> Result<Difference> {
    match (a, b) {
        (Datum::Tensor(a), Datum::Tensor(b)) => tensors(a, b, tolerance),
        (Datum::Sequence(a), Datum::Sequence(b)) if a.len() == b.len() => {
            let mut all = Difference::default();
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                all.merge(difference(a, b, tolerance)?.at(&format!("[{i}] ")));
            }
            Ok(all)
        }
        (Datum::Sequence(a), Datum::Sequence(b)) => {
            Ok(Difference::of(format!("a sequence of {}, not of {}", a.len(), b.len())))
        }
        (Datum::Map(a), Datum::Map(b)) => maps(a, b, tolerance),
        (Datum::Optional(None), Datum::Optional(None)) => Ok(Difference::default()),
        (Datum::Optional(Some(a)), Datum::Optional(Some(b))) => difference(a, b, tolerance),
        _ => Ok(Difference::of(format!("{}, not {}", Type::of(a), Type::of(b)))),
    }
}

/// Maps are the same whatever the order of their keys.
fn maps(a: &Map, b: &Map, tolerance: Tolerance) -> Result<Difference> {
    let place = match (&a.keys, &b.keys) {
        (MapKeys::Int(a), MapKeys::Int(b)) => places(a, b),
        (MapKeys::String(a), MapKeys::String(b)) => places(a, b),
        _ => None,
    };
    match place {
        Some(place) => {
            let b = b.values.take(a.values.shape(), place.into_iter())?;
            tensors(&a.values, &b, tolerance)
        }
        None => Ok(Difference::of("the keys differ")),
    }
}

/// Where the keys of `a` lie in `b`; `None` where they are not the same keys.
fn places<K: Ord>(a: &[K], b: &[K]) -> Option<Vec<usize>> {
    let of: std::collections::BTreeMap<_, _> = b.iter().enumerate().map(|(i, k)| (k, i)).collect();
    let place: Option<Vec<usize>> = a.iter().map(|k| of.get(k).copied()).collect();
    place.filter(|p| p.len() == b.len() && of.len() == b.len())
}

fn tensors(a: &Tensor, b: &Tensor, tolerance: Tolerance) -> Result<Difference> {
    if a.dtype() != b.dtype() || a.shape() != b.shape() {
        let of = |t: &Tensor| Type::of(&Datum::Tensor(t.clone()));
        return Ok(Difference::of(format!("{}, not {}", of(a), of(b))));
    }
    if a.dtype() == DType::String {
        let unequal = a.strings()?.iter().zip(b.strings()?).position(|(a, b)| a != b);
        let text = |i: usize| format!("element {i} is {:?}, not {:?}", texts(a, i), texts(b, i));
        return Ok(unequal.map_or(Difference::default(), |i| Difference::of(text(i))));
    }
    let exact = !a.dtype().is_float() && !matches!(a.dtype(), DType::C64 | DType::C128);
    let (x, y) = (floats(a)?, floats(b)?);
    let mut all = numbers(&x, &y, tolerance);
    if exact {
        let size = a.dtype().size();
        let mut chunks = a.bytes().chunks(size).zip(b.bytes().chunks(size));
        let unequal = chunks.position(|(a, b)| a != b);
        all.fault = unequal.map(|i| format!("element {i} is {}, not {}", x[i], y[i]));
    }
    Ok(all)
}

fn texts(t: &Tensor, i: usize) -> &str {
    t.strings().ok().and_then(|s| s.get(i)).map_or("", String::as_str)
}

/// The elements as floats; a complex number is two.
fn floats(t: &Tensor) -> Result<Vec<f64>> {
    Ok(match t.dtype() {
        DType::C64 => {
            t.as_slice::<Complex<f32>>()?.iter().flat_map(|z| [z.re.into(), z.im.into()]).collect()
        }
        DType::C128 => t.as_slice::<Complex<f64>>()?.iter().flat_map(|z| [z.re, z.im]).collect(),
        _ => t.to_vec::<f64>()?,
    })
}

fn numbers(a: &[f64], b: &[f64], tolerance: Tolerance) -> Difference {
    let mut all = Difference::default();
    let mut worst = 0.0;
    let mut faults = 0;
    let mut first = None;
    for (i, (&x, &y)) in a.iter().zip(b).enumerate() {
        all.dot += x * y;
        all.squares[0] += x * x;
        all.squares[1] += y * y;
        if x == y || (x.is_nan() && y.is_nan()) {
            continue;
        }
        let gap = (x - y).abs();
        all.max_abs = larger(all.max_abs, gap);
        all.max_rel = larger(all.max_rel, gap / y.abs());
        worst += gap * gap;
        // An infinite bound would let every number pass.
        let fine = y.is_finite() && gap <= tolerance.atol + tolerance.rtol * y.abs();
        if !fine {
            faults += 1;
            first.get_or_insert(i);
        }
    }
    all.l2 = worst.sqrt();
    all.fault = first
        .map(|i| format!("{faults} of {}, first element {i}: {}, not {}", a.len(), a[i], b[i]));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHT: Tolerance = Tolerance { rtol: 0.0, atol: 0.1 };

    fn of<T: kiln_tensor::Element>(a: Vec<T>, b: Vec<T>) -> Difference {
        let (a, b) = (Datum::Tensor(Tensor::vector(a)), Datum::Tensor(Tensor::vector(b)));
        difference(&a, &b, TIGHT).expect("comparable")
    }

    #[test]
    fn numbers_by_hand() {
        let d = of(vec![3.0f32, 0.0], vec![0.0f32, 4.0]);
        assert_eq!((d.max_abs, d.max_rel, d.l2, d.cosine()), (4.0, f64::INFINITY, 5.0, 0.0));
        assert_eq!(d.fault.as_deref(), Some("2 of 2, first element 0: 3, not 0"));
        let d = of(vec![1.0f64, 2.0], vec![1.05, 2.0]);
        assert!(d.fault.is_none() && (d.max_abs - 0.05).abs() < 1e-12 && d.cosine() > 0.999);
    }

    #[test]
    fn odd_floats() {
        let same = |a: f32, b: f32| of(vec![a], vec![b]).fault.is_none();
        assert!(same(f32::NAN, f32::NAN) && same(f32::INFINITY, f32::INFINITY));
        assert!(same(0.0, -0.0));
        assert!(!same(f32::NAN, 0.0) && !same(0.0, f32::NAN));
        assert!(!same(1.0, f32::INFINITY) && !same(f32::INFINITY, f32::NEG_INFINITY));
    }

    #[test]
    fn whole_numbers_must_be_equal() {
        // Too close for floats to tell.
        let d = of(vec![i64::MAX], vec![i64::MAX - 1]);
        assert!(d.fault.is_some() && d.max_abs == 0.0);
        assert!(of(vec![1u8], vec![1u8]).fault.is_none());
    }

    #[test]
    fn structures() {
        let map = |keys: [&str; 2], values: Vec<f32>| {
            let keys = MapKeys::String(keys.map(str::to_owned).to_vec());
            Datum::Map(Map::new(keys, Tensor::vector(values)).expect("one to one"))
        };
        let same =
            |a: &Datum, b: &Datum| difference(a, b, TIGHT).expect("comparable").fault.is_none();
        let a = map(["x", "y"], vec![1.0, 2.0]);
        assert!(same(&a, &map(["y", "x"], vec![2.0, 1.0])));
        assert!(!same(&a, &map(["y", "x"], vec![1.0, 2.0])));
        assert!(!same(&a, &map(["x", "z"], vec![1.0, 2.0])));
        let seq = |items: &[&Datum]| Datum::Sequence(items.iter().map(|&d| d.clone()).collect());
        assert!(same(&seq(&[&a]), &seq(&[&a])));
        assert!(!same(&seq(&[&a]), &seq(&[])));
        assert!(!same(&seq(&[&a]), &a));
        assert!(!same(&Datum::Optional(None), &Datum::Optional(Some(Box::new(a)))));
    }
}
