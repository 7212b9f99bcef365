//! Text into a graph.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_tensor::{Complex, DType, Scalar, Tensor, match_scalar};

use super::lexer::{Token, lex};
use crate::schema::{self, NodeSpec};
use crate::{Attr, Attrs, Dim, Error, Graph, Result, Type, Value};

/// Bodies and types nest at most this deep.
const DEPTH: usize = 64;

/// Parses the text of a graph; an error says the line.
pub fn parse(text: &str) -> Result<Graph> {
    let mut p = Parser::new(text)?;
    let g = p.graph()?;
    p.expect_end()?;
    Ok(g)
}

/// Parses the text of a type, such as `f32[N,3]`.
pub fn parse_type(text: &str) -> Result<Type> {
    let mut p = Parser::new(text)?;
    let ty = p.ty()?;
    p.expect_end()?;
    Ok(ty)
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

type Names = HashMap<String, Value>;

impl Parser {
    fn new(text: &str) -> Result<Self> {
        Ok(Self { tokens: lex(text)?, at: 0, depth: 0 })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn peek_after(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }

    fn next(&mut self) -> Token {
        let t = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        t
    }

    fn error(&self, text: impl std::fmt::Display) -> Error {
        let line = self.tokens[self.at.saturating_sub(1)].1;
        Error::invalid(format!("line {line}: {text}"))
    }

    fn take(&mut self, sign: &'static str) -> bool {
        let found = *self.peek() == Token::Sign(sign);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<()> {
        if self.take(sign) {
            return Ok(());
        }
        let found = self.next();
        Err(self.error(format!("expected `{sign}`, found {found:?}")))
    }

    fn expect_end(&mut self) -> Result<()> {
        match self.next() {
            Token::End => Ok(()),
            t => Err(self.error(format!("expected the end, found {t:?}"))),
        }
    }

    fn word(&mut self) -> Result<String> {
        match self.next() {
            Token::Word(w) | Token::Text(w) => Ok(w),
            t => Err(self.error(format!("expected a name, found {t:?}"))),
        }
    }

    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(format!("nested deeper than {DEPTH}")));
        }
        let out = f(self);
        self.depth -= 1;
        out
    }

    /// Items up to `close`, separated by commas.
    fn list<T>(
        &mut self,
        close: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut out = Vec::new();
        while !self.take(close) {
            if !out.is_empty() {
                self.expect(",")?;
            }
            out.push(item(self)?);
        }
        Ok(out)
    }

    fn graph(&mut self) -> Result<Graph> {
        let (mut g, mut names) = (Graph::new(), Names::new());
        loop {
            let first = self.word()?;
            if first == "return" {
                return self.outputs(g, &names);
            }
            if self.take(":") {
                let ty = self.ty()?;
                self.define(&mut names, &first, |_| Ok(g.input(&first, ty)))?;
                continue;
            }
            let mut made = vec![first];
            while self.take(",") {
                made.push(self.word()?);
            }
            self.expect("=")?;
            self.statement(&mut g, &mut names, made)?;
        }
    }

    fn define(
        &self,
        names: &mut Names,
        name: &str,
        value: impl FnOnce(&Self) -> Result<Value>,
    ) -> Result<()> {
        let v = value(self)?;
        match names.insert(name.to_owned(), v) {
            None => Ok(()),
            Some(_) => Err(self.error(format!("`{name}` is defined twice"))),
        }
    }

    fn outputs(&mut self, mut g: Graph, names: &Names) -> Result<Graph> {
        let mut outputs: Vec<(Arc<str>, Value)> = Vec::new();
        while matches!(self.peek(), Token::Word(_) | Token::Text(_)) {
            let name = self.word()?;
            let value = if self.take("=") { self.word()? } else { name.clone() };
            outputs.push((name.as_str().into(), self.lookup(names, &value)?));
            if !self.take(",") {
                break;
            }
        }
        g.set_outputs(outputs);
        Ok(g)
    }

    fn lookup(&self, names: &Names, name: &str) -> Result<Value> {
        names.get(name).copied().ok_or_else(|| self.error(format!("`{name}` is not defined")))
    }

    /// The right side of `a, b = …`.
    fn statement(&mut self, g: &mut Graph, names: &mut Names, made: Vec<String>) -> Result<()> {
        if *self.peek_after() == Token::Sign("[") {
            let t = self.tensor()?;
            return self.define(names, &made[0], |_| Ok(g.constant(&made[0], t)));
        }
        let op = self.word()?;
        self.expect("(")?;
        let inputs = self.list(")", |p| p.operand(g, names))?;
        let mut attrs = Attrs::default();
        if self.take("{") {
            for (name, value) in self.list("}", Self::named_attr)? {
                attrs.set(&name, value);
            }
        }
        let name = &made[0];
        let spec = NodeSpec { op: &op, opset: i64::MAX, name, inputs, attrs, outputs: made.len() };
        let values = schema::add(g, spec)?;
        for (name, v) in made.iter().zip(values) {
            self.define(names, name, |_| Ok(v))?;
        }
        Ok(())
    }

    fn operand(&mut self, g: &mut Graph, names: &mut Names) -> Result<Option<Value>> {
        let name = self.word()?;
        if name == "_" {
            return Ok(None);
        }
        if self.take(":") {
            let ty = self.ty()?;
            self.define(names, &name, |_| Ok(g.input(&name, ty)))?;
        }
        self.lookup(names, &name).map(Some)
    }

    fn named_attr(&mut self) -> Result<(String, Attr)> {
        let name = self.word()?;
        self.expect("=")?;
        Ok((name, self.attr()?))
    }

    fn attr(&mut self) -> Result<Attr> {
        if self.take("[") {
            return self.attr_list();
        }
        let is_tensor = matches!(self.peek(), Token::Word(w) if w.parse::<DType>().is_ok());
        match (self.peek().clone(), self.peek_after().clone()) {
            (Token::Text(s), _) => {
                self.next();
                Ok(Attr::String(s))
            }
            (Token::Word(w), Token::Sign("{")) if w == "graph" => {
                self.next();
                self.next();
                let g = self.deeper(Self::graph)?;
                self.expect("}")?;
                Ok(Attr::Graph(g.into()))
            }
            (Token::Word(_), Token::Sign("[")) if is_tensor => Ok(Attr::Tensor(self.tensor()?)),
            (Token::Word(of), Token::Sign("[")) => {
                self.next();
                self.next();
                self.typed_list(&of)
            }
            _ => self.number_attr(),
        }
    }

    fn number_attr(&mut self) -> Result<Attr> {
        let text = self.number()?;
        match text.parse::<i64>() {
            Ok(i) => Ok(Attr::Int(i)),
            Err(_) => Ok(Attr::Float(self.parsed(&text, "number")?)),
        }
    }

    fn attr_list(&mut self) -> Result<Attr> {
        let items = self.list("]", |p| match p.peek() {
            Token::Text(_) => Ok(Attr::String(p.word()?)),
            _ => p.number_attr(),
        })?;
        let strings = |a: &Attr| match a {
            Attr::String(s) => Some(s.clone()),
            _ => None,
        };
        let ints = |a: &Attr| match a {
            Attr::Int(i) => Some(*i),
            _ => None,
        };
        let floats = |a: &Attr| match a {
            Attr::Int(i) => Some(*i as f32),
            Attr::Float(x) => Some(*x),
            _ => None,
        };
        None.or_else(|| items.iter().map(ints).collect::<Option<_>>().map(Attr::Ints))
            .or_else(|| items.iter().map(floats).collect::<Option<_>>().map(Attr::Floats))
            .or_else(|| items.iter().map(strings).collect::<Option<_>>().map(Attr::Strings))
            .ok_or_else(|| self.error("a list of strings and numbers"))
    }

    fn typed_list(&mut self, of: &str) -> Result<Attr> {
        match of {
            "tensors" => Ok(Attr::Tensors(self.list("]", Self::tensor)?)),
            "ints" | "floats" | "strings" => {
                self.expect("]")?;
                Ok(match of {
                    "ints" => Attr::Ints(vec![]),
                    "floats" => Attr::Floats(vec![]),
                    _ => Attr::Strings(vec![]),
                })
            }
            _ => Err(self.error(format!("`{of}` is no list type"))),
        }
    }

    /// A number with its sign, as text.
    fn number(&mut self) -> Result<String> {
        let sign = if self.take("-") { "-" } else { "" };
        Ok(format!("{sign}{}", self.word()?))
    }

    fn parsed<T: std::str::FromStr>(&self, text: &str, what: &str) -> Result<T> {
        text.parse().map_err(|_| self.error(format!("`{text}` is no {what}")))
    }

    fn dtype(&mut self) -> Result<DType> {
        let w = self.word()?;
        self.parsed(&w, "type")
    }

    fn tensor(&mut self) -> Result<Tensor> {
        let dtype = self.dtype()?;
        self.expect("[")?;
        let shape = self.list("]", |p| {
            let w = p.word()?;
            p.parsed::<usize>(&w, "length")
        })?;
        self.expect("{")?;
        if self.take("…") {
            return Err(self.error("this constant was elided; print the graph in full"));
        }
        let items = self.list("}", |p| match p.peek() {
            Token::Text(_) => p.word(),
            _ => p.number(),
        })?;
        self.tensor_of(dtype, &shape, items)
    }

    fn tensor_of(&self, dtype: DType, shape: &[usize], items: Vec<String>) -> Result<Tensor> {
        if dtype == DType::String {
            return Ok(Tensor::from_strings(shape, items)?);
        }
        if !dtype.is_float() && !matches!(dtype, DType::C64 | DType::C128) {
            let ints: Vec<i128> =
                items.iter().map(|s| self.parsed(s, "integer")).collect::<Result<_>>()?;
            return match_scalar!(dtype, T => {
                Ok(Tensor::from_vec(shape, ints.into_iter().map(T::from_i128).collect())?)
            }, else Err(self.error("no integer type")));
        }
        let floats: Vec<f64> =
            items.iter().map(|s| self.parsed(s, "number")).collect::<Result<_>>()?;
        match dtype {
            DType::C64 => {
                let pairs = floats
                    .chunks(2)
                    .map(|c| Complex { re: c[0] as f32, im: c[c.len() - 1] as f32 });
                Ok(Tensor::from_vec(shape, pairs.collect())?)
            }
            DType::C128 => {
                let pairs = floats.chunks(2).map(|c| Complex { re: c[0], im: c[c.len() - 1] });
                Ok(Tensor::from_vec(shape, pairs.collect())?)
            }
            // Text holds the shortest digits of the value in its own precision.
            DType::F32 => {
                let own: Result<Vec<f32>> =
                    items.iter().map(|s| self.parsed(s, "number")).collect();
                Ok(Tensor::from_vec(shape, own?)?)
            }
            _ => match_scalar!(dtype, T => {
                Ok(Tensor::from_vec(shape, floats.into_iter().map(T::from_f64).collect())?)
            }, else Err(self.error("no float type"))),
        }
    }

    fn ty(&mut self) -> Result<Type> {
        self.deeper(Self::ty_here)
    }

    fn ty_here(&mut self) -> Result<Type> {
        let head = self.word()?;
        if self.take("(") {
            let ty = match head.as_str() {
                "seq" => Type::Sequence(self.ty()?.into()),
                "opt" => Type::Optional(self.ty()?.into()),
                "map" => {
                    let key = self.dtype()?;
                    self.expect(",")?;
                    Type::Map(key, self.ty()?.into())
                }
                _ => return Err(self.error(format!("`{head}` is no type"))),
            };
            self.expect(")")?;
            return Ok(ty);
        }
        let dtype = self.parsed::<DType>(&head, "type")?;
        self.expect("[")?;
        if self.take("..") {
            self.expect("]")?;
            return Ok(Type::tensor(dtype, None));
        }
        Ok(Type::tensor(dtype, Some(self.list("]", Self::dim)?)))
    }

    fn dim(&mut self) -> Result<Dim> {
        let mut sum = Dim::default();
        let mut minus = self.take("-");
        loop {
            let mut product = self.factor()?;
            while self.take("*") {
                product = product * self.factor()?;
            }
            sum = if minus { sum - product } else { sum + product };
            minus = match self.peek() {
                Token::Sign("+") => false,
                Token::Sign("-") => true,
                _ => return Ok(sum),
            };
            self.next();
        }
    }

    fn factor(&mut self) -> Result<Dim> {
        let w = self.word()?;
        if (w == "floor" || w == "max" || w == "mul") && self.take("(") {
            let a = self.deeper(Self::dim)?;
            self.expect(",")?;
            let b = self.deeper(Self::dim)?;
            self.expect(")")?;
            return Ok(match &*w {
                "max" => a.larger(&b),
                "mul" => a * b,
                _ => a.floor_div(&b),
            });
        }
        Ok(w.parse::<i64>().map_or_else(|_| Dim::sym(&w), Dim::from))
    }
}
