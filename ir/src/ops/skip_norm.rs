//! A residual addition and the normalization of its sum.
//!
//! ```text
//! y, sum = ai.kiln.SkipLayerNormalization(x: f32[N,D], skip: f32[N,D], scale: f32[D], b: f32[D])
//!   => sum = Add(x, skip); y = LayerNormalization(sum, scale, b)
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum};

use super::binary::Binary;
use super::fused::{self, Body};
use super::layer_norm::{LayerNorm, Trailing};
use super::real::is_real;
use crate::{Attrs, Context, Fact, Graph, Infer, Operator, Result, Schema, Type, attrs, invalid};

attrs! {
    /// `sum = x + skip`, and `y`, its normalized trailing axes, times `scale` (input 2), plus
    /// `bias` (input 3), which may be left out. The outputs are `y` and `sum`.
    #[derive(Copy)]
    pub struct SkipNorm {
        /// The first axis that is normalized.
        axis: i64 = -1,
        /// What is added to the variance or to the mean square.
        epsilon: f32 = 1e-5,
        /// Whether it is by the root mean square, not by mean and deviation.
        rms: bool = false,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "ai.kiln.SkipLayerNormalization",
    since: 1,
    build: |b| Ok(SkipNorm::read(&mut b.attrs)?.into()),
}];

impl SkipNorm {
    /// The normalization of the sum.
    pub fn norm(&self) -> LayerNorm {
        let trailing = Trailing { axis: self.axis, epsilon: self.epsilon, stash_type: DType::F32 };
        if self.rms { LayerNorm::Rms(trailing) } else { LayerNorm::Layer(trailing) }
    }

    /// The same in standard operators, for operands of these types.
    pub(crate) fn expansion(&self, operands: &[Option<&Type>]) -> Result<Graph> {
        let mut body = Body::new(&["x", "skip", "scale", "bias"], operands)?;
        let inputs = [body.operand(0), body.operand(1)];
        let sum = body.call("Add", &inputs, Attrs::default())?;
        let (norm, bias) = (self.norm(), body.operand(3));
        let inputs = [Some(sum), body.operand(2), bias];
        let taken = if self.rms || bias.is_none() { 2 } else { 3 };
        let y = body.call(norm.name(), &inputs[..taken], norm.attrs())?;
        let y = if self.rms { body.plus(y, 3)? } else { y };
        Ok(body.returns(&[("y", y), ("sum", sum)]))
    }
}

impl Operator for SkipNorm {
    fn name(&self) -> &str {
        "ai.kiln.SkipLayerNormalization"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=4
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype(0..4)?;
        let shape = cx.broadcast(0..2)?;
        if let Some(s) = &shape {
            kiln_tensor::shape::axis(self.axis, s.len())?;
        }
        fused::fits(cx, 2, shape.as_deref())?;
        fused::fits(cx, 3, shape.as_deref())?;
        let sum = Fact::tensor(dtype, shape);
        Ok(vec![sum.clone(), sum])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let &[x, skip, scale, ref rest @ ..] = inputs else { invalid!("three inputs are needed") };
        let sum = Binary::Add.eval(cx, &[x, skip])?.swap_remove(0);
        let bias = rest.first().copied().flatten();
        let norm = self.norm();
        let y = match self.rms {
            true => {
                let y = norm.eval(cx, &[Some(&sum), scale])?[0].as_tensor()?.clone();
                fused::finish(cx, y, &[bias], None)?.into()
            }
            false => norm.eval(cx, &[Some(&sum), scale, bias])?.swap_remove(0),
        };
        Ok(vec![y, sum])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{assert_close, run, t, types};
    use crate::text;

    const TEXT: &str = "y, s = ai.kiln.SkipLayerNormalization(x: f32[N,2], k: f32[N,2], g: f32[2], \
                        b: f32[2]) {epsilon=0.0}\nreturn y, s";

    fn floats(text: &str) -> Vec<Vec<f32>> {
        let pair = |a: f32, b: f32| t(&[1, 2], &[a, b]);
        let inputs = [pair(1., 1.), pair(2., 3.), t(&[2], &[1., 10.]), t(&[2], &[5., 0.5])];
        let out = run(text, &inputs).expect("runs");
        let floats =
            |d: &kiln_tensor::Datum| d.as_tensor().and_then(|t| t.to_vec::<f32>()).expect("floats");
        out.iter().map(floats).collect()
    }

    #[test]
    fn both_norms_by_hand() {
        let layer = floats(TEXT);
        assert_eq!(layer, [vec![4., 10.5], vec![3., 4.]]);
        // The mean square of 3 and 4 is 12.5.
        let rms = floats(&TEXT.replace("=0.0", "=0.0, rms=1"));
        let root = 12.5f32.sqrt();
        assert_close(&rms[0], &[3. / root + 5., 40. / root + 0.5], 1e-5);
        assert_eq!(rms[1], [3., 4.]);
    }

    #[test]
    fn the_body_gives_the_same() {
        for text in [TEXT.to_owned(), TEXT.replace("=0.0", "=0.0, rms=1")] {
            let g = text::parse(&text).expect("parses");
            let node = g.outputs()[0].1.node;
            let inputs = g.inputs_of(node);
            let operands: Vec<_> = inputs.iter().map(|v| v.map(|v| g.ty(v))).collect();
            let body = text::print(&g.op(node).expansion(&operands).expect("fused"));
            assert!(!body.contains("ai.kiln"), "{body}");
            assert_eq!(floats(&body), floats(&text));
        }
    }

    #[test]
    fn types_and_errors() {
        assert_eq!(types(TEXT).expect("types"), ["f32[N,2]", "f32[N,2]"]);
        for (from, to) in [("g: f32[2]", "g: f32[3]"), ("k: f32[N,2]", "k: f32[N,3]")] {
            assert!(types(&TEXT.replace(from, to)).is_err(), "{to}");
        }
        assert!(types(&TEXT.replace("=0.0", "=0.0, axis=2")).is_err());
    }
}
