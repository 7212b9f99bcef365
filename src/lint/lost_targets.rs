//! `TreeEnsembleRegressor` with several targets and votes for one: all trees of a multi-target
//! model were written for target 0.

use kiln_ir::ops::forest::Kind;
use kiln_ir::{Graph, NodeId, Op};

use super::{Lint, each};

pub const LINT: Lint = Lint {
    name: "lost_targets",
    help: "train and export one model per target",
    producers: &[],
    find: |g| each(g, |id| wrong(g, id)),
};

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::TreeEnsemble(trees) = g.op(id) else { return None };
    let e = trees.ensemble();
    let votes = e.forest.leaves.items();
    let (first, n) = (votes.first()?.target, e.forest.targets);
    let alone = n > 1 && votes.iter().all(|v| v.target == first);
    (alone && !matches!(e.kind, Kind::Classifier { .. }))
        .then(|| format!("all trees vote for target {first} of {n}; the others are constant"))
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{fired, forest};

    #[test]
    fn fires_where_all_votes_are_for_one_of_several() {
        let text = forest(2, &[(0, 1.0, false)], ", n_targets=2") + "return v";
        assert_eq!(fired(&text), ["lost_targets"]);
        let both = text.replace("target_ids=[0,0,0,", "target_ids=[0,1,0,");
        assert!(fired(&both).is_empty());
        let one = text.replace("n_targets=2", "n_targets=1");
        assert!(fired(&one).is_empty());
    }
}
