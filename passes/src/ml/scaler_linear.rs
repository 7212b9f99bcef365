//! Folds factors and summands per column into the weights of the linear model behind.
//!
//! ```text
//! s = ai.onnx.ml.Scaler(x) {offset=o, scale=f}
//! y = ai.onnx.ml.LinearRegressor(s) {coefficients=c, intercepts=b}
//!                   =>   y = ai.onnx.ml.LinearRegressor(x) {coefficients=c*f, intercepts=b-c*o*f}
//! ```
//!
//! Saves a pass over the table for each, also where the table is one of several side by side. The
//! model is a linear one of ai.onnx.ml, one with a linear kernel, or a product with constant
//! weights. Not exact: the new weights are rounded.

use kiln_ir::ops::linear::Linear;
use kiln_ir::ops::matmul::{Gemm, MatMul};
use kiln_ir::ops::svm::{Classes, Classifier, Kernel, KernelType, Regressor, Svm};
use kiln_ir::{Attr, Attrs, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};
use kiln_tensor::{DType, Tensor};

use crate::columns::{Made, affine_before, matrix};
use crate::forms::per_channel;
use crate::weights::{Affine, rounded, values};

/// See the module.
pub struct ScalerLinear;

/// What is moved may be this many times as large as what it spreads over.
const LARGEST_SHIFT: f64 = 64.0;

impl Rewrite for ScalerLinear {
    fn name(&self) -> &'static str {
        "scaler_linear"
    }

    fn exact(&self) -> bool {
        false
    }

    fn slack(&self) -> f64 {
        16.0
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let table = g.input_of(root, 0);
        let model = match g.op(root) {
            Op::Linear(_) | Op::Svm(_) | Op::Gemm(_) | Op::MatMul(_) => table,
            op if op.name() == "Add" => return biased(g, root),
            _ => return Ok(None),
        };
        let Some(made) = model.and_then(|x| affine_before(g, x)) else { return Ok(None) };
        match g.op(root) {
            Op::Linear(m) => with(g, root, &made, linear(m, &made.each)?),
            Op::Svm(Svm::Regressor(m)) => with(g, root, &made, regressor(m, &made.each)?),
            Op::Svm(Svm::Classifier(m)) => with(g, root, &made, classifier(m, &made.each)?),
            Op::Gemm(gemm) => matrices(g, root, &made, *gemm),
            _ => product(g, root, &made),
        }
    }
}

/// Rows of weights, folded, and what is added to the score of each.
struct Rows {
    weights: Vec<f64>,
    added: Vec<f64>,
}

/// Folds rows of one weight per column; with `digits` of the precision to spare.
fn fold(rows: &[f64], affine: &Affine, dtype: DType) -> Result<Rows, Decline> {
    let n = affine.factor.len();
    let mut folded = Rows { weights: Vec::with_capacity(rows.len()), added: vec![] };
    for row in rows.chunks_exact(n.max(1)) {
        folded.weights.extend(row.iter().zip(&affine.factor).map(|(w, f)| w * f));
        let parts = row.iter().zip(&affine.shift).map(|(w, s)| w * s);
        let (sum, size) = parts.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
        let spread: f64 = row.iter().map(|w| w.abs()).sum();
        if dtype != DType::F64 && size > LARGEST_SHIFT * spread {
            return Err(Decline::new("the offsets are so large that the sums would lose digits")
                .advise("take the offset from the column before the model gets it"));
        }
        folded.added.push(sum);
    }
    Ok(folded)
}

fn floats(list: &[f32]) -> Vec<f64> {
    list.iter().copied().map(f64::from).collect()
}

