//! Between tables, columns and maps: vectors of features from columns or from a map, and a map
//! of scores per row.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Map, MapKeys, Scalar, Tensor, match_scalar};

use super::scores::{Labels, rows_and_columns, table};
use crate::eval::tensor;
use crate::{
    Attrs, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, Type, attr_enum, invalid,
};

/// A way between tables, columns and maps.
#[derive(Clone, Debug, PartialEq)]
pub enum Vectorize {
    /// `FeatureVectorizer`: columns side by side; of each input as many as the list says, missing
    /// ones zero. Without a list, all there are.
    Features(Arc<Vec<i64>>),
    /// `DictVectorizer`: the values of these keys in a map as one row, missing ones zero.
    Dict(Arc<Labels>),
    /// `CastMap`: the values of a map as one row.
    CastMap(CastMap),
    /// `ZipMap`: a map of labels to scores for each row.
    ZipMap(Arc<Labels>),
}

/// How a map becomes a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CastMap {
    /// The type of the row.
    pub to: CastTo,
    /// The length of the row, where each value stands at the place that its key says; `None`
    /// where the values stand in the order of their keys.
    pub sparse: Option<i64>,
}

attr_enum! {
    /// What the values of a map become.
    pub enum CastTo {
        /// 32-bit floats.
        Float = "TO_FLOAT",
        /// Strings, floats with six digits after the point.
        String = "TO_STRING",
        /// 64-bit integers, floats cut towards zero.
        Int = "TO_INT64",
    }
}

attr_enum! {
    /// Where the values of a map go.
    pub enum MapForm {
        /// One after the other.
        Dense = "DENSE",
        /// To the place that the key says.
        Sparse = "SPARSE",
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "ai.onnx.ml.FeatureVectorizer",
        since: 1,
        build: |b| {
            let widths = b.take::<Vec<i64>>("inputdimensions")?.unwrap_or_default();
            match widths.len() {
                0 => {}
                n if n == b.inputs.len() => {}
                n => invalid!("inputdimensions has {n} elements for {} inputs", b.inputs.len()),
            }
            if widths.iter().any(|&w| w < 0) {
                invalid!("inputdimensions has a negative element");
            }
            Ok(Vectorize::Features(widths.into()).into())
        },
    },
    Schema {
        name: "ai.onnx.ml.DictVectorizer",
        since: 1,
        build: |b| {
            let keys = Labels::read(&b.attrs, "int64_vocabulary", "string_vocabulary")?;
            Ok(Vectorize::Dict(keys.into()).into())
        },
    },
    Schema {
        name: "ai.onnx.ml.CastMap",
        since: 1,
        build: |b| {
            let to = b.take("cast_to")?.unwrap_or(CastTo::Float);
            let form = b.take("map_form")?.unwrap_or(MapForm::Dense);
            let length = b.take("max_map")?.unwrap_or(1);
            let sparse = (form == MapForm::Sparse).then_some(length);
            Ok(Vectorize::CastMap(CastMap { to, sparse }).into())
        },
    },
    Schema {
        name: "ai.onnx.ml.ZipMap",
        since: 1,
        build: |b| {
            let labels = Labels::read(&b.attrs, "classlabels_int64s", "classlabels_strings")?;
            if labels.is_empty() {
                invalid!("a ZipMap needs class labels");
            }
            Ok(Vectorize::ZipMap(labels.into()).into())
        },
    },
];

impl CastTo {
    fn dtype(self) -> DType {
        match self {
            CastTo::Float => DType::F32,
            CastTo::String => DType::String,
            CastTo::Int => DType::I64,
        }
    }
}

