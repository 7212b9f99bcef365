//! Pools over all spatial axes: `x: f32[N,C,..]` gives `f32[N,C,1,..]`.

use std::ops::RangeInclusive;

use kiln_tensor::Datum;
use kiln_tensor::shape::numel;

use crate::eval::tensor;
use crate::ops::pool::{power, root, whole};
use crate::ops::real::{Real, is_real, match_real, narrow, widen};
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, invalid};

/// A pool over all spatial axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GlobalPool {
    /// The greatest element.
    Max,
    /// The mean.
    Average,
    /// The p-norm.
    Lp {
        /// The exponent.
        p: i64,
    },
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "GlobalMaxPool", since: 1, build: |_| Ok(GlobalPool::Max.into()) },
    Schema { name: "GlobalAveragePool", since: 1, build: |_| Ok(GlobalPool::Average.into()) },
    Schema {
        name: "GlobalLpPool",
        since: 2,
        build: |b| Ok(GlobalPool::Lp { p: b.take("p")?.unwrap_or(2) }.into()),
    },
    Schema {
        name: "GlobalLpPool",
        since: 1,
        build: |b| Ok(GlobalPool::Lp { p: whole(b.take("p")?.unwrap_or(2.0))? }.into()),
    },
];

impl GlobalPool {
    fn of<R: Real>(self, plane: &[R]) -> R {
        let sum = |f: &dyn Fn(R) -> R| plane.iter().fold(R::ZERO, |s, &x| s + f(x));
        match self {
            GlobalPool::Max => {
                plane.iter().fold(R::LEAST, |m, &x| if m < x || x.is_nan() { x } else { m })
            }
            GlobalPool::Average => sum(&|x| x) / R::of(plane.len() as f64),
            GlobalPool::Lp { p } => root(sum(&|x| power(x, p)), p),
        }
    }
}

impl Operator for GlobalPool {
    fn name(&self) -> &str {
        match self {
            GlobalPool::Max => "GlobalMaxPool",
            GlobalPool::Average => "GlobalAveragePool",
            GlobalPool::Lp { .. } => "GlobalLpPool",
        }
    }

    fn attrs(&self) -> Attrs {
        match *self {
            GlobalPool::Lp { p } => Attrs::default().with("p", (p != 2).then_some(p)),
            _ => Attrs::default(),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        if matches!(self, GlobalPool::Lp { p } if *p < 1) {
            invalid!("p must be positive");
        }
        let shape = match cx.shape(0)? {
            Some(x) if x.len() < 2 => invalid!("x has rank {}, 2 at least", x.len()),
            Some(x) => {
                let mut shape = x.to_vec();
                shape[2..].fill(1i64.into());
                Some(shape)
            }
            None => None,
        };
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        if x.rank() < 2 {
            invalid!("x has rank {}, 2 at least", x.rank());
        }
        let mut shape = x.shape().to_vec();
        shape[2..].fill(1);
        cx.numel(x.dtype(), &shape)?;
        let plane = numel(&x.shape()[2..])?;
        let y = match_real!(x.dtype(), R => {
            let y = match plane {
                0 => vec![self.of::<R>(&[]); numel(&shape)?],
                n => widen::<R>(x)?.chunks_exact(n).map(|p| self.of(p)).collect(),
            };
            narrow(x.dtype(), &shape, y)?
        }, else invalid!("{} takes no {}", self.name(), x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use kiln_tensor::Tensor;

    use crate::ops::testing::{run1, types};

    #[test]
    fn values_and_shapes() {
        let x = Tensor::from_vec(&[1, 2, 2, 1], vec![3f32, -4.0, 1.0, 2.0]).expect("1x2x2x1");
        for (op, want) in [
            ("GlobalMaxPool(x: f32[1,2,2,1])", [3.0f32, 2.0]),
            ("GlobalAveragePool(x: f32[1,2,2,1])", [-0.5, 1.5]),
            ("GlobalLpPool(x: f32[1,2,2,1]) {p=1}", [7.0, 3.0]),
        ] {
            let y = run1(&format!("y = {op}\nreturn y"), std::slice::from_ref(&x)).expect("runs");
            assert_eq!(y, Tensor::from_vec(&[1, 2, 1, 1], want.to_vec()).expect("1x2x1x1"), "{op}");
        }
        let t = types("y = GlobalMaxPool(x: f16[N,3,H,W])\nreturn y").expect("types");
        assert_eq!(t, ["f16[N,3,1,1]"]);
    }
}
