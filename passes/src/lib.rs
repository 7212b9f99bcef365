//! Rewrites of the graph: one pass, one file; the order of phases in `pipeline`.
//!
//! A pass file holds a picture before and after, what it saves, whether it is exact, the rule
//! and its tests. Its name is the name of the rule, of the flag `--skip NAME`, and of the word
//! in every report.

mod algebra;
mod attend;
mod bisect;
mod clean;
mod closeness;
mod columns;
mod encoded;
mod epilogue;
mod forms;
mod fuse;
#[cfg(test)]
mod laws;
mod linear;
mod ml;
mod pipeline;
#[cfg(test)]
mod planted;
mod proof;
mod quant;
mod recognize;
mod region;
mod report;
mod samples;
mod sides;
mod skip;
mod spans;
#[cfg(test)]
mod testing;
mod trees;
mod weights;

pub use bisect::{Step, guilty, replay};
pub use closeness::{Bound, Gap};
pub use pipeline::{PassInfo, Pipeline, names, passes, pipeline, run, run_judged};
pub use proof::{Culprit, Proof, Sample};
pub use quant::{Range, Sites, rank_forests};
pub use report::{Declined, PassReport, Report};
pub use samples::samples;
pub use sides::{Sides, pictures};