impl Vectorize {
    fn features(&self, cx: &Context, inputs: &[Option<&Datum>], widths: &[i64]) -> Result<Tensor> {
        let mut rows = None;
        let mut parts = Vec::new();
        let mut total = 0usize;
        for i in 0..inputs.len() {
            let x = tensor(inputs, i)?;
            let (r, have) = rows_and_columns(x)?;
            if *rows.get_or_insert(r) != r {
                invalid!("input {i} has {r} rows, the ones before have others");
            }
            let width = widths.get(i).map_or(have, |&w| w as usize);
            total = total.saturating_add(width);
            parts.push((x, have, width));
        }
        let rows = rows.unwrap_or(0);
        let mut y = cx.zeros::<f32>(&[rows, total])?;
        let mut at = 0;
        for (x, have, width) in parts {
            let data = x.to_vec::<f32>()?;
            let n = have.min(width);
            for r in 0..rows {
                y[r * total + at..][..n].copy_from_slice(&data[r * have..][..n]);
            }
            at += width;
        }
        Ok(Tensor::from_vec(&[rows, total], y)?)
    }
}

/// The places of the wanted keys among the keys of a map.
fn places(wanted: &Labels, keys: &MapKeys) -> Result<Vec<Option<usize>>> {
    use std::collections::HashMap;
    Ok(match (wanted, keys) {
        (Labels::Ints(w), MapKeys::Int(k)) => {
            let index: HashMap<_, _> = k.iter().zip(0..).collect();
            w.iter().map(|k| index.get(k).copied()).collect()
        }
        (Labels::Strings(w), MapKeys::String(k)) => {
            let index: HashMap<_, _> = k.iter().zip(0..).collect();
            w.iter().map(|k| index.get(k).copied()).collect()
        }
        (w, _) if w.is_empty() => vec![],
        _ => invalid!("the vocabulary and the keys of the map are of different types"),
    })
}

/// A row of the values at these places of a vector; missing ones are zero or empty.
fn gather(values: &Tensor, places: &[Option<usize>]) -> Result<Tensor> {
    let shape = [1, places.len()];
    if let Ok(s) = values.strings() {
        let data = places.iter().map(|p| p.map_or(String::new(), |i| s[i].clone()));
        return Ok(Tensor::from_strings(&shape, data.collect())?);
    }
    match_scalar!(values.dtype(), T => {
        let v = values.as_slice::<T>()?;
        let data = places.iter().map(|p| p.map_or(T::default(), |i| v[i]));
        Ok(Tensor::from_vec(&shape, data.collect())?)
    }, else invalid!("a map of {} is not supported", values.dtype()))
}

impl CastMap {
    fn apply(self, cx: &Context, map: &Map) -> Result<Tensor> {
        let MapKeys::Int(keys) = &map.keys else { invalid!("CastMap takes maps of integers") };
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|&i| keys[i]);
        let places: Vec<Option<usize>> = match self.sparse {
            None => order.into_iter().map(Some).collect(),
            Some(length) => {
                let Ok(length) = usize::try_from(length) else { invalid!("max_map is {length}") };
                cx.numel(DType::C128, &[length])?;
                let mut places = vec![None; length];
                for i in order {
                    let Ok(key) = usize::try_from(keys[i]) else {
                        invalid!("the key {} is no place in a sparse row", keys[i]);
                    };
                    // Keys beyond the end of the row are left out.
                    if let Some(p) = places.get_mut(key) {
                        *p = Some(i);
                    }
                }
                places
            }
        };
        self.row(&map.values, &places)
    }

    fn row(self, values: &Tensor, places: &[Option<usize>]) -> Result<Tensor> {
        let shape = [1, places.len()];
        let text = values.strings().ok();
        Ok(match (self.to, text) {
            (CastTo::String, Some(s)) => {
                let data = places.iter().map(|p| p.map_or("0.f".to_owned(), |i| s[i].clone()));
                Tensor::from_strings(&shape, data.collect())?
            }
            (CastTo::String, None) => {
                let v = values.to_vec::<f64>()?;
                // The spelling that other runtimes give to numbers and to what is missing.
                let data =
                    places.iter().map(|p| p.map_or("0.f".to_owned(), |i| format!("{:.6}", v[i])));
                Tensor::from_strings(&shape, data.collect())?
            }
            (CastTo::Int, Some(s)) => {
                let parse = |p: &Option<usize>| p.map_or(Ok(0), |i| integer(&s[i]));
                Tensor::from_vec(&shape, places.iter().map(parse).collect::<Result<Vec<i64>>>()?)?
            }
            (to, Some(s)) => {
                let parse = |p: &Option<usize>| p.map_or(Ok(0.0), |i| number(&s[i]));
                let data = places.iter().map(parse).collect::<Result<Vec<f64>>>()?;
                of_numbers(to, &shape, data.into_iter())?
            }
            (to, None) => {
                let v = values.to_vec::<f64>()?;
                of_numbers(to, &shape, places.iter().map(|p| p.map_or(0.0, |i| v[i])))?
            }
        })
    }
}

