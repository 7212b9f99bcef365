//! The files of the repository.

use std::fs;
use std::path::Path;
use std::process::Command;

const SKIPPED: &[&str] = &["target", ".git", "shared", "node_modules", "__pycache__"];

/// The repository's root folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Paths of all files below `folder`, relative to the root, sorted; build outputs are left out.
pub fn files(folder: &str) -> Vec<String> {
    let (mut open, mut found) = (vec![root().join(folder)], Vec::new());
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            let kind = entry.file_type().expect("readable");
            if SKIPPED.contains(&&*entry.file_name().to_string_lossy()) {
                continue;
            }
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(relative(&entry.path()));
            }
        }
    }
    found.sort();
    found
}

/// The Rust files below `folder`.
pub fn rust_files(folder: &str) -> Vec<String> {
    files(folder).into_iter().filter(|f| f.ends_with(".rs")).collect()
}

/// The files that a commit holds or would take in; every file where git cannot say.
pub fn tracked() -> Vec<String> {
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    match Command::new("git").args(args).current_dir(root()).output() {
        Ok(out) if out.status.success() => {
            let names = String::from_utf8_lossy(&out.stdout).into_owned();
            let is_file = |f: &&str| root().join(f).is_file() && !root().join(f).is_symlink();
            names.split('\0').filter(|f| !f.is_empty()).filter(is_file).map(String::from).collect()
        }
        _ => files(""),
    }
}

/// The text of a file, or `None` where it is not text.
pub fn text(file: &str) -> Option<String> {
    let bytes = fs::read(root().join(file)).expect("listed a moment ago");
    String::from_utf8(bytes).ok().filter(|t| !t.contains('\0'))
}

/// Whether the whole file is test code.
pub fn is_test(file: &str) -> bool {
    let part = |p: &str| matches!(p, "tests" | "benches" | "tests.rs" | "fuzz");
    file.split('/').any(part)
}

/// Whether a tool writes the file.
pub fn is_generated(file: &str) -> bool {
    file == "onnx/src/proto.rs"
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("below the root");
    path.to_string_lossy().replace('\\', "/")
}
