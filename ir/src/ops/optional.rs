//! Values that may be missing.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use super::control::given;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, Type, invalid, text};

/// An operator on values that may be missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Optional {
    /// `Optional`: its input, or nothing of this type.
    Make(Option<Box<Type>>),
    /// `OptionalHasElement`: whether there is a value.
    Has,
    /// `OptionalGetElement`: the value; an error where there is none.
    Get,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "Optional",
        since: 15,
        build: |b| {
            let ty = b.take::<String>("type")?.map(|t| text::parse_type(&t)).transpose()?;
            Ok(Optional::Make(ty.map(Box::new)).into())
        },
    },
    Schema { name: "OptionalHasElement", since: 15, build: |_| Ok(Optional::Has.into()) },
    Schema { name: "OptionalGetElement", since: 15, build: |_| Ok(Optional::Get.into()) },
];

impl Operator for Optional {
    fn name(&self) -> &str {
        match self {
            Optional::Make(_) => "Optional",
            Optional::Has => "OptionalHasElement",
            Optional::Get => "OptionalGetElement",
        }
    }

    fn attrs(&self) -> Attrs {
        match self {
            Optional::Make(Some(ty)) => Attrs::default().with("type", ty.to_string()),
            _ => Attrs::default(),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Optional::Get => 1..=1,
            _ => 0..=1,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let ty = match self {
            Optional::Make(ty) => {
                let inner = match (cx.has(0), ty) {
                    (true, _) => cx.ty(0)?.clone(),
                    (false, Some(ty)) => (**ty).clone(),
                    (false, None) => invalid!("an Optional of nothing needs the attribute `type`"),
                };
                match inner {
                    Type::Optional(_) => invalid!("an optional of {inner} is not possible"),
                    inner => Type::Optional(inner.into()),
                }
            }
            Optional::Has => Type::tensor(DType::Bool, Some(vec![])),
            // What is not optional is always there.
            Optional::Get => match cx.ty(0)? {
                Type::Optional(inner) => (**inner).clone(),
                other => other.clone(),
            },
        };
        Ok(vec![ty.into()])
    }

    fn eval(&self, _: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let value = inputs.first().copied().flatten();
        Ok(vec![match self {
            Optional::Make(_) => Datum::Optional(value.cloned().map(Box::new)),
            Optional::Has => {
                let has = value.is_some_and(|v| !matches!(v, Datum::Optional(None)));
                Tensor::scalar(has).into()
            }
            Optional::Get => match given(inputs, 0)? {
                Datum::Optional(Some(v)) => (**v).clone(),
                Datum::Optional(None) => invalid!("the optional value is missing"),
                other => other.clone(),
            },
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, types};

    fn bools(t: &str, inputs: &[Tensor]) -> Vec<bool> {
        let out = run(t, inputs).expect("runs");
        out.iter().map(|d| d.as_tensor().expect("t").to_scalar().expect("bool")).collect()
    }

    #[test]
    fn there_or_not() {
        let t = "x: f32[2]\no = Optional(x)\nn = Optional() {type=\"seq(f32[..])\"}\n\
                 a = OptionalHasElement(o)\nb = OptionalHasElement(n)\n\
                 c = OptionalHasElement(x)\nd = OptionalHasElement()\nreturn a, b, c, d";
        assert_eq!(bools(t, &[Tensor::vector(vec![1f32, 2.0])]), [true, false, true, false]);
    }

    #[test]
    fn the_value_comes_out() {
        let t = "x: f32[2]\no = Optional(x)\na = OptionalGetElement(o)\n\
                 b = OptionalGetElement(x)\nreturn a, b";
        let x = Tensor::vector(vec![1f32, 2.0]);
        let out = run(t, std::slice::from_ref(&x)).expect("runs");
        assert_eq!(out, [Datum::from(x.clone()), x.into()]);
        let none = "n = Optional() {type=\"f32[3]\"}\ny = OptionalGetElement(n)\nreturn n, y";
        assert!(run(none, &[]).expect_err("none").message().contains("missing"));
        assert_eq!(types(none).expect("types"), ["opt(f32[3])", "f32[3]"]);
        let printed = crate::text::print_full(&crate::text::parse(none).expect("parses"));
        assert!(crate::text::parse(&printed).is_ok(), "{printed}");
    }

    #[test]
    fn wrong_optionals_are_errors() {
        assert!(types("n = Optional()\nreturn n").is_err());
        assert!(types("n = Optional() {type=\"f31[2]\"}\nreturn n").is_err());
        assert!(types("o = Optional(x: f32[])\np = Optional(o)\nreturn p").is_err());
    }
}
