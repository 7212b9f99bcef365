//! One way to test a pass: text in, text out, only that rule enabled.

use std::fmt::Write;

use expect_test::Expect;
use kiln_ir::{Rewrite, rewrite, text, verify};

/// Runs a rule on the text of a graph and compares the text it leaves, refusals below it.
pub fn check(rule: &dyn Rewrite, before: &str, after: Expect) {
    let mut g = text::parse(before).expect("the test's graph parses");
    let order = g.order().expect("the test's graph has no cycle");
    let outcome = rewrite::run(&mut g, rule, &order, 0, &mut ()).expect("the rule is sound");
    g.reinfer().expect("the result infers");
    verify::verify(&g).expect("the result is well formed");
    let mut got = match outcome.patches.len() {
        0 => "(unchanged)\n".to_owned(),
        _ => text::print(&g).lines().map(wrapped).collect(),
    };
    for (node, decline) in &outcome.declined {
        let _ = writeln!(got, "# {} @ {node}: {}", rule.name(), decline.reason);
    }
    after.assert_eq(&got);
}

/// Text of an expectation is so narrow that the file is, too.
const WIDTH: usize = 84;

/// A line, broken after commas where it is too long.
fn wrapped(line: &str) -> String {
    let (mut rest, mut lines) = (line.to_owned(), String::new());
    while rest.len() > WIDTH {
        let Some(at) = rest[..WIDTH].rfind(',') else { break };
        lines.push_str(&rest[..=at]);
        lines.push('\n');
        rest = format!("    {}", rest[at + 1..].trim_start());
    }
    lines + &rest + "\n"
}
