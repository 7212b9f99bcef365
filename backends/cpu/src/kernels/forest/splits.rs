//! A forest in one kind of question: left where `x <= threshold`, else right, NaN right.
//!
//! ```text
//! x <  t              x <= the number before t
//! x >= t              x <  t, sides swapped
//! NaN goes low        -x <= the number before -t, sides swapped: a mirrored column
//! x == t, x in set    a search among thresholds; its nodes share their sides
//! ```
//! Thresholds in double precision become the greatest number of the column's precision that is not
//! above them: for every `x` of that precision the answer is the same.

use std::collections::HashMap;

use kiln_ir::ops::forest::{Forest, Next, Node, Test};

/// A number that columns hold: `f32` or `f64`.
pub(super) trait Real: Copy + PartialOrd + Send + Sync + 'static {
    /// Compares false with everything.
    const NAN: Self;
    /// Above every number.
    const INFINITY: Self;
    /// The greatest number not above `x`; NaN where there is none.
    fn at_most(x: f64) -> Self;
    /// The greatest number below; NaN where there is none.
    fn before(self) -> Self;
    /// With the other sign.
    fn mirrored(self) -> Self;
    /// As a double.
    fn wide(self) -> f64;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const NAN: Self = <$t>::NAN;
            const INFINITY: Self = <$t>::INFINITY;

            #[allow(clippy::cast_lossless, reason = "one text for both precisions")]
            fn at_most(x: f64) -> Self {
                let near = x as $t;
                if near as f64 > x { near.before() } else { near }
            }

            fn before(self) -> Self {
                if self == <$t>::NEG_INFINITY { <$t>::NAN } else { self.next_down() }
            }

            fn mirrored(self) -> Self {
                -self
            }

            #[allow(clippy::cast_lossless, reason = "one text for both precisions")]
            fn wide(self) -> f64 {
                self as f64
            }
        }
    };
}

real!(f32);
real!(f64);

/// Left where the column is at most the threshold, else right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Split<T> {
    pub column: u32,
    pub threshold: T,
    pub left: Next,
    pub right: Next,
}

/// A column that the trees read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Column {
    /// The column of the table.
    pub feature: u32,
    /// Whether it is read with the other sign.
    pub mirrored: bool,
}

/// A forest of splits; leaves are those of the forest that it came from.
#[derive(Debug)]
pub(super) struct Splits<T> {
    pub splits: Vec<Split<T>>,
    pub roots: Vec<Next>,
    pub columns: Vec<Column>,
}

/// Where a side leads while splits are made: a node of the forest, or a split already made.
#[derive(Clone, Copy)]
enum Side {
    Old(Next),
    New(Next),
}

struct Lowering<T> {
    splits: Vec<(u32, T, Side, Side)>,
    columns: Vec<Column>,
    places: HashMap<Column, u32>,
}

impl<T: Real> Splits<T> {
    /// The splits of a forest. Time and size are linear in it.
    pub fn of(forest: &Forest) -> Self {
        let mut low = Lowering { splits: vec![], columns: vec![], places: HashMap::new() };
        let first: Vec<Next> = forest.nodes.iter().map(|n| low.node(forest, n)).collect();
        let moved = |n: Next| n.as_node().map_or(n, |i| first[i]);
        let side = |s: Side| match s {
            Side::Old(n) => moved(n),
            Side::New(n) => n,
        };
        let splits = (low.splits.into_iter())
            .map(|(column, threshold, l, r)| Split {
                column,
                threshold,
                left: side(l),
                right: side(r),
            })
            .collect();
        let roots = forest.roots.iter().map(|&r| moved(r)).collect();
        Self { splits, roots, columns: low.columns }
    }
}

impl<T: Real> Lowering<T> {
    /// The splits of one node; returns the first of them.
    fn node(&mut self, forest: &Forest, n: &Node) -> Next {
        let (yes, no) = (Side::Old(n.yes), Side::Old(n.no));
        let f = n.feature;
        match n.test {
            // Nothing compares with NaN.
            Test::Leq(t) | Test::Lt(t) | Test::Geq(t) | Test::Gt(t) if t.is_nan() => {
                let nan = if n.missing { yes } else { no };
                self.split(f, T::INFINITY, no, nan, false)
            }
            Test::Leq(t) => self.split(f, T::at_most(t), yes, no, n.missing),
            Test::Lt(t) => self.split(f, below(t), yes, no, n.missing),
            Test::Geq(t) => self.split(f, below(t), no, yes, !n.missing),
            Test::Gt(t) => self.split(f, T::at_most(t), no, yes, !n.missing),
            Test::Eq(t) => self.member(f, &[t], yes, no, n.missing),
            Test::Neq(t) => self.member(f, &[t], no, yes, false),
            Test::Member(set) => self.member(f, forest.sets.at(set as usize), yes, no, n.missing),
        }
    }

