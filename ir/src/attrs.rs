//! Attributes: named values of an operator, and their way into typed fields and back.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use kiln_tensor::{DType, Tensor};

use crate::{Error, Graph, Result, invalid};

/// One attribute value.
#[derive(Clone, Debug)]
pub enum Attr {
    /// An integer; booleans too.
    Int(i64),
    /// A float.
    Float(f32),
    /// A string.
    String(String),
    /// A tensor.
    Tensor(Tensor),
    /// The body of an If, a Loop or a Scan.
    Graph(Arc<Graph>),
    /// Integers.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// Strings.
    Strings(Vec<String>),
    /// Tensors.
    Tensors(Vec<Tensor>),
}

impl PartialEq for Attr {
    /// Floats are compared by their bits, bodies by identity.
    fn eq(&self, other: &Self) -> bool {
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        match (self, other) {
            (Attr::Int(a), Attr::Int(b)) => a == b,
            (Attr::Float(a), Attr::Float(b)) => a.to_bits() == b.to_bits(),
            (Attr::String(a), Attr::String(b)) => a == b,
            (Attr::Tensor(a), Attr::Tensor(b)) => a == b,
            (Attr::Graph(a), Attr::Graph(b)) => Arc::ptr_eq(a, b),
            (Attr::Ints(a), Attr::Ints(b)) => a == b,
            (Attr::Floats(a), Attr::Floats(b)) => bits(a) == bits(b),
            (Attr::Strings(a), Attr::Strings(b)) => a == b,
            (Attr::Tensors(a), Attr::Tensors(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Attr {}

impl Hash for Attr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Attr::Int(x) => x.hash(state),
            Attr::Float(x) => x.to_bits().hash(state),
            Attr::String(x) => x.hash(state),
            Attr::Tensor(x) => x.hash(state),
            Attr::Graph(x) => Arc::as_ptr(x).hash(state),
            Attr::Ints(x) => x.hash(state),
            Attr::Floats(x) => x.iter().for_each(|x| x.to_bits().hash(state)),
            Attr::Strings(x) => x.hash(state),
            Attr::Tensors(x) => x.hash(state),
        }
    }
}

/// The attributes of one node, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attrs(BTreeMap<String, Attr>);

impl Attrs {
    /// Sets an attribute.
    pub fn set(&mut self, name: &str, value: Attr) {
        self.0.insert(name.to_owned(), value);
    }

    /// Sets an attribute, and returns the set.
    #[must_use]
    pub fn with<T: AttrValue>(mut self, name: &str, value: T) -> Self {
        if let Some(a) = value.into_attr() {
            self.set(name, a);
        }
        self
    }

    /// Whether the attribute is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The attribute as it stands.
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.0.get(name)
    }

    /// Removes the attribute and converts it; an error where it has another kind.
    pub fn take<T: AttrValue>(&mut self, name: &str) -> Result<Option<T>> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(a) => T::from_attr(a)
                .map(Some)
                .map_err(|e| Error::invalid(format!("attribute `{name}`: {}", e.message()))),
        }
    }

    /// As `take`; an error where the attribute is missing.
    pub fn require<T: AttrValue>(&mut self, name: &str) -> Result<T> {
        self.take(name)?.ok_or_else(|| Error::invalid(format!("attribute `{name}` is missing")))
    }

    /// The attributes in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attr)> {
        self.0.iter().map(|(n, a)| (n.as_str(), a))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A Rust type that an attribute can be read into and written from.
pub trait AttrValue: Sized {
    /// Reads the value; an error where the attribute is of another kind.
    fn from_attr(attr: Attr) -> Result<Self>;
    /// Writes the value; `None` where there is nothing to write.
    fn into_attr(self) -> Option<Attr>;
}

macro_rules! attr_values {
    ($($t:ty, $variant:ident, $word:literal;)*) => {$(
        impl AttrValue for $t {
            fn from_attr(attr: Attr) -> Result<Self> {
                match attr {
                    Attr::$variant(x) => Ok(x),
                    _ => invalid!(concat!("expected ", $word)),
                }
            }
            fn into_attr(self) -> Option<Attr> {
                Some(Attr::$variant(self))
            }
        }
    )*};
}

