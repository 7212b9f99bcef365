//! The house rules that the compiler does not hold.
//!
//! Every failure names a file, a line and the remedy.

mod crates;
mod docs;
mod layout;
mod source;
mod tokens;
mod tree;

/// Fails with every finding, one a line.
fn report(rule: &str, findings: Vec<String>) {
    assert!(
        findings.is_empty(),
        "{rule}: {} finding(s)\n  {}\n",
        findings.len(),
        findings.join("\n  ")
    );
}
