//! Rust sources as syntax: functions, traits, words; test code is left out.

use std::ops::RangeInclusive;
use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A word or a sign, and the line it stands on.
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A function with a body.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// What the rules ask of one file.
#[derive(Default)]
pub struct Outline {
    pub functions: Vec<Function>,
    /// Name, line and number of methods of each trait.
    pub traits: Vec<(String, usize, usize)>,
    tests: Vec<RangeInclusive<usize>>,
}

impl Outline {
    /// The outline of one source text.
    pub fn parse(file: &str, text: &str) -> Self {
        let syntax = syn::parse_file(text).unwrap_or_else(|e| panic!("{file}: {e}"));
        let mut outline = Outline::default();
        outline.visit_file(&syntax);
        outline
    }

    /// Whether the line belongs to test code.
    pub fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|t| t.contains(&line))
    }

    /// The lines of test code.
    pub fn test_lines(&self) -> usize {
        self.tests.iter().map(|t| t.end() + 1 - t.start()).sum()
    }

    fn function(&mut self, sig: &syn::Signature, block: &syn::Block) {
        let (first, last) = (sig.span().start().line, block.span().end().line);
        let name = sig.ident.to_string();
        self.functions.push(Function { name, line: first, lines: last + 1 - first });
    }
}

fn for_tests(attrs: &[syn::Attribute]) -> bool {
    let list = |a: &syn::Attribute| a.meta.require_list().map(|l| l.tokens.to_string());
    attrs.iter().any(|a| {
        a.path().is_ident("test")
            || (a.path().is_ident("cfg") && list(a).is_ok_and(|t| t == "test"))
    })
}

impl<'a> Visit<'a> for Outline {
    fn visit_item(&mut self, item: &'a syn::Item) {
        let attrs = match item {
            syn::Item::Mod(i) => &i.attrs[..],
            syn::Item::Fn(i) => &i.attrs,
            syn::Item::Use(i) => &i.attrs,
            syn::Item::Impl(i) => &i.attrs,
            syn::Item::Struct(i) => &i.attrs,
            syn::Item::Const(i) => &i.attrs,
            syn::Item::Macro(i) => &i.attrs,
            _ => &[],
        };
        match for_tests(attrs) {
            true => self.tests.push(item.span().start().line..=item.span().end().line),
            false => visit::visit_item(self, item),
        }
    }

    fn visit_item_fn(&mut self, f: &'a syn::ItemFn) {
        self.function(&f.sig, &f.block);
        visit::visit_item_fn(self, f);
    }

    fn visit_impl_item_fn(&mut self, f: &'a syn::ImplItemFn) {
        self.function(&f.sig, &f.block);
        visit::visit_impl_item_fn(self, f);
    }

    fn visit_trait_item_fn(&mut self, f: &'a syn::TraitItemFn) {
        if let Some(block) = &f.default {
            self.function(&f.sig, block);
        }
        visit::visit_trait_item_fn(self, f);
    }

    fn visit_item_trait(&mut self, t: &'a syn::ItemTrait) {
        let methods = t.items.iter().filter(|i| matches!(i, syn::TraitItem::Fn(_))).count();
        self.traits.push((t.ident.to_string(), t.ident.span().start().line, methods));
        visit::visit_item_trait(self, t);
    }
}

/// Every token of a source text, groups opened up; comments and strings are no words.
pub fn tokens(file: &str, text: &str) -> Vec<Token> {
    let stream = TokenStream::from_str(text).unwrap_or_else(|e| panic!("{file}: {e}"));
    let mut flat = Vec::new();
    flatten(stream, &mut flat);
    flat
}

fn flatten(stream: TokenStream, flat: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                flat.push(Token { text: open.into(), line });
                flatten(group.stream(), flat);
                flat.push(Token { text: close.into(), line: group.span_close().start().line });
            }
            other => flat.push(Token { text: other.to_string(), line }),
        }
    }
}
