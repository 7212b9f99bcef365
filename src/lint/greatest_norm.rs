//! `Normalizer` by MAX, which is the greatest value: scikit-learn divides by the greatest size.

use kiln_ir::ops::preprocess::{Norm, Preprocess};
use kiln_ir::{Graph, NodeId, Op};

use super::{Lint, each};

pub const LINT: Lint = Lint {
    name: "greatest_norm",
    help: "train with norm=\"l1\" or \"l2\", or see that no value is negative",
    producers: &["skl2onnx"],
    find: |g| each(g, |id| wrong(g, id)),
};

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::Preprocess(Preprocess::Normalizer(Norm::Max)) = g.op(id) else { return None };
    Some(
        "rows are divided by their greatest value, not by their greatest absolute value: those \
         whose greatest size is negative are wrong"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{fired, fired_of};

    fn normalized(norm: &str) -> String {
        format!("y = ai.onnx.ml.Normalizer(x: f32[N,3]) {{norm=\"{norm}\"}}\nreturn y")
    }

    #[test]
    fn fires_on_the_greatest_value_of_scikit_learn() {
        assert_eq!(fired(&normalized("MAX")), ["greatest_norm"]);
    }

    #[test]
    fn declines_other_norms_and_other_producers() {
        assert!(fired(&normalized("L1")).is_empty());
        assert!(fired_of(&normalized("MAX"), "ML.NET").is_empty());
    }
}
