//! `com.microsoft.Tokenizer`: strings into words or characters.
//!
//! ```text
//! y = com.microsoft.Tokenizer(x: str[N,C]) {tokenexp="[a-z]+", ...}   y: str[N,C,most tokens]
//! ```

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Tensor};

use super::re2::Pattern;
use super::real::Ticks;
use crate::eval::tensor;
use crate::{Attrs, Build, Built, Context, Fact, Infer, Operator, Result, Schema, invalid};

/// Strings into tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenizer(Arc<Rules>);

#[derive(Debug, PartialEq)]
struct Rules {
    by: By,
    /// Whether each list of tokens stands between marks.
    mark: bool,
    /// Tokens of fewer characters are left out.
    least: usize,
    /// What fills lists up to the length of the longest.
    pad: String,
}

/// What makes a token.
#[derive(Debug, PartialEq)]
enum By {
    /// One character.
    Character,
    /// What stands between matches of any of these.
    Separators(Vec<Pattern>),
    /// A match.
    Token(Pattern),
}

const START: &str = "\u{2}";
const END: &str = "\u{3}";

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] =
    &[Schema { name: "com.microsoft.Tokenizer", since: 1, build: tokenizer }];

fn tokenizer(b: &mut Build<'_>) -> Result<Built> {
    let least = b.require::<i64>("mincharnum")?;
    let separators = b.take::<Vec<String>>("separators")?.unwrap_or_default();
    let token = b.take::<String>("tokenexp")?.filter(|t| !t.is_empty());
    let by = match (&separators[..], token) {
        ([], Some(token)) => By::Token(Pattern::new(&token)?),
        ([s], None) if s.is_empty() => By::Character,
        ([], None) => invalid!("one of separators and tokenexp is needed"),
        (_, None) => {
            By::Separators(separators.iter().map(|s| Pattern::new(s)).collect::<Result<_>>()?)
        }
        _ => invalid!("only one of separators and tokenexp may be given"),
    };
    let Some(least) = usize::try_from(least).ok().filter(|&n| n > 0) else {
        invalid!("mincharnum is {least}, it must be positive");
    };
    if by == By::Character && least > 1 {
        invalid!("mincharnum is {least}, which no single character has");
    }
    let (mark, pad) = (b.require("mark")?, b.require("pad_value")?);
    Ok(Tokenizer(Arc::new(Rules { by, mark, least, pad })).into())
}

impl Rules {
    fn tokens<'a>(&self, s: &'a str, ticks: &mut Ticks<'_>) -> Result<Vec<&'a str>> {
        ticks.add(s.len() + 1)?;
        Ok(match &self.by {
            By::Character => s.char_indices().map(|(i, c)| &s[i..i + c.len_utf8()]).collect(),
            By::Separators(separators) => separators.iter().fold(vec![s], |parts, separator| {
                parts.into_iter().flat_map(|p| self.between(separator, p)).collect()
            }),
            By::Token(token) => self.matches(token, s, ticks)?,
        })
    }

    fn is_long_enough(&self, token: &str) -> bool {
        token.chars().nth(self.least - 1).is_some()
    }

    /// What stands between matches that are not empty.
    fn between<'a>(&self, separator: &Pattern, s: &'a str) -> Vec<&'a str> {
        let mut parts = Vec::new();
        let mut start = 0;
        for m in separator.regex().find_iter(s).filter(|m| !m.is_empty()) {
            parts.push(&s[start..m.start()]);
            start = m.end();
        }
        parts.push(&s[start..]);
        parts.retain(|p| self.is_long_enough(p));
        parts
    }

    /// The matches; where one is too short, the search goes on at its second character.
    fn matches<'a>(
        &self,
        token: &Pattern,
        s: &'a str,
        ticks: &mut Ticks<'_>,
    ) -> Result<Vec<&'a str>> {
        let mut tokens = Vec::new();
        let mut at = 0;
        while at <= s.len()
            && let Some(m) = token.regex().find_at(s, at)
        {
            ticks.add(m.end() - at + 1)?;
            if self.is_long_enough(m.as_str()) {
                tokens.push(m.as_str());
                at = m.end();
            } else {
                at = m.start() + s[m.start()..].chars().next().map_or(1, char::len_utf8);
            }
        }
        Ok(tokens)
    }
}

impl Operator for Tokenizer {
    fn name(&self) -> &str {
        "com.microsoft.Tokenizer"
    }

