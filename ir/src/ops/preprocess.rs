//! What is done to the numbers of a table before a model sees them: same shape out as in.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Number, Tensor, match_dtype};

use crate::eval::tensor;
use crate::{
    Attrs, Context, Fact, Infer, Operator, Result, Schema, Traits, attr_enum, attrs, invalid,
};

/// A function of a table's numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Preprocess {
    /// `(x - offset) * scale`, with a pair per column or one for all.
    Scaler(Arc<Scaler>),
    /// Each row divided by its norm; a row whose norm is 0 stays.
    Normalizer(Norm),
    /// 1 where `x > threshold`, else 0.
    Binarizer(f32),
    /// One value replaced by another one, per column or the same for all.
    Imputer(Arc<Imputer>),
}

attrs! {
    /// What a `Scaler` computes with; an empty list is all zeros or all ones.
    pub struct Scaler {
        /// What is taken away.
        offset: Vec<f32> = vec![],
        /// What is multiplied by.
        scale: Vec<f32> = vec![],
    }
}

attrs! {
    /// What an `Imputer` replaces: floats in tables of floats, integers in those of integers.
    pub struct Imputer {
        /// What comes in.
        floats "imputed_value_floats": Vec<f32> = vec![],
        /// What goes out; NaN stands for every NaN.
        replaced_float "replaced_value_float": f32 = 0.0,
        /// What comes in.
        ints "imputed_value_int64s": Vec<i64> = vec![],
        /// What goes out.
        replaced_int "replaced_value_int64": i64 = 0,
    }
}

attr_enum! {
    /// The norm of a row.
    pub enum Norm {
        /// The greatest element, with its sign.
        Max = "MAX",
        /// The sum of magnitudes.
        L1 = "L1",
        /// The root of the sum of squares.
        L2 = "L2",
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "ai.onnx.ml.Scaler",
        since: 1,
        build: |b| Ok(Preprocess::Scaler(Scaler::read(&mut b.attrs)?.into()).into()),
    },
    Schema {
        name: "ai.onnx.ml.Normalizer",
        since: 1,
        build: |b| Ok(Preprocess::Normalizer(b.take("norm")?.unwrap_or(Norm::Max)).into()),
    },
    Schema {
        name: "ai.onnx.ml.Binarizer",
        since: 1,
        build: |b| Ok(Preprocess::Binarizer(b.take("threshold")?.unwrap_or(0.0)).into()),
    },
    Schema {
        name: "ai.onnx.ml.Imputer",
        since: 1,
        build: |b| Ok(Preprocess::Imputer(Imputer::read(&mut b.attrs)?.into()).into()),
    },
];

impl Norm {
    fn of(self, row: &[f64]) -> f64 {
        match self {
            Norm::Max => row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Norm::L1 => row.iter().map(|x| x.abs()).sum(),
            Norm::L2 => row.iter().map(|x| x * x).sum::<f64>().sqrt(),
        }
    }
}

impl Preprocess {
    /// An error unless each list has one element, or one per column, or is empty.
    fn check_columns(&self, dtype: DType, columns: usize) -> Result<()> {
        let fit = |name: &str, n: usize| match n {
            n if n == 1 || n == columns => Ok(()),
            n => invalid!("`{name}` has {n} elements for {columns} columns"),
        };
        match self {
            Preprocess::Scaler(s) => {
                for (name, list) in [("offset", &s.offset), ("scale", &s.scale)] {
                    if !list.is_empty() {
                        fit(name, list.len())?;
                    }
                }
                Ok(())
            }
            Preprocess::Imputer(i) if dtype.is_float() => {
                fit("imputed_value_floats", i.floats.len())
            }
            Preprocess::Imputer(i) => fit("imputed_value_int64s", i.ints.len()),
            _ => Ok(()),
        }
    }

    fn out_dtype(&self, dtype: DType) -> DType {
        match self {
            Preprocess::Scaler(_) | Preprocess::Normalizer(_) => DType::F32,
            Preprocess::Binarizer(_) | Preprocess::Imputer(_) => dtype,
        }
    }

