//! What becomes of the leaves that rows reach: votes, summed tree by tree as the definition does.

use kiln_ir::ops::forest::{Aggregate, Ensemble, Forest, Kind, Next, Pair, Votes};

/// Targets that have their sums apart, so that rows are side by side.
const FEW: usize = 4;

/// How leaves vote.
#[derive(Debug)]
pub(super) enum Tally {
    /// Each leaf once, all of a tree for one target.
    One {
        /// The target of each tree.
        targets: Vec<u32>,
    },
    /// Each leaf for every target.
    Every {
        /// Of each leaf, a weight per target.
        weights: Vec<f32>,
    },
    /// Whatever there is.
    Any,
}

/// The running scores of some rows.
pub(super) enum Sums {
    /// Of each target, a number per row.
    ByTarget { rows: usize, sums: Vec<f32> },
    /// Of each row, a number per target.
    ByRow(Vec<f32>),
    /// Of each row, whatever there is.
    Votes(Vec<Votes>),
}

impl Tally {
    /// How the leaves of an ensemble vote; `wide` where sums are in double precision.
    pub fn of(e: &Ensemble, wide: bool) -> Self {
        let sums = matches!(e.aggregate, Aggregate::Sum | Aggregate::Average);
        if wide || !sums {
            return Tally::Any;
        }
        match (one(&e.forest), every(&e.forest)) {
            (Some(targets), _) => Tally::One { targets },
            (_, Some(weights)) => Tally::Every { weights },
            _ => Tally::Any,
        }
    }

    /// What kernels are to know of a leaf: its weight where that is all, else its number.
    pub fn known(&self, forest: &Forest, leaf: usize) -> u32 {
        match self {
            Tally::One { .. } => (forest.leaves.at(leaf)[0].weight as f32).to_bits(),
            _ => leaf as u32,
        }
    }

    /// The weight of a leaf for a target, where leaves vote for every one of a few.
    pub fn weight(&self, e: &Ensemble, known: u32, target: usize) -> Option<f32> {
        let k = e.forest.targets;
        match self {
            Tally::Every { weights } if k <= FEW => Some(weights[known as usize * k + target]),
            _ => None,
        }
    }

    /// Whether sums are all there is to know of votes: they are in single precision, and no class
    /// without a vote can win.
    pub fn is_whole(&self, e: &Ensemble) -> bool {
        let all = !matches!(e.kind, Kind::Classifier { pair: Pair::Own, .. });
        match self {
            Tally::One { targets } => {
                let voted = |t: usize| t < e.base.len() || targets.contains(&(t as u32));
                all || (0..e.forest.targets).all(voted)
            }
            Tally::Every { .. } => all || !e.forest.roots.is_empty(),
            Tally::Any => false,
        }
    }

    /// Whether leaves vote for every one of a few targets.
    pub fn is_few(&self, e: &Ensemble) -> bool {
        matches!(self, Tally::Every { .. }) && e.forest.targets <= FEW
    }

    /// No votes yet, for some rows.
    pub fn begin(&self, e: &Ensemble, wide: bool, rows: usize) -> Sums {
        let targets = e.forest.targets;
        match self {
            Tally::One { .. } => Sums::ByTarget { rows, sums: vec![0.0; targets * rows] },
            Tally::Every { .. } if targets <= FEW => {
                Sums::ByTarget { rows, sums: vec![0.0; targets * rows] }
            }
            Tally::Every { .. } => Sums::ByRow(vec![0.0; targets * rows]),
            Tally::Any => Sums::Votes(vec![Votes::new(targets, wide); rows]),
        }
    }

    /// Adds the votes of the leaves that some rows, from `row` on, reach in a tree.
    pub fn add(&self, e: &Ensemble, sums: &mut Sums, tree: usize, row: usize, known: &[u32]) {
        match (self, sums) {
            (Tally::One { targets }, Sums::ByTarget { rows, sums }) => {
                let sums = sums[targets[tree] as usize * *rows + row..].iter_mut();
                sums.zip(known).for_each(|(s, known)| *s += f32::from_bits(*known));
            }
            (Tally::Every { weights }, Sums::ByTarget { rows, sums }) => {
                let k = e.forest.targets;
                for (t, sums) in sums.chunks_exact_mut(*rows).enumerate() {
                    let votes = known.iter().map(|known| weights[*known as usize * k + t]);
                    sums[row..].iter_mut().zip(votes).for_each(|(s, w)| *s += w);
                }
            }
            (Tally::Every { weights }, Sums::ByRow(sums)) => {
                let k = e.forest.targets;
                for (sums, known) in sums[row * k..].chunks_exact_mut(k).zip(known) {
                    let votes = &weights[*known as usize * k..][..k];
                    sums.iter_mut().zip(votes).for_each(|(s, w)| *s += w);
                }
            }
            (_, Sums::Votes(rows)) => {
                for (row, known) in rows[row..].iter_mut().zip(known) {
                    let votes = e.forest.leaves.at(*known as usize);
                    votes.iter().for_each(|&v| row.add(e.aggregate, v));
                }
            }
            // `begin` made the sums for these votes.
            _ => {}
        }
    }

