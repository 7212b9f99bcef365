//! `TfIdfVectorizer`: how often each known n-gram stands in a row of tokens, weighted.
//!
//! ```text
//! y = TfIdfVectorizer(x: str[N,C]) {...}   y: f32[N, greatest of ngram_indexes + 1]
//! ```
//! The n-grams lie in a trie, so that each token is looked at once for each length and skip.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Tensor};

use super::real::Ticks;
use super::scores::Labels;
use crate::eval::tensor;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, attr_enum, attrs, invalid};

/// Rows of tokens into weighted counts of n-grams.
#[derive(Clone, Debug, PartialEq)]
pub struct TfIdfVectorizer(Arc<Vectorizer>);

#[derive(Debug, PartialEq)]
struct Vectorizer {
    settings: Settings,
    pool: Labels,
    trie: Trie,
    /// The length of a row of the output.
    width: usize,
}

attrs! {
    /// The attributes but the pool of n-grams.
    pub struct Settings {
        /// The most tokens of an n-gram.
        max_gram_length: i64,
        /// How many tokens may be skipped between two of an n-gram.
        max_skip_count: i64,
        /// The least tokens of an n-gram.
        min_gram_length: i64,
        /// What is made of counts.
        mode: Mode,
        /// Where the n-grams of one, two, ... tokens begin in the pool.
        ngram_counts: Vec<i64>,
        /// The place in the output of each n-gram.
        ngram_indexes: Vec<i64>,
        /// The weight of each place in the output.
        weights: Vec<f32> = vec![],
    }
}

attr_enum! {
    /// What is made of counts.
    pub enum Mode {
        /// They are the output.
        Tf = "TF",
        /// The weight, where the count is not zero.
        Idf = "IDF",
        /// The count times the weight.
        TfIdf = "TFIDF",
    }
}

/// The n-grams as paths of tokens. Tokens and nodes have numbers; node 0 is the root.
#[derive(Debug, Default, PartialEq)]
struct Trie {
    ints: HashMap<i64, u32>,
    strings: HashMap<String, u32>,
    steps: HashMap<(u32, u32), u32>,
    /// The place in the output of the n-gram that ends at a node.
    places: Vec<Option<usize>>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "TfIdfVectorizer",
    since: 9,
    build: |b| {
        let pool = Labels::read(&b.attrs, "pool_int64s", "pool_strings")?;
        let settings = Settings::read(&mut b.attrs)?;
        Ok(TfIdfVectorizer::new(settings, pool)?.into())
    },
}];

impl TfIdfVectorizer {
    fn new(settings: Settings, pool: Labels) -> Result<Self> {
        settings.check()?;
        let greatest = settings.ngram_indexes.iter().copied().max().unwrap_or(-1);
        let width = greatest as usize + 1;
        let weights = settings.weights.len();
        if weights > 0 && (weights != settings.ngram_indexes.len() || weights < width) {
            invalid!(
                "there are {weights} weights for {} n-grams and an output of {width}",
                settings.ngram_indexes.len()
            );
        }
        let trie = Trie::new(&settings, &pool)?;
        Ok(Self(Arc::new(Vectorizer { settings, pool, trie, width })))
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        if self.min_gram_length < 1 || self.max_gram_length < self.min_gram_length {
            let (min, max) = (self.min_gram_length, self.max_gram_length);
            invalid!("n-grams of {min} to {max} tokens are none");
        }
        if self.max_gram_length as usize > self.ngram_counts.len() {
            invalid!("ngram_counts has no element for n-grams of max_gram_length tokens");
        }
        if self.max_skip_count < 0 {
            invalid!("max_skip_count is {}", self.max_skip_count);
        }
        // Weights and outputs of a width beyond this fit no memory.
        if let Some(i) = self.ngram_indexes.iter().find(|&&i| !(0..1 << 40).contains(&i)) {
            invalid!("ngram_indexes has {i}");
        }
        Ok(())
    }

    /// Where the n-grams of `n` tokens lie in a pool.
    fn range(&self, n: usize, pool: usize) -> Result<std::ops::Range<usize>> {
        let at = |n: usize| self.ngram_counts.get(n).map_or(Ok(pool), |&i| usize::try_from(i));
        match (at(n - 1), at(n)) {
            (Ok(a), Ok(b)) if a <= b && b <= pool && (b - a).is_multiple_of(n) => Ok(a..b),
            _ => invalid!("ngram_counts gives no whole n-grams of {n} tokens in a pool of {pool}"),
        }
    }
}

