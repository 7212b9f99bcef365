//! What can be wrong with a value.

use crate::DType;

/// Why a tensor could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The product of the lengths does not fit the address space.
    #[error("shape {0:?} has more elements than memory can address")]
    TooLarge(Vec<usize>),
    /// The data has another length than the shape asks for.
    #[error("shape {shape:?} needs {want} elements, the data has {got}")]
    Length {
        /// The shape asked for.
        shape: Vec<usize>,
        /// Elements (or bytes) that the shape needs.
        want: usize,
        /// Elements (or bytes) that are there.
        got: usize,
    },
    /// The tensor holds another element type than the reader asked for.
    #[error("expected elements of type {want}, found {got}")]
    DType {
        /// The type asked for.
        want: DType,
        /// The type held.
        got: DType,
    },
    /// Two shapes do not broadcast.
    #[error("shapes {0:?} and {1:?} do not broadcast")]
    Broadcast(Vec<usize>, Vec<usize>),
    /// A value is of another kind than the reader asked for.
    #[error("expected a {want}, found a {got}")]
    Kind {
        /// The kind asked for.
        want: &'static str,
        /// The kind held.
        got: &'static str,
    },
    /// An axis outside `-rank..rank`.
    #[error("axis {axis} is out of range for rank {rank}")]
    Axis {
        /// The axis given.
        axis: i64,
        /// The rank it must fit.
        rank: usize,
    },
}

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
