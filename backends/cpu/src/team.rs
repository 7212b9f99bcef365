//! Work shared among threads, where there are any: the one door to the pool.
//!
//! Outside of a pool, and in a pool of one thread, work runs where it is asked for: nothing is
//! allocated and nobody is woken.

use kiln_ir::Result;
use rayon::prelude::*;

/// The threads that share work here.
pub(crate) fn threads() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => 1,
    }
}

/// Does every job, in any order.
pub(crate) fn each<T: Send>(jobs: impl Iterator<Item = T>, job: impl Fn(T) + Send + Sync) {
    match threads() {
        1 => jobs.for_each(job),
        _ => jobs.collect::<Vec<T>>().into_par_iter().for_each(job),
    }
}

/// Does every job, in any order, until one fails.
pub(crate) fn try_each<T: Send>(
    mut jobs: impl Iterator<Item = T>,
    job: impl Fn(T) -> Result<()> + Send + Sync,
) -> Result<()> {
    match threads() {
        1 => jobs.try_for_each(job),
        _ => jobs.collect::<Vec<T>>().into_par_iter().try_for_each(job),
    }
}
