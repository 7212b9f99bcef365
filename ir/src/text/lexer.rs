//! Text into tokens.

use crate::{Error, Result};

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name or a number; which of the two, the parser knows from its place.
    Word(String),
    /// A quoted string.
    Text(String),
    /// A sign such as `(`, or `..`.
    Sign(&'static str),
    /// The end.
    End,
}

const SIGNS: &[&str] = &["..", "(", ")", "[", "]", "{", "}", ",", "=", ":", "*", "+", "-", "…"];

/// Splits text into tokens with their line numbers.
pub(super) fn lex(text: &str) -> Result<Vec<(Token, usize)>> {
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while !rest.is_empty() && !rest.starts_with("//") {
            let (token, after) = next(rest)
                .ok_or_else(|| Error::invalid(format!("line {}: cannot read `{rest}`", i + 1)))?;
            out.push((token, i + 1));
            rest = after.trim_start();
        }
    }
    out.push((Token::End, text.lines().count()));
    Ok(out)
}

fn next(rest: &str) -> Option<(Token, &str)> {
    if let Some(quoted) = rest.strip_prefix('"') {
        return string(quoted);
    }
    if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
        return Some((Token::Sign(sign), &rest[sign.len()..]));
    }
    let end =
        rest.char_indices().find(|&(i, c)| !in_word(rest, i, c)).map_or(rest.len(), |(i, _)| i);
    (end > 0).then(|| (Token::Word(rest[..end].to_owned()), &rest[end..]))
}

/// Whether a character continues a word; the sign of an exponent (`1e-8`) does.
fn in_word(rest: &str, i: usize, c: char) -> bool {
    let exponent = || {
        let before = &rest.as_bytes()[..i];
        rest.as_bytes()[0].is_ascii_digit() && matches!(before.last(), Some(b'e' | b'E'))
    };
    is_name_char(c) && !rest[i..].starts_with("..")
        || (matches!(c, '-' | '+') && i > 0 && exponent())
}

/// Whether a name may hold this character without quotes.
pub(super) fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '#' | '?')
}

fn string(rest: &str) -> Option<(Token, &str)> {
    let mut out = String::new();
    let mut chars = rest.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((Token::Text(out), &rest[i + 1..])),
            '\\' => out.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                c => c,
            }),
            c => out.push(c),
        }
    }
    None
}

/// A string as `lex` reads it.
pub(super) fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            '"' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
