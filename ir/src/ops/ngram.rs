//! `NGramRepeatBlock`: no word that would repeat a run of words.
//!
//! ```text
//! y = com.microsoft.NGramRepeatBlock(words: i64[B,S], scores: f32[B,V]) {ngram_size=n}
//!   y[b,w] = -inf where the last n-1 words and w are a run that came before
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::tensor;
use crate::ops::real::Ticks;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attrs, invalid};

attrs! {
    /// Scores of words, those left out that would repeat a run; inputs `input_ids scores`.
    #[derive(Copy)]
    pub struct NGramRepeatBlock {
        /// Words of a run.
        ngram_size: i64,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "com.microsoft.NGramRepeatBlock",
    since: 1,
    build: |b| {
        let op = NGramRepeatBlock::read(&mut b.attrs)?;
        if op.ngram_size < 1 {
            invalid!("ngram_size is {}, expected 1 or more", op.ngram_size);
        }
        Ok(op.into())
    },
}];

impl Operator for NGramRepeatBlock {
    fn name(&self) -> &str {
        "com.microsoft.NGramRepeatBlock"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, |d| d == DType::I64)?;
        cx.dtype_in(1, |d| d == DType::F32)?;
        for i in 0..2 {
            if cx.shape(i)?.is_some_and(|s| s.len() != 2) {
                invalid!("input {i} must have a row for each text");
            }
        }
        Ok(vec![Fact::tensor(DType::F32, cx.shape(1)?.map(<[Dim]>::to_vec))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (words, scores) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let (&[batch, length], &[rows, vocabulary]) = (words.shape(), scores.shape()) else {
            invalid!("texts {:?} and scores {:?}", words.shape(), scores.shape());
        };
        if batch != rows {
            invalid!("{batch} texts have {rows} rows of scores");
        }
        let n = usize::try_from(self.ngram_size).unwrap_or(usize::MAX);
        cx.numel(DType::F32, scores.shape())?;
        let mut y = scores.to_vec::<f32>()?;
        let words = words.as_slice::<i64>()?;
        let mut ticks = Ticks::new(cx);
        if n <= length && vocabulary > 0 {
            let texts = words.chunks_exact(length);
            for (text, y) in texts.zip(y.chunks_exact_mut(vocabulary)) {
                let last = &text[length + 1 - n..];
                for run in text.windows(n).filter(|run| run[..n - 1] == *last) {
                    let word = run[n - 1];
                    let at = usize::try_from(word).ok().filter(|&w| w < vocabulary);
                    let Some(at) = at else { invalid!("word {word} is none of {vocabulary}") };
                    y[at] = f32::NEG_INFINITY;
                }
                ticks.add(length)?;
            }
        }
        Ok(vec![Tensor::from_vec(scores.shape(), y)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, t, types};

    fn blocked(n: i64, words: &[i64]) -> Result<Vec<usize>> {
        let text = format!(
            "y = com.microsoft.NGramRepeatBlock(w: i64[1,{}], s: f32[1,4]) {{ngram_size={n}}}\n\
             return y",
            words.len()
        );
        let words = Tensor::from_vec(&[1, words.len()], words.to_vec())?;
        let y = run1(&text, &[words, t(&[1, 4], &[1., 2., 3., 4.])])?.to_vec::<f32>()?;
        Ok((0..4).filter(|&i| y[i] == f32::NEG_INFINITY).collect())
    }

    #[test]
    fn runs_are_not_repeated() {
        for (n, words, want) in [
            (2, &[1i64, 2, 1, 3, 1][..], vec![2, 3]),
            (3, &[1, 2, 3, 1, 2], vec![3]),
            (3, &[1, 2, 3, 2, 1], vec![]),
            (1, &[0, 2], vec![0, 2]),
            (9, &[0, 2], vec![]),
        ] {
            assert_eq!(blocked(n, words).expect("runs"), want, "{n} {words:?}");
        }
        assert!(blocked(2, &[1, 7, 1]).is_err());
        assert!(blocked(0, &[1]).is_err());
        let wrong = "y = com.microsoft.NGramRepeatBlock(w: i64[4], s: f32[1,4]) {ngram_size=2}\n\
                     return y";
        assert!(types(wrong).is_err());
    }
}
