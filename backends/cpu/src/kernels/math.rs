//! Functions of `f32`, whole slices at a time.
//!
//! ```text
//! exp(x) = 2^k * (1 + q)      k = round(x / ln 2), q = expm1(x - k * ln 2): a polynomial
//! ```
//! Every function here is within 4 units in the last place or a relative error of 1e-6 of its
//! value calculated in `f64`, except where a factor falls below the least normal number. The
//! polynomials were fitted for the least greatest relative error.

use kiln_ir::ops::activation::Activation;
use kiln_ir::ops::unary::{Curve, Function, GeluForm, Unary};

use super::widest::widest;

/// Applies an elementwise function to every element.
pub(crate) fn unary(op: Unary, y: &mut [f32]) {
    map(op, y);
}

/// Applies an activation to every element.
pub(crate) fn activate(a: Activation, y: &mut [f32]) {
    let op = match a {
        Activation::Clip { min, max } => return clip(y, min, max),
        Activation::Relu => Unary::Relu,
        Activation::Sigmoid => Unary::Function(Function::Sigmoid),
        Activation::Tanh => Unary::Function(Function::Tanh),
        Activation::HardSwish => Unary::Function(Function::HardSwish),
        Activation::Mish => Unary::Function(Function::Mish),
        Activation::Gelu => Unary::Gelu(GeluForm::Exact),
        Activation::GeluTanh => Unary::Gelu(GeluForm::Tanh),
        Activation::LeakyRelu { alpha } => Unary::Curve(Curve::LeakyRelu, alpha, 0.0),
        Activation::Elu { alpha } => Unary::Curve(Curve::Elu, alpha, 0.0),
        Activation::Swish { alpha } => Unary::Curve(Curve::Swish, alpha, 0.0),
        Activation::HardSigmoid { alpha, beta } => Unary::Curve(Curve::HardSigmoid, alpha, beta),
    };
    map(op, y);
}

widest! {
    /// An elementwise function.
    fn map(op: Unary, y: &mut [f32]) = map_text
}

widest! {
    /// `max(x, min)`, then `min(.., max)`; NaN stays.
    pub(crate) fn clip(y: &mut [f32], min: f32, max: f32) = clip_text
}

widest! {
    /// `y = exp(y - by)`, and the sum of the results.
    pub(crate) fn exp_less(y: &mut [f32], by: f32) -> f32 = exp_less_text
}

/// Fused or not: what a machine has of `a * b + c`.
pub(crate) trait Fma: Fn(f32, f32, f32) -> f32 + Copy {}
impl<F: Fn(f32, f32, f32) -> f32 + Copy> Fma for F {}

#[inline(always)]
fn each(y: &mut [f32], f: impl Fn(f32) -> f32) {
    for y in y {
        *y = f(*y);
    }
}

#[inline(always)]
fn clip_text(y: &mut [f32], min: f32, max: f32, _: impl Fma) {
    each(y, |x| {
        let x = if x < min { min } else { x };
        if x > max { max } else { x }
    });
}

#[inline(always)]
fn exp_less_text(y: &mut [f32], by: f32, fma: impl Fma) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0f32; LANES];
    for y in y.chunks_mut(LANES) {
        for (y, s) in y.iter_mut().zip(&mut sums) {
            *y = exp(*y - by, 0.0, fma);
            *s += *y;
        }
    }
    sums.iter().sum()
}

#[inline(always)]
fn map_text(op: Unary, y: &mut [f32], fma: impl Fma) {
    match op {
        Unary::Function(f) => function(f, y, fma),
        Unary::Curve(c, a, b) => curve(c, (a, b), y, fma),
        Unary::Gelu(GeluForm::Exact) => each(y, |x| gelu(x, fma)),
        Unary::Gelu(GeluForm::Tanh) => each(y, |x| gelu_tanh(x, fma)),
        Unary::Relu => each(y, |x| if x < 0.0 { 0.0 } else { x }),
        Unary::Abs => each(y, f32::abs),
        Unary::Neg => each(y, |x| -x),
        _ => each(y, |x| op.float(x)),
    }
}

