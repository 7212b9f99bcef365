//! The nearest rows of a table.
//!
//! ```text
//! d, i = ai.kiln.Neighbours(x: f32[M,K], c: f32[N,K]) {k=5}         d: f32[M,5], i: i64[M,5]
//!   => s = com.microsoft.CDist(x, c); d, i = TopK(s, 5) {largest=0}
//! ```

use std::ops::{Range, RangeInclusive};

use kiln_tensor::{DType, Datum, Tensor};

use super::concat::Concat;
use super::fused::Body;
use super::linalg::{Linalg, Metric};
use super::real::is_real;
use super::topk::TopK;
use super::unary::{Function, Unary};
use crate::eval::tensor;
use crate::{
    Attrs, Context, Dim, Error, Fact, Graph, Infer, Operator, Result, Schema, Type, attrs, invalid,
};

attrs! {
    /// Of each row of `x`, the distances of the `k` nearest rows of `c` in rising order, and
    /// their places; in the order of TopK, so of equals the one with the lower place comes first.
    #[derive(Copy)]
    pub struct Neighbours {
        /// How many are wanted.
        k: i64,
        /// The distance. A root is taken after its square is rounded.
        metric: Metric = Metric::Squared,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "ai.kiln.Neighbours",
    since: 1,
    build: |b| Ok(Neighbours::read(&mut b.attrs)?.into()),
}];

const TOP: TopK = TopK { axis: -1, largest: false, sorted: true };
const SQUARED: Linalg = Linalg::Distance(Metric::Squared);
/// Rows whose distances are alive together.
const ROWS: usize = 64;

impl Neighbours {
    /// How many are wanted of `n` rows; an error where there are fewer.
    pub fn wanted(&self, n: Option<usize>) -> Result<usize> {
        match (usize::try_from(self.k), n) {
            (Ok(k), Some(n)) if k > n => {
                invalid!("{k} neighbours are wanted, but the table has {n} rows")
            }
            (Ok(k), _) => Ok(k),
            _ => invalid!("k is {}; it must not be negative", self.k),
        }
    }

    /// The same in the operators that it is made of, for operands of these types.
    pub(crate) fn expansion(&self, operands: &[Option<&Type>]) -> Result<Graph> {
        let mut body = Body::new(&["x", "c"], operands)?;
        let inputs = [body.operand(0), body.operand(1)];
        let mut y = body.call(SQUARED.name(), &inputs, SQUARED.attrs())?;
        if self.metric == Metric::Euclidean {
            y = body.call("Sqrt", &[Some(y)], Attrs::default())?;
        }
        let k = body.graph.constant("k", Tensor::vector(vec![self.k]));
        let d = body.call("TopK", &[Some(y), Some(k)], TOP.attrs())?;
        Ok(body.returns(&[("d", d), ("i", d.node.out(1))]))
    }

    /// The outputs of some of the rows.
    fn rows(&self, cx: &Context, x: &Tensor, c: &Datum, rows: Range<usize>) -> Result<[Datum; 2]> {
        let some = x.rows(rows)?.into();
        let mut y = SQUARED.eval(cx, &[Some(&some), Some(c)])?.swap_remove(0);
        if self.metric == Metric::Euclidean {
            y = Unary::Function(Function::Sqrt).eval(cx, &[Some(&y)])?.swap_remove(0);
        }
        let k = Tensor::vector(vec![self.k]).into();
        let made = TOP.eval(cx, &[Some(&y), Some(&k)])?;
        made.try_into().map_err(|_| Error::bug("TopK has two outputs"))
    }
}

