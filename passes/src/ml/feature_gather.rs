//! Picks columns by the operator that has a kernel.
//!
//! ```text
//! y = ai.onnx.ml.ArrayFeatureExtractor(x: f32[N,4], [2, 0])   =>   y = Gather(x, [2, 0]) {axis=-1}
//! ```
//!
//! Saves nothing by itself: `Gather` is what kernels and other rules know. Exact.

use kiln_ir::ops::gather::Gather;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Verdict};
use kiln_tensor::Tensor;

use crate::forms::ints;

/// See the module.
pub struct FeatureGather;

impl Rewrite for FeatureGather {
    fn name(&self) -> &'static str {
        "feature_gather"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Gather(Gather::Features) = g.op(root) else { return Ok(None) };
        let [Some(x), Some(i)] = [g.input_of(root, 0), g.input_of(root, 1)] else {
            return Ok(None);
        };
        let [Some(rank), Some(of_index)] = [x, i].map(|v| g.ty(v).rank()) else {
            return Err(Decline::new("the rank is unknown"));
        };
        let mut e = Edit::default();
        let index = match ints(g, i) {
            // A vector is a matrix of one row, and so is what is picked from it.
            Some(index) if rank == 1 => {
                let n = index.len();
                let Ok(index) = Tensor::from_vec(&[1, n], index) else { return Ok(None) };
                e.constant(index)
            }
            Some(index) => e.constant(Tensor::vector(index)),
            None if rank > 1 && of_index == 1 => Source::from(i),
            None => return Err(Decline::new("the indices would have to be given another shape")),
        };
        let y = e.node(Gather::Slices { axis: -1 }, &[Some(x.into()), Some(index)]);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn columns_of_tables_and_elements_of_vectors() {
        check(
            &FeatureGather,
            "i = i64[1,2]{2, 0}\ny = ai.onnx.ml.ArrayFeatureExtractor(x: f32[N,4], i)\n\
             z = ai.onnx.ml.ArrayFeatureExtractor(v: str[4], i)\n\
             w = ai.onnx.ml.ArrayFeatureExtractor(x, j: i64[M])\nreturn y, z, w",
            expect![[r#"
                x: f32[N,4]
                v: str[4]
                j: i64[M]
                z/feature_gather0 = i64[1,2]{2, 0}
                w = Gather(x, j) {axis=-1}
                y/feature_gather0 = i64[2]{2, 0}
                y = Gather(x, y/feature_gather0) {axis=-1}
                z = Gather(v, z/feature_gather0) {axis=-1}
                return y, z, w
            "#]],
        );
    }

    #[test]
    fn keeps_indices_that_would_need_another_shape() {
        check(
            &FeatureGather,
            "y = ai.onnx.ml.ArrayFeatureExtractor(v: f32[4], j: i64[M])\nreturn y",
            expect![[r#"
                (unchanged)
                # feature_gather @ y: the indices would have to be given another shape
            "#]],
        );
    }
}
