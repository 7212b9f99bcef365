//! The pages that the tables write: `UPDATE_EXPECT=1 cargo test --test tidy` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write;

use expect_test::expect_file;
use kiln_ir::schema;

use crate::tree;

const NOTE: &str = "Written by `UPDATE_EXPECT=1 cargo test --test tidy`; not to be edited.\n";

#[test]
fn docs_ops_lists_every_operator() {
    let mut operators: BTreeMap<(&str, &str), (Vec<i64>, &str)> = BTreeMap::new();
    for (family, rows) in schema::tables() {
        for row in rows {
            let name = schema::split(row.name);
            operators.entry(name).or_insert((vec![], family)).0.push(row.since);
        }
    }
    let mut page = format!("# Operators\n\n{NOTE}\n");
    let _ =
        writeln!(page, "kiln imports {} operators, each in all its versions.\n", operators.len());
    page.push_str(
        "| domain | operator | rows since opset | file in `ir/src/ops` |\n|---|---|---|---|\n",
    );
    for ((domain, op), (mut since, family)) in operators {
        since.sort_unstable();
        let since: Vec<_> = since.iter().map(i64::to_string).collect();
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        let _ = writeln!(page, "| {domain} | {op} | {} | `{family}` |", since.join(", "));
    }
    expect_file!["../../docs/ops.md"].assert_eq(&page);
}

#[test]
fn docs_passes_shows_every_pass() {
    let mut page = format!("# Passes\n\n{NOTE}\nIn the order in which they run.\n");
    for pass in kiln_passes::passes() {
        let file = format!("passes/src/{}/{}.rs", pass.phase, pass.name);
        let source = tree::text(&file).expect("a pass lies in the folder of its phase");
        let exact = if pass.exact { "exact" } else { "not exact" };
        let _ = writeln!(page, "\n## {}\n\nPhase *{}*, {exact}.\n", pass.name, pass.phase);
        for line in source.lines().map_while(|l| l.strip_prefix("//!")) {
            let _ = writeln!(page, "{}", line.strip_prefix(' ').unwrap_or(line));
        }
    }
    expect_file!["../../docs/passes.md"].assert_eq(&page);
}

#[test]
fn docs_kernels_lists_every_row() {
    let mut page = format!("# Kernels\n\n{NOTE}\nWhat no row takes runs by its definition.\n\n");
    page.push_str("## cpu\n\n| kernel | in place | what it takes |\n|---|---|---|\n");
    for row in kiln_cpu::rows() {
        let in_place = if row.in_place { "yes" } else { "no" };
        let _ = writeln!(page, "| `{}` | {in_place} | {} |", row.name, row.what);
    }
    expect_file!["../../docs/kernels.md"].assert_eq(&page);
}
