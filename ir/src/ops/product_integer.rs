//! Products of quantized matrices whose results are real numbers, with what is fused into them.
//!
//! ```text
//! y = ai.kiln.MatMulIntegerToFloat(a: u8[B,M,K], b: i8[K,N], scale: f32[N], a_zero: u8[],
//!         b_zero: i8[], bias: f32[N], z: f32[B,M,N])
//!   => i = MatMulInteger(a, b, a_zero, b_zero); t = Cast(i); u = Mul(t, scale)
//!      v = Add(u, bias); w = Add(v, z); y = act(w)
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum};

use super::activation::Activation;
use super::binary::Binary;
use super::cast::Cast;
use super::fused::{self, Body};
use super::matmul_quantized::MatMulInteger;
use crate::{Attrs, Context, Fact, Graph, Infer, Operator, Result, Schema, Type};

/// `act((a - a_zero) * (b - b_zero) * scale + bias + z)` in `f32`: sums are of 32 bits, all
/// operands but the first three may be left out, those of `f32` broadcast to the result.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct IntegerProduct {
    /// What is applied to the sum.
    pub activation: Option<Activation>,
}

/// The places of operands.
impl IntegerProduct {
    /// The factor of the sums, one for all or one for each column.
    pub const SCALE: usize = 2;
    /// The zero point of `a`.
    pub const A_ZERO: usize = 3;
    /// The zero point of `b`.
    pub const B_ZERO: usize = 4;
    /// What is added first.
    pub const BIAS: usize = 5;
    /// What is added then.
    pub const BRANCH: usize = 6;
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "ai.kiln.MatMulIntegerToFloat",
    since: 1,
    build: |b| Ok(IntegerProduct { activation: Activation::take(&mut b.attrs)? }.into()),
}];

impl IntegerProduct {
    /// The same in standard operators, for operands of these types.
    pub(crate) fn expansion(&self, operands: &[Option<&Type>]) -> Result<Graph> {
        let names = ["a", "b", "scale", "a_zero", "b_zero", "bias", "z"];
        let mut body = Body::of(&names, operands, DType::F32);
        let mut inputs = [0, 1, Self::A_ZERO, Self::B_ZERO].map(|i| body.operand(i)).to_vec();
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        let sum = body.call("MatMulInteger", &inputs, Attrs::default())?;
        let to = Attrs::default().with("to", DType::F32);
        let y = body.call("Cast", &[Some(sum)], to)?;
        let y = body.call("Mul", &[Some(y), body.operand(Self::SCALE)], Attrs::default())?;
        let y = body.plus(y, Self::BIAS)?;
        let y = body.plus(y, Self::BRANCH)?;
        let y = body.activate(y, self.activation)?;
        Ok(body.returns(&[("y", y)]))
    }
}

impl Operator for IntegerProduct {
    fn name(&self) -> &str {
        "ai.kiln.MatMulIntegerToFloat"
    }

    fn attrs(&self) -> Attrs {
        self.activation.map_or(Attrs::default(), |a| a.put(Attrs::default()))
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=7
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        for (i, zero) in [(0, Self::A_ZERO), (1, Self::B_ZERO)] {
            cx.dtype_in(i, |d| matches!(d, DType::I8 | DType::U8))?;
            cx.same_dtype([i, zero])?;
        }
        cx.dtype_in(Self::SCALE, |d| d == DType::F32)?;
        cx.same_dtype([Self::SCALE, Self::BIAS, Self::BRANCH])?;
        let y = super::matmul_quantized::product_fact(cx, DType::F32, 0, 1)?;
        let shape = y.ty.as_tensor()?.shape.clone();
        for i in [Self::SCALE, Self::BIAS, Self::BRANCH] {
            fused::fits(cx, i, shape.as_deref())?;
        }
        Ok(vec![y])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let given = |i: usize| inputs.get(i).copied().flatten();
        let operands = [given(0), given(1), given(Self::A_ZERO), given(Self::B_ZERO)];
        let sum = MatMulInteger.eval(cx, &operands)?;
        let y = Cast::to(DType::F32).eval(cx, &[Some(&sum[0])])?;
        let y = Binary::Mul.eval(cx, &[Some(&y[0]), given(Self::SCALE)])?;
        let addends = [given(Self::BIAS), given(Self::BRANCH)];
        let y = y[0].as_tensor()?.clone();
        Ok(vec![fused::finish(cx, y, &addends, self.activation)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use kiln_tensor::Tensor;

    use crate::ops::testing::{run1, t, types};
    use crate::text;

    const TEXT: &str = "y = ai.kiln.MatMulIntegerToFloat(a: u8[1,2], b: i8[2,2], s: f32[2], \
                        p: u8[], q: i8[], c: f32[2], z: f32[1,2]) {activation=\"Relu\"}\nreturn y";

    fn operands() -> Vec<Tensor> {
        let a = Tensor::from_vec(&[1, 2], vec![3u8, 5]).expect("1x2");
        let b = Tensor::from_vec(&[2, 2], vec![2i8, 0, 1, -2]).expect("2x2");
        let zeros = [Tensor::scalar(1u8), Tensor::scalar(1i8)];
        let [p, q] = zeros;
        vec![a, b, t(&[2], &[0.5, 2.0]), p, q, t(&[2], &[10.0, 20.0]), t(&[1, 2], &[0.25, -0.5])]
    }

    #[test]
    fn all_steps_by_hand() {
        // [2, 4] * [[1, -1], [0, -3]] = [2, -14]: times the factors 1 and -28.
        assert_eq!(run1(TEXT, &operands()).expect("runs"), t(&[1, 2], &[11.25, 0.0]));
    }

    #[test]
    fn the_body_is_standard_and_gives_the_same() {
        let g = text::parse(TEXT).expect("parses");
        let node = g.outputs()[0].1.node;
        let inputs = g.inputs_of(node);
        let types: Vec<_> = inputs.iter().map(|v| v.map(|v| g.ty(v))).collect();
        let body = text::print(&g.op(node).expansion(&types).expect("fused"));
        for op in ["MatMulInteger(a, b, a_zero, b_zero)", "Cast(", "Mul(", "Add(", "Relu("] {
            assert!(body.contains(op), "{op} in {body}");
        }
        let given = operands();
        assert_eq!(run1(&body, &given).expect("runs"), run1(TEXT, &given).expect("runs"));
    }

    #[test]
    fn types_and_errors() {
        assert_eq!(types(TEXT).expect("types"), ["f32[1,2]"]);
        let short = "y = ai.kiln.MatMulIntegerToFloat(a: i8[N,2], b: u8[2,M], s: f32[])\nreturn y";
        assert_eq!(types(short).expect("types"), ["f32[N,M]"]);
        for (from, to) in [
            ("s: f32[2]", "s: f32[3]"),
            ("s: f32[2]", "s: f16[2]"),
            ("p: u8[]", "p: i8[]"),
            ("a: u8", "a: i32"),
            ("z: f32[1,2]", "z: f32[4,1,2]"),
        ] {
            assert!(types(&TEXT.replace(from, to)).is_err(), "{to}");
        }
    }
}
