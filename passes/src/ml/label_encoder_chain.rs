//! Looks a label up once instead of twice.
//!
//! ```text
//! a = ai.onnx.ml.LabelEncoder(x) {keys_strings=["u", "v"], values_int64s=[0, 1]}
//! y = ai.onnx.ml.LabelEncoder(a) {keys_int64s=[0, 1], values_floats=[0.5, 2.0]}
//!    =>   y = ai.onnx.ml.LabelEncoder(x) {keys_strings=["u", "v"], values_floats=[0.5, 2.0]}
//! ```
//!
//! Saves one of two searches for each label. Exact: the second table is applied to what the first
//! one gives, its default included.

use kiln_ir::ops::encode::LabelEncoder;
use kiln_ir::{Context, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Verdict};
use kiln_tensor::{Datum, Tensor};

/// See the module.
pub struct LabelEncoderChain;

impl Rewrite for LabelEncoderChain {
    fn name(&self) -> &'static str {
        "label_encoder_chain"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::LabelEncoder(outer) = g.op(root) else { return Ok(None) };
        let Some(middle) = g.input_of(root, 0) else { return Ok(None) };
        let Op::LabelEncoder(inner) = g.op(middle.node) else { return Ok(None) };
        let Some(x) = g.input_of(middle.node, 0) else { return Ok(None) };
        let (mut attrs, of) = (inner.attrs(), inner.attrs());
        for name in ["values_tensor", "default_tensor"] {
            let old = of.clone().take::<Tensor>(name).ok().flatten();
            let Some(new) = old.and_then(|t| applied(outer, t)) else { return Ok(None) };
            attrs = attrs.with(name, new);
        }
        let mut e = Edit::default();
        let y = e.call("ai.onnx.ml.LabelEncoder", &[Some(Source::from(x))], attrs);
        e.replace(root.first(), y);
        e.absorb(middle);
        Ok(Some(e))
    }
}

/// What the table gives for each of the labels.
fn applied(table: &LabelEncoder, labels: Tensor) -> Option<Tensor> {
    let labels = Datum::Tensor(labels);
    let mut y = table.eval(&Context::default(), &[Some(&labels)]).ok()?;
    match y.pop()? {
        Datum::Tensor(t) => Some(t),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn tables_are_joined_with_their_defaults() {
        check(
            &LabelEncoderChain,
            "a = ai.onnx.ml.LabelEncoder(x: str[N]) {keys_strings=[\"u\",\"v\",\"w\"], \
             values_int64s=[0,1,7], default_int64=1}\n\
             y = ai.onnx.ml.LabelEncoder(a) {keys_int64s=[0,1], values_floats=[0.5,2.0], \
             default_float=-1.0}\nreturn y",
            expect![[r#"
                x: str[N]
                y = ai.onnx.ml.LabelEncoder(x) {default_tensor=f32[1]{2.0}, keys_tensor=str[3]{"u",
                    "v", "w"}, values_tensor=f32[3]{0.5, 2.0, -1.0}}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_labels_that_others_read() {
        check(
            &LabelEncoderChain,
            "a = ai.onnx.ml.LabelEncoder(x: i64[N]) {keys_int64s=[1], values_int64s=[2]}\n\
             y = ai.onnx.ml.LabelEncoder(a) {keys_int64s=[2], values_int64s=[3]}\nreturn a, y",
            expect![[r#"
                (unchanged)
                # label_encoder_chain @ y: an inner value is an output of the graph
            "#]],
        );
    }
}
