//! Matrix products with what is fused into their results.
//!
//! ```text
//! y = ai.kiln.MatMul(a: f32[B,M,K], b: f32[K,N], bias: f32[N], z: f32[B,M,N])
//!   => t = MatMul(a, b); u = Mul(t, alpha); v = Add(u, bias); w = Add(v, z); y = act(w)
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::Datum;

use super::activation::Activation;
use super::fused::{self, Body};
use super::matmul::{MatMul, order};
use super::real::is_real;
use crate::{Attrs, Context, Fact, Graph, Infer, Operator, Result, Schema, Type, Value};

/// `act(alpha * a * b + bias + z)`: `bias` (input 2) and `z` (input 3) may be left out and
/// broadcast to the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// The product, its factor and its transpositions.
    pub matmul: MatMul,
    /// What is applied to the sum.
    pub activation: Option<Activation>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "ai.kiln.MatMul",
    since: 1,
    build: |b| {
        let activation = Activation::take(&mut b.attrs)?;
        Ok(Product { matmul: MatMul::read(&mut b.attrs)?, activation }.into())
    },
}];

impl Product {
    /// The same in standard operators, for operands of these types.
    pub(crate) fn expansion(&self, operands: &[Option<&Type>]) -> Result<Graph> {
        let mut body = Body::new(&["a", "b", "bias", "z"], operands)?;
        let MatMul { alpha, trans_a, trans_b, trans_batch_a, trans_batch_b } = self.matmul;
        let a = arrange(&mut body, 0, (trans_a, trans_batch_a))?;
        let b = arrange(&mut body, 1, (trans_b, trans_batch_b))?;
        let y = match (a, b) {
            (Some(a), Some(b)) => {
                let y = body.call("MatMul", &[Some(a), Some(b)], Attrs::default())?;
                body.times(y, alpha)?
            }
            // How axes of an unknown number are swapped, only the product can say.
            _ => {
                let inputs = [body.operand(0), body.operand(1)];
                body.graph.add("t", self.matmul, &inputs)?.first()
            }
        };
        let y = body.plus(y, 2)?;
        let y = body.plus(y, 3)?;
        let y = body.activate(y, self.activation)?;
        Ok(body.returns(&[("y", y)]))
    }
}

/// Operand `i` with its axes in order; `None` where its rank would have to be known.
fn arrange(body: &mut Body, i: usize, (trans, batch): (bool, bool)) -> Result<Option<Value>> {
    let x = body.operand(i);
    if !(trans || batch) {
        return Ok(x);
    }
    let Some((x, rank)) = x.and_then(|x| Some((x, body.graph.ty(x).rank()?))) else {
        return Ok(None);
    };
    let Some(axes) = order(rank, trans, batch) else { return Ok(Some(x)) };
    let perm: Vec<i64> = axes.into_iter().map(|a| a as i64).collect();
    body.call("Transpose", &[Some(x)], Attrs::default().with("perm", perm)).map(Some)
}

impl Operator for Product {
    fn name(&self) -> &str {
        "ai.kiln.MatMul"
    }

    fn attrs(&self) -> Attrs {
        let attrs = self.matmul.write();
        self.activation.map_or(attrs.clone(), |a| a.put(attrs))
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=4
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        cx.same_dtype(0..4)?;
        let out = self.matmul.infer(cx)?;
        let y = out.first().and_then(|f| f.ty.as_tensor().ok()?.shape.clone());
        fused::fits(cx, 2, y.as_deref())?;
        fused::fits(cx, 3, y.as_deref())?;
        Ok(out)
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let y = self.matmul.eval(cx, &inputs[..inputs.len().min(2)])?;
        let given = |i: usize| inputs.get(i).copied().flatten();
        let y = y[0].as_tensor()?.clone();
        Ok(vec![fused::finish(cx, y, &[given(2), given(3)], self.activation)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{run1, t, types};
    use crate::text;

    const TEXT: &str = "y = ai.kiln.MatMul(a: f32[2,2], b: f32[3,2], c: f32[3], z: f32[2,3]) \
                        {alpha=0.5, transB=1, activation=\"Relu\"}\nreturn y";

    #[test]
    fn all_steps_by_hand() {
        let a = t(&[2, 2], &[1., 2., 3., 4.]);
        let b = t(&[3, 2], &[2., 0., 0., 2., 2., 2.]);
        let c = t(&[3], &[10., -10., 0.]);
        let z = t(&[2, 3], &[0., 0., 1., 0., 0., -9.]);
        // a * b' / 2 = [[1, 2, 3], [3, 4, 7]].
        let y = run1(TEXT, &[a, b, c, z]).expect("runs");
        assert_eq!(y, t(&[2, 3], &[11., 0., 4., 13., 0., 0.]));
    }

    #[test]
    fn either_addend_may_be_left_out() {
        let (a, b) = (t(&[1, 1], &[2.]), t(&[1, 2], &[3., 4.]));
        for (inputs, want) in
            [("", [6., 8.]), (", c: f32[1]", [7., 9.]), (", _, c: f32[1,2]", [7., 10.])]
        {
            let text = format!("y = ai.kiln.MatMul(a: f32[1,1], b: f32[1,2]{inputs})\nreturn y");
            let mut values = vec![a.clone(), b.clone()];
            match inputs.len() {
                0 => {}
                11 => values.push(t(&[1], &[1.])),
                _ => values.push(t(&[1, 2], &[1., 2.])),
            }
            assert_eq!(run1(&text, &values).expect("runs"), t(&[1, 2], &want), "{inputs}");
        }
    }

    #[test]
    fn types_and_errors() {
        assert_eq!(types(TEXT).expect("types"), ["f32[2,3]"]);
        for (from, to) in [("c: f32[3]", "c: f32[2]"), ("z: f32[2,3]", "z: f32[3,2,3]")] {
            assert!(types(&TEXT.replace(from, to)).is_err(), "{to}");
        }
        assert!(types(&TEXT.replace("f32", "i32")).is_err());
    }

    #[test]
    fn the_body_is_standard_and_gives_the_same() {
        let g = text::parse(TEXT).expect("parses");
        let node = g.outputs()[0].1.node;
        let inputs = g.inputs_of(node);
        let operands: Vec<_> = inputs.iter().map(|v| v.map(|v| g.ty(v))).collect();
        let body = g.op(node).expansion(&operands).expect("fused");
        let printed = text::print(&body);
        for op in ["Transpose(b)", "MatMul(", "Mul(", "Add(", "Relu("] {
            assert!(printed.contains(op), "{op} in {printed}");
        }
        let a = t(&[2, 2], &[1., 2., 3., 4.]);
        let b = t(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
        let c = t(&[3], &[1., 2., -60.]);
        let z = t(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let given = [a, b, c, z];
        assert_eq!(run1(&printed, &given).expect("runs"), run1(TEXT, &given).expect("runs"));
    }
}
