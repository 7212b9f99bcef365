//! What the passes did, as one page that needs nothing else: no script, no other file.

use std::fmt::Write;

use kiln_ir::Cost;
use kiln_ir::rewrite::Patch;
use kiln_passes::{PassReport, Report, Sides};

use crate::show::{amount, savings};
use crate::svg::{self, escaped};

/// So many edits of one pass are drawn; the others are told in a line each.
const DRAWN: usize = 100;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse}td,th{text-align:left;padding:.15rem .9rem .15rem 0}\
td.n,th.n{text-align:right}tr{border-bottom:1px solid #8884}\
h2{margin-top:2.5rem}details{margin:.4rem 0}summary{cursor:pointer}\
summary code,li code{font-size:13px}.dropped{color:#c22}.quiet{opacity:.7}\
figure{display:flex;gap:2.5rem;align-items:center;margin:.8rem 1rem;overflow-x:auto}\
figcaption{font-size:13px;opacity:.7;text-align:center}\
svg text{font:12px ui-monospace,monospace;text-anchor:middle;fill:currentColor}\
svg path{fill:none;stroke:#888}svg rect{fill:#8881;stroke:#888}\
svg .op rect{fill:#48c2;stroke:#48c}svg .end rect{stroke-width:2.5}\
.after svg .op rect{fill:#3a62;stroke:#3a6}";

/// The page of `optimize --report x.html`; `sides` has an entry for each edit.
pub fn page(model: &str, report: &Report, sides: &[Option<Sides>]) -> String {
    let model = escaped(model);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{model}: what kiln's passes did</title><style>{STYLE}</style></head><body>\n\
         <h1>{model}</h1>\n"
    );
    summary(&mut text, report);
    overview(&mut text, report);
    for pass in report.passes.iter().filter(|p| p.fired > 0 || !p.declined.is_empty()) {
        let edits = report.patches.iter().zip(sides).filter(|(p, _)| p.rule == pass.name);
        section(&mut text, pass, edits);
    }
    text + "</body></html>\n"
}

fn summary(text: &mut String, report: &Report) {
    let (before, after) = (&report.before, &report.after);
    let dropped = report.patches.iter().filter(|p| p.ruling.dropped.is_some()).count();
    line(
        text,
        &format!(
            "<p>Nodes {} → {}, FLOPs {} → {}, bytes moved {} → {} in a run, where every symbol \
             stands for 1. {} edits, {dropped} dropped; {:.1} ms.</p>",
            report.nodes_before,
            report.nodes_after,
            amount(before.flops),
            amount(after.flops),
            amount(before.bytes),
            amount(after.bytes),
            report.patches.len(),
            report.micros as f64 / 1e3
        ),
    );
}

fn overview(text: &mut String, report: &Report) {
    line(
        text,
        "<table><tr><th>pass<th>phase<th class=n>fired<th class=n>declined<th>saves\
         <th class=n>ms</tr>",
    );
    for p in &report.passes {
        let name = match p.fired > 0 || !p.declined.is_empty() {
            true => format!("<a href=\"#{0}\">{0}</a>", p.name),
            false => format!("<span class=quiet>{}</span>", p.name),
        };
        line(
            text,
            &format!(
                "<tr><td>{name}<td>{}<td class=n>{}<td class=n>{}<td>{}<td class=n>{:.2}</tr>",
                p.phase,
                p.fired,
                p.declined.len(),
                savings(&p.saved),
                p.micros as f64 / 1e3
            ),
        );
    }
    line(text, "</table>");
}

fn section<'a>(
    text: &mut String,
    pass: &PassReport,
    edits: impl Iterator<Item = (&'a Patch, &'a Option<Sides>)>,
) {
    line(text, &format!("<h2 id=\"{0}\">{0}</h2>", pass.name));
    for (i, (patch, sides)) in edits.enumerate() {
        let head = head(patch);
        match sides.as_ref().filter(|_| i < DRAWN) {
            Some(sides) => {
                let open = if i == 0 { " open" } else { "" };
                line(text, &format!("<details{open}><summary>{head}</summary>"));
                figure(text, patch, sides);
                line(text, "</details>");
            }
            None => line(text, &format!("<p>{head}</p>")),
        }
    }
    if !pass.declined.is_empty() {
        line(text, &format!("<details><summary>{} left alone</summary><ul>", pass.declined.len()));
        for d in &pass.declined {
            let advice = if d.advice.is_empty() { "" } else { "; to help: " };
            let (node, reason) = (escaped(&d.node), escaped(d.reason));
            let what = format!("<li><code>{node}</code>: {reason}{advice}{}", escaped(d.advice));
            line(text, &what);
        }
        line(text, "</ul></details>");
    }
}

/// An edit in a line.
fn head(patch: &Patch) -> String {
    let saved = match patch.saved == Cost::default() {
        true => String::new(),
        false => format!(", saves {}", savings(&patch.saved)),
    };
    let ruling = match &patch.ruling {
        r if r.dropped.is_some() => {
            let why = escaped(r.dropped.as_deref().unwrap_or_default());
            format!(" <span class=dropped>dropped: {why}</span>")
        }
        r if r.checked => format!(", proved (largest difference {:.1e})", r.max_error),
        _ => String::new(),
    };
    format!("{}. at <code>{}</code>{saved}{ruling}", patch.number, escaped(&patch.root))
}

fn figure(text: &mut String, patch: &Patch, sides: &Sides) {
    let drawn = [("before", &sides.before), ("after", &sides.after)];
    line(text, "<figure>");
    for (class, g) in drawn {
        line(
            text,
            &format!("<div class={class}>{}<figcaption>{class}</figcaption></div>", svg::draw(g)),
        );
    }
    line(text, "</figure>");
    let names = |all: &[String]| {
        let all: Vec<_> = all.iter().map(|n| format!("<code>{}</code>", escaped(n))).collect();
        if all.is_empty() { "nothing".to_owned() } else { all.join(" ") }
    };
    let (border, gone, made) = (&patch.boundary, &patch.removed, &patch.added);
    let what = format!(
        "<p class=quiet>must stay: {}; went: {}; came: {}</p>",
        names(border),
        names(gone),
        names(made)
    );
    line(text, &what);
}

fn line(text: &mut String, what: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{what}");
}

#[cfg(test)]
mod tests {
    use kiln::{Model, Options};

    use super::*;

    /// `y = Relu(Identity(x))`, as bytes of a model.
    fn model() -> Model {
        let g = kiln_ir::text::parse("a = Identity(x: f32[2])\n\"y<\" = Relu(a)\nreturn \"y<\"");
        let opsets = [(String::new(), 17)].into();
        let bytes = kiln_onnx::export_bytes(&g.expect("parses"), &opsets).expect("writes");
        Model::from_bytes(bytes).expect("loads")
    }

    #[test]
    fn every_edit_is_drawn_and_tags_are_closed() {
        let model = model();
        let options = Options::default();
        let (_, report) = model.optimize(&options).expect("sound");
        let sides = model.pictures(&options, &report).expect("sound");
        let text = page("a<b>.onnx", &report, &sides);
        for tag in ["table", "details", "figure", "svg", "div", "g", "p", "h2"] {
            let opened = text.matches(&format!("<{tag}>")).count()
                + text.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}: {text}");
        }
        assert_eq!(text.matches("<svg").count(), 2 * report.patches.len());
        assert!(report.patches.len() == 1 && text.contains("a&lt;b&gt;.onnx"), "{text}");
        assert!(!text.contains("<script"));
    }
}
