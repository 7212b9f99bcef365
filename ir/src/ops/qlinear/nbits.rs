//! A product with a matrix of few bits.
//!
//! ```text
//! y = com.microsoft.MatMulNBits(a: f32[M,K], b: u8[N,K/64,32], scales: f32[N,K/64]) {K=.., N=..}
//! ```
//! A row of `b` has the elements of one column of the matrix, in blocks that share a scale and
//! a zero point; the first element of a byte has its low bits.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::matmul::product;
use crate::ops::real::{Real, Ticks, is_real, match_real, narrow, widen};
use crate::{Attrs, Build, Built, Context, Fact, Infer, Operator, Result, attrs, invalid};

attrs! {
    /// How the matrix is packed.
    #[derive(Copy)]
    pub struct Packing {
        /// Its rows.
        k "K": i64,
        /// Its columns.
        n "N": i64,
        /// The bits of an element: 2, 4 or 8.
        bits: i64 = 4,
        /// How many elements of a column share a scale.
        block_size: i64,
    }
}

/// A product with a packed matrix; inputs `a b scales zero_points g_idx bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMulNBits {
    /// How the matrix is packed.
    pub packing: Box<Packing>,
}

pub(super) fn build(b: &mut Build<'_>) -> Result<Built> {
    // How exact a kernel must be; the definition is exact.
    b.take::<i64>("accuracy_level")?;
    b.take::<i64>("weight_prepacked")?;
    Ok(MatMulNBits { packing: Box::new(Packing::read(&mut b.attrs)?) }.into())
}

/// The checked lengths of a packed matrix.
struct Lengths {
    k: usize,
    n: usize,
    bits: usize,
    block: usize,
    /// Blocks of a column.
    blocks: usize,
}

impl Packing {
    fn lengths(&self) -> Result<Lengths> {
        let of = |x: i64| usize::try_from(x).ok().filter(|&x| x > 0 && x <= 1 << 31);
        let (Some(k), Some(n), Some(block)) = (of(self.k), of(self.n), of(self.block_size)) else {
            invalid!("K, N and block_size must be positive and at most 2^31");
        };
        let bits = self.bits as usize;
        if ![2, 4, 8].contains(&self.bits) || !(block * bits).is_multiple_of(8) {
            invalid!("blocks of {block} elements of {} bits do not fill bytes", self.bits);
        }
        Ok(Lengths { k, n, bits, block, blocks: k.div_ceil(block) })
    }
}

impl Lengths {
    /// Element `i` of a row of packed bits.
    fn bits_at(&self, row: &[u8], i: usize) -> u8 {
        let at = i * self.bits;
        ((u16::from(row[at / 8]) >> (at % 8)) & ((1 << self.bits) - 1)) as u8
    }

    /// The zero points of all blocks.
    fn zeros<R: Real>(&self, t: Option<&Tensor>) -> Result<Vec<R>> {
        let count = self.n * self.blocks;
        let row = (self.blocks * self.bits).div_ceil(8);
        match t {
            None => Ok(vec![R::of((1u32 << (self.bits - 1)).into()); count]),
            Some(t) if t.dtype() == DType::U8 && t.len() == self.n * row => {
                let unpack = |row: &[u8]| (0..self.blocks).map(|i| self.bits_at(row, i)).collect();
                let rows = t.as_slice::<u8>()?.chunks_exact(row);
                Ok(rows
                    .flat_map(|row| -> Vec<u8> { unpack(row) })
                    .map(|z| R::of(z.into()))
                    .collect())
            }
            Some(t) if t.dtype() != DType::U8 && t.len() == count => {
                Ok(widen::<R>(t)?.into_owned())
            }
            Some(t) => invalid!(
                "zero points are {}{:?}: {} columns have {} blocks each",
                t.dtype(),
                t.shape(),
                self.n,
                self.blocks
            ),
        }
    }

    /// The block that each element of a column belongs to.
    fn groups(&self, t: Option<&Tensor>) -> Result<Vec<usize>> {
        let Some(t) = t else { return Ok((0..self.k).map(|k| k / self.block).collect()) };
        let groups = t.to_vec::<i64>()?;
        let of = |g: &i64| usize::try_from(*g).ok().filter(|&g| g < self.blocks);
        match groups.iter().map(of).collect::<Option<Vec<_>>>() {
            // Some exporters round the length up to whole blocks.
            Some(g) if g.len() >= self.k => Ok(g),
            _ => invalid!(
                "g_idx must name one of {} blocks for each of {} rows",
                self.blocks,
                self.k
            ),
        }
    }