fn of_numbers(to: CastTo, shape: &[usize], data: impl Iterator<Item = f64>) -> Result<Tensor> {
    Ok(match to {
        CastTo::Int => Tensor::from_vec(shape, data.map(i64::from_f64).collect())?,
        _ => Tensor::from_vec(shape, data.map(f32::from_f64).collect())?,
    })
}

fn integer(text: &str) -> Result<i64> {
    text.trim().parse().or_else(|_| number(text).map(i64::from_f64))
}

fn number(text: &str) -> Result<f64> {
    let wrong = || Error::invalid(format!("the value `{text}` of the map is no number"));
    text.trim().parse().map_err(|_| wrong())
}

fn zip_map(cx: &Context, x: &Tensor, labels: &Labels) -> Result<Datum> {
    let (rows, columns) = rows_and_columns(x)?;
    if columns != labels.len() {
        invalid!("there are {} class labels for {columns} columns", labels.len());
    }
    cx.numel(DType::C128, &[rows, columns])?;
    let keys = match labels {
        Labels::Ints(v) => MapKeys::Int(v.clone()),
        Labels::Strings(v) => MapKeys::String(v.clone()),
    };
    let map = |r: usize| -> Result<Datum> {
        let values = x.take(&[columns], r * columns..(r + 1) * columns)?;
        Ok(Datum::Map(Map::new(keys.clone(), values)?))
    };
    Ok(Datum::Sequence((0..rows).map(map).collect::<Result<_>>()?))
}

impl Operator for Vectorize {
    fn name(&self) -> &str {
        match self {
            Vectorize::Features(_) => "ai.onnx.ml.FeatureVectorizer",
            Vectorize::Dict(_) => "ai.onnx.ml.DictVectorizer",
            Vectorize::CastMap(_) => "ai.onnx.ml.CastMap",
            Vectorize::ZipMap(_) => "ai.onnx.ml.ZipMap",
        }
    }

