//! Operators that write elements into a copy of a tensor, where indices say.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Number, Tensor, match_element, match_number, shape};

use super::gather::{offsets_along, place, tuple_offsets};
use crate::eval::{optional, tensor};
use crate::{
    Attrs, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, attr_enum, invalid,
};

attr_enum! {
    /// What becomes of the element that is there.
    pub enum Reduction {
        /// It is overwritten; of several writes to one place, the last stays.
        None = "none",
        /// The update is added.
        Add = "add",
        /// The update is multiplied in.
        Mul = "mul",
        /// The greater stays.
        Max = "max",
        /// The lesser stays.
        Min = "min",
    }
}

attr_enum! {
    /// What happens at the end of a cache.
    pub enum Mode {
        /// Writing past it is an error.
        Linear = "linear",
        /// Writing goes on at the start.
        Circular = "circular",
    }
}

/// A way to write elements; indices count from the end where they are negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scatter {
    /// `y[.., index[.., i, ..], ..] = updates[.., i, ..]`.
    Elements {
        /// The axis that the indices are of.
        axis: i64,
        /// How elements are combined.
        reduction: Reduction,
    },
    /// Slices by tuples of indices, which the last axis of the indices holds.
    Tuples {
        /// How elements are combined.
        reduction: Reduction,
    },
    /// A run along an axis, which begins at an index of its own in each batch.
    Cache {
        /// The axis of the run.
        axis: i64,
        /// What happens at its end.
        mode: Mode,
    },
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Scatter", since: 9, build: elements },
    Schema { name: "ScatterElements", since: 11, build: elements },
    Schema {
        name: "ScatterND",
        since: 11,
        build: |b| {
            let reduction = b.take("reduction")?.unwrap_or(Reduction::None);
            Ok(Scatter::Tuples { reduction }.into())
        },
    },
    Schema {
        name: "TensorScatter",
        since: 24,
        build: |b| {
            let axis = b.take("axis")?.unwrap_or(-2);
            Ok(Scatter::Cache { axis, mode: b.take("mode")?.unwrap_or(Mode::Linear) }.into())
        },
    },
];

fn elements(b: &mut crate::Build<'_>) -> Result<crate::Built> {
    let axis = b.take("axis")?.unwrap_or(0);
    let reduction = b.take("reduction")?.unwrap_or(Reduction::None);
    Ok(Scatter::Elements { axis, reduction }.into())
}

impl Operator for Scatter {
    fn name(&self) -> &str {
        match self {
            Scatter::Elements { .. } => "ScatterElements",
            Scatter::Tuples { .. } => "ScatterND",
            Scatter::Cache { .. } => "TensorScatter",
        }
    }

