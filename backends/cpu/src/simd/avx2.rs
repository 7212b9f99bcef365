//! AVX2 and FMA: eight lanes, masks in vectors.

use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, Div, Mul, Not, Shl, Sub};

use super::{Doubles, Floats, Ints, Isa, Mask, Work};

const N: usize = 8;

/// Proof that the machine has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// Eight `f32`.
#[derive(Clone, Copy, Debug)]
pub struct F(__m256);

/// Eight `u32`.
#[derive(Clone, Copy, Debug)]
pub struct I(__m256i);

/// Eight `f64`.
#[derive(Clone, Copy, Debug)]
pub struct D(__m256d, __m256d);

/// Eight answers.
#[derive(Clone, Copy, Debug)]
pub struct M(__m256i);

impl Avx2 {
    /// The token, where the machine has the instructions.
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        has.then_some(Self(()))
    }
}

#[target_feature(enable = "avx2,fma")]
fn enter<W: Work>(isa: Avx2, work: W) -> W::Out {
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

impl Isa for Avx2 {
    type F = F;
    type I = I;
    type D = D;
    type M = M;
    const LANES: usize = N;
    const REGISTERS: usize = 16;
    const FUSED: bool = true;

    #[inline(always)]
    fn run<W: Work>(self, work: W) -> W::Out {
        have!(enter(self, work))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        F(have!(_mm256_set1_ps(x)))
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> F {
        F(have!(_mm256_loadu_ps(x[..N].as_ptr())))
    }

    #[inline(always)]
    fn ints(self, x: u32) -> I {
        I(have!(_mm256_set1_epi32(x.cast_signed())))
    }

    #[inline(always)]
    fn load_ints(self, x: &[u32]) -> I {
        I(have!(_mm256_loadu_si256(x[..N].as_ptr().cast())))
    }

    #[inline(always)]
    fn turn(self, rows: &[f32], stride: usize, out: &mut [f32], step: usize) {
        let mut x = [self.splat(0.0).0; N];
        for (r, x) in x.iter_mut().enumerate() {
            *x = self.load(&rows[r * stride..]).0;
        }
        // Of four rows each: column `j` of both halves of a row.
        let mut y = x;
        for g in [0, 4] {
            let (a, b) = (
                have!(_mm256_unpacklo_ps(x[g], x[g + 1])),
                have!(_mm256_unpackhi_ps(x[g], x[g + 1])),
            );
            let (c, d) = (
                have!(_mm256_unpacklo_ps(x[g + 2], x[g + 3])),
                have!(_mm256_unpackhi_ps(x[g + 2], x[g + 3])),
            );
            y[g] = have!(_mm256_shuffle_ps::<0x44>(a, c));
            y[g + 1] = have!(_mm256_shuffle_ps::<0xee>(a, c));
            y[g + 2] = have!(_mm256_shuffle_ps::<0x44>(b, d));
            y[g + 3] = have!(_mm256_shuffle_ps::<0xee>(b, d));
        }
        for j in 0..4 {
            F(have!(_mm256_permute2f128_ps::<0x20>(y[j], y[j + 4]))).store(&mut out[j * step..]);
            F(have!(_mm256_permute2f128_ps::<0x31>(y[j], y[j + 4])))
                .store(&mut out[(j + 4) * step..]);
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
    Add add F _mm256_add_ps;
    Sub sub F _mm256_sub_ps;
    Mul mul F _mm256_mul_ps;
    Div div F _mm256_div_ps;
    Add add I _mm256_add_epi32;
    BitAnd bitand I _mm256_and_si256;
}

impl Shl<u32> for I {
    type Output = I;

    #[inline(always)]
    fn shl(self, by: u32) -> I {
        let by = have!(_mm_cvtsi32_si128(by.cast_signed()));
        I(have!(_mm256_sll_epi32(self.0, by)))
    }
}

impl Not for M {
    type Output = M;

    #[inline(always)]
    fn not(self) -> M {
        M(have!(_mm256_xor_si256(self.0, _mm256_set1_epi32(-1))))
    }
}

impl BitAnd for M {
    type Output = M;

    #[inline(always)]
    fn bitand(self, o: M) -> M {
        M(have!(_mm256_and_si256(self.0, o.0)))
    }
}

impl Floats for F {
    type Isa = Avx2;

    #[inline(always)]
    fn store(self, out: &mut [f32]) {
        have!(_mm256_storeu_ps(out[..N].as_mut_ptr(), self.0));
    }

    #[inline(always)]
    fn mul_add(self, a: F, b: F) -> F {
        F(have!(_mm256_fmadd_ps(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn max(self, o: F) -> F {
        F(have!(_mm256_max_ps(self.0, o.0)))
    }

    #[inline(always)]
    fn min(self, o: F) -> F {
        F(have!(_mm256_min_ps(self.0, o.0)))
    }

    #[inline(always)]
    fn not_le(self, o: F) -> M {
        M(have!(_mm256_castps_si256(_mm256_cmp_ps::<_CMP_NLE_UQ>(self.0, o.0))))
    }

    #[inline(always)]
    fn to_bits(self) -> I {
        I(have!(_mm256_castps_si256(self.0)))
    }
}

impl Add for D {
    type Output = D;

    #[inline(always)]
    fn add(self, o: D) -> D {
        D(have!(_mm256_add_pd(self.0, o.0)), have!(_mm256_add_pd(self.1, o.1)))
    }
}

impl Doubles for D {
    type Isa = Avx2;

    #[inline(always)]
    fn widen(x: F) -> D {
        let (low, high) =
            (have!(_mm256_castps256_ps128(x.0)), have!(_mm256_extractf128_ps::<1>(x.0)));
        D(have!(_mm256_cvtps_pd(low)), have!(_mm256_cvtps_pd(high)))
    }

    #[inline(always)]
    fn splat(_: Avx2, x: f64) -> D {
        let x = have!(_mm256_set1_pd(x));
        D(x, x)
    }

    #[inline(always)]
    fn load(_: Avx2, x: &[f64]) -> D {
        let (low, high) = x[..N].split_at(N / 2);
        D(have!(_mm256_loadu_pd(low.as_ptr())), have!(_mm256_loadu_pd(high.as_ptr())))
    }

    #[inline(always)]
    fn store(self, out: &mut [f64]) {
        let (low, high) = out[..N].split_at_mut(N / 2);
        have!(_mm256_storeu_pd(low.as_mut_ptr(), self.0));
        have!(_mm256_storeu_pd(high.as_mut_ptr(), self.1));
    }

    #[inline(always)]
    fn mul_add(self, a: D, b: D) -> D {
        let low = have!(_mm256_fmadd_pd(self.0, a.0, b.0));
        D(low, have!(_mm256_fmadd_pd(self.1, a.1, b.1)))
    }
}

impl Ints for I {
    type Isa = Avx2;

    #[inline(always)]
    fn store(self, out: &mut [u32]) {
        have!(_mm256_storeu_si256(out[..N].as_mut_ptr().cast(), self.0));
    }

    #[inline(always)]
    fn bits(self) -> F {
        F(have!(_mm256_castsi256_ps(self.0)))
    }

    #[inline(always)]
    fn clear(self, yes: M, bits: I) -> I {
        I(have!(_mm256_andnot_si256(_mm256_and_si256(yes.0, bits.0), self.0)))
    }

    #[inline(always)]
    fn lowest(self) -> I {
        // As a float, the lowest bit alone is a power of two: its exponent is the place. The sign
        // of bit 31 is masked off.
        let alone =
            have!(_mm256_and_si256(self.0, _mm256_sub_epi32(_mm256_setzero_si256(), self.0)));
        let float = have!(_mm256_cvtepi32_ps(alone));
        let power = have!(_mm256_srli_epi32::<23>(_mm256_castps_si256(float)));
        let exponent = have!(_mm256_and_si256(power, _mm256_set1_epi32(0xff)));
        I(have!(_mm256_sub_epi32(exponent, _mm256_set1_epi32(127))))
    }

    #[inline(always)]
    fn any_bit(self) -> M {
        !M(have!(_mm256_cmpeq_epi32(self.0, _mm256_setzero_si256())))
    }

    #[inline(always)]
    fn lookup(self, table: &[u32; 32]) -> I {
        let index = have!(_mm256_and_si256(self.0, _mm256_set1_epi32(31)));
        // SAFETY: the machine has AVX2, as vectors show; every index is below 32.
        #[allow(unsafe_code)]
        I(unsafe { _mm256_i32gather_epi32::<4>(table.as_ptr().cast(), index) })
    }
}

impl Mask for M {
    type Isa = Avx2;

    #[inline(always)]
    fn any(self) -> bool {
        have!(_mm256_movemask_epi8(self.0)) != 0
    }

    #[inline(always)]
    fn pick(self, yes: I, no: I) -> I {
        I(have!(_mm256_blendv_epi8(no.0, yes.0, self.0)))
    }
}
