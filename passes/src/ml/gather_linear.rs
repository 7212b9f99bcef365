//! Puts the weights of a model into the order that the columns have before they are picked.
//!
//! ```text
//! s = Gather(x: f32[N,2], [1, 0]) {axis=1}
//! y = ai.onnx.ml.LinearRegressor(s) {coefficients=[2.0, 3.0]}
//!                         =>   y = ai.onnx.ml.LinearRegressor(x) {coefficients=[3.0, 2.0]}
//! ```
//!
//! Saves a pass over the table, before linear models, products with constant weights and support
//! vector machines of every kernel. All columns must be picked, each once: a weight of 0 for one
//! that is not would make NaN of its infinities. Not exact: the products are summed in another
//! order.

use kiln_ir::ops::svm::{Classes, Svm};
use kiln_ir::{Attr, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};

use super::gather_forest::picked;
use crate::columns::matrix;
use crate::linear::{is_linear, reweighted, weights};

/// See the module.
pub struct GatherLinear;

impl Rewrite for GatherLinear {
    fn name(&self) -> &'static str {
        "gather_linear"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if !is_linear(g, root) && !matches!(g.op(root), Op::Svm(_)) {
            return Ok(None);
        }
        let Some(table) = g.input_of(root, 0).filter(|v| matrix(g, *v).is_some()) else {
            return Ok(None);
        };
        let Some((x, columns)) = picked(g, table)? else { return Ok(None) };
        let mut places = vec![None; matrix(g, x).map_or(0, |m| m.1)];
        for (i, &c) in columns.iter().enumerate() {
            if places[c as usize].replace(i).is_some() {
                return Err(Decline::new("a column is picked twice"));
            }
        }
        let Some(places) = places.into_iter().collect::<Option<Vec<_>>>() else {
            return Err(Decline::new("columns that are not picked may hold infinities"));
        };
        let mut e = Edit::default();
        let Some(y) = moved(g, root, &mut e, x, &places) else { return Ok(None) };
        g.outputs_of(root).for_each(|v| e.replace(v, y.slot(v.slot())));
        e.absorb(table);
        Ok(Some(e))
    }
}

/// The model over a table of which column `c` was picked as column `places[c]`.
fn moved(g: &Graph, root: NodeId, e: &mut Edit, x: Value, places: &[usize]) -> Option<Source> {
    let turned = |row: &[f32]| places.iter().map(|p| row[*p]).collect::<Vec<f32>>();
    if is_linear(g, root) {
        let rows: Vec<_> = weights(g, root, places.len())?.iter().map(|r| turned(r)).collect();
        return reweighted(g, root, e, x.into(), &rows);
    }
    let Op::Svm(svm) = g.op(root) else { return None };
    let (kernel, vectors) = match svm {
        Svm::Regressor(m) => (&m.kernel, m.count > 0),
        Svm::Classifier(m) => (&m.kernel, m.classes != Classes::Linear),
    };
    let (name, list) = match vectors {
        true => ("support_vectors", &kernel.support_vectors),
        false => ("coefficients", &kernel.coefficients),
    };
    let n = places.len();
    if n == 0 || list.len() % n != 0 {
        return None;
    }
    let mut attrs = g.op(root).attrs();
    attrs.set(name, Attr::Floats(list.chunks_exact(n).flat_map(turned).collect()));
    Some(e.call(g.op(root).name(), &[Some(x.into())], attrs))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn weights_follow_the_columns() {
        check(
            &GatherLinear,
            "i = i64[3]{2, 0, 1}\ns = Gather(x: f32[N,3], i) {axis=1}\n\
             y = ai.onnx.ml.LinearRegressor(s) {targets=2, \
             coefficients=[1.0,2.0,3.0,4.0,5.0,6.0]}\n\
             w = f32[3,1]{1.0, 2.0, 3.0}\nt = ai.onnx.ml.ArrayFeatureExtractor(x, i)\n\
             z = MatMul(t, w)\nq = Gather(x, i) {axis=1}\n\
             u = ai.onnx.ml.SVMRegressor(q) {kernel_type=\"RBF\", coefficients=[2.0,1.0], \
             rho=[1.0], n_supports=2, support_vectors=[1.0,2.0,3.0,4.0,5.0,6.0], \
             kernel_params=[1.0,0.0,0.0]}\nreturn y, z, u",
            expect![[r#"
                x: f32[N,3]
                z/gather_linear0 = f32[3,1]{2.0, 3.0, 1.0}
                z = MatMul(x, z/gather_linear0)
                u = ai.onnx.ml.SVMRegressor(x) {coefficients=[2.0,1.0], kernel_params=[1.0,0.0,0.0],
                    kernel_type="RBF", n_supports=2, rho=[1.0], support_vectors=[2.0,3.0,1.0,5.0,
                    6.0,4.0]}
                y = ai.onnx.ml.LinearRegressor(x) {coefficients=[2.0,3.0,1.0,5.0,6.0,4.0],
                    targets=2}
                return y, z, u
            "#]],
        );
    }

    #[test]
    fn keeps_columns_that_are_not_picked_once() {
        check(
            &GatherLinear,
            "i = i64[2]{2, 0}\ns = Gather(x: f32[N,3], i) {axis=1}\n\
             y = ai.onnx.ml.LinearRegressor(s) {coefficients=[1.0,2.0]}\n\
             j = i64[3]{1, 0, 1}\nt = Gather(q: f32[N,2], j) {axis=1}\n\
             z = ai.onnx.ml.LinearRegressor(t) {coefficients=[1.0,2.0,3.0]}\nreturn y, z",
            expect![[r#"
                (unchanged)
                # gather_linear @ y: columns that are not picked may hold infinities
                # gather_linear @ z: a column is picked twice
            "#]],
        );
    }
}
