//! Values: element types, shapes, tensors, and what ONNX has beside tensors.
//!
//! ```text
//! DType ── Element ── Scalar ── Number      what one element is and can do
//! Tensor = dtype + shape + shared bytes     cheap to clone, copied on write
//! Datum  = Tensor | Sequence | Map | Optional
//! ```
//!
//! This crate knows no ONNX file and no graph.

pub mod datum;
pub mod dtype;
pub mod element;
pub mod error;
pub mod minifloat;
pub mod number;
pub mod rows;
pub mod shape;
pub mod tensor;

pub use datum::{Datum, Map, MapKeys};
pub use dtype::DType;
pub use element::{Complex, Element, I2, I4, U2, U4};
pub use error::{Error, Result};
pub use half::{bf16, f16};
pub use minifloat::{F4E2M1, F6E2M3, F6E3M2, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0};
pub use number::{Float, Number, Scalar};
pub use tensor::Tensor;
