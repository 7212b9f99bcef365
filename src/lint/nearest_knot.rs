//! `p = ys[ArgMin(Abs(x - xs))]`: a calibration curve is read at its nearest knot, where it
//! should be interpolated.

use kiln_ir::ops::arg::Arg;
use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::unary::Unary;
use kiln_ir::{Graph, NodeId, Op};

use super::{Lint, each, input, numbers, with_constant};

pub const LINT: Lint = Lint {
    name: "nearest_knot",
    help: "train CalibratedClassifierCV with method=\"sigmoid\"",
    producers: &[],
    find: |g| each(g, |id| wrong(g, id)),
};

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::Arg(Arg::Min(_)) = g.op(id) else { return None };
    let Op::Unary(Unary::Abs) = input(g, id, 0)? else { return None };
    let difference = g.input_of(g.input_of(id, 0)?.node, 0)?.node;
    let Op::Binary(Binary::Sub) = g.op(difference) else { return None };
    let (_, xs) = with_constant(g, difference)?;
    let ys = g
        .readers(id.first())
        .find_map(|(by, i)| if i == 1 { numbers(g, g.input_of(by, 0)) } else { None })?;
    let is_curve = xs.len() > 2
        && xs.len() == ys.len()
        && xs.is_sorted()
        && ys.is_sorted()
        && ys.iter().all(|y| (0.0..=1.0).contains(y));
    is_curve.then(|| format!("a calibration curve of {} knots is not interpolated", xs.len()))
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::fired;

    fn curve(ys: &str) -> String {
        format!(
            "xs = f32[3]{{-1.0, 0.0, 2.0}}\nys = f32[3]{{{ys}}}\nd = Sub(x: f32[N,1], xs)\n\
             a = Abs(d)\ni = ArgMin(a) {{axis=1, keepdims=0}}\ny = Gather(ys, i)\nreturn y"
        )
    }

    #[test]
    fn fires_on_calibration_curves() {
        assert_eq!(fired(&curve("0.0, 0.25, 1.0")), ["nearest_knot"]);
    }

    #[test]
    fn declines_other_tables() {
        assert!(fired(&curve("-1.0, 0.0, 2.0")).is_empty());
        assert!(fired(&curve("0.5, 0.25, 1.0")).is_empty());
        assert!(fired(&curve("0.0, 0.25, 1.0").replace("ArgMin", "ArgMax")).is_empty());
    }
}
