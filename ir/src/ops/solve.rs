//! Systems of linear equations, as exporters of Gaussian processes write them.
//!
//! ```text
//! x = com.microsoft.Solve(a: f32[M,M], b: f32[M,K])     a x = b, or aT x = b if transposed
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{Datum, Tensor};

use super::linalg;
use super::real::{Ticks, is_real};
use crate::eval::tensor;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, invalid};

/// The solution of a system for each column of its right side, calculated in `f64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Solve {
    /// Whether the matrix is transposed first.
    pub transposed: bool,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "com.microsoft.Solve",
    since: 1,
    build: |b| {
        // Which half of a symmetric matrix is given: all of it is read here.
        let _: Option<bool> = b.take("lower")?;
        Ok(Solve { transposed: b.take("transposed")?.unwrap_or(false) }.into())
    },
}];

impl Operator for Solve {
    fn name(&self) -> &str {
        "com.microsoft.Solve"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default().with("transposed", self.transposed.then_some(true))
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        cx.same_dtype(0..2)?;
        let lengths = |shape: Option<&[crate::Dim]>| -> Option<Vec<Option<usize>>> {
            shape.map(|s| s.iter().map(|d| d.as_len()).collect())
        };
        let (a, b) = (lengths(cx.shape(0)?), lengths(cx.shape(1)?));
        let unknown = vec![None; 2];
        check(a.as_ref().unwrap_or(&unknown), b.as_ref().unwrap_or(&unknown))?;
        let shape = cx.shape(1)?.map(<[_]>::to_vec);
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (a, b) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let known = |t: &Tensor| t.shape().iter().map(|&n| Some(n)).collect::<Vec<_>>();
        check(&known(a), &known(b))?;
        if b.is_empty() {
            return Ok(vec![b.clone().into()]);
        }
        let n = a.shape()[0];
        Ticks::new(cx).add(n.saturating_mul(n).saturating_mul(n))?;
        let mut m = a.to_vec::<f64>()?;
        if self.transposed {
            (0..n).for_each(|i| (0..i).for_each(|j| m.swap(i * n + j, j * n + i)));
        }
        let mut x = b.to_vec::<f64>()?;
        linalg::solve(&mut m, &mut x, n)?;
        Ok(vec![linalg::store(b.dtype(), b.shape(), &x)?.into()])
    }
}

/// Checks shapes, of which not every length need be known.
fn check(a: &[Option<usize>], b: &[Option<usize>]) -> Result<()> {
    let ([m, n], [rows] | [rows, _]) = (a, b) else {
        invalid!("Solve takes matrices, not ranks {} and {}", a.len(), b.len())
    };
    let known: Vec<usize> = [m, n, rows].into_iter().copied().flatten().collect();
    if known.windows(2).any(|w| w[0] != w[1]) {
        invalid!("Solve needs a square matrix and as many right sides' rows, got {known:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{assert_close, run1, t, types};

    #[test]
    fn systems_by_hand() {
        let a = t(&[2, 2], &[0.0, 2.0, 4.0, 1.0]);
        let b = t(&[2, 2], &[2.0, 4.0, 5.0, 10.0]);
        for (attrs, want) in
            [("", [1.0, 2.0, 1.0, 2.0]), (" {transposed=1}", [2.25, 4.5, 0.5, 1.0])]
        {
            let text =
                format!("x = com.microsoft.Solve(a: f32[2,2], b: f32[2,2]){attrs}\nreturn x");
            let x = run1(&text, &[a.clone(), b.clone()]).expect("runs");
            assert_close(x.as_slice::<f32>().expect("f32"), &want, 1e-6);
        }
        let text = "x = com.microsoft.Solve(a: f32[M,M], b: f32[M])\nreturn x";
        let x = run1(text, &[a, t(&[2], &[2.0, 5.0])]).expect("runs");
        assert_close(x.as_slice::<f32>().expect("f32"), &[1.0, 1.0], 1e-6);
        assert!(run1(text, &[t(&[2, 2], &[1.0; 4]), t(&[2], &[1.0; 2])]).is_err());
        let none = run1(text, &[t(&[0, 0], &[]), t(&[0], &[])]).expect("no rows");
        assert_eq!(none.shape(), [0]);
    }

    #[test]
    fn shapes_and_errors() {
        let ty =
            |a: &str, b: &str| types(&format!("y = com.microsoft.Solve(a: {a}, b: {b})\nreturn y"));
        assert_eq!(ty("f64[3,3]", "f64[3,N]").expect("types"), ["f64[3,N]"]);
        assert_eq!(ty("f32[M,M]", "f32[M]").expect("types"), ["f32[M]"]);
        for (a, b) in [("f32[2,3]", "f32[2,1]"), ("f32[2,2]", "f32[3,1]"), ("f32[2]", "f32[2]")] {
            assert!(ty(a, b).is_err(), "{a} {b}");
        }
        assert!(ty("f32[2,2]", "f64[2,1]").is_err());
    }
}
