//! The matrices of experts, unpacked row by row.

use std::borrow::Cow;

use kiln_tensor::Tensor;

use crate::ops::real::{Ticks, widen};
use crate::{Context, Result, invalid};

/// How the rows of a matrix are packed, the first element of a byte in its low bits.
#[derive(Clone, Copy)]
pub struct Packing {
    bits: usize,
    /// Elements of a row that share a scale.
    block: usize,
    /// Blocks of a row; 0: all rows have one, and zero points lie side by side.
    blocks: usize,
}

impl Packing {
    pub fn new(bits: i64, block: i64, columns: usize) -> Result<Self> {
        let (bits, block) = (bits as usize, block as usize);
        let whole = block == 0 || columns.is_multiple_of(block);
        if !matches!(bits, 2 | 4 | 8) || !(columns * bits).is_multiple_of(8) || !whole {
            invalid!("rows of {columns} elements of {bits} bits, in blocks of {block}");
        }
        let blocks = columns.checked_div(block).unwrap_or(0);
        Ok(Self { bits, block: if block == 0 { columns } else { block }, blocks })
    }

    fn at(self, bytes: &[u8], i: usize) -> u8 {
        let bit = i * self.bits;
        let mask = ((1u16 << self.bits) - 1) as u8;
        bytes[bit / 8] >> (bit % 8) & mask
    }

    fn bytes(self, elements: usize) -> usize {
        (elements * self.bits).div_ceil(8)
    }
}

enum Weights<'a> {
    Real(Cow<'a, [f32]>),
    Packed { bytes: &'a [u8], scales: Cow<'a, [f32]>, zeros: Option<&'a [u8]>, packing: Packing },
}

/// One matrix for each expert, `experts x rows x columns`.
pub struct Matrix<'a> {
    pub rows: usize,
    columns: usize,
    weights: Weights<'a>,
    bias: Option<Cow<'a, [f32]>>,
}

impl<'a> Matrix<'a> {
    /// Matrix `i` of the experts, with its scales, its bias and its zero points.
    pub fn new(
        i: usize,
        w: &'a Tensor,
        [scales, bias, zeros]: [Option<&'a Tensor>; 3],
        packing: Option<Packing>,
        [experts, columns]: [usize; 2],
    ) -> Result<Self> {
        let &[e, rows, stored] = w.shape() else {
            invalid!("weights {i} have rank {}, expected 3", w.shape().len());
        };
        let wanted = packing.map_or(columns, |p| p.bytes(columns));
        if e != experts || stored != wanted {
            invalid!("weights {i} are {:?}, expected [{experts}, _, {wanted}]", w.shape());
        }
        let fits = |what: &str, t: Option<&Tensor>, n: usize| match t {
            Some(t) if t.len() != n => invalid!("{what} of weights {i} are {}, not {n}", t.len()),
            _ => Ok(()),
        };
        fits("biases", bias, e * rows)?;
        let weights = match packing {
            None => Weights::Real(widen::<f32>(w)?),
            Some(packing) => {
                let blocks = packing.blocks.max(1);
                fits("scales", scales, e * rows * blocks)?;
                let row = if packing.blocks == 0 { rows } else { rows * packing.blocks };
                let bytes = match packing.blocks {
                    0 => packing.bytes(row),
                    blocks => rows * packing.bytes(blocks),
                };
                fits("zero points", zeros, e * bytes)?;
                let Some(scales) = scales else { invalid!("weights {i} have no scales") };
                let zeros = zeros.map(Tensor::as_slice::<u8>).transpose()?;
                Weights::Packed {
                    bytes: w.as_slice::<u8>()?,
                    scales: widen::<f32>(scales)?,
                    zeros,
                    packing,
                }
            }
        };
        Ok(Self { rows, columns, weights, bias: bias.map(widen::<f32>).transpose()? })
    }

    /// Row `row` of an expert, in real numbers.
    fn row(&self, expert: usize, row: usize, to: &mut [f32]) {
        let at = expert * self.rows + row;
        match &self.weights {
            Weights::Real(w) => to.copy_from_slice(&w[at * self.columns..][..self.columns]),
            Weights::Packed { bytes, scales, zeros, packing: p } => {
                let n = p.bytes(self.columns);
                let bytes = &bytes[at * n..][..n];
                let blocks = p.blocks.max(1);
                for (block, to) in to.chunks_mut(p.block.max(1)).enumerate() {
                    let zero = match zeros {
                        None => 1 << (p.bits - 1),
                        Some(z) if p.blocks == 0 => p.at(&z[expert * p.bytes(self.rows)..], row),
                        Some(z) => p.at(&z[at * p.bytes(blocks)..], block),
                    };
                    let scale = scales[at * blocks + block];
                    for (i, to) in to.iter_mut().enumerate() {
                        let q = p.at(bytes, block * p.block + i);
                        *to = (f32::from(q) - f32::from(zero)) * scale;
                    }
                }
            }
        }
    }

    /// The matrix of an expert times each of `x`, and its bias.
    pub fn times(
        &self,
        cx: &Context,
        expert: usize,
        x: &[&[f32]],
        ticks: &mut Ticks<'_>,
    ) -> Result<Vec<f32>> {
        let mut y = cx.zeros::<f32>(&[x.len(), self.rows])?;
        let mut w = cx.zeros::<f32>(&[self.columns])?;
        for row in 0..self.rows {
            self.row(expert, row, &mut w);
            let bias = self.bias.as_ref().map_or(0.0, |b| b[expert * self.rows + row]);
            for (i, x) in x.iter().enumerate() {
                let sum: f32 = w.iter().zip(*x).map(|(w, x)| w * x).sum();
                y[i * self.rows + row] = sum + bias;
            }
            ticks.add(self.columns * (x.len() + 1))?;
        }
        Ok(y)
    }
}
