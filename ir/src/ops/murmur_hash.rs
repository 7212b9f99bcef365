//! `com.microsoft.MurmurHash3`: a 32-bit hash of each element.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::tensor;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, attrs, invalid};

attrs! {
    /// MurmurHash3, the 32-bit form for x86, of the bytes of each element.
    #[derive(Copy)]
    pub struct MurmurHash3 {
        /// Whether the hashes are unsigned.
        positive: bool = true,
        /// Where hashing begins.
        seed: i64 = 0,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "com.microsoft.MurmurHash3",
    since: 1,
    build: |b| Ok(MurmurHash3::read(&mut b.attrs)?.into()),
}];

fn is_hashed(d: DType) -> bool {
    use DType::{F32, F64, I32, I64, String, U32, U64};
    matches!(d, I32 | U32 | I64 | U64 | F32 | F64 | String)
}

fn mix(k: u32) -> u32 {
    k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

/// The hash of some bytes.
fn hash(bytes: &[u8], seed: u32) -> u32 {
    let mut h = seed;
    let mut words = bytes.chunks_exact(4);
    for w in words.by_ref() {
        h ^= mix(u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        h = h.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let tail = words.remainder().iter().rev().fold(0, |k, &b| k << 8 | u32::from(b));
    h ^= mix(tail) ^ bytes.len() as u32;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

impl Operator for MurmurHash3 {
    fn name(&self) -> &str {
        "com.microsoft.MurmurHash3"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_hashed)?;
        let dtype = if self.positive { DType::U32 } else { DType::I32 };
        Ok(vec![Fact::tensor(dtype, cx.shape(0)?.map(<[_]>::to_vec))])
    }

    fn eval(&self, _: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let seed = self.seed as u32;
        let hashes: Vec<u32> = match x.strings() {
            Ok(s) => s.iter().map(|s| hash(s.as_bytes(), seed)).collect(),
            Err(_) if is_hashed(x.dtype()) => {
                x.bytes().chunks_exact(x.dtype().size()).map(|b| hash(b, seed)).collect()
            }
            Err(_) => invalid!("MurmurHash3 takes no {}", x.dtype()),
        };
        Ok(vec![if self.positive {
            Tensor::from_vec(x.shape(), hashes)?.into()
        } else {
            Tensor::from_vec(x.shape(), hashes.iter().map(|&h| h as i32).collect())?.into()
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    #[test]
    fn published_hashes() {
        for (text, seed, want) in [
            ("", 0, 0),
            ("", 1, 0x514e_28b7),
            ("a", 0x9747_b28c, 0x7fa0_9ea6),
            ("abc", 0x9747_b28c, 0xc84a_62dd),
            ("Hello, world!", 0x9747_b28c, 0x2488_4cba),
        ] {
            assert_eq!(hash(text.as_bytes(), seed), want, "{text}");
        }
    }

    #[test]
    fn signs_and_types() {
        let text = "y = com.microsoft.MurmurHash3(x: i32[N]) {positive=0, seed=1}\nreturn y";
        let y = run1(text, &[Tensor::vector(vec![0x6362_6100i32])]).expect("runs");
        assert_eq!(y, Tensor::vector(vec![hash(b"\0abc", 1) as i32]));
        let text = "y = com.microsoft.MurmurHash3(x: str[N])\nreturn y";
        assert_eq!(types(text).expect("types"), ["u32[N]"]);
        let x = Tensor::from_strings(&[1], vec!["".into()]).expect("1");
        assert_eq!(run1(text, &[x]).expect("runs"), Tensor::vector(vec![0u32]));
        assert!(types(&text.replace("str", "f16")).is_err());
    }
}
