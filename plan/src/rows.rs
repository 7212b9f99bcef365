//! Whether a graph treats its rows one by one: then it may run on some of them at a time.
//!
//! ```text
//! x [N,50] ─▶ MatMul ─▶ Relu ─▶ ArgMax ─▶ label [N]     row i of a result is made of row i alone
//! ```
//! Decided from the operators' names, of those that are known to keep rows apart, and from the
//! types: the first axis of all that has rows is the symbol `N`, and no other axis holds a symbol,
//! but for lists of tokens on the way to be counted: what they are filled up with does not count.

use std::collections::{HashMap, HashSet};

use kiln_ir::{Dim, Graph, NodeId, Op, Operator, Value};

/// What a row takes in a graph that treats rows one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Whether each input has rows; the others are whole for every row.
    pub inputs: Vec<bool>,
    /// Bytes that lie between operators.
    pub between: usize,
    /// Bytes that the operator reads and writes that has most of both.
    pub widest: usize,
}

/// Operators whose first operand has rows, which stay apart: the others have none.
const OF_FIRST: &[&str] = &[
    "ai.onnx.ml.ArrayFeatureExtractor",
    "ai.onnx.ml.Imputer",
    "ai.onnx.ml.LabelEncoder",
    "ai.onnx.ml.LinearClassifier",
    "ai.onnx.ml.LinearRegressor",
    "ai.onnx.ml.Normalizer",
    "ai.onnx.ml.OneHotEncoder",
    "ai.onnx.ml.Scaler",
    "ai.onnx.ml.SVMClassifier",
    "ai.onnx.ml.SVMRegressor",
    "ai.onnx.ml.TreeEnsemble",
    "ai.onnx.ml.TreeEnsembleClassifier",
    "ai.onnx.ml.TreeEnsembleRegressor",
    "StringNormalizer",
    "TfIdfVectorizer",
    TOKENIZER,
];

/// Makes lists of tokens, all as long as the longest.
const TOKENIZER: &str = "com.microsoft.Tokenizer";

/// The same of operators that merge or reorder the elements of an axis.
const ALONG: &[(&str, i64)] = &[
    ("ArgMax", 0),
    ("ArgMin", 0),
    ("Concat", 0),
    ("LogSoftmax", -1),
    ("LpNormalization", -1),
    ("Softmax", -1),
    ("Split", 0),
    ("TopK", -1),
];

/// Operators that leave the elements in their order: rows stay where the first axis stays.
const IN_ORDER: &[&str] = &["Flatten", "Reshape", "Squeeze", "Unsqueeze"];

/// Products of a matrix of rows and one without.
const PRODUCTS: &[&str] = &["Gemm", "MatMul", "ai.kiln.MatMul"];

/// What a row takes; `None` where rows are not treated one by one.
pub fn rows(g: &Graph) -> Option<Rows> {
    let n = g.inputs().find_map(|v| dims(g, v)?.first().filter(|d| d.as_sym().is_some()))?.clone();
    let mut walk =
        Walk { g, n, of_rows: HashSet::new(), counts: HashSet::new(), tokens: HashMap::new() };
    let mut rows = Rows::default();
    for id in g.order().ok()? {
        walk.node(id)?;
        let reads: usize = g.inputs_of(id).into_iter().flatten().map(|v| walk.bytes(v)).sum();
        let writes: usize = g.outputs_of(id).map(|v| walk.bytes(v)).sum();
        rows.widest = rows.widest.max(reads + writes);
        if !matches!(g.op(id), Op::Input(_)) {
            let stays = |v: &Value| g.is_read(*v) && !g.is_output(*v);
            rows.between += g.outputs_of(id).filter(stays).map(|v| walk.bytes(v)).sum::<usize>();
        }
    }
    rows.inputs = g.inputs().map(|v| walk.of_rows.contains(&v)).collect();
    let all = g.outputs().iter().all(|(_, v)| walk.of_rows.contains(v));
    (all && !g.outputs().is_empty()).then_some(rows)
}

fn dims(g: &Graph, v: Value) -> Option<&[Dim]> {
    g.ty(v).as_tensor().ok()?.shape.as_deref()
}

struct Walk<'a> {
    g: &'a Graph,
    /// The number of rows.
    n: Dim,
    of_rows: HashSet<Value>,
    /// Shapes of what has rows.
    counts: HashSet<Value>,
    /// Lists of tokens, as long as the longest one of all rows, and what fills up the others.
    tokens: HashMap<Value, String>,
}

