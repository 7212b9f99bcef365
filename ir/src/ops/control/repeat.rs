//! A body run again and again.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Tensor};

use super::body::{Budget, captures, given, is_random, outputs_of_steps, run};
use super::stack::{Stack, stacked};
use crate::eval::optional;
use crate::{
    Attrs, Build, Built, Context, Error, Fact, Graph, Infer, Operator, Result, Traits, Type,
    invalid,
};

/// A body run while its condition holds, at most as often as input 0 says.
///
/// Inputs: the number of trips, the first condition, the carried values, the captured values.
/// The body takes the trip's number, the condition, the carried and the captured values, and
/// gives the next condition, the next carried values, and one piece of every scan output.
#[derive(Clone, Debug)]
pub struct Loop {
    body: Arc<Graph>,
    carried: usize,
}

pub(super) fn build(b: &mut Build<'_>) -> Result<Built> {
    let captures = captures(b)?;
    let body: Arc<Graph> = b.require("body")?;
    // Without M, or without M and cond, the captured values still come third.
    let own = b.inputs.len() - captures;
    for _ in own..2 {
        b.inputs.insert(own, None);
    }
    let carried = b.inputs.len() - 2 - captures;
    if body.inputs().len() != 2 + carried + captures {
        let need = body.inputs().len();
        invalid!("the body takes {need} inputs, the loop gives {}", 2 + carried + captures);
    }
    if body.outputs().len() < 1 + carried {
        invalid!("the body has {} outputs for {carried} carried values", body.outputs().len());
    }
    Ok(Loop { body, carried }.into())
}

impl Loop {
    /// The body.
    pub fn body(&self) -> &Arc<Graph> {
        &self.body
    }

    /// The number of carried values.
    pub fn carried(&self) -> usize {
        self.carried
    }

    fn captures(&self) -> usize {
        self.body.inputs().len() - 2 - self.carried
    }
}

impl Operator for Loop {
    fn name(&self) -> &str {
        "Loop"
    }

    fn attrs(&self) -> Attrs {
        let captures = self.captures() as i64;
        Attrs::default()
            .with("captures", (captures > 0).then_some(captures))
            .with("body", self.body.clone())
    }