    fn floats(&self, x: &[f64], columns: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(x.len());
        // Rows without columns have no elements either.
        for row in x.chunks_exact(columns.max(1)) {
            match self {
                Preprocess::Scaler(s) => {
                    let value =
                        |list: &[f32], k: usize, none: f32| f64::from(at(list, k).unwrap_or(none));
                    out.extend(row.iter().enumerate().map(|(k, x)| {
                        ((x - value(&s.offset, k, 0.0)) * value(&s.scale, k, 1.0)) as f32
                    }));
                }
                Preprocess::Normalizer(norm) => {
                    let norm = norm.of(row);
                    let by = if norm == 0.0 { 1.0 } else { norm };
                    out.extend(row.iter().map(|x| (x / by) as f32));
                }
                _ => {}
            }
        }
        out
    }

    fn same_type<T: Number>(&self, x: &Tensor, columns: usize) -> Result<Tensor> {
        let float = T::DTYPE.is_float();
        let f = |(i, &x): (usize, &T)| match self {
            Preprocess::Binarizer(t) => match x.to_f64() > f64::from(*t) {
                true => T::ONE,
                false => T::ZERO,
            },
            Preprocess::Imputer(imputer) if float => {
                let old = f64::from(imputer.replaced_float);
                let hit = x.to_f64() == old || (x.is_nan() && old.is_nan());
                let new = at(&imputer.floats, i % columns);
                new.filter(|_| hit).map_or(x, |new| T::from_f64(f64::from(new)))
            }
            Preprocess::Imputer(imputer) => {
                let hit = x.to_i128() == i128::from(imputer.replaced_int);
                let new = at(&imputer.ints, i % columns);
                new.filter(|_| hit).map_or(x, |new| T::from_i128(i128::from(new)))
            }
            _ => x,
        };
        let data = x.as_slice::<T>()?.iter().enumerate().map(f).collect();
        Ok(Tensor::from_vec::<T>(x.shape(), data)?)
    }
}

/// The element of a column in a list of one per column, or of one for all.
fn at<T: Copy>(list: &[T], column: usize) -> Option<T> {
    if list.len() == 1 { list.first() } else { list.get(column) }.copied()
}

impl Operator for Preprocess {
    fn name(&self) -> &str {
        match self {
            Preprocess::Scaler(_) => "ai.onnx.ml.Scaler",
            Preprocess::Normalizer(_) => "ai.onnx.ml.Normalizer",
            Preprocess::Binarizer(_) => "ai.onnx.ml.Binarizer",
            Preprocess::Imputer(_) => "ai.onnx.ml.Imputer",
        }
    }

    fn attrs(&self) -> Attrs {
        match self {
            Preprocess::Scaler(s) => s.write(),
            Preprocess::Normalizer(Norm::Max) | Preprocess::Binarizer(0.0) => Attrs::default(),
            Preprocess::Normalizer(norm) => Attrs::default().with("norm", *norm),
            Preprocess::Binarizer(t) => Attrs::default().with("threshold", *t),
            Preprocess::Imputer(i) => i.write(),
        }
    }

