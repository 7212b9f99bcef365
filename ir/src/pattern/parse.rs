//! From the text of a pattern to its parts.

use super::{Call, Part, Pattern};
use crate::{Error, Result};

/// Parses a whole text; an error says where it went wrong.
pub(super) fn pattern(text: &str) -> Result<Pattern> {
    let mut p = Parser { text, at: 0, parts: vec![] };
    let root = p.part()?;
    match p.peek() {
        None => Ok(Pattern { parts: p.parts, root }),
        Some(_) => Err(p.wrong("expected the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    parts: Vec<Part>,
}

impl<'a> Parser<'a> {
    fn wrong(&self, what: &str) -> Error {
        let rest = self.text.get(self.at..).unwrap_or("");
        Error::invalid(format!("pattern `{}`: {what} at `{rest}`", self.text))
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed.chars().next()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<()> {
        match self.take(c) {
            true => Ok(()),
            false => Err(self.wrong(&format!("expected `{c}`"))),
        }
    }

    fn word(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let n = rest.find(|c| !of(c)).unwrap_or(rest.len());
        self.at += n;
        &rest[..n]
    }

    fn push(&mut self, part: Part) -> usize {
        self.parts.push(part);
        self.parts.len() - 1
    }

    fn part(&mut self) -> Result<usize> {
        match self.peek() {
            Some('[') => {
                self.at += 1;
                let mut parts = vec![self.part()?];
                while self.take('|') {
                    parts.push(self.part()?);
                }
                self.expect(']')?;
                Ok(self.push(Part::Either(parts)))
            }
            Some('$') => {
                self.at += 1;
                let name = self.name()?;
                Ok(self.push(Part::Value { name, constant: true }))
            }
            Some('_') => {
                self.at += 1;
                Ok(self.push(Part::Any))
            }
            Some(c) if c == '-' || c.is_ascii_digit() => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.named(),
            _ => Err(self.wrong("expected a value, a number or an operator")),
        }
    }

    fn name(&mut self) -> Result<String> {
        match self.word(|c| c.is_ascii_alphanumeric() || c == '_') {
            "" => Err(self.wrong("expected a name")),
            name => Ok(name.to_owned()),
        }
    }

    fn number(&mut self) -> Result<usize> {
        let digits = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e');
        let word = self.word(digits);
        let n = word.parse().map_err(|_| self.wrong(&format!("`{word}` is no number")))?;
        Ok(self.push(Part::Number(n)))
    }

    /// A value, or a call with or without a name of its own.
    fn named(&mut self) -> Result<usize> {
        let mut name = self.operator()?;
        let mut bind = None;
        if self.take('@') {
            bind = Some(name);
            name = self.operator()?;
        }
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains('.') {
            return match bind {
                None => Ok(self.push(Part::Value { name, constant: false })),
                Some(_) => Err(self.wrong("expected an operator")),
            };
        }
        let mut ops = vec![name];
        while self.take('|') {
            ops.push(self.operator()?);
        }
        let optional = self.take('?');
        let slot = match self.take('#') {
            true => self.word(|c| c.is_ascii_digit()).parse().unwrap_or(0),
            false => 0,
        };
        let (args, open) = self.arguments()?;
        Ok(self.push(Part::Call(Call { bind, ops, slot, optional, args, open })))
    }

    fn operator(&mut self) -> Result<String> {
        match self.word(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            "" => Err(self.wrong("expected a name")),
            name => Ok(name.to_owned()),
        }
    }

    fn arguments(&mut self) -> Result<(Vec<usize>, bool)> {
        self.expect('(')?;
        let mut args = Vec::new();
        loop {
            if self.take('.') {
                self.expect('.')?;
                self.expect(')')?;
                return Ok((args, true));
            }
            args.push(self.part()?);
            if !self.take(',') {
                self.expect(')')?;
                return Ok((args, false));
            }
        }
    }
}