impl Walk<'_> {
    /// Bytes of a row of a value; 0 of what has no rows.
    fn bytes(&self, v: Value) -> usize {
        let Ok(t) = self.g.ty(v).as_tensor() else { return 0 };
        let shape = t.shape.as_deref().filter(|_| self.of_rows.contains(&v)).unwrap_or(&[]);
        let rest = shape.iter().skip(1).filter_map(Dim::as_len).product::<usize>();
        if shape.is_empty() { 0 } else { rest * t.dtype.size().max(1) }
    }

    /// Takes a node in; `None` where rows would meet.
    fn node(&mut self, id: NodeId) -> Option<()> {
        let g = self.g;
        let inputs = g.inputs_of(id);
        let with_rows = |v: &Option<Value>| v.is_some_and(|v| self.of_rows.contains(&v));
        let counted = inputs.iter().flatten().any(|v| self.counts.contains(v));
        let is_input = matches!(g.op(id), Op::Input(_));
        let is_whole =
            || dims(g, id.first()).is_some_and(|d| d.iter().all(|d| d.as_len().is_some()));
        if is_input && is_whole() || !is_input && !counted && !inputs.iter().any(with_rows) {
            return Some(());
        }
        if g.op(id).name() == "Shape" {
            self.counts.insert(id.first());
            return Some(());
        }
        let fills = g.op(id).name() == "ConstantOfShape";
        (is_input || counted && fills || !counted && self.keeps(id, &inputs)).then_some(())?;
        let padding = self.padding(id);
        for v in g.outputs_of(id).filter(|v| is_input || g.is_read(*v) || g.is_output(*v)) {
            let (first, rest) = dims(g, v)?.split_first()?;
            let ragged = padding.is_some() && rest.len() == 1 && !g.is_output(v);
            let known = rest.iter().all(|d| d.as_len().is_some());
            (*first == self.n && (known || ragged)).then_some(())?;
            self.of_rows.insert(v);
            self.tokens.extend(padding.clone().map(|p| (v, p)));
        }
        Some(())
    }

    /// What the lists of tokens that a node gives are filled up with.
    fn padding(&self, id: NodeId) -> Option<String> {
        let (op, x) = (self.g.op(id), self.g.input_of(id, 0)?);
        match op.name() {
            TOKENIZER => op.attrs().take("pad_value").ok()?,
            name if IN_ORDER.contains(&name) => self.tokens.get(&x).cloned(),
            _ => None,
        }
    }

    /// Whether an operator that reads tokens counts them, or moves them on as they are.
    fn takes_tokens(&self, id: NodeId, padding: &str) -> bool {
        let op = self.g.op(id);
        match op.name() {
            "TfIdfVectorizer" => {
                let pool = op.attrs().take::<Vec<String>>("pool_strings").ok().flatten();
                pool.is_some_and(|pool| pool.iter().all(|token| token != padding))
            }
            name => IN_ORDER.contains(&name),
        }
    }

    /// Whether an operator keeps rows apart; that its results have them is not asked.
    fn keeps(&self, id: NodeId, inputs: &[Option<Value>]) -> bool {
        let (g, op) = (self.g, self.g.op(id));
        let has = |v: Value| self.of_rows.contains(&v);
        let given = || inputs.iter().flatten().copied();
        let only_first = || given().skip(1).all(|v| !has(v));
        let rank = |v: Value| g.ty(v).rank();
        // An operand that broadcasts has its rows along the same axis as the result.
        let aligned = |v: Value| !has(v) || rank(v) == rank(id.first());
        let name = op.name();
        let int = |name: &str| op.attrs().take::<i64>(name).ok().flatten();
        let constant = |i: usize| {
            let v = inputs.get(i).copied().flatten();
            v.is_none_or(|v| g.constant_of(v).is_some())
        };
        let behind_first = |axis: i64| {
            given()
                .filter(|v| has(*v))
                .all(|v| rank(v).is_some_and(|rank| axis > 0 || axis < 0 && axis + rank as i64 > 0))
        };
        if let Some(padding) = given().find_map(|v| self.tokens.get(&v))
            && !self.takes_tokens(id, padding)
        {
            return false;
        }
        if op.traits().elementwise {
            return given().all(aligned);
        }
        if let Some((_, default)) = ALONG.iter().find(|(n, _)| *n == name) {
            let together = name == "Concat" && given().all(has);
            return (together || only_first()) && behind_first(int("axis").unwrap_or(*default));
        }
        if PRODUCTS.contains(&name) {
            let plain =
                int("transA").unwrap_or(0) == 0 && given().take(1).all(|v| rank(v) > Some(1));
            return plain && given().nth(1).is_some_and(|b| !has(b)) && given().all(aligned);
        }
        match name {
            "Gather" if given().take(1).all(has) => {
                only_first() && behind_first(int("axis").unwrap_or(0))
            }
            // Places of rows in a table without any.
            "Gather" => int("axis").unwrap_or(0) == 0,
            "Transpose" => {
                op.attrs().take::<Vec<i64>>("perm").ok().flatten().is_some_and(|p| p[0] == 0)
            }
            _ if IN_ORDER.contains(&name) => only_first() && constant(1),
            // The first axis stays only if it is none of those that an operand lists.
            _ if matches!(op, Op::Reduce(_)) => only_first() && constant(1),
            _ => OF_FIRST.contains(&name) && only_first(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_ir::text;

    use super::*;

    fn of(text: &str) -> Option<Rows> {
        rows(&text::parse(text).expect("parses"))
    }

    /// Counts of words, by lists that `pad` fills up.
    fn tokens(pad: &str, by: &str) -> String {
        format!(
            "s = StringNormalizer(x: str[N]) {{case_change_action=\"LOWER\"}}\n\
             t = com.microsoft.Tokenizer(s) {{mark=0, mincharnum=1, pad_value=\"{pad}\", \
             tokenexp=\"[a-z]+\"}}\nf = {by}\n\
             y = TfIdfVectorizer(f) {{max_gram_length=1, max_skip_count=0, min_gram_length=1, \
             mode=\"TF\", ngram_counts=[0], ngram_indexes=[0,1], pool_strings=[\"a\",\"b\"]}}\n\
             return y"
        )
    }

    #[test]
    fn rows_that_stay_apart_and_what_they_take() {
        let takes = |text: &str| of(text).map(|r| (r.between, r.widest));
        let net = "a = MatMul(x: f32[N,50], w: f32[50,10])\nb = Relu(a)\n\
                   y = ArgMax(b) {axis=1}\nz = Softmax(b)\nreturn y, z";
        assert_eq!(takes(net), Some((80, 240)));
        assert_eq!(of(net).map(|r| r.inputs), Some(vec![true, false]));
        let distances = "s = i64[3]{-1, 1, 4}\na = i64[1]{2}\nr = Reshape(x: f32[N,4], s)\n\
                         d = Sub(r, c: f32[1,10,4])\ny = ReduceSum(d, a)\nreturn y";
        assert_eq!(takes(distances), Some((176, 200)));
        let ones = "s = Shape(x: f32[N,4])\nc = ConstantOfShape(s) {value=f32[1]{1.0}}\n\
                    y = Concat(c, x) {axis=1}\nreturn y";
        assert_eq!(takes(ones), Some((16, 64)));
        let labels = "t = i64[3]{7, 8, 9}\ni = ArgMax(x: f32[N,3]) {axis=1, keepdims=0}\n\
                      y = Gather(t, i)\nreturn y";
        assert_eq!(takes(labels), Some((8, 20)));
        assert!(of(&tokens("#", "Flatten(t)")).is_some());
    }

    #[test]
    fn lists_that_are_as_long_as_the_longest() {
        // What fills them up is counted; or is seen by another operator.
        assert_eq!(of(&tokens("a", "Flatten(t)")), None);
        assert_eq!(of(&tokens("#", "Concat(t, t) {axis=1}")), None);
        assert_eq!(of(&tokens("#", "Flatten(t)").replace("return y", "return y, t")), None);
    }

    #[test]
    fn rows_that_meet() {
        for text in [
            "y = Softmax(x: f32[N,4]) {axis=0}\nreturn y",
            "y = Softmax(x: f32[N]) {axis=-1}\nreturn y",
            "y = CumSum(x: f32[N,4], i: i64[])\nreturn y",
            "y = ReduceSum(x: f32[N,4])\nreturn y",
            "a = i64[1]{0}\nm = ReduceMax(x: f32[N,4], a)\ny = Sub(x, m)\nreturn y",
            "y = MatMul(w: f32[4,N], x: f32[N,4])\nreturn y",
            "y = Gemm(x: f32[N,4], w: f32[4,2]) {transA=1}\nreturn y",
            "t = Transpose(x: f32[N,4])\ny = MatMul(x, t)\nreturn y",
            "y = Add(x: f32[N,4], z: f32[N])\nreturn y",
            "y = Add(x: f32[N,1], z: f32[M,4])\nreturn y",
            "y = Concat(x: f32[N,4], x) {axis=0}\nreturn y",
            "s = Shape(x: f32[N,4])\ny = Add(s, s)\nreturn y",
            "s = i64[2]{4, -1}\ny = Reshape(x: f32[N,4], s)\nreturn y",
            "y = Relu(x: f32[3,4])\nreturn y",
            "c = f32[1]{1.0}\ny = Add(x: f32[N,3], x)\nreturn y, c",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
