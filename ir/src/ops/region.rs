//! A group of elementwise operators that run as one.
//!
//! ```text
//! y = ai.kiln.Region(a: f32[N,C], b: f32[C]) {body=graph { a, b -> y = Relu(Add(a, b)) }}
//! ```
//! Saves what lies between the operators: it is never written to memory.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::Datum;

use super::control::{given, inward, outputs_of, run};
use super::fused::is_elementwise;
use crate::{Attrs, Context, Fact, Graph, Infer, Operator, Result, Schema, Traits, invalid};

/// A body of elementwise operators, whose inputs are the operands in their order. Every output
/// has the broadcast shape of the operands.
#[derive(Clone, Debug)]
pub struct Region {
    body: Arc<Graph>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "ai.kiln.Region",
    since: 1,
    build: |b| Ok(Region::new(b.require("body")?)?.into()),
}];

impl Region {
    /// A region; an error where the body has a node that is not elementwise, or no output.
    pub fn new(body: Arc<Graph>) -> Result<Self> {
        if !is_elementwise(&body) {
            invalid!("the body of a region holds elementwise operators only");
        }
        if body.outputs().is_empty() || body.inputs().len() == 0 {
            invalid!("the body of a region has inputs and outputs");
        }
        Ok(Self { body })
    }

    /// The body.
    pub fn body(&self) -> &Arc<Graph> {
        &self.body
    }
}

impl Operator for Region {
    fn name(&self) -> &str {
        "ai.kiln.Region"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default().with("body", self.body.clone())
    }

    fn traits(&self) -> Traits {
        Traits::ELEMENTWISE
    }

    fn arity(&self) -> RangeInclusive<usize> {
        let n = self.body.inputs().len();
        n..=n
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let formal: Vec<_> = self.body.inputs().map(|v| self.body.ty(v)).collect();
        let mut types = Vec::with_capacity(formal.len());
        for (i, formal) in formal.into_iter().enumerate() {
            let dtype = cx.dtype(i)?;
            if dtype != formal.as_tensor()?.dtype {
                invalid!("input {i} is {}, the body takes {formal}", cx.ty(i)?);
            }
            types.push(inward(cx.ty(i)?));
        }
        cx.broadcast(0..types.len())?;
        Ok(outputs_of(cx, &self.body, types).into_iter().map(Fact::from).collect())
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let operands = (0..self.body.inputs().len()).map(|i| given(inputs, i).cloned());
        run(&self.body, &cx.nested()?, operands.collect::<Result<_>>()?)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{run, t, types};
    use crate::text;

    const TEXT: &str = "a: f32[N,2]\nb: f32[2]\n\
        y, s = ai.kiln.Region(a, b) {body=graph {\n a: f32[..]\n b: f32[..]\n \
        s = Add(a, b)\n y = Relu(s)\n return y, s\n}}\nreturn y, s";

    #[test]
    fn runs_its_body() {
        let out = run(TEXT, &[t(&[1, 2], &[1., -2.]), t(&[2], &[0.5, 1.])]).expect("runs");
        assert_eq!(out[0].as_tensor().expect("tensor"), &t(&[1, 2], &[1.5, 0.]));
        assert_eq!(out[1].as_tensor().expect("tensor"), &t(&[1, 2], &[1.5, -1.]));
    }

    #[test]
    fn types_are_those_of_the_body() {
        assert_eq!(types(TEXT).expect("types"), ["f32[N,2]", "f32[N,2]"]);
        for (from, to) in [
            ("Relu(s)", "Softmax(s)"),
            ("\nb: f32[2]", "\nb: f32[3]"),
            ("\nb: f32[2]", "\nb: f64[2]"),
            ("Region(a, b)", "Region(a)"),
            ("return y, s\n}", "return\n}"),
        ] {
            assert!(types(&TEXT.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn the_text_reads_back_and_the_body_is_the_expansion() {
        let g = text::parse(TEXT).expect("parses");
        let printed = text::print_full(&g);
        let again = text::parse(&printed).expect("its own text");
        assert_eq!(printed, text::print_full(&again));
        let body = g.op(g.outputs()[0].1.node).expansion(&[]).expect("a body");
        assert!(text::print(&body).contains("y = Relu(s)"));
    }
}