#[inline(always)]
fn function(f: Function, y: &mut [f32], fma: impl Fma) {
    match f {
        Function::Exp => each(y, |x| exp(x, 0.0, fma)),
        Function::Log => each(y, |x| ln(x, fma)),
        Function::Tanh => each(y, |x| tanh(x, fma)),
        Function::Sigmoid => each(y, |x| {
            let (n, d) = sigmoid(x < 0.0, -x.abs(), 0.0, fma);
            n / d
        }),
        Function::Erf => each(y, |x| erf(x, fma)),
        Function::Softplus => each(y, |x| softplus(x, fma)),
        Function::Mish => each(y, |x| mish(x, fma)),
        Function::HardSwish => each(y, |x| x * (bound(x + 3.0, 0.0, 6.0) * (1.0 / 6.0))),
        Function::Softsign => each(y, |x| x / (1.0 + x.abs())),
        Function::Reciprocal => each(y, |x| 1.0 / x),
        Function::Sqrt => each(y, f32::sqrt),
        Function::Floor => each(y, f32::floor),
        Function::Ceil => each(y, f32::ceil),
        Function::Round => each(y, f32::round_ties_even),
        other => each(y, |x| other.apply(x)),
    }
}

#[inline(always)]
fn curve(c: Curve, (a, b): (f32, f32), y: &mut [f32], fma: impl Fma) {
    match c {
        Curve::LeakyRelu => each(y, |x| if x < 0.0 { a * x } else { x }),
        Curve::ThresholdedRelu => each(y, |x| if x > a { x } else { 0.0 }),
        Curve::HardSigmoid => each(y, |x| bound(fma(a, x, b), 0.0, 1.0)),
        Curve::Elu => each(y, |x| if x < 0.0 { a * expm1(x, fma) } else { x }),
        Curve::Selu => each(y, |x| b * if x > 0.0 { x } else { a * expm1(x, fma) }),
        Curve::Swish => each(y, |x| swish(x, a, fma)),
        other => each(y, |x| other.apply(x, a, b)),
    }
}

