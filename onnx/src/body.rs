//! Closing the bodies of If, Loop and Scan: which outer values does a body read?

use std::collections::{HashMap, HashSet};

use crate::proto::{AttributeProto, GraphProto, NodeProto};

/// The names that each body reads and does not make, found once per body.
#[derive(Default)]
pub(crate) struct FreeNames {
    known: HashMap<*const GraphProto, Vec<String>>,
}

impl FreeNames {
    /// The outer names that a body reads, in the order of their first use.
    pub fn of(&mut self, body: &GraphProto) -> Vec<String> {
        if let Some(names) = self.known.get(&std::ptr::from_ref(body)) {
            return names.clone();
        }
        let mut made: HashSet<&str> = HashSet::new();
        made.extend(body.input.iter().filter_map(|v| v.name.as_deref()));
        made.extend(body.initializer.iter().filter_map(|t| t.name.as_deref()));
        made.extend(body.sparse_initializer.iter().filter_map(sparse_name));
        let (mut seen, mut free) = (HashSet::new(), Vec::new());
        for node in &body.node {
            let inner = self.of_node(node);
            let read =
                node.input.iter().map(String::as_str).chain(inner.iter().map(String::as_str));
            for name in read.filter(|n| !n.is_empty()) {
                if !made.contains(name) && seen.insert(name.to_owned()) {
                    free.push(name.to_owned());
                }
            }
            made.extend(node.output.iter().map(String::as_str));
        }
        for name in body.output.iter().filter_map(|v| v.name.as_deref()) {
            if !made.contains(name) && seen.insert(name.to_owned()) {
                free.push(name.to_owned());
            }
        }
        self.known.insert(std::ptr::from_ref(body), free.clone());
        free
    }

    /// The outer names that the bodies of a node read.
    pub fn of_node(&mut self, node: &NodeProto) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut names = Vec::new();
        for body in node.attribute.iter().flat_map(bodies) {
            names.extend(self.of(body).into_iter().filter(|n| seen.insert(n.clone())));
        }
        names
    }
}

/// The name of a sparse initializer.
pub(crate) fn sparse_name(t: &crate::proto::SparseTensorProto) -> Option<&str> {
    t.values.as_ref()?.name.as_deref()
}

/// The graphs that an attribute holds.
pub(crate) fn bodies(a: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    a.g.as_deref().into_iter().chain(&a.graphs)
}
