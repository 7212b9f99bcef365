//! The wrong rewrites: name, what is looked for, what is done, and a graph that has it.

use kiln_ir::Attr;

/// What a wrong rewrite does to the node that it finds.
pub(super) enum Change {
    /// Its first two operands change places.
    Swap,
    /// It becomes another operator.
    Op(&'static str),
    /// An attribute changes.
    Attr(&'static str, fn() -> Attr),
    /// An operand is left out.
    Drop(usize),
    /// An operand becomes these integers.
    Ints(usize, &'static [i64]),
    /// An operand becomes this number.
    Number(usize, f32),
    /// An operand becomes the value of this name.
    Reread(usize, &'static str),
    /// It goes, and the value of this name takes its place.
    To(&'static str),
    /// It becomes zeros.
    Zero,
}

use Change::{Attr as A, Drop, Ints, Number, Op, Reread, Swap, To, Zero};

type Row = (&'static str, &'static str, Change, &'static str);

const fn int<const N: i64>() -> fn() -> Attr {
    || Attr::Int(N)
}

fn text(s: &str) -> Attr {
    Attr::String(s.to_owned())
}

pub(super) const PLANTED: &[Row] = &[
    ("sub swapped", "Sub(a, b)", Swap, "y = Sub(a: f32[N,3], b: f32[N,3])\nreturn y"),
    ("div swapped", "Div(a, b)", Swap, "y = Div(a: f32[N,3], b: f32[N,3])\nreturn y"),
    ("pow swapped", "Pow(a, b)", Swap, "p = Abs(x: f32[N])\ny = Pow(p, b: f32[N])\nreturn y"),
    ("matmul swapped", "MatMul(a, b)", Swap, "y = MatMul(a: f32[3,3], b: f32[3,3])\nreturn y"),
    ("less swapped", "Less(a, b)", Swap, "y = Less(a: f32[N], b: f32[N])\nreturn y"),
    (
        "concat swapped",
        "Concat(a, b)",
        Swap,
        "y = Concat(a: f32[N,2], b: f32[N,2]) {axis=1}\nreturn y",
    ),
    ("add to sub", "Add(a, b)", Op("Sub"), "y = Add(a: f32[N,3], b: f32[3])\nreturn y"),
    ("mul to add", "Mul(a, b)", Op("Add"), "y = Mul(a: f32[N,3], b: f32[3])\nreturn y"),
    ("max to min", "Max(a, b)", Op("Min"), "y = Max(a: f32[N], b: f32[N])\nreturn y"),
    ("and to or", "And(a, b)", Op("Or"), "y = And(a: bool[8], b: bool[8])\nreturn y"),
    ("floor to round", "Floor(x)", Op("Round"), "y = Floor(x: f32[N,4])\nreturn y"),
    ("round to ceil", "Round(x)", Op("Ceil"), "y = Round(x: f32[N,4])\nreturn y"),
    (
        "sum to mean",
        "ReduceSum(x, _)",
        Op("ReduceMean"),
        "a = i64[1]{1}\ny = ReduceSum(x: f32[N,3], a)\nreturn y",
    ),
    (
        "max to sum",
        "ReduceMax(x, _)",
        Op("ReduceSum"),
        "a = i64[1]{1}\ny = ReduceMax(x: f32[N,3], a)\nreturn y",
    ),
    (
        "l2 to l1",
        "ReduceL2(x, _)",
        Op("ReduceL1"),
        "a = i64[1]{1}\ny = ReduceL2(x: f32[N,3], a)\nreturn y",
    ),
    ("argmax to argmin", "ArgMax(x)", Op("ArgMin"), "y = ArgMax(x: f32[N,5]) {axis=1}\nreturn y"),
    ("sigmoid hardened", "Sigmoid(x)", Op("HardSigmoid"), "y = Sigmoid(x: f32[N,3])\nreturn y"),
    ("tanh to softsign", "Tanh(x)", Op("Softsign"), "y = Tanh(x: f32[N,3])\nreturn y"),
    (
        "less to less or equal",
        "Less(a, b)",
        Op("LessOrEqual"),
        "y = Less(a: i64[9], b: i64[9])\nreturn y",
    ),
    (
        "gelu by tanh",
        "Gelu(x)",
        A("approximate", || text("tanh")),
        "y = Gelu(x: f32[N,8])\nreturn y",
    ),
    (
        "leaky slope",
        "LeakyRelu(x)",
        A("alpha", || Attr::Float(0.011)),
        "y = LeakyRelu(x: f32[N,8])\nreturn y",
    ),
    ("elu factor", "Elu(x)", A("alpha", || Attr::Float(0.9)), "y = Elu(x: f32[N,8])\nreturn y"),
    (
        "softmax axis",
        "Softmax(x)",
        A("axis", int::<0>()),
        "y = Softmax(x: f32[3,3]) {axis=1}\nreturn y",
    ),
    (
        "transpose order",
        "Transpose(x)",
        A("perm", || Attr::Ints(vec![1, 0, 2])),
        "y = Transpose(x: f32[3,3,3]) {perm=[0,2,1]}\nreturn y",
    ),
    (
        "cumsum exclusive",
        "CumSum(x, _)",
        A("exclusive", int::<1>()),
        "a = i64[]{0}\ny = CumSum(x: f32[4,N], a)\nreturn y",
    ),
    (
        "cumsum reversed",
        "CumSum(x, _)",
        A("reverse", int::<1>()),
        "a = i64[]{0}\ny = CumSum(x: f32[4,N], a)\nreturn y",
    ),
    (
        "argmax of last",
        "ArgMax(x)",
        A("select_last_index", int::<1>()),
        "s = Sign(x: f32[N,6])\ny = ArgMax(s) {axis=1}\nreturn y",
    ),
    (
        "mod of C",
        "Mod(a, b)",
        A("fmod", int::<1>()),
        "three = i64[]{3}\none = i64[]{2}\nd = Sub(a: i64[9], one)\ny = Mod(d, three)\nreturn y",
    ),
    (
        "gemm transposed",
        "Gemm(a, b)",
        A("transB", int::<1>()),
        "y = Gemm(a: f32[3,3], b: f32[3,3])\nreturn y",
    ),
    (
        "gemm factor",
        "Gemm(a, b)",
        A("alpha", || Attr::Float(1.0)),
        "y = Gemm(a: f32[2,3], b: f32[3,3]) {alpha=0.5}\nreturn y",
    ),
    (
        "gemm factor of c",
        "Gemm(a, b, c)",
        A("beta", || Attr::Float(1.0)),
        "y = Gemm(a: f32[2,3], b: f32[3,3], c: f32[3]) {beta=2.0}\nreturn y",
    ),
    (
        "conv pads shifted",
        "Conv(x, w)",
        A("pads", || Attr::Ints(vec![0, 0, 2, 2])),
        "y = Conv(x: f32[N,2,5,5], w: f32[3,2,3,3]) {pads=[1,1,1,1]}\nreturn y",
    ),
    (
        "conv pads lower",
        "Conv(x, w)",
        A("auto_pad", || text("SAME_LOWER")),
        "y = Conv(x: f32[N,2,5,5], w: f32[3,2,2,2]) {auto_pad=\"SAME_UPPER\"}\nreturn y",
    ),
    (
        "pool counts pads",
        "AveragePool(x)",
        A("count_include_pad", int::<1>()),
        "y = AveragePool(x: f32[N,2,5,5]) {kernel_shape=[3,3],pads=[1,1,1,1]}\nreturn y",
    ),
    (
        "norm epsilon",
        "LayerNormalization(x, s, b)",
        A("epsilon", || Attr::Float(1e-5)),
        "y = LayerNormalization(x: f32[N,6], s: f32[6], b: f32[6]) {epsilon=0.01}\nreturn y",
    ),
    (
        "depth order",
        "DepthToSpace(x)",
        A("mode", || text("CRD")),
        "y = DepthToSpace(x: f32[N,8,2,2]) {blocksize=2}\nreturn y",
    ),
    (
        "pad mode",
        "Pad(x, _)",
        A("mode", || text("edge")),
        "p = i64[4]{0,1,0,1}\ny = Pad(x: f32[N,3], p)\nreturn y",
    ),
    (
        "conv bias dropped",
        "Conv(x, w, b)",
        Drop(2),
        "y = Conv(x: f32[N,2,5,5], w: f32[3,2,3,3], b: f32[3])\nreturn y",
    ),
    (
        "gemm bias dropped",
        "Gemm(a, b, c)",
        Drop(2),
        "y = Gemm(a: f32[N,3], b: f32[3,4], c: f32[4])\nreturn y",
    ),
    (
        "norm bias dropped",
        "LayerNormalization(x, s, b)",
        Drop(2),
        "y = LayerNormalization(x: f32[N,6], s: f32[6], b: f32[6])\nreturn y",
    ),
    (
        "upper bound dropped",
        "Clip(x, _, _)",
        Drop(2),
        "l = f32[]{-0.25}\nh = f32[]{0.25}\ny = Clip(x: f32[N,8], l, h)\nreturn y",
    ),
    (
        "pad value dropped",
        "Pad(x, _, _)",
        Drop(2),
        "p = i64[4]{0,1,0,1}\nv = f32[]{0.5}\ny = Pad(x: f32[N,3], p, v)\nreturn y",
    ),
    (
        "slice off by one",
        "Slice(x, ..)",
        Ints(1, &[1]),
        "s = i64[1]{0}\ne = i64[1]{9}\na = i64[1]{1}\nt = i64[1]{2}\n\
         y = Slice(x: f32[N,6], s, e, a, t)\nreturn y",
    ),
    (
        "slice shorter",
        "Slice(x, ..)",
        Ints(1, &[1]),
        "s = i64[1]{0}\ne = i64[1]{9}\na = i64[1]{1}\ny = Slice(x: f32[N,6], s, e, a)\nreturn y",
    ),
    (
        "gather off by one",
        "Gather(x, _)",
        Ints(1, &[1, 2]),
        "i = i64[2]{0,1}\ny = Gather(x: f32[4,N], i)\nreturn y",
    ),
    (
        "unsqueeze axis",
        "Unsqueeze(x, _)",
        Ints(1, &[0]),
        "a = i64[1]{1}\nu = Unsqueeze(x: f32[3], a)\ny = Add(u, z: f32[3,3])\nreturn y",
    ),
    (
        "reduced axis",
        "ReduceSum(x, _)",
        Ints(1, &[0]),
        "a = i64[1]{1}\ny = ReduceSum(x: f32[3,3], a) {keepdims=0}\nreturn y",
    ),
    (
        "factor rounded",
        "Mul(x, $c)",
        Number(1, 0.7),
        "c = f32[]{0.70710677}\ny = Mul(x: f32[N,4], c)\nreturn y",
    ),
    ("exponent", "Pow(x, $c)", Number(1, 2.0), "c = f32[]{3.0}\ny = Pow(x: f32[N,4], c)\nreturn y"),
    (
        "where turned",
        "Where(c, a, b)",
        Reread(1, "b"),
        "y = Where(c: bool[N,3], a: f32[N,3], b: f32[N,3])\nreturn y",
    ),
    (
        "small addend dropped",
        "Add(x, $c)",
        To("x"),
        "c = f32[]{0.001}\ny = Add(x: f32[N,4], c)\nreturn y",
    ),
    (
        "added zero dropped",
        "Add(x, $c)",
        To("x"),
        "c = f32[]{0.0}\ny = Add(x: f32[N,8], c)\nreturn y",
    ),
    ("relu dropped", "Relu(x)", To("x"), "y = Relu(x: f32[N,4])\nreturn y"),
    (
        "cast dropped",
        "Cast(Cast(x))",
        To("x"),
        "i = Cast(x: f32[N,4]) {to=6}\ny = Cast(i) {to=1}\nreturn y",
    ),
    (
        "half dropped",
        "Cast(Cast(x))",
        To("x"),
        "i = Cast(x: f32[N,4]) {to=10}\ny = Cast(i) {to=1}\nreturn y",
    ),
    (
        "square transposed",
        "Transpose(x)",
        To("x"),
        "y = Transpose(x: f32[3,3]) {perm=[1,0]}\nreturn y",
    ),
    (
        "clip forgotten",
        "Clip(x, _, _)",
        To("x"),
        "l = f32[]{0.0}\nh = f32[]{6.0}\ny = Clip(x: f32[N,8], l, h)\nreturn y",
    ),
    ("difference is zero", "Sub(a, a)", Zero, "y = Sub(a: f32[4,8], a)\nreturn y"),
    ("product with zero", "Mul(x, 0)", Zero, "c = f32[]{0.0}\ny = Mul(x: f32[4,8], c)\nreturn y"),
    (
        "split swapped",
        "Sub(Split#0(x), Split#1(x))",
        Swap,
        "a, b = Split(x: f32[N,6]) {axis=1,num_outputs=2}\ny = Sub(a, b)\nreturn y",
    ),
    ("lost residual", "Add(a, Relu(a))", To("a"), "r = Relu(x: f32[N,4])\ny = Add(x, r)\nreturn y"),
];
