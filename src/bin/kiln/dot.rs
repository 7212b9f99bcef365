//! A graph for Graphviz: nodes are operators, edges carry types; constants are left out.

use std::fmt::Write;

use kiln::Graph;
use kiln_ir::{Op, Operator};

/// The text of a `.dot` file.
pub fn draw(g: &Graph) -> String {
    let mut text =
        String::from("digraph model {\n  rankdir=TB;\n  node [shape=box, style=rounded];\n");
    let mut ids: Vec<_> = g.nodes().collect();
    ids.sort();
    for id in ids {
        let node = g.node(id);
        let shape = match &node.op {
            Op::Const(_) => continue,
            Op::Input(_) => format!("label={}, shape=ellipse", quoted(&node.name)),
            op => format!("label={}", quoted(&format!("{}\n{}", op.name(), node.name))),
        };
        line(&mut text, &format!("n{} [{shape}]", id.index()));
        for v in g.inputs_of(id).into_iter().flatten() {
            if g.constant_of(v).is_none() {
                let ty = quoted(&g.ty(v).to_string());
                let ends = format!("n{} -> n{}", v.node.index(), id.index());
                line(&mut text, &format!("{ends} [label={ty}]"));
            }
        }
    }
    for (j, (name, v)) in g.outputs().iter().enumerate() {
        line(&mut text, &format!("o{j} [label={}, shape=ellipse]", quoted(name)));
        if g.constant_of(*v).is_none() {
            let ty = quoted(&g.ty(*v).to_string());
            line(&mut text, &format!("n{} -> o{j} [label={ty}]", v.node.index()));
        }
    }
    text + "}\n"
}

fn line(text: &mut String, what: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {what};");
}

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_follow_values_and_skip_constants() {
        let g = kiln_ir::text::parse(
            "c = f32[1]{2.0}\n\"a\\\"b\" = Add(x: f32[N], c)\nreturn y=\"a\\\"b\"",
        );
        let text = draw(&g.expect("parses"));
        assert_eq!(text.matches("->").count(), 2, "{text}");
        assert!(text.contains("[label=\"Add\\na\\\"b\"]"), "{text}");
        assert!(text.contains("-> o0 [label=\"f32["), "{text}");
    }
}
