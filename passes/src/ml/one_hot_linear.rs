//! Looks up what a category adds to the score of a linear model, instead of a product with ones
//! and zeros.
//!
//! ```text
//! h = ai.onnx.ml.OneHotEncoder(c: str[N,1]) {cats_strings=["a", "b"]}
//! t = Reshape(h, [-1, 2])
//! y = ai.onnx.ml.LinearRegressor(t) {coefficients=[0.5, 2.0]}
//!    =>   t = ai.onnx.ml.LabelEncoder(c) {keys=["a", "b"], values=[0.5, 2.0], default=0.0}
//!         y = ai.onnx.ml.LinearRegressor(t) {coefficients=[1.0]}
//! ```
//!
//! Saves a column for each category but one, and the products with them, for each of the encoders
//! side by side; other columns stay. One look-up gives one number, so all scores must weigh the
//! categories alike, or with the other sign, as those of two classes do; encoders that no score
//! weighs go. The model is a linear one of ai.onnx.ml or a product with constant weights. Not
//! exact: products of fewer terms may be summed in another order.

use kiln_ir::{Decline, Edit, Graph, NodeId, Rewrite, Source, Verdict};

use crate::columns::matrix;
use crate::encoded::{Encoder, Part, joined, parts};
use crate::linear::{is_linear, reweighted, weights};

/// See the module.
pub struct OneHotLinear;

impl Rewrite for OneHotLinear {
    fn name(&self) -> &'static str {
        "one_hot_linear"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(table) = g.input_of(root, 0).filter(|_| is_linear(g, root)) else {
            return Ok(None);
        };
        let Some((_, columns)) = matrix(g, table) else { return Ok(None) };
        let Some(parts) = parts(g, table)? else { return Ok(None) };
        let Some(rows) = weights(g, root, columns) else { return Ok(None) };
        let mut e = Edit::default();
        let Some((tables, rows)) = looked_up(&mut e, &parts, &rows) else {
            return Err(Decline::new("each score has weights of its own for the categories"));
        };
        let x = joined(&mut e, &tables);
        let Some(y) = reweighted(g, root, &mut e, x, &rows) else { return Ok(None) };
        g.outputs_of(root).for_each(|v| e.replace(v, y.slot(v.slot())));
        Ok(Some(e))
    }
}

/// The parts, of encoded ones what their categories add, and the weights of these; `None` where
/// every part stays as it is, or none is left.
fn looked_up(
    e: &mut Edit,
    parts: &[Part],
    rows: &[Vec<f32>],
) -> Option<(Vec<Source>, Vec<Vec<f32>>)> {
    let (mut at, mut fired) = (0, false);
    let (mut tables, mut new) = (vec![], vec![vec![]; rows.len()]);
    for part in parts {
        let shares = shares(part, rows, at);
        if shares.is_empty() {
            tables.push(part.value.into());
            new.iter_mut().zip(rows).for_each(|(n, r)| n.extend(&r[at..at + part.columns]));
        } else {
            part.absorb(e);
            fired = true;
        }
        for (encoder, share) in part.encoders.iter().zip(shares) {
            if share.signs.iter().any(|s| *s != 0.0) {
                tables.push(encoder.lookup(e, share.numbers, 0.0));
                new.iter_mut().zip(share.signs).for_each(|(n, s)| n.push(s));
            }
        }
        at += part.columns;
    }
    (fired && !tables.is_empty()).then_some((tables, new))
}

/// What the categories of an encoder add to the scores.
struct Share {
    /// A number for each category.
    numbers: Vec<f32>,
    /// 1, -1 or 0 for each score: how it takes them.
    signs: Vec<f32>,
}

/// The shares of all encoders of a part, whose first column is `at`; none where there is one
/// whose categories the scores weigh in different ways.
fn shares(part: &Part, rows: &[Vec<f32>], mut at: usize) -> Vec<Share> {
    let of = |encoder: &Encoder| {
        let columns = at..at + encoder.columns();
        at = columns.end;
        let weights: Vec<&[f32]> = rows.iter().map(|r| &r[columns.clone()]).collect();
        share(&weights)
    };
    part.encoders.iter().map(of).collect::<Option<_>>().unwrap_or_default()
}

