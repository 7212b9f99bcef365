//! From the attributes of the three ONNX operators to a forest.

use kiln_tensor::{DType, Tensor};

use super::canonical::{Forest, Lists, Next, Node, Test, Vote};
use super::ids::Ids;
use super::sets;
use crate::{Attr, Attrs, Error, Result, invalid};

/// The integers of an attribute; none where it is missing.
pub fn ints<'a>(attrs: &'a Attrs, name: &str) -> Result<&'a [i64]> {
    match attrs.get(name) {
        None => Ok(&[]),
        Some(Attr::Ints(v)) => Ok(v),
        Some(_) => invalid!("attribute `{name}`: expected integers"),
    }
}

/// An integer attribute.
pub fn int(attrs: &Attrs, name: &str) -> Result<Option<i64>> {
    match attrs.get(name) {
        None => Ok(None),
        Some(Attr::Int(v)) => Ok(Some(*v)),
        Some(_) => invalid!("attribute `{name}`: expected an integer"),
    }
}

fn tensor<'a>(attrs: &'a Attrs, name: &str) -> Result<Option<&'a Tensor>> {
    match attrs.get(name) {
        None => Ok(None),
        Some(Attr::Tensor(t)) => Ok(Some(t)),
        Some(_) => invalid!("attribute `{name}`: expected a tensor"),
    }
}

/// Numbers given as floats or, where there is one, as a tensor.
pub struct Numbers {
    /// The values, exact.
    pub values: Vec<f64>,
    /// Whether they are in double precision.
    pub wide: bool,
}

impl Numbers {
    /// Reads `name`, or `tensor_name` where it is there.
    pub fn read(attrs: &Attrs, name: &str, tensor_name: &str) -> Result<Self> {
        if let Some(t) = tensor(attrs, tensor_name)? {
            if !t.dtype().is_float() {
                invalid!("attribute `{tensor_name}` has element type {}", t.dtype());
            }
            return Ok(Self { values: t.to_vec()?, wide: t.dtype() == DType::F64 });
        }
        match attrs.get(name) {
            None => Ok(Self { values: vec![], wide: false }),
            Some(Attr::Floats(v)) => {
                Ok(Self { values: v.iter().copied().map(f64::from).collect(), wide: false })
            }
            Some(_) => invalid!("attribute `{name}`: expected floats"),
        }
    }
}

/// An error unless `got` is `want`, or nothing where that is allowed.
fn length(name: &str, got: usize, want: usize, or_none: bool) -> Result<()> {
    if got == want || (or_none && got == 0) {
        return Ok(());
    }
    invalid!("attribute `{name}` has {got} elements, expected {want}")
}

fn column(id: i64) -> Result<u32> {
    // Columns are counted in `usize` and the row that a walk reads is as long as the last one.
    match u32::try_from(id) {
        Ok(c) if c < 1 << 30 => Ok(c),
        _ => invalid!("feature {id} is out of range"),
    }
}

/// Where a forest's votes are: `class` or `target` begins the names of their attributes.
pub fn read_v1(attrs: &Attrs, votes: &str) -> Result<Forest> {
    let tree = ints(attrs, "nodes_treeids")?;
    let n = tree.len();
    let column_of = |name: &str, or_none| -> Result<&[i64]> {
        let v = ints(attrs, name)?;
        length(name, v.len(), n, or_none)?;
        Ok(v)
    };
    let (feature, missing) = (
        column_of("nodes_featureids", false)?,
        column_of("nodes_missing_value_tracks_true", true)?,
    );
    let (yes, no) =
        (column_of("nodes_truenodeids", false)?, column_of("nodes_falsenodeids", false)?);
    let values = Numbers::read(attrs, "nodes_values", "nodes_values_as_tensor")?;
    length("nodes_values", values.values.len(), n, false)?;
    let modes = modes(attrs, n)?;
    let ids = Ids::new(tree, column_of("nodes_nodeids", false)?)?;
    let places = Places::new(&modes);

    let mut nodes = Vec::with_capacity(places.nodes);
    for i in (0..n).filter(|&i| modes[i] != Mode::Leaf) {
        let lead = |to: i64| -> Result<Next> {
            let place = ids.find(tree[i], to, i).ok_or_else(|| {
                Error::invalid(format!(
                    "tree {} has no node {to}, which a branch leads to",
                    tree[i]
                ))
            })?;
            Ok(places.next(&modes, place))
        };
        nodes.push(Node {
            test: modes[i].test(values.values[i]),
            feature: column(feature[i])?,
            yes: lead(yes[i])?,
            no: lead(no[i])?,
            missing: missing.get(i).is_some_and(|&m| m != 0),
        });
    }
    let (leaves, targets, wide) = read_votes(attrs, votes, &ids, &modes)?;
    let roots = ids.firsts().map(|i| places.next(&modes, i)).collect();
    let wide = wide || values.wide;
    Ok(Forest { nodes, roots, leaves, targets, wide, ..Forest::default() })
}

