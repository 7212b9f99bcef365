//! Names the distances that a scan calculates a row at a time.
//!
//! ```text
//! _, s = Scan(x, c) {step: d = Sub(x, row), y = ReduceSumSquare(d, [1])}
//! y = Transpose(s)                        =>   y = com.microsoft.CDist(x, c)
//! ```
//!
//! Saves a run of the body for each row of `c`, and the transposition. Not exact: the squares are
//! added in another order.

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::control::Scan;
use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::linalg::{Linalg, Metric};
use kiln_ir::ops::reduce::{Reduce, ReduceKind};
use kiln_ir::ops::unary::{Function, Unary};
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Value, Verdict};

use crate::forms::{dims, ints, scalar, sole_reader, transposed};

/// See the module.
pub struct ScanDistance;

impl Rewrite for ScanDistance {
    fn name(&self) -> &'static str {
        "scan_distance"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Scan(scan) = g.op(root) else { return Ok(None) };
        let (Some(x), Some(c)) = (g.input_of(root, 0), g.input_of(root, 1)) else {
            return Ok(None);
        };
        let (Some(columns), Some(metric)) = (columns(scan), distance(scan)) else {
            return Ok(None);
        };
        let floats = |v| g.ty(v).as_tensor().is_ok_and(|t| t.dtype.is_float());
        let (Some([_, k]), Some([_, l]), true) = (dims(g, x), dims(g, c), floats(x)) else {
            return Err(Decline::new("the operands are no matrices of floats"));
        };
        if k != l {
            return Err(Decline::new("the rows may be of different lengths"));
        }
        let mut e = Edit::default();
        let stacked = root.out(1);
        let turned = sole_reader(g, stacked).map(NodeId::first);
        let turned = turned.filter(|&t| transposed(g, t).is_some_and(|(_, p)| p == [1, 0]));
        // A distance is the same from both sides.
        let (old, a, b) = match (columns, turned) {
            (false, Some(t)) => (t, x, c),
            (false, None) => (stacked, c, x),
            (true, Some(t)) => (t, c, x),
            (true, None) => (stacked, x, c),
        };
        let y = e.node(Linalg::Distance(metric), &[Some(a.into()), Some(b.into())]);
        e.replace(old, y);
        e.replace(root.first(), x);
        Ok(Some(e))
    }
}

/// Whether the results become columns, not rows, of a scan of rows with one state; `None` of
/// another scan.
fn columns(scan: &Scan) -> Option<bool> {
    let steps = scan.steps();
    let forward = |list: &[i64]| list.iter().all(|&d| d == 0);
    let plain = scan.states() == 1
        && scan.body().inputs().len() == 2
        && scan.body().outputs().len() == 2
        && forward(&steps.input_axes)
        && forward(&steps.input_directions)
        && forward(&steps.output_directions);
    match steps.output_axes[..] {
        _ if !plain => None,
        [] | [0 | -2] => Some(false),
        [1 | -1] => Some(true),
        _ => None,
    }
}

/// The distance of the rows of the state, which stays as it is, from the row of the step.
fn distance(scan: &Scan) -> Option<Metric> {
    let body = &**scan.body();
    let own: Vec<Value> = body.inputs().collect();
    let [(_, state), (_, y)] = body.outputs() else { return None };
    let mut y = source(body, *y);
    if source(body, *state) != own[0] {
        return None;
    }
    let mut metric = Metric::Squared;
    if let Op::Unary(Unary::Function(Function::Sqrt)) = body.op(y.node) {
        metric = Metric::Euclidean;
        y = operand(body, y, 0)?;
    }
    let Op::Reduce(Reduce { kind, keepdims: false, .. }) = body.op(y.node) else { return None };
    if !matches!(ints(body, body.input_of(y.node, 1)?)?[..], [1 | -1]) {
        return None;
    }
    let d = operand(body, y, 0)?;
    let d = match (kind, metric) {
        (ReduceKind::SumSquare, _) => d,
        (ReduceKind::Sum, _) => squared(body, d)?,
        (ReduceKind::L2, Metric::Squared) => {
            metric = Metric::Euclidean;
            d
        }
        _ => return None,
    };
    let Op::Binary(Binary::Sub) = body.op(d.node) else { return None };
    let sides = [operand(body, d, 0)?, operand(body, d, 1)?];
    (sides == [own[0], own[1]] || sides == [own[1], own[0]]).then_some(metric)
}