    fn attrs(&self) -> Attrs {
        let a = Attrs::default();
        let combined = |r: Reduction| Some(r).filter(|r| *r != Reduction::None);
        match *self {
            Scatter::Elements { axis, reduction } => a
                .with("axis", Some(axis).filter(|&x| x != 0))
                .with("reduction", combined(reduction)),
            Scatter::Tuples { reduction } => a.with("reduction", combined(reduction)),
            Scatter::Cache { axis, mode } => a
                .with("axis", Some(axis).filter(|&x| x != -2))
                .with("mode", Some(mode).filter(|m| *m != Mode::Linear)),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Scatter::Cache { .. } => 2..=3,
            _ => 3..=3,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let index = |d| matches!(d, DType::I64 | DType::I32);
        let dtype = match self {
            Scatter::Cache { .. } => {
                if cx.has(2) {
                    cx.dtype_in(2, index)?;
                }
                cx.same_dtype([0, 1])?
            }
            _ => {
                cx.dtype_in(1, index)?;
                cx.same_dtype([0, 2])?
            }
        };
        let shape = cx.shape(0)?;
        match (*self, shape) {
            (Scatter::Elements { axis, .. } | Scatter::Cache { axis, .. }, Some(x)) => {
                shape::axis(axis, x.len())?;
            }
            (Scatter::Tuples { .. }, Some(x)) => {
                let tuple = cx.shape(1)?.and_then(|i| i.last()).and_then(Dim::as_len);
                if tuple.is_some_and(|k| k > x.len()) {
                    invalid!("tuples of more indices than data has axes, {}", x.len());
                }
            }
            _ => {}
        }
        Ok(vec![Fact::tensor(dtype, shape.map(<[_]>::to_vec))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        cx.numel(x.dtype(), x.shape())?;
        let y = match *self {
            Scatter::Elements { axis, reduction } => {
                let (indices, updates) = (tensor(inputs, 1)?, tensor(inputs, 2)?);
                let starts = element_starts(x, indices, updates, axis)?;
                write(x, updates, &starts, 1, reduction)?
            }
            Scatter::Tuples { reduction } => {
                let (indices, updates) = (tensor(inputs, 1)?, tensor(inputs, 2)?);
                let (starts, len) = tuple_starts(x, indices, updates)?;
                write(x, updates, &starts, len, reduction)?
            }
            Scatter::Cache { axis, mode } => {
                let updates = tensor(inputs, 1)?;
                let (starts, len) = cache_starts(x, updates, optional(inputs, 2)?, axis, mode)?;
                write(x, updates, &starts, len, Reduction::None)?
            }
        };
        Ok(vec![y.into()])
    }
}

/// Where each update of ScatterElements goes.
fn element_starts(x: &Tensor, indices: &Tensor, updates: &Tensor, axis: i64) -> Result<Vec<usize>> {
    let axis = shape::axis(axis, x.rank())?;
    if indices.shape() != updates.shape() {
        invalid!("indices {:?} and updates {:?} differ", indices.shape(), updates.shape());
    }
    let (n, step) = (x.shape()[axis], shape::strides(x.shape())[axis]);
    offsets_along(x.shape(), indices.shape(), axis)?
        .zip(indices.to_vec::<i64>()?)
        .map(|(offset, i)| Ok(offset + place(i, n)? * step))
        .collect()
}

/// Where each slice of ScatterND goes, and how long they are.
fn tuple_starts(x: &Tensor, indices: &Tensor, updates: &Tensor) -> Result<(Vec<usize>, usize)> {
    let Some((&tuple, lead)) = indices.shape().split_last() else {
        invalid!("the indices of a ScatterND are a scalar; their last axis holds the tuples");
    };
    if tuple > x.rank() {
        invalid!("tuples of {tuple} indices into {} axes", x.rank());
    }
    let behind = &x.shape()[tuple..];
    let want = [lead, behind].concat();
    if updates.shape() != want {
        invalid!("the updates must have shape {want:?}, they have {:?}", updates.shape());
    }
    let starts = match tuple {
        0 => vec![0; shape::numel(lead)?],
        _ => tuple_offsets(x.shape(), &indices.to_vec::<i64>()?, tuple)?,
    };
    Ok((starts, shape::numel(behind)?))
}

/// Where each slice of TensorScatter goes, and how long they are.
fn cache_starts(
    x: &Tensor,
    updates: &Tensor,
    begins: Option<&Tensor>,
    axis: i64,
    mode: Mode,
) -> Result<(Vec<usize>, usize)> {
    let axis = shape::axis(axis, x.rank())?;
    let same = |i: usize| i == axis || x.shape()[i] == updates.shape()[i];
    if axis == 0 || updates.rank() != x.rank() || !(0..x.rank()).all(same) {
        invalid!("an update of {:?} along axis {axis} of {:?}", updates.shape(), x.shape());
    }
    let (n, run) = (x.shape()[axis], updates.shape()[axis]);
    let begins = match begins {
        Some(t) => t.to_vec::<i64>()?,
        None => vec![0; x.shape()[0]],
    };
    if begins.len() != x.shape()[0] || run > n {
        invalid!("{} places of runs of {run} in a cache of {:?}", begins.len(), x.shape());
    }
    let (outer, inner) =
        (shape::numel(&x.shape()[1..axis])?, shape::numel(&x.shape()[axis + 1..])?);
    let mut starts = Vec::with_capacity(updates.len() / inner.max(1));
    for (batch, &begin) in begins.iter().enumerate() {
        let linear = begin >= 0 && begin.saturating_add(run as i64) <= n as i64;
        if mode == Mode::Linear && !linear {
            invalid!("a run of {run} from {begin} does not fit a cache of {n}");
        }
        for o in 0..outer {
            let at = |k: usize| begin.rem_euclid(n.max(1) as i64) as usize + k;
            let row = (batch * outer + o) * n;
            starts.extend((0..run).map(|k| (row + at(k) % n.max(1)) * inner));
        }
    }
    Ok((starts, inner))
}

/// A copy of `x` with the slices of `updates`, each `len` long, combined in at `starts`.
fn write(
    x: &Tensor,
    updates: &Tensor,
    starts: &[usize],
    len: usize,
    reduction: Reduction,
) -> Result<Tensor> {
    let inside = starts.iter().all(|s| s + len <= x.len());
    if updates.len() != starts.len() * len || !inside {
        return Err(Error::bug("updates without a place"));
    }
    let pairs =
        starts.iter().enumerate().flat_map(|(k, &s)| (0..len).map(move |j| (s + j, k * len + j)));
    if x.dtype() != updates.dtype() {
        invalid!("data is {} and the updates are {}", x.dtype(), updates.dtype());
    }
    match (reduction, x.dtype()) {
        (Reduction::None, DType::String) => {
            let (mut data, from) = (x.strings()?.to_vec(), updates.strings()?);
            pairs.for_each(|(to, i)| data[to].clone_from(&from[i]));
            Ok(Tensor::from_strings(x.shape(), data)?)
        }
        (Reduction::None, d) => match_element!(d, T => {
            let mut y = x.clone();
            let (data, from) = (y.as_mut_slice::<T>()?, updates.as_slice::<T>()?);
            pairs.for_each(|(to, i)| data[to] = from[i]);
            Ok(y)
        }, else invalid!("no scattering of {d}")),
        (_, d) => match_number!(d, T => {
            let mut y = x.clone();
            let (data, from) = (y.as_mut_slice::<T>()?, updates.as_slice::<T>()?);
            pairs.for_each(|(to, i)| data[to] = reduction.combine(data[to], from[i]));
            Ok(y)
        }, else invalid!("`{}` does not combine {d}", reduction.text())),
    }
}

impl Reduction {
    /// What stays where `new` meets `old`; NaN wins.
    pub fn combine<T: Number>(self, old: T, new: T) -> T {
        match self {
            Reduction::None => new,
            Reduction::Add => old.plus(new),
            Reduction::Mul => old.times(new),
            _ if old.is_nan() || new.is_nan() => old.plus(new),
            Reduction::Max => {
                if new > old {
                    new
                } else {
                    old
                }
            }
            Reduction::Min => {
                if new < old {
                    new
                } else {
                    old
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn f(shape: &[usize], data: &[f32]) -> Tensor {
        Tensor::from_vec(shape, data.to_vec()).expect("floats")
    }

    fn i(shape: &[usize], data: &[i64]) -> Tensor {
        Tensor::from_vec(shape, data.to_vec()).expect("indices")
    }

    fn put(op: &str, attrs: &str, inputs: [Tensor; 3]) -> Result<Tensor> {
        let ty = |t: &Tensor| crate::Type::of(&t.clone().into()).to_string();
        let [x, y, z] = [0, 1, 2].map(|k| ty(&inputs[k]));
        run1(&format!("r = {op}(x: {x}, y: {y}, z: {z}) {{{attrs}}}\nreturn r"), &inputs)
    }

    #[test]
    fn elements_with_every_reduction() {
        let x = || f(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
        for (reduction, want) in [
            ("none", [1.0f32, 9.0, 3.0, 0.5]),
            ("add", [1.0, 13.0, 3.0, 4.5]),
            ("mul", [1.0, 36.0, 3.0, 2.0]),
            ("max", [1.0, 9.0, 3.0, 4.0]),
            ("min", [1.0, 2.0, 3.0, 0.5]),
        ] {
            let attrs = format!("axis=1,reduction=\"{reduction}\"");
            let indices = i(&[1, 3], &[1, -1, 1]);
            let y = put("ScatterElements", &attrs, [x(), indices, f(&[1, 3], &[2.0, 0.5, 9.0])]);
            assert_eq!(y.expect("runs"), f(&[1, 4], &want), "{reduction}");
        }
        let bad = put("Scatter", "", [x(), i(&[1, 1], &[1]), f(&[1, 1], &[0.0])]);
        assert_eq!(bad.expect_err("row 1").message(), "index 1 is out of range for length 1");
    }

    #[test]
    fn slices_by_tuples() {
        let x = f(&[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let y = put("ScatterND", "", [x.clone(), i(&[1, 1], &[-1]), f(&[1, 2], &[8.0, 9.0])]);
        assert_eq!(y.expect("a row"), f(&[3, 2], &[0.0, 1.0, 2.0, 3.0, 8.0, 9.0]));
        let y = put(
            "ScatterND",
            "reduction=\"add\"",
            [x.clone(), i(&[2, 2], &[0, 1, 0, 1]), f(&[2], &[8.0, 9.0])],
        );
        assert_eq!(y.expect("one element twice"), f(&[3, 2], &[0.0, 18.0, 2.0, 3.0, 4.0, 5.0]));
        assert!(put("ScatterND", "", [x, i(&[1, 1], &[0]), f(&[2], &[8.0, 9.0])]).is_err());
        let words = |w: &[&str]| {
            let w = w.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
            Tensor::from_strings(&[w.len()], w).expect("strings")
        };
        let y = put("ScatterND", "", [words(&["a", "b"]), i(&[1, 1], &[1]), words(&["c"])]);
        assert_eq!(y.expect("strings"), words(&["a", "c"]));
    }

    #[test]
    fn caches() {
        let cache = || f(&[2, 3, 1], &[0.0; 6]);
        let update = || f(&[2, 2, 1], &[1.0, 2.0, 3.0, 4.0]);
        let y = put("TensorScatter", "", [cache(), update(), i(&[2], &[1, 0])]);
        assert_eq!(y.expect("linear"), f(&[2, 3, 1], &[0.0, 1.0, 2.0, 3.0, 4.0, 0.0]));
        let y = put("TensorScatter", "mode=\"circular\"", [cache(), update(), i(&[2], &[2, 4])]);
        assert_eq!(y.expect("circular"), f(&[2, 3, 1], &[2.0, 0.0, 1.0, 0.0, 3.0, 4.0]));
        assert!(put("TensorScatter", "", [cache(), update(), i(&[2], &[2, 0])]).is_err());
        assert!(put("TensorScatter", "", [cache(), update(), i(&[2], &[-1, 0])]).is_err());
        let one = "y = TensorScatter(x: f16[N,4,8], u: f16[N,2,8])\nreturn y";
        assert_eq!(types(one).expect("types"), ["f16[N,4,8]"]);
    }

    #[test]
    fn wrong_types_are_errors() {
        assert!(types("y = ScatterND(x: f32[2], i: i64[1,1], u: f64[1])\nreturn y").is_err());
        assert!(types("y = ScatterND(x: f32[2], i: i64[1,2], u: f32[1])\nreturn y").is_err());
        assert!(types("y = ScatterElements(x: f32[2], i: f32[1], u: f32[1])\nreturn y").is_err());
    }
}
