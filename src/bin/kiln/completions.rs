//! `kiln completions`: what shells know of kiln.

use std::io::{self, Write};

use clap::{Args as Flags, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;

/// Print a completion script for a shell
#[derive(Flags, Debug)]
#[command(after_help = "Example:\n  kiln completions bash \
                  > ~/.local/share/bash-completion/completions/kiln")]
pub struct Args {
    /// The shell that will read it
    shell: Shell,
}

/// Runs the verb.
pub fn main(args: Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "kiln", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
