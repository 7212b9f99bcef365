//! No vector instructions: arrays, which compilers turn into what the target has.

use std::array::from_fn;
use std::ops::{Add, BitAnd, Div, Mul, Not, Shl, Sub};

use super::{Doubles, Floats, Ints, Isa, Mask, Work};

/// Lanes.
const N: usize = 8;

/// The token that every machine has.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

/// Eight `f32`.
#[derive(Clone, Copy, Debug)]
pub struct F([f32; N]);

/// Eight `u32`.
#[derive(Clone, Copy, Debug)]
pub struct I([u32; N]);

/// Eight `f64`.
#[derive(Clone, Copy, Debug)]
pub struct D([f64; N]);

/// Eight answers.
#[derive(Clone, Copy, Debug)]
pub struct M([bool; N]);

impl Isa for Scalar {
    type F = F;
    type I = I;
    type D = D;
    type M = M;
    const LANES: usize = N;
    const REGISTERS: usize = 8;
    const FUSED: bool = false;

    #[inline(always)]
    fn run<W: Work>(self, work: W) -> W::Out {
        work.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        F([x; N])
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> F {
        let x = &x[..N];
        F(from_fn(|i| x[i]))
    }

    #[inline(always)]
    fn ints(self, x: u32) -> I {
        I([x; N])
    }

    #[inline(always)]
    fn load_ints(self, x: &[u32]) -> I {
        let x = &x[..N];
        I(from_fn(|i| x[i]))
    }

    #[inline(always)]
    fn turn(self, rows: &[f32], stride: usize, out: &mut [f32], step: usize) {
        for r in 0..N {
            let row = &rows[r * stride..][..N];
            for (c, x) in row.iter().enumerate() {
                out[c * step + r] = *x;
            }
        }
    }
}

macro_rules! lanes {
    ($($trait:ident $name:ident $ty:ident $op:expr;)*) => {$(
        impl $trait for $ty {
            type Output = $ty;

            #[inline(always)]
            fn $name(self, o: $ty) -> $ty {
                let op = $op;
                $ty(from_fn(|i| op(self.0[i], o.0[i])))
            }
        }
    )*};
}

lanes! {
    Add add F |a: f32, b: f32| a + b;
    Sub sub F |a: f32, b: f32| a - b;
    Mul mul F |a: f32, b: f32| a * b;
    Div div F |a: f32, b: f32| a / b;
    Add add I |a: u32, b: u32| a.wrapping_add(b);
    BitAnd bitand I |a: u32, b: u32| a & b;
    BitAnd bitand M |a: bool, b: bool| a & b;
}

impl Shl<u32> for I {
    type Output = I;

    #[inline(always)]
    fn shl(self, by: u32) -> I {
        I(self.0.map(|x| x << by))
    }
}

impl Not for M {
    type Output = M;

    #[inline(always)]
    fn not(self) -> M {
        M(self.0.map(|m| !m))
    }
}

impl Floats for F {
    type Isa = Scalar;

    #[inline(always)]
    fn store(self, out: &mut [f32]) {
        out[..N].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn mul_add(self, a: F, b: F) -> F {
        self * a + b
    }

    #[inline(always)]
    fn max(self, o: F) -> F {
        F(from_fn(|i| if self.0[i] > o.0[i] { self.0[i] } else { o.0[i] }))
    }

    #[inline(always)]
    fn min(self, o: F) -> F {
        F(from_fn(|i| if self.0[i] < o.0[i] { self.0[i] } else { o.0[i] }))
    }

    #[inline(always)]
    #[allow(clippy::neg_cmp_op_on_partial_ord, reason = "NaN is no less than anything")]
    fn not_le(self, o: F) -> M {
        M(from_fn(|i| !(self.0[i] <= o.0[i])))
    }

    #[inline(always)]
    fn to_bits(self) -> I {
        I(self.0.map(f32::to_bits))
    }
}

impl Add for D {
    type Output = D;

    #[inline(always)]
    fn add(self, o: D) -> D {
        D(from_fn(|i| self.0[i] + o.0[i]))
    }
}

impl Doubles for D {
    type Isa = Scalar;

    #[inline(always)]
    fn widen(x: F) -> D {
        D(x.0.map(f64::from))
    }

    #[inline(always)]
    fn splat(_: Scalar, x: f64) -> D {
        D([x; N])
    }

    #[inline(always)]
    fn load(_: Scalar, x: &[f64]) -> D {
        let x = &x[..N];
        D(from_fn(|i| x[i]))
    }

    #[inline(always)]
    fn store(self, out: &mut [f64]) {
        out[..N].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn mul_add(self, a: D, b: D) -> D {
        D(from_fn(|i| self.0[i] * a.0[i] + b.0[i]))
    }
}

impl Ints for I {
    type Isa = Scalar;

    #[inline(always)]
    fn store(self, out: &mut [u32]) {
        out[..N].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn bits(self) -> F {
        F(self.0.map(f32::from_bits))
    }

    #[inline(always)]
    fn clear(self, yes: M, bits: I) -> I {
        I(from_fn(|i| if yes.0[i] { self.0[i] & !bits.0[i] } else { self.0[i] }))
    }

    #[inline(always)]
    fn lowest(self) -> I {
        I(self.0.map(u32::trailing_zeros))
    }

    #[inline(always)]
    fn any_bit(self) -> M {
        M(self.0.map(|x| x != 0))
    }

    #[inline(always)]
    fn lookup(self, table: &[u32; 32]) -> I {
        I(self.0.map(|i| table[i as usize % 32]))
    }
}

impl Mask for M {
    type Isa = Scalar;

    #[inline(always)]
    fn any(self) -> bool {
        self.0.contains(&true)
    }

    #[inline(always)]
    fn pick(self, yes: I, no: I) -> I {
        I(from_fn(|i| if self.0[i] { yes.0[i] } else { no.0[i] }))
    }
}