    fn traits(&self) -> Traits {
        Traits { random: is_random(&self.body), ..Traits::default() }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        0..=self.body.inputs().len()
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        if cx.has(0) {
            cx.dtype_in(0, |d| d == DType::I64)?;
        }
        if cx.has(1) {
            cx.dtype_in(1, |d| d == DType::Bool)?;
        }
        let mut inputs =
            vec![Type::tensor(DType::I64, Some(vec![])), Type::tensor(DType::Bool, Some(vec![]))];
        for i in 2..self.body.inputs().len() {
            inputs.push(cx.ty(i)?.clone());
        }
        let types = outputs_of_steps(cx, &self.body, &inputs, 2..2 + self.carried, 1)?;
        let trips = cx.fresh();
        (types.iter().skip(1).enumerate())
            .map(|(k, ty)| match k < self.carried {
                true => Ok(ty.clone().into()),
                false => Ok(stacked(ty, 0, trips.clone())?.into()),
            })
            .collect()
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let most = optional(inputs, 0)?.map(Tensor::to_scalar::<i64>).transpose()?;
        let mut go = optional(inputs, 1)?.map_or(Ok(true), Tensor::to_scalar::<bool>)?;
        let mut carried: Vec<Datum> =
            (2..2 + self.carried).map(|i| given(inputs, i).cloned()).collect::<Result<_>>()?;
        let captured: Vec<Datum> = (2 + self.carried..self.body.inputs().len())
            .map(|i| given(inputs, i).cloned())
            .collect::<Result<_>>()?;
        let scans = self.body.outputs().len() - 1 - self.carried;
        let mut stacks: Vec<Stack> = (0..scans).map(|_| Stack::default()).collect();
        let (inner, mut budget, mut trip) = (cx.nested()?, Budget::new(cx), 0i64);
        while go && most.is_none_or(|most| trip < most) {
            cx.trip()?;
            budget.pass(&carried)?;
            let mut given = vec![Tensor::scalar(trip).into(), Tensor::scalar(go).into()];
            given.append(&mut carried);
            given.extend(captured.iter().cloned());
            let mut made = run(&self.body, &inner, given)?.into_iter();
            go = match made.next() {
                Some(cond) => cond.as_tensor()?.to_scalar()?,
                None => return Err(Error::bug("a loop's body has no condition")),
            };
            carried = made.by_ref().take(self.carried).collect();
            for (stack, piece) in stacks.iter_mut().zip(made) {
                budget.keep(&piece)?;
                stack.push(piece)?;
            }
            trip += 1;
        }
        let types = self.body.outputs().iter().skip(1 + self.carried);
        for (stack, (_, v)) in stacks.into_iter().zip(types) {
            carried.push(stack.finish(cx, 0, self.body.ty(*v))?.into());
        }
        Ok(carried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, types};
    use crate::{Limits, eval, text};

    /// x doubles at each trip, which also gives x and the number of the trip.
    const TEXT: &str = "m: i64[]\nx: f32[2]\nk: f32[]\n\
        y, s, n = Loop(m, _, x, k) {captures=1, body=graph {\n\
        i: i64[]\n c: bool[]\n a: f32[2]\n k: f32[]\n\
        b = Mul(a, k)\n d = Identity(c)\n s = Identity(a)\n return d, b, s, i\n}}\n\
        return y, s, n";

    fn inputs(trips: i64) -> Vec<Tensor> {
        vec![Tensor::scalar(trips), Tensor::vector(vec![1f32, 3.0]), Tensor::scalar(2f32)]
    }

    fn tensors(out: Vec<Datum>) -> Vec<Tensor> {
        out.iter().map(|d| d.as_tensor().expect("tensor").clone()).collect()
    }

    #[test]
    fn carried_and_stacked_values() {
        let out = tensors(run(TEXT, &inputs(3)).expect("runs"));
        assert_eq!(out[0], Tensor::vector(vec![8f32, 24.0]));
        let want = Tensor::from_vec(&[3, 2], vec![1f32, 3.0, 2.0, 6.0, 4.0, 12.0]);
        assert_eq!(out[1], want.expect("3x2"));
        assert_eq!(out[2], Tensor::vector(vec![0i64, 1, 2]));
        assert_eq!(types(TEXT).expect("types"), ["f32[2]", "f32[?1,2]", "i64[?1]"]);
    }

    #[test]
    fn no_trips_give_empty_outputs_of_the_right_type() {
        for trips in [0, -5] {
            let out = tensors(run(TEXT, &inputs(trips)).expect("runs"));
            assert_eq!(out[0], Tensor::vector(vec![1f32, 3.0]));
            assert_eq!((out[1].dtype(), out[1].shape()), (DType::F32, &[0, 2][..]));
            assert_eq!((out[2].dtype(), out[2].shape()), (DType::I64, &[0][..]));
        }
    }

    #[test]
    fn the_condition_ends_the_loop() {
        // c, then its opposite, which is false.
        let t = "c: bool[]\ny, n = Loop(_, c, c) {body=graph {\n\
                 i: i64[]\n c: bool[]\n a: bool[]\n d = Not(c)\n return d, d, i\n}}\nreturn y, n";
        let out = tensors(run(t, &[Tensor::scalar(true)]).expect("runs"));
        assert_eq!(out, [Tensor::scalar(false), Tensor::vector(vec![0i64])]);
        let out = tensors(run(t, &[Tensor::scalar(false)]).expect("runs"));
        assert_eq!(out[1].shape(), [0]);
    }

    fn limited(t: &str, limits: Limits, inputs: Vec<Tensor>) -> crate::Kind {
        let g = text::parse(t).expect("parses");
        let inputs = inputs.into_iter().map(Datum::Tensor).collect();
        eval::run(&g, &Context::new(limits), inputs).expect_err("a limit").kind()
    }

    #[test]
    fn endless_and_growing_loops_hit_limits() {
        let endless = "c: bool[]\nn = Loop(_, c) {body=graph {\n\
                       i: i64[]\n c: bool[]\n return c, i\n}}\nreturn n";
        let few = Limits { loop_trips: 100, ..Limits::default() };
        assert_eq!(limited(endless, few, vec![Tensor::scalar(true)]), crate::Kind::Limit);
        let small = Limits { memory_bytes: 10_000, ..Limits::default() };
        assert_eq!(limited(endless, small, vec![Tensor::scalar(true)]), crate::Kind::Limit);
        // A vector plus its transposed self is a matrix, then expands further.
        let grow = "c: bool[]\nx: f32[N]\ny = Loop(_, c, x) {body=graph {\n\
                    i: i64[]\n c: bool[]\n a: f32[..]\n s = Shape(a)\n t = Add(s, s)\n\
                    z = ConstantOfShape(t)\n return c, z\n}}\nreturn y";
        let small = Limits { memory_bytes: 1 << 20, ..Limits::default() };
        let start = vec![Tensor::scalar(true), Tensor::vector(vec![0f32])];
        assert_eq!(limited(grow, small, start), crate::Kind::Limit);
    }

    #[test]
    fn nesting_is_limited() {
        let limits = Limits { depth: 0, ..Limits::default() };
        assert_eq!(limited(TEXT, limits, inputs(1)), crate::Kind::Limit);
    }

    #[test]
    fn lengths_that_change_are_not_pinned() {
        let t = "m: i64[]\nx: f32[N,3]\ny = Loop(m, _, x) {body=graph {\n\
                 i: i64[]\n c: bool[]\n a: f32[..]\n b = Transpose(a)\n return c, b\n}}\nreturn y";
        assert_eq!(types(t).expect("types"), ["f32[?1,?2]"]);
        let same = t.replace("Transpose(a)", "Neg(a)");
        assert_eq!(types(&same).expect("types"), ["f32[N,3]"]);
        let flat = t.replace("Transpose(a)", "Shape(a)").replace("b\n}}", "a\n}}");
        assert_eq!(types(&flat).expect("types"), ["f32[N,3]"]);
        assert!(types(&t.replace("Transpose(a)", "Shape(a)")).is_err());
    }

    #[test]
    fn pieces_must_be_alike() {
        let t = "m: i64[]\nx: f32[1]\ny, s = Loop(m, _, x) {body=graph {\n\
                 i: i64[]\n c: bool[]\n a: f32[..]\n s = Shape(a)\n t = Add(s, s)\n\
                 z = ConstantOfShape(t)\n return c, z, z\n}}\nreturn y, s";
        let inputs = [Tensor::scalar(2i64), Tensor::vector(vec![0f32])];
        assert!(run(t, &inputs).expect_err("2, then 4").message().contains("differ"));
    }

    #[test]
    fn bodies_must_fit() {
        assert!(types(&TEXT.replace("captures=1, ", "captures=5, ")).is_err());
        assert!(types(&TEXT.replace("x, k)", "x)")).is_err());
        assert!(types(&TEXT.replace("return d, b, s, i", "return d")).is_err());
        assert!(types(&TEXT.replace("m: i64[]", "m: f32[]")).is_err());
    }
}
