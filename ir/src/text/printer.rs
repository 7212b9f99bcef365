//! A graph into text.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use kiln_tensor::{Scalar, Tensor, match_scalar};

use super::lexer::{is_name_char, quote};
use crate::{Attr, Graph, NodeId, Op, Operator, Value};

/// The longest constant that [`print`] writes out.
const SHORT: usize = 16;

/// The graph as text; long constants are elided as `{…}` and do not parse back.
pub fn print(g: &Graph) -> String {
    Printer::new(g, SHORT).graph("")
}

/// The graph as text with every constant written out.
pub fn print_full(g: &Graph) -> String {
    Printer::new(g, usize::MAX).graph("")
}

struct Printer<'a> {
    g: &'a Graph,
    names: HashMap<NodeId, String>,
    order: Vec<NodeId>,
    longest: usize,
}

impl<'a> Printer<'a> {
    fn new(g: &'a Graph, longest: usize) -> Self {
        // A graph with a cycle is broken, and its text is what shows it.
        let order = g.order().unwrap_or_else(|_| g.nodes().collect());
        let mut taken = HashSet::from(["_".to_owned(), "return".to_owned()]);
        let inputs = g.inputs().map(|v| v.node);
        let mut names = HashMap::new();
        for id in inputs.chain(order.iter().copied()) {
            names.entry(id).or_insert_with(|| unique(&g.node(id).name, &mut taken));
        }
        Self { g, names, order, longest }
    }

    fn graph(&self, indent: &str) -> String {
        let mut out = String::new();
        for v in self.g.inputs() {
            let (name, ty) = (name(&self.names[&v.node]), self.g.ty(v));
            let _ = writeln!(out, "{indent}{name}: {ty}");
        }
        for &id in &self.order {
            match self.g.op(id) {
                Op::Input(_) => {}
                Op::Const(c) => {
                    let t = tensor(&c.0, self.longest);
                    let _ = writeln!(out, "{indent}{} = {t}", name(&self.names[&id]));
                }
                op => self.node(&mut out, indent, id, op),
            }
        }
        let outputs = self.g.outputs().iter().map(|(n, v)| match self.value(*v) {
            value if value == name(n) => value,
            value => format!("{}={value}", name(n)),
        });
        let _ = writeln!(out, "{indent}return {}", outputs.collect::<Vec<_>>().join(", "));
        out
    }

    fn node(&self, out: &mut String, indent: &str, id: NodeId, op: &Op) {
        let made: Vec<_> = self.g.outputs_of(id).map(|v| self.value(v)).collect();
        let read: Vec<_> = (self.g.inputs_of(id).into_iter())
            .map(|v| v.map_or("_".to_owned(), |v| self.value(v)))
            .collect();
        let _ = write!(out, "{indent}{} = {}({})", made.join(", "), op.name(), read.join(", "));
        let attrs = op.attrs();
        if !attrs.is_empty() {
            let list: Vec<_> =
                attrs.iter().map(|(n, a)| format!("{n}={}", self.attr(a, indent))).collect();
            let _ = write!(out, " {{{}}}", list.join(", "));
        }
        out.push('\n');
    }

    fn value(&self, v: Value) -> String {
        // Only a broken graph names a node that is gone; `verify` prints such graphs.
        let node = self.names.get(&v.node).map_or("?gone", String::as_str);
        match v.slot() {
            0 => name(node),
            k => name(&format!("{node}#{k}")),
        }
    }

    fn attr(&self, a: &Attr, indent: &str) -> String {
        match a {
            Attr::Int(x) => x.to_string(),
            Attr::Float(x) => float(f64::from(*x), &format!("{x:?}")),
            Attr::String(x) => quote(x),
            Attr::Tensor(t) => tensor(t, self.longest),
            Attr::Graph(g) => {
                let inner = Printer::new(g, self.longest).graph(&format!("{indent}  "));
                format!("graph {{\n{inner}{indent}}}")
            }
            Attr::Ints(v) => list("ints", v.iter().map(i64::to_string)),
            Attr::Floats(v) => {
                list("floats", v.iter().map(|x| float(f64::from(*x), &format!("{x:?}"))))
            }
            Attr::Strings(v) => list("strings", v.iter().map(|s| quote(s))),
            Attr::Tensors(v) => {
                format!("tensors{}", list("", v.iter().map(|t| tensor(t, self.longest))))
            }
        }
    }
}

/// A list; an empty one says of what.
fn list(of: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { format!("{of}[]") } else { format!("[{}]", items.join(",")) }
}

fn unique(wanted: &str, taken: &mut HashSet<String>) -> String {
    let base = if wanted.is_empty() { "v" } else { wanted };
    let mut name = base.to_owned();
    let mut k = 1;
    while !taken.insert(name.clone()) {
        k += 1;
        name = format!("{base}.{k}");
    }
    name
}

fn name(s: &str) -> String {
    let plain = !s.is_empty() && s.chars().all(is_name_char) && !s.contains("..");
    if plain { s.to_owned() } else { quote(s) }
}

/// Floats always show a point, an exponent, or that they are not finite.
fn float(x: f64, shortest: &str) -> String {
    match x {
        x if x.is_nan() => "nan".to_owned(),
        x if x.is_infinite() => if x > 0.0 { "inf" } else { "-inf" }.to_owned(),
        _ => shortest.to_owned(),
    }
}

fn tensor(t: &Tensor, longest: usize) -> String {
    let shape: Vec<_> = t.shape().iter().map(usize::to_string).collect();
    let head = format!("{}[{}]", t.dtype(), shape.join(","));
    if t.len() > longest {
        return format!("{head}{{…}}");
    }
    let items: Vec<String> = match t.strings() {
        Ok(s) => s.iter().map(|s| quote(s)).collect(),
        Err(_) => match_scalar!(t.dtype(), T => {
            let data = t.as_slice::<T>().unwrap_or_default();
            data.iter().map(|&x| scalar(x, t.dtype().is_float())).collect()
        }, else complex(t)),
    };
    format!("{head}{{{}}}", items.join(", "))
}

fn scalar<T: Scalar>(x: T, is_float: bool) -> String {
    if !is_float {
        return x.to_i128().to_string();
    }
    // The shortest text that an `f32` reads back is shorter than that of the `f64`.
    let wide = x.to_f64();
    let narrow = wide as f32;
    let exact = f64::from(narrow).to_bits() == wide.to_bits();
    float(wide, &if exact { format!("{narrow:?}") } else { format!("{wide:?}") })
}

/// Complex numbers as real and imaginary parts in turn.
fn complex(t: &Tensor) -> Vec<String> {
    let parts: Vec<f64> = match t.as_slice::<kiln_tensor::Complex<f64>>() {
        Ok(c) => c.iter().flat_map(|c| [c.re, c.im]).collect(),
        Err(_) => (t.as_slice::<kiln_tensor::Complex<f32>>().unwrap_or_default().iter())
            .flat_map(|c| [f64::from(c.re), f64::from(c.im)])
            .collect(),
    };
    parts.into_iter().map(|x| scalar(x, true)).collect()
}
