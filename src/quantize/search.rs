//! Which layers can be quantized without losing too much.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kiln_ir::{Graph, NodeId, Result, Value};
use kiln_passes::{Range, Sites};
use kiln_tensor::Datum;

use super::metric::Losses;
use super::{Quantizing, Runner};

/// Samples on which layers are tried one by one.
const FEW: usize = 8;

/// What a search needs.
pub(super) struct Search<'a> {
    pub runner: Runner<'a>,
    pub g: &'a Graph,
    pub ranges: HashMap<Value, Range>,
    pub samples: &'a [Vec<Datum>],
    /// The outputs of the graph on the samples.
    pub want: Vec<Vec<Datum>>,
    pub how: &'a Quantizing,
}

/// What a search finds.
pub(super) struct Found {
    pub graph: Graph,
    pub sites: Sites,
    pub loss: f64,
    /// The layers that were put back.
    pub back: BTreeSet<NodeId>,
    /// What the outputs lose where one layer alone is quantized.
    pub alone: BTreeMap<NodeId, f64>,
}

impl Search<'_> {
    /// Quantizes all layers of `sites`, or as many as the loss allows.
    pub(super) fn search(&self, sites: &Sites) -> Result<Found> {
        let all: BTreeSet<_> = sites.layers().collect();
        let mut found = self.without(&all, BTreeSet::new())?;
        let Some(most) = self.how.max_drop.filter(|most| !fits(found.loss, *most)) else {
            return Ok(found);
        };
        let alone = self.alone(&all)?;
        let mut order: Vec<_> = all.iter().copied().collect();
        order.sort_by(|a, b| alone[b].total_cmp(&alone[a]).then(a.cmp(b)));
        // With `few` layers put back it loses too much, with `enough` it does not.
        let (mut few, mut enough) = (0, order.len());
        let mut best = None;
        while enough - few > 1 {
            let middle = few + (enough - few) / 2;
            found = self.without(&all, order[..middle].iter().copied().collect())?;
            match fits(found.loss, most) {
                true => (enough, best) = (middle, Some(found)),
                false => few = middle,
            }
        }
        let best = match best {
            Some(best) => best,
            None => self.without(&all, order.into_iter().collect())?,
        };
        Ok(Found { alone, ..best })
    }

    /// Quantizes all layers but those put back.
    fn without(&self, all: &BTreeSet<NodeId>, back: BTreeSet<NodeId>) -> Result<Found> {
        let sites = Sites::find(self.g, &|id| all.contains(&id) && !back.contains(&id))?;
        let graph = sites.place(self.g, &self.ranges, self.how.per_channel)?;
        let loss = self.loss(graph.clone(), self.samples.len())?;
        Ok(Found { graph, sites, loss, back, alone: BTreeMap::new() })
    }

    /// What each layer costs by itself.
    fn alone(&self, all: &BTreeSet<NodeId>) -> Result<BTreeMap<NodeId, f64>> {
        let loss = |&id: &NodeId| {
            let sites = Sites::find(self.g, &|other| other == id)?;
            let graph = sites.place(self.g, &self.ranges, self.how.per_channel)?;
            Ok((id, self.loss(graph, FEW)?))
        };
        all.iter().map(loss).collect()
    }

    /// What the outputs of `graph` lose on the first samples.
    fn loss(&self, graph: Graph, samples: usize) -> Result<f64> {
        let compiled = self.runner.compile(graph)?;
        let mut losses = Losses::default();
        for (sample, want) in self.samples.iter().zip(&self.want).take(samples) {
            let got = self.runner.run(&compiled, sample)?;
            let from = usize::try_from(losses.rows()).unwrap_or(usize::MAX);
            let labels = self.how.labels.as_deref().map(|l| l.get(from..).unwrap_or(&[]));
            losses.add(want, &got, labels);
        }
        Ok(losses.of(self.how.metric))
    }
}

/// Whether a loss is allowed; not-a-number is not.
fn fits(loss: f64, most: f64) -> bool {
    loss <= most
}
