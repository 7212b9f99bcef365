//! A compiled model: what users hold, share between threads, and run.

use kiln_ir::eval::check_type;
use kiln_ir::{Cancel, Context, Error, Graph, Limits, Result};
use kiln_tensor::Datum;

use crate::builder::Compiled;
use crate::model::{Model, ValueInfo, inputs_of, outputs_of};

/// A model that is ready to run. `run` takes `&self`: share it between threads.
pub struct Session {
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    executable: Compiled,
    seed: u64,
    limits: Limits,
    given: u64,
}

impl Session {
    /// A session of a graph that was made from `model`.
    pub(crate) fn new(graph: &Graph, executable: Compiled, seed: u64, model: &Model) -> Self {
        let (inputs, outputs) = (inputs_of(graph), outputs_of(graph));
        let (limits, given) = (model.limits().clone(), model.nbytes());
        Self { inputs, outputs, executable, seed, limits, given }
    }

    /// The inputs that a run needs, in order.
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    /// The outputs that a run gives, in order.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    /// Runs on named inputs, in any order, and returns the outputs in theirs.
    pub fn run(&self, inputs: Vec<(String, Datum)>) -> Result<Vec<(String, Datum)>> {
        self.run_until(inputs, &Cancel::default())
    }

    /// As [`Session::run`]; stops with an error once the token is cancelled or late.
    pub fn run_until(
        &self,
        inputs: Vec<(String, Datum)>,
        cancel: &Cancel,
    ) -> Result<Vec<(String, Datum)>> {
        let ordered = self.order(inputs)?;
        let inputs =
            ordered.iter().map(|d| d.nbytes() as u64).fold(self.given, u64::saturating_add);
        let mut context = Context::new(self.limits.within(inputs));
        context.cancel = cancel.clone();
        context.seed = self.seed;
        let made = self.executable.run(&context, ordered)?;
        Ok(self.outputs.iter().map(|o| o.name.clone()).zip(made).collect())
    }

    /// Puts the inputs into the model's order and checks their types.
    fn order(&self, mut given: Vec<(String, Datum)>) -> Result<Vec<Datum>> {
        let mut ordered = Vec::with_capacity(self.inputs.len());
        for want in &self.inputs {
            let Some(i) = given.iter().position(|(name, _)| *name == want.name) else {
                let names: Vec<_> = given.iter().map(|(n, _)| n.as_str()).collect();
                return Err(Error::invalid(format!("input `{}` is not given", want.name))
                    .help(format!("it is {}; given are: {}", want.ty, names.join(", "))));
            };
            let (name, datum) = given.swap_remove(i);
            check_type(&datum, &want.ty)
                .map_err(|e| Error::invalid(format!("input `{name}`: {}", e.message())))?;
            ordered.push(datum);
        }
        match given.first() {
            None => Ok(ordered),
            Some((name, _)) => Err(Error::invalid(format!("the model has no input `{name}`"))),
        }
    }
}
