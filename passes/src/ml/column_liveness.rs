//! Leaves out columns of a table that nothing reads.
//!
//! ```text
//! t = Concat(a: f32[N,2], b: f32[N,3]) {axis=1}
//! y = ai.onnx.ml.TreeEnsembleRegressor(t) {nodes_featureids=[2, 4]}
//!                =>   y = ai.onnx.ml.TreeEnsembleRegressor(b) {nodes_featureids=[0, 2]}
//! ```
//!
//! Saves writing the columns, and whatever calculates them: parts that stand side by side go
//! whole, products with constant weights lose columns, and what is done to each element or each
//! column between is done to those that are left. Readers are trees and what picks columns;
//! linear models read every column, because 0 times an infinity is no 0. Exact.

use kiln_ir::ops::forest::TreeEnsemble;
use kiln_ir::ops::gather::Gather;
use kiln_ir::ops::matmul::MatMul;
use kiln_ir::ops::preprocess::Preprocess;
use kiln_ir::{Attr, Attrs, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};
use kiln_tensor::Tensor;

use super::gather_forest::picked;
use crate::columns::matrix;
use crate::encoded::parts;
use crate::forms::attr_int;

/// See the module.
pub struct ColumnLiveness;

impl Rewrite for ColumnLiveness {
    fn name(&self) -> &'static str {
        "column_liveness"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(table) = g.input_of(root, 0) else { return Ok(None) };
        let Some((_, columns)) = matrix(g, table) else { return Ok(None) };
        let Some(reader) = Reader::of(g, root) else { return Ok(None) };
        // What trees ask of categories may still turn out to be nothing.
        if matches!(reader, Reader::Trees(_)) && matches!(parts(g, table), Ok(Some(_))) {
            return Ok(None);
        }
        let mut live = vec![false; columns];
        reader.columns().into_iter().for_each(|c| live[c as usize] = true);
        // Without any column, there would be no rows.
        if let (false, Some(first)) = (live.contains(&true), live.first_mut()) {
            *first = true;
        }
        if live.iter().all(|l| *l) {
            return Ok(None);
        }
        let mut shrink = Shrink { g, e: Edit::default() };
        let Some(kept) = shrink.value(table, &live) else { return Ok(None) };
        Ok(reader.over(g, root, shrink.e, &kept))
    }
}

/// What reads some columns of a table only.
enum Reader<'a> {
    Trees(&'a TreeEnsemble),
    /// What picks these.
    Picks(Vec<u32>),
}

impl<'a> Reader<'a> {
    fn of(g: &'a Graph, root: NodeId) -> Option<Self> {
        if let Op::TreeEnsemble(trees) = g.op(root) {
            return Some(Self::Trees(trees));
        }
        matrix(g, root.first())?;
        let (x, columns) = picked(g, root.first()).ok()??;
        // Of a table that others read, too, every column may be read.
        g.only_reader(x)?;
        Some(Self::Picks(columns))
    }

    fn columns(&self) -> Vec<u32> {
        match self {
            Self::Trees(t) => t.ensemble().forest.nodes.iter().map(|n| n.feature).collect(),
            Self::Picks(columns) => columns.clone(),
        }
    }

    /// The same over what is left of the columns.
    fn over(&self, g: &Graph, root: NodeId, mut e: Edit, kept: &Kept) -> Option<Edit> {
        let count = |at: &mut u32, l: &bool| Some(std::mem::replace(at, *at + u32::from(*l)));
        let places: Vec<u32> = kept.left.iter().scan(0, count).collect();
        match self {
            Self::Trees(trees) => {
                let ensemble = trees.ensemble();
                let mut forest = ensemble.forest.clone();
                for node in &mut forest.nodes {
                    node.feature = places[node.feature as usize];
                }
                let trees = trees.with_forest(forest, &ensemble.base).ok()?;
                let y = e.node(trees, &[Some(kept.source)]);
                g.outputs_of(root).for_each(|v| e.replace(v, y.slot(v.slot())));
            }
            Self::Picks(columns) => {
                let columns: Vec<u32> = columns.iter().map(|c| places[*c as usize]).collect();
                let all = kept.left.iter().filter(|l| **l).count() as u32;
                let mut y = kept.source;
                if !columns.iter().copied().eq(0..all) {
                    let index = columns.into_iter().map(i64::from).collect();
                    let index = e.constant(Tensor::vector::<i64>(index));
                    y = e.node(Gather::Slices { axis: 1 }, &[Some(y), Some(index)]);
                }
                e.replace(root.first(), y);
            }
        }
        Some(e)
    }
}

