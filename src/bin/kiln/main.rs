//! The command line of kiln: one file per verb.
//!
//! ```text
//! verb      run  inspect  optimize  quantize  explain  bench  compare  ops  doctor  completions
//! options ─ load ─┬─ inputs ─ generate         what goes in
//!                 └─ show ─ files              what comes out
//! failure                                      what goes wrong, and the exit code
//! ```

mod ablate;
mod bench;
mod bugs;
mod calibration;
mod compare;
mod completions;
mod difference;
mod doctor;
mod dot;
mod explain;
mod failure;
mod files;
mod generate;
mod inputs;
mod inspect;
mod jobs;
mod machine;
mod ops;
mod optimize;
mod options;
mod page;
mod prove;
mod quantize;
mod report;
mod run;
mod show;
mod statistics;
mod svg;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Models nest deep, and code walks them: the main thread's stack is too small.
const STACK: usize = 256 << 20;

#[derive(Parser)]
#[command(
    name = "kiln",
    version,
    about = "Runs, optimizes and compares ONNX and ONNX-ML models",
    disable_help_subcommand = true,
    subcommand_required = true,
    after_help = "Examples:\n  \
        kiln run model.onnx --input x=x.npy\n  \
        kiln inspect model.onnx\n\n\
        Exit codes: 0 ok, 1 a check failed, 2 usage, 3 unsupported model, 4 invalid data,\n\
        5 limit, 6 backend, 7 I/O, 70 a bug in kiln, 130 interrupted"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// The one table of verbs.
macro_rules! verbs {
    ($($verb:ident $module:ident;)*) => {
        #[derive(Subcommand)]
        #[allow(clippy::large_enum_variant)]
        enum Verb {
            $($verb($module::Args),)*
        }

        fn dispatch(verb: Verb) -> Result<(), Failure> {
            match verb {
                $(Verb::$verb(args) => $module::main(args),)*
            }
        }
    };
}

verbs! {
    Run run;
    Inspect inspect;
    Optimize optimize;
    Quantize quantize;
    Explain explain;
    Bench bench;
    Compare compare;
    Ops ops;
    Doctor doctor;
    Completions completions;
}

fn main() -> ExitCode {
    bugs::install_hook();
    let verb = match Cli::try_parse() {
        Ok(cli) => cli.verb,
        Err(e) => {
            // A closed pipe is no reason to complain.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let thread = std::thread::Builder::new().name("main".into()).stack_size(STACK);
    match thread.spawn(move || dispatch(verb)).map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(failure))) => failure.report(),
        Ok(Err(panic)) => bugs::report(panic.as_ref()),
        Err(e) => Failure::from(kiln::Error::new(
            kiln::Kind::Io,
            format!("the operating system starts no thread: {e}"),
        ))
        .report(),
    }
}
