//! Categories into numbers: one-hot vectors, and labels for labels.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Scalar, Tensor, match_number, match_scalar};

use super::scores::Labels;
use crate::eval::tensor;
use crate::{Attrs, Build, Context, Fact, Infer, Operator, Result, Schema, invalid};

/// A value as a key: numbers by their value, all NaN alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Bits(u64),
    Text(String),
}

impl Key {
    fn float(x: f64) -> Self {
        // -0 is the key that 0 is.
        Key::Bits(if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() })
    }
}

/// The elements of a tensor as keys: those of floats by value, of integers exactly.
fn keys(t: &Tensor) -> Result<Vec<Key>> {
    if let Ok(s) = t.strings() {
        return Ok(s.iter().cloned().map(Key::Text).collect());
    }
    if t.dtype().is_float() {
        return Ok(t.to_vec::<f64>()?.into_iter().map(Key::float).collect());
    }
    Ok(t.to_vec::<i64>()?.into_iter().map(|i| Key::Bits(i as u64)).collect())
}

/// One category each into a vector of zeros and a one.
#[derive(Clone, Debug, PartialEq)]
pub struct OneHotEncoder(Arc<OneHot>);

#[derive(Debug, PartialEq)]
struct OneHot {
    categories: Labels,
    /// Whether an unknown category is all zeros, not an error.
    zeros: bool,
    index: HashMap<Key, usize>,
}

/// Values for keys: `y[i] = values[place of x[i] among keys]`, or the default.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelEncoder(Arc<Table>);

#[derive(Debug, PartialEq)]
struct Table {
    keys: Tensor,
    /// As many as keys.
    values: Tensor,
    /// One element of the type of the values.
    default: Tensor,
    index: HashMap<Key, usize>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "ai.onnx.ml.OneHotEncoder",
        since: 1,
        build: |b| {
            let categories = Labels::read(&b.attrs, "cats_int64s", "cats_strings")?;
            if categories.is_empty() {
                invalid!("one of cats_int64s, cats_strings is needed");
            }
            let zeros = b.take("zeros")?.unwrap_or(true);
            Ok(OneHotEncoder::new(categories, zeros).into())
        },
    },
    Schema {
        name: "ai.onnx.ml.LabelEncoder",
        since: 1,
        build: |b| {
            let mut classes = b.require::<Vec<String>>("classes_strings")?;
            // The place where a class is found is its first one, and of equal keys the last counts.
            classes.reverse();
            let places = Tensor::vector((0..classes.len() as i64).rev().collect());
            Ok(both_ways(b, classes, places)?.into())
        },
    },
    Schema {
        name: "ai.onnx.ml.LabelEncoder",
        since: 2,
        build: |b| {
            let keys = list(b, "keys")?;
            let values = list(b, "values")?;
            let default = default(b, values.dtype())?;
            Ok(LabelEncoder::new(keys, values, default)?.into())
        },
    },
    Schema {
        name: "ai.onnx.ml.CategoryMapper",
        since: 1,
        build: |b| {
            let strings = b.require::<Vec<String>>("cats_strings")?;
            let ints = Tensor::vector(b.require::<Vec<i64>>("cats_int64s")?);
            Ok(both_ways(b, strings, ints)?.into())
        },
    },
];

/// A table from strings to integers, or back where the input has integers.
fn both_ways(b: &mut Build<'_>, strings: Vec<String>, ints: Tensor) -> Result<LabelEncoder> {
    let strings = Tensor::from_strings(&[strings.len()], strings)?;
    let back = b.dtype(0)? != DType::String;
    let (keys, values) = if back { (ints, strings) } else { (strings, ints) };
    let default = default(b, values.dtype())?;
    LabelEncoder::new(keys, values, default)
}

