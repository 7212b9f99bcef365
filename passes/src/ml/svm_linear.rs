//! Puts the support vectors of a linear kernel into one row of weights for each decision.
//!
//! ```text
//! y = ai.onnx.ml.SVMRegressor(x) {support_vectors=s, coefficients=a, rho=r}
//!                   =>   y = ai.onnx.ml.LinearRegressor(x) {coefficients=a*s, intercepts=r}
//! ```
//!
//! Saves all products but one for each regressor, and all but one for each pair of classes, which
//! gets the only support vector that counts for it. Not exact: the weights are rounded.

use kiln_ir::ops::svm::{Classes, Classifier, Kernel, KernelType, Regressor, Svm, pairs};
use kiln_ir::{Attr, Attrs, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Verdict};

/// See the module.
pub struct SvmLinear;

const OVERFLOW: Decline = Decline::new("a weight would not be finite");

impl Rewrite for SvmLinear {
    fn name(&self) -> &'static str {
        "svm_linear"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Svm(svm) = g.op(root) else { return Ok(None) };
        let Some(x) = g.input_of(root, 0) else { return Ok(None) };
        let kernel = match svm {
            Svm::Regressor(m) => &m.kernel,
            Svm::Classifier(m) => &m.kernel,
        };
        if kernel.kind != KernelType::Linear {
            return Err(Decline::new("the kernel is not linear"));
        }
        let new = match svm {
            Svm::Regressor(m) => regressor(m, g.op(root).attrs())?,
            Svm::Classifier(m) => classifier(m, g.op(root).attrs())?,
        };
        let Some((name, attrs)) = new else { return Ok(None) };
        let mut e = Edit::default();
        let y = e.call(name, &[Some(Source::from(x))], attrs);
        g.outputs_of(root).for_each(|v| e.replace(v, y.slot(v.slot())));
        Ok(Some(e))
    }
}

/// The sum of support vectors, each times what a list of the same length says of it.
fn sum(k: &Kernel, count: usize, times: &[(usize, f32)]) -> Result<Vec<f32>, Decline> {
    let columns = k.support_vectors.len() / count.max(1);
    let mut sums = vec![0.0; columns];
    for &(i, a) in times {
        let vector = &k.support_vectors[i * columns..][..columns];
        sums.iter_mut().zip(vector).for_each(|(sum, &s)| *sum += f64::from(a) * f64::from(s));
    }
    let sums: Vec<f32> = sums.into_iter().map(|x| x as f32).collect();
    if sums.iter().all(|x| x.is_finite()) { Ok(sums) } else { Err(OVERFLOW) }
}