    fn traits(&self) -> Traits {
        match self {
            Preprocess::Binarizer(_) => Traits::ELEMENTWISE,
            _ => Traits::default(),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype =
            cx.dtype_in(0, |d| matches!(d, DType::F32 | DType::F64 | DType::I64 | DType::I32))?;
        let shape = cx.shape(0)?;
        match (self, shape) {
            (Preprocess::Normalizer(_), Some(s)) if s.len() > 2 => {
                invalid!("the input has rank {}, expected rows of features", s.len())
            }
            (_, Some(s)) => {
                if let Some(columns) = s.last().map_or(Some(1), |d| d.as_len()) {
                    self.check_columns(dtype, columns)?;
                }
            }
            _ => {}
        }
        Ok(vec![Fact::tensor(self.out_dtype(dtype), shape.map(<[_]>::to_vec))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let columns = x.shape().last().copied().unwrap_or(1);
        if matches!(self, Preprocess::Normalizer(_)) && x.rank() > 2 {
            invalid!("the input has shape {:?}, expected rows of features", x.shape());
        }
        self.check_columns(x.dtype(), columns)?;
        cx.numel(DType::F64, x.shape())?;
        let y = match self {
            Preprocess::Scaler(_) | Preprocess::Normalizer(_) => {
                Tensor::from_vec(x.shape(), self.floats(&x.to_vec::<f64>()?, columns))?
            }
            _ => match_dtype!(x.dtype(), [F32 f32, F64 f64, I64 i64, I32 i32],
                T => self.same_type::<T>(x, columns)?,
                else invalid!("{} takes no {}", self.name(), x.dtype())),
        };
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run1, types};

    fn apply(op: &str, x: Tensor) -> Result<Tensor> {
        let ty = crate::Type::of(&x.clone().into());
        run1(
            &format!("y = ai.onnx.ml.{}\nreturn y", op.replace("(X)", &format!("(x: {ty})"))),
            &[x],
        )
    }

    fn floats(op: &str, x: Tensor) -> Vec<f32> {
        apply(op, x).expect("runs").to_vec().expect("numbers")
    }

    fn table() -> Tensor {
        Tensor::from_vec(&[3, 3], vec![1f32, -4.0, 2.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0])
            .expect("3x3")
    }

    #[test]
    fn scaling() {
        let each = "Scaler(X) {offset=[1.0,2.0,3.0], scale=[1.0,0.5,2.0]}";
        let want = [0.0, -3.0, -2.0, -1.0, -1.0, -6.0, -2.0, -2.0, -12.0];
        assert_eq!(floats(each, table()), want);
        let int = Tensor::from_vec(&[1, 3], vec![1i64, -4, 2]).expect("1x3");
        assert_eq!(floats(each, int), want[..3]);
        let all = "Scaler(X) {scale=[2.0]}";
        assert_eq!(floats(all, Tensor::vector(vec![1f64, 0.5])), [2.0, 1.0]);
        assert!(apply("Scaler(X) {scale=[2.0,1.0]}", table()).is_err());
    }

    #[test]
    fn norms() {
        let norm = |n: &str| floats(&format!("Normalizer(X) {{norm=\"{n}\"}}"), table());
        assert_eq!(norm("MAX"), [0.5, -2.0, 1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        let sevenths = [1.0 / 7.0, -4.0 / 7.0, 2.0 / 7.0, 0.0, 0.0, 0.0];
        assert_close(&norm("L1")[..6], &sevenths, 1e-7);
        assert_close(&norm("L2")[6..], &[-0.267_261_24, -0.534_522_5, -0.801_783_74], 1e-7);
        let row = floats("Normalizer(X)", Tensor::vector(vec![2i32, 4]));
        assert_eq!(row, [0.5, 1.0]);
        assert!(apply("Normalizer(X)", Tensor::zeros(DType::F32, &[1, 1, 1]).expect("1")).is_err());
    }

    #[test]
    fn thresholds() {
        let x = Tensor::vector(vec![1.0, 1.5, f32::NAN]);
        assert_eq!(floats("Binarizer(X) {threshold=1.0}", x), [0.0, 1.0, 0.0]);
        let y = apply("Binarizer(X) {threshold=1.0}", Tensor::vector(vec![1i64, 2]));
        assert_eq!(y.expect("runs"), Tensor::vector(vec![0i64, 1]));
    }

    #[test]
    fn missing_values() {
        let x = Tensor::from_vec(&[2, 2], vec![1.0, f64::NAN, f64::NAN, 0.0]).expect("2x2");
        let each = "Imputer(X) {imputed_value_floats=[9.0,8.0], replaced_value_float=nan}";
        let y = apply(each, x.clone()).expect("runs");
        assert_eq!(y.as_slice::<f64>().expect("f64"), [1.0, 8.0, 9.0, 0.0]);
        let one = "Imputer(X) {imputed_value_floats=[7.0]}";
        assert_eq!(floats(one, x.clone())[3], 7.0);
        let int = "Imputer(X) {imputed_value_int64s=[5], replaced_value_int64=-1}";
        let y = apply(int, Tensor::vector(vec![-1i32, 0])).expect("runs");
        assert_eq!(y, Tensor::vector(vec![5i32, 0]));
        assert!(apply(int, x).is_err());
    }

    #[test]
    fn types_follow() {
        let t = |op: &str| types(&format!("y = ai.onnx.ml.{op}\nreturn y"));
        assert_eq!(t("Scaler(x: i64[N,M]) {scale=[1.0,2.0]}").expect("types"), ["f32[N,M]"]);
        assert_eq!(t("Binarizer(x: f64[..])").expect("types"), ["f64[..]"]);
        assert!(t("Imputer(x: f32[N,3]) {imputed_value_floats=[1.0,2.0]}").is_err());
        assert!(t("Normalizer(x: str[N,3])").is_err());
    }
}
