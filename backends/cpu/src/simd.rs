//! Vectors of floats and of 32-bit integers: one loop text, every instruction set.
//!
//! ```text
//! Isa       a token: whoever holds one may use these instructions
//! Floats    lanes of f32             Ints    as many lanes of u32
//! Doubles   as many lanes of f64     Mask    one answer per lane
//! Work      a loop text, generic over the token
//! ```
//!
//! Vectors come from a token only, so safe code cannot reach instructions that the machine lacks.
//! `dispatch` runs a loop text by the widest instructions there are; `KILN_ISA` (`scalar`, `avx2`,
//! `avx512`) chooses narrower ones.

use std::ops::{Add, BitAnd, Div, Mul, Not, Shl, Sub};
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

pub use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub use {avx2::Avx2, avx512::Avx512};

/// The instructions of a machine.
pub trait Isa: Copy + Send + Sync + 'static {
    /// Lanes of `f32`.
    type F: Floats<Isa = Self>;
    /// Lanes of `u32`.
    type I: Ints<Isa = Self>;
    /// Lanes of `f64`.
    type D: Doubles<Isa = Self>;
    /// An answer per lane.
    type M: Mask<Isa = Self>;
    /// The number of lanes.
    const LANES: usize;
    /// Vectors that fit into registers.
    const REGISTERS: usize;
    /// Whether the machine multiplies and adds at once, in `f64` too.
    const FUSED: bool;

    /// Runs a loop text, compiled for these instructions.
    fn run<W: Work>(self, work: W) -> W::Out;
    /// The same number in every lane.
    fn splat(self, x: f32) -> Self::F;
    /// The first `LANES` numbers.
    ///
    /// # Panics
    /// Where there are fewer.
    fn load(self, x: &[f32]) -> Self::F;
    /// The same integer in every lane.
    fn ints(self, x: u32) -> Self::I;
    /// The first `LANES` integers.
    ///
    /// # Panics
    /// Where there are fewer.
    fn load_ints(self, x: &[u32]) -> Self::I;
    /// The columns of a square of `LANES` rows, `stride` elements apart: `out` gets `LANES` of
    /// them, of `LANES` elements each, one every `step` elements.
    ///
    /// # Panics
    /// Where rows or room for columns are missing.
    fn turn(self, rows: &[f32], stride: usize, out: &mut [f32], step: usize);
}

/// Lanes of `f32`.
pub trait Floats:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// The token's type.
    type Isa: Isa<F = Self>;
    /// Writes the first `LANES` elements.
    ///
    /// # Panics
    /// Where there are fewer.
    fn store(self, out: &mut [f32]);
    /// `self * a + b`, rounded once where the machine can.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The greater of two; `o` where one is NaN.
    fn max(self, o: Self) -> Self;
    /// The lesser of two; `o` where one is NaN.
    fn min(self, o: Self) -> Self;
    /// Where not `self <= o`: greater, or NaN.
    fn not_le(self, o: Self) -> <Self::Isa as Isa>::M;
    /// The bits as integers.
    fn to_bits(self) -> <Self::Isa as Isa>::I;
}

/// Lanes of `f64`, as many as there are of `f32`: two registers of them.
pub trait Doubles: Copy + Add<Output = Self> {
    /// The token's type.
    type Isa: Isa<D = Self>;
    /// The same numbers.
    fn widen(x: <Self::Isa as Isa>::F) -> Self;
    /// The same number in every lane.
    fn splat(isa: Self::Isa, x: f64) -> Self;
    /// The first `LANES` numbers.
    ///
    /// # Panics
    /// Where there are fewer.
    fn load(isa: Self::Isa, x: &[f64]) -> Self;
    /// Writes the first `LANES` elements.
    ///
    /// # Panics
    /// Where there are fewer.
    fn store(self, out: &mut [f64]);
    /// `self * a + b`, rounded once where the machine can.
    fn mul_add(self, a: Self, b: Self) -> Self;
}

