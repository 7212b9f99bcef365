//! A body run over the steps of sequences.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{Datum, Tensor, shape};

use super::body::{Budget, captures, given, is_random, outputs_of_steps, run};
use super::stack::{Stack, select, stacked};
use crate::{
    Attrs, Build, Built, Context, Dim, Error, Fact, Graph, Infer, Operator, Result, Traits, Type,
    attrs, invalid,
};

attrs! {
    /// What is scanned, and how.
    pub struct Steps {
        /// How many inputs are scanned.
        num_scan_inputs: i64,
        /// The axis of each scanned input; none is 0 for all.
        input_axes "scan_input_axes": Vec<i64> = vec![],
        /// 1 where a scanned input is read from its end; none is 0 for all.
        input_directions "scan_input_directions": Vec<i64> = vec![],
        /// The axis of each scan output; none is 0 for all.
        output_axes "scan_output_axes": Vec<i64> = vec![],
        /// 1 where a scan output is written from its end; none is 0 for all.
        output_directions "scan_output_directions": Vec<i64> = vec![],
    }
}

/// A body run once per step of the scanned inputs, with states handed from step to step.
///
/// Inputs: the first states, the scanned inputs, the captured values. The body takes the states,
/// one step of each scanned input and the captured values, and gives the next states and one
/// piece of every scan output.
#[derive(Clone, Debug)]
pub struct Scan {
    body: Arc<Graph>,
    steps: Arc<Steps>,
    scans: usize,
    states: usize,
}

pub(super) fn build(b: &mut Build<'_>) -> Result<Built> {
    let captures = captures(b)?;
    let body: Arc<Graph> = b.require("body")?;
    let steps = Steps::read(&mut b.attrs)?;
    if body.inputs().len() != b.inputs.len() {
        invalid!(
            "the body takes {} inputs, the scan gives {}",
            body.inputs().len(),
            b.inputs.len()
        );
    }
    Ok(Scan::new(body, steps, captures)?.into())
}

impl Scan {
    pub(super) fn new(body: Arc<Graph>, steps: Steps, captures: usize) -> Result<Self> {
        let own = body.inputs().len().saturating_sub(captures);
        let scans = match usize::try_from(steps.num_scan_inputs) {
            Ok(n) if (1..=own).contains(&n) => n,
            _ => invalid!("num_scan_inputs is {} for {own} inputs", steps.num_scan_inputs),
        };
        let states = own - scans;
        if body.outputs().len() < states {
            invalid!("the body has {} outputs for {states} states", body.outputs().len());
        }
        let outputs = body.outputs().len() - states;
        let lists = [
            ("scan_input_axes", &steps.input_axes, scans),
            ("scan_input_directions", &steps.input_directions, scans),
            ("scan_output_axes", &steps.output_axes, outputs),
            ("scan_output_directions", &steps.output_directions, outputs),
        ];
        for (name, list, want) in lists {
            if !list.is_empty() && list.len() != want {
                invalid!("`{name}` has {} elements, expected {want}", list.len());
            }
        }
        let mut directions = steps.input_directions.iter().chain(&steps.output_directions);
        if let Some(d) = directions.find(|d| !matches!(d, 0 | 1)) {
            invalid!("the direction {d} is neither 0 nor 1");
        }
        Ok(Self { body, steps: steps.into(), scans, states })
    }

    /// The body.
    pub fn body(&self) -> &Arc<Graph> {
        &self.body
    }

    /// What is scanned, and how.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// The number of states.
    pub fn states(&self) -> usize {
        self.states
    }

    fn captures(&self) -> usize {
        self.body.inputs().len() - self.states - self.scans
    }

    /// The scanned inputs with their axes, and how many steps they have.
    fn scanned<'a>(&self, inputs: &[Option<&'a Datum>]) -> Result<(Vec<Scanned<'a>>, usize)> {
        let mut steps = None;
        let mut all = Vec::new();
        for k in 0..self.scans {
            let x = given(inputs, self.states + k)?.as_tensor()?;
            let axis = shape::axis(at(&self.steps.input_axes, k), x.rank())?;
            let length = x.shape()[axis];
            if *steps.get_or_insert(length) != length {
                invalid!("scanned input {k} has {length} steps, the ones before have others");
            }
            all.push(Scanned { x, axis, back: at(&self.steps.input_directions, k) == 1 });
        }
        Ok((all, steps.unwrap_or(0)))
    }
}

struct Scanned<'a> {
    x: &'a Tensor,
    axis: usize,
    back: bool,
}

/// The element of a list of which none means zeros.
fn at(list: &[i64], i: usize) -> i64 {
    list.get(i).copied().unwrap_or(0)
}

impl Operator for Scan {
    fn name(&self) -> &str {
        "Scan"
    }

    fn attrs(&self) -> Attrs {
        let captures = self.captures() as i64;
        (self.steps.write())
            .with("captures", (captures > 0).then_some(captures))
            .with("body", self.body.clone())
    }