/// What `v` is the square of.
fn squared(g: &Graph, v: Value) -> Option<Value> {
    let (a, b) = (operand(g, v, 0)?, operand(g, v, 1)?);
    match g.op(v.node) {
        Op::Binary(Binary::Mul) => (a == b).then_some(a),
        Op::Binary(Binary::Pow) => (scalar(g, b) == Some(2.0)).then_some(a),
        _ => None,
    }
}

fn operand(g: &Graph, v: Value, i: usize) -> Option<Value> {
    g.input_of(v.node, i).map(|v| source(g, v))
}

/// What a value is under its other names.
fn source(g: &Graph, v: Value) -> Value {
    match (g.op(v.node), g.input_of(v.node, 0)) {
        (Op::Layout(Layout::Identity), Some(x)) => source(g, x),
        _ => v,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    /// A scan of `c` with these attributes, whose step is written from `s` and `n` to `y`.
    fn scan(attrs: &str, step: &str, end: &str) -> String {
        format!(
            "x: f32[M,3]\nc: f32[5,3]\nt, d = Scan(x, c) {{body=graph {{\n s: f32[a,b]\n \
             n: f32[b]\n e = i64[1]{{1}}\n two = f32[]{{2.0}}\n {step}\n o = Identity(s)\n \
             q = Identity(y)\n return o, q\n}}, num_scan_inputs=1{attrs}}}\n{end}"
        )
    }

    const SQUARES: &str = "d = Sub(s, n)\n y = ReduceSumSquare(d, e) {keepdims=0}";

    #[test]
    fn names_what_exporters_write() {
        let end = "y = Transpose(d) {perm=[1,0]}\nz = Sqrt(y)\nreturn z";
        check(
            &ScanDistance,
            &scan("", SQUARES, end),
            expect![[r#"
                x: f32[M,3]
                c: f32[5,3]
                y = com.microsoft.CDist(x, c)
                z = Sqrt(y)
                return z
            "#]],
        );
        let powers = "d = Sub(n, s)\n p = Pow(d, two)\n r = ReduceSum(p, e) {keepdims=0}\n \
                      y = Sqrt(r)";
        check(
            &ScanDistance,
            &scan("", powers, "return t, d"),
            expect![[r#"
                x: f32[M,3]
                c: f32[5,3]
                t/scan_distance0 = com.microsoft.CDist(c, x) {metric="euclidean"}
                return t=x, d=t/scan_distance0
            "#]],
        );
        let products = "d = Sub(s, n)\n p = Mul(d, d)\n y = ReduceSum(p, e) {keepdims=0}";
        check(
            &ScanDistance,
            &scan(", scan_output_axes=[1]", products, "return d"),
            expect![[r#"
                x: f32[M,3]
                c: f32[5,3]
                t = com.microsoft.CDist(x, c)
                return d=t
            "#]],
        );
    }

    #[test]
    fn keeps_other_scans() {
        let backward = scan(", scan_output_directions=[1]", SQUARES, "return d");
        let sums = scan("", "d = Add(s, n)\n y = ReduceSumSquare(d, e) {keepdims=0}", "return d");
        let kept = scan("", "d = Sub(s, n)\n y = ReduceSumSquare(d, e)", "return d");
        let moved = scan("", SQUARES, "return d").replace("Identity(s)", "Neg(s)");
        for text in [backward, sums, kept, moved] {
            check(
                &ScanDistance,
                &text,
                expect![[r#"
                (unchanged)
            "#]],
            );
        }
        check(
            &ScanDistance,
            &scan("", SQUARES, "return d").replace("f32[5,3]", "f32[5,1]"),
            expect![[r#"
                (unchanged)
                # scan_distance @ t: the rows may be of different lengths
            "#]],
        );
    }
}
