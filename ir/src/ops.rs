//! The operator families: one file each, with schema rows, inference, definition and tests.

use std::sync::Arc;

use crate::op::{Operator, families};

pub mod activation;
pub mod arg;
pub mod attention;
pub mod batch_norm;
pub mod binary;
pub mod cast;
pub mod causal_conv;
pub mod center_crop_pad;
pub mod col2im;
pub mod compare;
pub mod concat;
pub mod contrib;
pub mod contrib_attention;
pub mod contrib_fused;
pub mod contrib_position;
pub mod contrib_quantized;
pub mod contrib_standard;
pub mod control;
pub mod conv;
pub mod conv_quantized;
pub mod conv_transpose;
pub mod crop_resize;
pub mod cumulative;
pub mod deform_conv;
pub mod dropout;
pub mod einsum;
pub mod encode;
mod expand;
pub mod flex_attention;
pub mod forest;
pub(crate) mod fused;
pub mod gather;
pub mod global_pool;
pub mod grid;
pub mod group_norm;
pub mod image;
pub mod layer_norm;
pub mod layout;
pub mod linalg;
pub mod linear;
pub mod linear_attention;
pub mod losses;
pub mod lrn;
pub mod matmul;
pub mod matmul_quantized;
pub mod max_unpool;
mod mersenne;
pub mod moe;
pub mod murmur_hash;
pub mod neighbours;
pub mod ngram;
pub mod nms;
pub mod optional;
pub mod pad;
pub mod pool;
pub mod preprocess;
pub mod product;
pub mod product_integer;
pub mod qlinear;
pub mod quantize;
mod quantized;
pub mod random;
pub mod range;
mod re2;
mod real;
pub mod rearrange;
pub mod reduce;
pub mod region;
pub mod resize;
pub mod rnn;
pub mod roi;
pub mod rotary;
pub mod scatter;
pub mod scores;
pub mod select;
pub mod sequence;
pub mod sequence_map;
pub mod signal_tables;
pub mod skip_norm;
pub mod slice;
pub mod softmax;
pub mod solve;
pub mod source;
pub mod spectral;
pub mod strings;
pub mod svm;
pub mod tfidf;
pub mod tokenizer;
pub mod topk;
pub mod unary;
pub mod unique;
pub mod variadic;
pub mod vectorize;
pub mod window;

families! {
    source: Input, Const;
    unary: Unary;
    binary: Binary;
    variadic: Variadic;
    compare: Compare;
    select: Select;
    cast: Cast;
    layout: Layout;
    forest: TreeEnsemble, RankForest;
    linear: Linear;
    svm: Svm;
    matmul: MatMul, Gemm;
    product: Product;
    product_integer: IntegerProduct;
    conv: Conv;
    preprocess: Preprocess;
    encode: OneHotEncoder, LabelEncoder;
    vectorize: Vectorize;
    conv_transpose: ConvTranspose;
    deform_conv: DeformConv;
    conv_quantized: ConvInteger, QLinearConv;
    matmul_quantized: MatMulInteger, QLinearMatMul;
    control: If, Loop, Scan;
    region: Region;
    pool: Pool;
    global_pool: GlobalPool;
    max_unpool: MaxUnpool;
    concat: Concat;
    slice: Slice;
    pad: Pad;
    rearrange: Rearrange;
    gather: Gather;
    scatter: Scatter;
    sequence: Sequence;
    sequence_map: SequenceMap;
    optional: Optional;
    batch_norm: BatchNorm;
    layer_norm: LayerNorm;
    skip_norm: SkipNorm;
    group_norm: GroupNorm;
    lrn: Lrn;
    dropout: Dropout;
    rnn: Rnn;
    resize: Resize;
    losses: Loss;
    qlinear: MatMulNBits;
    grid: GridSample, AffineGrid;
    roi: RoiAlign, MaxRoiPool;
    nms: NonMaxSuppression;
    col2im: Col2Im;
    center_crop_pad: CenterCropPad;
    quantize: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear;
    strings: Strings;
    tokenizer: Tokenizer;
    tfidf: TfIdfVectorizer;
    murmur_hash: MurmurHash3;
    image: ImageDecoder;
    reduce: Reduce;
    arg: Arg;
    softmax: Softmax;
    attention: Attention;
    cumulative: Cumulative;
    range: Range;
    topk: TopK;
    unique: Unique, NonZero;
    einsum: Einsum;
    linalg: Linalg;
    neighbours: Neighbours;
    solve: Solve;
    random: Random;
    rotary: RotaryEmbedding;
    linear_attention: LinearAttention;
    causal_conv: CausalConv;
    flex_attention: ;
    contrib: ;
    contrib_attention: ;
    contrib_fused: ;
    contrib_position: ;
    crop_resize: CropAndResize;
    ngram: NGramRepeatBlock;
    moe: MoE;
    contrib_quantized: ;
    contrib_standard: ;
    spectral: Spectral;
    signal_tables: SignalTable;
}

impl Op {
    /// A fused operator as a graph of standard operators with the same inputs and outputs, for
    /// operands of these types; an operand that is left out has an input that nothing reads.
    /// `None` for an operator that is standard itself.
    pub fn expansion(&self, operands: &[Option<&crate::Type>]) -> Option<crate::Graph> {
        match self {
            Op::Conv(conv) => conv.expansion(operands),
            Op::Product(product) => product.expansion(operands).ok(),
            Op::IntegerProduct(product) => product.expansion(operands).ok(),
            Op::RankForest(forest) => forest.expansion(operands).ok(),
            Op::SkipNorm(norm) => norm.expansion(operands).ok(),
            Op::Neighbours(op) => op.expansion(operands).ok(),
            Op::Region(region) => Some((**region.body()).clone()),
            _ => None,
        }
    }
}

/// What the tests of every family use.
#[cfg(test)]
pub(crate) mod testing {
    use kiln_tensor::{Datum, Tensor};

    use crate::{Context, Graph, Result, eval, text};

    /// Runs the text of a graph on tensors.
    pub fn run(graph: &str, inputs: &[Tensor]) -> Result<Vec<Datum>> {
        let g: Graph = text::parse(graph)?;
        crate::verify::verify(&g)?;
        eval::run(&g, &Context::default(), inputs.iter().cloned().map(Datum::Tensor).collect())
    }

    /// Runs the text of a graph on tensors and returns its only output, which must be a tensor.
    pub fn run1(graph: &str, inputs: &[Tensor]) -> Result<Tensor> {
        let out = run(graph, inputs)?;
        assert_eq!(out.len(), 1, "one output expected");
        Ok(out[0].as_tensor()?.clone())
    }

    /// The inferred types of the outputs, as text.
    pub fn types(graph: &str) -> Result<Vec<String>> {
        let g = text::parse(graph)?;
        Ok(g.outputs().iter().map(|(_, v)| g.ty(*v).to_string()).collect())
    }

    /// A tensor of `f32`.
    pub fn t(shape: &[usize], data: &[f32]) -> Tensor {
        Tensor::from_vec(shape, data.to_vec()).expect("lengths agree")
    }

    /// Asserts that two float slices agree within `tol`, NaN with NaN.
    pub fn assert_close(got: &[f32], want: &[f32], tol: f32) {
        assert_eq!(got.len(), want.len(), "{got:?} vs {want:?}");
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            let same = (g.is_nan() && w.is_nan()) || g == w || (g - w).abs() <= tol;
            assert!(same, "element {i}: {g} vs {w}");
        }
    }
}
