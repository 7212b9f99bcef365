//! The order in which nodes are read: that of the file or, where it is not sorted, the nearest
//! that is.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::body::FreeNames;
use crate::proto::NodeProto;

/// The places of the nodes, each after what it reads. ONNX asks for sorted nodes, some exporters
/// do not keep to it. What lies on a cycle comes last, and reads what nothing has made.
pub(crate) fn sorted(nodes: &[NodeProto], free: &mut FreeNames) -> Vec<usize> {
    let mut maker: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            maker.entry(name).or_insert(i);
        }
    }
    let mut waits = vec![0usize; nodes.len()];
    let mut readers = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        let within = free.of_node(node);
        for m in node.input.iter().chain(&within).filter_map(|n| maker.get(n.as_str())) {
            readers[*m].push(i);
            waits[i] += 1;
        }
    }
    let mut ready: BinaryHeap<_> =
        (0..nodes.len()).filter(|&i| waits[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &r in &readers[i] {
            waits[r] -= 1;
            if waits[r] == 0 {
                ready.push(Reverse(r));
            }
        }
    }
    order.extend((0..nodes.len()).filter(|&i| waits[i] > 0));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], output: &str) -> NodeProto {
        let input = inputs.iter().map(|&s| s.to_owned()).collect();
        NodeProto { input, output: vec![output.to_owned()], ..Default::default() }
    }

    #[test]
    fn sorted_nodes_stay_where_they_are_and_cycles_come_last() {
        for (nodes, want) in [
            (vec![node(&["x"], "a"), node(&["x"], "b"), node(&["a", "b"], "c")], vec![0, 1, 2]),
            (vec![node(&["b", "b"], "c"), node(&["a"], "b"), node(&["x"], "a")], vec![2, 1, 0]),
            (vec![node(&["b"], "a"), node(&["a"], "b"), node(&["x"], "c")], vec![2, 0, 1]),
            (vec![node(&["a"], "a"), node(&["x"], "c")], vec![1, 0]),
        ] {
            assert_eq!(sorted(&nodes, &mut FreeNames::default()), want);
        }
    }
}