/// The votes of every leaf in the order of the node list; votes of inner nodes say nothing.
fn read_votes(
    attrs: &Attrs,
    votes: &str,
    ids: &Ids<'_>,
    modes: &[Mode],
) -> Result<(Lists<Vote>, usize, bool)> {
    let target = ints(attrs, &format!("{votes}_ids"))?;
    let tree = ints(attrs, &format!("{votes}_treeids"))?;
    let node = ints(attrs, &format!("{votes}_nodeids"))?;
    let weight =
        Numbers::read(attrs, &format!("{votes}_weights"), &format!("{votes}_weights_as_tensor"))?;
    length(&format!("{votes}_treeids"), tree.len(), target.len(), false)?;
    length(&format!("{votes}_nodeids"), node.len(), target.len(), false)?;
    length(&format!("{votes}_weights"), weight.values.len(), target.len(), false)?;
    // Votes are counted per node, then put in their places: their order in a leaf stays.
    let mut starts = vec![0usize; modes.len() + 1];
    let mut places = Vec::with_capacity(target.len());
    let mut near = 0;
    let mut targets = 0;
    for k in 0..target.len() {
        let Some(place) = ids.find(tree[k], node[k], near) else {
            invalid!("tree {} has no node {}, which has a weight", tree[k], node[k]);
        };
        let Some(t) = u32::try_from(target[k]).ok().filter(|&t| t < u32::MAX) else {
            invalid!("a weight is for {votes} {}", target[k]);
        };
        targets = targets.max(t as usize + 1);
        near = place;
        starts[place + 1] += 1;
        places.push(place);
    }
    (1..starts.len()).for_each(|i| starts[i] += starts[i - 1]);
    let mut at = starts.clone();
    let mut sorted = vec![Vote { target: 0, weight: 0.0 }; target.len()];
    for (k, &place) in places.iter().enumerate() {
        sorted[at[place]] = Vote { target: target[k] as u32, weight: weight.values[k] };
        at[place] += 1;
    }
    let mut lists = Lists::default();
    for i in (0..modes.len()).filter(|&i| modes[i] == Mode::Leaf) {
        lists.push(sorted[starts[i]..starts[i + 1]].iter().copied());
    }
    Ok((lists, targets, weight.wide))
}

/// The mode of a node, as the operators spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Leaf,
    Leq,
    Lt,
    Geq,
    Gt,
    Eq,
    Neq,
    Member,
}

impl Mode {
    fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "LEAF" => Mode::Leaf,
            "BRANCH_LEQ" => Mode::Leq,
            "BRANCH_LT" => Mode::Lt,
            "BRANCH_GTE" => Mode::Geq,
            "BRANCH_GT" => Mode::Gt,
            "BRANCH_EQ" => Mode::Eq,
            "BRANCH_NEQ" => Mode::Neq,
            _ => invalid!("`{name}` is no node mode"),
        })
    }

    fn from_code(code: i64) -> Result<Self> {
        const MODES: [Mode; 7] =
            [Mode::Leq, Mode::Lt, Mode::Geq, Mode::Gt, Mode::Eq, Mode::Neq, Mode::Member];
        let mode = usize::try_from(code).ok().and_then(|c| MODES.get(c));
        mode.copied().ok_or_else(|| Error::invalid(format!("{code} is no node mode")))
    }

    /// The test against `t`; a member test gets its set later.
    fn test(self, t: f64) -> Test {
        match self {
            Mode::Leq => Test::Leq(t),
            Mode::Lt => Test::Lt(t),
            Mode::Geq => Test::Geq(t),
            Mode::Gt => Test::Gt(t),
            Mode::Eq => Test::Eq(t),
            Mode::Neq => Test::Neq(t),
            Mode::Member | Mode::Leaf => Test::Member(0),
        }
    }
}

