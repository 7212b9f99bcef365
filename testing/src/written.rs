//! Graphs from the texts of patterns, to test that a pattern means what its rule says.

/// The texts of one graph for every way to read a pattern of `x`: choices in brackets taken one
/// by one, numbers as `f32` constants, `x` an `f32[N]`.
///
/// # Panics
/// Where the text is no pattern of calls: it is the test's.
pub fn graphs(pattern: &str) -> Vec<String> {
    choices(pattern).iter().map(|text| graph(text)).collect()
}

/// The texts without brackets.
fn choices(text: &str) -> Vec<String> {
    let Some(open) = text.find('[') else { return vec![text.to_owned()] };
    let (mut depth, mut start) = (0, open + 1);
    let mut parts = Vec::new();
    for (i, c) in text.char_indices().skip(open) {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 1 && c == '|' || depth == 0 {
            parts.push(text[start..i].trim());
            start = i + 1;
        }
        if depth == 0 {
            break;
        }
    }
    let (before, behind) = (&text[..open], &text[start..]);
    parts.iter().flat_map(|part| choices(&format!("{before}{part}{behind}"))).collect()
}

fn graph(text: &str) -> String {
    let mut writer = Writer { text, lines: vec!["x: f32[N]".to_owned()] };
    let y = writer.value();
    assert!(writer.text.trim().is_empty(), "left of the pattern: `{}`", writer.text);
    writer.lines.push(format!("return {y}"));
    writer.lines.join("\n")
}

struct Writer<'a> {
    text: &'a str,
    lines: Vec<String>,
}

impl Writer<'_> {
    /// Takes an expression, and returns the name of its value.
    fn value(&mut self) -> String {
        let name = format!("v{}", self.lines.len());
        let text = self.text.trim_start();
        let n = text.find(|c: char| !c.is_ascii_alphanumeric() && !".-".contains(c));
        let (word, rest) = text.split_at(n.unwrap_or(text.len()));
        self.text = rest;
        if let Ok(number) = word.parse::<f32>() {
            self.lines.push(format!("{name} = f32[]{{{number:?}}}"));
            return name;
        }
        let Some(rest) = rest.strip_prefix('(') else {
            return word.to_owned();
        };
        self.text = rest;
        let mut operands = Vec::new();
        loop {
            operands.push(self.value());
            let text = self.text.trim_start();
            self.text = &text[1..];
            match text.chars().next() {
                Some(',') => {}
                Some(')') => break,
                _ => panic!("expected `,` or `)` at `{text}`"),
            }
        }
        let name = format!("v{}", self.lines.len());
        self.lines.push(format!("{name} = {word}({})", operands.join(", ")));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_a_graph() {
        let all = graphs("Mul([Add(x, 1) | x], [0.5 | [2 | 3]])");
        assert_eq!(all.len(), 6);
        let first = "x: f32[N]\nv1 = f32[]{1.0}\nv2 = Add(x, v1)\nv3 = f32[]{0.5}\n\
             v4 = Mul(v2, v3)\nreturn v4";
        assert_eq!(all[0], first);
        for text in &all {
            kiln_ir::text::parse(text).expect(text);
        }
    }
}
