//! Labels and places: categories looked up by a table made once, the place of the greatest, and
//! labels taken by place.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use kiln_ir::ops::gather::Gather;
use kiln_ir::{Attr, Error, Graph, NodeId, Op, Operator, Result, Type, Value, invalid};
use kiln_tensor::{DType, Tensor};

use crate::kernel::{Args, FLOATS, Integers, Kernel, LABELS, Operand, Row};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "label_encoder",
        what: "LabelEncoder of strings, i64 and f32: a table made once",
        graphs: &[
            "y = ai.onnx.ml.LabelEncoder(x: f32[40]) {keys_tensor=f32[2]{0.0,nan}, \
             values_tensor=i64[2]{7,8}, default_tensor=i64[1]{-1}}\nreturn y",
            "a = ai.onnx.ml.Binarizer(x: f32[30,2])\ny = ai.onnx.ml.LabelEncoder(a) \
             {keys_tensor=f32[3]{-0.0,1.0,1.0}, values_tensor=str[3]{\"a\",\"b\",\"c\"}, \
             default_tensor=str[1]{\"-\"}}\nz = ai.onnx.ml.LabelEncoder(y) \
             {keys_tensor=str[1]{\"c\"}, values_tensor=f32[1]{0.5}, \
             default_tensor=f32[1]{-0.25}}\nreturn y, z",
            "y = ai.onnx.ml.LabelEncoder(x: i64[3,4]) {keys_tensor=i64[2]{0,1}, \
             values_tensor=f64[2]{0.5,1.5}, default_tensor=f64[1]{2.0}}\nreturn y",
        ],
        in_place: false,
        firsts: LABELS,
        prepare: prepare_encoder,
    },
    Row {
        name: "one_hot_encoder",
        what: "OneHotEncoder of strings and i64: a table made once",
        graphs: &[
            "y = ai.onnx.ml.OneHotEncoder(x: i64[20,2]) {cats_int64s=[1,0,1]}\nreturn y",
            "a = ai.onnx.ml.LabelEncoder(x: i64[30]) {keys_tensor=i64[2]{0,1}, \
             values_tensor=str[2]{\"a\",\"b\"}, default_tensor=str[1]{\"-\"}}\n\
             y = ai.onnx.ml.OneHotEncoder(a) {cats_strings=[\"b\",\"a\"]}\nreturn y",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_one_hot,
    },
    Row {
        name: "gather_labels",
        what: "Gather of single labels, i64 or strings",
        graphs: &[
            "l = i64[3]{30,10,20}\np = ArgMax(x: f32[40,3]) {axis=1, keepdims=0}\n\
             y = Gather(l, p)\nreturn y",
            "l = str[3]{\"a\",\"b\",\"c\"}\np = i64[2,2]{-1,0,2,-3}\ny = Gather(l, p)\nreturn y",
        ],
        in_place: false,
        firsts: LABELS,
        prepare: prepare_gather,
    },
];

/// Elements that one thread takes at a time.
const JOB: usize = 1 << 12;

/// A hash that is quick to make. The keys of a table come with the model, and no others are put
/// into it, so that what is looked up cannot make it slow.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|w| self.write_u64(u64::from_le_bytes(*w)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, x: u8) {
        self.write_u64(u64::from(x));
    }

    fn write_u64(&mut self, x: u64) {
        let product = u128::from(self.0 ^ x) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The places of keys in a list; of equal ones the last counts.
enum Places {
    Text(HashMap<String, usize, BuildHasherDefault<Quick>>),
    /// Floats by the bits of their value in double precision.
    Bits(HashMap<u64, usize, BuildHasherDefault<Quick>>),
}

/// A float as a key: -0 is the key that 0 is, and all NaN are alike.
fn bits(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() }
}

