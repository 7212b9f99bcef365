//! A small graph as a drawing: operators in layers, from what they read to what they give.

use std::collections::HashMap;
use std::fmt::Write;

use kiln::Graph;
use kiln_ir::{NodeId, Op, Operator, Value};

/// All lengths are in pixels.
const LETTER: f64 = 7.3;
const LINE: f64 = 16.0;
const GAP: f64 = 18.0;
const LAYER: f64 = 34.0;
/// The most letters of a line.
const WIDEST: usize = 34;

/// A box of the drawing.
struct Frame {
    class: &'static str,
    lines: Vec<String>,
    title: String,
    width: f64,
    x: f64,
    y: f64,
}

impl Frame {
    fn new(class: &'static str, lines: Vec<String>, title: String) -> Self {
        let lines: Vec<_> = lines.into_iter().map(|l| cut(&l)).collect();
        let letters = lines.iter().map(|l| l.chars().count()).max().unwrap_or(0);
        let width = letters as f64 * LETTER + 2.0 * GAP;
        Self { class, lines, title, width, x: 0.0, y: 0.0 }
    }

    fn height(&self) -> f64 {
        self.lines.len() as f64 * LINE + 8.0
    }

    fn middle(&self) -> f64 {
        self.x + self.width / 2.0
    }
}

/// An `<svg>` element; constants are told in the box of their reader.
pub fn draw(g: &Graph) -> String {
    let order = g.order().unwrap_or_default();
    let ends: Vec<Value> = g.outputs().iter().map(|(_, v)| *v).collect();
    let mut places: HashMap<NodeId, usize> = HashMap::new();
    let (mut frames, mut layers): (Vec<Frame>, Vec<Vec<usize>>) = (vec![], vec![]);
    let mut depths: HashMap<NodeId, usize> = HashMap::new();
    for id in order {
        let is_end = ends.iter().any(|v| v.node == id);
        if matches!(g.op(id), Op::Const(_)) && !is_end {
            continue;
        }
        let above = g.inputs_of(id).into_iter().flatten();
        let depth = above.filter_map(|v| depths.get(&v.node)).map(|d| d + 1).max().unwrap_or(0);
        depths.insert(id, depth);
        layers.resize_with(layers.len().max(depth + 1), Vec::new);
        layers[depth].push(frames.len());
        places.insert(id, frames.len());
        frames.push(frame(g, id, is_end));
    }
    let (width, height) = place(&mut frames, &layers);
    let mut text = format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">"
    );
    for (id, to) in sorted(&places) {
        for v in g.inputs_of(id).into_iter().flatten() {
            if let Some(&from) = places.get(&v.node) {
                edge(&mut text, &frames[from], &frames[to], &g.ty(v).to_string());
            }
        }
    }
    frames.iter().for_each(|f| boxed(&mut text, f));
    text + "</svg>"
}

/// In the order of their places, so that a graph has one drawing.
fn sorted(places: &HashMap<NodeId, usize>) -> Vec<(NodeId, usize)> {
    let mut all: Vec<_> = places.iter().map(|(id, place)| (*id, *place)).collect();
    all.sort_by_key(|(_, place)| *place);
    all
}

fn frame(g: &Graph, id: NodeId, is_end: bool) -> Frame {
    let (node, ty) = (g.node(id), g.ty(id.first()).to_string());
    match &node.op {
        Op::Input(_) => Frame::new("in", vec![ty], node.name.to_string()),
        Op::Const(c) => {
            Frame::new("in", vec![ty, crate::show::head(&c.0.as_ref().clone().into())], "".into())
        }
        op => {
            let constants = g.inputs_of(id).into_iter().flatten();
            let constants = constants.filter(|v| g.constant_of(*v).is_some());
            let mut lines = vec![op.name().to_owned()];
            let told: Vec<_> = constants.map(|v| constant(g, v)).collect();
            lines.extend((!told.is_empty()).then(|| told.join(" ")));
            let attrs = op.attrs();
            let attrs: Vec<_> = attrs.iter().map(|(k, v)| cut(&format!("{k}={v:?}"))).collect();
            let title = format!("{}\n{ty}\n{}", node.name, attrs.join("\n"));
            Frame::new(if is_end { "op end" } else { "op" }, lines, title)
        }
    }
}

