//! What a kernel is: a table row that prepares, and a prepared thing that runs.

use kiln_ir::{Cancel, Error, Graph, NodeId, Result};
use kiln_tensor::{DType, Tensor};

/// One operand of a run.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    /// The shape.
    pub shape: &'a [usize],
    /// The elements; none where they are no `f32`, and none of the first operand where the
    /// kernel runs in place.
    pub data: &'a [f32],
    /// The tensor of an operand whose elements are no `f32`.
    pub other: Option<&'a Tensor>,
}

/// A result whose elements are no `f32`.
pub enum Integers<'a> {
    /// Unsigned bytes.
    U8(&'a mut [u8]),
    /// Signed bytes.
    I8(&'a mut [i8]),
    /// Sums.
    I32(&'a mut [i32]),
    /// Indices and labels.
    I64(&'a mut [i64]),
    /// Scores in double precision.
    F64(&'a mut [f64]),
    /// Truth values.
    Bool(&'a mut [bool]),
    /// Labels.
    Strings(&'a mut [String]),
}

impl<'a> Integers<'a> {
    /// Bytes of either sign, by their bits.
    pub fn bytes(self) -> Result<&'a mut [u8]> {
        match self {
            Integers::U8(y) => Ok(y),
            Integers::I8(y) => Ok(bytemuck::cast_slice_mut(y)),
            _ => Err(Error::bug("a kernel of bytes gives something else")),
        }
    }
}

/// The operands and the results of one run of one kernel.
pub struct Args<'a> {
    /// The operands; `None` where one is left out.
    pub inputs: Vec<Option<Operand<'a>>>,
    /// The shape of the first result.
    pub shape: &'a [usize],
    /// The first result; holds the first operand where the kernel runs in place, else anything.
    pub out: &'a mut [f32],
    /// The first result whose elements are no `f32`; its floats, in `out` or `more`, are empty.
    pub integers: Option<Integers<'a>>,
    /// Shape and elements of the other results; `None` where nothing reads one.
    pub more: Vec<Option<(&'a [usize], &'a mut [f32])>>,
    /// Whether `out` holds the first operand.
    pub in_place: bool,
    /// Polled in long loops.
    pub cancel: &'a Cancel,
}

impl<'a> Args<'a> {
    /// Operand `i`, where it is there.
    pub fn optional(&self, i: usize) -> Option<Operand<'a>> {
        self.inputs.get(i).copied().flatten()
    }

    /// Shape and elements of operand `i`, where it is there.
    pub fn floats(&self, i: usize) -> Option<(&'a [usize], &'a [f32])> {
        self.optional(i).map(|o| (o.shape, o.data))
    }

    /// Shape and elements of operand `i`, which must be there.
    pub fn input(&self, i: usize) -> Result<(&'a [usize], &'a [f32])> {
        self.floats(i).ok_or_else(|| Error::invalid(format!("input {i} is missing")))
    }

    /// The integers of operand `i`, where it is there.
    pub fn ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        let Some(o) = self.optional(i) else { return Ok(None) };
        let missing = || Error::bug(format!("input {i} of a kernel holds no integers"));
        Ok(Some(o.other.ok_or_else(missing)?.to_vec::<i64>()?))
    }
}

/// A kernel made ready for one node: weights packed, attributes read.
pub trait Kernel: Send + Sync {
    /// Calculates the node's outputs.
    fn run(&self, args: Args<'_>) -> Result<()>;
}

/// Results that are `f32` alone.
pub(crate) const FLOATS: &[DType] = &[DType::F32];
/// Results that may be bytes, or sums of their products.
pub(crate) const BYTES: &[DType] = &[DType::F32, DType::U8, DType::I8, DType::I32];
/// Labels and scores.
pub(crate) const LABELS: &[DType] = &[DType::F32, DType::F64, DType::I64, DType::String];
/// Truth values.
pub(crate) const TRUTHS: &[DType] = &[DType::Bool];

/// A row of the kernel table.
pub struct Row {
    /// The name: operator, layout, dtype.
    pub name: &'static str,
    /// Which nodes it takes and how it runs them, in a line.
    pub what: &'static str,
    /// Graphs on which the tests compare it with the definitions; constants may be left empty.
    pub graphs: &'static [&'static str],
    /// Whether the result may lie where the first operand lay.
    pub in_place: bool,
    /// The types that the first result may have.
    pub firsts: &'static [DType],
    /// Makes it ready for a node; `None` where it does not take the node. The first output has
    /// one of `firsts`; others that are read are `f32` or `i64`.
    pub prepare: fn(&Graph, NodeId) -> Option<Box<dyn Kernel>>,
}
