//! A compiled model: what users hold, share between threads, and run.

use std::sync::Arc;

use kiln_ir::eval::check_type;
use kiln_ir::{Cancel, Context, Error, Graph, Limits, Profile, Result};
use kiln_tensor::Datum;

use crate::builder::{Compiled, Options};
use crate::model::{Model, ValueInfo, inputs_of, outputs_of};

/// A model that is ready to run. `run` takes `&self`: share it between threads.
pub struct Session {
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    executable: Compiled,
    seed: u64,
    threads: usize,
    limits: Limits,
    given: u64,
}

impl Session {
    /// A session of a graph that was made from `model`.
    pub(crate) fn new(
        graph: &Graph,
        executable: Compiled,
        options: &Options,
        model: &Model,
    ) -> Self {
        let (seed, threads) = (options.seed, options.threads);
        let (inputs, outputs) = (inputs_of(graph), outputs_of(graph));
        let (limits, given) = (model.limits().clone(), model.nbytes());
        Self { inputs, outputs, executable, seed, threads, limits, given }
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
        let made = self.run_values_until(self.order(inputs)?, cancel)?;
        Ok(self.outputs.iter().map(|o| o.name.clone()).zip(made).collect())
    }

    /// Runs on values for [`Session::inputs`], in their order, and returns those of
    /// [`Session::outputs`] in theirs: the shortest way to an answer, without names.
    pub fn run_values(&self, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        if inputs.len() != self.inputs.len() {
            let text = format!("{} inputs are given, not {}", inputs.len(), self.inputs.len());
            return Err(Error::invalid(text));
        }
        self.inputs.iter().zip(&inputs).try_for_each(|(want, d)| check(want, d))?;
        self.run_values_until(inputs, &Cancel::default())
    }

    /// Runs several models on the same values at the same time, and returns what each gives.
    ///
    /// Sessions of as many `threads` share one pool: the models run beside each other, and no more
    /// threads than that are ever at work.
    pub fn run_many(sessions: &[&Session], inputs: &[Datum]) -> Result<Vec<Result<Vec<Datum>>>> {
        let threads = sessions.iter().map(|s| s.threads).max().unwrap_or(1);
        let run = |s: &&Session| s.run_values(inputs.to_vec());
        Ok(kiln_cpu::Cpu::new(threads)?.together(sessions, run))
    }

    /// Runs as [`Session::run_values`] does and adds what each node took to `profile`. Backends
    /// that cannot tell add nothing.
    pub fn run_profiled(&self, inputs: Vec<Datum>, profile: &Arc<Profile>) -> Result<Vec<Datum>> {
        let mut context = self.context(&inputs);
        context.profile = Some(profile.clone());
        self.executable.run(&context, inputs)
    }

    fn run_values_until(&self, inputs: Vec<Datum>, cancel: &Cancel) -> Result<Vec<Datum>> {
        let mut context = self.context(&inputs);
        context.cancel = cancel.clone();
        self.executable.run(&context, inputs)
    }

    fn context(&self, inputs: &[Datum]) -> Context {
        let given = inputs.iter().map(|d| d.nbytes() as u64).fold(self.given, u64::saturating_add);
        let mut context = Context::new(self.limits.within(given));
        context.seed = self.seed;
        context
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
            let (_, datum) = given.swap_remove(i);
            check(want, &datum)?;
            ordered.push(datum);
        }
        match given.first() {
            None => Ok(ordered),
            Some((name, _)) => Err(Error::invalid(format!("the model has no input `{name}`"))),
        }
    }
}

/// An error unless a value has the type of an input.
fn check(want: &ValueInfo, given: &Datum) -> Result<()> {
    check_type(given, &want.ty)
        .map_err(|e| Error::invalid(format!("input `{}`: {}", want.name, e.message())))
}