/// A number itself, or the type of more.
fn constant(g: &Graph, v: Value) -> String {
    match g.constant_of(v).filter(|t| t.len() <= 4) {
        Some(t) => format!("[{}]", crate::show::head(&t.clone().into())),
        None => g.ty(v).to_string(),
    }
}

/// Puts each layer below the one before, all centred; returns the size of the whole.
fn place(frames: &mut [Frame], layers: &[Vec<usize>]) -> (f64, f64) {
    let wide = |layer: &Vec<usize>, frames: &[Frame]| {
        layer.iter().map(|&i| frames[i].width + GAP).sum::<f64>() - GAP
    };
    let width = layers.iter().map(|l| wide(l, frames)).fold(40.0, f64::max) + 4.0;
    let mut y = 2.0;
    for layer in layers {
        let mut x = (width - wide(layer, frames)) / 2.0;
        let tallest = layer.iter().map(|&i| frames[i].height()).fold(0.0, f64::max);
        for &i in layer {
            (frames[i].x, frames[i].y) = (x, y);
            x += frames[i].width + GAP;
        }
        y += tallest + LAYER;
    }
    (width, (y - LAYER).max(LINE) + 2.0)
}

fn edge(text: &mut String, from: &Frame, to: &Frame, ty: &str) {
    let (x0, y0) = (from.middle(), from.y + from.height());
    let (x1, y1) = (to.middle(), to.y);
    let half = (y0 + y1) / 2.0;
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "<path d=\"M{x0:.0} {y0:.0}C{x0:.0} {half:.0} {x1:.0} {half:.0} {x1:.0} {y1:.0}\">\
         <title>{}</title></path>",
        escaped(ty)
    );
}

fn boxed(text: &mut String, f: &Frame) {
    let _ = write!(
        text,
        "<g class=\"{}\"><title>{}</title>\
         <rect x=\"{:.0}\" y=\"{:.0}\" width=\"{:.0}\" height=\"{:.0}\" rx=\"6\"/>",
        f.class,
        escaped(&f.title),
        f.x,
        f.y,
        f.width,
        f.height()
    );
    for (i, line) in f.lines.iter().enumerate() {
        let (x, y) = (f.middle(), f.y + LINE * (i as f64 + 1.0));
        let _ = write!(text, "<text x=\"{x:.0}\" y=\"{y:.0}\">{}</text>", escaped(line));
    }
    text.push_str("</g>");
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(WIDEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// A text as the content of an element or an attribute.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // What XML cannot hold.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_is_a_box_and_each_value_a_line() {
        let g = kiln_ir::text::parse(
            "c = f32[]{2.0}\n\"a<b\" = Mul(x: f32[N], c)\nd = Neg(x)\n\
             y = Add(\"a<b\", d)\nreturn y",
        );
        let svg = draw(&g.expect("parses"));
        assert_eq!(svg.matches("<rect").count(), 4, "{svg}");
        assert_eq!(svg.matches("<path").count(), 4, "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"), "{svg}");
        assert!(svg.contains(">[2.0]<") || svg.contains(">[2]<"), "{svg}");
    }

    #[test]
    fn layers_do_not_overlap() {
        let mut frames: Vec<_> =
            (0..3).map(|_| Frame::new("op", vec!["Add".into()], String::new())).collect();
        place(&mut frames, &[vec![0, 1], vec![2]]);
        assert!(frames[0].x + frames[0].width < frames[1].x);
        assert!(frames[0].y + frames[0].height() < frames[2].y);
        let between = (frames[0].x + frames[1].x + frames[1].width) / 2.0;
        assert!((frames[2].middle() - between).abs() < 1e-9);
    }
}
