//! Determinants, inverses and distances.
//!
//! ```text
//! y = Det(x: f32[B,M,M])                                       y: f32[B]
//! y = com.microsoft.CDist(a: f32[M,K], b: f32[N,K])            y: f32[M,N]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Scalar, Tensor, shape};

use super::real::{Ticks, is_real, match_real, narrow};
use crate::eval::tensor;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attr_enum, invalid};

attr_enum! {
    /// A distance between vectors.
    pub enum Metric {
        /// The sum of the squared differences.
        Squared = "sqeuclidean",
        /// Its root.
        Euclidean = "euclidean",
    }
}

/// A function of matrices, calculated in `f64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Linalg {
    /// The determinant of each matrix of a stack.
    Det,
    /// The inverse of each matrix of a stack.
    Inverse,
    /// The distance of each row of the first matrix from each of the second.
    Distance(Metric),
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Det", since: 11, build: |_| Ok(Linalg::Det.into()) },
    Schema { name: "com.microsoft.Inverse", since: 1, build: |_| Ok(Linalg::Inverse.into()) },
    Schema {
        name: "com.microsoft.CDist",
        since: 1,
        build: |b| Ok(Linalg::Distance(b.take("metric")?.unwrap_or(Metric::Squared)).into()),
    },
];

/// Brings a matrix of `n` rows to triangular form by row operations, which `beside` (as many
/// rows, of any width) follows; returns the determinant, nothing where the matrix is singular.
fn eliminate(m: &mut [f64], beside: &mut [f64], n: usize) -> Option<f64> {
    let width = beside.len() / n.max(1);
    let mut det = 1.0;
    for c in 0..n {
        let size = |r: &usize| m[r * n + c].abs();
        let best = (c..n).reduce(|a, b| if size(&b) > size(&a) { b } else { a }).unwrap_or(c);
        if best != c {
            (0..n).for_each(|k| m.swap(best * n + k, c * n + k));
            (0..width).for_each(|k| beside.swap(best * width + k, c * width + k));
            det = -det;
        }
        let pivot = m[c * n + c];
        det *= pivot;
        if pivot == 0.0 {
            return None;
        }
        for r in c + 1..n {
            let by = m[r * n + c] / pivot;
            (c..n).for_each(|k| m[r * n + k] -= by * m[c * n + k]);
            (0..width).for_each(|k| beside[r * width + k] -= by * beside[c * width + k]);
        }
    }
    Some(det)
}

/// The inverse of a matrix of `n` rows; an error where it has none.
fn inverse(m: &mut [f64], n: usize) -> Result<Vec<f64>> {
    let mut out = vec![0.0; n * n];
    (0..n).for_each(|i| out[i * n + i] = 1.0);
    solve(m, &mut out, n)?;
    Ok(out)
}

/// Replaces `beside`, `n` rows of any width, by what a matrix of `n` rows times gives `beside`.
/// The matrix is lost; an error where it is singular.
pub(super) fn solve(m: &mut [f64], beside: &mut [f64], n: usize) -> Result<()> {
    // A determinant may be too small for a number where the matrix is sound.
    if eliminate(m, beside, n).is_none() {
        invalid!("a singular matrix has no inverse");
    }
    let width = beside.len() / n.max(1);
    for c in (0..n).rev() {
        let pivot = m[c * n + c];
        (0..width).for_each(|k| beside[c * width + k] /= pivot);
        for r in 0..c {
            let by = m[r * n + c];
            (0..width).for_each(|k| beside[r * width + k] -= by * beside[c * width + k]);
        }
    }
    Ok(())
}

/// Checks that the last two lengths can be equal, and returns what stands before them.
fn stack(x: &[Dim]) -> Result<&[Dim]> {
    let [stack @ .., m, n] = x else { invalid!("a matrix is needed, not rank {}", x.len()) };
    match (m.as_const(), n.as_const()) {
        (Some(m), Some(n)) if m != n => invalid!("a square matrix is needed, not {m}x{n}"),
        _ => Ok(stack),
    }
}

