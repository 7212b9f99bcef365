//! Elementwise operators of `f32`, alone and in regions: programs on tiles, in place where that
//! is allowed.

use kiln_ir::ops::select::Select;
use kiln_ir::ops::unary::Unary;
use kiln_ir::{Graph, NodeId, Op};

use super::is_f32;
use super::tiles::Program;
use crate::kernel::{BYTES, FLOATS, Kernel, Row, TRUTHS};

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "unary_f32",
        what: "functions of one element, by polynomials where they are common",
        graphs: &[
            "a = Exp(x: f32[3,1000])\nb = Relu(a)\nc = Neg(b)\ny = Tanh(c)\nreturn y",
            "a = Sigmoid(x: f32[5,2,3])\nb = Erf(a)\nc = Gelu(b)\n\
             d = Gelu(c) {approximate=\"tanh\"}\ne = HardSwish(d)\ny = Mish(e)\nreturn y",
            "a = Swish(x: f32[70])\nb = Elu(a)\nc = LeakyRelu(b)\nd = Softplus(c)\ne = Log(d)\n\
             f = Selu(e)\ny = HardSigmoid(f)\nreturn y",
            "a = Sqrt(x: f32[40])\nb = Floor(x)\nc = Sin(b)\nd = Sign(x)\nreturn a, c, d",
        ],
        in_place: true,
        firsts: FLOATS,
        prepare: prepare_unary,
    },
    Row {
        name: "elementwise_f32",
        what: "functions of several elements with broadcasting: tiles in parallel",
        graphs: &[
            "a = Add(x: f32[3,1,5], z: f32[4,1])\nb = Mul(a, a)\nc = Sub(b, x)\n\
             y = Div(c, a)\nreturn y",
            "a = Mul(x: f32[2,3,40,40], s: f32[3,1,1])\nb = Add(a, t: f32[40])\n\
             c = PRelu(b, p: f32[1])\ny = Max(c, x, q: f32[])\nreturn y",
            "a = Where(c: bool[5,1], x: f32[5,2000], z: f32[2000])\nb = Mean(a, x, z)\n\
             y = Min(b, z)\nreturn y",
            "p = f32[]{2.0}\na = Pow(x: f32[30], p)\nb = Sqrt(a)\ny = Pow(b, a)\nreturn y",
            "y = Add(x: f32[0,3], z: f32[3])\nreturn y",
            "a = Add(x: f32[3,4], z: f32[1])\ny = Add(q: f32[], a)\nreturn y",
            "a = Neg(x: f32[3,900])\nb = Sub(a, z: f32[900])\nc = Div(b, x)\ny = Neg(c)\nreturn y",
        ],
        in_place: true,
        firsts: FLOATS,
        prepare: prepare_other,
    },
    Row {
        name: "clip_f32",
        what: "Clip between two bounds: tiles in parallel",
        graphs: &["l = f32[]{-0.5}\nu = f32[]{0.25}\nx: f32[7,3000]\na = Neg(x)\n\
             b = Clip(x, l, u)\nc = Clip(a, l, h: f32[])\ny = Clip(c, _, u)\nreturn y, b"],
        in_place: true,
        firsts: FLOATS,
        prepare: prepare_clip,
    },
    Row {
        name: "quantize_linear",
        what: "QuantizeLinear to bytes and DequantizeLinear of bytes by one constant scale: tiles \
               in parallel",
        graphs: &[
            "s = f32[]{0.01}\nz = u8[]{128}\ny = QuantizeLinear(x: f32[3,700], s, z)\nreturn y",
            "s = f32[1]{0.015}\na = QuantizeLinear(x: f32[20000], s)\n\
             y = DequantizeLinear(a, s)\nreturn y",
            "s = f32[]{0.005}\nz = i8[]{-3}\na = QuantizeLinear(x: f32[3,70], s, z)\n\
             y = DequantizeLinear(a, s, z)\nreturn y, a",
        ],
        in_place: false,
        firsts: BYTES,
        prepare: prepare_quantizer,
    },
    Row {
        name: "compare_f32",
        what: "comparisons, IsNaN and the logic of truth values: tiles in parallel",
        graphs: &[
            "t = f32[1]{0.25}\na = Greater(x: f32[7,300], t)\nb = Less(x, z: f32[300])\n\
             c = Or(a, b)\nd = Not(c)\ne = Xor(d, a)\nf = IsNaN(x)\nreturn e, f",
            "a = LessOrEqual(x: f32[3,4], z: f32[3,1])\nb = GreaterOrEqual(z, x)\n\
             c = Equal(x, x)\nd = And(a, b)\nreturn c, d",
        ],
        in_place: false,
        firsts: TRUTHS,
        prepare: prepare_compare,
    },
    Row {
        name: "region_f32",
        what: "ai.kiln.Region of f32, truth values and bytes between quantizers: a program on \
               tiles that stay in L1",
        graphs: &[
            "x: f32[3,5,700]\nb: f32[700]\ns: f32[5,1]\n\
             y = ai.kiln.Region(x, b, s) {body=graph {\n x: f32[..]\n b: f32[..]\n s: f32[..]\n \
             c = f32[]{0.5}\n t = Add(x, b)\n u = Sigmoid(t)\n v = Mul(t, u)\n w = Mul(v, s)\n \
             y = Sub(w, c)\n return y\n}}\nreturn y",
            "x: f32[4,9]\nz: f32[4,9]\nm: bool[9]\n\
             y, s = ai.kiln.Region(x, z, m) {body=graph {\n x: f32[..]\n z: f32[..]\n \
             m: bool[..]\n \
             s = Add(x, z)\n g = Greater(x, z)\n n = Not(m)\n o = Or(g, n)\n k = Cast(o) {to=1}\n \
             p = Where(m, s, z)\n y = Add(p, k)\n return y, s\n}}\nq = Exp(s)\nreturn y, q",
            "x: u8[3,700]\nv: i8[700]\ny = ai.kiln.Region(x, v) {body=graph {\n x: u8[..]\n \
             v: i8[..]\n s = f32[]{0.3}\n z = u8[]{1}\n t = f32[]{0.25}\n o = i8[]{-2}\n \
             a = DequantizeLinear(x, s, z)\n b = DequantizeLinear(v, s)\n c = Mul(a, b)\n \
             y = QuantizeLinear(c, t, o)\n return y\n}}\nreturn y",
            // A chain through which the operand's own memory serves.
            "a = Neg(x: f32[2,1500])\ny = ai.kiln.Region(a) {body=graph {\n a: f32[..]\n \
             b = Exp(a)\n c = Mul(a, b)\n d = Add(c, b)\n return d\n}}\nz = Neg(y)\nreturn z",
        ],
        in_place: true,
        firsts: BYTES,
        prepare: prepare_region,
    },
];

