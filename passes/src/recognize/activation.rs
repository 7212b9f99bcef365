//! Names the activations that exporters spell out.
//!
//! ```text
//! d = Div(x, 1.4142)
//! e = Erf(d)
//! s = Add(e, 1)
//! m = Mul(x, s)
//! y = Mul(m, 0.5)      =>   y = Gelu(x)
//! ```
//!
//! Saves all passes over the elements but one. Not exact: the definition rounds once.

use kiln_ir::ops::unary::{Curve, Unary};
use kiln_ir::{Attrs, Edit, Graph, Match, NodeId, Op, Operator, Rewrite, Source, Verdict};

use crate::forms::Forms;

/// See the module.
pub struct Activation {
    rows: Vec<(Forms, &'static Row)>,
}

/// An operator, and what it is written as: expressions of `x`.
struct Row {
    op: &'static str,
    attrs: fn() -> Attrs,
    fits: fn(&Graph, &Match) -> bool,
    forms: &'static [&'static str],
}

impl Row {
    const fn new(op: &'static str, forms: &'static [&'static str]) -> Self {
        Row { op, attrs: Attrs::default, fits: |_, _| true, forms }
    }
}

/// `erf(x / sqrt(2))`.
macro_rules! erf {
    () => {
        "Erf([Div(x, 1.4142135623730951) | Mul(x, 0.7071067811865476)])"
    };
}

/// `tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))`.
macro_rules! tanh {
    () => {
        concat!(
            "[Tanh(Mul(Add(x, Mul([Pow(x, 3) | Mul(x, Mul(x, x))], 0.044715)), 0.79788456080))",
            " | Tanh(Mul(Mul(x, 0.79788456080), Add(Mul([Mul(x, x) | Pow(x, 2)], 0.044715), 1)))",
            " | Tanh(Mul(Mul(x, 0.79788456080), Add(Mul(Mul(x, 0.044715), x), 1)))]",
        )
    };
}

/// `clip(x + 3, 0, 6)`.
macro_rules! bounded {
    () => {
        "Clip(Add(x, 3), 0, 6)"
    };
}

const ROWS: &[Row] = &[
    Row::new(
        "Gelu",
        &[
            concat!("Mul(Mul(x, Add(", erf!(), ", 1)), 0.5)"),
            concat!("Div(Mul(x, Add(", erf!(), ", 1)), 2)"),
            concat!("Mul(x, [Mul(Add(", erf!(), ", 1), 0.5) | Div(Add(", erf!(), ", 1), 2)])"),
            concat!("Mul([Mul(x, 0.5) | Div(x, 2)], Add(", erf!(), ", 1))"),
        ],
    ),
    Row {
        attrs: || Attrs::default().with("approximate", "tanh".to_owned()),
        ..Row::new(
            "Gelu",
            &[
                concat!("Mul(Mul(x, Add(", tanh!(), ", 1)), 0.5)"),
                concat!("Div(Mul(x, Add(", tanh!(), ", 1)), 2)"),
                concat!(
                    "Mul(x, [Mul(Add(",
                    tanh!(),
                    ", 1), 0.5) | Div(Add(",
                    tanh!(),
                    ", 1), 2)])"
                ),
                concat!("Mul([Mul(x, 0.5) | Div(x, 2)], Add(", tanh!(), ", 1))"),
            ],
        )
    },
    Row {
        attrs: || Attrs::default().with("alpha", 1.702f32),
        ..Row::new("Swish", &["Mul(x, Sigmoid(Mul(x, 1.702)))"])
    },
    Row::new("Swish", &["Mul(x, Sigmoid(x))", "Div(x, Add(Exp(Neg(x)), 1))"]),
    Row::new("Sigmoid", &["Div(1, Add(Exp(Neg(x)), 1))", "Reciprocal(Add(Exp(Neg(x)), 1))"]),
    Row::new("Mish", &["Mul(x, Tanh(Softplus(x)))", "Mul(x, Tanh(Log(Add(Exp(x), 1))))"]),
    Row::new("Softplus", &["Log(Add(Exp(x), 1))"]),
    Row::new(
        "HardSwish",
        &[
            concat!("Mul(Mul(x, ", bounded!(), "), 0.16666666666666666)"),
            concat!("Div(Mul(x, ", bounded!(), "), 6)"),
            concat!(
                "Mul(x, [Mul(",
                bounded!(),
                ", 0.16666666666666666) | Div(",
                bounded!(),
                ", 6)])"
            ),
            concat!("Mul([Mul(x, 0.16666666666666666) | Div(x, 6)], ", bounded!(), ")"),
        ],
    ),
    Row { fits: sixths, ..Row::new("HardSwish", &["Mul(x, h@HardSigmoid(x))"]) },
    Row {
        attrs: || Attrs::default().with("alpha", 1f32 / 6.0).with("beta", 0.5f32),
        ..Row::new(
            "HardSigmoid",
            &[
                concat!("Mul(", bounded!(), ", 0.16666666666666666)"),
                concat!("Div(", bounded!(), ", 6)"),
            ],
        )
    },
];

/// Whether the node `h` is `clip(x / 6 + 1 / 2)`.
fn sixths(g: &Graph, m: &Match) -> bool {
    let h = m.node("h").map(|h| g.op(h));
    matches!(h, Some(Op::Unary(Unary::Curve(Curve::HardSigmoid, alpha, beta)))
        if (alpha - 1.0 / 6.0).abs() < 1e-6 && *beta == 0.5)
}

impl Activation {
    /// The rule with its forms.
    pub fn new() -> Self {
        Self { rows: ROWS.iter().map(|row| (Forms::new(row.forms), row)).collect() }
    }
}

impl Default for Activation {
    fn default() -> Self {
        Self::new()
    }
}

impl Rewrite for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if !matches!(g.op(root).name(), "Mul" | "Div" | "Log" | "Reciprocal") {
            return Ok(None);
        }
        let fitting = |(forms, row): &(Forms, &'static Row)| {
            let m = forms.find(g, root).filter(|m| (row.fits)(g, m))?;
            Some((m.get("x")?, m, *row))
        };
        let Some((x, m, row)) = self.rows.iter().find_map(fitting) else { return Ok(None) };
        if g.constant_of(x).is_some() {
            return Ok(None);
        }
        let mut e = Edit::default();
        let y = e.call(row.op, &[Some(Source::from(x))], (row.attrs)());
        e.replace(root.first(), y);
        e.absorb_below(m.nodes());
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use kiln_ir::{Context, eval, rewrite, text};
    use kiln_tensor::Tensor;

