//! Budgets and forbidden words of the sources.

use crate::report;
use crate::tokens::{Function, Outline, Token, tokens};
use crate::tree::{is_generated, is_test, rust_files, text, tracked};

/// Calls `check(file, text)` for each source that is neither test code nor generated.
fn each_source(mut check: impl FnMut(&str, &str)) {
    for file in rust_files("") {
        if !is_test(&file) && !is_generated(&file) {
            check(&file, &text(&file).expect("Rust is text"));
        }
    }
}

/// The value below which `share` of the sorted values lie.
fn quantile(sorted: &[usize], share: f64) -> usize {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0)
}

fn check_quantiles(what: &str, mut values: Vec<usize>, limits: [(f64, usize); 2]) -> Vec<String> {
    values.sort_unstable();
    let over = limits.iter().filter_map(|&(share, limit)| {
        let got = quantile(&values, share);
        (got > limit).then(|| {
            let percent = share * 100.0;
            format!(
                "{percent}% of the {what} may have {limit} lines at most, got {got}: split some"
            )
        })
    });
    over.collect()
}

/// Whether the lines above line `line` (counted from 1), past attributes and docs, excuse a length.
fn is_excused(lines: &[&str], line: usize) -> bool {
    let above = lines[..line - 1].iter().rev().map(|l| l.trim_start());
    above
        .take_while(|l| l.starts_with("#[") || l.starts_with("//"))
        .any(|l| l.starts_with("// tidy: long, because "))
}

#[test]
fn functions_are_short() {
    const MAX: usize = 80;
    let (mut all, mut findings) = (Vec::new(), Vec::new());
    each_source(|file, text| {
        let lines: Vec<_> = text.lines().collect();
        for Function { name, line, lines: n } in Outline::parse(file, text).functions {
            all.push(n);
            if n > MAX && !is_excused(&lines, line) {
                findings.push(format!(
                    "{file}:{line}: `{name}` has {n} lines, {MAX} at most: split it, or write \
                     `// tidy: long, because …` above it"
                ));
            }
        }
    });
    findings.extend(check_quantiles("functions", all, [(0.5, 8), (0.95, 35)]));
    report("function lengths", findings);
}

#[test]
fn files_are_short() {
    const MAX: usize = 600;
    let (mut all, mut findings) = (Vec::new(), Vec::new());
    each_source(|file, text| {
        let n = text.lines().count() - Outline::parse(file, text).test_lines();
        all.push(n);
        if n > MAX {
            findings.push(format!("{file}:1: {n} lines without tests, {MAX} at most: split it"));
        }
    });
    findings.extend(check_quantiles("files", all, [(0.5, 150), (0.95, 450)]));
    report("file lengths", findings);
}

#[test]
fn lines_and_traits_are_narrow() {
    const WIDTH: usize = 100;
    const METHODS: usize = 6;
    let mut findings = Vec::new();
    for file in rust_files("").into_iter().filter(|f| !is_generated(f)) {
        for (i, line) in text(&file).expect("Rust is text").lines().enumerate() {
            let n = line.chars().count();
            if n > WIDTH {
                findings.push(format!("{file}:{}: {n} columns, {WIDTH} at most: wrap it", i + 1));
            }
        }
    }
    each_source(|file, text| {
        for (name, line, n) in Outline::parse(file, text).traits {
            if n > METHODS {
                findings.push(format!(
                    "{file}:{line}: trait `{name}` has {n} methods, {METHODS} at most: move some \
                     into a second trait or into free functions"
                ));
            }
        }
    });
    report("width", findings);
}

/// The word that is forbidden at `at`, and what to write instead.
fn forbidden(all: &[Token], at: usize) -> Option<(&str, &'static str)> {
    let text = |i: usize| all.get(i).map_or("", |t| &*t.text);
    let word = text(at);
    match word {
        "unwrap" if at > 0 && text(at - 1) == "." && text(at + 1) == "(" => {
            Some((word, "return an error, or state the fact with `expect(\"invariant: …\")`"))
        }
        "dbg" | "todo" | "unimplemented" if text(at + 1) == "!" => {
            Some((word, "finish it, or return an error of the class `unsupported`"))
        }
        _ => None,
    }
}

#[test]
fn no_unfinished_code() {
    let mut findings = Vec::new();
    each_source(|file, text| {
        let outline = Outline::parse(file, text);
        let all = tokens(file, text);
        for (i, token) in all.iter().enumerate().filter(|(_, t)| !outline.is_test(t.line)) {
            if let Some((word, remedy)) = forbidden(&all, i) {
                findings.push(format!("{file}:{}: `{word}`: {remedy}", token.line));
            }
        }
    });
    report("unfinished code", findings);
}

