//! AVX-512: sixteen lanes, masks in registers of their own.

use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, Div, Mul, Not, Shl, Sub};

use super::{Doubles, Floats, Ints, Isa, Mask, Work};

const N: usize = 16;

/// Proof that the machine has AVX-512 (F, BW, CD, DQ, VL).
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// Sixteen `f32`.
#[derive(Clone, Copy, Debug)]
pub struct F(__m512);

/// Sixteen `u32`.
#[derive(Clone, Copy, Debug)]
pub struct I(__m512i);

/// Sixteen `f64`.
#[derive(Clone, Copy, Debug)]
pub struct D(__m512d, __m512d);

/// Sixteen answers.
#[derive(Clone, Copy, Debug)]
pub struct M(__mmask16);

impl Avx512 {
    /// The token, where the machine has the instructions.
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        has.then_some(Self(()))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma")]
fn enter<W: Work>(isa: Avx512, work: W) -> W::Out {
    work.run(isa)
}

/// An instruction, where a token or a vector shows that the machine has it.
macro_rules! have {
    ($e:expr) => {{
        // SAFETY: tokens are made, and vectors with them, where the machine has the instructions.
        #[allow(unsafe_code)]
        unsafe {
            $e
        }
    }};
}

impl Isa for Avx512 {
    type F = F;
    type I = I;
    type D = D;
    type M = M;
    const LANES: usize = N;
    const REGISTERS: usize = 32;
    const FUSED: bool = true;

    #[inline(always)]
    fn run<W: Work>(self, work: W) -> W::Out {
        have!(enter(self, work))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        F(have!(_mm512_set1_ps(x)))
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> F {
        F(have!(_mm512_loadu_ps(x[..N].as_ptr())))
    }

    #[inline(always)]
    fn ints(self, x: u32) -> I {
        I(have!(_mm512_set1_epi32(x.cast_signed())))
    }

    #[inline(always)]
    fn load_ints(self, x: &[u32]) -> I {
        I(have!(_mm512_loadu_si512(x[..N].as_ptr().cast())))
    }

    #[inline(always)]
    fn turn(self, rows: &[f32], stride: usize, out: &mut [f32], step: usize) {
        let mut x = [self.splat(0.0).0; N];
        for (r, x) in x.iter_mut().enumerate() {
            *x = self.load(&rows[r * stride..]).0;
        }
        // Of four rows each: column `j` of every quarter of a row.
        let mut y = x;
        for g in [0, 4, 8, 12] {
            let (a, b) = (
                have!(_mm512_unpacklo_ps(x[g], x[g + 1])),
                have!(_mm512_unpackhi_ps(x[g], x[g + 1])),
            );
            let (c, d) = (
                have!(_mm512_unpacklo_ps(x[g + 2], x[g + 3])),
                have!(_mm512_unpackhi_ps(x[g + 2], x[g + 3])),
            );
            y[g] = have!(_mm512_shuffle_ps::<0x44>(a, c));
            y[g + 1] = have!(_mm512_shuffle_ps::<0xee>(a, c));
            y[g + 2] = have!(_mm512_shuffle_ps::<0x44>(b, d));
            y[g + 3] = have!(_mm512_shuffle_ps::<0xee>(b, d));
        }
        for j in 0..4 {
            let (a, b, c, d) = (y[j], y[j + 4], y[j + 8], y[j + 12]);
            // Quarters 0 and 2, then 1 and 3.
            let (low, high) = (
                have!(_mm512_shuffle_f32x4::<0x88>(a, b)),
                have!(_mm512_shuffle_f32x4::<0x88>(c, d)),
            );
            F(have!(_mm512_shuffle_f32x4::<0x88>(low, high))).store(&mut out[j * step..]);
            F(have!(_mm512_shuffle_f32x4::<0xdd>(low, high))).store(&mut out[(j + 8) * step..]);
            let (low, high) = (
                have!(_mm512_shuffle_f32x4::<0xdd>(a, b)),
                have!(_mm512_shuffle_f32x4::<0xdd>(c, d)),
            );
            F(have!(_mm512_shuffle_f32x4::<0x88>(low, high))).store(&mut out[(j + 4) * step..]);
            F(have!(_mm512_shuffle_f32x4::<0xdd>(low, high))).store(&mut out[(j + 12) * step..]);
        }
    }
}

macro_rules! lanes {
    ($($trait:ident $name:ident $ty:ident $op:ident;)*) => {$(
        impl $trait for $ty {
            type Output = $ty;

            #[inline(always)]
            fn $name(self, o: $ty) -> $ty {
                $ty(have!($op(self.0, o.0)))
            }
        }
    )*};
}

lanes! {
    Add add F _mm512_add_ps;
    Sub sub F _mm512_sub_ps;
    Mul mul F _mm512_mul_ps;
    Div div F _mm512_div_ps;
    Add add I _mm512_add_epi32;
    BitAnd bitand I _mm512_and_si512;
}

impl Shl<u32> for I {
    type Output = I;