/// The shape of the distances between rows.
fn distances_shape(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
    let ([m, k], [n, l]) = (a, b) else {
        invalid!("CDist takes matrices, not ranks {} and {}", a.len(), b.len())
    };
    match (k.as_const(), l.as_const()) {
        (Some(k), Some(l)) if k != l => invalid!("rows of {k} and of {l} elements"),
        _ => Ok(vec![m.clone(), n.clone()]),
    }
}

fn dims(x: &Tensor) -> Vec<Dim> {
    x.shape().iter().map(|&n| n.into()).collect()
}

fn distances(cx: &Context, a: &Tensor, b: &Tensor, metric: Metric) -> Result<Vec<f64>> {
    let k = a.shape()[1];
    let mut out = cx.zeros::<f64>(&[a.shape()[0], b.shape()[0]])?;
    if k == 0 {
        return Ok(out);
    }
    let (a, b) = (a.to_vec::<f64>()?, b.to_vec::<f64>()?);
    let pairs = a.chunks_exact(k).flat_map(|a| b.chunks_exact(k).map(move |b| (a, b)));
    let mut ticks = Ticks::new(cx);
    for (y, (a, b)) in out.iter_mut().zip(pairs) {
        *y = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
        if metric == Metric::Euclidean {
            *y = y.sqrt();
        }
        ticks.add(k)?;
    }
    Ok(out)
}

impl Linalg {
    /// The function of each matrix of a stack.
    fn each(&self, cx: &Context, x: &Tensor) -> Result<Vec<f64>> {
        let &[.., n, _] = x.shape() else { return Ok(vec![]) };
        let count = shape::numel(&x.shape()[..x.rank() - 2])?;
        if n == 0 && *self == Linalg::Det {
            let mut ones = cx.zeros::<f64>(&[count])?;
            ones.fill(1.0);
            return Ok(ones);
        }
        if x.is_empty() {
            return Ok(vec![]);
        }
        let mut m = x.to_vec::<f64>()?;
        let mut out = Vec::new();
        let mut ticks = Ticks::new(cx);
        for m in m.chunks_exact_mut(n * n) {
            match self {
                Linalg::Det => out.push(eliminate(m, &mut [], n).unwrap_or(0.0)),
                _ => out.extend(inverse(m, n)?),
            }
            ticks.add(n.saturating_pow(3))?;
        }
        Ok(out)
    }
}

impl Operator for Linalg {
    fn name(&self) -> &str {
        match self {
            Linalg::Det => "Det",
            Linalg::Inverse => "com.microsoft.Inverse",
            Linalg::Distance(_) => "com.microsoft.CDist",
        }
    }

