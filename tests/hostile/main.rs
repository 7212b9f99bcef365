//! Hostile models never crash, hang or exhaust memory: they end in a clean error.
//!
//! Each model runs in a process of its own, through the command line.
#![cfg(unix)]

mod cases;
mod child;
mod proto;

use std::collections::BTreeSet;
use std::time::Duration;

use cases::Expect;
use child::{Outcome, Sandbox};

/// How long one model may take; code without optimisation is granted more.
const TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });
const MEMORY: u64 = 256 << 20;

/// Unsupported, invalid, limit or time-out, I/O.
const ERRORS: [i32; 4] = [3, 4, 5, 7];

/// What is wrong with an outcome, if anything.
fn fault(outcome: &Outcome, expect: Expect) -> Option<String> {
    let Outcome { code, elapsed, memory, talk } = outcome;
    let Some(code) = *code else {
        return Some(format!("killed by a signal after {elapsed:?}: {talk}"));
    };
    if talk.contains("panicked") {
        return Some(format!("panicked: {talk}"));
    }
    match code {
        0 if expect == Expect::Error => return Some("ran, though there is no answer".into()),
        0 => {}
        _ if !ERRORS.contains(&code) => return Some(format!("exit code {code}: {talk}")),
        _ if talk.trim().is_empty() => return Some(format!("exit code {code} without a word")),
        _ => {}
    }
    if *elapsed > TIME {
        return Some(format!("took {elapsed:?}, {TIME:?} at most"));
    }
    (*memory > MEMORY).then(|| format!("took {} MiB, {} at most", memory >> 20, MEMORY >> 20))
}

#[test]
#[ignore = "needs the command line"]
fn hostile_models_end_in_clean_errors() {
    let mut faults = Vec::new();
    let cases = cases::all();
    for case in &cases {
        let sandbox = Sandbox::new(case);
        if let Some(fault) = fault(&sandbox.run(TIME * 2), case.expect) {
            faults.push(format!("{}: {fault}", case.name));
        }
    }
    let (bad, all) = (faults.len(), cases.len());
    assert!(faults.is_empty(), "{bad} of {all} models\n  {}\n", faults.join("\n  "));
}

#[test]
fn there_are_many_cases_of_many_classes() {
    let cases = cases::all();
    let names: BTreeSet<_> = cases.iter().map(|c| &c.name).collect();
    let classes: BTreeSet<_> = cases.iter().map(|c| c.class).collect();
    assert_eq!(names.len(), cases.len(), "two cases share a name");
    assert!(cases.len() >= 100 && classes.len() >= 25, "{} in {classes:?}", cases.len());
}

#[test]
fn faults_are_seen() {
    let outcome = |code, seconds, memory, talk: &str| Outcome {
        code,
        elapsed: Duration::from_secs(seconds),
        memory,
        talk: talk.into(),
    };
    for (fine, expect, outcome) in [
        (true, Expect::Error, outcome(Some(4), 0, 0, "weight `w` is cut off")),
        (true, Expect::ErrorOrOk, outcome(Some(0), 0, 0, "")),
        (false, Expect::Error, outcome(Some(0), 0, 0, "")),
        (false, Expect::Error, outcome(Some(4), 0, 0, " \n")),
        (false, Expect::Error, outcome(Some(70), 0, 0, "a bug")),
        (false, Expect::Error, outcome(Some(101), 0, 0, "thread 'main' panicked")),
        (false, Expect::ErrorOrOk, outcome(None, 0, 0, "")),
        (false, Expect::ErrorOrOk, outcome(Some(5), 9, 0, "too slow")),
        (false, Expect::ErrorOrOk, outcome(Some(0), 0, 1 << 30, "")),
    ] {
        assert_eq!(fault(&outcome, expect).is_none(), fine, "{outcome:?}");
    }
}