impl Trie {
    fn new(settings: &Settings, pool: &Labels) -> Result<Self> {
        let mut trie = Trie { places: vec![None], ..Trie::default() };
        let tokens: Vec<u32> = match pool {
            Labels::Ints(v) => v.iter().map(|&t| number(&mut trie.ints, t)).collect(),
            Labels::Strings(v) => v.iter().map(|t| number(&mut trie.strings, t.clone())).collect(),
        };
        let lengths = settings.min_gram_length as usize..=settings.max_gram_length as usize;
        let mut id = 0;
        for n in 1..=settings.ngram_counts.len() {
            for gram in tokens[settings.range(n, tokens.len())?].chunks_exact(n) {
                let Some(&place) = settings.ngram_indexes.get(id) else {
                    invalid!("ngram_indexes has no element for n-gram {id} of the pool");
                };
                id += 1;
                if lengths.contains(&n) {
                    trie.insert(gram, place as usize)?;
                }
            }
        }
        Ok(trie)
    }

    fn insert(&mut self, gram: &[u32], place: usize) -> Result<()> {
        let mut node = 0;
        for &token in gram {
            let next = self.places.len() as u32;
            node = *self.steps.entry((node, token)).or_insert(next);
            if node == next {
                self.places.push(None);
            }
        }
        match self.places[node as usize].replace(place) {
            None => Ok(()),
            Some(_) => invalid!("an n-gram of {} tokens stands twice in the pool", gram.len()),
        }
    }

    /// The numbers of the tokens; `None` for one that no n-gram has.
    fn tokens(&self, x: &Tensor) -> Result<Vec<Option<u32>>> {
        Ok(match x.strings() {
            Ok(s) => s.iter().map(|t| self.strings.get(t).copied()).collect(),
            Err(_) => x.to_vec::<i64>()?.into_iter().map(|t| self.ints.get(&t).copied()).collect(),
        })
    }
}

/// The number of a token, a new one where it has none.
fn number<T: std::hash::Hash + Eq>(numbers: &mut HashMap<T, u32>, token: T) -> u32 {
    let next = numbers.len() as u32;
    *numbers.entry(token).or_insert(next)
}

impl Vectorizer {
    fn count(&self, row: &[Option<u32>], y: &mut [f32], ticks: &mut Ticks<'_>) -> Result<()> {
        let Settings { max_gram_length, max_skip_count, .. } = self.settings;
        let mut least = self.settings.min_gram_length as usize;
        for distance in 1..=(max_skip_count as usize).saturating_add(1) {
            let reach = distance.saturating_mul(least - 1);
            if reach >= row.len() {
                break;
            }
            for start in 0..row.len() - reach {
                let tokens = row[start..].iter().step_by(distance);
                let mut node = 0;
                for (token, n) in tokens.zip(1..=max_gram_length as usize) {
                    ticks.add(1)?;
                    let step = token.and_then(|t| self.trie.steps.get(&(node, t)));
                    let Some(&next) = step else { break };
                    node = next;
                    if let Some(place) = self.trie.places[node as usize].filter(|_| n >= least) {
                        y[place] += 1.0;
                    }
                }
            }
            // Single tokens are the same whatever is skipped.
            least = least.max(2);
            if least as i64 > max_gram_length {
                break;
            }
        }
        Ok(())
    }

    fn weigh(&self, row: &mut [f32]) {
        let mode = self.settings.mode;
        if mode == Mode::Tf {
            return;
        }
        for (i, y) in row.iter_mut().enumerate() {
            let weight = self.settings.weights.get(i).copied().unwrap_or(1.0);
            match mode {
                Mode::Tf => {}
                Mode::Idf => *y = if *y > 0.0 { weight } else { 0.0 },
                Mode::TfIdf => *y *= weight,
            }
        }
    }
}

impl Operator for TfIdfVectorizer {
    fn name(&self) -> &str {
        "TfIdfVectorizer"
    }

