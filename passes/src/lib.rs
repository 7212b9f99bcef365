//! Rewrites of the graph: one pass, one file; the order of phases in `pipeline`.
//!
//! A pass file holds a picture before and after, what it saves, whether it is exact, the rule
//! and its tests. Its name is the name of the rule, of the flag `--skip NAME`, and of the word
//! in every report.

mod clean;
mod fuse;
#[cfg(test)]
mod laws;
mod pipeline;
mod report;
#[cfg(test)]
mod testing;

pub use pipeline::{PassInfo, Pipeline, names, passes, pipeline, run, run_judged};
pub use report::{Declined, PassReport, Report};