impl Operator for Neighbours {
    fn name(&self) -> &str {
        "ai.kiln.Neighbours"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        let y = SQUARED.infer(cx)?.swap_remove(0);
        let dims = y.ty.as_tensor()?.shape.clone();
        let [m, n] = dims.as_deref().unwrap_or_default() else {
            return Err(Error::bug("distances are a matrix"));
        };
        let k = self.wanted(n.as_len())?;
        let shape = Some(vec![m.clone(), Dim::from(k)]);
        Ok(vec![Fact::tensor(dtype, shape.clone()), Fact::tensor(DType::I64, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, c) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let (&[m, _], &[n, _]) = (x.shape(), c.shape()) else {
            invalid!("Neighbours takes matrices, not ranks {} and {}", x.rank(), c.rank())
        };
        self.wanted(Some(n))?;
        let c = c.clone().into();
        let starts = (0..m.max(1)).step_by(ROWS);
        let parts: Vec<[Datum; 2]> =
            starts.map(|i| self.rows(cx, x, &c, i..m.min(i + ROWS))).collect::<Result<_>>()?;
        let join = |o: usize| {
            let parts: Vec<Option<&Datum>> = parts.iter().map(|p| Some(&p[o])).collect();
            Ok(Concat::Join { axis: 0 }.eval(cx, &parts)?.swap_remove(0))
        };
        (0..2).map(join).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, t, types};
    use crate::text;

    const TEXT: &str = "d, i = ai.kiln.Neighbours(x: f32[M,2], c: f32[4,2]) {k=2}\nreturn d, i";

    fn outputs(text: &str, x: &Tensor) -> (Vec<f32>, Vec<i64>) {
        let c = t(&[4, 2], &[0.0, 0.0, 3.0, 4.0, 3.0, 4.0, 0.0, 1.0]);
        let out = run(text, &[x.clone(), c]).expect("runs");
        let of = |i: usize| out[i].as_tensor().expect("tensor");
        (of(0).to_vec().expect("floats"), of(1).to_vec().expect("integers"))
    }

    #[test]
    fn the_nearest_by_hand() {
        let x = t(&[3, 2], &[0.0, 0.0, 3.0, 4.0, 0.0, f32::NAN]);
        let (d, i) = outputs(TEXT, &x);
        assert_eq!((&d[..4], i), (&[0.0, 1.0, 0.0, 0.0][..], vec![0, 3, 1, 2, 0, 1]));
        assert!(d[4].is_nan() && d[5].is_nan());
        let root = TEXT.replace("k=2", "k=4, metric=\"euclidean\"");
        assert_eq!(
            outputs(&root, &t(&[1, 2], &[0.0; 2])),
            (vec![0., 1., 5., 5.], vec![0, 3, 1, 2])
        );
    }

    #[test]
    fn blocks_of_rows_and_none() {
        let many: Vec<f32> = (0..130).flat_map(|i| [0.0, f32::from(i as u8)]).collect();
        let (_, i) = outputs(TEXT, &t(&[130, 2], &many));
        assert_eq!((&i[..4], &i[258..]), (&[0, 3, 3, 0][..], &[1, 2][..]));
        assert_eq!(outputs(TEXT, &t(&[0, 2], &[])), (vec![], vec![]));
    }

    #[test]
    fn the_body_gives_the_same() {
        for text in [TEXT.to_owned(), TEXT.replace("k=2", "k=3, metric=\"euclidean\"")] {
            let g = text::parse(&text).expect("parses");
            let node = g.outputs()[0].1.node;
            let inputs = g.inputs_of(node);
            let operands: Vec<_> = inputs.iter().map(|v| v.map(|v| g.ty(v))).collect();
            let body = text::print(&g.op(node).expansion(&operands).expect("fused"));
            assert!(!body.contains("ai.kiln"), "{body}");
            let x = t(&[2, 2], &[1.0, 2.0, -1.0, 0.5]);
            assert_eq!(outputs(&body, &x), outputs(&text, &x));
        }
    }

    #[test]
    fn types_and_errors() {
        assert_eq!(types(TEXT).expect("types"), ["f32[M,2]", "i64[M,2]"]);
        for (from, to) in [("k=2", "k=5"), ("k=2", "k=-1"), ("4,2]", "4,3]"), ("[M,2]", "[2]")] {
            assert!(types(&TEXT.replace(from, to)).is_err(), "{to}");
        }
    }
}
