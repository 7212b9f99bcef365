//! Keeps one of support vectors that are the same.
//!
//! ```text
//! y = ai.onnx.ml.SVMRegressor(x) {support_vectors=[s, t, s], coefficients=[a, b, c]}
//!   =>   y = ai.onnx.ml.SVMRegressor(x) {support_vectors=[s, t], coefficients=[a+c, b]}
//! ```
//!
//! Saves a kernel for each of the others; rows that training data hold twice become such vectors.
//! Those of a classifier must be of one class. Not exact: the sums of coefficients are rounded.

use std::collections::HashMap;

use kiln_ir::ops::svm::{Classes, Kernel, Svm};
use kiln_ir::{Attr, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Verdict};

/// See the module.
pub struct SvmDuplicate;

impl Rewrite for SvmDuplicate {
    fn name(&self) -> &'static str {
        "svm_duplicate"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Svm(svm) = g.op(root) else { return Ok(None) };
        let Some(x) = g.input_of(root, 0) else { return Ok(None) };
        let (kernel, groups) = match svm {
            Svm::Regressor(m) => (&m.kernel, vec![m.count]),
            Svm::Classifier(m) => match &m.classes {
                Classes::Pairs { vectors, .. } => (&m.kernel, vectors.clone()),
                Classes::Linear => return Ok(None),
            },
        };
        let Some(merged) = Merged::of(kernel, &groups)? else { return Ok(None) };
        let mut attrs = g.op(root).attrs();
        let counts: Vec<i64> = merged.groups.iter().map(|&n| n as i64).collect();
        match svm {
            Svm::Regressor(_) => attrs.set("n_supports", Attr::Int(counts[0])),
            Svm::Classifier(_) => attrs.set("vectors_per_class", Attr::Ints(counts)),
        }
        attrs.set("support_vectors", Attr::Floats(merged.vectors));
        attrs.set("coefficients", Attr::Floats(merged.coefficients));
        let mut e = Edit::default();
        let y = e.call(g.op(root).name(), &[Some(Source::from(x))], attrs);
        g.outputs_of(root).for_each(|v| e.replace(v, y.slot(v.slot())));
        Ok(Some(e))
    }
}

/// Support vectors of which no two in a group are the same.
struct Merged {
    vectors: Vec<f32>,
    coefficients: Vec<f32>,
    groups: Vec<usize>,
}

impl Merged {
    /// Nothing where all are different already.
    fn of(k: &Kernel, groups: &[usize]) -> Result<Option<Self>, Decline> {
        let count: usize = groups.iter().sum();
        let columns = k.support_vectors.len() / count.max(1);
        if count == 0 || columns == 0 {
            return Ok(None);
        }
        // The places of the first of each kind, and for each vector its kind.
        let (mut firsts, mut kinds, mut sizes) = (vec![], vec![], vec![]);
        let mut vectors = k.support_vectors.chunks_exact(columns).enumerate();
        for &n in groups {
            let (mut known, before) = (HashMap::new(), firsts.len());
            for (i, vector) in vectors.by_ref().take(n) {
                let bits: Vec<u32> = vector.iter().map(|x| x.to_bits()).collect();
                kinds.push(*known.entry(bits).or_insert_with(|| {
                    firsts.push(i);
                    firsts.len() - 1
                }));
            }
            sizes.push(firsts.len() - before);
        }
        if firsts.len() == count {
            return Ok(None);
        }
        let mut sums = vec![0.0; k.coefficients.len() / count * firsts.len()];
        for (at, &a) in k.coefficients.iter().enumerate() {
            sums[at / count * firsts.len() + kinds[at % count]] += f64::from(a);
        }
        let coefficients: Vec<f32> = sums.into_iter().map(|a| a as f32).collect();
        if coefficients.iter().any(|a| !a.is_finite()) {
            return Err(Decline::new("the sum of two coefficients would not be finite"));
        }
        let vector = |&i: &usize| &k.support_vectors[i * columns..][..columns];
        let vectors = firsts.iter().flat_map(vector).copied().collect();
        Ok(Some(Self { vectors, coefficients, groups: sizes }))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn sums_coefficients() {
        check(
            &SvmDuplicate,
            "y = ai.onnx.ml.SVMRegressor(x: f32[N,2]) {kernel_type=\"RBF\", \
             kernel_params=[0.5,0.0,3.0], coefficients=[1.0,2.0,4.0], rho=[1.0], n_supports=3, \
             support_vectors=[1.0,2.0,3.0,4.0,1.0,2.0]}\n\
             a, b = ai.onnx.ml.SVMClassifier(x) {kernel_type=\"RBF\", \
             kernel_params=[0.5,0.0,3.0], vectors_per_class=[2,2,1], rho=[1.0,2.0,3.0], \
             coefficients=[1.0,2.0,4.0,8.0,16.0,-1.0,-2.0,-4.0,-8.0,-16.0], \
             support_vectors=[1.0,2.0,1.0,2.0,1.0,2.0,3.0,4.0,3.0,4.0]}\nreturn y, a, b",
            expect![[r#"
                x: f32[N,2]
                a, a#1 = ai.onnx.ml.SVMClassifier(x) {classlabels_ints=[0,1,2], coefficients=[3.0,
                    4.0,8.0,16.0,-3.0,-4.0,-8.0,-16.0], kernel_params=[0.5,0.0,3.0],
                    kernel_type="RBF", rho=[1.0,2.0,3.0], support_vectors=[1.0,2.0,1.0,2.0,3.0,4.0,
                    3.0,4.0], vectors_per_class=[1,2,1]}
                y = ai.onnx.ml.SVMRegressor(x) {coefficients=[5.0,2.0], kernel_params=[0.5,0.0,3.0],
                    kernel_type="RBF", n_supports=2, rho=[1.0], support_vectors=[1.0,2.0,3.0,4.0]}
                return y, a, b=a#1
            "#]],
        );
    }

    #[test]
    fn keeps_sums_that_overflow_and_vectors_of_two_classes() {
        check(
            &SvmDuplicate,
            "y = ai.onnx.ml.SVMRegressor(x: f32[N,1]) {kernel_type=\"RBF\", \
             kernel_params=[0.5,0.0,3.0], coefficients=[3e38,3e38], rho=[1.0], n_supports=2, \
             support_vectors=[1.0,1.0]}\n\
             a, b = ai.onnx.ml.SVMClassifier(x) {vectors_per_class=[1,1], rho=[1.0], \
             coefficients=[1.0,2.0], support_vectors=[1.0,1.0]}\nreturn y, a, b",
            expect![[r#"
                (unchanged)
                # svm_duplicate @ y: the sum of two coefficients would not be finite
            "#]],
        );
    }
}
