//! The command line from outside: what it prints, what it writes, how it exits.
#![cfg(unix)]

#[allow(dead_code)]
#[path = "../hostile/proto.rs"]
mod proto;

mod bench;
mod errors;
mod jobs;
mod look;
mod quantize;
mod run;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use proto::{F32, Graph};

const FOREST: &str = "models/forest_iris/model.onnx";
const FOREST_INPUTS: &str = "models/forest_iris/inputs.npz";
const FOREST_EXPECTED: &str = "models/forest_iris/expected.npz";

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

/// Runs the command line at the root of the repository.
fn kiln(args: &[&str]) -> Ended {
    kiln_fed(args, b"")
}

/// As `kiln`, with bytes on stdin.
fn kiln_fed(args: &[&str], stdin: &[u8]) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command line was built");
    let mut pipe = child.stdin.take().expect("stdin is a pipe");
    // A command that does not read what it is fed closes the pipe.
    let _ = pipe.write_all(stdin);
    drop(pipe);
    let output = child.wait_with_output().expect("the child is ours");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the command line prints text");
    let code = output.status.code().expect("no signal ended it");
    Ended { code, out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a command that must end well, and returns what it printed.
fn good(args: &[&str]) -> String {
    let ended = kiln(args);
    assert_eq!(ended.code, 0, "{args:?}: {}", ended.err);
    ended.out
}

/// A folder that is gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kiln-cli-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    /// The path of a file in it.
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("the path is text").to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).expect("the folder is writable");
        path
    }

    /// The names of the files in it, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder is there").flatten();
        let mut names: Vec<_> =
            entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `y = Relu(x)` for a vector of any length.
fn relu() -> Vec<u8> {
    Graph::new().node("Relu", "x", "y", &[]).input("x", F32, &[-1]).output("y", F32).model()
}

/// A model of two operators that do not exist.
fn strange() -> Vec<u8> {
    let graph = Graph::new().node("Frob", "x", "t", &[]).node("Nicate", "t", "y", &[]);
    graph.input("x", F32, &[2]).output("y", F32).model()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn read(path: &str) -> Vec<u8> {
    fs::read(Path::new(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}