fn boxed(program: Option<Program>) -> Option<Box<dyn Kernel>> {
    program.map(|p| Box::new(p) as Box<dyn Kernel>)
}

fn prepare_unary(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let unary = matches!(g.op(id), Op::Unary(_)) && is_f32(g, g.input_of(id, 0)?);
    boxed(unary.then(|| Program::of_node(g, id)).flatten())
}

fn prepare_other(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let takes = matches!(g.op(id), Op::Binary(_) | Op::Variadic(_) | Op::Select(Select::Where));
    boxed(takes.then(|| Program::of_node(g, id)).flatten())
}

fn prepare_compare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let logic = matches!(g.op(id), Op::Compare(_) | Op::Unary(Unary::Not | Unary::IsNaN));
    boxed(logic.then(|| Program::of_node(g, id)).flatten())
}

fn prepare_clip(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let clips = matches!(g.op(id), Op::Select(Select::Clip));
    boxed(clips.then(|| Program::of_node(g, id)).flatten())
}

fn prepare_quantizer(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let takes = matches!(g.op(id), Op::QuantizeLinear(_) | Op::DequantizeLinear(_));
    boxed(takes.then(|| Program::of_node(g, id)).flatten())
}

fn prepare_region(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Region(region) = g.op(id) else { return None };
    // Every output has one place for each place of the first.
    let same = g.outputs_of(id).all(|v| g.ty(v) == g.ty(id.first()));
    boxed(same.then(|| Program::of_body(region.body())).flatten())
}
