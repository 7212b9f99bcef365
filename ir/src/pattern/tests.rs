use super::*;
use crate::text;

fn find(pattern: &str, graph: &str) -> Option<(Graph, Match)> {
    let g = text::parse(graph).expect("the graph parses");
    let root = g.outputs()[0].1.node;
    let m = pattern.parse::<Pattern>().expect("the pattern parses").find(&g, root)?;
    Some((g, m))
}

fn fits(pattern: &str, graph: &str) -> bool {
    find(pattern, graph).is_some()
}

const GELU: &str = "c = f32[]{1.4142135}\none = f32[]{1.0}\nh = f32[1]{0.5}\n\
    d = Div(x: f32[N,4], c)\ne = Erf(d)\ns = Add(one, e)\nm = Mul(s, x)\ny = Mul(h, m)\nreturn y";

#[test]
fn operands_of_commutative_operators_stand_in_either_order() {
    let (g, m) = find("Mul(Mul(x, Add(Erf(Div(x, 1.4142135)), 1)), 0.5)", GELU).expect("matches");
    assert_eq!(m.get("x"), g.inputs().next());
    assert_eq!(m.nodes().len(), 5);
    assert!(!fits("Mul(Mul(x, Add(Erf(Div(x, 1.5)), 1)), 0.5)", GELU));
    assert!(!fits("Mul(Mul(x, Add(Erf(Div(1.4142135, x)), 1)), 0.5)", GELU));
}

#[test]
fn choices_are_taken_back_where_a_later_part_does_not_fit() {
    // Only with the operands of the inner sum swapped is `a` the same value twice.
    let graph = "s = Add(p: f32[2], q: f32[2])\ny = Sub(s, q)\nreturn y";
    let (g, m) = find("Sub(Add(a, b), a)", graph).expect("matches");
    assert_eq!(m.get("a"), g.inputs().nth(1));
    assert!(!fits("Sub(Add(a, a), a)", graph));
}

#[test]
fn names_optional_nodes_and_choices() {
    let cast = "c = Cast(x: f32[2]) {to=11}\nd = Cast(c) {to=1}\ny = Relu(d)\nreturn y";
    let (g, m) = find("n@Relu|Tanh(Cast?(Cast?(Cast?(x))))", cast).expect("matches");
    assert_eq!(m.node("n"), Some(g.outputs()[0].1.node));
    assert_eq!(m.get("x"), g.inputs().next());
    assert!(fits("Relu([Tanh(x) | Cast(x)])", cast));
    assert!(!fits("Relu([Tanh(x) | Abs(x)])", cast));
    assert!(fits("Relu(_)", cast));
}

#[test]
fn inputs_are_counted_unless_more_are_allowed() {
    let clip = "l = f32[]{0.0}\nh = f32[]{6.0}\ny = Clip(x: f32[2], l, h)\nreturn y";
    assert!(fits("Clip(x, 0, 6)", clip) && fits("Clip(x, ..)", clip));
    assert!(!fits("Clip(x, 0)", clip) && !fits("Clip(x, 0, 6, y)", clip));
    assert!(fits("Clip(x, $l, $h)", clip) && !fits("Clip($x, $l, $h)", clip));
}

#[test]
fn a_number_that_adds_axes_is_none() {
    let graph = |x, c| format!("c = f32[{c}]{{2.0}}\ny = Mul(x: f32[{x}], c)\nreturn y");
    for (x, c, want) in
        [("3", "1", true), ("3", "1,1", false), ("3,4", "1,1", true), ("", "", true)]
    {
        assert_eq!(fits("Mul(x, 2)", &graph(x, c)), want, "{x} {c}");
    }
    assert!(!fits("Mul(x, 2.1)", &graph("3", "1")));
}

#[test]
fn outputs_have_places() {
    let split = "a, b = Split(x: f32[4]) {axis=0,num_outputs=2}\ny = Mul(a, b)\nreturn y";
    assert!(fits("Mul(Split#1(x), Split#0(x))", split));
    assert!(!fits("Mul(Split#1(x), Split#1(x))", split));
}

#[test]
fn wrong_patterns_say_where() {
    for (text, at) in [
        ("Mul(x", "``"),
        ("Mul(x))", "`)`"),
        ("Mul(,x)", "`,x)`"),
        ("x@y", "``"),
        ("Add(x, 1..5)", "`)`"),
        ("[Relu(x)", "``"),
    ] {
        let e = text.parse::<Pattern>().expect_err(text).to_string();
        assert!(e.contains(at) && e.contains(text), "{e}");
    }
}
