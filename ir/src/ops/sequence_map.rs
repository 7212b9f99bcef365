//! A body run for every element of a list.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::Datum;

use super::control::{Budget, captures, given, inward, is_random, outputs_of, run};
use crate::{
    Attrs, Context, Error, Fact, Graph, Infer, Operator, Result, Schema, Traits, Type, invalid,
};

/// `SequenceMap`: lists of what a body makes of the elements of lists.
///
/// Inputs: a list, then lists of the same length and tensors that every step sees, then the
/// captured values. The body takes an element of each list, the tensors and the captured values.
#[derive(Clone, Debug)]
pub struct SequenceMap {
    body: Arc<Graph>,
    captures: usize,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "SequenceMap",
    since: 17,
    build: |b| {
        let captures = captures(b)?;
        let body: Arc<Graph> = b.require("body")?;
        let given = b.inputs.len();
        if body.inputs().len() != given || given == captures {
            invalid!("the body takes {} inputs, the map gives {given}", body.inputs().len());
        }
        Ok(SequenceMap { body, captures }.into())
    },
}];

impl SequenceMap {
    /// The body.
    pub fn body(&self) -> &Arc<Graph> {
        &self.body
    }

    fn own(&self) -> usize {
        self.body.inputs().len() - self.captures
    }
}

/// The type of the elements of a list: lengths that may differ between them are not told.
fn listed(ty: Type, outer: impl Fn(&str) -> bool) -> Type {
    let Type::Tensor(t) = &ty else { return Type::Sequence(ty.into()) };
    let mut known = true;
    for d in t.shape.iter().flatten() {
        d.symbols(&mut |s| known &= outer(s.name()));
    }
    Type::Sequence(if known { ty } else { Type::tensor(t.dtype, None) }.into())
}

impl Operator for SequenceMap {
    fn name(&self) -> &str {
        "SequenceMap"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
            .with("captures", (self.captures > 0).then_some(self.captures as i64))
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
        let mut symbols = std::collections::HashSet::new();
        let mut inputs = Vec::new();
        for i in 0..self.body.inputs().len() {
            let ty = match cx.ty(i)? {
                Type::Sequence(inner) if i < self.own() => inner,
                other if i == 0 => invalid!("expected a sequence, found {other}"),
                other => other,
            };
            if let Type::Tensor(t) = ty {
                for d in t.shape.iter().flatten() {
                    d.symbols(&mut |s| {
                        symbols.insert(s.name().to_owned());
                    });
                }
            }
            inputs.push(inward(ty));
        }
        let types = outputs_of(cx, &self.body, inputs).into_iter();
        Ok(types.map(|ty| listed(ty, |s| symbols.contains(s)).into()).collect())
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let given: Vec<&Datum> =
            (0..self.body.inputs().len()).map(|i| given(inputs, i)).collect::<Result<_>>()?;
        let steps = given[0].as_sequence()?.len();
        if steps as u64 > cx.limits.loop_trips {
            return Err(Error::limit("loop-trips", format!("a map has {steps} steps")));
        }
        for (i, d) in given.iter().enumerate().take(self.own()) {
            match d {
                Datum::Sequence(s) if s.len() != steps => {
                    invalid!("sequence {i} has {} elements, the first has {steps}", s.len())
                }
                _ => {}
            }
        }
        let (inner, mut budget) = (cx.nested()?, Budget::new(cx));
        let mut lists = vec![Vec::new(); self.body.outputs().len()];
        for step in 0..steps {
            cx.trip()?;
            let element = |(i, d): (usize, &&Datum)| match d {
                Datum::Sequence(s) if i < self.own() => s[step].clone(),
                other => (*other).clone(),
            };
            let made = run(&self.body, &inner, given.iter().enumerate().map(element).collect())?;
            for (list, value) in lists.iter_mut().zip(made) {
                budget.keep(&value)?;
                list.push(value);
            }
        }
        Ok(lists.into_iter().map(Datum::Sequence).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, types};
    use kiln_tensor::Tensor;

    const TEXT: &str = "x: f32[2,3]\nk: f32[]\ns = SplitToSequence(x) {axis=0, keepdims=0}\n\
        t = SplitToSequence(x) {axis=0, keepdims=0}\n\
        y, z = SequenceMap(s, t, k) {captures=1, body=graph {\n\
        a: f32[..]\n b: f32[..]\n k: f32[]\n c = Add(a, b)\n d = Mul(c, k)\n\
        e = Shape(a)\n return d, e\n}}\nreturn y, z";

    #[test]
    fn every_element() {
        let x = Tensor::from_vec(&[2, 3], (0..6).map(|i| i as f32).collect()).expect("2x3");
        let out = run(TEXT, &[x, Tensor::scalar(0.5f32)]).expect("runs");
        let want = [vec![0f32, 1.0, 2.0], vec![3.0, 4.0, 5.0]];
        let want: Vec<Datum> = want.map(|v| Tensor::vector(v).into()).to_vec();
        assert_eq!(out[0], Datum::Sequence(want));
        assert_eq!(out[1], Datum::Sequence(vec![Tensor::vector(vec![3i64]).into(); 2]));
        assert_eq!(types(TEXT).expect("types"), ["seq(f32[3])", "seq(i64[1])"]);
    }

    #[test]
    fn lists_must_be_as_long_and_bodies_fit() {
        let uneven = TEXT.replacen("{axis=0, keepdims=0}", "{axis=1, keepdims=0}", 1);
        let x = Tensor::from_vec(&[2, 3], vec![0f32; 6]).expect("2x3");
        let e = run(&uneven, &[x, Tensor::scalar(1f32)]).expect_err("3 and 2");
        assert!(e.message().contains("elements"), "{e}");
        assert!(types(&TEXT.replace("captures=1", "captures=3")).is_err());
        assert!(types(&TEXT.replace("(s, t, k)", "(s, t)")).is_err());
        assert!(types(&TEXT.replace("(s, t, k)", "(x, t, k)")).is_err());
    }
}
