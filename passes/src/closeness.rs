//! Whether two values are the same, to the bit or to rounding.

use kiln_tensor::{DType, Datum, Tensor, match_element, shape};

/// How close is close enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Every bit; any NaN is any other.
    Bits,
    /// So many times what sums of some thousand terms lose when they are rounded in another
    /// order, measured by the largest number of the tensor: some hundred units in the last place.
    /// Integers of 8 bits are numbers that were quantized: one step.
    Rounding(f64),
    /// `|got - want| <= atol + rtol * |want|`.
    Within {
        /// Relative.
        rtol: f64,
        /// Absolute.
        atol: f64,
    },
    /// The difference of two tensors of floats is at most so long, measured by the expected one
    /// as vectors; integers are one step apart at most. For graphs that quantize: a sum that is
    /// rounded to the next step goes on to all that reads it.
    Length(f64),
}

/// How far two values are apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gap {
    /// Whether anything was compared.
    pub compared: bool,
    /// The largest |got - want|.
    pub largest: f64,
    /// How many elements differ more than is allowed; `usize::MAX` where the values are not of
    /// one form.
    pub faults: usize,
    /// What differs more than is allowed.
    pub fault: Option<String>,
}

impl Gap {
    /// A difference that is no number.
    pub fn fault(what: impl Into<String>) -> Self {
        Self { compared: true, largest: 0.0, faults: usize::MAX, fault: Some(what.into()) }
    }

    /// The same, of the value of this name.
    #[must_use]
    pub fn at(mut self, name: &str) -> Self {
        self.fault = self.fault.map(|f| format!("`{name}`: {f}"));
        self
    }

    /// Counts another value.
    pub fn merge(&mut self, other: Gap) {
        self.compared |= other.compared;
        if other.largest > self.largest || other.largest.is_nan() {
            self.largest = other.largest;
        }
        self.faults = self.faults.saturating_add(other.faults);
        if self.fault.is_none() {
            self.fault = other.fault;
        }
    }

    /// Compares two values.
    pub fn between(want: &Datum, got: &Datum, bound: Bound) -> Self {
        match (want, got) {
            (Datum::Tensor(w), Datum::Tensor(g)) => tensors(w, g, bound),
            (Datum::Sequence(w), Datum::Sequence(g)) if w.len() == g.len() => {
                let mut all = Gap { compared: true, ..Gap::default() };
                for (i, (w, g)) in w.iter().zip(g).enumerate() {
                    all.merge(Self::between(w, g, bound).at(&format!("[{i}]")));
                }
                all
            }
            (Datum::Map(w), Datum::Map(g)) if w.keys == g.keys => {
                tensors(&w.values, &g.values, bound)
            }
            (Datum::Optional(None), Datum::Optional(None)) => {
                Gap { compared: true, ..Gap::default() }
            }
            (Datum::Optional(Some(w)), Datum::Optional(Some(g))) => Self::between(w, g, bound),
            _ => Gap::fault(format!("a {} instead of a {}", got.kind(), want.kind())),
        }
    }
}

fn tensors(want: &Tensor, got: &Tensor, bound: Bound) -> Gap {
    if (want.dtype(), want.shape()) != (got.dtype(), got.shape()) {
        let text = |t: &Tensor| format!("{}{:?}", t.dtype(), t.shape());
        return Gap::fault(format!("{} instead of {}", text(got), text(want)));
    }
    if !matches!(bound, Bound::Bits | Bound::Within { .. })
        && matches!(want.dtype(), DType::U8 | DType::I8)
    {
        return steps(want, got);
    }
    if !want.dtype().is_float() {
        return equal(want, got);
    }
    match (want.to_vec::<f64>(), got.to_vec::<f64>()) {
        (Ok(w), Ok(g)) if matches!(bound, Bound::Length(_)) => length(&w, &g, bound),
        (Ok(w), Ok(g)) => numbers(&w, &g, want.dtype(), bound, want.shape()),
        _ => Gap::fault("the elements cannot be read"),
    }
}

