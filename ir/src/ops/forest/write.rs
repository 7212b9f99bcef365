//! From a forest to the attributes of the three ONNX operators, for forests that passes change.

use kiln_tensor::{DType, Scalar, Tensor, match_float};

use super::canonical::{Forest, MOST, Next, Node, Test};
use crate::{Attr, Attrs, Result, invalid};

/// The numbers of a forest in the precision of the model; an error where it cannot hold them.
fn numbers(values: &[f64], dtype: DType) -> Result<Tensor> {
    match_float!(dtype, T => {
        let rounded: Vec<T> = values.iter().map(|&x| T::from_f64(x)).collect();
        // NaN is like NaN.
        let same = |(a, b): (&f64, &T)| *a == b.to_f64() || a.is_nan();
        match values.iter().zip(&rounded).all(same) {
            true => Ok(Tensor::vector(rounded)),
            false => invalid!("the numbers of the forest are no {dtype}"),
        }
    }, else invalid!("a forest has no numbers of type {dtype}"))
}

/// Sets `name` to floats or, in double precision, `name` with `_as_tensor` to a tensor.
fn set(attrs: &mut Attrs, name: &str, values: &[f64], wide: bool) -> Result<()> {
    let tensor = format!("{name}_as_tensor");
    let _ = (attrs.take::<Vec<f32>>(name)?, attrs.take::<Tensor>(&tensor)?);
    match wide {
        true => attrs.set(&tensor, Attr::Tensor(numbers(values, DType::F64)?)),
        false => attrs.set(name, Attr::Floats(numbers(values, DType::F32)?.to_vec()?)),
    }
    Ok(())
}

/// Sets what is added to the scores.
pub fn set_base(attrs: &mut Attrs, base: &[f64], wide: bool) -> Result<()> {
    set(attrs, "base_values", base, wide)
}

/// The attributes of a classifier or a regressor but for its trees, whose lists are long.
pub fn without_trees(attrs: &Attrs) -> Attrs {
    let of_trees = |name: &str| ["nodes_", "class_", "target_"].iter().any(|p| name.starts_with(p));
    let mut others = Attrs::default();
    for (name, value) in attrs.iter().filter(|(name, _)| !of_trees(name)) {
        others.set(name, value.clone());
    }
    others
}

/// The rows of the node list, and the votes of its leaves.
#[derive(Default)]
struct Rows {
    tree: Vec<i64>,
    id: Vec<i64>,
    feature: Vec<i64>,
    value: Vec<f64>,
    mode: Vec<String>,
    yes: Vec<i64>,
    no: Vec<i64>,
    missing: Vec<i64>,
    votes: [Vec<i64>; 3],
    weights: Vec<f64>,
}

/// The numbers that nodes and leaves have in one tree.
struct Numbering<'a> {
    forest: &'a Forest,
    /// By node, then by leaf; negative where there is none yet.
    ids: Vec<i64>,
    /// What is numbered, in order.
    order: Vec<Next>,
    rows: i64,
}

impl Numbering<'_> {
    /// Where the number of what a branch leads to stands.
    fn place(&self, next: Next) -> usize {
        let behind = || self.forest.nodes.len() + next.as_leaf().unwrap_or(0);
        next.as_node().unwrap_or_else(behind)
    }

    /// Begins another tree.
    fn forget(&mut self) {
        let mut order = std::mem::take(&mut self.order);
        for next in order.drain(..) {
            let place = self.place(next);
            self.ids[place] = -1;
        }
        self.order = order;
        self.rows = 0;
    }

    /// The number of what a branch leads to; a set takes as many rows as it has values.
    fn of(&mut self, next: Next) -> i64 {
        let place = self.place(next);
        if self.ids[place] >= 0 {
            return self.ids[place];
        }
        let width = match next.as_node().map(|i| self.forest.nodes[i].test) {
            Some(Test::Member(s)) => self.forest.sets.at(s as usize).len().max(1),
            _ => 1,
        };
        let id = self.rows;
        self.ids[place] = id;
        self.order.push(next);
        self.rows += width as i64;
        id
    }
}

impl Rows {
    fn tree(&mut self, numbering: &mut Numbering<'_>, tree: i64, root: Next) -> Result<()> {
        numbering.forget();
        numbering.of(root);
        let mut at = 0;
        while let Some(&next) = numbering.order.get(at) {
            at += 1;
            let id = numbering.of(next);
            match next.as_node() {
                Some(i) => self.node(&numbering.forest.nodes[i], (tree, id), numbering),
                None => self.leaf(numbering.forest, next.as_leaf().unwrap_or(0), tree, id),
            }
            if self.tree.len() > MOST {
                invalid!("the forest has more than {MOST} nodes");
            }
        }
        Ok(())
    }

    fn node(&mut self, n: &Node, (tree, id): (i64, i64), numbering: &mut Numbering<'_>) {
        let forest = numbering.forest;
        let (yes, no) = (numbering.of(n.yes), numbering.of(n.no));
        let (mode, value) = match n.test {
            Test::Leq(t) => ("BRANCH_LEQ", t),
            Test::Lt(t) => ("BRANCH_LT", t),
            Test::Geq(t) => ("BRANCH_GTE", t),
            Test::Gt(t) => ("BRANCH_GT", t),
            Test::Eq(t) => ("BRANCH_EQ", t),
            Test::Neq(t) => ("BRANCH_NEQ", t),
            // Nothing is in an empty set, and nothing equals NaN.
            Test::Member(_) => ("BRANCH_EQ", f64::NAN),
        };
        let set = match n.test {
            Test::Member(s) => forest.sets.at(s as usize),
            _ => &[],
        };
        let values = if set.is_empty() { &[value] } else { set };
        for (k, &value) in values.iter().enumerate() {
            let id = id + k as i64;
            let last = k + 1 == values.len();
            self.row((tree, id), mode, value);
            self.feature.push(n.feature.into());
            self.yes.push(yes);
            self.no.push(if last { no } else { id + 1 });
            self.missing.push(n.missing.into());
        }
    }