/// A model of this name with these attributes; none where it is linear already.
type New = Result<Option<(&'static str, Attrs)>, Decline>;

fn regressor(m: &Regressor, mut attrs: Attrs) -> New {
    if m.count == 0 {
        return Ok(None);
    }
    let all: Vec<_> = m.kernel.coefficients.iter().copied().enumerate().collect();
    let weights = sum(&m.kernel, m.count, &all)?;
    if !m.one_class {
        let attrs = Attrs::default().with("coefficients", weights);
        let attrs = attrs.with("intercepts", vec![m.kernel.rho[0]]);
        return Ok(Some(("ai.onnx.ml.LinearRegressor", attrs)));
    }
    attrs.set("n_supports", Attr::Int(0));
    attrs.set("support_vectors", Attr::Floats(vec![]));
    attrs.set("coefficients", Attr::Floats(weights));
    Ok(Some(("ai.onnx.ml.SVMRegressor", attrs)))
}

/// Nothing where there are as many pairs as support vectors.
fn classifier(m: &Classifier, mut attrs: Attrs) -> New {
    let Classes::Pairs { vectors, starts, .. } = &m.classes else { return Ok(None) };
    let (classes, count) = (vectors.len(), vectors.iter().sum::<usize>());
    let n = classes * (classes - 1) / 2;
    if n >= count {
        return Ok(None);
    }
    // Where no coefficient is negative, other runtimes take scores for probabilities.
    let one = if m.kernel.coefficients.iter().all(|a| *a >= 0.0) { 1.0 } else { -1.0 };
    let of = |class: usize, line: usize| {
        let at = starts[class];
        let line = &m.kernel.coefficients[line * count + at..][..vectors[class]];
        line.iter().enumerate().map(move |(i, a)| (at + i, a * one)).collect::<Vec<_>>()
    };
    let mut support = vec![];
    let mut coefficients = vec![0f32; (classes - 1) * n];
    for (p, (i, j)) in pairs(classes).enumerate() {
        // Pair (i, j) is the only one that this vector of class i counts for.
        support.extend(sum(&m.kernel, count, &[of(i, j - 1), of(j, i)].concat())?);
        coefficients[(j - 1) * n + p] = one;
    }
    let per_class = (0..classes).map(|i| (classes - 1 - i) as i64).collect();
    attrs.set("vectors_per_class", Attr::Ints(per_class));
    attrs.set("support_vectors", Attr::Floats(support));
    attrs.set("coefficients", Attr::Floats(coefficients));
    Ok(Some(("ai.onnx.ml.SVMClassifier", attrs)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn one_row_of_weights() {
        let of = |extra: &str| {
            format!(
                "y = ai.onnx.ml.SVMRegressor(x: f32[N,2]) {{coefficients=[2.0,-1.0], rho=[1.0], \
                 n_supports=2, support_vectors=[1.0,0.5,2.0,4.0]{extra}}}\nreturn y"
            )
        };
        check(
            &SvmLinear,
            &of(""),
            expect![[r#"
            x: f32[N,2]
            y = ai.onnx.ml.LinearRegressor(x) {coefficients=[0.0,-3.0], intercepts=[1.0]}
            return y
        "#]],
        );
        check(
            &SvmLinear,
            &of(", one_class=1"),
            expect![[r#"
            x: f32[N,2]
            y = ai.onnx.ml.SVMRegressor(x) {coefficients=[0.0,-3.0], one_class=1, rho=[1.0]}
            return y
        "#]],
        );
    }

    #[test]
    fn one_vector_for_each_pair_of_classes() {
        check(
            &SvmLinear,
            "a, b = ai.onnx.ml.SVMClassifier(x: f32[N,1]) {vectors_per_class=[2,1,1], \
             coefficients=[1.0,2.0,-1.0,-2.0,3.0,4.0,5.0,-6.0], rho=[0.5,0.25,0.125], \
             support_vectors=[1.0,10.0,100.0,1000.0]}\nreturn a, b",
            expect![[r#"
                x: f32[N,1]
                a, a#1 = ai.onnx.ml.SVMClassifier(x) {classlabels_ints=[0,1,2], coefficients=[-1.0,
                    0.0,0.0,0.0,-1.0,-1.0], rho=[0.5,0.25,0.125], support_vectors=[79.0,1957.0,
                    5500.0], vectors_per_class=[2,1,0]}
                return a, b=a#1
            "#]],
        );
    }

    #[test]
    fn keeps_other_kernels_and_what_is_small_already() {
        check(
            &SvmLinear,
            "y = ai.onnx.ml.SVMRegressor(x: f32[N,1]) {kernel_type=\"POLY\", \
             kernel_params=[1.0,0.0,2.0], coefficients=[2.0], rho=[1.0], n_supports=1, \
             support_vectors=[1.0]}\n\
             a, b = ai.onnx.ml.SVMClassifier(x) {vectors_per_class=[1,0], coefficients=[1.0], \
             rho=[0.5], support_vectors=[1.0]}\nreturn y, a, b",
            expect![[r#"
                (unchanged)
                # svm_linear @ y: the kernel is not linear
            "#]],
        );
    }
}
