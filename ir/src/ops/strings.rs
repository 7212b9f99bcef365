//! Strings element by element: cleaned, matched, split and put together.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::shape::{broadcast, broadcast_strides, offsets};
use kiln_tensor::{DType, Datum, Tensor};

use super::re2::Pattern;
use super::real::Ticks;
use crate::eval::tensor;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, attr_enum, attrs, invalid};

/// A function of strings.
#[derive(Clone, Debug, PartialEq)]
pub enum Strings {
    /// `StringNormalizer`: elements without stop words, in another case.
    Normalize(Arc<Normalizer>),
    /// `RegexFullMatch`: whether all of an element matches.
    FullMatch(Arc<FullMatch>),
    /// `StringSplit`: the parts of each element along a new last axis, and their number.
    Split(Arc<Split>),
    /// `StringConcat`: one element after the other.
    Concat,
}

attrs! {
    /// How elements are cleaned.
    pub struct Normalizer {
        /// What becomes of letters.
        case "case_change_action": Case = Case::None,
        /// Whether stop words must agree in case.
        sensitive "is_case_sensitive": bool = false,
        /// Elements that are left out.
        stopwords: Vec<String> = vec![],
        /// Whose letters other runtimes go by; a locale of the system would make results depend on
        /// it, so here they are Unicode's.
        locale: String = String::new(),
    }
}

attr_enum! {
    /// What becomes of letters; by Unicode, whatever the locale.
    pub enum Case {
        /// They are kept.
        None = "NONE",
        /// They become lower case.
        Lower = "LOWER",
        /// They become upper case.
        Upper = "UPPER",
    }
}

attrs! {
    /// Where elements are split.
    pub struct Split {
        /// What stands between parts; nothing stands for any white space.
        delimiter: String = String::new(),
        /// How often an element is split at most; without limit where negative.
        maxsplit: i64 = -1,
    }
}

/// An expression that all of an element must match.
#[derive(Debug, PartialEq)]
pub struct FullMatch(Pattern);

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "StringNormalizer",
        since: 10,
        build: |b| Ok(Strings::Normalize(Normalizer::read(&mut b.attrs)?.into()).into()),
    },
    Schema {
        name: "RegexFullMatch",
        since: 20,
        build: |b| {
            let pattern = Pattern::whole(&b.require::<String>("pattern")?)?;
            Ok(Strings::FullMatch(FullMatch(pattern).into()).into())
        },
    },
    Schema {
        name: "StringSplit",
        since: 20,
        build: |b| Ok(Strings::Split(Split::read(&mut b.attrs)?.into()).into()),
    },
    Schema { name: "StringConcat", since: 20, build: |_| Ok(Strings::Concat.into()) },
];

impl Case {
    fn apply(self, s: &str) -> String {
        match self {
            Case::None => s.to_owned(),
            Case::Lower => s.to_lowercase(),
            Case::Upper => s.to_uppercase(),
        }
    }
}

impl Normalizer {
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        if !matches!(x.shape(), [_] | [1, _]) {
            invalid!("StringNormalizer takes shapes [C] and [1,C], not {:?}", x.shape());
        }
        let fold = match (self.sensitive, self.case) {
            (true, _) => Case::None,
            (false, Case::Upper) => Case::Upper,
            (false, _) => Case::Lower,
        };
        let stop: HashSet<String> = self.stopwords.iter().map(|w| fold.apply(w)).collect();
        let keep = x.strings()?.iter().filter(|s| !stop.contains(&fold.apply(s)));
        let mut y: Vec<String> = keep.map(|s| self.case.apply(s)).collect();
        if y.is_empty() && !x.is_empty() {
            y.push(String::new());
        }
        let mut shape = x.shape().to_vec();
        *shape.last_mut().expect("invariant: the rank is 1 or 2") = y.len();
        Ok(Tensor::from_strings(&shape, y)?)
    }
}