    use super::*;
    use crate::testing::check;

    #[test]
    fn names_gelu_whatever_the_order_of_its_factors() {
        check(
            &Activation::new(),
            "r = f32[]{1.4142135}\none = f32[]{1.0}\nh = f32[]{0.5}\nd = Div(x: f32[N,4], r)\n\
             e = Erf(d)\ns = Add(one, e)\na = Mul(h, x)\ny = Mul(s, a)\nreturn y",
            expect![[r#"
                x: f32[N,4]
                y = Gelu(x)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_other_constants_and_what_is_read_elsewhere() {
        check(
            &Activation::new(),
            "r = f32[]{1.5}\none = f32[]{1.0}\nh = f32[]{0.5}\nd = Div(x: f32[N,4], r)\n\
             e = Erf(d)\ns = Add(one, e)\na = Mul(h, x)\ny = Mul(s, a)\nt = Sigmoid(x)\n\
             z = Mul(x, t)\nreturn y, z, t",
            expect![[r#"
                (unchanged)
                # activation @ z: an inner value is an output of the graph
            "#]],
        );
    }

    /// Every form of every row, as a graph, gives what the operator gives.
    #[test]
    fn every_form_is_what_it_is_said_to_be() {
        let x = Tensor::vector((-40..40).map(|i| i as f32 / 8.0).collect::<Vec<_>>());
        let mut graphs = 0;
        for row in ROWS {
            for form in row.forms {
                // Attributes are not part of the text.
                if form.contains('@') {
                    continue;
                }
                for source in kiln_testing::written::graphs(form) {
                    let mut g = text::parse(&source).expect(&source);
                    let run = |g: &Graph| {
                        let y = eval::run(g, &Context::default(), vec![x.clone().into()]);
                        y.expect(&source)[0].as_tensor().expect("a tensor").to_vec::<f64>()
                    };
                    let want = run(&g).expect("floats");
                    let order = g.order().expect("no cycle");
                    rewrite::run(&mut g, &Activation::new(), &order, 0, &mut ()).expect("sound");
                    g.reinfer().expect("infers");
                    let op = g.op(g.outputs()[0].1.node).name();
                    assert!(op == row.op, "{source} becomes {}", text::print(&g));
                    let got = run(&g).expect("floats");
                    let off = want.iter().zip(&got).map(|(w, g)| (w - g).abs()).fold(0.0, f64::max);
                    assert!(off < 2e-6, "{source}: {off}");
                    graphs += 1;
                }
            }
        }
        assert!(graphs > 30, "{graphs}");
    }
}
