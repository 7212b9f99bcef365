//! Chores of the workspace that need tools the runtime must not depend on.

mod proto;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p kiln-xtask -- <chore>

chores:
  proto          write onnx/src/proto.rs from onnx/proto/*.proto
  proto --check  fail if onnx/src/proto.rs is not what `proto` would write";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["proto"] => proto::write(),
        ["proto", "--check"] => proto::check(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