impl Split {
    fn parts<'a>(&self, s: &'a str) -> Vec<&'a str> {
        let most = usize::try_from(self.maxsplit).map_or(usize::MAX, |n| n.saturating_add(1));
        if !self.delimiter.is_empty() {
            return s.splitn(most, &self.delimiter).collect();
        }
        let mut parts = Vec::new();
        let mut rest = s.trim_start_matches(is_space);
        while !rest.is_empty() {
            let end = rest.find(is_space).filter(|_| parts.len() + 1 < most);
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            parts.push(part);
            rest = after.trim_start_matches(is_space);
        }
        parts
    }

    fn run(&self, cx: &Context, x: &Tensor) -> Result<Vec<Datum>> {
        let rows: Vec<Vec<&str>> = x.strings()?.iter().map(|s| self.parts(s)).collect();
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let counts = rows.iter().map(|r| r.len() as i64).collect();
        let mut shape = x.shape().to_vec();
        shape.push(longest);
        cx.numel(DType::String, &shape)?;
        let filled = |row: Vec<&str>| {
            let mut row: Vec<String> = row.into_iter().map(str::to_owned).collect();
            row.resize(longest, String::new());
            row
        };
        let y = Tensor::from_strings(&shape, rows.into_iter().flat_map(filled).collect())?;
        Ok(vec![y.into(), Tensor::from_vec(x.shape(), counts)?.into()])
    }
}

/// White space of Unicode, and the separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn concat(cx: &Context, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let shape = broadcast(x.shape(), y.shape())?;
    cx.numel(DType::String, &shape)?;
    let places = |t: &Tensor| offsets(&shape, &broadcast_strides(t.shape(), &shape));
    let (a, b) = (x.strings()?, y.strings()?);
    let (mut out, mut bytes, mut ticks) = (Vec::new(), 0usize, Ticks::new(cx));
    for (i, k) in places(x).zip(places(y)) {
        // Broadcasting repeats long strings: the bytes are bounded, too.
        let n = a[i].len() + b[k].len();
        bytes = bytes.saturating_add(n);
        cx.numel(DType::U8, &[bytes])?;
        ticks.add(n + 1)?;
        out.push([a[i].as_str(), &b[k]].concat());
    }
    Ok(Tensor::from_strings(&shape, out)?)
}

impl Operator for Strings {
    fn name(&self) -> &str {
        match self {
            Strings::Normalize(_) => "StringNormalizer",
            Strings::FullMatch(_) => "RegexFullMatch",
            Strings::Split(_) => "StringSplit",
            Strings::Concat => "StringConcat",
        }
    }

