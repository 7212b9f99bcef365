//! Regular expressions in the syntax of RE2, which ONNX asks for.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

use crate::{Error, Result};

/// A compiled expression; two are equal where their sources are.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    source: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Pattern {
    /// An expression that is searched for.
    pub(crate) fn new(source: &str) -> Result<Self> {
        Self::compile(source, &translate(source))
    }

    /// An expression that must match from the first to the last character.
    pub(crate) fn whole(source: &str) -> Result<Self> {
        Self::compile(source, &format!(r"\A(?:{})\z", translate(source)))
    }

    fn compile(source: &str, rust: &str) -> Result<Self> {
        let regex = RegexBuilder::new(rust).octal(true).build().map_err(|e| {
            let reason = e.to_string();
            let reason = reason.lines().last().unwrap_or_default().to_owned();
            Error::invalid(format!("the pattern `{source}` cannot be compiled: {reason}"))
        })?;
        Ok(Self { source: source.to_owned(), regex })
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn regex(&self) -> &Regex {
        &self.regex
    }
}

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = r"\t\n\f\r ";

/// The expression in the syntax of the `regex` crate.
///
/// In RE2 the classes `\d \w \s \b` are of ASCII, classes neither nest nor subtract, and
/// `\Q...\E` quotes.
fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut rest, &mut out),
            '[' => class(&mut rest, &mut out),
            c => out.push(c),
        }
    }
    out
}

/// What follows a backslash outside of a class.
fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    match rest.next() {
        Some('b') => out.push_str(r"(?-u:\b)"),
        Some('Q') => quoted(rest, out),
        Some('<') => out.push('<'),
        Some('>') => out.push('>'),
        Some(c) => match ascii_class(c) {
            Some((false, set)) => out.extend(["[", set, "]"]),
            Some((true, set)) => out.extend(["[^", set, "]"]),
            None => out.extend(['\\', c]),
        },
        None => out.push('\\'),
    }
}

/// The ASCII class of an escape, and whether it is everything else that is meant.
fn ascii_class(c: char) -> Option<(bool, &'static str)> {
    let set = match c.to_ascii_lowercase() {
        'd' => DIGIT,
        'w' => WORD,
        's' => SPACE,
        _ => return None,
    };
    Some((c.is_ascii_uppercase(), set))
}

/// Text up to `\E` or the end, which stands for itself.
fn quoted(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        if c == '\\' && rest.next_if_eq(&'E').is_some() {
            break;
        }
        text.push(c);
    }
    out.push_str(&regex::escape(&text));
}

/// A class, after its opening bracket.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if rest.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    let mut after_dash = false;
    while let Some(c) = rest.next() {
        let dash = c == '-' && !after_dash;
        match c {
            ']' => return out.push(']'),
            '[' if rest.peek() == Some(&':') => named(rest, out),
            '[' | '&' | '~' => out.extend(['\\', c]),
            '-' if after_dash => out.push_str(r"\-"),
            '\\' => match rest.next() {
                Some(c) => match ascii_class(c) {
                    Some((false, set)) => out.push_str(set),
                    Some((true, set)) => out.extend(["[^", set, "]"]),
                    None => out.extend(['\\', c]),
                },
                None => out.push('\\'),
            },
            c => out.push(c),
        }
        after_dash = dash;
    }
}

/// A class with a name in a class: `[:alpha:]`.
fn named(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    for c in rest.by_ref() {
        out.push(c);
        if c == ']' {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_of_re2() {
        let cases = [
            (r"\w+", "abc_1", true),
            (r"\w+", "é", false),
            (r"\W", "é", true),
            (r"[\d.]+", "3.14", true),
            (r"[\D]+", "3", false),
            (r"[^\s]", "\u{b}", true),
            (r"[[]", "[", true),
            (r"[]a]+", "]a", true),
            (r"[a[b]+", "a[b", true),
            (r"[a&&b]+", "a&b", true),
            (r"[+--]+", "+,-", true),
            (r"[[:alpha:]~~]+", "x~", true),
            (r"\Qa.b\E+", "a.bb", true),
            (r"\Qa.b\E", "axb", false),
            (r"a\b.b", "a b", true),
            (r"\<\>", "<>", true),
            (r"\101", "A", true),
            (r"a|ab", "ab", true),
            (r"(?i)straße", "STRAßE", true),
        ];
        for (pattern, text, want) in cases {
            let whole = Pattern::whole(pattern).expect(pattern);
            assert_eq!(whole.regex().is_match(text), want, "{pattern} on {text}");
        }
    }

    #[test]
    fn patterns_that_cannot_be() {
        for pattern in ["(", "[a", "\\", "a**b{", "[z-a]", r"(a)\1x(?=b)", "((a{900}){900}){900}"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }
}