impl Places {
    fn of(keys: &Tensor) -> Option<Self> {
        if let Ok(s) = keys.strings() {
            return Some(Places::Text(s.iter().cloned().zip(0..).collect()));
        }
        let bits: Vec<u64> = match keys.dtype() {
            DType::F32 | DType::F64 => {
                keys.to_vec::<f64>().ok()?.into_iter().map(self::bits).collect()
            }
            DType::I64 => keys.to_vec::<i64>().ok()?.into_iter().map(|k| k as u64).collect(),
            _ => return None,
        };
        Some(Places::Bits(bits.into_iter().zip(0..).collect()))
    }

    /// Calls `done` with each element's number and its place, where it has one; the results are
    /// taken apart into as many as belong to an element.
    fn each<T: Send>(
        &self,
        x: Operand<'_>,
        y: &mut [T],
        each: usize,
        done: impl Fn(usize, Option<usize>, &mut [T]) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        let texts = x.other.map(Tensor::strings).and_then(std::result::Result::ok);
        let ints = x.other.map(Tensor::as_slice::<i64>).and_then(std::result::Result::ok);
        let place = |i: usize| match (self, texts, ints) {
            (Places::Text(index), Some(s), _) => Ok(index.get(&s[i]).copied()),
            (Places::Bits(index), _, Some(ints)) => Ok(index.get(&(ints[i] as u64)).copied()),
            (Places::Bits(index), _, None) if x.other.is_none() => {
                Ok(index.get(&bits(f64::from(x.data[i]))).copied())
            }
            _ => Err(Error::bug("an encoder of labels got other elements than it is for")),
        };
        team::try_each(y.chunks_mut((JOB * each).max(1)).enumerate(), |(job, y)| {
            for (i, y) in y.chunks_exact_mut(each.max(1)).enumerate() {
                let i = job * JOB + i;
                done(i, place(i)?, y)?;
            }
            Ok(())
        })
    }
}

fn dtype(g: &Graph, v: Value) -> Option<DType> {
    match g.ty(v) {
        Type::Tensor(t) if t.shape.is_some() => Some(t.dtype),
        _ => None,
    }
}

/// Values for keys; the last value is that of no key.
struct Encoder {
    places: Places,
    values: Tensor,
}

fn prepare_encoder(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::LabelEncoder(op) = g.op(id) else { return None };
    let attrs = op.attrs();
    let tensor = |name: &str| match attrs.get(name) {
        Some(Attr::Tensor(t)) => Some(t.clone()),
        _ => None,
    };
    let (keys, values) = (tensor("keys_tensor")?, tensor("values_tensor")?);
    let default = tensor("default_tensor")?;
    let float = matches!(keys.dtype(), DType::F32 | DType::F64);
    match dtype(g, g.input_of(id, 0)?)? {
        DType::F32 if float => {}
        d @ (DType::I64 | DType::String) if d == keys.dtype() => {}
        _ => return None,
    }
    let values = joined(&values, &default)?;
    Some(Box::new(Encoder { places: Places::of(&keys)?, values }))
}

/// Values, and one more.
fn joined(values: &Tensor, default: &Tensor) -> Option<Tensor> {
    macro_rules! numbers {
        ($t:ty) => {{
            let mut all = values.to_vec::<$t>().ok()?;
            all.extend(default.to_vec::<$t>().ok()?);
            Some(Tensor::vector(all))
        }};
    }
    match values.dtype() {
        DType::String => {
            let all = [values.strings().ok()?, default.strings().ok()?].concat();
            Tensor::from_strings(&[all.len()], all).ok()
        }
        DType::F32 => numbers!(f32),
        DType::F64 => numbers!(f64),
        DType::I64 => numbers!(i64),
        _ => None,
    }
}