fn modes(attrs: &Attrs, n: usize) -> Result<Vec<Mode>> {
    let names = match attrs.get("nodes_modes") {
        Some(Attr::Strings(s)) => s.as_slice(),
        None => &[],
        Some(_) => invalid!("attribute `nodes_modes`: expected strings"),
    };
    length("nodes_modes", names.len(), n, false)?;
    names.iter().map(|s| Mode::from_name(s)).collect()
}

/// Where the entries of a mixed list of nodes and leaves go.
struct Places {
    at: Vec<u32>,
    nodes: usize,
}

impl Places {
    fn new(modes: &[Mode]) -> Self {
        let (mut nodes, mut leaves) = (0, 0);
        let at = modes.iter().map(|m| {
            let count = if *m == Mode::Leaf { &mut leaves } else { &mut nodes };
            *count += 1;
            (*count - 1) as u32
        });
        Self { at: at.collect(), nodes }
    }

    fn next(&self, modes: &[Mode], i: usize) -> Next {
        match modes[i] {
            Mode::Leaf => Next::leaf(self.at[i] as usize),
            _ => Next::node(self.at[i] as usize),
        }
    }
}

/// Reads the attributes of `TreeEnsemble`, which keep nodes and leaves apart.
pub fn read_v5(attrs: &Attrs) -> Result<Forest> {
    let feature = ints(attrs, "nodes_featureids")?;
    let n = feature.len();
    let column_of = |name: &str, or_none| -> Result<&[i64]> {
        let v = ints(attrs, name)?;
        length(name, v.len(), n, or_none)?;
        Ok(v)
    };
    let (yes, no) =
        (column_of("nodes_truenodeids", false)?, column_of("nodes_falsenodeids", false)?);
    let (yes_leaf, no_leaf) =
        (column_of("nodes_trueleafs", false)?, column_of("nodes_falseleafs", false)?);
    let missing = column_of("nodes_missing_value_tracks_true", true)?;
    let splits = Numbers::read(attrs, "", "nodes_splits")?;
    length("nodes_splits", splits.values.len(), n, false)?;
    let codes = match tensor(attrs, "nodes_modes")? {
        Some(t) => t.to_vec::<i64>()?,
        None => vec![],
    };
    length("nodes_modes", codes.len(), n, false)?;

    let mut members = 0u32;
    let mut nodes = Vec::with_capacity(n);
    for i in 0..n {
        let mode = Mode::from_code(codes[i])?;
        let test = match mode {
            Mode::Member => {
                members += 1;
                Test::Member(members - 1)
            }
            _ => mode.test(splits.values[i]),
        };
        nodes.push(Node {
            test,
            feature: column(feature[i])?,
            yes: lead(yes[i], yes_leaf[i] != 0)?,
            no: lead(no[i], no_leaf[i] != 0)?,
            missing: missing.get(i).is_some_and(|&m| m != 0),
        });
    }
    let members_of = Numbers::read(attrs, "", "membership_values")?.values;
    let sets = sets::split(&members_of, members as usize)?;
    // A tree of one leaf is written as a node that leads to it twice.
    let root = |&r: &i64| {
        let root = lead(r, false)?;
        let node = root.as_node().and_then(|i| nodes.get(i));
        Ok(node.filter(|n| n.yes == n.no && n.yes.as_leaf().is_some()).map_or(root, |n| n.yes))
    };
    let roots = ints(attrs, "tree_roots")?.iter().map(root).collect::<Result<_>>()?;
    let (leaves, targets, wide) = read_leaves(attrs)?;
    let wide = wide || splits.wide;
    Ok(Forest { nodes, roots, leaves, sets, targets, wide, features: 0 })
}

