//! Runs a model on samples and looks at its values.

use std::collections::{BTreeSet, HashMap};

use kiln_ir::{Graph, Result, Value};
use kiln_passes::Range;
use kiln_tensor::Datum;

use super::range::{Extremes, Histogram, Method};
use super::{Runner, check_sample};

/// The ranges of values over all samples. They do not depend on the order of the samples.
///
/// An error is that of the model on a sample, or of a sample that is no input for it.
pub(super) fn ranges(
    runner: &Runner<'_>,
    g: &Graph,
    values: &BTreeSet<Value>,
    samples: &[Vec<Datum>],
    method: Method,
) -> Result<HashMap<Value, Range>> {
    for (i, sample) in samples.iter().enumerate() {
        check_sample(g, i, sample)?;
    }
    let mut observed = g.clone();
    let named = values.iter().enumerate().map(|(i, v)| (format!("v{i}").into(), *v));
    observed.set_outputs(named.collect());
    let compiled = runner.compile(observed)?;
    let see = |look: &mut dyn FnMut(usize, &[f32])| -> Result<()> {
        for (i, sample) in samples.iter().enumerate() {
            let seen =
                runner.run(&compiled, sample).map_err(|e| e.in_file(format!("sample {i}")))?;
            for (j, d) in seen.iter().enumerate() {
                look(j, d.as_tensor()?.as_slice::<f32>()?);
            }
        }
        Ok(())
    };
    let mut extremes = vec![Extremes::default(); values.len()];
    see(&mut |j, numbers| extremes[j].add(numbers))?;
    if method == Method::MinMax {
        return Ok(values.iter().copied().zip(extremes.iter().map(|e| e.range())).collect());
    }
    // A second run, because bins need to know where they lie.
    let mut histograms: Vec<_> = extremes.into_iter().map(Histogram::new).collect();
    see(&mut |j, numbers| histograms[j].add(numbers))?;
    Ok(values.iter().copied().zip(histograms.iter().map(|h| h.range(method))).collect())
}