impl Kernel for Encoder {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let Some(x) = args.optional(0) else { invalid!("input 0 is missing") };
        let default = self.values.len() - 1;
        let v = &self.values;
        macro_rules! numbers {
            ($y:expr, $t:ty) => {{
                let v = v.as_slice::<$t>()?;
                self.places.each(x, $y, 1, |_, at, y| {
                    y[0] = v[at.unwrap_or(default)];
                    Ok(())
                })
            }};
        }
        match args.integers {
            None => numbers!(args.out, f32),
            Some(Integers::F64(y)) => numbers!(y, f64),
            Some(Integers::I64(y)) => numbers!(y, i64),
            Some(Integers::Strings(y)) => {
                let v = v.strings()?;
                self.places.each(x, y, 1, |_, at, y| {
                    y[0].clone_from(&v[at.unwrap_or(default)]);
                    Ok(())
                })
            }
            _ => Err(Error::bug("an encoder of labels gives something else")),
        }
    }
}

/// A one at the place of each category.
struct OneHot {
    places: Places,
    count: usize,
    zeros: bool,
}

fn prepare_one_hot(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::OneHotEncoder(op) = g.op(id) else { return None };
    let attrs = op.attrs();
    let categories = match (attrs.get("cats_strings"), attrs.get("cats_int64s")) {
        (Some(Attr::Strings(s)), _) => Tensor::from_strings(&[s.len()], s.clone()).ok()?,
        (_, Some(Attr::Ints(i))) => Tensor::vector(i.clone()),
        _ => return None,
    };
    let zeros = !matches!(attrs.get("zeros"), Some(Attr::Int(0)));
    (dtype(g, g.input_of(id, 0)?)? == categories.dtype()).then_some(())?;
    let (places, count) = (Places::of(&categories)?, categories.len());
    Some(Box::new(OneHot { places, count, zeros }))
}

impl Kernel for OneHot {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let Some(x) = args.optional(0) else { invalid!("input 0 is missing") };
        self.places.each(x, args.out, self.count, |i, at, y| {
            y.fill(0.0);
            match at {
                Some(at) => y[at] = 1.0,
                None if self.zeros => {}
                None => invalid!("element {i} is no known category, and `zeros` is off"),
            }
            Ok(())
        })
    }
}

/// Labels by place.
struct Taken;

fn prepare_gather(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Gather(Gather::Slices { .. }) = g.op(id) else { return None };
    let (labels, places) = (g.input_of(id, 0)?, g.input_of(id, 1)?);
    let Type::Tensor(t) = g.ty(labels) else { return None };
    let takes = t.shape.as_ref()?.len() == 1
        && matches!(t.dtype, DType::I64 | DType::String)
        && dtype(g, places)? == DType::I64;
    takes.then(|| Box::new(Taken) as Box<dyn Kernel>)
}

impl Kernel for Taken {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let tensor = |i: usize| args.optional(i).and_then(|o| o.other);
        let (Some(labels), Some(places)) = (tensor(0), tensor(1)) else {
            return Err(Error::bug("labels and places are tensors"));
        };
        let (n, places) = (labels.len(), places.as_slice::<i64>()?);
        let at = |i: i64| {
            let at = if i < 0 { i + n as i64 } else { i };
            let wrong = || Error::invalid(format!("index {i} is out of range for length {n}"));
            usize::try_from(at).ok().filter(|&at| at < n).ok_or_else(wrong)
        };
        match args.integers {
            Some(Integers::I64(y)) => {
                let labels = labels.as_slice::<i64>()?;
                // Looked at once for all, so that taking them is a loop without ways out.
                if places.iter().all(|i| (0..n as i64).contains(i)) {
                    y.iter_mut().zip(places).for_each(|(y, i)| *y = labels[*i as usize]);
                    return Ok(());
                }
                y.iter_mut().zip(places).try_for_each(|(y, i)| {
                    *y = labels[at(*i)?];
                    Ok(())
                })
            }
            Some(Integers::Strings(y)) => {
                let labels = labels.strings()?;
                y.iter_mut().zip(places).try_for_each(|(y, i)| {
                    y.clone_from(&labels[at(*i)?]);
                    Ok(())
                })
            }
            _ => Err(Error::bug("labels are integers or strings")),
        }
    }
}