    fn attrs(&self) -> Attrs {
        match self {
            Strings::Normalize(n) => n.write(),
            Strings::FullMatch(m) => Attrs::default().with("pattern", m.0.source().to_owned()),
            Strings::Split(s) => s.write(),
            Strings::Concat => Attrs::default(),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Strings::Concat => 2..=2,
            _ => 1..=1,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, |d| d == DType::String)?;
        let mut shape = cx.shape(0)?.map(<[_]>::to_vec);
        Ok(match self {
            Strings::Normalize(n) => {
                match shape.as_deref_mut() {
                    Some([c]) if !n.stopwords.is_empty() => *c = cx.fresh(),
                    Some([rows, c]) if rows.as_const().is_none_or(|r| r == 1) => {
                        *rows = 1i64.into();
                        if !n.stopwords.is_empty() {
                            *c = cx.fresh();
                        }
                    }
                    Some([_]) | None => {}
                    _ => invalid!("StringNormalizer takes shapes [C] and [1,C]"),
                }
                vec![Fact::tensor(DType::String, shape)]
            }
            Strings::FullMatch(_) => vec![Fact::tensor(DType::Bool, shape)],
            Strings::Split(_) => {
                let counts = Fact::tensor(DType::I64, shape.clone());
                if let Some(s) = &mut shape {
                    s.push(cx.fresh());
                }
                vec![Fact::tensor(DType::String, shape), counts]
            }
            Strings::Concat => {
                cx.dtype_in(1, |d| d == DType::String)?;
                vec![Fact::tensor(DType::String, cx.broadcast(0..2)?)]
            }
        })
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        Ok(match self {
            Strings::Normalize(n) => vec![n.run(x)?.into()],
            Strings::FullMatch(m) => {
                let regex = m.0.regex();
                let y = x.strings()?.iter().map(|s| regex.is_match(s)).collect();
                vec![Tensor::from_vec::<bool>(x.shape(), y)?.into()]
            }
            Strings::Split(s) => s.run(cx, x)?,
            Strings::Concat => vec![concat(cx, x, tensor(inputs, 1)?)?.into()],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, run1, types};

    fn t(shape: &[usize], s: &[&str]) -> Tensor {
        Tensor::from_strings(shape, s.iter().map(|s| (*s).to_owned()).collect()).expect("strings")
    }

    #[test]
    fn normalizing() {
        let x = || t(&[4], &["Monday", "MONDAY", "É", "tuesday"]);
        let cases: &[(&str, &[&str])] = &[
            ("", &["Monday", "MONDAY", "É", "tuesday"]),
            ("case_change_action=\"LOWER\"", &["monday", "monday", "é", "tuesday"]),
            ("stopwords=[\"monday\"]", &["É", "tuesday"]),
            ("case_change_action=\"UPPER\", stopwords=[\"é\"]", &["MONDAY", "MONDAY", "TUESDAY"]),
            (
                "is_case_sensitive=1, locale=\"C\", stopwords=[\"Monday\", \"tuesday\"]",
                &["MONDAY", "É"],
            ),
            ("stopwords=[\"monday\", \"é\", \"tuesday\"]", &[""]),
        ];
        for (attrs, want) in cases {
            let y = run1(&format!("y = StringNormalizer(x: str[C]) {{{attrs}}}\nreturn y"), &[x()]);
            assert_eq!(y.expect(attrs).strings().expect("strings"), *want, "{attrs}");
        }
        let text = "y = StringNormalizer(x: str[A,B]) {stopwords=[\"a\"]}\nreturn y";
        let y = run1(text, &[t(&[1, 2], &["a", "A"])]).expect("runs");
        assert_eq!(y, t(&[1, 1], &[""]));
        assert!(run1(text, &[t(&[2, 1], &["a", "A"])]).is_err());
        let same = types("y = StringNormalizer(x: str[C])\nreturn y").expect("types");
        assert_eq!(same, ["str[C]"]);
    }

    #[test]
    fn full_matches() {
        let text = "y = RegexFullMatch(x: str[3]) {pattern=\"a|ab\"}\nreturn y";
        let y = run1(text, &[t(&[3], &["a", "ab", "abc"])]).expect("runs");
        assert_eq!(y, Tensor::vector(vec![true, true, false]));
        assert!(types(&text.replace("a|ab", "(")).is_err());
    }

    #[test]
    fn splitting() {
        let split = |attrs: &str, s: &[&str]| -> Vec<Vec<String>> {
            let text = format!("y, n = StringSplit(x: str[N]) {{{attrs}}}\nreturn y, n");
            let out = run(&text, &[t(&[s.len()], s)]).expect("runs");
            let y = out[0].as_tensor().expect("tensor");
            let n = out[1].as_tensor().expect("tensor").to_vec::<i64>().expect("counts");
            assert_eq!(y.shape(), [s.len(), n.iter().copied().max().unwrap_or(0) as usize]);
            let rows = y.strings().expect("strings").chunks(y.shape()[1].max(1));
            rows.zip(n).map(|(r, n)| r[..n as usize].to_vec()).collect()
        };
        assert_eq!(split("", &[" a  b\tc ", "d"]), [vec!["a", "b", "c"], vec!["d"]]);
        assert_eq!(split("maxsplit=1", &[" a  b c "]), [["a", "b c "]]);
        assert_eq!(split("maxsplit=0", &["  a b", "c"]), [["a b"], ["c"]]);
        assert_eq!(split("delimiter=\",\"", &["a,,b"]), [["a", "", "b"]]);
        assert_eq!(split("delimiter=\",\", maxsplit=1", &["a,b,c"]), [["a", "b,c"]]);
        assert_eq!(split("", &[" "]), Vec::<Vec<String>>::new());
        let text = "y, n = StringSplit(x: str[2,N])\nreturn y, n";
        assert_eq!(types(text).expect("types"), ["str[2,N,?1]", "i64[2,N]"]);
    }

    #[test]
    fn concatenation_broadcasts() {
        let text = "z = StringConcat(x: str[2,1], y: str[2])\nreturn z";
        let z = run1(text, &[t(&[2, 1], &["a", "b"]), t(&[2], &["1", ""])]).expect("runs");
        assert_eq!(z, t(&[2, 2], &["a1", "a", "b1", "b"]));
    }
}
