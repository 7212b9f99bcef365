//! What a table's columns go through before a model reads them.

use kiln_ir::ops::preprocess::Preprocess;
use kiln_ir::{Attrs, Edit, Graph, Op, Operator, Source, Value};
use kiln_tensor::DType;

use crate::forms::per_channel;
use crate::weights::Affine;

/// A table made from another one.
pub(crate) struct Made<F> {
    /// What happens to each column.
    pub each: F,
    /// What the table is made from: one, or several side by side.
    parts: Vec<Value>,
    /// The axis that they stand side by side along.
    axis: i64,
    /// What is no longer needed.
    absorbed: Vec<Value>,
}

impl<F> Made<F> {
    /// The table before.
    pub fn source(&self, e: &mut Edit) -> Source {
        self.absorbed.iter().for_each(|&v| e.absorb(v));
        let parts: Vec<_> = self.parts.iter().map(|&v| Some(Source::from(v))).collect();
        match &self.parts[..] {
            [one] => (*one).into(),
            _ => e.call("Concat", &parts, kiln_ir::Attrs::default().with("axis", self.axis)),
        }
    }

    /// The element type of the table before.
    pub fn dtype(&self, g: &Graph) -> Option<DType> {
        g.ty(self.parts[0]).as_tensor().ok().map(|t| t.dtype)
    }
}

/// Tables side by side; a single one as it is.
pub(crate) fn side_by_side(e: &mut Edit, tables: &[Option<Source>]) -> Source {
    match *tables {
        [Some(one)] => one,
        _ => e.call("Concat", tables, Attrs::default().with("axis", 1i64)),
    }
}

/// The element type and the number of columns of a matrix.
pub(crate) fn matrix(g: &Graph, v: Value) -> Option<(DType, usize)> {
    let t = g.ty(v).as_tensor().ok()?;
    match t.shape.as_deref()? {
        [_, columns] => Some((t.dtype, columns.as_len()?)),
        _ => None,
    }
}

/// How a part of a table is made: from where, and what happens to each column.
type Step<'a, F> = &'a dyn Fn(&Graph, Value, usize) -> Option<(Value, F)>;

/// How the table `v` is made by `step`, as a whole or, where parts stand side by side, a part of
/// it; `join` is told what happens to the columns of each part, if anything, and their number.
pub(crate) fn made<F>(
    g: &Graph,
    v: Value,
    step: Step<'_, F>,
    join: impl Fn(Vec<(Option<F>, usize)>) -> F,
) -> Option<Made<F>> {
    let (_, columns) = matrix(g, v)?;
    if let Some((x, each)) = step(g, v, columns) {
        return Some(Made { each, parts: vec![x], axis: 1, absorbed: vec![v] });
    }
    if g.op(v.node).name() != "Concat" {
        return None;
    }
    let axis = crate::forms::attr_int(g, v.node, "axis")?;
    if axis != 1 && axis != -1 {
        return None;
    }
    let (mut parts, mut absorbed, mut steps) = (vec![], vec![v], vec![]);
    for part in g.inputs_of(v.node).into_iter().flatten() {
        let (dtype, columns) = matrix(g, part)?;
        let found =
            step(g, part, columns).filter(|(x, _)| matrix(g, *x).is_some_and(|(d, _)| d == dtype));
        parts.push(found.as_ref().map_or(part, |(x, _)| *x));
        absorbed.extend(found.as_ref().map(|_| part));
        steps.push((found.map(|(_, each)| each), columns));
    }
    (absorbed.len() > 1).then(|| Made { each: join(steps), parts, axis, absorbed })
}

/// A table whose columns are multiplied and moved.
pub(crate) fn affine_before(g: &Graph, v: Value) -> Option<Made<Affine>> {
    made(g, v, &affine_step, |parts| {
        let mut all = Affine { factor: vec![], shift: vec![] };
        for (affine, n) in parts {
            let affine = affine.unwrap_or(Affine { factor: vec![1.0; n], shift: vec![0.0; n] });
            all.factor.extend(affine.factor);
            all.shift.extend(affine.shift);
        }
        all
    })
}

/// One node that multiplies or moves columns.
fn affine_step(g: &Graph, v: Value, columns: usize) -> Option<(Value, Affine)> {
    if let Op::Preprocess(Preprocess::Scaler(s)) = g.op(v.node) {
        let x = g.input_of(v.node, 0)?;
        matrix(g, x)?;
        let (offset, factor) = (spread(&s.offset, 0.0, columns)?, spread(&s.scale, 1.0, columns)?);
        let shift = offset.iter().zip(&factor).map(|(o, f)| -o * f).collect();
        return Some((x, Affine { factor, shift }));
    }
    let name = g.op(v.node).name();
    if !matches!(name, "Add" | "Sub" | "Mul" | "Div") {
        return None;
    }
    let [a, b] = [g.input_of(v.node, 0)?, g.input_of(v.node, 1)?];
    let turned = g.constant_of(a).is_some();
    let (x, c) = if turned { (b, a) } else { (a, b) };
    // The constant must not stretch the table.
    let (dtype, _) = matrix(g, x).filter(|m| m.1 == columns)?;
    if !matches!(dtype, DType::F32 | DType::F64) {
        return None;
    }
    let c = per_channel(g.constant_of(c)?, columns, 1, 2)?;
    let (ones, zeros) = (vec![1.0; columns], vec![0.0; columns]);
    let affine = match name {
        "Add" => Affine { factor: ones, shift: c },
        "Mul" => Affine { factor: c, shift: zeros },
        "Sub" if turned => Affine { factor: vec![-1.0; columns], shift: c },
        "Sub" => Affine { factor: ones, shift: c.iter().map(|x| -x).collect() },
        _ if turned => return None,
        _ => Affine { factor: c.iter().map(|x| 1.0 / x).collect(), shift: zeros },
    };
    Some((x, affine))
}

/// A list of one per column, of one for all, or of none.
pub(crate) fn spread(list: &[f32], none: f32, columns: usize) -> Option<Vec<f64>> {
    let list: Vec<f64> = list.iter().copied().map(f64::from).collect();
    match list.len() {
        0 => Some(vec![none.into(); columns]),
        1 => Some(vec![list[0]; columns]),
        n => (n == columns).then_some(list),
    }
}