/// A table without some of its columns.
struct Kept {
    source: Source,
    /// Which columns it still has: those that are read, and perhaps others.
    left: Vec<bool>,
}

/// Makes tables again, without columns that are not read.
struct Shrink<'a> {
    g: &'a Graph,
    e: Edit,
}

impl Shrink<'_> {
    /// The table `v` without columns that are not `live`; `None` where all would be left. Nothing
    /// is made where the answer is `None`.
    fn value(&mut self, v: Value, live: &[bool]) -> Option<Kept> {
        let kept = match self.g.op(v.node) {
            Op::MatMul(m) if *m == MatMul::PLAIN => self.product(v, live),
            Op::Gemm(_) => self.product(v, live),
            Op::Preprocess(p) => self.preprocessed(v, p, live),
            op if op.name() == "Concat" => self.joined(v, live),
            _ => self.elementwise(v, live),
        }?;
        self.e.absorb(v);
        Some(kept)
    }

    /// The same for an operand, if nothing else reads it.
    fn operand(&mut self, v: Value, live: &[bool]) -> Option<Kept> {
        let (_, columns) = matrix(self.g, v).filter(|_| self.g.only_reader(v).is_some())?;
        if columns == live.len() { self.value(v, live) } else { None }
    }

    /// Joins what is left of the parts.
    fn joined(&mut self, v: Value, live: &[bool]) -> Option<Kept> {
        let axis = attr_int(self.g, v.node, "axis").filter(|a| matches!(a, 1 | -1))?;
        let parts: Vec<Value> = self.g.inputs_of(v.node).into_iter().flatten().collect();
        let widths: Option<Vec<_>> = parts.iter().map(|p| Some(matrix(self.g, *p)?.1)).collect();
        let (mut sources, mut left) = (vec![], vec![]);
        for (part, n) in parts.into_iter().zip(widths?) {
            let wanted = &live[left.len()..][..n];
            if !wanted.contains(&true) {
                left.resize(left.len() + n, false);
                continue;
            }
            let all = wanted.iter().all(|l| *l);
            let kept = if all { None } else { self.operand(part, wanted) };
            let kept = kept.unwrap_or(Kept { source: part.into(), left: vec![true; n] });
            sources.push(Some(kept.source));
            left.extend(kept.left);
        }
        if left.iter().all(|l| *l) {
            return None;
        }
        let source = match sources[..] {
            [Some(one)] => one,
            _ => self.e.call("Concat", &sources, Attrs::default().with("axis", axis)),
        };
        Some(Kept { source, left })
    }

    /// Multiplies by the live columns of constant weights only.
    fn product(&mut self, v: Value, live: &[bool]) -> Option<Kept> {
        let op = self.g.op(v.node);
        let [x, w] = [self.g.input_of(v.node, 0)?, self.g.input_of(v.node, 1)?];
        let transposed = matches!(op, Op::Gemm(m) if m.trans_b);
        let w = self.g.constant_of(w).filter(|w| w.rank() == 2)?;
        let w = remaining(w, usize::from(!transposed), live)?;
        let bias = match self.g.input_of(v.node, 2) {
            Some(c) => Some(row(self.g.constant_of(c)?, live)?),
            None => None,
        };
        let mut operands = vec![Some(x.into()), Some(self.e.constant(w))];
        operands.extend(bias.map(|b| Some(self.e.constant(b))));
        let source = self.e.node(op.clone(), &operands);
        Some(Kept { source, left: live.to_vec() })
    }

    /// Does what has one number per column, or one for all, to those that are left.
    fn preprocessed(&mut self, v: Value, p: &Preprocess, live: &[bool]) -> Option<Kept> {
        let lists = match p {
            Preprocess::Scaler(_) => &["offset", "scale"][..],
            Preprocess::Imputer(_) => &["imputed_value_floats", "imputed_value_int64s"],
            Preprocess::Binarizer(_) => &[],
            Preprocess::Normalizer(_) => return None,
        };
        let mut kept = self.operand(self.g.input_of(v.node, 0)?, live)?;
        let mut attrs = self.g.op(v.node).attrs();
        for name in lists {
            match attrs.get(name).cloned() {
                Some(Attr::Floats(l)) => attrs.set(name, Attr::Floats(of_left(l, &kept.left))),
                Some(Attr::Ints(l)) => attrs.set(name, Attr::Ints(of_left(l, &kept.left))),
                _ => {}
            }
        }
        kept.source = self.e.call(self.g.op(v.node).name(), &[Some(kept.source)], attrs);
        Some(kept)
    }

    /// Calculates the elements that are left, from one table and constants.
    fn elementwise(&mut self, v: Value, live: &[bool]) -> Option<Kept> {
        let (g, op) = (self.g, self.g.op(v.node));
        let traits = op.traits();
        let plain = traits.elementwise && !traits.random && op.name() != "ai.kiln.Region";
        if !plain || g.outputs_of(v.node).count() != 1 {
            return None;
        }
        let by_row = matches!(op.name(), "Add" | "Sub" | "Mul" | "Div");
        let operands: Vec<Value> = g.inputs_of(v.node).into_iter().collect::<Option<_>>()?;
        let constant = |v: &Value| g.constant_of(*v).map(|c| c.len() == 1 || by_row);
        let mut tables = operands.iter().filter(|v| constant(v) != Some(true));
        let (x, None) = (*tables.next()?, tables.next()) else { return None };
        let mut kept = self.operand(x, live)?;
        let mut sources = vec![];
        for o in operands {
            let c = g.constant_of(o).filter(|c| c.len() != 1);
            sources.push(Some(match c.map(|c| row(c, &kept.left)) {
                _ if o == x => kept.source,
                None => o.into(),
                Some(c) => self.e.constant(c?),
            }));
        }
        kept.source = self.e.node(op.clone(), &sources);
        Some(kept)
    }
}