    fn attrs(&self) -> Attrs {
        let none = Attrs::default();
        match self {
            Vectorize::Features(w) if w.is_empty() => none,
            Vectorize::Features(w) => none.with("inputdimensions", (**w).clone()),
            Vectorize::Dict(keys) => keys.write(none, "int64_vocabulary", "string_vocabulary"),
            Vectorize::CastMap(c) => none
                .with("cast_to", (c.to != CastTo::Float).then_some(c.to))
                .with("map_form", c.sparse.map(|_| MapForm::Sparse))
                .with("max_map", c.sparse),
            Vectorize::ZipMap(l) => l.write(none, "classlabels_int64s", "classlabels_strings"),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Vectorize::Features(_) => 1..=usize::MAX,
            _ => 1..=1,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let row = |dtype, n: Dim| Fact::shaped(dtype, vec![1i64.into(), n]);
        Ok(vec![match self {
            Vectorize::Features(widths) => features(cx, widths)?,
            Vectorize::Dict(keys) => row(map_of(cx, keys.dtype())?, keys.len().into()),
            Vectorize::CastMap(c) => {
                map_of(cx, DType::I64)?;
                match c.sparse {
                    Some(n) if n < 0 => invalid!("max_map is {n}"),
                    Some(n) => row(c.to.dtype(), n.into()),
                    None => row(c.to.dtype(), cx.fresh()),
                }
            }
            Vectorize::ZipMap(labels) => {
                let dtype = cx.dtype_in(0, |d| matches!(d, DType::F32 | DType::F64))?;
                let (_, columns) = table(cx, 0)?;
                match columns.and_then(|c| c.as_len()) {
                    Some(c) if c != labels.len() => {
                        invalid!("there are {} class labels for {c} columns", labels.len())
                    }
                    _ => {}
                }
                let map = Type::Map(labels.dtype(), Type::tensor(dtype, Some(vec![])).into());
                Type::Sequence(map.into()).into()
            }
        }])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let map = || match inputs.first() {
            Some(Some(d)) => Ok(d.as_map()?),
            _ => Err(Error::invalid("input 0 is missing")),
        };
        Ok(vec![match self {
            Vectorize::Features(widths) => self.features(cx, inputs, widths)?.into(),
            Vectorize::Dict(keys) => {
                let map = map()?;
                gather(&map.values, &places(keys, &map.keys)?)?.into()
            }
            Vectorize::CastMap(c) => c.apply(cx, map()?)?.into(),
            Vectorize::ZipMap(labels) => zip_map(cx, tensor(inputs, 0)?, labels)?,
        }])
    }
}

/// The element type of the map at input 0, whose keys must be of type `keys`.
fn map_of(cx: &Infer<'_>, keys: DType) -> Result<DType> {
    match cx.ty(0)? {
        Type::Map(k, v) if k.is_integer() == keys.is_integer() => Ok(v.as_tensor()?.dtype),
        other => invalid!("expected a map with keys of type {keys}, found {other}"),
    }
}

fn features(cx: &mut Infer<'_>, widths: &[i64]) -> Result<Fact> {
    let mut rows = None;
    let mut total = Some(Dim::from(0i64));
    for i in 0..cx.len() {
        cx.dtype_in(i, |d| matches!(d, DType::F32 | DType::F64 | DType::I64 | DType::I32))?;
        let (r, columns) = table(cx, i)?;
        if rows.as_ref().is_none_or(|old: &Dim| old.as_len().is_none()) {
            rows = Some(r);
        }
        let width = widths.get(i).map(|&w| Dim::from(w)).or(columns);
        total = total.zip(width).map(|(t, w)| t + w);
    }
    let total = total.unwrap_or_else(|| cx.fresh());
    Ok(Fact::shaped(DType::F32, vec![rows.unwrap_or_else(|| 0i64.into()), total]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::types;
    use crate::{eval, text};

    fn run(t: &str, inputs: Vec<Datum>) -> Result<Datum> {
        let g = text::parse(t)?;
        let printed = text::print_full(&g);
        assert_eq!(printed, text::print_full(&text::parse(&printed)?));
        Ok(eval::run(&g, &Context::default(), inputs)?.remove(0))
    }

    fn table(columns: usize, data: Vec<f32>) -> Datum {
        let rows = data.len() / columns;
        Tensor::from_vec(&[rows, columns], data).expect("table").into()
    }

    #[test]
    fn columns_side_by_side() {
        let t = "y = ai.onnx.ml.FeatureVectorizer(a: f32[N,2], b: i64[N,2]) \
                 {inputdimensions=[1,3]}\nreturn y";
        let b = Tensor::from_vec(&[2, 2], vec![5i64, 6, 7, 8]).expect("2x2");
        let y = run(t, vec![table(2, vec![1.0, 2.0, 3.0, 4.0]), b.into()]).expect("runs");
        assert_eq!(y, table(4, vec![1.0, 5.0, 6.0, 0.0, 3.0, 7.0, 8.0, 0.0]));
        assert_eq!(types(t).expect("types"), ["f32[N,4]"]);
        let bare = t.replace(" {inputdimensions=[1,3]}", "");
        assert_eq!(types(&bare).expect("types"), ["f32[N,4]"]);
        assert!(types(&t.replace("[1,3]", "[1]")).is_err());
        let short = run(
            &bare,
            vec![table(2, vec![1.0, 2.0]), Tensor::zeros(DType::I64, &[3, 2]).expect("3x2").into()],
        );
        assert!(short.is_err());
    }

    fn ints(keys: &[i64], values: Tensor) -> Datum {
        Datum::Map(Map::new(MapKeys::Int(keys.to_vec()), values).expect("a map"))
    }

    #[test]
    fn a_row_of_wanted_keys() {
        let t = "y = ai.onnx.ml.DictVectorizer(m: map(str,f32[])) \
                 {string_vocabulary=[\"a\",\"b\"]}\nreturn y";
        let keys = MapKeys::String(vec!["b".into(), "z".into()]);
        let map = Map::new(keys, Tensor::vector(vec![2f32, 9.0])).expect("a map");
        assert_eq!(run(t, vec![Datum::Map(map)]).expect("runs"), table(2, vec![0.0, 2.0]));
        assert_eq!(types(t).expect("types"), ["f32[1,2]"]);
        assert!(types(&t.replace("map(str,", "map(i64,")).is_err());
        let t =
            "y = ai.onnx.ml.DictVectorizer(m: map(i64,str[])) {int64_vocabulary=[1,2]}\nreturn y";
        let values = Tensor::from_strings(&[1], vec!["x".into()]).expect("one");
        let want = Tensor::from_strings(&[1, 2], vec![String::new(), "x".into()]).expect("two");
        assert_eq!(run(t, vec![ints(&[2], values)]).expect("runs"), want.into());
    }

    #[test]
    fn maps_into_rows() {
        let cast = |attrs: &str, m: Datum| {
            let ty = Type::of(&m);
            run(&format!("y = ai.onnx.ml.CastMap(m: {ty}) {{{attrs}}}\nreturn y"), vec![m])
        };
        let m = || ints(&[3, 1, 0], Tensor::vector(vec![2.6f32, 1.5, -1.0]));
        assert_eq!(cast("max_map=1", m()).expect("runs"), table(3, vec![-1.0, 1.5, 2.6]));
        let sparse = "map_form=\"SPARSE\", max_map=5, cast_to=\"TO_INT64\"";
        let want = Tensor::from_vec(&[1, 5], vec![-1i64, 1, 0, 2, 0]).expect("1x5");
        assert_eq!(cast(sparse, m()).expect("runs"), want.into());
        let y = cast("map_form=\"SPARSE\", max_map=2, cast_to=\"TO_STRING\"", m()).expect("runs");
        let want = Tensor::from_strings(&[1, 2], vec!["-1.000000".into(), "1.500000".into()]);
        assert_eq!(y, want.expect("two").into());
        let text = |s: &str| ints(&[4], Tensor::from_strings(&[1], vec![s.into()]).expect("one"));
        assert_eq!(cast("max_map=1", text(" 2.5")).expect("runs"), table(1, vec![2.5]));
        let int = cast("cast_to=\"TO_INT64\", max_map=1", text("9007199254740993"));
        let want = Tensor::from_vec(&[1, 1], vec![9_007_199_254_740_993i64]).expect("one");
        assert_eq!(int.expect("runs"), want.into());
        assert!(cast("max_map=1", text("abc")).is_err());
        let negative = ints(&[-1], Tensor::vector(vec![1f32]));
        assert!(cast("map_form=\"SPARSE\", max_map=2", negative).is_err());
        assert!(cast("map_form=\"SPARSE\", max_map=4611686018427387904", m()).is_err());
    }

    #[test]
    fn a_map_per_row() {
        let t = "y = ai.onnx.ml.ZipMap(x: f32[N,2]) {classlabels_int64s=[10,20]}\nreturn y";
        let y = run(t, vec![table(2, vec![1.0, 2.0, 3.0, 4.0])]).expect("runs");
        let of = |a, b| ints(&[10, 20], Tensor::vector(vec![a, b]));
        assert_eq!(y, Datum::Sequence(vec![of(1f32, 2.0), of(3.0, 4.0)]));
        assert_eq!(types(t).expect("types"), ["seq(map(i64,f32[]))"]);
        let text = t.replace("classlabels_int64s=[10,20]", "classlabels_strings=[\"a\"]");
        assert!(types(&text).is_err());
        assert_eq!(types(&text.replace("N,2", "N,1")).expect("types"), ["seq(map(str,f32[]))"]);
    }
}
