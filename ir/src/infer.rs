//! What an operator sees of its inputs while types are inferred.

use kiln_tensor::{DType, Tensor};

use crate::{Dim, Error, Fact, Result, Type, invalid};

/// The facts about one node's inputs, and a source of new symbols.
pub struct Infer<'a> {
    inputs: Vec<Option<(&'a Fact, Option<&'a Tensor>)>>,
    next: &'a mut u32,
    level: usize,
}

impl<'a> Infer<'a> {
    /// A context of facts and known constants; `next` numbers new symbols.
    pub fn new(inputs: Vec<Option<(&'a Fact, Option<&'a Tensor>)>>, next: &'a mut u32) -> Self {
        Self { inputs, next, level: 0 }
    }

    /// The same for a node that is `level` bodies deep in a body that is being inferred.
    #[must_use]
    pub(crate) fn at(self, level: usize) -> Self {
        Self { level, ..self }
    }

    /// How many bodies deep inference is.
    pub(crate) fn level(&self) -> usize {
        self.level
    }

    /// The number of input slots, trailing missing ones not counted.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether there are no inputs.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Whether input `i` is given.
    pub fn has(&self, i: usize) -> bool {
        self.inputs.get(i).is_some_and(Option::is_some)
    }

    /// The fact about input `i`; an error where it is missing.
    pub fn fact(&self, i: usize) -> Result<&'a Fact> {
        match self.inputs.get(i) {
            Some(Some((f, _))) => Ok(f),
            _ => Err(Error::invalid(format!("input {i} is missing"))),
        }
    }

    /// The type of input `i`.
    pub fn ty(&self, i: usize) -> Result<&'a Type> {
        Ok(&self.fact(i)?.ty)
    }

    /// The element type of input `i`, which must be a tensor.
    pub fn dtype(&self, i: usize) -> Result<DType> {
        Ok(self.ty(i)?.as_tensor()?.dtype)
    }

    /// The element type of input `i`, which must be one of `allowed`.
    pub fn dtype_in(&self, i: usize, allowed: impl Fn(DType) -> bool) -> Result<DType> {
        let d = self.dtype(i)?;
        if !allowed(d) {
            invalid!("input {i} has element type {d}, which this operator does not take");
        }
        Ok(d)
    }

    /// The element type that inputs `of` share; an error where they differ.
    pub fn same_dtype(&self, of: impl IntoIterator<Item = usize>) -> Result<DType> {
        let mut common = None;
        for i in of.into_iter().filter(|&i| self.has(i)) {
            let d = self.dtype(i)?;
            match common {
                Some((j, c)) if c != d => {
                    invalid!("input {j} is {c} and input {i} is {d}: they must have one type")
                }
                _ => common = Some((i, d)),
            }
        }
        common.map(|(_, d)| d).ok_or_else(|| Error::invalid("no input is given"))
    }

    /// The shape of input `i` where its rank is known; an error where it is no tensor.
    pub fn shape(&self, i: usize) -> Result<Option<&'a [Dim]>> {
        Ok(self.ty(i)?.as_tensor()?.shape.as_deref())
    }

    /// The constant fed to input `i`, if it is one.
    pub fn constant(&self, i: usize) -> Option<&'a Tensor> {
        self.inputs.get(i).copied().flatten().and_then(|(_, c)| c)
    }

    /// The integers of a constant input; `None` where it is not constant.
    pub fn ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        Ok(self.constant(i).map(Tensor::to_vec::<i64>).transpose()?)
    }

    /// The elements of input `i` as lengths, from a constant or from what is known of them.
    pub fn dims(&self, i: usize) -> Option<Vec<Dim>> {
        let (fact, constant) = self.inputs.get(i).copied().flatten()?;
        match constant {
            Some(t) if t.dtype().is_integer() && t.rank() <= 1 && t.len() <= 64 => {
                Some(t.to_vec::<i64>().ok()?.into_iter().map(Dim::from).collect())
            }
            _ => fact.dims.as_ref().map(|d| d.to_vec()),
        }
    }

    /// A length that only the data decides.
    pub fn fresh(&mut self) -> Dim {
        *self.next += 1;
        Dim::sym(&format!("?{}", self.next))
    }

    /// `rank` lengths that only the data decides.
    pub fn fresh_shape(&mut self, rank: usize) -> Vec<Dim> {
        (0..rank).map(|_| self.fresh()).collect()
    }

    /// The broadcast of the shapes of inputs `of`; `None` where a rank is unknown.
    pub fn broadcast(&mut self, of: impl IntoIterator<Item = usize>) -> Result<Option<Vec<Dim>>> {
        let mut out: Option<Vec<Dim>> = Some(vec![]);
        for i in of.into_iter().filter(|&i| self.has(i)) {
            out = match (out, self.shape(i)?) {
                (Some(a), Some(b)) => Some(broadcast(&a, b)?),
                _ => None,
            };
        }
        Ok(out)
    }
}

/// The multidirectional broadcast of two shapes.
///
/// Two different unknown lengths give the one that is not known to be 1; that they agree is
/// checked when the model runs.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1i64);
    let at = |s: &[Dim], i: usize| {
        (i + s.len()).checked_sub(rank).map_or_else(|| one.clone(), |k| s[k].clone())
    };
    (0..rank).map(|i| broadcast_dim(at(a, i), at(b, i))).collect()
}

/// The broadcast of two lengths.
pub fn broadcast_dim(a: Dim, b: Dim) -> Result<Dim> {
    match (a.as_const(), b.as_const()) {
        _ if a == b => Ok(a),
        (Some(1), _) => Ok(b),
        (_, Some(1)) => Ok(a),
        (Some(x), Some(y)) => invalid!("lengths {x} and {y} do not broadcast"),
        // An unknown length beside a number other than 1 must be 1 or that number.
        (Some(_), None) => Ok(a),
        (None, Some(_)) => Ok(b),
        // Either could be the 1; the larger covers both.
        (None, None) => Ok(a.larger(&b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_with_symbols() {
        let n = Dim::sym("N");
        let got = broadcast(&[n.clone(), 1i64.into()], &[3i64.into()]);
        assert_eq!(got.expect("broadcasts"), [n, 3i64.into()]);
        assert!(broadcast(&[2i64.into()], &[3i64.into()]).is_err());
    }
}