/// The elements of a list of one per column whose columns are left; one for all stays.
fn of_left<T>(list: Vec<T>, left: &[bool]) -> Vec<T> {
    if list.len() == 1 || list.len() != left.len() {
        return list;
    }
    list.into_iter().zip(left).filter(|(_, l)| **l).map(|(x, _)| x).collect()
}

/// A constant that is added to or multiplies every row, for the columns that are left.
fn row(c: &Tensor, left: &[bool]) -> Option<Tensor> {
    match c.shape() {
        [] | [1] => Some(c.clone()),
        [.., 1] if left.len() != 1 => Some(c.clone()),
        shape => remaining(c, shape.len() - 1, left),
    }
}

/// The places of an axis that are left.
fn remaining(t: &Tensor, axis: usize, left: &[bool]) -> Option<Tensor> {
    let mut shape = t.shape().to_vec();
    if shape.get(axis) != Some(&left.len()) {
        return None;
    }
    let run: usize = shape[axis + 1..].iter().product();
    shape[axis] = left.iter().filter(|l| **l).count();
    t.take(&shape, (0..t.len()).filter(|i| left[i / run % left.len()])).ok()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    const TREE: &str = "y = ai.onnx.ml.TreeEnsembleRegressor(t) \
        {nodes_treeids=[0,0,0], nodes_nodeids=[0,1,2], nodes_featureids=[3,0,0], \
         nodes_values=[0.5,0.0,0.0], nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\"], \
         nodes_truenodeids=[1,0,0], nodes_falsenodeids=[2,0,0], target_treeids=[0,0], \
         target_nodeids=[1,2], target_ids=[0,0], target_weights=[3.0,7.0]}\n";

    #[test]
    fn parts_that_no_tree_reads_go() {
        check(
            &ColumnLiveness,
            &format!("a = Exp(x: f32[N,2])\nt = Concat(a, b: f32[N,3]) {{axis=1}}\n{TREE}return y"),
            expect![[r#"
                x: f32[N,2]
                b: f32[N,3]
                y = ai.onnx.ml.TreeEnsembleRegressor(b) {n_targets=1, nodes_falsenodeids=[2,0,0],
                    nodes_featureids=[1,0,0], nodes_missing_value_tracks_true=[0,0,0],
                    nodes_modes=["BRANCH_LEQ","LEAF","LEAF"], nodes_nodeids=[0,1,2],
                    nodes_treeids=[0,0,0], nodes_truenodeids=[1,0,0], nodes_values=[0.5,0.0,0.0],
                    target_ids=[0,0], target_nodeids=[1,2], target_treeids=[0,0],
                    target_weights=[3.0,7.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn products_lose_columns() {
        check(
            &ColumnLiveness,
            &format!(
                "w = f32[2,4]{{1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}}\n\
                 t = MatMul(x: f32[N,2], w)\n{TREE}return y"
            ),
            expect![[r#"
                x: f32[N,2]
                y/column_liveness0 = f32[2,1]{4.0, 8.0}
                y/column_liveness1 = MatMul(x, y/column_liveness0)
                y = ai.onnx.ml.TreeEnsembleRegressor(y/column_liveness1) {n_targets=1,
                    nodes_falsenodeids=[2,0,0], nodes_featureids=[0,0,0],
                    nodes_missing_value_tracks_true=[0,0,0], nodes_modes=["BRANCH_LEQ","LEAF",
                    "LEAF"], nodes_nodeids=[0,1,2], nodes_treeids=[0,0,0], nodes_truenodeids=[1,0,
                    0], nodes_values=[0.5,0.0,0.0], target_ids=[0,0], target_nodeids=[1,2],
                    target_treeids=[0,0], target_weights=[3.0,7.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_tables_that_others_read() {
        check(
            &ColumnLiveness,
            &format!("t = Concat(a: f32[N,2], b: f32[N,3]) {{axis=1}}\n{TREE}return y, t"),
            expect![[r#"
                (unchanged)
                # column_liveness @ y: an inner value is an output of the graph
            "#]],
        );
    }

    #[test]
    fn what_lies_between_is_done_to_what_is_left() {
        check(
            &ColumnLiveness,
            "w = f32[3,2]{1.0, 2.0, 3.0, 4.0, 5.0, 6.0}\nb = f32[3]{7.0, 8.0, 9.0}\n\
             c = f32[1,5]{1.0, 2.0, 3.0, 4.0, 5.0}\nl = f32[]{0.5}\ni = i64[2]{4, 2}\n\
             p = Gemm(x: f32[N,2], w, b) {transB=1}\nt = Concat(a: f32[N,2], p) {axis=1}\n\
             m = Sub(c, t)\ns = ai.onnx.ml.Scaler(m) {offset=[1.0,2.0,3.0,4.0,5.0], scale=[0.5]}\n\
             k = Clip(s, l)\ny = Gather(k, i) {axis=1}\nreturn y",
            expect![[r#"
                x: f32[N,2]
                a: f32[N,2]
                l = f32[]{0.5}
                y/column_liveness0 = f32[2,2]{1.0, 2.0, 5.0, 6.0}
                y/column_liveness1 = f32[2]{7.0, 9.0}
                y/column_liveness2 = Gemm(x, y/column_liveness0, y/column_liveness1) {transB=1}
                y/column_liveness3 = f32[1,2]{3.0, 5.0}
                y/column_liveness4 = Sub(y/column_liveness3, y/column_liveness2)
                y/column_liveness5 = ai.onnx.ml.Scaler(y/column_liveness4) {offset=[3.0,5.0],
                    scale=[0.5]}
                y/column_liveness6 = Clip(y/column_liveness5, l)
                y/column_liveness7 = i64[2]{1, 0}
                y = Gather(y/column_liveness6, y/column_liveness7) {axis=1}
                return y
            "#]],
        );
    }

    #[test]
    fn what_is_picked_in_order_needs_no_picking() {
        check(
            &ColumnLiveness,
            "t = Concat(a: f32[N,2], b: f32[N,3]) {axis=-1}\ni = i64[2]{0, 1}\n\
             e = Exp(t)\ny = Gather(e, i) {axis=1}\nreturn y",
            expect![[r#"
                a: f32[N,2]
                b: f32[N,3]
                y = Exp(a)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_rows_together_and_what_linear_models_do_not_weigh() {
        check(
            &ColumnLiveness,
            "t = Concat(a: f32[N,2], b: f32[N,1]) {axis=1}\ni = i64[1]{2}\n\
             s = ai.onnx.ml.Normalizer(t)\ny = Gather(s, i) {axis=1}\n\
             u = Concat(a, b) {axis=1}\n\
             z = ai.onnx.ml.LinearRegressor(u) {coefficients=[2.0,3.0,0.0]}\nreturn y, z",
            expect![["(unchanged)\n"]],
        );
    }
}