/// Lanes of `u32`.
pub trait Ints:
    Copy + Add<Output = Self> + BitAnd<Output = Self> + Shl<u32, Output = Self>
{
    /// The token's type.
    type Isa: Isa<I = Self>;
    /// Writes the first `LANES` elements.
    ///
    /// # Panics
    /// Where there are fewer.
    fn store(self, out: &mut [u32]);
    /// The bits as floats.
    fn bits(self) -> <Self::Isa as Isa>::F;
    /// Clears `bits` where the answer is yes.
    fn clear(self, yes: <Self::Isa as Isa>::M, bits: Self) -> Self;
    /// The place of the lowest bit; anything where there is none.
    fn lowest(self) -> Self;
    /// Where a bit is set.
    fn any_bit(self) -> <Self::Isa as Isa>::M;
    /// The entry of a table at each lane, modulo 32.
    fn lookup(self, table: &[u32; 32]) -> Self;
}

/// One answer per lane.
pub trait Mask: Copy + Not<Output = Self> + BitAnd<Output = Self> {
    /// The token's type.
    type Isa: Isa<M = Self>;
    /// Whether any lane says yes.
    fn any(self) -> bool;
    /// `yes` where the answer is yes, else `no`.
    fn pick(self, yes: <Self::Isa as Isa>::I, no: <Self::Isa as Isa>::I) -> <Self::Isa as Isa>::I;
}

/// A loop text. Implementations mark `run` `#[inline(always)]`, or it is compiled without the
/// instructions that it is written for.
pub trait Work {
    /// What it gives.
    type Out;
    /// The loop.
    fn run<S: Isa>(self, isa: S) -> Self::Out;
}

/// Instruction sets by name, narrow ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// None.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 (F, BW, CD, DQ, VL).
    Avx512,
}

impl Level {
    /// Those of this machine, narrow ones first.
    pub fn all() -> &'static [Level] {
        const ALL: [Level; 3] = [Level::Scalar, Level::Avx2, Level::Avx512];
        static COUNT: OnceLock<usize> = OnceLock::new();
        &ALL[..*COUNT.get_or_init(|| 1 + usize::from(avx2()) + usize::from(avx2() && avx512()))]
    }

    /// The widest of this machine that `KILN_ISA` allows.
    pub fn best() -> Level {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let most = match std::env::var("KILN_ISA").as_deref() {
                Ok("scalar") => Level::Scalar,
                Ok("avx2") => Level::Avx2,
                _ => Level::Avx512,
            };
            Self::all().iter().copied().rfind(|l| *l <= most).unwrap_or(Level::Scalar)
        })
    }

    /// Runs a loop text by these instructions, or by narrower ones where they are missing.
    pub fn run<W: Work>(self, work: W) -> W::Out {
        #[cfg(target_arch = "x86_64")]
        match self {
            Level::Avx512 => {
                if let Some(isa) = Avx512::new() {
                    return isa.run(work);
                }
            }
            Level::Avx2 => {
                if let Some(isa) = Avx2::new() {
                    return isa.run(work);
                }
            }
            Level::Scalar => {}
        }
        Scalar.run(work)
    }
}

/// Runs a loop text by the widest instructions that there are.
pub fn dispatch<W: Work>(work: W) -> W::Out {
    Level::best().run(work)
}