fn share(weights: &[&[f32]]) -> Option<Share> {
    let zeros = |w: &&&[f32]| w.iter().any(|x| *x != 0.0);
    let numbers = weights.iter().find(zeros).or(weights.first())?.to_vec();
    if numbers.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let sign = |w: &&[f32]| {
        let is = |sign: f32| w.iter().zip(&numbers).all(|(w, n)| *w == sign * n);
        [0.0, 1.0, -1.0].into_iter().find(|s| is(*s))
    };
    let signs = weights.iter().map(sign).collect::<Option<_>>()?;
    Some(Share { numbers, signs })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    /// An encoder of texts and one of integers, and a table of numbers beside them.
    const TABLE: &str = "p = ai.onnx.ml.OneHotEncoder(c: str[N,1]) {cats_strings=[\"a\",\"b\"]}\n\
        q = ai.onnx.ml.OneHotEncoder(d: i64[N,1]) {cats_int64s=[7,8]}\n\
        s = i64[2]{-1, 4}\nr = Concat(p, q) {axis=2}\nh = Reshape(r, s)\n\
        t = Concat(x: f32[N,1], h) {axis=1}\n";

    #[test]
    fn categories_are_looked_up_beside_other_columns() {
        check(
            &OneHotLinear,
            &format!(
                "{TABLE}l, y = ai.onnx.ml.LinearClassifier(t) {{classlabels_ints=[0,1], \
                 coefficients=[-0.5,1.0,2.0,0.25,-4.0,0.5,-1.0,-2.0,0.25,-4.0], \
                 intercepts=[0.0,1.0]}}\nreturn l, y"
            ),
            expect![[r#"
                c: str[N,1]
                d: i64[N,1]
                x: f32[N,1]
                l/one_hot_linear0 = ai.onnx.ml.LabelEncoder(c) {default_tensor=f32[1]{0.0},
                    keys_tensor=str[2]{"a", "b"}, values_tensor=f32[2]{1.0, 2.0}}
                l/one_hot_linear1 = ai.onnx.ml.LabelEncoder(d) {default_tensor=f32[1]{0.0},
                    keys_tensor=i64[2]{7, 8}, values_tensor=f32[2]{0.25, -4.0}}
                l/one_hot_linear2 = Concat(x, l/one_hot_linear0, l/one_hot_linear1) {axis=1}
                l, l#1 = ai.onnx.ml.LinearClassifier(l/one_hot_linear2) {classlabels_ints=[0,1],
                    coefficients=[-0.5,1.0,1.0,0.5,-1.0,1.0], intercepts=[0.0,1.0]}
                return l, y=l#1
            "#]],
        );
    }

    #[test]
    fn encoders_that_no_score_weighs_go() {
        check(
            &OneHotLinear,
            &format!("{TABLE}w = f32[5,1]{{1.0, 0.0, 0.0, 2.0, 3.0}}\ny = MatMul(t, w)\nreturn y"),
            expect![[r#"
                c: str[N,1]
                d: i64[N,1]
                x: f32[N,1]
                y/one_hot_linear0 = ai.onnx.ml.LabelEncoder(d) {default_tensor=f32[1]{0.0},
                    keys_tensor=i64[2]{7, 8}, values_tensor=f32[2]{2.0, 3.0}}
                y/one_hot_linear1 = Concat(x, y/one_hot_linear0) {axis=1}
                y/one_hot_linear2 = f32[2,1]{1.0, 1.0}
                y = MatMul(y/one_hot_linear1, y/one_hot_linear2)
                return y
            "#]],
        );
        check(
            &OneHotLinear,
            "p = ai.onnx.ml.OneHotEncoder(c: str[N,1]) {cats_strings=[\"a\",\"b\"]}\n\
             h = Flatten(p)\nw = f32[2,2]{2.0, 3.0, -2.0, -3.0}\nb = f32[2]{5.0, 6.0}\n\
             y = Gemm(h, w, b) {transB=1}\nreturn y",
            expect![[r#"
                c: str[N,1]
                b = f32[2]{5.0, 6.0}
                y/one_hot_linear0 = ai.onnx.ml.LabelEncoder(c) {default_tensor=f32[1]{0.0},
                    keys_tensor=str[2]{"a", "b"}, values_tensor=f32[2]{2.0, 3.0}}
                y/one_hot_linear1 = f32[2,1]{1.0, -1.0}
                y = Gemm(y/one_hot_linear0, y/one_hot_linear1, b) {transB=1}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_weights_of_several_scores_and_categories_that_must_be_known() {
        check(
            &OneHotLinear,
            &format!(
                "{TABLE}w = f32[5,2]{{1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0}}\n\
                 y = MatMul(t, w)\n\
                 e = ai.onnx.ml.OneHotEncoder(c) {{cats_strings=[\"a\"], zeros=0}}\n\
                 f = Flatten(e)\nz = ai.onnx.ml.LinearRegressor(f) {{coefficients=[2.0]}}\n\
                 k = ai.onnx.ml.OneHotEncoder(x) {{cats_int64s=[2,3]}}\nm = Flatten(k)\n\
                 u = ai.onnx.ml.LinearRegressor(m) {{coefficients=[2.0,3.0]}}\n\
                 return y, z, u"
            ),
            expect![[r#"
                (unchanged)
                # one_hot_linear @ y: each score has weights of its own for the categories
                # one_hot_linear @ z: an unknown category is an error
                # one_hot_linear @ u: only texts and 64-bit integers are looked up
            "#]],
        );
    }
}