/// The list that attributes beginning with `side` hold, as a vector.
fn list(b: &mut Build<'_>, side: &str) -> Result<Tensor> {
    let kinds = ["tensor", "strings", "int64s", "floats"].map(|kind| format!("{side}_{kind}"));
    let given: Vec<_> = kinds.into_iter().filter(|name| b.attrs.has(name)).collect();
    if given.len() > 1 {
        invalid!("only one of {} may be given", given.join(", "));
    }
    if let Some(t) = b.take::<Tensor>(&format!("{side}_tensor"))? {
        return Ok(t.reshape(&[t.len()])?);
    }
    if let Some(v) = b.take::<Vec<String>>(&format!("{side}_strings"))? {
        return Ok(Tensor::from_strings(&[v.len()], v)?);
    }
    if let Some(v) = b.take::<Vec<i64>>(&format!("{side}_int64s"))? {
        return Ok(Tensor::vector(v));
    }
    match b.take::<Vec<f32>>(&format!("{side}_floats"))? {
        Some(v) => Ok(Tensor::vector(v)),
        None => {
            invalid!("one of {side}_tensor, {side}_strings, {side}_int64s, {side}_floats is needed")
        }
    }
}

/// The value for what is no key, in the type of the values.
fn default(b: &mut Build<'_>, dtype: DType) -> Result<Tensor> {
    if let Some(t) = b.take::<Tensor>("default_tensor")? {
        if t.dtype() != dtype || t.len() != 1 {
            invalid!("default_tensor must be one element of type {dtype}");
        }
        return Ok(t.reshape(&[1])?);
    }
    let text = b.take::<String>("default_string")?.unwrap_or_else(|| "_Unused".to_owned());
    let int = b.take::<i64>("default_int64")?.unwrap_or(-1);
    let float = b.take::<f32>("default_float")?.unwrap_or(-0.0);
    Ok(match_scalar!(dtype, T => {
        let value = if dtype.is_float() {
            T::from_f64(f64::from(float))
        } else {
            T::from_i128(i128::from(int))
        };
        Tensor::vector(vec![value])
    }, else Tensor::from_strings(&[1], vec![text])?))
}

impl OneHotEncoder {
    fn new(categories: Labels, zeros: bool) -> Self {
        let index = match &categories {
            Labels::Ints(v) => v.iter().map(|&i| Key::Bits(i as u64)).zip(0..).collect(),
            Labels::Strings(v) => v.iter().cloned().map(Key::Text).zip(0..).collect(),
        };
        Self(Arc::new(OneHot { categories, zeros, index }))
    }

    /// The places of the elements among the categories; numbers are cut to integers.
    fn places(&self, x: &Tensor) -> Result<Vec<Option<usize>>> {
        let place = |key: &Key| self.0.index.get(key).copied();
        if let Ok(s) = x.strings() {
            return Ok(s.iter().map(|s| place(&Key::Text(s.clone()))).collect());
        }
        match_number!(x.dtype(), T => {
            let key = |x: &T| {
                (!x.to_f64().is_nan()).then(|| Key::Bits(i64::from_i128(x.to_i128()) as u64))
            };
            Ok(x.as_slice::<T>()?.iter().map(|x| key(x).and_then(|k| place(&k))).collect())
        }, else invalid!("OneHotEncoder takes no {}", x.dtype()))
    }
}

impl LabelEncoder {
    fn new(keys: Tensor, values: Tensor, default: Tensor) -> Result<Self> {
        if keys.len() != values.len() {
            invalid!("there are {} keys for {} values", keys.len(), values.len());
        }
        let mut index = HashMap::new();
        for (i, key) in self::keys(&keys)?.into_iter().enumerate() {
            // Of equal keys the last counts, as the specification has it.
            index.insert(key, i);
        }
        Ok(Self(Arc::new(Table { keys, values, default, index })))
    }

    fn takes(&self, d: DType) -> bool {
        let keys = self.0.keys.dtype();
        match keys {
            DType::String => d == DType::String,
            _ if keys.is_float() => d.is_float(),
            _ => d.is_integer() || d == keys,
        }
    }
}