    fn attrs(&self) -> Attrs {
        let Rules { by, mark, least, pad } = &*self.0;
        let attrs = Attrs::default()
            .with("mark", *mark)
            .with("mincharnum", *least as i64)
            .with("pad_value", pad.clone());
        match by {
            By::Character => attrs.with("separators", vec![String::new()]),
            By::Separators(s) => {
                let sources: Vec<String> = s.iter().map(|s| s.source().to_owned()).collect();
                attrs.with("separators", sources)
            }
            By::Token(t) => attrs.with("tokenexp", t.source().to_owned()),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, |d| d == DType::String)?;
        let shape = match cx.shape(0)? {
            None => None,
            Some(s @ ([_] | [_, _])) => {
                let mut s = s.to_vec();
                s.push(cx.fresh());
                Some(s)
            }
            Some(s) => invalid!("Tokenizer takes shapes [C] and [N,C], the rank is {}", s.len()),
        };
        Ok(vec![Fact::tensor(DType::String, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        if !matches!(x.rank(), 1 | 2) {
            invalid!("Tokenizer takes shapes [C] and [N,C], not {:?}", x.shape());
        }
        let mut ticks = Ticks::new(cx);
        let rows = x.strings()?.iter().map(|s| self.0.tokens(s, &mut ticks));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let marks = if self.0.mark && longest > 0 { 2 } else { 0 };
        let mut shape = x.shape().to_vec();
        shape.push(longest + marks);
        let mut y = Vec::with_capacity(cx.numel(DType::String, &shape)?);
        for row in rows {
            let end = y.len() + longest + marks;
            y.extend((marks > 0).then(|| START.to_owned()));
            y.extend(row.into_iter().map(str::to_owned));
            y.extend((marks > 0).then(|| END.to_owned()));
            y.resize(end, self.0.pad.clone());
        }
        Ok(vec![Tensor::from_strings(&shape, y)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn tokens(attrs: &str, s: &[&str]) -> Result<(Vec<usize>, Vec<String>)> {
        let x = Tensor::from_strings(&[s.len()], s.iter().map(|s| (*s).to_owned()).collect())?;
        let text = format!(
            "y = com.microsoft.Tokenizer(x: str[N]) {{{attrs}, pad_value=\"#\"}}\nreturn y"
        );
        let y = run1(&text, &[x])?;
        Ok((y.shape().to_vec(), y.strings()?.to_vec()))
    }

    #[test]
    fn words_and_characters() {
        type Case =
            (&'static str, &'static [&'static str], &'static [usize], &'static [&'static str]);
        let cases: &[Case] = &[
            (
                "tokenexp=\"[a-z]+\", mark=0, mincharnum=1",
                &["a bc", "d"],
                &[2, 2],
                &["a", "bc", "d", "#"],
            ),
            ("tokenexp=\"[a-z]+\", mark=0, mincharnum=2", &["a bc,de"], &[1, 2], &["bc", "de"]),
            ("tokenexp=\"a?\", mark=0, mincharnum=1", &["ébaa"], &[1, 2], &["a", "a"]),
            (
                "separators=[\" \", \"[,;]+\"], mark=1, mincharnum=1",
                &["a,;b  c", "d"],
                &[2, 5],
                &["\u{2}", "a", "b", "c", "\u{3}", "\u{2}", "d", "\u{3}", "#", "#"],
            ),
            ("separators=[\" \"], mark=0, mincharnum=2", &["é éé x"], &[1, 1], &["éé"]),
            (
                "separators=[\"\"], mark=0, mincharnum=1",
                &["éx", ""],
                &[2, 2],
                &["é", "x", "#", "#"],
            ),
            ("separators=[\" \"], mark=1, mincharnum=1", &["", " "], &[2, 0], &[]),
        ];
        for (attrs, x, shape, want) in cases {
            let (got_shape, got) = tokens(attrs, x).expect(attrs);
            assert_eq!(got_shape, *shape, "{attrs}");
            assert_eq!(got, *want, "{attrs}");
        }
    }

    #[test]
    fn wrong_rules_are_errors() {
        for attrs in [
            "mark=0, mincharnum=1",
            "tokenexp=\"a\", separators=[\"b\"], mark=0, mincharnum=1",
            "tokenexp=\"a\", mark=0, mincharnum=0",
            "separators=[\"\"], mark=0, mincharnum=2",
            "tokenexp=\"(\", mark=0, mincharnum=1",
        ] {
            assert!(tokens(attrs, &["a"]).is_err(), "{attrs}");
        }
        let text = "y = com.microsoft.Tokenizer(x: str[A,B]) \
                    {mark=0, mincharnum=1, pad_value=\"\", tokenexp=\"a\"}\nreturn y";
        assert_eq!(types(text).expect("types"), ["str[A,B,?1]"]);
        assert!(types(&text.replace("A,B", "A,B,C")).is_err());
    }
}
