//! `Log(TfIdfVectorizer(x) + 1)`: what is written for sublinear_tf, which is `log(tf) + 1`.

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::unary::{Function, Unary};
use kiln_ir::{Graph, NodeId, Op};

use super::{Lint, each, source, with_constant};

pub const LINT: Lint = Lint {
    name: "sublinear_tf",
    help: "train with sublinear_tf=False",
    producers: &["skl2onnx"],
    find: |g| each(g, |id| wrong(g, id)),
};

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::Unary(Unary::Function(Function::Log)) = g.op(id) else { return None };
    let sum = g.input_of(id, 0)?.node;
    let Op::Binary(Binary::Add) = g.op(sum) else { return None };
    let (counts, one) = with_constant(g, sum)?;
    let counted = matches!(g.op(source(g, counts).node), Op::TfIdfVectorizer(_));
    (counted && one.iter().all(|&x| x == 1.0))
        .then(|| "terms count log(1 + tf), where sublinear_tf means 1 + log(tf)".to_owned())
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::fired;

    fn counted(one: &str, last: &str) -> String {
        format!(
            "t = TfIdfVectorizer(x: i64[N,4]) {{mode=\"TF\", min_gram_length=1, \
             max_gram_length=1, max_skip_count=0, ngram_counts=[0], ngram_indexes=[0,1], \
             pool_int64s=[5,7]}}\none = f32[1]{{{one}}}\ns = Add(t, one)\ny = {last}(s)\nreturn y"
        )
    }

    #[test]
    fn fires_on_the_logarithm_of_a_count_and_one() {
        assert_eq!(fired(&counted("1.0", "Log")), ["sublinear_tf"]);
    }

    #[test]
    fn declines_other_functions_and_other_inputs() {
        assert!(fired(&counted("1.0", "Sqrt")).is_empty());
        assert!(fired(&counted("2.0", "Log")).is_empty());
        let plain = "one = f32[1]{1.0}\ns = Add(x: f32[N], one)\ny = Log(s)\nreturn y";
        assert!(fired(plain).is_empty());
    }
}