    fn attrs(&self) -> Attrs {
        match self {
            Linalg::Distance(Metric::Euclidean) => {
                Attrs::default().with("metric", Metric::Euclidean)
            }
            _ => Attrs::default(),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Linalg::Distance(_) => 2..=2,
            _ => 1..=1,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        let x = cx.shape(0)?;
        let shape = match self {
            Linalg::Det => x.map(stack).transpose()?.map(<[_]>::to_vec),
            Linalg::Inverse => {
                x.map(stack).transpose()?;
                x.map(<[_]>::to_vec)
            }
            Linalg::Distance(_) => {
                cx.same_dtype(0..2)?;
                let a = x.map_or_else(|| cx.fresh_shape(2), <[_]>::to_vec);
                let b = cx.shape(1)?.map_or_else(|| cx.fresh_shape(2), <[_]>::to_vec);
                Some(distances_shape(&a, &b)?)
            }
        };
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let dims = dims(x);
        let (shape, y) = match self {
            Linalg::Det => (stack(&dims)?.to_vec(), self.each(cx, x)?),
            Linalg::Inverse => {
                stack(&dims)?;
                (dims, self.each(cx, x)?)
            }
            Linalg::Distance(metric) => {
                let b = tensor(inputs, 1)?;
                let shape = distances_shape(&dims, &self::dims(b))?;
                (shape, distances(cx, x, b, *metric)?)
            }
        };
        let shape: Vec<usize> = shape.iter().filter_map(Dim::as_len).collect();
        Ok(vec![store(x.dtype(), &shape, &y)?.into()])
    }
}

/// A tensor of a float type from what was calculated in `f64`.
pub(super) fn store(dtype: DType, shape: &[usize], y: &[f64]) -> Result<Tensor> {
    match_real!(dtype, R => narrow(dtype, shape, y.iter().map(|&y| R::from_f64(y)).collect()),
        else invalid!("{dtype} is no type of matrices"))
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{assert_close, run1, t, types};

    #[test]
    fn determinants() {
        let of = |shape: &[usize], data: &[f32]| {
            let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
            let text = format!("y = Det(x: f32[{}])\nreturn y", dims.join(","));
            run1(&text, &[t(shape, data)]).expect("runs")
        };
        assert_eq!(of(&[2, 2], &[0.0, 1.0, 2.0, 3.0]), t(&[], &[-2.0]));
        assert_eq!(of(&[2, 1, 1], &[5.0, -7.0]), t(&[2], &[5.0, -7.0]));
        assert_eq!(of(&[2, 2], &[1.0, 2.0, 2.0, 4.0]), t(&[], &[0.0]));
        let y = of(&[3, 3], &[2.0, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 1.0]);
        assert_close(y.as_slice::<f32>().expect("f32"), &[0.0], 1e-6);
        assert_eq!(of(&[3, 0, 0], &[]), t(&[3], &[1.0; 3]));
    }

    #[test]
    fn inverses() {
        let text = "y = com.microsoft.Inverse(x: f32[2,2,2])\nreturn y";
        let x = t(&[2, 2, 2], &[0.0, 2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
        let y = run1(text, &[x]).expect("runs");
        let want = [0.0, 1.0, 0.5, 0.0, -2.0, 1.0, 1.5, -0.5];
        assert_close(y.as_slice::<f32>().expect("f32"), &want, 1e-6);
        assert!(run1(text, &[t(&[2, 2, 2], &[1.0; 8])]).is_err());
        // The determinant, 1e-400, is no number.
        let mut small = vec![0f32; 1600];
        (0..40).for_each(|i| small[41 * i] = 1e-10);
        let y = run1("y = com.microsoft.Inverse(x: f32[40,40])\nreturn y", &[t(&[40, 40], &small)]);
        assert_close(&y.expect("runs").as_slice::<f32>().expect("f32")[..2], &[1e10, 0.0], 1e3);
    }

    #[test]
    fn distances_of_rows() {
        let (a, b) = (t(&[2, 2], &[0.0, 0.0, 3.0, 4.0]), t(&[1, 2], &[0.0, 0.0]));
        for (attrs, want) in [("", [0.0, 25.0]), ("metric=\"euclidean\"", [0.0, 5.0])] {
            let text =
                format!("y = com.microsoft.CDist(a: f32[2,2], b: f32[1,2]) {{{attrs}}}\nreturn y");
            assert_eq!(run1(&text, &[a.clone(), b.clone()]).expect("runs"), t(&[2, 1], &want));
        }
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |text: &str| types(&format!("y = {text}\nreturn y"));
        assert_eq!(ty("Det(x: f32[B,H,3,3])").expect("types"), ["f32[B,H]"]);
        assert_eq!(ty("com.microsoft.Inverse(x: f16[B,N,N])").expect("types"), ["f16[B,N,N]"]);
        let cdist = |a: &str, b: &str| ty(&format!("com.microsoft.CDist(a: {a}, b: {b})"));
        assert_eq!(cdist("f64[M,K]", "f64[N,K]").expect("types"), ["f64[M,N]"]);
        assert!(cdist("f32[M,2]", "f32[N,3]").is_err());
        assert!(ty("Det(x: f32[2,3])").is_err());
        assert!(ty("Det(x: f32[3])").is_err());
    }
}
