//! Symbols to numbers, from the shapes that a caller brings.

use std::collections::HashMap;

use kiln_ir::{Dim, Graph, Result, Sym, Type, Value, invalid};
use kiln_tensor::Datum;

/// What the symbols of a graph stand for in one run.
#[derive(Clone, Debug, Default)]
pub struct Bindings(HashMap<Sym, i64>);

impl Bindings {
    /// Reads the symbols off the inputs; an error where one symbol has two lengths.
    pub fn of(g: &Graph, inputs: &[Datum]) -> Result<Self> {
        let mut found: HashMap<Sym, i64> = HashMap::new();
        for (v, datum) in g.inputs().zip(inputs) {
            let (Type::Tensor(ty), Datum::Tensor(t)) = (g.ty(v), datum) else { continue };
            let Some(dims) = &ty.shape else { continue };
            for (d, &n) in dims.iter().zip(t.shape()) {
                let (Some(s), n) = (d.as_sym(), n as i64) else { continue };
                let before = found.insert(s.clone(), n);
                if let Some(m) = before.filter(|&m| m != n) {
                    let name = &g.node(v.node).name;
                    invalid!("input `{name}` gives {} the length {n}, another input {m}", s.name());
                }
            }
        }
        Ok(Self(found))
    }

    /// The number that a length stands for, where every symbol in it is known.
    pub fn len(&self, d: &Dim) -> Option<usize> {
        d.eval(&|s| self.0.get(s).copied()).and_then(|n| usize::try_from(n).ok())
    }

    /// Whether there are no symbols.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shape of a value, where it is a tensor and every length is known.
    pub fn shape(&self, g: &Graph, v: Value) -> Option<Vec<usize>> {
        match g.ty(v) {
            Type::Tensor(t) => t.shape.as_ref()?.iter().map(|d| self.len(d)).collect(),
            _ => None,
        }
    }
}
