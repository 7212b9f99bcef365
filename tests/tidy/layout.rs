//! Files that are found by their place: operators, passes, kernels.

use crate::report;
use crate::tree::{files, root, rust_files, text};

const PASS_GROUPS: &[&str] =
    &["clean", "recognize", "algebra", "attend", "fuse", "skip", "region", "layout", "quant", "ml"];

/// The folders whose every file is one thing of a kind.
fn shelves() -> Vec<String> {
    let passes = PASS_GROUPS.iter().map(|group| format!("passes/src/{group}/"));
    let backends = files("backends").into_iter().filter_map(|file| {
        let (backend, rest) = file.strip_prefix("backends/")?.split_once('/')?;
        rest.starts_with("src/kernels/").then(|| format!("backends/{backend}/src/kernels/"))
    });
    let mut all: Vec<_> = passes.chain(backends).collect();
    all.push("ir/src/ops/".into());
    all.sort();
    all.dedup();
    all
}

/// How often `name` is declared as a module in `source`.
fn declarations(source: &str, name: &str) -> usize {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or(""));
    code.flat_map(|line| line.split(';'))
        .filter(|item| {
            let mut words = item.split_whitespace().rev();
            words.next() == Some(name) && words.next() == Some("mod")
        })
        .count()
}

#[test]
fn each_file_is_declared_once() {
    let mut findings = Vec::new();
    for file in shelves().iter().flat_map(|shelf| rust_files(shelf)) {
        let (folder, name) = file.rsplit_once('/').expect("below a folder");
        let name = name.strip_suffix(".rs").expect("a Rust file");
        if matches!(name, "mod" | "tests") {
            continue;
        }
        let parents = [format!("{folder}.rs"), format!("{folder}/mod.rs")];
        let sources = parents.iter().filter(|p| root().join(p).exists()).filter_map(|p| text(p));
        let count: usize = sources.map(|source| declarations(&source, name)).sum();
        if count != 1 {
            findings.push(format!(
                "{file}:1: declared {count} times in {parents:?}: write `mod {name};` there once"
            ));
        }
    }
    report("module lists", findings);
}

/// What a pass file lacks.
fn lacks(source: &str) -> Vec<&'static str> {
    let doc: Vec<_> = source.lines().filter_map(|l| l.strip_prefix("//!")).collect();
    let picture = doc.iter().skip_while(|l| l.trim() != "```text").skip(1);
    let has_picture = picture.take_while(|l| l.trim() != "```").any(|l| l.contains("=>"));
    let has_tests = source.lines().any(|l| l.starts_with("mod tests"));
    [
        (doc.is_empty(), "a `//!` doc that says what the pass does and saves"),
        (!has_picture, "a ```text picture with `before => after` in its doc"),
        (!has_tests, "a `mod tests` with one test that fires and one that declines"),
    ]
    .into_iter()
    .filter_map(|(missing, what)| missing.then_some(what))
    .collect()
}

#[test]
fn each_pass_has_a_picture_and_tests() {
    let mut findings = Vec::new();
    for group in PASS_GROUPS {
        for file in rust_files(&format!("passes/src/{group}/")) {
            if !matches!(file.rsplit('/').next(), Some("mod.rs" | "tests.rs")) {
                let source = text(&file).expect("Rust is text");
                findings
                    .extend(lacks(&source).iter().map(|what| format!("{file}:1: lacks {what}")));
            }
        }
    }
    report("passes", findings);
}

#[test]
fn the_rules_find_what_they_look_for() {
    let source = "pub mod unary;\nmod binary;\n// mod unary;\nmod un; #[cfg(x)] mod binary;";
    assert_eq!([1, 2, 1, 0], ["unary", "binary", "un", "conv"].map(|n| declarations(source, n)));
    let whole = "//! Folds.\n//!\n//! ```text\n//! a => b\n//! ```\nmod tests {}\n";
    assert!(lacks(whole).is_empty());
    assert_eq!(lacks("//! a => b\n").len(), 2);
    assert_eq!(lacks("").len(), 3);
    assert!(shelves().contains(&"ir/src/ops/".to_owned()));
}
