//! Casts a value once instead of twice.
//!
//! ```text
//! a = Cast(x: f32) {to=f64}
//! y = Cast(a) {to=f16}        =>   y = Cast(x) {to=f16}
//! ```
//!
//! Saves one of two conversions of all elements. Exact: only where the type between holds every
//! value of the type of `x`.

use kiln_ir::{Attrs, Decline, Edit, Graph, NodeId, Operator, Rewrite, Source, Verdict};
use kiln_tensor::DType;

/// See the module.
pub struct CastChain;

impl Rewrite for CastChain {
    fn name(&self) -> &'static str {
        "cast_chain"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let is_cast = |n| g.op(n).name() == "Cast";
        let Some(middle) = g.input_of(root, 0).filter(|m| is_cast(root) && is_cast(m.node)) else {
            return Ok(None);
        };
        let Some(x) = g.input_of(middle.node, 0) else { return Ok(None) };
        let dtype = |v| g.ty(v).as_tensor().map(|t| t.dtype).ok();
        let (Some(from), Some(between), Some(to)) = (dtype(x), dtype(middle), dtype(root.first()))
        else {
            return Ok(None);
        };
        if !holds(between, from) {
            return Err(Decline::new("the type between does not hold every value"));
        }
        let mut e = Edit::default();
        if from == to {
            e.replace(root.first(), x);
        } else {
            let attrs = Attrs::default().with("to", to);
            let y = e.call("Cast", &[Some(Source::from(x))], attrs);
            e.replace(root.first(), y);
        }
        Ok(Some(e))
    }
}

/// Whether every value of `narrow` is one of `wide`.
fn holds(wide: DType, narrow: DType) -> bool {
    // Bits of the fraction with the leading one, and the exponents of floats; bits of integers.
    let float = |d| match d {
        DType::F64 => Some((53, 11)),
        DType::F32 => Some((24, 8)),
        DType::BF16 => Some((8, 8)),
        DType::F16 => Some((11, 5)),
        _ => None,
    };
    let int = |d| match d {
        DType::Bool => Some((1, false)),
        DType::U8 => Some((8, false)),
        DType::U16 => Some((16, false)),
        DType::U32 => Some((32, false)),
        DType::U64 => Some((64, false)),
        DType::I8 => Some((7, true)),
        DType::I16 => Some((15, true)),
        DType::I32 => Some((31, true)),
        DType::I64 => Some((63, true)),
        _ => None,
    };
    // A truth value is 1 for every number that is not 0: nothing but itself comes through.
    if wide == narrow {
        return true;
    }
    if wide == DType::Bool {
        return false;
    }
    match (float(wide), int(wide), float(narrow), int(narrow)) {
        (Some(w), _, Some(n), _) => w.0 >= n.0 && w.1 >= n.1,
        (Some(w), _, _, Some((bits, _))) => w.1 >= 8 && w.0 >= bits,
        (_, Some((w, wide_sign)), _, Some((n, narrow_sign))) => {
            w >= n && (wide_sign || !narrow_sign)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn leaves_out_a_wider_type_between() {
        check(
            &CastChain,
            "a = Cast(x: f32[N]) {to=11}\nb = Cast(a) {to=10}\nc = Cast(i: i32[N]) {to=7}\n\
             d = Cast(c) {to=6}\ny = Relu(b)\nreturn y, d",
            expect![[r#"
                x: f32[N]
                i: i32[N]
                b = Cast(x) {to=10}
                y = Relu(b)
                return y, d=i
            "#]],
        );
    }

    #[test]
    fn keeps_what_rounds_or_wraps() {
        check(
            &CastChain,
            "a = Cast(x: f32[N]) {to=10}\ny = Cast(a) {to=1}\nb = Cast(i: i64[N]) {to=6}\n\
             z = Cast(b) {to=7}\nreturn y, z",
            expect![[r#"
                (unchanged)
                # cast_chain @ y: the type between does not hold every value
                # cast_chain @ z: the type between does not hold every value
            "#]],
        );
    }

    #[test]
    fn types_hold_what_they_can_tell_apart() {
        for (wide, narrow, want) in [
            (DType::F64, DType::I32, true),
            (DType::F64, DType::I64, false),
            (DType::F32, DType::U16, true),
            (DType::F16, DType::U8, false),
            (DType::F16, DType::BF16, false),
            (DType::I64, DType::U32, true),
            (DType::U64, DType::I8, false),
            (DType::I8, DType::Bool, true),
            (DType::Bool, DType::I8, false),
        ] {
            assert_eq!(holds(wide, narrow), want, "{wide} {narrow}");
        }
    }
}
