//! The scores of a binary support vector machine, as they are: the operator gives `[-s, s]` with
//! the greater one for the other class.

use kiln_ir::ops::scores::PostTransform;
use kiln_ir::ops::svm::{Classes, Svm};
use kiln_ir::{Graph, NodeId, Op, Operator, Value};

use super::{Lint, each};

pub const LINT: Lint = Lint {
    name: "swapped_scores",
    help: "convert with options={\"raw_scores\": True}, train with probability=True, or read the \
           label",
    producers: &["skl2onnx"],
    find: |g| each(g, |id| wrong(g, id)),
};

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::Svm(Svm::Classifier(c)) = g.op(id) else { return None };
    let Classes::Pairs { vectors, platt, .. } = &c.classes else { return None };
    let raw = vectors.len() == 2 && platt.is_empty() && c.kernel.post == PostTransform::None;
    (raw && is_given(g, id.out(1))).then(|| {
        "the two columns of scores are swapped: the greater one is not that of the label".to_owned()
    })
}

/// Whether a value is an output of the graph as it is.
fn is_given(g: &Graph, v: Value) -> bool {
    const PASS: [&str; 3] = ["Identity", "Cast", "ai.onnx.ml.ZipMap"];
    let passed = |id: NodeId| PASS.contains(&g.op(id).name()) && is_given(g, id.first());
    g.is_output(v) || g.readers(v).any(|(id, _)| passed(id))
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::fired;

    fn machine(extra: &str, last: &str) -> String {
        format!(
            "l, s = ai.onnx.ml.SVMClassifier(x: f32[N,2]) {{kernel_type=\"LINEAR\", \
             support_vectors=[1.0,0.0,0.0,1.0], vectors_per_class=[1,1], \
             classlabels_ints=[0,1], coefficients=[1.0,-1.0], rho=[0.25]{extra}}}\n\
             y = {last}(s)\nreturn l, y"
        )
    }

    #[test]
    fn fires_where_the_scores_are_given_as_they_are() {
        assert_eq!(fired(&machine("", "Identity")), ["swapped_scores"]);
    }

    #[test]
    fn declines_negated_scores_and_probabilities() {
        assert!(fired(&machine("", "Neg")).is_empty());
        assert!(fired(&machine(", prob_a=[-1.0], prob_b=[0.5]", "Identity")).is_empty());
        assert!(fired(&machine(", post_transform=\"LOGISTIC\"", "Identity")).is_empty());
    }
}
