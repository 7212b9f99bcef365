//! A writer of ONNX files that lets every mistake through.
//!
//! It shares nothing with kiln's own decoder, so that one cannot hide the other's faults.

pub const F32: u64 = 1;
pub const I64: u64 = 7;
pub const STRING: u64 = 8;

/// A protobuf message, field by field.
#[derive(Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    pub fn int(mut self, field: u64, n: u64) -> Self {
        self.varint(field << 3);
        self.varint(n);
        self
    }

    pub fn float(mut self, field: u64, x: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(x.to_le_bytes());
        self
    }

    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    /// Integers packed into one field.
    pub fn packed(self, field: u64, ints: &[i64]) -> Self {
        let mut all = Message::default();
        ints.iter().for_each(|&n| all.varint(n as u64));
        self.message(field, &all)
    }

    fn packed_floats(self, field: u64, floats: &[f32]) -> Self {
        let all: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.bytes(field, &all)
    }
}

/// A TensorProto without data.
pub fn bare(dtype: u64, dims: &[i64]) -> Message {
    Message::default().packed(1, dims).int(2, dtype)
}

/// A TensorProto with raw data, whatever its length.
pub fn raw(dtype: u64, dims: &[i64], data: &[u8]) -> Message {
    bare(dtype, dims).bytes(9, data)
}

pub fn i64s(values: &[i64]) -> Message {
    bare(I64, &[values.len() as i64]).packed(7, values)
}

pub fn i64_scalar(value: i64) -> Message {
    bare(I64, &[]).packed(7, &[value])
}

pub fn f32s(dims: &[i64], values: &[f32]) -> Message {
    bare(F32, dims).packed_floats(4, values)
}

pub fn strings(texts: &[&[u8]]) -> Message {
    texts.iter().fold(bare(STRING, &[texts.len() as i64]), |m, t| m.bytes(6, t))
}

pub fn bools(values: &[i64]) -> Message {
    bare(9, &[values.len() as i64]).packed(5, values)
}

fn attribute(name: &str, kind: u64, fill: impl FnOnce(Message) -> Message) -> Message {
    fill(Message::default().text(1, name)).int(20, kind)
}

pub fn int(name: &str, n: i64) -> Message {
    attribute(name, 2, |m| m.int(3, n as u64))
}

pub fn ints(name: &str, ints: &[i64]) -> Message {
    attribute(name, 7, |m| m.packed(8, ints))
}

pub fn float(name: &str, x: f32) -> Message {
    attribute(name, 1, |m| m.float(2, x))
}

pub fn floats(name: &str, floats: &[f32]) -> Message {
    attribute(name, 6, |m| m.packed_floats(7, floats))
}

pub fn text(name: &str, text: &str) -> Message {
    attribute(name, 3, |m| m.text(4, text))
}

pub fn texts(name: &str, texts: &[&str]) -> Message {
    attribute(name, 8, |m| texts.iter().fold(m, |m, t| m.text(9, t)))
}

pub fn graph(name: &str, graph: &Graph) -> Message {
    attribute(name, 5, |m| m.message(6, &graph.0))
}

/// A NodeProto; `inputs` and `outputs` are names with blanks between, `-` for none.
pub fn node(op: &str, inputs: &str, outputs: &str, attributes: &[Message]) -> Message {
    let name = |n| if n == "-" { "" } else { n };
    let m = inputs.split_whitespace().fold(Message::default(), |m, n| m.text(1, name(n)));
    let m = outputs.split_whitespace().fold(m, |m, n| m.text(2, name(n))).text(4, op);
    attributes.iter().fold(m, |m, a| m.message(5, a))
}

/// A NodeProto of another domain.
pub fn node_in(domain: &str, op: &str, inputs: &str, outputs: &str, attrs: &[Message]) -> Message {
    node(op, inputs, outputs, attrs).text(7, domain)
}

/// A ValueInfoProto of a tensor.
pub fn value(name: &str, dtype: u64, dims: &[i64]) -> Message {
    let shape = dims
        .iter()
        .fold(Message::default(), |m, &d| m.message(1, &Message::default().int(1, d as u64)));
    let tensor = Message::default().int(1, dtype).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// A ValueInfoProto of a tensor whose lengths have names.
pub fn symbolic(name: &str, dtype: u64, dims: &[&str]) -> Message {
    let dim = |m: Message, d: &&str| m.message(1, &Message::default().text(2, d));
    let shape = dims.iter().fold(Message::default(), dim);
    let tensor = Message::default().int(1, dtype).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// A GraphProto, built from left to right.
#[derive(Clone)]
pub struct Graph(pub Message);

impl Graph {
    pub fn new() -> Self {
        Graph(Message::default().text(2, "g"))
    }

    pub fn node(self, op: &str, inputs: &str, outputs: &str, attributes: &[Message]) -> Self {
        Graph(self.0.message(1, &node(op, inputs, outputs, attributes)))
    }

    pub fn ml(self, op: &str, inputs: &str, outputs: &str, attributes: &[Message]) -> Self {
        let node = node_in("ai.onnx.ml", op, inputs, outputs, attributes);
        Graph(self.0.message(1, &node))
    }

    pub fn init(self, name: &str, tensor: Message) -> Self {
        Graph(self.0.message(5, &tensor.text(8, name)))
    }

    pub fn input(self, name: &str, dtype: u64, dims: &[i64]) -> Self {
        Graph(self.0.message(11, &value(name, dtype, dims)))
    }

    /// An output of unknown shape.
    pub fn output(self, name: &str, dtype: u64) -> Self {
        let tensor = Message::default().int(1, dtype);
        let kind = Message::default().message(1, &tensor);
        Graph(self.0.message(12, &Message::default().text(1, name).message(2, &kind)))
    }

    /// An output of unknown type.
    pub fn output_any(self, name: &str) -> Self {
        Graph(self.0.message(12, &Message::default().text(1, name)))
    }

    /// The file: IR 10, the operators of opset 21 and of ai.onnx.ml 3.
    pub fn model(&self) -> Vec<u8> {
        self.model_with(10, 21, &[])
    }

    pub fn model_with(&self, ir: u64, opset: i64, functions: &[Message]) -> Vec<u8> {
        let head = Message::default().int(1, ir).message(8, &opset_id("", opset));
        let head = head.message(8, &opset_id("ai.onnx.ml", 3)).message(8, &opset_id("f", 1));
        let m = functions.iter().fold(head, |m, f| m.message(25, f));
        m.message(7, &self.0).0
    }
}

pub fn opset_id(domain: &str, version: i64) -> Message {
    Message::default().text(1, domain).int(2, version as u64)
}

/// A FunctionProto of domain `f` from `x` to `y`.
pub fn function(name: &str, nodes: &[Message]) -> Message {
    let m = Message::default().text(1, name).text(4, "x").text(5, "y").text(10, "f");
    let m = m.message(9, &opset_id("", 21)).message(9, &opset_id("f", 1));
    nodes.iter().fold(m, |m, n| m.message(7, n))
}
