//! Values as short text.

use kiln::{DType, Datum, MapKeys, Tensor};
use kiln_ir::Cost;
use kiln_tensor::{Complex, Scalar, match_scalar};

/// How many elements are shown.
const SHOWN: usize = 8;

/// The first elements.
pub fn head(value: &Datum) -> String {
    match value {
        Datum::Tensor(t) => elements(t),
        Datum::Sequence(s) => list(s.len(), s.iter().map(|d| format!("[{}]", head(d)))),
        Datum::Optional(None) => "none".to_owned(),
        Datum::Optional(Some(d)) => head(d),
        Datum::Map(m) => {
            let values = texts(&m.values, m.values.len().min(SHOWN));
            let keys: Vec<String> = match &m.keys {
                MapKeys::Int(k) => k.iter().take(SHOWN).map(i64::to_string).collect(),
                MapKeys::String(k) => k.iter().take(SHOWN).map(|s| format!("{s:?}")).collect(),
            };
            let pairs = keys.iter().zip(&values).map(|(k, v)| format!("{k}: {v}"));
            list(m.values.len(), pairs)
        }
    }
}

fn elements(t: &Tensor) -> String {
    list(t.len(), texts(t, t.len().min(SHOWN)).into_iter())
}

fn list(n: usize, items: impl Iterator<Item = String>) -> String {
    let mut text = items.take(SHOWN).collect::<Vec<_>>().join(", ");
    if n > SHOWN {
        text += ", …";
    }
    text
}

/// The first `n` elements.
fn texts(t: &Tensor, n: usize) -> Vec<String> {
    if let Ok(s) = t.strings() {
        return s[..n].iter().map(|s| format!("{s:?}")).collect();
    }
    let Ok(first) = t.take(&[n], 0..n) else { return vec![] };
    match t.dtype() {
        DType::C64 | DType::C128 => complex(&first),
        d if d.is_float() => {
            first.to_vec::<f64>().unwrap_or_default().into_iter().map(float).collect()
        }
        DType::Bool => {
            first.to_vec::<bool>().unwrap_or_default().iter().map(bool::to_string).collect()
        }
        _ => match_scalar!(t.dtype(), T => {
            let values = first.as_slice::<T>().unwrap_or_default();
            values.iter().map(|v| v.to_i128().to_string()).collect()
        }, else vec![]),
    }
}

fn complex(t: &Tensor) -> Vec<String> {
    let text = |re: f64, im: f64| {
        format!("{}{}{}i", float(re), if im < 0.0 { "" } else { "+" }, float(im))
    };
    let single = t.as_slice::<Complex<f32>>().unwrap_or_default();
    let double = t.as_slice::<Complex<f64>>().unwrap_or_default();
    let single = single.iter().map(|z| text(z.re.into(), z.im.into()));
    single.chain(double.iter().map(|z| text(z.re, z.im))).collect()
}

/// Six digits that count; exponents only where the number is very large or small.
pub fn float(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return x.to_string();
    }
    let magnitude = x.abs().log10().floor() as i32;
    if !(-5..9).contains(&magnitude) {
        return format!("{x:.5e}");
    }
    let digits = usize::try_from(5 - magnitude).unwrap_or(0);
    let text = format!("{x:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Rows as columns of equal width, the last one ragged.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, &w) in row.iter().zip(&widths) {
            line += cell;
            line.extend(std::iter::repeat_n(' ', w - cell.chars().count() + 2));
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// What is saved, by unit; units of which nothing is saved are left out.
pub fn savings(c: &Cost) -> String {
    let parts = [(c.nodes, "nodes"), (c.flops, "FLOPs"), (c.bytes, "bytes")];
    let parts = parts.iter().filter(|(n, _)| *n != 0);
    parts.map(|(n, unit)| format!("{} {unit}", amount(*n))).collect::<Vec<_>>().join(", ")
}

/// A number with three digits or a little more.
pub fn amount(n: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    match UNITS.iter().find(|(unit, _)| n.abs() >= 10 * unit) {
        Some((unit, letter)) => format!("{}{letter}", n / unit),
        None => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use kiln::Map;

    use super::*;

    #[test]
    fn floats_are_short() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (1.0 / 3.0, "0.333333"),
            (123_456.789, "123457"),
            (12.3456789, "12.3457"),
            (1e-9, "1.00000e-9"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (x, want) in cases {
            assert_eq!(float(x), want);
        }
    }

    #[test]
    fn heads_end_in_an_ellipsis() {
        let t = |v: Vec<i64>| Datum::Tensor(Tensor::vector(v));
        assert_eq!(head(&t(vec![1, -2])), "1, -2");
        assert_eq!(head(&t((0..9).collect())), "0, 1, 2, 3, 4, 5, 6, 7, …");
        let keys = MapKeys::String(vec!["a".into()]);
        let map = Map::new(keys, Tensor::vector(vec![0.5f32])).expect("one to one");
        assert_eq!(head(&Datum::Sequence(vec![Datum::Map(map)])), "[\"a\": 0.5]");
        assert_eq!(head(&Datum::Tensor(Tensor::vector(vec![true]))), "true");
        assert_eq!(head(&Datum::Optional(None)), "none");
    }

    #[test]
    fn columns_line_up() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(table(&[row("a", "b"), row("long", "c")]), "a     b\nlong  c\n");
    }

    #[test]
    fn amounts_are_short() {
        for (n, want) in [(0, "0"), (9_999, "9999"), (12_345, "12k"), (-8_000_000_000, "-8000M")] {
            assert_eq!(amount(n), want);
        }
        assert_eq!(savings(&Cost { nodes: 2, flops: 0, bytes: 50_000 }), "2 nodes, 50k bytes");
    }
}