fn lead(to: i64, leaf: bool) -> Result<Next> {
    match usize::try_from(to) {
        Ok(i) if i < super::canonical::MOST => Ok(if leaf { Next::leaf(i) } else { Next::node(i) }),
        _ => invalid!("a branch leads to node {to}, which does not exist"),
    }
}

fn read_leaves(attrs: &Attrs) -> Result<(Lists<Vote>, usize, bool)> {
    let target = ints(attrs, "leaf_targetids")?;
    let weight = Numbers::read(attrs, "", "leaf_weights")?;
    length("leaf_weights", weight.values.len(), target.len(), false)?;
    let (mut lists, mut targets) = (Lists::default(), 0);
    for (&t, &weight) in target.iter().zip(&weight.values) {
        let Some(target) = u32::try_from(t).ok().filter(|&t| t < u32::MAX) else {
            invalid!("a leaf votes for target {t}");
        };
        targets = targets.max(target as usize + 1);
        lists.push([Vote { target, weight }]);
    }
    Ok((lists, targets, weight.wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump() -> Attrs {
        Attrs::default()
            .with("nodes_treeids", vec![4i64, 4, 4])
            .with("nodes_nodeids", vec![9i64, 7, 8])
            .with("nodes_featureids", vec![2i64, 0, 0])
            .with("nodes_values", vec![0.1f32, 0.0, 0.0])
            .with("nodes_modes", ["BRANCH_LT", "LEAF", "LEAF"].map(str::to_owned).to_vec())
            .with("nodes_truenodeids", vec![8i64, 0, 0])
            .with("nodes_falsenodeids", vec![7i64, 0, 0])
            .with("target_treeids", vec![4i64, 4, 4])
            .with("target_nodeids", vec![7i64, 8, 7])
            .with("target_ids", vec![0i64, 0, 1])
            .with("target_weights", vec![1f32, 2.0, 3.0])
    }

    #[test]
    fn nodes_of_any_number_in_any_order() {
        let f = Forest::new(read_v1(&stump(), "target").expect("reads")).expect("valid");
        assert_eq!(f.nodes[0].test, Test::Lt(f64::from(0.1f32)));
        assert_eq!((f.features, f.targets, f.wide), (3, 2, false));
        assert_eq!(f.leaves.at(0), [Vote { target: 0, weight: 2.0 }]);
        assert_eq!(f.leaves.at(1).len(), 2);
    }

    #[test]
    fn doubles_replace_floats() {
        let t = Tensor::vector(vec![0.1f64, 0.0, 0.0]);
        let f = read_v1(&stump().with("nodes_values_as_tensor", t), "target").expect("reads");
        assert_eq!(f.nodes[0].test, Test::Lt(0.1));
        assert!(f.wide);
    }

    #[test]
    fn wrong_attributes_are_errors() {
        let cases: Vec<(Attrs, &str)> = vec![
            (stump().with("nodes_values", vec![0f32]), "`nodes_values` has 1"),
            (stump().with("nodes_truenodeids", vec![5i64, 0, 0]), "no node 5"),
            (stump().with("nodes_nodeids", vec![9i64, 7, 7]), "twice"),
            (stump().with("nodes_featureids", vec![-1i64, 0, 0]), "feature -1"),
            (stump().with("target_nodeids", vec![7i64, 8, 6]), "no node 6"),
            (stump().with("target_ids", vec![0i64, -1, 1]), "target -1"),
            (stump().with("nodes_modes", vec!["BRANCH".to_owned(); 3]), "no node mode"),
            (stump().with("nodes_treeids", 1i64), "expected integers"),
        ];
        for (attrs, want) in cases {
            let e = read_v1(&attrs, "target").expect_err(want);
            assert!(e.message().contains(want), "{} / {want}", e.message());
        }
    }
}
