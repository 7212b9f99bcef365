//! What the instructions of a program calculate, a tile at a time.

use kiln_ir::ops::compare::Compare;
use kiln_ir::ops::unary::Unary;

use super::math;
use super::widest::widest;

/// What an instruction calculates; truth values are 1 and 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    Copy,
    Unary(Unary),
    Not,
    IsNaN,
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    PRelu,
    Max,
    Min,
    /// The first operand, no less than the second.
    AtLeast,
    /// The first operand, no more than the second.
    AtMost,
    Compare(Compare),
    Scale(f32),
    /// `(x - zero) * scale`.
    Dequantize {
        scale: f32,
        zero: f32,
    },
    /// `x / scale` rounded, and the zero point, between the ends of the type.
    Quantize {
        scale: f32,
        zero: f32,
        least: f32,
        most: f32,
    },
    /// Where the first operand is true the second, else the third.
    Where,
}

widest! {
    /// Where `c` is true `a`, else `b`.
    pub(super) fn choose(c: &[f32], a: &[f32], b: &[f32], y: &mut [f32]) = choose_text
}

widest! {
    /// An instruction of two operands.
    pub(super) fn pairs(step: Step, a: &[f32], b: &[f32], y: &mut [f32]) = pairs_text
}

widest! {
    /// An instruction of one operand.
    pub(super) fn singles(step: Step, x: &[f32], y: &mut [f32]) = singles_text
}

#[inline(always)]
fn choose_text(c: &[f32], a: &[f32], b: &[f32], y: &mut [f32], _: impl math::Fma) {
    for (y, (&c, (&a, &b))) in y.iter_mut().zip(c.iter().zip(a.iter().zip(b))) {
        *y = if c != 0.0 { a } else { b };
    }
}

#[inline(always)]
fn zip(a: &[f32], b: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    for (y, (&a, &b)) in y.iter_mut().zip(a.iter().zip(b)) {
        *y = f(a, b);
    }
}

#[inline(always)]
fn truth(b: bool) -> f32 {
    if b { 1.0 } else { 0.0 }
}

#[inline(always)]
fn pairs_text(step: Step, a: &[f32], b: &[f32], y: &mut [f32], _: impl math::Fma) {
    match step {
        Step::Sub => zip(a, b, y, |a, b| a - b),
        Step::Mul => zip(a, b, y, |a, b| a * b),
        Step::Div => zip(a, b, y, |a, b| a / b),
        Step::PRelu => zip(a, b, y, |a, b| if a < 0.0 { a * b } else { a }),
        // NaN of either stays.
        Step::Max => zip(a, b, y, |a, b| if a >= b || a.is_nan() { a } else { b }),
        Step::Min => zip(a, b, y, |a, b| if a <= b || a.is_nan() { a } else { b }),
        Step::AtLeast => zip(a, b, y, |a, b| if a < b { b } else { a }),
        Step::AtMost => zip(a, b, y, |a, b| if a > b { b } else { a }),
        // The exponent is mostly one small number.
        Step::Pow if b.iter().all(|&b| b == 2.0) => zip(a, b, y, |a, _| a * a),
        Step::Pow => zip(a, b, y, f32::powf),
        Step::Compare(Compare::Less) => zip(a, b, y, |a, b| truth(a < b)),
        Step::Compare(Compare::LessOrEqual) => zip(a, b, y, |a, b| truth(a <= b)),
        Step::Compare(Compare::Greater) => zip(a, b, y, |a, b| truth(a > b)),
        Step::Compare(Compare::GreaterOrEqual) => zip(a, b, y, |a, b| truth(a >= b)),
        Step::Compare(Compare::Equal) => zip(a, b, y, |a, b| truth(a == b)),
        Step::Compare(Compare::And) => zip(a, b, y, |a, b| a * b),
        Step::Compare(Compare::Or) => zip(a, b, y, |a, b| if a != 0.0 { a } else { b }),
        Step::Compare(Compare::Xor) => zip(a, b, y, |a, b| truth(a != b)),
        _ => zip(a, b, y, |a, b| a + b),
    }
}

#[inline(always)]
fn singles_text(step: Step, x: &[f32], y: &mut [f32], _: impl math::Fma) {
    match step {
        Step::Not => y.iter_mut().zip(x).for_each(|(y, &x)| *y = 1.0 - x),
        Step::IsNaN => y.iter_mut().zip(x).for_each(|(y, &x)| *y = truth(x.is_nan())),
        Step::Scale(by) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * by),
        Step::Dequantize { scale, zero } => {
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - zero) * scale);
        }
        Step::Quantize { scale, zero, least, most } => {
            y.iter_mut().zip(x).for_each(|(y, &x)| {
                *y = saturate((x / scale).round_ties_even() + zero, least, most);
            });
        }
        _ => y.copy_from_slice(x),
    }
}

/// Between the ends of an integer type; what is no number is 0.
#[inline(always)]
pub(super) fn saturate(x: f32, least: f32, most: f32) -> f32 {
    let x = if x < least { least } else { x };
    let x = if x > most { most } else { x };
    if x.is_nan() { 0.0 } else { x }
}

widest! {
    /// Unsigned bytes as numbers.
    pub(super) fn widen_u8(x: &[u8], y: &mut [f32]) = widen_u8_text
}

widest! {
    /// Signed bytes as numbers.
    pub(super) fn widen_i8(x: &[i8], y: &mut [f32]) = widen_i8_text
}

widest! {
    /// Whole numbers as their lowest 8 bits.
    pub(super) fn narrow(x: &[f32], y: &mut [u8]) = narrow_text
}

#[inline(always)]
fn widen_u8_text(x: &[u8], y: &mut [f32], _: impl math::Fma) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = f32::from(x));
}

#[inline(always)]
fn widen_i8_text(x: &[i8], y: &mut [f32], _: impl math::Fma) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = f32::from(x));
}

#[inline(always)]
fn narrow_text(x: &[f32], y: &mut [u8], _: impl math::Fma) {
    // Beside this number, the lowest bit of a fraction counts 1.
    const SHIFT: f32 = 12_582_912.0;
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x + SHIFT).to_bits() as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_quantized_to_even_and_saturate() {
        let x = [0.5, 1.5, -0.5, 1e9, f32::NEG_INFINITY, f32::NAN, -130.0];
        let mut y = [0.0; 7];
        let step = Step::Quantize { scale: 1.0, zero: 1.0, least: -128.0, most: 127.0 };
        singles(step, &x, &mut y);
        assert_eq!(y, [1.0, 3.0, 1.0, 127.0, -128.0, 0.0, -128.0]);
        let mut bytes = [0u8; 7];
        narrow(&y, &mut bytes);
        assert_eq!(bytes.map(|b| b as i8), [1, 3, 1, 127, -128, 0, -128]);
        let mut wide = [0.0; 7];
        widen_i8(&bytes.map(|b| b as i8), &mut wide);
        assert_eq!(wide, y);
        widen_u8(&bytes, &mut wide);
        assert_eq!(wide[4], 128.0);
    }
}
