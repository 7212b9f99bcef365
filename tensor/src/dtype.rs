//! The element types of ONNX.

use std::fmt;
use std::str::FromStr;

macro_rules! dtypes {
    ($($variant:ident $text:literal $size:literal $bits:literal $class:ident $doc:literal;)*) => {
        /// The type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType { $(#[doc = $doc] $variant,)* }

        impl DType {
            /// Every element type, in the order of declaration.
            pub const ALL: &'static [DType] = &[$(DType::$variant,)*];

            /// The short name that the IR text and messages use, such as `f32`.
            pub fn name(self) -> &'static str {
                match self { $(DType::$variant => $text,)* }
            }

            /// Bytes of one element in memory; sub-byte types take a whole byte, strings 0.
            pub fn size(self) -> usize {
                match self { $(DType::$variant => $size,)* }
            }

            /// Bits of one element in a packed file; strings 0.
            pub fn bits(self) -> usize {
                match self { $(DType::$variant => $bits,)* }
            }

            fn class(self) -> Class {
                match self { $(DType::$variant => Class::$class,)* }
            }
        }
    };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Float,
    Signed,
    Unsigned,
    Other,
}

dtypes! {
    F64 "f64" 8 64 Float "IEEE double precision.";
    F32 "f32" 4 32 Float "IEEE single precision.";
    F16 "f16" 2 16 Float "IEEE half precision.";
    BF16 "bf16" 2 16 Float "The upper half of an `f32`.";
    F8E4M3FN "f8e4m3fn" 1 8 Float "4 exponent bits, no infinities.";
    F8E4M3FNUZ "f8e4m3fnuz" 1 8 Float "4 exponent bits, no infinities, no negative zero.";
    F8E5M2 "f8e5m2" 1 8 Float "5 exponent bits, with infinities.";
    F8E5M2FNUZ "f8e5m2fnuz" 1 8 Float "5 exponent bits, no infinities, no negative zero.";
    F8E8M0 "f8e8m0" 1 8 Float "A power of two: an exponent and nothing else.";
    F6E2M3 "f6e2m3" 1 6 Float "6-bit float, up to 7.5; one byte each in memory.";
    F6E3M2 "f6e3m2" 1 6 Float "6-bit float, up to 28; one byte each in memory.";
    F4E2M1 "f4e2m1" 1 4 Float "4-bit float; one byte each in memory.";
    I64 "i64" 8 64 Signed "Signed 64-bit integer.";
    I32 "i32" 4 32 Signed "Signed 32-bit integer.";
    I16 "i16" 2 16 Signed "Signed 16-bit integer.";
    I8 "i8" 1 8 Signed "Signed 8-bit integer.";
    I4 "i4" 1 4 Signed "Signed 4-bit integer; one byte each in memory.";
    I2 "i2" 1 2 Signed "Signed 2-bit integer; one byte each in memory.";
    U64 "u64" 8 64 Unsigned "Unsigned 64-bit integer.";
    U32 "u32" 4 32 Unsigned "Unsigned 32-bit integer.";
    U16 "u16" 2 16 Unsigned "Unsigned 16-bit integer.";
    U8 "u8" 1 8 Unsigned "Unsigned 8-bit integer.";
    U4 "u4" 1 4 Unsigned "Unsigned 4-bit integer; one byte each in memory.";
    U2 "u2" 1 2 Unsigned "Unsigned 2-bit integer; one byte each in memory.";
    Bool "bool" 1 8 Other "True or false.";
    String "str" 0 0 Other "UTF-8 text.";
    C64 "c64" 8 64 Other "Complex number of two `f32`.";
    C128 "c128" 16 128 Other "Complex number of two `f64`.";
}

impl DType {
    /// Whether this is one of the floating-point types.
    pub fn is_float(self) -> bool {
        self.class() == Class::Float
    }

    /// Whether this is a signed or unsigned integer type.
    pub fn is_integer(self) -> bool {
        matches!(self.class(), Class::Signed | Class::Unsigned)
    }

    /// Whether this is a signed integer type.
    pub fn is_signed(self) -> bool {
        self.class() == Class::Signed
    }

    /// Whether this is a float or an integer type.
    pub fn is_number(self) -> bool {
        self.class() != Class::Other
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        DType::ALL.iter().copied().find(|d| d.name() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_parse_back() {
        for &d in DType::ALL {
            assert_eq!(d.name().parse(), Ok(d));
        }
        assert_eq!("f31".parse::<DType>(), Err(()));
    }
}
