//! One of two bodies.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum};

use super::body::{self, captures, given, inward, is_random, loose};
use crate::eval::tensor;
use crate::{Attrs, Build, Built, Context, Fact, Graph, Infer, Operator, Result, Traits, invalid};

/// One body or the other, as input 0 says; the other inputs are what they capture.
#[derive(Clone, Debug)]
pub struct If {
    then: Arc<Graph>,
    other: Arc<Graph>,
}

pub(super) fn build(b: &mut Build<'_>) -> Result<Built> {
    let captures = captures(b)?;
    let op = If { then: b.require("then_branch")?, other: b.require("else_branch")? };
    let [then, other] = [&op.then, &op.other].map(|g| (g.inputs().len(), g.outputs().len()));
    if then.0 != captures || other.0 != captures || b.inputs.len() != captures + 1 {
        invalid!("the branches need {} and {} inputs, got {captures}", then.0, other.0);
    }
    if then.1 != other.1 {
        invalid!("the branches have {} and {} outputs", then.1, other.1);
    }
    Ok(op.into())
}

impl If {
    /// The branches: for true, for false.
    pub fn branches(&self) -> [&Arc<Graph>; 2] {
        [&self.then, &self.other]
    }
}

impl Operator for If {
    fn name(&self) -> &str {
        "If"
    }

    fn attrs(&self) -> Attrs {
        let captures = self.then.inputs().len() as i64;
        Attrs::default()
            .with("captures", (captures > 0).then_some(captures))
            .with("then_branch", self.then.clone())
            .with("else_branch", self.other.clone())
    }

    fn traits(&self) -> Traits {
        let random = is_random(&self.then) || is_random(&self.other);
        Traits { random, ..Traits::default() }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=self.then.inputs().len() + 1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, |d| d == DType::Bool)?;
        let types = |cx: &Infer<'_>| -> Result<Vec<_>> {
            (0..self.then.inputs().len()).map(|i| Ok(inward(cx.ty(i + 1)?))).collect()
        };
        let inputs = types(cx)?;
        let then = body::outputs_of(cx, &self.then, inputs.clone());
        let other = body::outputs_of(cx, &self.other, inputs);
        let either = then.iter().zip(&other);
        either.map(|(a, b)| Ok(loose(a, b, &mut || cx.fresh())?.into())).collect()
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let body = if tensor(inputs, 0)?.to_scalar()? { &self.then } else { &self.other };
        let captured = (0..body.inputs().len()).map(|i| given(inputs, i + 1).cloned());
        body::run(body, &cx.nested()?, captured.collect::<Result<_>>()?)
    }
}

#[cfg(test)]
mod tests {
    use kiln_tensor::Tensor;

    use crate::ops::testing::{run1, types};

    const TEXT: &str = "c: bool[]\nx: f32[N,2]\n\
        y = If(c, x) {captures=1, \
        then_branch=graph {\n a: f32[N,2]\n b = Neg(a)\n return b\n}, \
        else_branch=graph {\n a: f32[N,2]\n b = Exp(a)\n return b\n}}\nreturn y";

    #[test]
    fn either_branch() {
        let x = Tensor::from_vec(&[1, 2], vec![0f32, 0.5]).expect("1x2");
        let y = |c: bool| run1(TEXT, &[Tensor::scalar(c), x.clone()]).expect("runs");
        assert_eq!(y(true).as_slice::<f32>().expect("f32"), [0.0, -0.5]);
        assert_eq!(y(false).as_slice::<f32>().expect("f32"), [1.0, 0.5f32.exp()]);
        let one = run1(&TEXT.replace("bool[]", "bool[1]"), &[Tensor::vector(vec![true]), x]);
        assert!(one.is_ok());
    }

    #[test]
    fn types_hold_on_both_ways() {
        assert_eq!(types(TEXT).expect("types"), ["f32[N,2]"]);
        let t = types(&TEXT.replace("b = Exp(a)", "b = Transpose(a)")).expect("types");
        assert_eq!(t, ["f32[?1,?2]"]);
        let rank = types(&TEXT.replace("b = Exp(a)", "b = Flatten(a) {axis=0}"));
        assert_eq!(rank.expect("types"), ["f32[?1,?2]"]);
        let cast = "b = Shape(a)";
        assert!(types(&TEXT.replace("b = Exp(a)", cast)).is_err());
        assert!(types(&TEXT.replace("c: bool[]", "c: f32[]")).is_err());
    }

    #[test]
    fn symbols_of_branches_do_not_meet_those_outside() {
        // A length that only the data decides is `?1` in each of the three graphs.
        let t = "c: bool[]\nx: seq(f32[N,2])\nz = ConcatFromSequence(x) {axis=0}\n\
                 y = If(c, x) {captures=1, \
                 then_branch=graph {\n a: seq(f32[N,2])\n \
                 b = ConcatFromSequence(a) {axis=0}\n return b\n}, \
                 else_branch=graph {\n a: seq(f32[N,2])\n \
                 b = ConcatFromSequence(a) {axis=0}\n return b\n}}\nreturn z, y";
        assert_eq!(types(t).expect("types"), ["f32[?1,2]", "f32[?4,2]"]);
    }

    #[test]
    fn branches_must_fit() {
        assert!(types(&TEXT.replace("return b\n}}", "return b, a\n}}")).is_err());
        assert!(types(&TEXT.replace("captures=1", "captures=0")).is_err());
        assert!(types(&TEXT.replace("captures=1", "captures=-1")).is_err());
        assert!(types(&TEXT.replace("captures=1", "captures=9")).is_err());
    }

    #[test]
    fn the_text_reads_back() {
        let g = crate::text::parse(TEXT).expect("parses");
        let printed = crate::text::print_full(&g);
        let again = crate::text::parse(&printed).expect("its own text");
        assert_eq!(printed, crate::text::print_full(&again));
    }
}
