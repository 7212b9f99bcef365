//! Masks of keys, whatever their form.

use kiln_tensor::{DType, Tensor};

use super::{Call, given_dim, rank, unsqueeze, unsupported};
use crate::{Attrs, Build, Result, Value};

/// What a mask is about: queries and keys in heads, without the past.
pub(super) struct Keys {
    pub q: Value,
    pub k: Value,
    /// What is added where a mask hides a key.
    pub filter: f32,
}

fn length(b: &mut Build<'_>, v: Value, axis: i64) -> Result<Value> {
    b.op_with("Shape", &[v], Attrs::default().with("start", axis).with("end", axis + 1))
}

impl Keys {
    /// Puts a mask into a call: its zeros (or what lies behind a length) are not seen.
    pub fn mask(&self, b: &mut Build<'_>, call: &mut Call, mask: Option<Value>) -> Result<()> {
        let Some(mask) = mask else { return Ok(()) };
        let axes: &[i64] = match rank(b, mask)? {
            1 => return self.lengths(b, call, mask),
            2 => &[1, 2],
            3 => &[1],
            4 => &[],
            r => return unsupported(&format!("a mask of rank {r}")),
        };
        let mut mask = mask;
        if axes.is_empty() {
            mask = self.corner(b, call, mask)?;
        }
        let dtype = b.ty(self.q).as_tensor()?.dtype;
        let mask = b.cast(mask, dtype)?;
        let (one, filter) = (b.float(dtype, 1.0)?, b.float(dtype, self.filter.into())?);
        let hidden = b.op("Sub", &[one, mask])?;
        let bias = b.op("Mul", &[hidden, filter])?;
        call.mask = Some(if axes.is_empty() { bias } else { unsqueeze(b, bias, axes)? });
        Ok(())
    }

    /// How many keys there are, those of the past first and all then.
    fn counts(&self, b: &mut Build<'_>, call: &Call) -> Result<[Value; 2]> {
        let new = length(b, self.k, 2)?;
        Ok(match call.past[0] {
            Some(past) => {
                let before = length(b, past, 2)?;
                [before, b.op("Add", &[before, new])?]
            }
            None => [b.ints(&[0]), new],
        })
    }

    /// The rows of the new queries and the columns of all keys, of a mask for the longest text.
    fn corner(&self, b: &mut Build<'_>, call: &Call, mask: Value) -> Result<Value> {
        let ([before, all], zero) = (self.counts(b, call)?, b.ints(&[0]));
        let queries = length(b, self.q, 2)?;
        let end = b.op("Add", &[before, queries])?;
        let mut join =
            |x: Value, y: Value| b.op_with("Concat", &[x, y], Attrs::default().with("axis", 0i64));
        let (starts, ends) = (join(before, zero)?, join(end, all)?);
        let axes = b.ints(&[2, 3]);
        b.op("Slice", &[mask, starts, ends, axes])
    }

    /// Lengths of the batch's elements; behind them may be where their keys begin.
    fn lengths(&self, b: &mut Build<'_>, call: &mut Call, mask: Value) -> Result<()> {
        let (n, batch) = (given_dim(b, mask, 0)?, given_dim(b, self.q, 0)?);
        let starts = n.zip(batch).is_some_and(|(n, batch)| n == 2 * batch);
        let plain = call.past[0].is_none() && !call.attrs.has("is_causal") && !starts;
        let mask = b.cast(mask, DType::I64)?;
        if plain {
            call.lengths = Some(mask);
            return Ok(());
        }
        let parts = match starts {
            true => super::parts(b, mask, 2, None)?,
            false => vec![mask],
        };
        let (all, [zero, one]) = (self.counts(b, call)?[1], [0i64, 1].map(Tensor::scalar));
        let (zero, one, all) = (b.constant(zero), b.constant(one), b.reshape(all, &[])?);
        let places = b.op("Range", &[zero, all, one])?;
        let mut hidden = None;
        for (part, op) in parts.into_iter().zip(["GreaterOrEqual", "Less"]) {
            let part = unsqueeze(b, part, &[1])?;
            let beyond = b.op(op, &[places, part])?;
            hidden = Some(match hidden {
                Some(h) => b.op("Or", &[h, beyond])?,
                None => beyond,
            });
        }
        let Some(hidden) = hidden else { return unsupported("an empty mask") };
        let dtype = b.ty(self.q).as_tensor()?.dtype;
        let (filter, seen) = (b.float(dtype, self.filter.into())?, b.float(dtype, 0.0)?);
        let bias = b.op("Where", &[hidden, filter, seen])?;
        call.mask = Some(unsqueeze(b, bias, &[1, 2])?);
        Ok(())
    }
}
