//! The crates: who may know whom, how many come from outside, under which licence.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::report;
use crate::tree::root;

/// The most crates from outside that `kiln` may be built of, and the flags that say how: the
/// runtime alone, and with its command line.
const MOST: &[(usize, &[&str])] =
    &[(65, &["--no-default-features", "--features", "images"]), (170, &[])];

const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "0BSD",
    "BSL-1.0",
];

/// The crates of the house that a crate may know; `None` where it may know all.
fn may_know(name: &str, folder: &str) -> Option<&'static [&'static str]> {
    if folder.starts_with("backends/") {
        return Some(&["kiln-tensor", "kiln-ir", "kiln-plan"]);
    }
    match name {
        "kiln-tensor" => Some(&[]),
        "kiln-ir" => Some(&["kiln-tensor"]),
        "kiln-onnx" | "kiln-passes" | "kiln-plan" | "kiln-testing" => {
            Some(&["kiln-tensor", "kiln-ir"])
        }
        _ => None,
    }
}

/// What a program writes; an error of it fails the test.
fn output(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).current_dir(root()).output().expect("it runs");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("it writes text")
}

fn cargo(args: &[&str]) -> String {
    output(&std::env::var("CARGO").unwrap_or("cargo".into()), args)
}

/// What `cargo metadata` says for the machine that runs the test.
fn metadata() -> Value {
    let version = output(&std::env::var("RUSTC").unwrap_or("rustc".into()), &["-vV"]);
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).expect("rustc names it");
    let args = ["metadata", "--offline", "--format-version", "1", "--filter-platform", host];
    serde_json::from_str(&cargo(&args)).expect("cargo writes JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// The folder of a package of the house, relative to the root; `None` for one from outside.
fn folder(package: &Value) -> Option<String> {
    package["source"].is_null().then(|| {
        let manifest = std::path::Path::new(text(package, "manifest_path"));
        let folder = manifest.parent().and_then(|f| f.strip_prefix(root()).ok());
        folder.map(|f| f.to_string_lossy().into_owned()).unwrap_or_default()
    })
}

/// What is wrong with the dependency of a crate in `folder` on `other`, if anything.
fn edge(name: &str, folder: &str, other: &str, dev: bool) -> Option<String> {
    if other == "kiln-testing" {
        return (!dev && name != "kiln-xtask")
            .then(|| "kiln-testing is for tests: move it to [dev-dependencies]".into());
    }
    // Backends are tested against one another.
    let fine = may_know(name, folder).is_none_or(|all| all.contains(&other))
        || dev && folder.starts_with("backends/");
    (!fine).then(|| format!("{name} must not know {other}: move the code, or pass it as a value"))
}

#[test]
fn dependencies_run_one_way() {
    let metadata = metadata();
    let packages = list(&metadata, "packages");
    let houses: BTreeMap<_, _> =
        packages.iter().filter_map(|p| Some((text(p, "name"), folder(p)?))).collect();
    let mut findings = Vec::new();
    for package in packages.iter().filter(|p| p["source"].is_null()) {
        let (name, folder) = (text(package, "name"), &houses[text(package, "name")]);
        for dependency in list(package, "dependencies") {
            let other = text(dependency, "name");
            let dev = text(dependency, "kind") == "dev";
            if houses.contains_key(other)
                && let Some(what) = edge(name, folder, other, dev)
            {
                let manifest = std::path::Path::new(folder).join("Cargo.toml");
                findings.push(format!("{}: {what}", manifest.display()));
            }
        }
    }
    assert!(houses.contains_key("kiln-ir"), "cargo metadata lists no crate of the house");
    report("crate edges", findings);
}

/// Names and versions of the outside crates that `kiln` is built of on this machine; the crates
/// of its tests do not count, nor the features that only they turn on.
fn built(features: &[&str]) -> BTreeSet<String> {
    let args = ["tree", "--offline", "--package", "kiln", "--edges", "normal", "--prefix", "none"];
    let tree = cargo(&[&args, features].concat());
    // A crate of the house is followed by its folder.
    let outside = tree.lines().filter(|line| !line.contains("(/"));
    let words = outside.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    words.filter(|words| !words.is_empty()).collect()
}

#[test]
fn the_runtime_is_built_of_few_crates() {
    let mut before = 0;
    for &(most, features) in MOST {
        let names = built(features);
        println!("{} crates from outside, {most} at most: {names:?}", names.len());
        assert!(names.len() > before, "cargo tree lists no crate for {features:?}");
        assert!(
            names.len() <= most,
            "Cargo.toml: {} crates from outside with {features:?}, {most} at most: drop a \
             dependency or its default features\n  {names:?}",
            names.len()
        );
        before = names.len();
    }
}

/// Whether an SPDX expression leaves a choice whose every part is allowed.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut at = 0;
    either(&words, &mut at) && at == words.len()
}

fn either(words: &[&str], at: &mut usize) -> bool {
    let mut fine = both(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        fine |= both(words, at);
    }
    fine
}

fn both(words: &[&str], at: &mut usize) -> bool {
    let mut fine = term(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        fine &= term(words, at);
    }
    fine
}

fn term(words: &[&str], at: &mut usize) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let fine = either(words, at);
        *at += 1;
        return fine;
    }
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
        let exception = words.get(*at - 1).copied().unwrap_or("");
        return LICENCES.contains(&&*format!("{word} WITH {exception}"));
    }
    LICENCES.contains(&word)
}

#[test]
fn licences_are_permissive() {
    let metadata = metadata();
    let mut findings = Vec::new();
    for package in list(&metadata, "packages") {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        if !is_allowed(licence) {
            findings.push(format!("Cargo.toml: {name} is under `{licence}`: use another crate"));
        }
    }
    report("licences", findings);
}

#[test]
fn the_rules_find_what_they_look_for() {
    let plain = |name, other, dev| edge(name, "", other, dev).is_none();
    assert!(plain("kiln-onnx", "kiln-ir", false));
    assert!(!plain("kiln-onnx", "kiln-passes", false));
    assert!(!plain("kiln-tensor", "kiln-ir", true));
    assert!(plain("kiln-passes", "kiln-testing", true));
    assert!(!plain("kiln-passes", "kiln-testing", false));
    assert!(plain("kiln", "kiln-cuda", false));
    assert!(edge("kiln-cpu", "backends/cpu", "kiln-plan", false).is_none());
    assert!(edge("kiln-cpu", "backends/cpu", "kiln-onnx", true).is_none());
    assert!(edge("kiln-cpu", "backends/cpu", "kiln-onnx", false).is_some());

    for (expression, want) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT AND MPL-2.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MPL-2.0", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression), want, "{expression}");
    }
}
