//! Makes columns that are products of columns all at once: polynomial features.
//!
//! ```text
//! a = ReduceProd(Gather(x, [0, 0]) {axis=1}, [1])     i = Gather(x, [0, 0, 1]) {axis=1}
//! b = ReduceProd(Gather(x, [0, 1]) {axis=1}, [1])     j = Gather(x, [0, 1, 1]) {axis=1}
//! c = ReduceProd(Gather(x, [1, 1]) {axis=1}, [1])  => y = Mul(i, j)
//! y = Concat(a, b, c) {axis=1}
//! ```
//!
//! Saves a walk over the table, and a node or two, for each column. Products of three and more
//! columns are rounded after each factor.

use kiln_ir::ops::gather::Gather;
use kiln_ir::ops::reduce::{Reduce, ReduceKind};
use kiln_ir::{Attrs, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};
use kiln_tensor::Tensor;

use crate::columns::side_by_side;
use crate::forms::{attr_int, dims, ints};

/// See the module.
pub struct FeatureProducts;

/// What stands in the list of a `Concat`.
enum Columns {
    /// One column, the product of those of a table.
    Product { table: Value, of: Vec<i64> },
    /// Anything else.
    Other(Value),
}

impl Columns {
    fn of(g: &Graph, v: Value) -> Self {
        let product = || {
            let Op::Reduce(Reduce { kind: ReduceKind::Prod, keepdims: true, .. }) = g.op(v.node)
            else {
                return None;
            };
            let axes = ints(g, g.input_of(v.node, 1)?)?;
            let picked = g.input_of(v.node, 0)?;
            let Op::Gather(Gather::Slices { axis: 1 | -1 }) = g.op(picked.node) else {
                return None;
            };
            let (table, index) = (g.input_of(picked.node, 0)?, g.input_of(picked.node, 1)?);
            let flat = g.ty(table).rank() == Some(2) && g.ty(index).rank() == Some(1);
            let of = ints(g, index).filter(|of| !of.is_empty())?;
            (flat && matches!(axes[..], [1 | -1])).then_some(Columns::Product { table, of })
        };
        product().unwrap_or(Columns::Other(v))
    }

    /// Whether both are products of equally many columns of one table.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Columns::Product { table: a, of: x }, Columns::Product { table: b, of: y }) => {
                a == b && x.len() == y.len()
            }
            _ => false,
        }
    }
}

/// The factors of some products of one table, each a gather of one column for each product.
fn multiplied(e: &mut Edit, run: &[Columns]) -> Option<Source> {
    let Columns::Product { table, of } = run.first()? else { return None };
    let factor = |e: &mut Edit, k: usize| {
        let index = run.iter().filter_map(|c| match c {
            Columns::Product { of, .. } => of.get(k).copied(),
            Columns::Other(_) => None,
        });
        let index = e.constant(Tensor::vector(index.collect::<Vec<_>>()));
        e.node(Gather::Slices { axis: 1 }, &[Some((*table).into()), Some(index)])
    };
    let first = factor(e, 0);
    Some((1..of.len()).fold(first, |product, k| {
        let next = factor(e, k);
        e.call("Mul", &[Some(product), Some(next)], Attrs::default())
    }))
}

impl Rewrite for FeatureProducts {
    fn name(&self) -> &'static str {
        "feature_products"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if g.op(root).name() != "Concat" || dims(g, root.first()).is_none_or(|d| d.len() != 2) {
            return Ok(None);
        }
        let tables = g.inputs_of(root).into_iter().flatten();
        let columns: Vec<Columns> = tables.map(|v| Columns::of(g, v)).collect();
        if !columns.iter().any(|c| matches!(c, Columns::Product { .. })) {
            return Ok(None);
        }
        if !matches!(attr_int(g, root, "axis"), Some(1 | -1)) {
            return Err(Decline::new("the products stand below one another"));
        }
        if columns.windows(2).all(|two| !two[0].is_like(&two[1])) {
            return Err(Decline::new("no two products of one table stand side by side")
                .advise("order the columns by their degree"));
        }
        let mut e = Edit::default();
        let mut sides = Vec::new();
        for run in columns.chunk_by(Columns::is_like) {
            sides.push(match run {
                [Columns::Other(v)] => Some(Source::from(*v)),
                run => multiplied(&mut e, run),
            });
        }
        let y = side_by_side(&mut e, &sides);
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
    fn columns_by_their_degree() {
        check(
            &FeatureProducts,
            "axis = i64[1]{1}\ni = i64[1]{1}\nj = i64[2]{0, 0}\nk = i64[2]{0, 1}\n\
             a = Gather(x: f32[N,2], i) {axis=1}\nb = Gather(x, j) {axis=1}\n\
             c = Gather(x, k) {axis=-1}\np = ReduceProd(a, axis)\nq = ReduceProd(b, axis)\n\
             r = ReduceProd(c, axis)\ny = Concat(one: f32[N,1], p, q, r) {axis=1}\nreturn y",
            expect![[r#"
                x: f32[N,2]
                one: f32[N,1]
                y/feature_products0 = i64[1]{1}
                y/feature_products1 = Gather(x, y/feature_products0) {axis=1}
                y/feature_products2 = i64[2]{0, 0}
                y/feature_products3 = Gather(x, y/feature_products2) {axis=1}
                y/feature_products4 = i64[2]{0, 1}
                y/feature_products5 = Gather(x, y/feature_products4) {axis=1}
                y/feature_products6 = Mul(y/feature_products3, y/feature_products5)
                y = Concat(one, y/feature_products1, y/feature_products6) {axis=1}
                return y
            "#]],
        );
    }

    #[test]
    fn nothing_but_products() {
        check(
            &FeatureProducts,
            "axis = i64[1]{-1}\nj = i64[3]{0, 0, 1}\nk = i64[3]{0, 1, -1}\n\
             b = Gather(x: f32[N,2], j) {axis=1}\nc = Gather(x, k) {axis=1}\n\
             q = ReduceProd(b, axis)\nr = ReduceProd(c, axis)\ny = Concat(q, r) {axis=-1}\n\
             return y",
            expect![[r#"
                x: f32[N,2]
                y/feature_products0 = i64[2]{0, 0}
                y/feature_products1 = Gather(x, y/feature_products0) {axis=1}
                y/feature_products2 = i64[2]{0, 1}
                y/feature_products3 = Gather(x, y/feature_products2) {axis=1}
                y/feature_products4 = Mul(y/feature_products1, y/feature_products3)
                y/feature_products5 = i64[2]{1, -1}
                y/feature_products6 = Gather(x, y/feature_products5) {axis=1}
                y = Mul(y/feature_products4, y/feature_products6)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_lone_products_and_rows() {
        check(
            &FeatureProducts,
            "axis = i64[1]{1}\nj = i64[2]{0, 0}\nb = Gather(x: f32[N,2], j) {axis=1}\n\
             c = Gather(z: f32[N,2], j) {axis=1}\nq = ReduceProd(b, axis)\n\
             r = ReduceProd(c, axis)\n\
             u = ReduceProd(b, axis) {keepdims=0}\n\
             y = Concat(q, r) {axis=1}\nw = Concat(q, q) {axis=0}\nreturn y, w, u",
            expect![[r#"
                (unchanged)
                # feature_products @ y: no two products of one table stand side by side
                # feature_products @ w: the products stand below one another
            "#]],
        );
    }
}