impl Operator for OneHotEncoder {
    fn name(&self) -> &str {
        "ai.onnx.ml.OneHotEncoder"
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::default().with("zeros", (!self.0.zeros).then_some(false));
        self.0.categories.write(attrs, "cats_int64s", "cats_strings")
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let text = matches!(self.0.categories, Labels::Strings(_));
        cx.dtype_in(0, |d| if text { d == DType::String } else { d.is_number() })?;
        let shape = cx.shape(0)?.map(|s| {
            let mut s = s.to_vec();
            s.push(self.0.categories.len().into());
            s
        });
        Ok(vec![Fact::tensor(DType::F32, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let n = self.0.categories.len();
        let mut shape = x.shape().to_vec();
        shape.push(n);
        let mut y = cx.zeros::<f32>(&shape)?;
        for (i, place) in self.places(x)?.into_iter().enumerate() {
            match place {
                Some(k) => y[i * n + k] = 1.0,
                None if self.0.zeros => {}
                None => invalid!("element {i} is no known category, and `zeros` is off"),
            }
        }
        Ok(vec![Tensor::from_vec(&shape, y)?.into()])
    }
}

impl Operator for LabelEncoder {
    fn name(&self) -> &str {
        "ai.onnx.ml.LabelEncoder"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
            .with("keys_tensor", self.0.keys.clone())
            .with("values_tensor", self.0.values.clone())
            .with("default_tensor", self.0.default.clone())
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, |d| self.takes(d))?;
        Ok(vec![Fact::tensor(self.0.values.dtype(), cx.shape(0)?.map(<[_]>::to_vec))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        if !self.takes(x.dtype()) {
            invalid!("the keys are {}, the input is {}", self.0.keys.dtype(), x.dtype());
        }
        let table = &self.0;
        cx.numel(table.values.dtype(), x.shape())?;
        let places = keys(x)?.into_iter().map(|k| table.index.get(&k).copied());
        let y = match (table.values.strings(), table.default.strings()) {
            (Ok(values), Ok([default])) => {
                let data = places.map(|p| p.map_or(default, |i| &values[i]).clone());
                Tensor::from_strings(x.shape(), data.collect())?
            }
            _ => match_scalar!(table.values.dtype(), T => {
                let values = table.values.as_slice::<T>()?;
                let default = table.default.as_slice::<T>()?[0];
                let data = places.map(|p| p.map_or(default, |i| values[i]));
                Tensor::from_vec(x.shape(), data.collect())?
            }, else invalid!("LabelEncoder gives no {}", table.values.dtype())),
        };
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};
    use crate::schema::{self, NodeSpec};
    use crate::{Graph, Type, eval};

    fn strings(s: &[&str]) -> Tensor {
        Tensor::from_strings(&[s.len()], s.iter().map(|s| (*s).to_owned()).collect()).expect("1-d")
    }

    fn texts(s: &[&str]) -> Vec<String> {
        s.iter().map(|s| (*s).to_owned()).collect()
    }

    /// Runs one operator of an old version.
    fn old(op: &str, opset: i64, attrs: Attrs, x: Tensor) -> Result<Tensor> {
        let mut g = Graph::new();
        let input = g.input("x", Type::of(&x.clone().into()));
        let inputs = vec![Some(input)];
        let spec = NodeSpec { op, opset, name: "y", inputs, attrs, outputs: 1 };
        let y = schema::add(&mut g, spec)?[0];
        g.set_outputs(vec![("y".into(), y)]);
        let printed = crate::text::print_full(&g);
        assert_eq!(printed, crate::text::print_full(&crate::text::parse(&printed)?));
        Ok(eval::run(&g, &Context::default(), vec![x.into()])?[0].as_tensor()?.clone())
    }

    #[test]
    fn one_hot() {
        let hot = |attrs: &str, x: Tensor| {
            let ty = Type::of(&x.clone().into());
            run1(&format!("y = ai.onnx.ml.OneHotEncoder(x: {ty}) {{{attrs}}}\nreturn y"), &[x])
        };
        let y = hot("cats_int64s=[1,3]", Tensor::from_vec(&[1, 2], vec![3i64, 2]).expect("1x2"));
        let want = Tensor::from_vec(&[1, 2, 2], vec![0f32, 1.0, 0.0, 0.0]).expect("1x2x2");
        assert_eq!(y.expect("runs"), want);
        let y = hot("cats_int64s=[1,0]", Tensor::vector(vec![1.7f32, f32::NAN])).expect("runs");
        assert_eq!(y.as_slice::<f32>().expect("f32"), [1.0, 0.0, 0.0, 0.0]);
        let y = hot("cats_strings=[\"a\",\"b\"]", strings(&["b"])).expect("runs");
        assert_eq!(y.as_slice::<f32>().expect("f32"), [0.0, 1.0]);
        assert!(hot("cats_int64s=[1], zeros=0", Tensor::vector(vec![2i32])).is_err());
        let t = types("y = ai.onnx.ml.OneHotEncoder(x: i64[N,2]) {cats_int64s=[1,3,5]}\nreturn y");
        assert_eq!(t.expect("types"), ["f32[N,2,3]"]);
    }

    #[test]
    fn first_version_goes_by_its_input() {
        let a = || Attrs::default().with("classes_strings", texts(&["a", "b"]));
        let le = "ai.onnx.ml.LabelEncoder";
        let y = old(le, 1, a(), strings(&["b", "?"])).expect("runs");
        assert_eq!(y, Tensor::vector(vec![1i64, -1]));
        let y =
            old(le, 1, a().with("default_string", "-".to_owned()), Tensor::vector(vec![0i64, 2]));
        assert_eq!(y.expect("runs"), strings(&["a", "-"]));
        let twice = Attrs::default().with("classes_strings", texts(&["a", "b", "a"]));
        let y = old(le, 1, twice, strings(&["a", "b"])).expect("runs");
        assert_eq!(y, Tensor::vector(vec![0i64, 1]));
        let map = a().with("cats_strings", texts(&["a", "b"])).with("cats_int64s", vec![7i64, 8]);
        let cm = "ai.onnx.ml.CategoryMapper";
        let y = old(cm, 1, map.clone(), strings(&["b", "q"])).expect("runs");
        assert_eq!(y, Tensor::vector(vec![8i64, -1]));
        let y = old(cm, 1, map, Tensor::vector(vec![7i64, 0])).expect("runs");
        assert_eq!(y, strings(&["a", "_Unused"]));
    }

    #[test]
    fn lists_of_every_type() {
        let le = |attrs: Attrs, x: Tensor| old("ai.onnx.ml.LabelEncoder", 4, attrs, x);
        let none = Attrs::default;
        let y = le(
            none().with("keys_floats", vec![f32::NAN, 0.0]).with("values_int64s", vec![5i64, 6]),
            Tensor::vector(vec![f32::NAN, -0.0, 1.0]),
        );
        assert_eq!(y.expect("runs"), Tensor::vector(vec![5i64, 6, -1]));
        // Of equal keys the last counts.
        let y = le(
            none().with("keys_int64s", vec![1i64, 1]).with("values_floats", vec![0.5f32, 9.0]),
            Tensor::vector(vec![1i64, 2]),
        );
        assert_eq!(y.expect("runs"), Tensor::vector(vec![9f32, -0.0]));
        let y = le(
            none()
                .with("keys_strings", texts(&["a"]))
                .with("values_tensor", Tensor::vector(vec![3i16]))
                .with("default_tensor", Tensor::vector(vec![42i16])),
            strings(&["a", "b"]),
        );
        assert_eq!(y.expect("runs"), Tensor::vector(vec![3i16, 42]));
        let y = le(
            none()
                .with("keys_tensor", Tensor::vector(vec![0.1f64]))
                .with("values_strings", texts(&["tenth"])),
            Tensor::vector(vec![0.1f64, f64::from(0.1f32)]),
        );
        assert_eq!(y.expect("runs"), strings(&["tenth", "_Unused"]));
    }

    #[test]
    fn wrong_tables_are_errors() {
        let le = |attrs: Attrs| old("ai.onnx.ml.LabelEncoder", 2, attrs, strings(&["a"]));
        let keys = || Attrs::default().with("keys_strings", texts(&["a", "b"]));
        assert!(le(keys()).is_err());
        assert!(le(keys().with("values_int64s", vec![1i64])).is_err());
        assert!(
            le(Attrs::default().with("keys_int64s", vec![1i64]).with("values_int64s", vec![1i64]))
                .is_err()
        );
        let default = Tensor::vector(vec![1f32]);
        assert!(
            le(keys().with("values_int64s", vec![1i64, 2]).with("default_tensor", default))
                .is_err()
        );
    }
}
