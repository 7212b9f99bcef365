//! What a graph begins with: its inputs and its constants.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Tensor};

use crate::{Attrs, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, Type, invalid};

/// An input of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The declared type.
    pub ty: Box<Type>,
}

/// A constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Const(pub Arc<Tensor>);

impl Const {
    /// What is known of it: everything.
    pub fn fact(&self) -> Fact {
        let t = &self.0;
        let shape = t.shape().iter().map(|&d| Dim::from(d)).collect();
        Fact::shaped(t.dtype(), shape)
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "Constant",
    since: 1,
    build: |b| {
        let t = constant(&mut b.attrs)?;
        let name = b.name.clone();
        Ok(b.graph.constant(&name, t).into())
    },
}];

/// Reads whichever of Constant's attributes is there.
fn constant(a: &mut Attrs) -> Result<Tensor> {
    if let Some(t) = a.take::<Tensor>("value")? {
        return Ok(t);
    }
    if let Some(t) = a.take::<Tensor>("sparse_value")? {
        return Ok(t);
    }
    if let Some(x) = a.take::<f32>("value_float")? {
        return Ok(Tensor::scalar(x));
    }
    if let Some(x) = a.take::<i64>("value_int")? {
        return Ok(Tensor::scalar(x));
    }
    if let Some(x) = a.take::<String>("value_string")? {
        return Ok(Tensor::from_strings(&[], vec![x])?);
    }
    if let Some(x) = a.take::<Vec<f32>>("value_floats")? {
        return Ok(Tensor::vector(x));
    }
    if let Some(x) = a.take::<Vec<i64>>("value_ints")? {
        return Ok(Tensor::vector(x));
    }
    if let Some(x) = a.take::<Vec<String>>("value_strings")? {
        return Ok(Tensor::from_strings(&[x.len()], x)?);
    }
    invalid!("a Constant needs one of value, value_float, value_int, value_string and their lists")
}

impl Operator for Input {
    fn name(&self) -> &str {
        "Input"
    }
    fn attrs(&self) -> Attrs {
        Attrs::default()
    }
    fn arity(&self) -> RangeInclusive<usize> {
        0..=0
    }
    fn infer(&self, _: &mut Infer<'_>) -> Result<Vec<Fact>> {
        Ok(vec![(*self.ty).clone().into()])
    }
    fn eval(&self, _: &Context, _: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        Err(Error::bug("an input has no definition"))
    }
}

impl Operator for Const {
    fn name(&self) -> &str {
        "Constant"
    }
    fn attrs(&self) -> Attrs {
        match (self.0.dtype(), self.0.rank()) {
            (DType::String, 0) => Attrs::default()
                .with("value_string", self.0.strings().map(|s| s[0].clone()).unwrap_or_default()),
            _ => Attrs::default().with("value", (*self.0).clone()),
        }
    }
    fn arity(&self) -> RangeInclusive<usize> {
        0..=0
    }
    fn infer(&self, _: &mut Infer<'_>) -> Result<Vec<Fact>> {
        Ok(vec![self.fact()])
    }
    fn eval(&self, _: &Context, _: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        Ok(vec![(*self.0).clone().into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run1;

    #[test]
    fn every_form_of_constant() {
        let c = |attr: &str| run1(&format!("c = Constant() {{{attr}}}\nreturn c"), &[]);
        assert_eq!(c("value_int=3").expect("int"), Tensor::scalar(3i64));
        assert_eq!(c("value_floats=[1.0,2.0]").expect("floats"), Tensor::vector(vec![1f32, 2.0]));
        assert_eq!(c("value=i32[1]{7}").expect("tensor"), Tensor::vector(vec![7i32]));
        assert!(c("values=1").is_err());
    }
}
