//! Whether two values are the same, within a tolerance.

use kiln_tensor::{DType, Datum, Tensor};

/// How far numbers may be off: `|got - expected| <= atol + rtol * |expected|`.
///
/// Infinities and NaN are like themselves only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The absolute part.
    pub atol: f64,
    /// The relative part.
    pub rtol: f64,
}

impl Tolerance {
    /// Equal to the bit, but for the sign of zero.
    pub const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0 };

    /// What sums of some hundred terms near 1 may lose when they are rounded in another order:
    /// a few hundred units in the last place.
    pub fn rounding(dtype: DType) -> Self {
        let unit = match dtype {
            DType::F64 => f64::EPSILON,
            DType::F32 => f64::from(f32::EPSILON),
            DType::F16 => 2f64.powi(-10),
            DType::BF16 => 2f64.powi(-7),
            _ => return Self::EXACT,
        };
        Tolerance { atol: 128.0 * unit, rtol: 128.0 * unit }
    }
}

/// Says what differs, if anything: types and shapes must be the same, and everything that is no
/// float; `None` allows rounding, by the element type.
pub fn compare(expected: &Datum, got: &Datum, tolerance: Option<Tolerance>) -> Result<(), String> {
    match (expected, got) {
        (Datum::Tensor(e), Datum::Tensor(g)) => tensors(e, g, tolerance),
        (Datum::Sequence(e), Datum::Sequence(g)) if e.len() == g.len() => {
            let mut all = e.iter().zip(g).enumerate();
            all.try_for_each(|(i, (e, g))| {
                compare(e, g, tolerance).map_err(|what| format!("[{i}]: {what}"))
            })
        }
        (Datum::Map(e), Datum::Map(g)) if e.keys == g.keys => {
            tensors(&e.values, &g.values, tolerance)
        }
        (Datum::Optional(None), Datum::Optional(None)) => Ok(()),
        (Datum::Optional(Some(e)), Datum::Optional(Some(g))) => compare(e, g, tolerance),
        _ => Err(format!("a {}, expected a {}", got.kind(), expected.kind())),
    }
}

fn tensors(expected: &Tensor, got: &Tensor, tolerance: Option<Tolerance>) -> Result<(), String> {
    let text = |t: &Tensor| format!("{}{:?}", t.dtype(), t.shape());
    if (expected.dtype(), expected.shape()) != (got.dtype(), got.shape()) {
        return Err(format!("{}, expected {}", text(got), text(expected)));
    }
    let floats = |t: &Tensor| t.to_vec::<f64>().map_err(|e| e.to_string());
    if expected.dtype().is_float() {
        let tolerance = tolerance.unwrap_or(Tolerance::rounding(expected.dtype()));
        return numbers(&floats(expected)?, &floats(got)?, tolerance);
    }
    match expected == got {
        true => Ok(()),
        false => Err(format!("the elements of {} differ", text(expected))),
    }
}

/// Says which numbers differ most, if any do.
pub fn numbers(expected: &[f64], got: &[f64], tolerance: Tolerance) -> Result<(), String> {
    let excess = |(i, (e, g)): (usize, (&f64, &f64))| {
        let (off, allowed) = ((g - e).abs(), tolerance.atol + tolerance.rtol * e.abs());
        let close = e.is_finite() && off <= allowed;
        let same = e == g || e.is_nan() && g.is_nan() || close;
        (!same)
            .then(|| (off, format!("[{i}] is {g}, expected {e}, off by {off:.3e} > {allowed:.3e}")))
    };
    let all: Vec<_> = expected.iter().zip(got).enumerate().filter_map(excess).collect();
    match all.iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
        None => Ok(()),
        Some((_, what)) => Err(format!("{} of {} differ: {what}", all.len(), expected.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_off_by_the_tolerance() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let close = Tolerance { atol: 0.1, rtol: 0.01 };
        for (expected, got, want) in [
            (1.0, 1.0, true),
            (1.0, 1.1, true),
            (1.0, 1.12, false),
            (100.0, 101.0, true),
            (100.0, 101.2, false),
            (nan, nan, true),
            (nan, 1.0, false),
            (1.0, nan, false),
            (inf, inf, true),
            (inf, -inf, false),
            (inf, 1.0, false),
        ] {
            assert_eq!(numbers(&[expected], &[got], close).is_ok(), want, "{expected} {got}");
        }
    }

    #[test]
    fn types_and_shapes_are_never_off() {
        let datum = |shape: &[usize]| {
            Datum::Tensor(Tensor::from_vec(shape, vec![1f32; 4]).expect("lengths agree"))
        };
        assert_eq!(compare(&datum(&[4]), &datum(&[4]), None), Ok(()));
        assert!(compare(&datum(&[4]), &datum(&[4, 1]), None).is_err());
        let wide = Tensor::vector(vec![1f64; 4]).into();
        assert!(compare(&datum(&[4]), &wide, None).is_err());
        assert!(compare(&datum(&[4]), &Datum::Optional(None), None).is_err());
        let ints = |n| Datum::Sequence(vec![Tensor::scalar(n).into()]);
        assert!(compare(&ints(1i64), &ints(2), None).is_err());
    }
}
