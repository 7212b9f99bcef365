//! Tables with columns that are one-hot encoded.

use kiln_ir::{Attr, Attrs, Decline, Edit, Graph, Operator, Source, Value};
use kiln_tensor::{DType, Tensor};

use crate::columns::matrix;
use crate::forms::{attr_int, dims};

/// A column of labels of which each becomes a one among zeros; an unknown one, zeros.
pub(crate) struct Encoder {
    labels: Value,
    /// The labels that have a column each; of equal ones, the last has it.
    categories: Tensor,
}

impl Encoder {
    /// How many columns it fills.
    pub fn columns(&self) -> usize {
        self.categories.len()
    }

    /// A column of the number that each label stands for.
    pub fn lookup(&self, e: &mut Edit, numbers: Vec<f32>, unknown: f32) -> Source {
        let attrs = Attrs::default()
            .with("keys_tensor", self.categories.clone())
            .with("values_tensor", Tensor::vector(numbers))
            .with("default_tensor", Tensor::vector(vec![unknown]));
        e.call("ai.onnx.ml.LabelEncoder", &[Some(self.labels.into())], attrs)
    }
}

/// Columns of a table that come from one value.
pub(crate) struct Part {
    /// The value.
    pub value: Value,
    /// How many columns it has.
    pub columns: usize,
    /// The encoders that fill them, side by side; none where they are other numbers.
    pub encoders: Vec<Encoder>,
    absorbed: Vec<Value>,
}

impl Part {
    /// Its encoders are no longer needed.
    pub fn absorb(&self, e: &mut Edit) {
        self.absorbed.iter().for_each(|v| e.absorb(*v));
    }
}

/// The parts of the table `v`, at least one of which is encoded; `None` where none is.
///
/// Declines where one is, but in a way that no look-up follows.
pub(crate) fn parts(g: &Graph, v: Value) -> Result<Option<Vec<Part>>, Decline> {
    let axis = attr_int(g, v.node, "axis").filter(|_| g.op(v.node).name() == "Concat");
    let values: Vec<Value> = match axis {
        Some(1 | -1) => g.inputs_of(v.node).into_iter().flatten().collect(),
        _ => vec![v],
    };
    let (mut parts, mut refused) = (vec![], None);
    for value in values {
        let Some((_, columns)) = matrix(g, value) else { return Ok(None) };
        let (encoders, mut absorbed) = match encoders(g, value) {
            Some(Ok(found)) => found,
            other => {
                refused = other.and_then(Result::err).or(refused);
                (vec![], vec![])
            }
        };
        absorbed.extend((axis.is_some() && !encoders.is_empty()).then_some(v));
        parts.push(Part { value, columns, encoders, absorbed });
    }
    match (parts.iter().any(|p| !p.encoders.is_empty()), refused) {
        (true, _) => Ok(Some(parts)),
        (false, Some(decline)) => Err(decline),
        (false, None) => Ok(None),
    }
}

/// Tables side by side, where there are several.
pub(crate) fn joined(e: &mut Edit, tables: &[Source]) -> Source {
    match *tables {
        [one] => one,
        _ => {
            let tables: Vec<_> = tables.iter().copied().map(Some).collect();
            e.call("Concat", &tables, Attrs::default().with("axis", 1i64))
        }
    }
}

/// Encoders, and what lies between them and the table.
type Found = (Vec<Encoder>, Vec<Value>);

/// The encoders whose vectors of each row, side by side, became a table by a change of shape: as
/// exporters write it.
fn encoders(g: &Graph, v: Value) -> Option<Result<Found, Decline>> {
    if !matches!(g.op(v.node).name(), "Reshape" | "Flatten" | "Squeeze") {
        return None;
    }
    let inner = g.input_of(v.node, 0)?;
    let [_, one, columns] = dims(g, inner)? else { return None };
    if one.as_len() != Some(1) || columns.as_len() != Some(matrix(g, v)?.1) {
        return None;
    }
    let mut absorbed = vec![v, inner];
    let mut all = vec![inner];
    if g.op(inner.node).name() == "Concat" {
        attr_int(g, inner.node, "axis").filter(|axis| matches!(axis, 2 | -1))?;
        all = g.inputs_of(inner.node).into_iter().flatten().collect();
        absorbed.extend(&all);
    }
    let all: Option<Vec<_>> = all.into_iter().map(|v| encoder(g, v)).collect();
    Some(all?.into_iter().collect::<Result<_, _>>().map(|all| (all, absorbed)))
}

fn encoder(g: &Graph, v: Value) -> Option<Result<Encoder, Decline>> {
    if g.op(v.node).name() != "ai.onnx.ml.OneHotEncoder" {
        return None;
    }
    let labels = g.input_of(v.node, 0)?;
    let (dtype, _) = matrix(g, labels).filter(|m| m.1 == 1)?;
    let attrs = g.op(v.node).attrs();
    if attrs.has("zeros") {
        return Some(Err(Decline::new("an unknown category is an error")
            .advise("export the encoder so that it ignores unknown categories")));
    }
    let categories = match (dtype, attrs.get("cats_strings"), attrs.get("cats_int64s")) {
        (DType::String, Some(Attr::Strings(s)), _) => Tensor::from_strings(&[s.len()], s.clone()),
        (DType::I64, _, Some(Attr::Ints(i))) => Ok(Tensor::vector(i.clone())),
        _ => return Some(Err(Decline::new("only texts and 64-bit integers are looked up"))),
    };
    Some(Ok(Encoder { labels, categories: categories.ok()? }))
}