/// `x` between two bounds; NaN stays.
#[inline(always)]
fn bound(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// `2^k` for `k` in -126..=127.
#[inline(always)]
fn power(k: i32) -> f32 {
    f32::from_bits(((k.wrapping_add(127)) as u32) << 23)
}

/// `k` and `q` of `x + rest`, where `rest` is small beside `x`.
#[inline(always)]
fn parts(x: f32, rest: f32, fma: impl Fma) -> (i32, f32) {
    // Adding this leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // The high part of ln 2 has few bits: its products with k are exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let t = fma(x, std::f32::consts::LOG2_E, ROUND);
    let k = (t.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let n = t - ROUND;
    let r = fma(n, -LOW, fma(n, -HIGH, x)) + rest;
    let p = fma(1.381_453_8e-3, r, 8.368_745e-3);
    let p = fma(fma(fma(p, r, 0.041_668_39), r, 0.166_665_21), r, 0.499_999_94);
    (k, fma(r * r, p, r))
}

/// The exponential of `x + rest`, where `rest` is small beside `x`.
#[inline(always)]
fn exp(x: f32, rest: f32, fma: impl Fma) -> f32 {
    let (k, q) = parts(bound(x, -104.0, 89.0), rest, fma);
    // In two steps, so that the ends of the range come out right.
    let half = k >> 1;
    (1.0 + q) * power(half) * power(k.wrapping_sub(half))
}

/// `exp(x) - 1` for `x` up to 88; more is as 88.
#[inline(always)]
fn expm1(x: f32, fma: impl Fma) -> f32 {
    let (k, q) = parts(bound(x, -40.0, 88.0), 0.0, fma);
    let s = power(k);
    fma(s, q, s - 1.0)
}

#[inline(always)]
fn tanh(x: f32, fma: impl Fma) -> f32 {
    let e = expm1(2.0 * bound(x.abs(), 0.0, 10.0), fma);
    (e / (e + 2.0)).copysign(x)
}

/// Numerator and denominator of the sigmoid of a number with this sign, whose absolute value is
/// `-(minus + rest)`.
#[inline(always)]
fn sigmoid(negative: bool, minus: f32, rest: f32, fma: impl Fma) -> (f32, f32) {
    let e = exp(minus, rest, fma);
    (if negative { e } else { 1.0 }, 1.0 + e)
}

/// A number no greater than 0, in two parts that an exponential can use.
#[inline(always)]
fn halves(x: f64) -> (f32, f32) {
    let x = if x < -110.0 { -110.0 } else { x };
    let high = x as f32;
    (high, (x - f64::from(high)) as f32)
}

/// `x * sigmoid(alpha * x)`. The product is kept in `f64`: an error of its last place grows with
/// its size in the exponential.
#[inline(always)]
fn swish(x: f32, alpha: f32, fma: impl Fma) -> f32 {
    let u = f64::from(x) * f64::from(alpha);
    let (high, low) = halves(-u.abs());
    let (n, d) = sigmoid(u < 0.0, high, low, fma);
    x * n / d
}

/// `x * sigmoid(2 * u)`, which is `x / 2 * (1 + tanh(u))`.
#[inline(always)]
fn gelu_tanh(x: f32, fma: impl Fma) -> f32 {
    const C: f64 = 1.595_769_121_605_730_7;
    let wide = f64::from(bound(x, -12.0, 12.0));
    let u = C * wide * (1.0 + 0.044_715 * wide * wide);
    let (high, low) = halves(-u.abs());
    let (n, d) = sigmoid(x < 0.0, high, low, fma);
    x * n / d
}

/// The upper tail of the normal distribution from `z >= 0` on, where `high + low` is `-z * z / 2`.
#[inline(always)]
fn tail(z: f32, high: f32, low: f32, fma: impl Fma) -> f32 {
    const P: [f32; 10] = [
        1.300_851_3e-5,
        0.119_362_6,
        0.123_059_04,
        0.088_899_52,
        0.160_623_94,
        -0.112_692_79,
        0.275_076_6,
        -0.206_072_75,
        0.054_927_763,
        -0.003_196_936_6,
    ];
    let t = 1.0 / fma(0.3, z, 1.0);
    let mut p = P[9];
    for &c in P[..9].iter().rev() {
        p = fma(p, t, c);
    }
    exp(high, low, fma) * p
}

/// `-a * a` in two parts, the first of which is exact.
#[inline(always)]
fn minus_square(a: f32) -> (f32, f32) {
    let high = f32::from_bits(a.to_bits() & 0xffff_f000);
    (-(high * high), -((a - high) * (a + high)))
}

#[inline(always)]
fn gelu(x: f32, fma: impl Fma) -> f32 {
    let z = bound(x.abs(), 0.0, 15.0);
    let (high, low) = minus_square(z);
    let q = tail(z, 0.5 * high, 0.5 * low, fma);
    x * if x < 0.0 { q } else { 1.0 - q }
}

#[inline(always)]
fn erf(x: f32, fma: impl Fma) -> f32 {
    const P: [f32; 7] = [
        std::f32::consts::FRAC_2_SQRT_PI,
        -0.376_126_26,
        0.112_835_854,
        -0.026_853_81,
        0.005_188_327_7,
        -0.000_801_019_25,
        7.853_858e-5,
    ];
    let a = bound(x.abs(), 0.0, 10.0);
    let (high, low) = minus_square(a);
    let far = 1.0 - 2.0 * tail(a * std::f32::consts::SQRT_2, high, low, fma);
    let v = a * a;
    let mut p = P[6];
    for &c in P[..6].iter().rev() {
        p = fma(p, v, c);
    }
    (if a < 1.0 { a * p } else { far }).copysign(x)
}

/// `2 * atanh(s)` for `|s|` up to a third.
#[inline(always)]
fn double_atanh(s: f32, fma: impl Fma) -> f32 {
    let v = s * s;
    let p = fma(0.121_541_63, v, 0.107_129_25);
    let p = fma(fma(fma(p, v, 0.143_085_18), v, 0.199_994_37), v, 0.333_333_37);
    let double = 2.0 * s;
    fma(double * v, p, double)
}

#[inline(always)]
fn softplus(x: f32, fma: impl Fma) -> f32 {
    let e = exp(-x.abs(), 0.0, fma);
    let most = if x > 0.0 { x } else { 0.0 };
    most + double_atanh(e / (2.0 + e), fma)
}

/// `x * tanh(ln(1 + e))` is `x * n / (n + 2)` with `n = e * (e + 2)`.
#[inline(always)]
fn mish(x: f32, fma: impl Fma) -> f32 {
    let e = exp(bound(x, -104.0, 20.0), 0.0, fma);
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

#[inline(always)]
fn ln(x: f32, fma: impl Fma) -> f32 {
    const TINY: f32 = f32::MIN_POSITIVE;
    // The bits of the root of one half: the mantissa is taken from there to its double.
    const HALF: i32 = 0x3f35_04f3;
    let (y, shift) = if x < TINY { (x * 8_388_608.0, 23.0) } else { (x, 0.0) };
    let bits = (y.to_bits() as i32).wrapping_sub(HALF);
    let k = bits >> 23;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(HALF) as u32);
    let k = k as f32 - shift;
    let r = double_atanh((m - 1.0) / (m + 1.0), fma);
    let r = fma(k, 0.693_359_4, fma(k, -2.121_944_4e-4, r));
    let r = if x == f32::INFINITY { x } else { r };
    let r = if x == 0.0 { f32::NEG_INFINITY } else { r };
    if x < 0.0 || x.is_nan() { f32::NAN } else { r }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of either sign over the whole range of exponents, and densely between -20 and 20.
    fn sweep() -> Vec<f32> {
        let spread = (0..=0x7f7f_ffffu32).step_by(40_009).map(f32::from_bits);
        let dense = (-40_000..=40_000).map(|i| i as f32 * 0.000_5 + 0.000_013);
        let steps = (-11_000..=11_000).map(|i| i as f32 * 0.01);
        spread.flat_map(|x| [x, -x]).chain(dense).chain(steps).collect()
    }

    /// Asserts that every result is as near as the module says; `f` is the definition in `f64`.
    fn check(op: Unary, f: impl Fn(f64) -> f64) {
        let x = sweep();
        let mut y = x.clone();
        unary(op, &mut y);
        for (x, y) in x.into_iter().zip(y) {
            let want = f(f64::from(x));
            let nearest = want as f32;
            if want.is_nan() || nearest.is_infinite() {
                let same =
                    y.is_nan() == want.is_nan() && (want.is_nan() || (y > 0.0) == (want > 0.0));
                assert!(same && (y.is_nan() || y.abs() > 3.4e38), "{op:?}({x}) is {y}, not {want}");
                continue;
            }
            let ulp = f64::from(f32::from_bits(nearest.abs().to_bits() + 1) - nearest.abs());
            let off = (f64::from(y) - want).abs();
            let least = 3e-45 * (1.0 + f64::from(x.abs()));
            let allowed = (4.0 * ulp).max(1e-6 * want.abs()).max(least);
            assert!(off <= allowed, "{op:?}({x}) is {y}, not {want}: {} ulp", off / ulp);
        }
    }

    fn log1p_exp(x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    #[test]
    fn functions_are_within_their_bounds() {
        let f = Unary::Function;
        check(f(Function::Exp), f64::exp);
        check(f(Function::Log), f64::ln);
        check(f(Function::Tanh), f64::tanh);
        check(f(Function::Sigmoid), |x| 1.0 / (1.0 + (-x).exp()));
        check(f(Function::Erf), |x| f(Function::Erf).float(x));
        check(f(Function::Softplus), log1p_exp);
        check(f(Function::Mish), |x| x * log1p_exp(x).tanh());
        check(f(Function::HardSwish), |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
    }

    #[test]
    fn curves_are_within_their_bounds() {
        let elu = |x: f64| if x < 0.0 { 0.5 * x.exp_m1() } else { x };
        check(Unary::Curve(Curve::Elu, 0.5, 0.0), elu);
        for alpha in [1.0f32, 1.702, -0.5] {
            let a = f64::from(alpha);
            check(Unary::Curve(Curve::Swish, alpha, 0.0), |x| x / (1.0 + (-a * x).exp()));
        }
        let c = (2.0 / std::f64::consts::PI).sqrt();
        // 1 + tanh(u) is 2 / (1 + exp(-2u)), without its cancellation.
        let tanh = |x: f64| x / (1.0 + (-2.0 * c * (x + 0.044715 * x * x * x)).exp());
        check(Unary::Gelu(GeluForm::Tanh), tanh);
    }

    #[test]
    fn gelu_is_within_its_bounds() {
        check(Unary::Gelu(GeluForm::Exact), |x| x * normal(x));
    }

    /// The normal distribution, in the tail by its continued fraction.
    fn normal(x: f64) -> f64 {
        if x > -3.0 {
            // The definition of `Gelu` at `x` is x times this.
            return Unary::Gelu(GeluForm::Exact).float(x) / if x == 0.0 { 1.0 } else { x };
        }
        let z = -x;
        let fraction = (1..200).rev().fold(z, |f, k| z + f64::from(k) / f);
        (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt() / fraction
    }

    #[test]
    fn ends_of_the_range() {
        let at = |op: Unary, x: f32| {
            let mut y = [x];
            unary(op, &mut y);
            y[0]
        };
        let inf = f32::INFINITY;
        let f = Unary::Function;
        for (op, low, high) in [
            (f(Function::Exp), 0.0, inf),
            (f(Function::Tanh), -1.0, 1.0),
            (f(Function::Sigmoid), 0.0, 1.0),
            (f(Function::Erf), -1.0, 1.0),
            (f(Function::Softplus), 0.0, inf),
            (Unary::Curve(Curve::Elu, 2.0, 0.0), -2.0, inf),
        ] {
            assert_eq!([at(op, -inf), at(op, inf)], [low, high], "{op:?}");
        }
        assert_eq!(at(f(Function::Log), inf), inf);
        assert_eq!(at(f(Function::Log), 0.0), -inf);
        assert!(at(f(Function::Log), -1.0).is_nan());
        let gelu = Unary::Gelu(GeluForm::Exact);
        let gates = [gelu, Unary::Gelu(GeluForm::Tanh), Unary::Curve(Curve::Swish, 1.0, 0.0)];
        for op in gates.into_iter().chain([f(Function::Mish)]) {
            assert_eq!(at(op, inf), inf, "{op:?}");
            assert_eq!(at(op, 0.0), 0.0, "{op:?}");
        }
        for op in [f(Function::Exp), f(Function::Tanh), f(Function::Erf), f(Function::Mish), gelu] {
            assert!(at(op, f32::NAN).is_nan(), "{op:?}");
        }
        assert_eq!(at(f(Function::Tanh), -0.0).to_bits(), (-0f32).to_bits());
    }

    #[test]
    fn sums_of_exponentials() {
        let mut y: Vec<f32> = (0..70).map(|i| i as f32 * 0.1).collect();
        let sum = exp_less(&mut y, 7.0);
        let want: f64 = (0..70).map(|i| (i as f64 * 0.1 - 7.0).exp()).sum();
        assert!((f64::from(sum) - want).abs() < 1e-5, "{sum} {want}");
    }
}