attr_values! {
    i64, Int, "an integer";
    f32, Float, "a float";
    String, String, "a string";
    Tensor, Tensor, "a tensor";
    Arc<Graph>, Graph, "a graph";
    Vec<i64>, Ints, "integers";
    Vec<f32>, Floats, "floats";
    Vec<String>, Strings, "strings";
    Vec<Tensor>, Tensors, "tensors";
}

impl AttrValue for bool {
    fn from_attr(attr: Attr) -> Result<Self> {
        i64::from_attr(attr).map(|x| x != 0)
    }
    fn into_attr(self) -> Option<Attr> {
        Some(Attr::Int(self.into()))
    }
}

/// The element types by their numbers in ONNX files; the rest of the numbers mean none.
const DTYPES: &[(i64, DType)] = &[
    (1, DType::F32),
    (2, DType::U8),
    (3, DType::I8),
    (4, DType::U16),
    (5, DType::I16),
    (6, DType::I32),
    (7, DType::I64),
    (8, DType::String),
    (9, DType::Bool),
    (10, DType::F16),
    (11, DType::F64),
    (12, DType::U32),
    (13, DType::U64),
    (14, DType::C64),
    (15, DType::C128),
    (16, DType::BF16),
    (17, DType::F8E4M3FN),
    (18, DType::F8E4M3FNUZ),
    (19, DType::F8E5M2),
    (20, DType::F8E5M2FNUZ),
    (21, DType::U4),
    (22, DType::I4),
    (23, DType::F4E2M1),
    (24, DType::F8E8M0),
    (25, DType::U2),
    (26, DType::I2),
    (27, DType::F6E2M3),
    (28, DType::F6E3M2),
];

impl AttrValue for DType {
    /// Reads the number that ONNX gives the type, or (as in opset 1) its name.
    fn from_attr(attr: Attr) -> Result<Self> {
        if let Attr::String(name) = &attr {
            return named_dtype(name);
        }
        let n = i64::from_attr(attr)?;
        let found = DTYPES.iter().find(|(code, _)| *code == n).map(|&(_, d)| d);
        found.ok_or_else(|| Error::invalid(format!("{n} is the number of no element type")))
    }
    fn into_attr(self) -> Option<Attr> {
        DTYPES.iter().find(|(_, d)| *d == self).map(|&(code, _)| Attr::Int(code))
    }
}

/// The type of this name in the schema of ONNX files, such as `FLOAT`.
fn named_dtype(name: &str) -> Result<DType> {
    Ok(match name {
        "FLOAT" => DType::F32,
        "DOUBLE" => DType::F64,
        "STRING" => DType::String,
        "COMPLEX64" => DType::C64,
        "COMPLEX128" => DType::C128,
        "FLOAT16" => DType::F16,
        "BOOL" => DType::Bool,
        "UINT8" => DType::U8,
        "UINT16" => DType::U16,
        "UINT32" => DType::U32,
        "UINT64" => DType::U64,
        "INT8" => DType::I8,
        "INT16" => DType::I16,
        "INT32" => DType::I32,
        "INT64" => DType::I64,
        _ => invalid!("`{name}` is the name of no element type"),
    })
}

impl<T: AttrValue> AttrValue for Option<T> {
    fn from_attr(attr: Attr) -> Result<Self> {
        T::from_attr(attr).map(Some)
    }
    fn into_attr(self) -> Option<Attr> {
        self.and_then(T::into_attr)
    }
}