    /// Adds the votes of the leaves that a row reaches in all trees.
    pub fn add_row(&self, e: &Ensemble, sums: &mut Sums, row: usize, known: &[u32]) {
        match (self, sums) {
            (Tally::One { .. }, Sums::ByTarget { sums, .. }) if e.forest.targets == 1 => {
                let sum = known.iter().fold(sums[row], |s, known| s + f32::from_bits(*known));
                sums[row] = sum;
            }
            (_, sums) => {
                for (tree, known) in known.iter().enumerate() {
                    self.add(e, sums, tree, row, std::slice::from_ref(known));
                }
            }
        }
    }

    /// The sums of a row, as the definition keeps them.
    pub fn votes(&self, sums: &Sums, row: usize, out: &mut Votes) {
        let k = out.scores.len();
        match (self, sums) {
            (Tally::One { targets }, Sums::ByTarget { rows, sums }) => {
                let of_row = sums[row..].iter().step_by((*rows).max(1));
                out.scores.iter_mut().zip(of_row).for_each(|(o, s)| *o = f64::from(*s));
                targets.iter().for_each(|&t| out.seen[t as usize] = true);
            }
            (_, Sums::ByTarget { rows, sums }) => {
                let of_row = sums[row..].iter().step_by((*rows).max(1));
                out.scores.iter_mut().zip(of_row).for_each(|(o, s)| *o = f64::from(*s));
                out.seen.fill(true);
            }
            (_, Sums::ByRow(sums)) => {
                let of_row = &sums[row * k..][..k];
                out.scores.iter_mut().zip(of_row).for_each(|(o, s)| *o = f64::from(*s));
                out.seen.fill(true);
            }
            (_, Sums::Votes(rows)) => out.clone_from(&rows[row]),
        }
    }
}

/// The target of each tree, where each leaf votes once, and all of a tree for the same target.
fn one(f: &Forest) -> Option<Vec<u32>> {
    let mut target_of = vec![];
    for leaf in 0..f.leaves.len() {
        let &[vote] = f.leaves.at(leaf) else { return None };
        target_of.push(vote.target);
    }
    // A tree lies in one piece, so each step leads to a node of the same tree: targets spread up
    // from the leaves, last node first.
    let mut of_node = vec![None; f.nodes.len()];
    let target = |of_node: &[Option<u32>], n: Next| match (n.as_node(), n.as_leaf()) {
        (Some(i), _) => of_node[i],
        (_, leaf) => leaf.map(|l| target_of[l]),
    };
    let mut stack: Vec<usize> = vec![];
    let mut targets = vec![];
    for &root in &f.roots {
        stack.extend(root.as_node().filter(|&i| of_node[i].is_none()));
        while let Some(&i) = stack.last() {
            let sides = [f.nodes[i].yes, f.nodes[i].no];
            let open = sides.iter().filter_map(|n| n.as_node()).find(|&n| of_node[n].is_none());
            if let Some(n) = open {
                stack.push(n);
                continue;
            }
            let [yes, no] = sides.map(|n| target(&of_node, n));
            if yes != no {
                return None;
            }
            of_node[i] = yes;
            stack.pop();
        }
        targets.push(target(&of_node, root)?);
    }
    Some(targets)
}

/// The weights of each leaf, where each votes for every target in turn.
fn every(f: &Forest) -> Option<Vec<f32>> {
    let mut weights = Vec::with_capacity(f.leaves.items().len());
    for leaf in 0..f.leaves.len() {
        let votes = f.leaves.at(leaf);
        let all = votes.len() == f.targets;
        if !all || votes.iter().enumerate().any(|(t, v)| v.target as usize != t) {
            return None;
        }
        weights.extend(votes.iter().map(|v| v.weight as f32));
    }
    Some(weights)
}
