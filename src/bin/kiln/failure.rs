//! What goes wrong: its text on stderr and its exit code.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use kiln::{Error, Kind};
use kiln_ir::readable;

/// The exit code of a bug in kiln.
pub const BUG: u8 = 70;

/// Why a verb ends early.
#[derive(Debug)]
pub enum Failure {
    /// A check or a comparison failed, and has been reported.
    Check,
    /// The command line asks for what makes no sense: the fault and the remedy.
    Usage(String, String),
    /// The library refuses.
    Library(Error),
    /// Nobody reads stdout any more.
    Closed,
}

impl Failure {
    /// Wrong usage, and the remedy.
    pub fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Failure::Usage(what.into(), help.into())
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Closed => 0,
            Failure::Check => 1,
            Failure::Usage(..) => 2,
            Failure::Library(e) => match e.kind() {
                Kind::Unsupported => 3,
                Kind::Invalid => 4,
                Kind::Limit | Kind::Cancelled => 5,
                Kind::Backend => 6,
                Kind::Io => 7,
                _ => BUG,
            },
        }
    }

    /// Says what is wrong and what to do, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Failure::Check | Failure::Closed => {}
            Failure::Usage(what, help) => print(what, &[("help", help.clone())]),
            Failure::Library(e) => print(e.message(), &facts(e)),
        }
        ExitCode::from(self.code())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Check => f.write_str("a check failed"),
            Failure::Closed => f.write_str("stdout is closed"),
            Failure::Usage(what, _) => f.write_str(what),
            Failure::Library(e) => e.fmt(f),
        }
    }
}

/// What an error knows beside its message.
fn facts(e: &Error) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    facts.extend(e.file().map(|f| ("model", f.to_owned())));
    if let Some(n) = e.node() {
        let index = n.index.map(|i| format!("#{i} ")).unwrap_or_default();
        facts.push(("node", format!("{index}\"{}\" {}", n.name, n.op)));
        if !n.inputs.is_empty() {
            facts.push(("inputs", n.inputs.join(", ")));
        }
    }
    facts.extend(e.remedy().map(|h| ("help", h.to_owned())));
    facts
}

/// Prints an error: one line, and one more for each fact.
pub fn print(what: &str, facts: &[(&str, String)]) {
    let (red, dim, plain) = match colour() {
        true => ("\x1b[1;31m", "\x1b[2m", "\x1b[0m"),
        false => ("", "", ""),
    };
    let mut text = format!("{red}error:{plain} {what}\n");
    for (name, fact) in facts {
        text += &format!("  {dim}{name:<7}{plain} {fact}\n");
    }
    // There is nowhere left to complain to.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints a note, once.
pub fn note(what: &str) {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let what = readable(what).into_owned();
    if PRINTED.lock().unwrap_or_else(PoisonError::into_inner).insert(what.clone()) {
        let _ = writeln!(io::stderr(), "note: {what}");
    }
}

fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Library(e)
    }
}

impl From<io::Error> for Failure {
    /// Errors of stdout; those of files name the file and come as [`Error`].
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Error::new(Kind::Io, format!("stdout: {e}")).into(),
        }
    }
}
