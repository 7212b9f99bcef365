//! Hostile models never crash, hang or exhaust memory: they end in a clean error.
//!
//! Each model runs in a process of its own, through the command line.
#![cfg(unix)]

mod cases;
mod child;
mod proto;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cases::{Case, Expect};
use child::{Outcome, Sandbox};

/// How long processors may work for one model.
const WORK: Duration = Duration::from_secs(1);
/// How long one model may take on a machine that is busy with other things.
const TIME: Duration = Duration::from_secs(5);
const MEMORY: u64 = 256 << 20;
/// As many models run at once; more would only wait for each other.
const WORKERS: usize = 2;

/// Unsupported, invalid, limit or time-out, I/O.
const ERRORS: [i32; 4] = [3, 4, 5, 7];

/// What is wrong with an outcome, if anything.
fn fault(outcome: &Outcome, expect: Expect) -> Option<String> {
    let Outcome { code, elapsed, worked, memory, talk } = outcome;
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
        _ => {
            if let Some(flaw) = flaw(talk) {
                return Some(format!("exit code {code} {flaw}: {talk:.2000?}"));
            }
        }
    }
    if *worked > WORK || *elapsed > TIME {
        return Some(format!("worked {worked:?} in {elapsed:?}; {WORK:?} in {TIME:?} at most"));
    }
    (*memory > MEMORY).then(|| format!("took {} MiB, {} at most", memory >> 20, MEMORY >> 20))
}

/// What is wrong with the text of an error: it is one `error:` with at most a few facts, for a
/// terminal, of a length that people read.
fn flaw(talk: &str) -> Option<&'static str> {
    let lines: Vec<_> = talk.lines().collect();
    let errors = lines.iter().filter(|l| l.starts_with("error: ")).count();
    match () {
        () if errors != 1 => Some("without exactly one `error:`"),
        () if lines.len() > 12 => Some("in more than 12 lines"),
        () if lines.iter().any(|l| l.chars().count() > 2100) => Some("in a line too long"),
        () if talk.chars().any(|c| c.is_control() && c != '\n') => Some("with control characters"),
        () => None,
    }
}

/// Runs every case and says what is wrong with each that is at fault.
fn faults(cases: &[Case]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut faults = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = Sandbox::new(case).run(TIME * 2);
            let fault = fault(&outcome, case.expect);
            println!("{}: {outcome:.3?}", case.name);
            faults.extend(fault.map(|f| format!("{}: {f}", case.name)));
        }
        faults
    };
    std::thread::scope(|s| {
        let workers: Vec<_> = (0..WORKERS).map(|_| s.spawn(work)).collect();
        workers.into_iter().flat_map(|w| w.join().expect("workers do not panic")).collect()
    })
}

#[test]
fn hostile_models_end_in_clean_errors() {
    let cases = cases::all();
    let faults = faults(&cases);
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
    let outcome = |code, worked, waited, memory, talk: &str| Outcome {
        code,
        elapsed: Duration::from_secs(waited),
        worked: Duration::from_secs(worked),
        memory,
        talk: talk.into(),
    };
    let said = |talk: &str| outcome(Some(4), 0, 0, 0, talk);
    for (fine, expect, outcome) in [
        (true, Expect::Error, said("error: weight `w` is cut off\n  model   m.onnx\n")),
        (true, Expect::Error, outcome(Some(5), 1, 4, 0, "note: odd\nerror: too large\n")),
        (true, Expect::ErrorOrOk, outcome(Some(0), 0, 0, 0, "")),
        (false, Expect::Error, outcome(Some(0), 0, 0, 0, "")),
        (false, Expect::Error, said(" \n")),
        (false, Expect::Error, said("error: one\nerror: two\n")),
        (false, Expect::Error, said(&format!("error: {}\n", "long ".repeat(500)))),
        (false, Expect::Error, said(&format!("error: {}", "line\n".repeat(20)))),
        (false, Expect::Error, said("error: \u{1b}[31m\n")),
        (false, Expect::Error, outcome(Some(70), 0, 0, 0, "error: a bug")),
        (false, Expect::Error, outcome(Some(101), 0, 0, 0, "thread 'main' panicked")),
        (false, Expect::ErrorOrOk, outcome(None, 0, 0, 0, "")),
        (false, Expect::ErrorOrOk, outcome(Some(5), 2, 2, 0, "error: too slow")),
        (false, Expect::ErrorOrOk, outcome(Some(5), 0, 9, 0, "error: too slow")),
        (false, Expect::ErrorOrOk, outcome(Some(0), 0, 0, 1 << 30, "")),
    ] {
        assert_eq!(fault(&outcome, expect).is_none(), fine, "{outcome:?}");
    }
}