/// Folders whose crates may hold `unsafe`.
const UNSAFE_FOLDERS: &[&str] = &["tensor/src/", "backends/", "capi/", "python/"];

/// Whether the `unsafe` at `at` only names the type of a function pointer.
fn is_pointer_type(all: &[Token], at: usize) -> bool {
    let mut rest = all[at + 1..].iter().map(|t| &*t.text).filter(|t| !t.starts_with('"'));
    let first = rest.next();
    let second = if first == Some("extern") { rest.next() } else { first };
    second == Some("fn") && rest.next() == Some("(")
}

/// Whether a comment that says why it is sound stands on the line or closely above.
fn says_why(lines: &[&str], line: usize) -> bool {
    const REACH: usize = 8;
    let near = lines[..line].iter().rev().take(REACH + 1);
    near.take_while(|l| !l.trim().is_empty())
        .any(|l| l.contains("SAFETY:") || l.contains("# Safety"))
}

#[test]
fn unsafe_is_rare_and_explained() {
    let mut findings = Vec::new();
    each_source(|file, text| {
        let lines: Vec<_> = text.lines().collect();
        let all = tokens(file, text);
        let in_house = UNSAFE_FOLDERS.iter().any(|f| file.starts_with(f));
        for (i, token) in all.iter().enumerate().filter(|(_, t)| t.text == "unsafe") {
            let line = token.line;
            // The importer maps weight files into memory, and does nothing else unsafe.
            let maps = file.starts_with("onnx/src/")
                && all[i..].iter().take(8).any(|t| t.text.starts_with("Mmap"));
            if is_pointer_type(&all, i) {
                continue;
            }
            if !in_house && !maps {
                findings
                    .push(format!("{file}:{line}: `unsafe` outside {UNSAFE_FOLDERS:?}: move it"));
            } else if !says_why(&lines, line) {
                findings.push(format!("{file}:{line}: `unsafe` without a `// SAFETY:` line above"));
            }
        }
    });
    report("unsafe code", findings);
}

#[test]
fn files_name_no_machine_and_no_registry() {
    // Spelled in two halves, so that this list does not find itself.
    let hosts = [
        concat!("index.crates", ".io"),
        concat!("static.crates", ".io"),
        concat!("pypi", ".org"),
        concat!("files.python", "hosted.org"),
        concat!("registry.npm", "js.org"),
        concat!("proxy.golang", ".org"),
    ];
    let folders = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let is_path = |line: &str, folder: &str| {
        let starts = |(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.');
        line.match_indices(folder).any(starts)
    };
    let mut findings = Vec::new();
    for file in tracked() {
        for (i, line) in text(&file).unwrap_or_default().lines().enumerate() {
            let at = format!("{file}:{}", i + 1);
            for host in hosts.iter().filter(|h| line.contains(**h)) {
                findings.push(format!("{at}: names the registry {host}: leave hosts to the tools"));
            }
            for folder in folders.iter().filter(|f| is_path(line, f)) {
                findings.push(format!("{at}: names {folder}: use a path relative to the root"));
            }
        }
    }
    report("machine paths and registries", findings);
}

#[test]
fn the_rules_find_what_they_look_for() {
    let text = "// SAFETY: a\nunsafe { f() }\n\nunsafe { g() }\n";
    let lines: Vec<_> = text.lines().collect();
    assert!(says_why(&lines, 2) && !says_why(&lines, 4));

    let found = |text: &str| {
        let all = tokens("x.rs", text);
        (0..all.len()).filter(|&i| forbidden(&all, i).is_some()).count()
    };
    assert_eq!(found("fn f() { g().unwrap(); h().unwrap_or(1); todo!() } // x.unwrap()"), 2);
    assert_eq!(found("macro_rules! m { () => { x.unwrap() } }"), 1);

    let pointer = tokens("x.rs", "unsafe extern \"C\" fn(i32); unsafe extern \"C\" fn f() {}");
    let uses: Vec<_> = (0..pointer.len()).filter(|&i| pointer[i].text == "unsafe").collect();
    assert!(is_pointer_type(&pointer, uses[0]) && !is_pointer_type(&pointer, uses[1]));

    let outline = Outline::parse("x.rs", "fn f() {\n}\n#[cfg(test)]\nmod tests {\n fn g() {}\n}\n");
    assert_eq!(outline.functions.iter().map(|f| f.lines).collect::<Vec<_>>(), [2]);
    assert_eq!(outline.test_lines(), 4);
    assert_eq!([0.5, 0.95, 1.0].map(|share| quantile(&[1, 2, 3, 4], share)), [2, 4, 4]);
    assert!(is_excused(&["// tidy: long, because a table", "#[inline]", "fn f() {"], 3));
    assert!(!is_excused(&["", "fn f() {"], 2));
}