/// Attributes that get new lists of floats.
type Lists = Vec<(&'static str, Vec<f64>)>;

/// The same model with other attributes, of the table before.
fn with(g: &Graph, root: NodeId, made: &Made<Affine>, lists: Lists) -> Verdict {
    let mut attrs = g.op(root).attrs();
    for (name, list) in lists {
        let list: Vec<f32> = list.into_iter().map(|x| x as f32).collect();
        if list.iter().any(|x| !x.is_finite()) {
            return Err(Decline::new("a folded weight would not be finite"));
        }
        attrs.set(name, Attr::Floats(list));
    }
    let mut e = Edit::default();
    let x = made.source(&mut e);
    let y = e.call(g.op(root).name(), &[Some(x)], attrs);
    g.outputs_of(root).for_each(|v| e.replace(v, y.slot(v.slot())));
    Ok(Some(e))
}

fn linear(m: &Linear, affine: &Affine) -> Result<Lists, Decline> {
    let columns = affine.factor.len();
    let wrong = |_| Decline::new("the weights do not fit the table");
    let scores = m.count(columns).map_err(wrong)?;
    let (Linear::Classifier(w, _) | Linear::Regressor(w, _)) = m;
    let folded = fold(&floats(&w.coefficients[..scores * columns]), affine, DType::F32)?;
    let mut intercepts = floats(&w.intercepts);
    intercepts.resize(scores.max(intercepts.len()), 0.0);
    intercepts.iter_mut().zip(&folded.added).for_each(|(b, a)| *b += a);
    Ok(vec![("coefficients", folded.weights), ("intercepts", intercepts)])
}

/// The support vectors, folded, and what that adds to the kernel of each.
fn vectors(k: &Kernel, affine: &Affine) -> Result<Rows, Decline> {
    match k.kind {
        KernelType::Linear => fold(&floats(&k.support_vectors), affine, DType::F32),
        _ => Err(Decline::new("the kernel is not linear")),
    }
}

fn regressor(m: &Regressor, affine: &Affine) -> Result<Lists, Decline> {
    let mut rho = floats(&m.kernel.rho);
    if m.count == 0 {
        let folded = fold(&floats(&m.kernel.coefficients), affine, DType::F32)?;
        rho[0] += folded.added.iter().sum::<f64>();
        return Ok(vec![("coefficients", folded.weights), ("rho", rho)]);
    }
    let folded = vectors(&m.kernel, affine)?;
    let parts = folded.added.iter().zip(&m.kernel.coefficients).map(|(a, &c)| a * f64::from(c));
    rho[0] += parts.sum::<f64>();
    Ok(vec![("support_vectors", folded.weights), ("rho", rho)])
}

fn classifier(m: &Classifier, affine: &Affine) -> Result<Lists, Decline> {
    if m.classes == Classes::Linear {
        let folded = fold(&floats(&m.kernel.coefficients), affine, DType::F32)?;
        return match folded.added.iter().all(|a| *a == 0.0) {
            true => Ok(vec![("coefficients", folded.weights)]),
            false => Err(Decline::new("the classes share one intercept")),
        };
    }
    let folded = vectors(&m.kernel, affine)?;
    let mut rho = floats(&m.kernel.rho);
    rho.iter_mut().zip(m.sums(&folded.added)).for_each(|(r, sum)| *r += sum);
    Ok(vec![("support_vectors", folded.weights), ("rho", rho)])
}

/// A constant matrix, folded: in its own layout, and what is added to each of its columns.
fn folded_matrix(
    w: &Tensor,
    transposed: bool,
    affine: &Affine,
) -> Result<(Tensor, Vec<f64>), Decline> {
    let [rows, columns] = *w.shape() else { return Err(Decline::new("the weights are no matrix")) };
    let turned = |list: &[f64], rows: usize, columns: usize| -> Vec<f64> {
        (0..list.len()).map(|i| list[i % rows * columns + i / rows]).collect()
    };
    let mut weights = values(w)?;
    if !transposed {
        weights = turned(&weights, rows, columns);
    }
    let mut folded = fold(&weights, affine, w.dtype())?;
    if !transposed {
        folded.weights = turned(&folded.weights, columns, rows);
    }
    Ok((rounded(w.dtype(), w.shape(), folded.weights.into_iter())?, folded.added))
}

fn matrices(g: &Graph, root: NodeId, made: &Made<Affine>, gemm: Gemm) -> Verdict {
    let Some(w) = g.input_of(root, 1).and_then(|w| g.constant_of(w)) else { return Ok(None) };
    if gemm.trans_a || made.dtype(g) != Some(w.dtype()) {
        return Ok(None);
    }
    let (w, added) = folded_matrix(w, gemm.trans_b, &made.each)?;
    let old = match g.input_of(root, 2) {
        None => vec![0.0; added.len()],
        Some(c) => (g.constant_of(c).and_then(|c| per_channel(c, added.len(), 1, 2)))
            .ok_or(Decline::new("the bias is not constant or differs by row"))?,
    };
    let (alpha, beta) = (f64::from(gemm.alpha), f64::from(gemm.beta));
    let bias = old.iter().zip(&added).map(|(c, a)| beta * c + alpha * a);
    let bias = rounded(w.dtype(), &[added.len()], bias)?;
    let mut e = Edit::default();
    let x = made.source(&mut e);
    let (w, bias) = (e.constant(w), e.constant(bias));
    let y = e.node(Gemm { beta: 1.0, ..gemm }, &[Some(x), Some(w), Some(bias)]);
    e.replace(root.first(), y);
    Ok(Some(e))
}

/// The constant weights of a plain product.
fn weights_of(g: &Graph, product: NodeId) -> Option<&Tensor> {
    let plain = matches!(g.op(product), Op::MatMul(m) if *m == MatMul::PLAIN);
    g.input_of(product, 1).filter(|_| plain).and_then(|w| g.constant_of(w))
}

fn product(g: &Graph, root: NodeId, made: &Made<Affine>) -> Verdict {
    let Some(w) = weights_of(g, root).filter(|w| made.dtype(g) == Some(w.dtype())) else {
        return Ok(None);
    };
    let is_biased = |n: NodeId| bias_of(g, n).is_some_and(|(p, ..)| p.node == root);
    if g.readers(root.first()).count() == 1 && g.readers(root.first()).all(|(n, _)| is_biased(n)) {
        return Ok(None);
    }
    let (w, added) = folded_matrix(w, false, &made.each)?;
    if added.len() > made.each.factor.len() && added.iter().any(|a| *a != 0.0) {
        return Err(Decline::new("a bias would cost more than the table does"));
    }
    multiplied(root, made, w, &added)
}

/// `x * w + b`, instead of what is at the root.
fn multiplied(root: NodeId, made: &Made<Affine>, w: Tensor, bias: &[f64]) -> Verdict {
    let b = rounded(w.dtype(), &[bias.len()], bias.iter().copied())?;
    let mut e = Edit::default();
    let x = made.source(&mut e);
    let w = e.constant(w);
    let mut y = e.node(MatMul::PLAIN, &[Some(x), Some(w)]);
    if bias.iter().any(|b| *b != 0.0) {
        let b = e.constant(b);
        y = e.call("Add", &[Some(y), Some(b)], Attrs::default());
    }
    e.replace(root.first(), y);
    Ok(Some(e))
}

/// A product with constant weights to which a constant is added, by column.
fn bias_of(g: &Graph, add: NodeId) -> Option<(Value, &Tensor, Vec<f64>)> {
    let [a, b] = [g.input_of(add, 0)?, g.input_of(add, 1)?];
    let (p, c) = if g.constant_of(a).is_some() { (b, a) } else { (a, b) };
    let w = weights_of(g, p.node).filter(|w| w.rank() == 2 && g.op(add).name() == "Add")?;
    let bias = per_channel(g.constant_of(c)?, w.shape()[1], 1, 2)?;
    matrix(g, p).is_some().then_some((p, w, bias))
}

fn biased(g: &Graph, root: NodeId) -> Verdict {
    let Some((p, w, bias)) = bias_of(g, root) else { return Ok(None) };
    let Some(made) = g.input_of(p.node, 0).and_then(|x| affine_before(g, x)) else {
        return Ok(None);
    };
    if made.dtype(g) != Some(w.dtype()) {
        return Ok(None);
    }
    let (w, added) = folded_matrix(w, false, &made.each)?;
    let bias: Vec<f64> = bias.iter().zip(&added).map(|(b, a)| b + a).collect();
    let Some(mut e) = multiplied(root, &made, w, &bias)? else { return Ok(None) };
    e.absorb(p);
    Ok(Some(e))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn folds_into_models() {
        check(
            &ScalerLinear,
            "s = ai.onnx.ml.Scaler(x: f32[N,2]) {offset=[1.0,2.0], scale=[0.5,4.0]}\n\
             y = ai.onnx.ml.LinearRegressor(s) {coefficients=[2.0,3.0], intercepts=[30.0]}\n\
             t = ai.onnx.ml.Scaler(z: f32[N,2]) {scale=[2.0,4.0]}\n\
             l, p = ai.onnx.ml.LinearClassifier(t) {coefficients=[1.0,0.5,0.25,1.0], \
             intercepts=[0.0,1.0]}\nreturn y, l, p",
            expect![[r#"
                x: f32[N,2]
                z: f32[N,2]
                l, l#1 = ai.onnx.ml.LinearClassifier(z) {classlabels_ints=[0,1], coefficients=[2.0,
                    2.0,0.5,4.0], intercepts=[0.0,1.0]}
                y = ai.onnx.ml.LinearRegressor(x) {coefficients=[1.0,12.0], intercepts=[5.0]}
                return y, l, p=l#1
            "#]],
        );
    }

    #[test]
    fn folds_into_linear_kernels() {
        check(
            &ScalerLinear,
            "s = ai.onnx.ml.Scaler(x: f32[N,2]) {offset=[1.0,2.0], scale=[0.5,4.0]}\n\
             y = ai.onnx.ml.SVMRegressor(s) {coefficients=[2.0,-1.0], rho=[1.0], n_supports=2, \
             support_vectors=[1.0,0.0,2.0,1.0]}\n\
             t = ai.onnx.ml.Scaler(z: f32[N,2]) {offset=[1.0,2.0], scale=[0.5,4.0]}\n\
             l, p = ai.onnx.ml.SVMClassifier(t) {coefficients=[2.0,-1.0], rho=[1.0], \
             support_vectors=[1.0,0.0,2.0,1.0], vectors_per_class=[1,1]}\nreturn y, l, p",
            expect![[r#"
                x: f32[N,2]
                z: f32[N,2]
                l, l#1 = ai.onnx.ml.SVMClassifier(z) {classlabels_ints=[0,1], coefficients=[2.0,
                    -1.0], rho=[9.0], support_vectors=[0.5,0.0,1.0,4.0], vectors_per_class=[1,1]}
                y = ai.onnx.ml.SVMRegressor(x) {coefficients=[2.0,-1.0], n_supports=2, rho=[9.0],
                    support_vectors=[0.5,0.0,1.0,4.0]}
                return y, l, p=l#1
            "#]],
        );
    }

    #[test]
    fn folds_a_part_of_the_table_and_one_after_another() {
        check(
            &ScalerLinear,
            "c = f32[1,2]{1.0, 2.0}\nd = f32[]{2.0}\nm = Sub(x: f32[N,2], c)\nn = Div(m, d)\n\
             t = Concat(n, z: f32[N,1]) {axis=-1}\n\
             y = ai.onnx.ml.LinearRegressor(t) {coefficients=[2.0,3.0,5.0]}\nreturn y",
            expect![[r#"
                x: f32[N,2]
                z: f32[N,1]
                y/scaler_linear0 = Concat(x, z) {axis=-1}
                y = ai.onnx.ml.LinearRegressor(y/scaler_linear0) {coefficients=[1.0,1.5,5.0],
                    intercepts=[-4.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn folds_into_products() {
        check(
            &ScalerLinear,
            "w = f32[2,2]{1.0, 2.0, 3.0, 4.0}\nb = f32[2]{1.0, 1.0}\nc = f32[2]{1.0, 2.0}\n\
             m = Sub(x: f32[N,2], c)\ny = MatMul(m, w)\n\
             n = Mul(c, z: f32[N,2])\nu = MatMul(n, w)\nv = Sub(c, q: f32[N,2])\n\
             p = MatMul(v, w)\nr = Add(b, p)\n\
             g = Sub(k: f32[N,2], c)\nh = Gemm(g, w, b) {alpha=2.0, beta=3.0, transB=1}\n\
             return y, u, r, h",
            expect![[r#"
                x: f32[N,2]
                z: f32[N,2]
                q: f32[N,2]
                k: f32[N,2]
                u/scaler_linear0 = f32[2,2]{1.0, 2.0, 6.0, 8.0}
                u = MatMul(z, u/scaler_linear0)
                r/scaler_linear0 = f32[2,2]{-1.0, -2.0, -3.0, -4.0}
                r/scaler_linear1 = MatMul(q, r/scaler_linear0)
                h/scaler_linear0 = f32[2,2]{1.0, 2.0, 3.0, 4.0}
                h/scaler_linear1 = f32[2]{-7.0, -19.0}
                h = Gemm(k, h/scaler_linear0, h/scaler_linear1) {alpha=2.0, transB=1}
                y/scaler_linear0 = f32[2,2]{1.0, 2.0, 3.0, 4.0}
                y/scaler_linear1 = MatMul(x, y/scaler_linear0)
                y/scaler_linear2 = f32[2]{-7.0, -10.0}
                y = Add(y/scaler_linear1, y/scaler_linear2)
                r/scaler_linear2 = f32[2]{8.0, 11.0}
                r = Add(r/scaler_linear1, r/scaler_linear2)
                return y, u, r, h
            "#]],
        );
    }

    #[test]
    fn keeps_what_would_lose_digits_or_is_not_linear() {
        check(
            &ScalerLinear,
            "s = ai.onnx.ml.Scaler(x: f32[N,2]) {offset=[1.0,2000.0]}\n\
             y = ai.onnx.ml.LinearRegressor(s) {coefficients=[2.0,3.0]}\n\
             t = ai.onnx.ml.Scaler(z: f32[N,2]) {scale=[0.5]}\n\
             u = ai.onnx.ml.SVMRegressor(t) {kernel_type=\"RBF\", coefficients=[2.0], rho=[1.0], \
             n_supports=1, support_vectors=[1.0,0.0], kernel_params=[1.0,0.0,0.0]}\n\
             c = f32[2]{1.0, 2.0}\nw = f32[2,3]{1.0, 2.0, 3.0, 4.0, 5.0, 6.0}\n\
             k = Sub(q: f32[N,2], c)\nv = MatMul(k, w)\nreturn y, u, v",
            expect![[r#"
                (unchanged)
                # scaler_linear @ y: the offsets are so large that the sums would lose digits
                # scaler_linear @ u: the kernel is not linear
                # scaler_linear @ v: a bias would cost more than the table does
            "#]],
        );
    }
}