#[cfg(target_arch = "x86_64")]
fn avx2() -> bool {
    Avx2::new().is_some()
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> bool {
    Avx512::new().is_some()
}

#[cfg(not(target_arch = "x86_64"))]
fn avx2() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn avx512() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every operation gives, lane by lane, as bits.
    struct Every;

    impl Work for Every {
        type Out = Vec<Vec<u32>>;

        #[inline(always)]
        fn run<S: Isa>(self, isa: S) -> Self::Out {
            let special = [0.0, -0.0, 1.5, 2.5, -3.5, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE];
            let a: Vec<f32> = (0..16).map(|i| special[i % 8]).collect();
            let b: Vec<f32> = (0..16).map(|i| special[(i * 3 + 1) % 8]).collect();
            let u: Vec<u32> = (0..16).map(|i| 0x8000_0000u32 >> (2 * i) | 1 << (31 - i)).collect();
            let table: [u32; 32] = std::array::from_fn(|i| 1000 + i as u32);
            let mut out = vec![];
            let mut floats = |f: &dyn Fn(S::F, S::F) -> S::F| {
                let mut y = [0.0f32; 16];
                for at in (0..16).step_by(S::LANES) {
                    f(isa.load(&a[at..]), isa.load(&b[at..])).store(&mut y[at..]);
                }
                out.push(y.iter().map(|y| if y.is_nan() { 1 } else { y.to_bits() }).collect());
            };
            floats(&|a, b| a + b);
            floats(&|a, b| a - b);
            floats(&|a, b| a * b);
            floats(&|a, b| a / b);
            floats(&|a, b| a.mul_add(b, isa.splat(0.25)));
            floats(&|a, b| a.max(b));
            floats(&|a, b| a.min(b));
            let mut ints = |f: &dyn Fn(S::F, S::F, S::I) -> S::I| {
                let mut y = [0; 16];
                for at in (0..16).step_by(S::LANES) {
                    let (a, b) = (isa.load(&a[at..]), isa.load(&b[at..]));
                    f(a, b, isa.load_ints(&u[at..])).store(&mut y[at..]);
                }
                out.push(y.to_vec());
            };
            ints(&|_, _, u| u + isa.ints(7));
            ints(&|_, _, u| u & isa.ints(0xff00ff));
            ints(&|_, _, u| u.lowest());
            ints(&|_, _, u| u.lowest().lookup(&table));
            ints(&|a, b, u| u.clear(a.not_le(b), isa.ints(0x0fff_ffff)));
            ints(&|a, b, u| a.not_le(b).pick(u, isa.ints(3)));
            ints(&|a, b, u| (!a.not_le(b)).pick(u, isa.ints(3)));
            ints(&|a, b, u| (a.not_le(b) & (u & isa.ints(0xffff)).any_bit()).pick(u, isa.ints(3)));
            ints(&|a, b, _| a.min(b).to_bits() << 3);
            let wide = |x: &[f32]| S::D::widen(isa.load(x));
            let mut doubles = [0.0f64; 16];
            for at in (0..16).step_by(S::LANES) {
                let sum = S::D::load(isa, &[0.5; 16]) + S::D::splat(isa, 0.25);
                wide(&a[at..]).mul_add(wide(&b[at..]), sum).store(&mut doubles[at..]);
            }
            let bits = |x: f64| if x.is_nan() { 1 } else { (x.to_bits() >> 32) as u32 };
            out.push(doubles.map(bits).to_vec());
            let square: Vec<f32> = (0..16 * 19).map(|i| i as f32).collect();
            let mut turned = [0.0; 16 * 17];
            for at in (0..16).step_by(S::LANES) {
                for to in (0..16).step_by(S::LANES) {
                    isa.turn(&square[at * 19 + to..], 19, &mut turned[to * 17 + at..], 17);
                }
            }
            out.push(turned.iter().map(|x| x.to_bits()).collect());
            out.push(vec![u32::from(isa.splat(1.0).not_le(isa.splat(1.0)).any())]);
            out.push(vec![u32::from(isa.splat(f32::NAN).not_le(isa.splat(1.0)).any())]);
            out
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_lanes() {
        let want = Level::Scalar.run(Every);
        assert_eq!(want[0][..2], [0, (-3.5f32).to_bits()]);
        let turned = &want[want.len() - 3];
        assert_eq!(turned[3 * 17 + 5], ((5 * 19 + 3) as f32).to_bits());
        for level in Level::all() {
            assert_eq!(level.run(Every), want, "{level:?}");
        }
    }
}
