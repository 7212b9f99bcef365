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
        Self::compile(source, translate(source))
    }

    /// An expression that must match from the first to the last character.
    pub(crate) fn whole(source: &str) -> Result<Self> {
        let rust = translate(source).map(|rust| format!(r"\A(?:{rust})\z"));
        Self::compile(source, rust)
    }

    fn compile(source: &str, rust: Translated<String>) -> Result<Self> {
        let compiled = rust.and_then(|rust| {
            let compiled = RegexBuilder::new(&rust).octal(true).build();
            compiled.map_err(|e| e.to_string().lines().last().unwrap_or_default().to_owned())
        });
        let regex = compiled.map_err(|reason| {
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

/// What is translated, or what is wrong with it.
type Translated<T = ()> = std::result::Result<T, String>;

/// What is left of an expression.
type Rest<'a> = Peekable<Chars<'a>>;

/// The expression in the syntax of the `regex` crate, or what is wrong with it.
///
/// In RE2 the classes `\d \w \s \b` are of ASCII, classes neither nest nor subtract, a brace
/// that counts nothing stands for itself, and `\Q...\E` quotes.
fn translate(source: &str) -> Translated<String> {
    let mut out = String::with_capacity(source.len());
    let mut rest = source.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut rest, &mut out)?,
            '[' => class(&mut rest, &mut out)?,
            '{' if !is_count(rest.clone()) => out.push_str(r"\{"),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Whether what follows a brace counts: `2}`, `2,}` or `2,3}`.
fn is_count(mut rest: Rest<'_>) -> bool {
    let digits =
        |rest: &mut Rest<'_>| std::iter::from_fn(|| rest.next_if(char::is_ascii_digit)).count();
    if digits(&mut rest) == 0 {
        return false;
    }
    if rest.next_if_eq(&',').is_some() {
        digits(&mut rest);
    }
    rest.next() == Some('}')
}

/// What follows a backslash outside of a class.
fn escape(rest: &mut Rest<'_>, out: &mut String) -> Translated {
    match rest.next() {
        Some('b') => out.push_str(r"(?-u:\b)"),
        Some('Q') => quoted(rest, out),
        Some('<') => out.push('<'),
        Some('>') => out.push('>'),
        Some(c) => match ascii_class(c) {
            Some((false, set)) => out.extend(["[", set, "]"]),
            Some((true, set)) => out.extend(["[^", set, "]"]),
            None => escaped(c, rest, out)?,
        },
        None => out.push('\\'),
    }
    Ok(())
}

/// An escape that means the same everywhere, of which `c` is the first character.
fn escaped(c: char, rest: &mut Rest<'_>, out: &mut String) -> Translated {
    let octal = |c: &char| ('0'..='7').contains(c);
    if ('1'..='9').contains(&c) && !(octal(&c) && rest.peek().is_some_and(octal)) {
        return Err(format!(r"`\{c}` refers back, which RE2 cannot do"));
    }
    match c {
        'p' | 'P' | 'x' if rest.next_if_eq(&'{').is_some() => {
            let negated = c != 'x' && rest.next_if_eq(&'^').is_some();
            let kind = match (negated, c) {
                (true, 'p') => 'P',
                (true, _) => 'p',
                _ => c,
            };
            out.extend(['\\', kind, '{']);
            until_brace(rest, out);
        }
        'p' | 'P' => {
            out.extend(['\\', c]);
            out.extend(rest.next());
        }
        _ => out.extend(['\\', c]),
    }
    Ok(())
}

/// Copies up to the closing brace.
fn until_brace(rest: &mut Rest<'_>, out: &mut String) {
    for c in rest.by_ref() {
        out.push(c);
        if c == '}' {
            break;
        }
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
fn quoted(rest: &mut Rest<'_>, out: &mut String) {
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
fn class(rest: &mut Rest<'_>, out: &mut String) -> Translated {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut first = true;
    while let Some(c) = rest.next() {
        match c {
            ']' if !first => {
                out.push(']');
                break;
            }
            '[' if rest.peek() == Some(&':') => named(rest, out)?,
            '\\' if rest.peek().is_some_and(|&c| ascii_class(c).is_some()) => {
                match rest.next().and_then(ascii_class) {
                    Some((true, set)) => out.extend(["[^", set, "]"]),
                    Some((false, set)) => out.push_str(set),
                    None => {}
                }
            }
            c => range(c, rest, out)?,
        }
        first = false;
    }
    Ok(())
}

/// A character of a class, or a range that begins with it.
fn range(c: char, rest: &mut Rest<'_>, out: &mut String) -> Translated {
    member(c, rest, out)?;
    let mut after = rest.clone();
    if after.next() == Some('-') && after.next().is_some_and(|c| c != ']') {
        rest.next();
        out.push('-');
        if let Some(c) = rest.next() {
            member(c, rest, out)?;
        }
    }
    Ok(())
}

fn member(c: char, rest: &mut Rest<'_>, out: &mut String) -> Translated {
    match (c, rest.peek()) {
        ('\\', Some(_)) => {
            let c = rest.next().unwrap_or(c);
            escaped(c, rest, out)?;
        }
        ('[' | ']' | '&' | '~' | '-' | '^', _) => out.extend(['\\', c]),
        _ => out.push(c),
    }
    Ok(())
}

/// A class with a name in a class: `[:alpha:]`.
fn named(rest: &mut Rest<'_>, out: &mut String) -> Translated {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ];
    let text: String = std::iter::from_fn(|| rest.next_if(|&c| c != ']')).collect();
    let name = text.trim_start_matches(':').trim_start_matches('^').trim_end_matches(':');
    if !NAMES.contains(&name) {
        return Err(format!("there is no class `[{text}]`"));
    }
    rest.next();
    out.extend(["[", &text, "]"]);
    Ok(())
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
            (r"[--a]+", "-A_a", true),
            (r"[--a]+", "b", false),
            (r"[a-c-e]+", "b-e", true),
            (r"[a-c-e]+", "d", false),
            (r"[\w-.]+", "a-b.", true),
            (r"[\p{Greek}\pN-]+", "α1-", true),
            (r"[^\p{^Greek}]", "α", true),
            (r"\p{Greek}\x{65e5}\pL", "α日a", true),
            (r"[\x{41}-\x{43}\x61-c]+", "ABac", true),
            (r"\p{^Greek}", "a", true),
            (r"\P{^Greek}", "a", false),
            (r"{a{,2}{2x}", "{a{,2}{2x}", true),
            (r"a{2,}b{1}", "aaab", true),
            (r"\12", "\n", true),
            (r"[[:^alpha:]]", "1", true),
        ];
        for (pattern, text, want) in cases {
            let whole = Pattern::whole(pattern).expect(pattern);
            assert_eq!(whole.regex().is_match(text), want, "{pattern} on {text}");
        }
    }

    #[test]
    fn patterns_that_cannot_be() {
        for pattern in [
            "(",
            "[a",
            "\\",
            "**",
            "[z-a]",
            r"(a)\1x(?=b)",
            "((a{900}){900}){900}",
            r"\1",
            r"(a)\1",
            r"[\2]",
            "[[:foo:]]",
            "[a-",
            r"[\",
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }
}