/// Elements that are equal or not.
fn equal(want: &Tensor, got: &Tensor) -> Gap {
    fn unlike<T: PartialEq>(a: &[T], b: &[T]) -> usize {
        a.iter().zip(b).filter(|(a, b)| a != b).count()
    }
    let faults = match want.dtype() {
        DType::String => want.strings().and_then(|w| Ok(unlike(w, got.strings()?))),
        d => match_element!(d, T => {
            want.as_slice::<T>().and_then(|w| Ok(unlike(w, got.as_slice::<T>()?)))
        }, else Ok(usize::from(want != got))),
    };
    let Ok(faults) = faults else { return Gap::fault("the elements cannot be read") };
    let fault = (faults > 0).then(|| format!("{faults} of {} differ", want.len()));
    Gap { compared: true, faults, fault, ..Gap::default() }
}

/// The length of the difference against that of what is wanted; infinities and NaN are compared
/// one by one.
fn length(want: &[f64], got: &[f64], bound: Bound) -> Gap {
    let finite = || want.iter().zip(got).filter(|(w, _)| w.is_finite());
    let wanted = finite().map(|(w, _)| w * w).sum::<f64>().sqrt();
    let off = finite().map(|(w, g)| (g - w) * (g - w)).sum::<f64>().sqrt();
    let largest = finite().map(|(w, g)| (g - w).abs()).fold(0.0, f64::max);
    let others = want.iter().zip(got).filter(|(w, _)| !w.is_finite());
    let alike = others.into_iter().all(|(w, g)| close(*w, *g, 0.0));
    let fine = matches!(bound, Bound::Length(by) if off <= by * wanted.max(f64::MIN_POSITIVE));
    let text = || format!("the difference is {off:.3e} long, what is wanted {wanted:.3e}");
    let fault = (!fine || !alike).then(text);
    Gap { compared: true, largest, faults: if fault.is_some() { want.len() } else { 0 }, fault }
}

/// Integers that are one step apart at most.
fn steps(want: &Tensor, got: &Tensor) -> Gap {
    let (Ok(w), Ok(g)) = (want.to_vec::<i64>(), got.to_vec::<i64>()) else {
        return Gap::fault("the elements cannot be read");
    };
    let off = || w.iter().zip(&g).map(|(w, g)| w.abs_diff(*g));
    let largest = off().max().unwrap_or(0);
    let faults = off().filter(|&off| off > 1).count();
    let fault = (faults > 0).then(|| format!("{faults} elements differ by up to {largest} steps"));
    Gap { compared: true, largest: largest as f64, faults, fault }
}

fn numbers(want: &[f64], got: &[f64], dtype: DType, bound: Bound, dims: &[usize]) -> Gap {
    let largest = want.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
    let fine = |w: f64, g: f64| match bound {
        Bound::Bits => w.to_bits() == g.to_bits() || w.is_nan() && g.is_nan(),
        Bound::Rounding(slack) => {
            close(w, g, slack * 256.0 * unit(dtype) * largest.max(unit(dtype)))
        }
        Bound::Length(by) => close(w, g, by * w.abs()),
        Bound::Within { rtol, atol } => close(w, g, atol + rtol * w.abs()),
    };
    let mut gap = Gap { compared: true, ..Gap::default() };
    let mut first = None;
    for (i, (&w, &g)) in want.iter().zip(got).enumerate() {
        let off = (g - w).abs();
        if w.is_finite() && (off > gap.largest || off.is_nan()) {
            gap.largest = off;
        }
        if !fine(w, g) {
            gap.faults += 1;
            first.get_or_insert(i);
        }
    }
    gap.fault = first.map(|i| {
        let place = place(i, dims);
        format!(
            "{} of {} differ, first {place}: {} instead of {}",
            gap.faults,
            want.len(),
            got[i],
            want[i]
        )
    });
    gap
}