    fn attrs(&self) -> Attrs {
        self.0.pool.write(self.0.settings.write(), "pool_int64s", "pool_strings")
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let text = matches!(self.0.pool, Labels::Strings(_));
        cx.dtype_in(0, |d| match d {
            DType::String => text,
            d => !text && matches!(d, DType::I32 | DType::I64),
        })?;
        let width = self.0.width.into();
        let shape = match cx.shape(0)? {
            None => None,
            Some([] | [_]) => Some(vec![width]),
            Some([n, _]) => Some(vec![n.clone(), width]),
            Some(s) => invalid!("TfIdfVectorizer takes [C] and [N,C], the rank is {}", s.len()),
        };
        Ok(vec![Fact::tensor(DType::F32, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let (shape, rows, columns) = match *x.shape() {
            [] => (vec![self.0.width], 1, 1),
            [c] => (vec![self.0.width], 1, c),
            [n, c] => (vec![n, self.0.width], n, c),
            _ => invalid!("TfIdfVectorizer takes [C] and [N,C], not {:?}", x.shape()),
        };
        let tokens = self.0.trie.tokens(x)?;
        let mut y = cx.zeros::<f32>(&shape)?;
        let mut ticks = Ticks::new(cx);
        for i in 0..if self.0.width > 0 { rows } else { 0 } {
            let row = &mut y[i * self.0.width..][..self.0.width];
            self.0.count(&tokens[i * columns..][..columns], row, &mut ticks)?;
            self.0.weigh(row);
        }
        Ok(vec![Tensor::from_vec(&shape, y)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    const POOL: &str = "ngram_counts=[0,4], ngram_indexes=[0,1,2,3,4,5,6], \
                        pool_int64s=[2,3,5,4,5,6,7,8,6,7]";

    fn bag(attrs: &str, x: Tensor) -> Result<Vec<f32>> {
        let ty = crate::Type::of(&x.clone().into());
        let text = format!("y = TfIdfVectorizer(x: {ty}) {{{attrs}}}\nreturn y");
        Ok(run1(&text, &[x])?.to_vec::<f32>()?)
    }

    #[test]
    fn counting() {
        let x = || Tensor::vector(vec![1i32, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]);
        let cases: &[(&str, [f32; 7])] = &[
            (
                "min_gram_length=2, max_gram_length=2, max_skip_count=0",
                [0., 0., 0., 0., 1., 1., 1.],
            ),
            (
                "min_gram_length=1, max_gram_length=2, max_skip_count=0",
                [0., 3., 1., 0., 1., 1., 1.],
            ),
            // 7 _ 6 is no pair; 8 _ 7 neither; 5 _ 8 neither; 6 _ 5 neither.
            (
                "min_gram_length=1, max_gram_length=2, max_skip_count=5",
                [0., 3., 1., 0., 1., 3., 1.],
            ),
        ];
        for (lengths, want) in cases {
            let y = bag(&format!("mode=\"TF\", {lengths}, {POOL}"), x()).expect(lengths);
            assert_eq!(y, want, "{lengths}");
        }
    }

    #[test]
    fn weights() {
        let attrs = "max_skip_count=0, min_gram_length=1, max_gram_length=1, ngram_counts=[0], \
                     ngram_indexes=[1,0], pool_strings=[\"a\",\"b\"], weights=[2.0,3.0]";
        let strings = ["a", "a", "b", "x", "x", "a"].map(str::to_owned).to_vec();
        let x = || Tensor::from_strings(&[2, 3], strings.clone()).expect("2x3");
        let modes: &[(&str, [f32; 4])] = &[
            ("TF", [1.0, 2.0, 0.0, 1.0]),
            ("IDF", [2.0, 3.0, 0.0, 3.0]),
            ("TFIDF", [2.0, 6.0, 0.0, 3.0]),
        ];
        for (mode, want) in modes {
            assert_eq!(bag(&format!("{attrs}, mode=\"{mode}\""), x()).expect(mode), want);
        }
        let text = format!("y = TfIdfVectorizer(x: str[N,C]) {{{attrs}, mode=\"TF\"}}\nreturn y");
        assert_eq!(types(&text).expect("types"), ["f32[N,2]"]);
        assert!(types(&text.replace("str[", "i64[")).is_err());
    }

    #[test]
    fn pools_that_do_not_fit_are_errors() {
        let good = "max_skip_count=0, min_gram_length=1, max_gram_length=2, mode=\"TF\", \
                    ngram_counts=[0,1], ngram_indexes=[0,1], pool_int64s=[1,1,2]";
        let x = || Tensor::vector(vec![1i64, 2]);
        assert_eq!(bag(good, x()).expect("runs"), [1.0, 1.0]);
        for (from, to) in [
            ("[1,1,2]", "[1,1]"),
            ("[0,1],", "[0],"),
            ("counts=[0,1]", "counts=[0,-1]"),
            ("indexes=[0,1]", "indexes=[0]"),
            ("indexes=[0,1]", "indexes=[0,-1]"),
            ("min_gram_length=1", "min_gram_length=3"),
            ("[1,1,2]", "[1,1,2,1,2]"),
            ("\"TF\"", "\"TF\", weights=[1.0]"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(bag(&bad, x()).is_err(), "{bad}");
        }
    }
}