    fn leaf(&mut self, forest: &Forest, leaf: usize, tree: i64, id: i64) {
        self.row((tree, id), "LEAF", 0.0);
        for column in [&mut self.feature, &mut self.yes, &mut self.no, &mut self.missing] {
            column.push(0);
        }
        for v in forest.leaves.at(leaf) {
            let entries = [tree, id, v.target.into()];
            self.votes.iter_mut().zip(entries).for_each(|(list, x)| list.push(x));
            self.weights.push(v.weight);
        }
    }

    fn row(&mut self, (tree, id): (i64, i64), mode: &str, value: f64) {
        self.tree.push(tree);
        self.id.push(id);
        self.mode.push(mode.to_owned());
        self.value.push(value);
    }
}

/// Writes a forest to the attributes of `TreeEnsembleClassifier` or `TreeEnsembleRegressor`:
/// `class` or `target` begins the names of the votes.
pub fn write_v1(f: &Forest, votes: &str, mut attrs: Attrs) -> Result<Attrs> {
    let mut rows = Rows::default();
    let ids = vec![-1; f.nodes.len() + f.leaves.len()];
    let mut numbering = Numbering { forest: f, ids, order: vec![], rows: 0 };
    for (tree, &root) in f.roots.iter().enumerate() {
        rows.tree(&mut numbering, tree as i64, root)?;
    }
    set(&mut attrs, "nodes_values", &rows.value, f.wide)?;
    set(&mut attrs, &format!("{votes}_weights"), &rows.weights, f.wide)?;
    let [tree, node, target] = rows.votes;
    attrs.set("nodes_modes", Attr::Strings(rows.mode));
    for (name, list) in [
        ("nodes_treeids", rows.tree),
        ("nodes_nodeids", rows.id),
        ("nodes_featureids", rows.feature),
        ("nodes_truenodeids", rows.yes),
        ("nodes_falsenodeids", rows.no),
        ("nodes_missing_value_tracks_true", rows.missing),
        (&format!("{votes}_treeids"), tree),
        (&format!("{votes}_nodeids"), node),
        (&format!("{votes}_ids"), target),
    ] {
        attrs.set(name, Attr::Ints(list));
    }
    Ok(attrs)
}

/// Writes a forest to the attributes of `TreeEnsemble`; each leaf must have one vote.
pub fn write_v5(f: &Forest, mut attrs: Attrs) -> Result<Attrs> {
    let mut nodes = f.nodes.clone();
    let mut roots = Vec::with_capacity(f.roots.len());
    for root in &f.roots {
        // A tree of one leaf is a node that leads to it twice.
        roots.push(root.as_node().unwrap_or(nodes.len()) as i64);
        if root.as_leaf().is_some() {
            let test = Test::Leq(0.0);
            nodes.push(Node { test, feature: 0, yes: *root, no: *root, missing: false });
        }
    }
    if (0..f.leaves.len()).any(|i| f.leaves.at(i).len() != 1) {
        invalid!("a leaf of a TreeEnsemble has one vote");
    }
    let (mut codes, mut splits, mut members) = (vec![], vec![], vec![]);
    for n in &nodes {
        let (code, split) = match n.test {
            Test::Leq(t) => (0u8, t),
            Test::Lt(t) => (1, t),
            Test::Geq(t) => (2, t),
            Test::Gt(t) => (3, t),
            Test::Eq(t) => (4, t),
            Test::Neq(t) => (5, t),
            Test::Member(s) => {
                members.extend_from_slice(f.sets.at(s as usize));
                members.push(f64::NAN);
                (6, 0.0)
            }
        };
        codes.push(code);
        splits.push(split);
    }
    let old = match attrs.get("nodes_splits") {
        Some(Attr::Tensor(t)) => t.dtype(),
        _ => DType::F32,
    };
    let dtype = if f.wide { DType::F64 } else { old };
    let weights: Vec<f64> = f.leaves.items().iter().map(|v| v.weight).collect();
    attrs.set("nodes_modes", Attr::Tensor(Tensor::vector(codes)));
    attrs.set("nodes_splits", Attr::Tensor(numbers(&splits, dtype)?));
    attrs.set("leaf_weights", Attr::Tensor(numbers(&weights, dtype)?));
    let _ = attrs.take::<Tensor>("membership_values")?;
    if !members.is_empty() {
        attrs.set("membership_values", Attr::Tensor(numbers(&members, dtype)?));
    }
    let place = |n: Next| n.as_node().or(n.as_leaf()).unwrap_or(0) as i64;
    let ints = |of: &dyn Fn(&Node) -> i64| Attr::Ints(nodes.iter().map(of).collect());
    attrs.set("tree_roots", Attr::Ints(roots));
    attrs.set("nodes_featureids", ints(&|n| n.feature.into()));
    attrs.set("nodes_truenodeids", ints(&|n| place(n.yes)));
    attrs.set("nodes_falsenodeids", ints(&|n| place(n.no)));
    attrs.set("nodes_trueleafs", ints(&|n| n.yes.as_leaf().is_some().into()));
    attrs.set("nodes_falseleafs", ints(&|n| n.no.as_leaf().is_some().into()));
    attrs.set("nodes_missing_value_tracks_true", ints(&|n| n.missing.into()));
    let targets = f.leaves.items().iter().map(|v| v.target.into()).collect();
    attrs.set("leaf_targetids", Attr::Ints(targets));
    Ok(attrs)
}
