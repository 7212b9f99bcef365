//! The hostile models, by class.

mod bytes;
mod control;
mod external;
mod families;
mod graphs;
mod ml;
mod operators;
mod sizes;

use crate::proto::Graph;

/// What the command line may answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expect {
    /// A clean error: there is no right answer.
    Error,
    /// A clean error or an answer: the model is extreme, or the specification leaves it open.
    ErrorOrOk,
}

/// What lies beside the model.
pub enum Beside {
    File(&'static str, Vec<u8>),
    Link(&'static str, &'static str),
    Fifo(&'static str),
}

/// One model, and what may come of it.
pub struct Case {
    pub class: &'static str,
    pub name: String,
    pub model: Vec<u8>,
    pub beside: Vec<Beside>,
    pub expect: Expect,
}

/// Collects the cases of one class.
struct Class {
    name: &'static str,
    cases: Vec<Case>,
}

impl Class {
    fn new(name: &'static str) -> Self {
        Class { name, cases: vec![] }
    }

    fn bytes(mut self, name: impl Into<String>, expect: Expect, model: Vec<u8>) -> Self {
        let name = format!("{}/{}", self.name, name.into());
        self.cases.push(Case { class: self.name, name, model, beside: vec![], expect });
        self
    }

    /// A model that must be refused.
    fn bad(self, name: impl Into<String>, graph: Graph) -> Self {
        self.bytes(name, Expect::Error, graph.model())
    }

    /// A model that may be refused.
    fn odd(self, name: impl Into<String>, graph: Graph) -> Self {
        self.bytes(name, Expect::ErrorOrOk, graph.model())
    }

    /// Puts a file beside the last case.
    fn beside(mut self, beside: Beside) -> Self {
        self.cases.last_mut().expect("a case comes first").beside.push(beside);
        self
    }
}

/// Every case of every class.
pub fn all() -> Vec<Case> {
    [
        bytes::classes(),
        control::classes(),
        external::classes(),
        families::classes(),
        graphs::classes(),
        ml::classes(),
        operators::classes(),
        sizes::classes(),
    ]
    .into_iter()
    .flatten()
    .flat_map(|class| class.cases)
    .collect()
}