/// Infinities are like themselves only. What was no number to begin with proves nothing: rules
/// that round may give one, such as attention for queries that see no key.
fn close(want: f64, got: f64, bound: f64) -> bool {
    want == got || want.is_nan() || want.is_finite() && (got - want).abs() <= bound
}

/// The distance from 1 to the next number.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => 0.25,
    }
}

fn place(i: usize, dims: &[usize]) -> String {
    let mut rest = i;
    let place: Vec<_> = (shape::strides(dims).into_iter())
        .map(|s| {
            let at = rest.checked_div(s).unwrap_or(0);
            rest -= at * s;
            at
        })
        .collect();
    format!("{place:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(want: &[f32], got: &[f32], bound: Bound) -> Gap {
        let of = |x: &[f32]| Datum::Tensor(Tensor::vector(x.to_vec()));
        Gap::between(&of(want), &of(got), bound)
    }

    #[test]
    fn bits_tell_zeros_apart_and_rounding_does_not() {
        for (want, got, bits, rounding) in [
            (1.0, 1.0, true, true),
            (0.0, -0.0, false, true),
            (1.0, 1.0 + f32::EPSILON, false, true),
            (1.0, 1.001, false, false),
            (f32::NAN, f32::NAN, true, true),
            (f32::NAN, 0.0, false, true),
            (f32::INFINITY, f32::INFINITY, true, true),
            (f32::INFINITY, f32::MAX, false, false),
            (1.0, f32::NAN, false, false),
        ] {
            assert_eq!(gap(&[want], &[got], Bound::Bits).fault.is_none(), bits, "{want} {got}");
            let fault = gap(&[want], &[got], Bound::Rounding(1.0)).fault;
            assert_eq!(fault.is_none(), rounding, "{want} {got}");
        }
    }

    #[test]
    fn lengths_and_steps() {
        let by = Bound::Length(0.125);
        for (want, got, fine) in [
            ([3.0, 4.0], [3.0, 4.5], true),
            ([3.0, 4.0], [3.5, 4.5], false),
            ([3.0, f32::NAN], [3.0, f32::NAN], true),
            ([3.0, f32::INFINITY], [3.0, 1.0], false),
            ([0.0, 0.0], [0.0, 0.0], true),
            ([0.0, 0.0], [0.0, 0.5], false),
        ] {
            assert_eq!(gap(&want, &got, by).fault.is_none(), fine, "{want:?} {got:?}");
        }
        let bytes = |x: &[u8]| Datum::Tensor(Tensor::vector(x.to_vec()));
        for (got, fine) in [([1, 9], true), ([2, 8], true), ([3, 9], false)] {
            let gap = |b| Gap::between(&bytes(&[1, 9]), &bytes(&got), b).fault.is_none();
            assert_eq!([gap(by), gap(Bound::Rounding(1.0))], [fine; 2], "{got:?}");
            assert_eq!(gap(Bound::Bits), got == [1, 9]);
        }
    }

    #[test]
    fn faults_say_where() {
        let t = |x: Vec<f32>| Datum::Tensor(Tensor::from_vec(&[2, 2], x).expect("lengths agree"));
        let (a, b) = (t(vec![1.0, 2.0, 3.0, 4.0]), t(vec![1.0, 2.0, 3.5, 5.0]));
        let gap = Gap::between(&a, &b, Bound::Within { rtol: 0.0, atol: 0.1 });
        assert_eq!(gap.largest, 1.0);
        let fault = gap.fault.expect("two are off");
        assert_eq!(fault, "2 of 4 differ, first [1, 0]: 3.5 instead of 3");
        let ints = |x| Datum::Tensor(Tensor::scalar::<i64>(x));
        assert!(Gap::between(&ints(1), &ints(2), Bound::Rounding(1.0)).fault.is_some());
        assert!(Gap::between(&ints(1), &a, Bound::Rounding(1.0)).fault.is_some());
    }
}
