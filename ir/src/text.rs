//! The graph as text, both ways: `parse(print(g)) == g`.
//!
//! ```text
//! x: f32[N,3]                                an input
//! w = f32[3,2]{1.0, 2.0, 3.0, 4.0, 5.0, 6.0} a constant
//! y = MatMul(x, w)                           a node
//! v, v#1 = TopK(y, k) {axis=1}               two outputs, an attribute
//! return y, top=v                            outputs, the second under another name
//! ```
//! An input may also be declared where it is first read: `MatMul(x: f32[N,3], w)`. A missing
//! operand is `_`; a name with other characters than letters, digits and `_./#` is quoted.

mod lexer;
mod parser;
mod printer;

pub use parser::{parse, parse_type};
pub use printer::{print, print_full};

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) {
        let g = parse(text).expect("parses");
        let printed = print_full(&g);
        let again = print_full(&parse(&printed).expect("its own text parses"));
        assert_eq!(printed, again);
    }

    #[test]
    fn what_is_printed_parses_back() {
        round_trip("y = Relu(x: f32[N,3])\nreturn y");
        round_trip("x: f32[..]\n\"a b\" = Neg(x)\nreturn out=\"a b\"");
        round_trip("c = i64[2]{1, -2}\ny = Add(c, c)\nreturn y, c");
        round_trip("x: seq(map(str,f32[2*N-1]))\ny: opt(f32[floor(N,2)])\nreturn x, y");
        round_trip("c = f32[3]{nan, -inf, 1.5e-8}\ns = str[1]{\"a\\\"\\n\"}\nreturn c, s");
        round_trip("y = LeakyRelu(x: f32[N]) {alpha=0.5}\nreturn y");
    }

    #[test]
    fn the_text_is_stable() {
        let text = "x: f32[N,3]\ny = LeakyRelu(x) {alpha=0.5}\nreturn y\n";
        assert_eq!(print(&parse(text).expect("parses")), text);
    }

    #[test]
    fn errors_say_where() {
        let at = |text: &str| parse(text).expect_err("wrong").message().to_owned();
        assert_eq!(at("y = Relu(z)\nreturn y"), "line 1: `z` is not defined");
        assert_eq!(at("x: f31[2]\nreturn x"), "line 1: `f31` is no type");
        assert!(at("y = Relu(x: f32[2]").starts_with("line 1: expected"));
    }
}
