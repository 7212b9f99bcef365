//! Whether an output is what was expected.

use kiln::{DType, Datum, MapKeys, Tensor};
use kiln_testing::{Tolerance, numbers};

/// How far an output may be off: `|got - expected| <= atol + rtol * |expected|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed {
    pub atol: f64,
    pub rtol: f64,
    /// How many labels (integers, strings, truth values) may differ.
    pub labels: usize,
}

/// Says what differs, if anything.
pub fn compare(expected: &Tensor, got: &Datum, allowed: Allowed) -> Result<(), String> {
    let got = table(got)?;
    if squeezed(expected.shape()) != squeezed(got.shape()) {
        return Err(format!("shape {:?}, expected {:?}", got.shape(), expected.shape()));
    }
    if expected.dtype().is_float() {
        if !got.dtype().is_float() {
            return Err(format!("type {}, expected {}", got.dtype(), expected.dtype()));
        }
        let tolerance = Tolerance { atol: allowed.atol, rtol: allowed.rtol };
        return numbers(&floats(expected)?, &floats(&got)?, tolerance);
    }
    let differing = match expected.dtype() {
        DType::String => differing(text(expected)?, text(&got)?),
        _ => differing(&integers(expected)?, &integers(&got)?),
    };
    match differing.len() {
        n if n <= allowed.labels => Ok(()),
        n => Err(format!("{n} of {} labels differ: {}", expected.len(), differing.join(", "))),
    }
}

/// The lengths that are not 1: converters disagree on trailing axes of one column.
fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&d| d != 1).collect()
}

fn floats(t: &Tensor) -> Result<Vec<f64>, String> {
    t.to_vec().map_err(|e| e.to_string())
}

fn text(t: &Tensor) -> Result<&[String], String> {
    t.strings().map_err(|e| e.to_string())
}

fn integers(t: &Tensor) -> Result<Vec<i64>, String> {
    match t.dtype() {
        DType::Bool => t.to_vec().map_err(|e| e.to_string()),
        dtype if dtype.is_integer() => t.to_vec().map_err(|e| e.to_string()),
        dtype => Err(format!("type {dtype}, expected whole numbers")),
    }
}

fn differing<T: PartialEq + std::fmt::Debug>(expected: &[T], got: &[T]) -> Vec<String> {
    let pairs = expected.iter().zip(got).enumerate();
    pairs
        .filter(|(_, (e, g))| e != g)
        .map(|(i, (e, g))| format!("[{i}] is {g:?}, expected {e:?}"))
        .collect()
}

/// The value as one tensor: a sequence of maps becomes a table, one row a map, columns by key.
fn table(value: &Datum) -> Result<Tensor, String> {
    let rows = match value {
        Datum::Tensor(t) => return Ok(t.clone()),
        Datum::Sequence(rows) => rows,
        other => return Err(format!("a {}, expected a tensor", other.kind())),
    };
    let maps = rows.iter().map(|r| r.as_map().map_err(|e| e.to_string()));
    let maps: Vec<_> = maps.collect::<Result<_, _>>()?;
    let mut cells: Vec<f32> = Vec::new();
    let mut columns = 0;
    for (i, map) in maps.iter().enumerate() {
        if map.keys != maps[0].keys || !is_sorted(&map.keys) {
            return Err(format!("the map of row {i} has the keys {:?}", map.keys));
        }
        columns = map.values.len();
        cells.extend(map.values.to_vec::<f32>().map_err(|e| e.to_string())?);
    }
    Tensor::from_vec(&[maps.len(), columns], cells).map_err(|e| e.to_string())
}

fn is_sorted(keys: &MapKeys) -> bool {
    match keys {
        MapKeys::Int(k) => k.is_sorted(),
        MapKeys::String(k) => k.is_sorted(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln::Map;

    const CLOSE: Allowed = Allowed { atol: 0.1, rtol: 0.01, labels: 0 };

    fn filled(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_vec(shape, values.to_vec()).expect("lengths agree")
    }

    #[test]
    fn only_axes_of_length_one_may_differ() {
        let four = filled(&[4], &[1.0; 4]);
        for (shape, want) in [(&[4, 1][..], true), (&[1, 4], true), (&[2, 2], false)] {
            let got = filled(shape, &[1.0; 4]).into();
            assert_eq!(compare(&four, &got, CLOSE).is_ok(), want, "{shape:?}");
        }
    }

    #[test]
    fn labels_are_exact_but_for_the_number_allowed() {
        let expected = Tensor::vector(vec![1i64, 2, 3]);
        let got: Datum = Tensor::vector(vec![1i32, 2, 4]).into();
        assert!(compare(&expected, &got, CLOSE).is_err());
        assert!(compare(&expected, &got, Allowed { labels: 1, ..CLOSE }).is_ok());
        let float: Datum = filled(&[3], &[1.0, 2.0, 3.0]).into();
        assert!(compare(&expected, &float, CLOSE).is_err());

        let names = |names: [&str; 2]| Tensor::from_strings(&[2], names.map(String::from).into());
        let (ab, ac) = (names(["a", "b"]).expect("two"), names(["a", "c"]).expect("two"));
        assert!(compare(&ab, &ab.clone().into(), CLOSE).is_ok());
        assert!(compare(&ab, &ac.into(), CLOSE).is_err());
    }

    #[test]
    fn a_sequence_of_maps_is_a_table() {
        let row = |keys: Vec<i64>, values: &[f32]| {
            let values = filled(&[values.len()], values);
            Datum::Map(Map::new(MapKeys::Int(keys), values).expect("lengths agree"))
        };
        let expected = filled(&[2, 2], &[0.25, 0.75, 1.0, 0.0]);
        let second = || row(vec![0, 1], &[1.0, 0.0]);
        let got = Datum::Sequence(vec![row(vec![0, 1], &[0.25, 0.75]), second()]);
        assert_eq!(compare(&expected, &got, CLOSE), Ok(()));
        let other_keys = Datum::Sequence(vec![row(vec![0, 2], &[0.25, 0.75]), second()]);
        assert!(compare(&expected, &other_keys, CLOSE).is_err());
        let wrong = Datum::Sequence(vec![row(vec![0, 1], &[0.75, 0.25]), second()]);
        assert!(compare(&expected, &wrong, CLOSE).is_err());
        assert!(compare(&expected, &Datum::Optional(None), CLOSE).is_err());
    }
}
