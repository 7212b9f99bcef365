//! Model-local functions: which there are, and what inlining them would cost.

use std::collections::HashMap;

use kiln_ir::{Error, Limits, Result};

use crate::body::bodies;
use crate::decode::canonical_domain;
use crate::proto::{FunctionProto, GraphProto, ModelProto, NodeProto};

/// Domain, name and overload.
type Key<'a> = (&'a str, &'a str, &'a str);

/// The functions of a model.
pub(crate) struct Functions<'a> {
    by_key: HashMap<Key<'a>, &'a FunctionProto>,
}

impl<'a> Functions<'a> {
    pub fn of(model: &'a ModelProto) -> Result<Self> {
        let mut by_key = HashMap::new();
        for f in &model.functions {
            let key = key(f.domain.as_deref(), f.name.as_deref(), f.overload.as_deref());
            if by_key.insert(key, f).is_some() {
                return Err(Error::invalid(format!("function `{}` is defined twice", key.1)));
            }
        }
        Ok(Self { by_key })
    }

    /// The function that a node calls, if it calls one.
    pub fn called(&self, node: &NodeProto) -> Option<&'a FunctionProto> {
        let (domain, name) = (node.domain.as_deref(), node.op_type.as_deref());
        self.by_key.get(&key(domain, name, node.overload.as_deref())).copied()
    }

    /// Refuses a model that inlines to more nodes than the limit, and functions that call
    /// themselves. Every function and every body is visited once.
    pub fn check_size(&self, graph: &GraphProto, limits: &Limits) -> Result<()> {
        let mut sizes = HashMap::new();
        let n = self.graph_size(graph, &mut sizes, limits, 0)?;
        if n > limits.nodes as u64 {
            let text = format!("the model has {n} nodes after its functions are inlined");
            return Err(Error::limit("nodes", text));
        }
        Ok(())
    }

    fn graph_size(
        &self,
        g: &GraphProto,
        sizes: &mut Sizes<'a>,
        limits: &Limits,
        depth: usize,
    ) -> Result<u64> {
        self.nodes_size(&g.node, sizes, limits, depth)
    }

    fn nodes_size(
        &self,
        nodes: &[NodeProto],
        sizes: &mut Sizes<'a>,
        limits: &Limits,
        depth: usize,
    ) -> Result<u64> {
        if depth > limits.depth {
            let text = format!("bodies and function calls nest deeper than {}", limits.depth);
            return Err(Error::limit("depth", text));
        }
        let mut sum = 0u64;
        for node in nodes {
            sum = sum.saturating_add(match self.called(node) {
                Some(f) => self.function_size(f, sizes, limits, depth + 1)?,
                None => 1,
            });
            for body in node.attribute.iter().flat_map(bodies) {
                sum = sum.saturating_add(self.graph_size(body, sizes, limits, depth + 1)?);
            }
        }
        Ok(sum)
    }

    fn function_size(
        &self,
        f: &'a FunctionProto,
        sizes: &mut Sizes<'a>,
        limits: &Limits,
        depth: usize,
    ) -> Result<u64> {
        let id = std::ptr::from_ref(f);
        match sizes.get(&id) {
            Some(Some(n)) => return Ok(*n),
            Some(None) => {
                let name = f.name.as_deref().unwrap_or_default();
                return Err(Error::invalid(format!("function `{name}` calls itself")));
            }
            None => {}
        }
        sizes.insert(id, None);
        let n = self.nodes_size(&f.node, sizes, limits, depth)?;
        sizes.insert(id, Some(n));
        Ok(n)
    }
}

/// What each function inlines to; `None` while it is being counted.
type Sizes<'a> = HashMap<*const FunctionProto, Option<u64>>;

fn key<'a>(domain: Option<&'a str>, name: Option<&'a str>, overload: Option<&'a str>) -> Key<'a> {
    (canonical_domain(domain.unwrap_or("")), name.unwrap_or(""), overload.unwrap_or(""))
}
