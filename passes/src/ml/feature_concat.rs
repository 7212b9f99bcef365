//! Puts columns side by side by the operator that other rules know.
//!
//! ```text
//! y = ai.onnx.ml.FeatureVectorizer(a: f32[N,2], b: f32[N,3]) {inputdimensions=[2, 3]}
//!                                                     =>   y = Concat(a, b) {axis=1}
//! ```
//!
//! Saves the whole operator where it has a single table, else nothing by itself: scalers are
//! folded and columns left out through a `Concat`. Exact.

use kiln_ir::ops::vectorize::Vectorize;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::DType;

use crate::columns::{matrix, side_by_side};
use crate::forms::dims;

/// See the module.
pub struct FeatureConcat;

impl Rewrite for FeatureConcat {
    fn name(&self) -> &'static str {
        "feature_concat"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Vectorize(Vectorize::Features(widths)) = g.op(root) else { return Ok(None) };
        let tables: Vec<Value> = g.inputs_of(root).into_iter().flatten().collect();
        let found: Option<Vec<_>> = tables.iter().map(|v| matrix(g, *v)).collect();
        let Some(found) = found else {
            return Err(Decline::new("a table has an unknown number of columns"));
        };
        if found.iter().any(|(dtype, _)| *dtype != DType::F32) {
            return Err(Decline::new("columns of another type are converted on the way"));
        }
        let fits = |((_, have), want): (&(DType, usize), &i64)| *have as i64 == *want;
        if !widths.is_empty() && !found.iter().zip(widths.iter()).all(fits) {
            return Err(Decline::new("columns are cut off or filled up")
                .advise("let `inputdimensions` say how many columns each input has"));
        }
        let mut rows = tables.iter().filter_map(|v| dims(g, *v)?.first()?.as_const());
        let first = rows.next();
        if rows.any(|n| Some(n) != first) {
            return Err(Decline::new("the tables have different numbers of rows"));
        }
        let sources: Vec<_> = tables.iter().map(|v| Some(Source::from(*v))).collect();
        let mut e = Edit::default();
        let y = side_by_side(&mut e, &sources);
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
    fn tables_side_by_side_and_one_alone() {
        check(
            &FeatureConcat,
            "y = ai.onnx.ml.FeatureVectorizer(a: f32[N,2], b: f32[N,3]) {inputdimensions=[2,3]}\n\
             z = ai.onnx.ml.FeatureVectorizer(b)\nreturn y, z",
            expect![[r#"
                a: f32[N,2]
                b: f32[N,3]
                y = Concat(a, b) {axis=1}
                return y, z=b
            "#]],
        );
    }

    #[test]
    fn keeps_what_is_converted_or_cut_and_rows_that_differ() {
        check(
            &FeatureConcat,
            "y = ai.onnx.ml.FeatureVectorizer(a: f32[N,2], b: i64[N,3])\n\
             z = ai.onnx.ml.FeatureVectorizer(a) {inputdimensions=[1]}\n\
             u = ai.onnx.ml.FeatureVectorizer(c: f32[2,1], d: f32[3,1])\nreturn y, z, u",
            expect![[r#"
                (unchanged)
                # feature_concat @ y: columns of another type are converted on the way
                # feature_concat @ z: columns are cut off or filled up
                # feature_concat @ u: the tables have different numbers of rows
            "#]],
        );
    }
}