    fn traits(&self) -> Traits {
        Traits { random: is_random(&self.body), ..Traits::default() }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        let n = self.body.inputs().len();
        n..=n
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let mut inputs = Vec::new();
        let mut length: Option<Dim> = None;
        for i in 0..self.body.inputs().len() {
            let ty = cx.ty(i)?;
            if !(self.states..self.states + self.scans).contains(&i) {
                inputs.push(ty.clone());
                continue;
            }
            let t = ty.as_tensor()?;
            let Some(mut s) = t.shape.clone() else {
                inputs.push(ty.clone());
                continue;
            };
            let axis = shape::axis(at(&self.steps.input_axes, i - self.states), s.len())?;
            let own = s.remove(axis);
            match length.as_ref().map(Dim::as_len).zip(own.as_len()) {
                Some((Some(a), b)) if a != b => {
                    invalid!("scanned inputs have {a} and {b} steps")
                }
                Some((Some(_), _)) => {}
                _ => length = Some(own),
            }
            inputs.push(Type::tensor(t.dtype, Some(s)));
        }
        let types = outputs_of_steps(cx, &self.body, &inputs, 0..self.states, 0)?;
        let length = length.unwrap_or_else(|| cx.fresh());
        (types.iter().enumerate())
            .map(|(k, ty)| match k.checked_sub(self.states) {
                None => Ok(ty.clone().into()),
                Some(k) => Ok(stacked(ty, at(&self.steps.output_axes, k), length.clone())?.into()),
            })
            .collect()
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let of = |r: std::ops::Range<usize>| -> Result<Vec<Datum>> {
            r.map(|i| given(inputs, i).cloned()).collect()
        };
        let mut states = of(0..self.states)?;
        let captured = of(self.states + self.scans..self.body.inputs().len())?;
        let (scanned, length) = self.scanned(inputs)?;
        if length as u64 > cx.limits.loop_trips {
            return Err(Error::limit("loop-trips", format!("a scan has {length} steps")));
        }
        let pieces = self.body.outputs().len() - self.states;
        let mut stacks: Vec<Stack> = (0..pieces).map(|_| Stack::default()).collect();
        let (inner, mut budget) = (cx.nested()?, Budget::new(cx));
        for step in 0..length {
            cx.trip()?;
            budget.pass(&states)?;
            let mut given = std::mem::take(&mut states);
            for s in &scanned {
                let i = if s.back { length - 1 - step } else { step };
                given.push(select(s.x, s.axis, i)?.into());
            }
            given.extend(captured.iter().cloned());
            let mut made = run(&self.body, &inner, given)?.into_iter();
            states = made.by_ref().take(self.states).collect();
            for (stack, piece) in stacks.iter_mut().zip(made) {
                budget.keep(&piece)?;
                stack.push(piece)?;
            }
        }
        for (k, mut stack) in stacks.into_iter().enumerate() {
            if at(&self.steps.output_directions, k) == 1 {
                stack.reverse();
            }
            let ty = self.body.ty(self.body.outputs()[self.states + k].1);
            states.push(stack.finish(cx, at(&self.steps.output_axes, k), ty)?.into());
        }
        Ok(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, types};

    /// Running sums of the rows of x.
    const SUMS: &str = "s: f32[2]\nx: f32[T,2]\n\
        y, z = Scan(s, x) {num_scan_inputs=1, body=graph {\n\
        a: f32[2]\n b: f32[2]\n c = Add(a, b)\n d = Identity(c)\n return c, d\n}}\nreturn y, z";

    fn sums(attrs: &str, shape: &[usize]) -> Vec<Tensor> {
        let x = Tensor::from_vec(shape, (1..=6).map(|i| i as f32).collect()).expect("six");
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        let t = SUMS
            .replace("num_scan_inputs=1", &format!("num_scan_inputs=1{attrs}"))
            .replace("f32[T,2]", &format!("f32[{}]", dims.join(",")));
        let out = run(&t, &[Tensor::zeros(x.dtype(), &[2]).expect("zeros"), x]).expect("runs");
        out.iter().map(|d| d.as_tensor().expect("tensor").clone()).collect()
    }

    fn check(t: &Tensor, shape: &[usize], want: &[f32]) {
        assert_eq!(t.shape(), shape);
        assert_eq!(t.as_slice::<f32>().expect("f32"), want);
    }

    #[test]
    fn states_and_steps() {
        let out = sums("", &[3, 2]);
        check(&out[0], &[2], &[9.0, 12.0]);
        check(&out[1], &[3, 2], &[1.0, 2.0, 4.0, 6.0, 9.0, 12.0]);
        assert_eq!(types(SUMS).expect("types"), ["f32[2]", "f32[T,2]"]);
    }

    #[test]
    fn directions_and_axes() {
        let out = sums(", scan_input_directions=[1]", &[3, 2]);
        check(&out[1], &[3, 2], &[5.0, 6.0, 8.0, 10.0, 9.0, 12.0]);
        let out = sums(", scan_output_directions=[1]", &[3, 2]);
        check(&out[1], &[3, 2], &[9.0, 12.0, 4.0, 6.0, 1.0, 2.0]);
        let out = sums(", scan_output_axes=[-1]", &[3, 2]);
        check(&out[1], &[2, 3], &[1.0, 4.0, 9.0, 2.0, 6.0, 12.0]);
        let out = sums(", scan_input_axes=[1]", &[2, 3]);
        check(&out[1], &[3, 2], &[1.0, 4.0, 3.0, 9.0, 6.0, 15.0]);
    }

    #[test]
    fn no_steps_at_all() {
        let none = Tensor::zeros(kiln_tensor::DType::F32, &[0, 2]).expect("empty");
        let out = run(SUMS, &[Tensor::vector(vec![1f32, 2.0]), none]).expect("runs");
        check(out[0].as_tensor().expect("t"), &[2], &[1.0, 2.0]);
        check(out[1].as_tensor().expect("t"), &[0, 2], &[]);
    }

    #[test]
    fn captured_values_come_last() {
        let t = "x: f32[T]\nk: f32[]\ny = Scan(x, k) {num_scan_inputs=1, captures=1, body=graph {\n\
                 b: f32[]\n k: f32[]\n c = Mul(b, k)\n return c\n}}\nreturn y";
        let out = run(t, &[Tensor::vector(vec![1f32, 2.0]), Tensor::scalar(3f32)]).expect("runs");
        check(out[0].as_tensor().expect("t"), &[2], &[3.0, 6.0]);
        assert_eq!(types(t).expect("types"), ["f32[T]"]);
    }

    #[test]
    fn wrong_scans_are_errors() {
        for (from, to) in [
            ("num_scan_inputs=1", "num_scan_inputs=0"),
            ("num_scan_inputs=1", "num_scan_inputs=3"),
            ("num_scan_inputs=1", "num_scan_inputs=1, scan_input_axes=[2]"),
            ("num_scan_inputs=1", "num_scan_inputs=1, scan_input_axes=[0,0]"),
            ("num_scan_inputs=1", "num_scan_inputs=1, scan_output_axes=[5]"),
            ("num_scan_inputs=1", "num_scan_inputs=1, scan_output_directions=[2]"),
            ("num_scan_inputs=1", "num_scan_inputs=1, captures=2"),
            ("f32[T,2]", "f32[]"),
        ] {
            assert!(types(&SUMS.replace(from, to)).is_err(), "{to}");
        }
        let t = "x: f32[2]\nz: f32[3]\ny = Scan(x, z) {num_scan_inputs=2, body=graph {\n\
                 a: f32[]\n b: f32[]\n c = Add(a, b)\n return c\n}}\nreturn y";
        assert!(types(t).expect_err("2 and 3").message().contains("steps"));
    }

    #[test]
    fn the_first_version_has_a_batch() {
        let x = Tensor::from_vec(&[2, 3, 1], (1..=6).map(|i| i as f32).collect()).expect("2x3x1");
        let s = Tensor::from_vec(&[2, 1], vec![0f32, 10.0]).expect("2x1");
        let body = "a: f32[1]\n b: f32[1]\n c = Add(a, b)\n d = Identity(c)\n return c, d";
        let eight = |lens: Option<Tensor>, directions: &str| -> Result<Vec<Tensor>> {
            let mut g = Graph::new();
            let lens = lens.map(|t| g.constant("lens", t));
            let (a, b) = (g.constant("s", s.clone()), g.constant("x", x.clone()));
            let body = Arc::new(crate::text::parse(body)?);
            let mut attrs = Attrs::default().with("num_scan_inputs", 1i64).with("body", body);
            if !directions.is_empty() {
                attrs = attrs.with("directions", vec![1i64]);
            }
            let inputs = vec![lens, Some(a), Some(b)];
            let spec = crate::schema::NodeSpec {
                op: "Scan",
                opset: 8,
                name: "y",
                inputs,
                attrs,
                outputs: 2,
            };
            let out = crate::schema::add(&mut g, spec)?;
            g.set_outputs(out.iter().map(|v| ("o".into(), *v)).collect());
            let out = crate::eval::run(&g, &Context::default(), vec![])?;
            out.iter().map(|d| Ok(d.as_tensor()?.clone())).collect()
        };
        let out = eight(None, "").expect("runs");
        check(&out[0], &[2, 1], &[6.0, 25.0]);
        check(&out[1], &[2, 3, 1], &[1.0, 3.0, 6.0, 14.0, 19.0, 25.0]);
        let out = eight(None, "back").expect("runs");
        check(&out[1], &[2, 3, 1], &[3.0, 5.0, 6.0, 16.0, 21.0, 25.0]);
        let out = eight(Some(Tensor::vector(vec![2i64, 3])), "").expect("runs");
        check(&out[0], &[2, 1], &[3.0, 25.0]);
        check(&out[1], &[2, 3, 1], &[1.0, 3.0, 0.0, 14.0, 19.0, 25.0]);
    }
}