    #[inline(always)]
    fn shl(self, by: u32) -> I {
        let by = have!(_mm_cvtsi32_si128(by.cast_signed()));
        I(have!(_mm512_sll_epi32(self.0, by)))
    }
}

impl Not for M {
    type Output = M;

    #[inline(always)]
    fn not(self) -> M {
        M(!self.0)
    }
}

impl BitAnd for M {
    type Output = M;

    #[inline(always)]
    fn bitand(self, o: M) -> M {
        M(self.0 & o.0)
    }
}

impl Floats for F {
    type Isa = Avx512;

    #[inline(always)]
    fn store(self, out: &mut [f32]) {
        have!(_mm512_storeu_ps(out[..N].as_mut_ptr(), self.0));
    }

    #[inline(always)]
    fn mul_add(self, a: F, b: F) -> F {
        F(have!(_mm512_fmadd_ps(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn max(self, o: F) -> F {
        F(have!(_mm512_max_ps(self.0, o.0)))
    }

    #[inline(always)]
    fn min(self, o: F) -> F {
        F(have!(_mm512_min_ps(self.0, o.0)))
    }

    #[inline(always)]
    fn not_le(self, o: F) -> M {
        M(have!(_mm512_cmp_ps_mask::<_CMP_NLE_UQ>(self.0, o.0)))
    }

    #[inline(always)]
    fn to_bits(self) -> I {
        I(have!(_mm512_castps_si512(self.0)))
    }
}

impl Add for D {
    type Output = D;

    #[inline(always)]
    fn add(self, o: D) -> D {
        D(have!(_mm512_add_pd(self.0, o.0)), have!(_mm512_add_pd(self.1, o.1)))
    }
}

impl Doubles for D {
    type Isa = Avx512;

    #[inline(always)]
    fn widen(x: F) -> D {
        let (low, high) =
            (have!(_mm512_castps512_ps256(x.0)), have!(_mm512_extractf32x8_ps::<1>(x.0)));
        D(have!(_mm512_cvtps_pd(low)), have!(_mm512_cvtps_pd(high)))
    }

    #[inline(always)]
    fn splat(_: Avx512, x: f64) -> D {
        let x = have!(_mm512_set1_pd(x));
        D(x, x)
    }

    #[inline(always)]
    fn load(_: Avx512, x: &[f64]) -> D {
        let (low, high) = x[..N].split_at(N / 2);
        D(have!(_mm512_loadu_pd(low.as_ptr())), have!(_mm512_loadu_pd(high.as_ptr())))
    }

    #[inline(always)]
    fn store(self, out: &mut [f64]) {
        let (low, high) = out[..N].split_at_mut(N / 2);
        have!(_mm512_storeu_pd(low.as_mut_ptr(), self.0));
        have!(_mm512_storeu_pd(high.as_mut_ptr(), self.1));
    }

    #[inline(always)]
    fn mul_add(self, a: D, b: D) -> D {
        let low = have!(_mm512_fmadd_pd(self.0, a.0, b.0));
        D(low, have!(_mm512_fmadd_pd(self.1, a.1, b.1)))
    }
}

impl Ints for I {
    type Isa = Avx512;

    #[inline(always)]
    fn store(self, out: &mut [u32]) {
        have!(_mm512_storeu_si512(out[..N].as_mut_ptr().cast(), self.0));
    }

    #[inline(always)]
    fn bits(self) -> F {
        F(have!(_mm512_castsi512_ps(self.0)))
    }

    #[inline(always)]
    fn clear(self, yes: M, bits: I) -> I {
        I(have!(_mm512_mask_andnot_epi32(self.0, yes.0, bits.0, self.0)))
    }

    #[inline(always)]
    fn lowest(self) -> I {
        let one = have!(_mm512_sub_epi32(_mm512_setzero_si512(), self.0));
        let zeros = have!(_mm512_lzcnt_epi32(_mm512_and_si512(self.0, one)));
        I(have!(_mm512_sub_epi32(_mm512_set1_epi32(31), zeros)))
    }

    #[inline(always)]
    fn any_bit(self) -> M {
        M(have!(_mm512_test_epi32_mask(self.0, self.0)))
    }

    #[inline(always)]
    fn lookup(self, table: &[u32; 32]) -> I {
        let low = have!(_mm512_loadu_si512(table[..N].as_ptr().cast()));
        let high = have!(_mm512_loadu_si512(table[N..].as_ptr().cast()));
        I(have!(_mm512_permutex2var_epi32(low, self.0, high)))
    }
}

impl Mask for M {
    type Isa = Avx512;

    #[inline(always)]
    fn any(self) -> bool {
        self.0 != 0
    }

    #[inline(always)]
    fn pick(self, yes: I, no: I) -> I {
        I(have!(_mm512_mask_blend_epi32(self.0, no.0, yes.0)))
    }
}