    /// The matrix in real numbers, row by row.
    fn unpack<R: Real>(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<R>> {
        let (b, scales) = (tensor(inputs, 1)?, tensor(inputs, 2)?);
        let column = self.blocks * self.block * self.bits / 8;
        let mut w = cx.zeros::<R>(&[self.k, self.n])?;
        if b.len() != self.n * column || scales.len() != self.n * self.blocks {
            invalid!(
                "b has {} bytes and {} scales: {} columns need {column} bytes and {} scales each",
                b.len(),
                scales.len(),
                self.n,
                self.blocks
            );
        }
        let zeros = self.zeros::<R>(optional(inputs, 3)?)?;
        let groups = self.groups(optional(inputs, 4)?)?;
        let scales = widen::<R>(scales)?;
        let mut ticks = Ticks::new(cx);
        for (n, column) in b.as_slice::<u8>()?.chunks_exact(column).enumerate() {
            for k in 0..self.k {
                let group = n * self.blocks + groups[k];
                let q = R::of(self.bits_at(column, k).into());
                w[k * self.n + n] = (q - zeros[group]) * scales[group];
            }
            ticks.add(self.k)?;
        }
        Ok(w)
    }
}

impl MatMulNBits {
    fn run<R: Real>(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Tensor> {
        let a = tensor(inputs, 0)?;
        let s = self.packing.lengths()?;
        if a.shape().last() != Some(&s.k) {
            invalid!("a has shape {:?}, its rows must have {} elements", a.shape(), s.k);
        }
        let w = s.unpack::<R>(cx, inputs)?;
        let (shape, mut y) = product(cx, (a.shape(), &widen::<R>(a)?), (&[s.k, s.n], &w))?;
        if let Some(bias) = optional(inputs, 5)? {
            if bias.len() != s.n {
                invalid!("{} columns have a bias of {} elements", s.n, bias.len());
            }
            let bias = widen::<R>(bias)?;
            y.chunks_exact_mut(s.n)
                .for_each(|y| y.iter_mut().zip(&*bias).for_each(|(y, &b)| *y += b));
        }
        narrow(a.dtype(), &shape, y)
    }
}

impl Operator for MatMulNBits {
    fn name(&self) -> &str {
        "com.microsoft.MatMulNBits"
    }

    fn attrs(&self) -> Attrs {
        self.packing.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=6
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype([0, 2, 5])?;
        cx.dtype_in(1, |d| d == DType::U8)?;
        if cx.has(3) {
            cx.dtype_in(3, |d| d == DType::U8 || d == dtype)?;
        }
        if cx.has(4) {
            cx.dtype_in(4, |d| d == DType::I32)?;
        }
        let s = self.packing.lengths()?;
        let shape = match cx.shape(0)? {
            Some([batch @ .., k]) => {
                if k.as_const().is_some_and(|k| k != s.k as i64) {
                    invalid!("rows of a have {k} elements, not {}", s.k);
                }
                Some(batch.iter().cloned().chain([s.n.into()]).collect())
            }
            Some([]) => invalid!("a is a scalar"),
            None => None,
        };
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let dtype = tensor(inputs, 0)?.dtype();
        let y = match_real!(dtype, R => self.run::<R>(cx, inputs)?,
            else invalid!("MatMulNBits takes no {dtype}"));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn t<T: kiln_tensor::Element>(shape: &[usize], data: &[T]) -> Tensor {
        Tensor::from_vec(shape, data.to_vec()).expect("lengths agree")
    }

    #[test]
    fn nibbles_by_block() {
        // One column of three rows in blocks of two: 9 10 | 7, of which 8 is zero.
        let text = "y = com.microsoft.MatMulNBits(a: f32[1,3], b: u8[1,2,1], s: f32[2]) \
                    {K=3, N=1, block_size=2}\nreturn y";
        let a = t(&[1, 3], &[1f32, 10.0, 100.0]);
        let (b, s) = (t(&[1, 2, 1], &[0xa9u8, 0x07]), t(&[2], &[1f32, 0.5]));
        let y = run1(text, &[a.clone(), b.clone(), s.clone()]).expect("runs");
        assert_eq!(y, t(&[1, 1], &[1f32 + 20.0 - 50.0]));
        let text = "y = com.microsoft.MatMulNBits(a: f32[1,3], b: u8[1,2,1], s: f32[2], z: u8[1], \
                    g: i32[3], c: f32[1]) {K=3, N=1, block_size=2}\nreturn y";
        // Zero points 9 and 6; the first row is of the second block.
        let rest = [t(&[1], &[0x69u8]), t(&[3], &[1i32, 0, 1]), t(&[1], &[0.25f32])];
        let inputs: Vec<_> = [a.clone(), b.clone(), s.clone()].into_iter().chain(rest).collect();
        let y = run1(text, &inputs).expect("runs");
        assert_eq!(y, t(&[1, 1], &[1.5f32 + 10.0 + 50.0 + 0.25]));
        let text = "y = com.microsoft.MatMulNBits(a: f32[1,2], b: u8[1,1,2], s: f32[1], z: f32[1]) \
                    {K=2, N=1, block_size=2, bits=8}\nreturn y";
        let inputs = [
            t(&[1, 2], &[1f32, 10.0]),
            t(&[1, 1, 2], &[1u8, 255]),
            t(&[1], &[2f32]),
            t(&[1], &[0.5f32]),
        ];
        assert_eq!(run1(text, &inputs).expect("runs"), t(&[1, 1], &[1f32 + 5090.0]));
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |attrs: &str| {
            let op = "com.microsoft.MatMulNBits(a: f16[B,S,64], b: u8[8,2,16], s: f16[16])";
            types(&format!("y = {op} {{{attrs}}}\nreturn y"))
        };
        assert_eq!(ty("K=64, N=8, block_size=32").expect("types"), ["f16[B,S,8]"]);
        assert!(ty("K=32, N=8, block_size=32").is_err());
        assert!(ty("K=64, N=8, block_size=32, bits=3").is_err());
        assert!(ty("K=64, N=-8, block_size=32").is_err());
    }
}
