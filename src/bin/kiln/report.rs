//! What the passes did, as text and as JSON.

use kiln_ir::Cost;
use kiln_passes::Report;
use serde_json::{Value, json};

use crate::show;

/// The document of `optimize --report`.
pub fn json(model: &str, report: &Report) -> Value {
    let passes = report.passes.iter().map(|p| {
        let declined = p
            .declined
            .iter()
            .map(|d| json!({"node": d.node, "reason": d.reason, "advice": d.advice}));
        json!({
            "name": p.name,
            "phase": p.phase,
            "fired": p.fired,
            "declined": declined.collect::<Vec<_>>(),
            "saved": cost(&p.saved),
            "micros": p.micros,
        })
    });
    let patches = report.patches.iter().map(|p| {
        json!({
            "number": p.number,
            "rule": p.rule,
            "root": p.root,
            "nodes_removed": p.removed,
            "nodes_added": p.added,
            "boundary": p.boundary,
            "saved": cost(&p.saved),
            "checked": p.ruling.checked,
            "max_error": p.ruling.max_error,
            "dropped": p.ruling.dropped,
        })
    });
    json!({
        "schema": "kiln-optimize/1",
        "model": model,
        "passes": passes.collect::<Vec<_>>(),
        "patches": patches.collect::<Vec<_>>(),
        "nodes_before": report.nodes_before,
        "nodes_after": report.nodes_after,
        "flops_before": report.before.flops,
        "flops_after": report.after.flops,
        "bytes_before": report.before.bytes,
        "bytes_after": report.after.bytes,
        "micros": report.micros,
    })
}

fn cost(c: &Cost) -> Value {
    json!({"nodes": c.nodes, "flops": c.flops, "bytes": c.bytes})
}

/// One line a pass.
pub fn text(report: &Report) -> String {
    let head = format!("nodes {} → {}\n", report.nodes_before, report.nodes_after);
    let row = |p: &kiln_passes::PassReport| {
        let fired = match p.fired {
            0 => "(unchanged)".to_owned(),
            n => format!("{n} fired"),
        };
        let declined = match p.declined.len() {
            0 => String::new(),
            n => format!("{n} declined"),
        };
        vec![format!("  {}", p.name), fired, declined, format!("{:.2} ms", p.micros as f64 / 1e3)]
    };
    head + &show::table(&report.passes.iter().map(row).collect::<Vec<_>>())
}