    /// `low` where the feature is at most `t`, else `high`; NaN goes low or high.
    fn split(&mut self, feature: u32, t: T, low: Side, high: Side, nan_low: bool) -> Next {
        let (threshold, left, right) = match nan_low {
            false => (t, low, high),
            // Nothing is at most NaN: everything is high, and the mirrored column at most infinity.
            true if t.wide().is_nan() => (T::INFINITY, high, low),
            true => (t.mirrored().before(), high, low),
        };
        let column = self.column(Column { feature, mirrored: nan_low });
        self.splits.push((column, threshold, left, right));
        Next::node(self.splits.len() - 1)
    }

    fn column(&mut self, c: Column) -> u32 {
        let columns = &mut self.columns;
        *self.places.entry(c).or_insert_with(|| {
            columns.push(c);
            columns.len() as u32 - 1
        })
    }

    /// `yes` where the feature is one of some sorted values, else `no`; NaN goes to `yes` if `nan`.
    fn member(&mut self, feature: u32, set: &[f64], yes: Side, no: Side, nan: bool) -> Next {
        let held = set.iter().filter(|&&v| T::at_most(v).wide() == v);
        // From one threshold to the next, answers alternate: no up to the number before a value,
        // yes up to the value.
        let mut borders: Vec<(T, Side)> = vec![];
        for &v in held {
            let v = T::at_most(v);
            borders.extend([(v.before(), no), (v, yes)]);
        }
        // Nothing is below the least number.
        borders.retain(|(t, _)| !t.wide().is_nan());
        let found = self.search(feature, &borders, no);
        match (nan, found) {
            (false, Side::New(first)) => first,
            (false, old) => self.split(feature, T::INFINITY, old, no, false),
            (true, found) => self.split(feature, T::INFINITY, found, yes, false),
        }
    }

    /// The side of the first border that `x` is not above, `rest` where it is above all.
    fn search(&mut self, feature: u32, borders: &[(T, Side)], rest: Side) -> Side {
        let half = borders.len() / 2;
        let Some((&(t, side), before)) = borders[..borders.len() - half].split_last() else {
            return rest;
        };
        let low = self.search(feature, before, side);
        let high = self.search(feature, &borders[borders.len() - half..], rest);
        Side::New(self.split(feature, t, low, high, false))
    }
}

/// The greatest number below a threshold.
fn below<T: Real>(t: f64) -> T {
    let near = T::at_most(t);
    if near.wide() < t { near } else { near.before() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::ops::forest::{Lists, Vote};

    /// Where a row goes.
    fn leaf<T: Real>(s: &Splits<T>, x: impl Fn(Column) -> T) -> usize {
        let mut at = s.roots[0];
        loop {
            let Some(i) = at.as_node() else { return at.as_leaf().expect("a leaf") };
            let n = s.splits[i];
            at = if x(s.columns[n.column as usize]) <= n.threshold { n.left } else { n.right };
        }
    }

    fn values() -> Vec<f64> {
        let near = [0.0f32, 0.1, 1.0, 16_777_216.0, f32::MAX, 1e-45, 3.5];
        let all = near.iter().flat_map(|x| [x.next_down(), *x, x.next_up()]);
        let mut all: Vec<f64> = all.flat_map(|x| [x, -x]).map(f64::from).collect();
        all.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        all
    }

    #[test]
    fn every_test_answers_as_the_definition_does() {
        let mut sets = Lists::default();
        sets.push([-1.0, 0.0, 0.1, 1.0, 1.0 + f64::from(f32::EPSILON), 3.5]);
        sets.push([]);
        let thresholds = values().into_iter().chain([0.1, 1e300, -1e300, 1e-300, -1e-300]);
        let mut tests: Vec<Test> = thresholds
            .flat_map(|t| {
                let all = [Test::Leq, Test::Lt, Test::Geq, Test::Gt, Test::Eq, Test::Neq];
                all.map(|test| test(t))
            })
            .collect();
        tests.extend([Test::Member(0), Test::Member(1)]);
        let mut leaves = Lists::default();
        (0..2).for_each(|i| leaves.push([Vote { target: 0, weight: f64::from(i) }]));
        for (test, missing) in tests.into_iter().flat_map(|t| [(t, false), (t, true)]) {
            let nodes =
                vec![Node { test, feature: 0, yes: Next::leaf(0), no: Next::leaf(1), missing }];
            let f = Forest {
                nodes,
                leaves: leaves.clone(),
                sets: sets.clone(),
                roots: vec![Next::node(0)],
                features: 1,
                targets: 1,
                wide: true,
            };
            let (narrow, wide) = (Splits::<f32>::of(&f), Splits::<f64>::of(&f));
            for x in values() {
                let want = f.leaf_of(f.roots[0], &[x]);
                let sign = |c: Column| if c.mirrored { -x } else { x };
                assert_eq!(leaf(&narrow, |c| sign(c) as f32), want, "{test:?} {missing} {x}");
                assert_eq!(leaf(&wide, sign), want, "{test:?} {missing} {x} in doubles");
            }
        }
    }
}
