//! Where the time of runs goes, node by node.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The times of the nodes of a graph, gathered over runs.
#[derive(Debug, Default)]
pub struct Profile(Mutex<HashMap<String, NodeTime>>);

/// What one node took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTime {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// What ran it: the name of a kernel, or `definition`.
    pub by: &'static str,
    /// The time of all runs together.
    pub total: Duration,
    /// How often it ran.
    pub runs: u64,
}

impl Profile {
    /// Counts one run of a node.
    pub fn add(&self, name: &str, op: &str, by: &'static str, time: Duration) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get_mut(name) {
            node.total += time;
            node.runs += 1;
            return;
        }
        let (key, op) = (name.to_owned(), op.to_owned());
        nodes.insert(key.clone(), NodeTime { name: key, op, by, total: time, runs: 1 });
    }

    /// The nodes, those that took longest first.
    pub fn nodes(&self) -> Vec<NodeTime> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<NodeTime> = nodes.values().cloned().collect();
        all.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.name.cmp(&b.name)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_and_the_longest_comes_first() {
        let profile = Profile::default();
        let ms = Duration::from_millis;
        profile.add("a", "Add", "definition", ms(2));
        profile.add("b", "Relu", "unary", ms(3));
        profile.add("a", "Add", "definition", ms(2));
        let nodes = profile.nodes();
        assert_eq!([nodes[0].name.as_str(), nodes[1].name.as_str()], ["a", "b"]);
        assert_eq!((nodes[0].total, nodes[0].runs), (ms(4), 2));
    }
}