/// Declares an attribute struct: fields with their ONNX names, types and defaults.
///
/// ```text
/// attrs! {
///     /// Documentation.
///     pub struct Gemm {
///         /// Factor of the product.
///         alpha: f32 = 1.0,
///         /// Whether A is transposed.
///         trans_a "transA": bool = false,
///         /// No default: an error where it is missing.
///         axis: i64,
///     }
/// }
/// ```
/// It makes the struct, `Gemm::read(&mut Attrs)` and `Gemm::write(&self) -> Attrs`, which
/// leaves out what equals its default.
#[macro_export]
macro_rules! attrs {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$doc:meta])* $field:ident $($onnx:literal)? : $t:ty $(= $default:expr)?),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[$doc])* pub $field: $t,)* }

        impl $name {
            /// Reads the fields from attributes; an error names the attribute that is wrong.
            #[allow(unused_variables)]
            pub fn read(attrs: &mut $crate::Attrs) -> $crate::Result<Self> {
                Ok(Self {
                    $($field: $crate::attrs!(
                        @read attrs, $crate::attrs!(@name $field $($onnx)?), $t $(, $default)?
                    ),)*
                })
            }

            /// Writes the fields as attributes, defaults left out.
            #[allow(unused_mut)]
            pub fn write(&self) -> $crate::Attrs {
                let mut attrs = $crate::Attrs::default();
                $($crate::attrs!(
                    @write attrs, $crate::attrs!(@name $field $($onnx)?), self.$field, $t
                    $(, $default)?
                );)*
                attrs
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $onnx:literal) => { $onnx };
    (@read $attrs:ident, $n:expr, $t:ty) => { $attrs.require::<$t>($n)? };
    (@read $attrs:ident, $n:expr, $t:ty, $d:expr) => {
        match $attrs.take::<$t>($n)? {
            Some(value) => value,
            None => $d,
        }
    };
    (@write $attrs:ident, $n:expr, $v:expr, $t:ty) => {
        if let Some(a) = <$t as $crate::AttrValue>::into_attr($v.clone()) {
            $attrs.set($n, a);
        }
    };
    (@write $attrs:ident, $n:expr, $v:expr, $t:ty, $d:expr) => {
        let default: $t = $d;
        let default = <$t as $crate::AttrValue>::into_attr(default);
        let value = <$t as $crate::AttrValue>::into_attr($v.clone());
        if let Some(a) = value.filter(|a| Some(a) != default.as_ref()) {
            $attrs.set($n, a);
        }
    };
}

/// Declares an enum whose variants are the strings of an attribute.
#[macro_export]
macro_rules! attr_enum {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$doc:meta])* $variant:ident = $text:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// The attribute's string.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl $crate::AttrValue for $name {
            fn from_attr(attr: $crate::Attr) -> $crate::Result<Self> {
                let text = <String as $crate::AttrValue>::from_attr(attr)?;
                match text.as_str() {
                    $($text => Ok(Self::$variant),)*
                    other => Err($crate::Error::invalid(format!(
                        "`{other}` is none of {}", [$($text),*].join(", ")
                    ))),
                }
            }
            fn into_attr(self) -> Option<$crate::Attr> {
                Some($crate::Attr::String(self.text().to_owned()))
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    attrs! {
        /// An example.
        pub struct Example {
            /// With a default.
            alpha: f32 = 1.0,
            /// With another name.
            trans_a "transA": bool = false,
            /// Required.
            axis: i64,
            /// Optional.
            pads: Option<Vec<i64>> = None,
        }
    }

    #[test]
    fn fields_are_read_and_written() {
        let mut a = Attrs::default().with("axis", 2i64).with("transA", true);
        let e = Example::read(&mut a).expect("complete");
        assert_eq!(e, Example { alpha: 1.0, trans_a: true, axis: 2, pads: None });
        assert!(a.is_empty());
        assert_eq!(e.write(), Attrs::default().with("axis", 2i64).with("transA", true));
    }

    #[test]
    fn every_element_type_has_a_number() {
        for &d in DType::ALL {
            let attr = d.into_attr().expect("a number");
            assert_eq!(DType::from_attr(attr).expect("reads back"), d);
        }
        assert!(DType::from_attr(Attr::Int(0)).is_err());
        assert_eq!(DType::from_attr(Attr::String("INT64".into())).expect("name"), DType::I64);
    }

    #[test]
    fn errors_name_the_attribute() {
        let missing = Example::read(&mut Attrs::default()).expect_err("no axis");
        assert_eq!(missing.message(), "attribute `axis` is missing");
        let wrong = Example::read(&mut Attrs::default().with("axis", 1f32)).expect_err("float");
        assert_eq!(wrong.message(), "attribute `axis`: expected an integer");
    }
}
