//! `RotaryEmbedding`: pairs of elements, turned by an angle that grows with the place.
//!
//! ```text
//! y = RotaryEmbedding(x: f32[B,H,S,D], cos: f32[P,D/2], sin, places: i64[B,S])
//! y = RotaryEmbedding(x: f32[B,S,H*D], cos: f32[B,S,D/2], sin) {num_heads=H}
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::real::{Real, Ticks, is_real, match_real, narrow, widen};
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, attrs, invalid};

attrs! {
    /// The first elements of each head, turned in pairs.
    ///
    /// A vector of places holds that of the first row for each element of the batch, or for all;
    /// the others follow.
    #[derive(Copy)]
    pub struct RotaryEmbedding {
        /// Whether the elements of a pair lie side by side; else half a turn apart.
        interleaved: bool = false,
        /// The heads of an input of rank 3; where 0, a head is as long as the caches say.
        num_heads: i64 = 0,
        /// How many elements of each head turn; all where 0.
        rotary_embedding_dim: i64 = 0,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "RotaryEmbedding",
        since: 23,
        build: |b| Ok(RotaryEmbedding::read(&mut b.attrs)?.into()),
    },
    Schema {
        name: "com.microsoft.RotaryEmbedding",
        since: 1,
        build: |b| {
            // The places come before the caches.
            let inputs = [b.input(0)?, b.input(2)?, b.input(3)?, b.input(1)?];
            b.inputs = inputs.map(Some).to_vec();
            if b.take::<f32>("scale")?.is_some_and(|s| s != 1.0) {
                invalid!("a scale other than 1 has no meaning here");
            }
            if b.take::<i64>("is_packed_batching")?.is_some_and(|p| p != 0) {
                invalid!("packed batches are not supported: unpack them");
            }
            Ok(RotaryEmbedding::read(&mut b.attrs)?.into())
        },
    },
];

/// The lengths of the input, and how to find a row of it.
struct Layout {
    batch: usize,
    heads: usize,
    rows: usize,
    size: usize,
    /// Whether all rows of a head lie together.
    by_head: bool,
}

impl Layout {
    fn at(&self, b: usize, h: usize, s: usize) -> usize {
        let row = match self.by_head {
            true => (b * self.heads + h) * self.rows + s,
            false => (b * self.rows + s) * self.heads + h,
        };
        row * self.size
    }
}

impl RotaryEmbedding {
    fn layout(&self, x: &Tensor, pairs: usize) -> Result<Layout> {
        let layout = match *x.shape() {
            [batch, heads, rows, size] => Layout { batch, heads, rows, size, by_head: true },
            [batch, rows, width] => {
                let size = match (usize::try_from(self.num_heads), pairs) {
                    (Ok(0), 1..) => pairs.saturating_mul(2),
                    (Ok(n), _) if n > 0 && width.is_multiple_of(n) => width / n,
                    _ => invalid!("rows of {width} fall into no {} heads", self.num_heads),
                };
                if size == 0 || !width.is_multiple_of(size) {
                    invalid!("rows of {width} fall into no heads of {size}");
                }
                Layout { batch, heads: width / size, rows, size, by_head: false }
            }
            _ => invalid!("x has shape {:?}, its rank must be 3 or 4", x.shape()),
        };
        let turned = match usize::try_from(self.rotary_embedding_dim) {
            Ok(0) => layout.size,
            Ok(n) if n <= layout.size => n,
            _ => invalid!("{} of {} elements turn", self.rotary_embedding_dim, layout.size),
        };
        if turned != pairs.saturating_mul(2) {
            invalid!("{turned} elements turn, the caches have angles for {pairs} pairs");
        }
        Ok(layout)
    }

    fn run<R: Real>(&self, cx: &Context, x: &Tensor, of: &Angles<'_>) -> Result<Vec<R>> {
        let [cos, sin] = of.caches;
        let pairs = cos.shape().last().copied().unwrap_or(0);
        if cos.shape() != sin.shape() {
            invalid!("the caches have shapes {:?} and {:?}", cos.shape(), sin.shape());
        }
        let layout = self.layout(x, pairs)?;
        cx.numel(DType::I64, &[layout.batch, layout.rows, layout.heads])?;
        let rows = of.rows(&layout)?;
        let (cos, sin) = (widen::<R>(cos)?, widen::<R>(sin)?);
        let mut y = widen::<R>(x)?.into_owned();
        let mut ticks = Ticks::new(cx);
        for (i, row) in rows.into_iter().enumerate() {
            let (b, s) = (i / layout.rows, i % layout.rows);
            ticks.add(layout.heads * layout.size + 1)?;
            for h in 0..layout.heads {
                let y = &mut y[layout.at(b, h, s)..][..2 * pairs];
                for k in 0..pairs {
                    let (c, s) = (cos[row * pairs + k], sin[row * pairs + k]);
                    let (i, j) = if self.interleaved { (2 * k, 2 * k + 1) } else { (k, k + pairs) };
                    (y[i], y[j]) = (c * y[i] - s * y[j], s * y[i] + c * y[j]);
                }
            }
        }
        Ok(y)
    }
}

/// Where the angles come from.
struct Angles<'a> {
    caches: [&'a Tensor; 2],
    places: Option<&'a Tensor>,
}

impl Angles<'_> {
    /// The row of the caches for each row of the input.
    fn rows(&self, layout: &Layout) -> Result<Vec<usize>> {
        let (batch, rows) = (layout.batch, layout.rows);
        let shape = self.caches[0].shape();
        let Some(places) = self.places else {
            match *shape {
                [b, s, _] if b == batch && s == rows => return Ok((0..b * s).collect()),
                _ => invalid!("without position_ids caches must be [{batch},{rows},_]: {shape:?}"),
            }
        };
        let [most, _] = *shape else {
            invalid!("with position_ids the caches must have rank 2, not the shape {shape:?}");
        };
        let ids = places.to_vec::<i64>()?;
        let ids = match (*places.shape()).as_ref() {
            // Each element of the batch has a place to begin at, or all have the same.
            [] | [1] => count_on(&ids.repeat(batch), rows),
            [n] if *n == batch => count_on(&ids, rows),
            [b, s] if (*b, *s) == (batch, rows) => ids,
            s => invalid!("position_ids has shape {s:?}, expected [{batch}, {rows}]"),
        };
        let row = |i: i64| match usize::try_from(i) {
            Ok(i) if i < most => Ok(i),
            _ => invalid!("place {i} lies outside of the caches, which have {most} rows"),
        };
        ids.into_iter().map(row).collect()
    }
}

fn count_on(first: &[i64], rows: usize) -> Vec<i64> {
    first.iter().flat_map(|&at| (0..rows as i64).map(move |i| at.saturating_add(i))).collect()
}

impl Operator for RotaryEmbedding {
    fn name(&self) -> &str {
        "RotaryEmbedding"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=4
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype(0..3)?;
        if cx.has(3) {
            cx.dtype_in(3, |d| d == DType::I64)?;
        }
        let shape = cx.shape(0)?;
        if let Some(s) = shape
            && !matches!(s.len(), 3 | 4)
        {
            invalid!("x has rank {}, it must be 3 or 4", s.len());
        }
        Ok(vec![Fact::tensor(dtype, shape.map(<[_]>::to_vec))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let caches = [tensor(inputs, 1)?, tensor(inputs, 2)?];
        let angles = Angles { caches, places: optional(inputs, 3)? };
        match_real!(x.dtype(), R => {
            Ok(vec![narrow(x.dtype(), x.shape(), self.run::<R>(cx, x, &angles)?)?.into()])
        }, else invalid!("RotaryEmbedding takes no {}", x.dtype()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, t, types};

    /// Row 0 of the caches turns nothing, row 1 by a quarter.
    fn caches() -> [Tensor; 2] {
        [t(&[2, 1], &[1.0, 0.0]), t(&[2, 1], &[0.0, 1.0])]
    }

    #[test]
    fn quarter_turns() {
        let [c, s] = caches();
        let args = "c: f32[2,1], s: f32[2,1], p: i64[B,S]";
        let x = t(&[1, 2, 4], &[1., 2., 3., 4., 5., 6., 7., 8.]);
        let p = Tensor::from_vec(&[1, 2], vec![0i64, 1]).expect("1x2");
        let text = format!("y = RotaryEmbedding(x: f32[1,2,4], {args}) {{num_heads=2}}\nreturn y");
        let y = run1(&text, &[x.clone(), c.clone(), s.clone(), p.clone()]).expect("runs");
        assert_eq!(y, t(&[1, 2, 4], &[1., 2., 3., 4., -6., 5., -8., 7.]));
        let text = format!("y = RotaryEmbedding(x: f32[1,2,2,2], {args})\nreturn y");
        let by_head = x.reshape(&[1, 2, 2, 2]).expect("as many");
        let y = run1(&text, &[by_head, c.clone(), s.clone(), p]).expect("runs");
        assert_eq!(y, t(&[1, 2, 2, 2], &[1., 2., -4., 3., 5., 6., -8., 7.]));
        assert_eq!(types(&text).expect("types"), ["f32[1,2,2,2]"]);
        // The places count on from a single one.
        let text = "y = com.microsoft.RotaryEmbedding(x: f32[1,2,4], p: i64[1], c: f32[2,1], \
                    s: f32[2,1])\nreturn y";
        let y = run1(text, &[x, Tensor::vector(vec![0i64]), c, s]).expect("runs");
        assert_eq!(y, t(&[1, 2, 4], &[1., 2., 3., 4., -6., 5., -8., 7.]));
    }

    #[test]
    fn halves_pairs_and_the_rest() {
        let text = |attrs: &str| {
            format!(
                "y = RotaryEmbedding(x: f32[1,1,1,5], c: f32[1,1,2], s: f32[1,1,2]) \
                 {{rotary_embedding_dim=4{attrs}}}\nreturn y"
            )
        };
        let quarter = || [t(&[1, 1, 2], &[0.0; 2]), t(&[1, 1, 2], &[1.0; 2])];
        let x = || t(&[1, 1, 1, 5], &[1., 2., 3., 4., 5.]);
        let run = |attrs: &str| {
            let [c, s] = quarter();
            run1(&text(attrs), &[x(), c, s]).expect("runs").to_vec::<f32>().expect("f32")
        };
        assert_eq!(run(""), [-3., -4., 1., 2., 5.]);
        assert_eq!(run(", interleaved=1"), [-2., 1., -4., 3., 5.]);
    }

    #[test]
    fn places_outside_are_errors() {
        let text = "y = RotaryEmbedding(x: f32[1,1,1,2], c: f32[2,1], s: f32[2,1], p: i64[1,1])\n\
                    return y";
        let [c, s] = caches();
        for p in [-1i64, 2, i64::MAX] {
            let p = Tensor::from_vec(&[1, 1], vec![p]).expect("1x1");
            let x = t(&[1, 1, 1, 2], &[1., 2.]);
            assert!(run1(text, &[x, c.clone(), s.clone(), p]).is_err());
        }
        let x = t(&[1, 1, 1, 4], &[1., 2., 3., 4.]);
        let p = Tensor::from_vec(&[1, 1], vec![0i64]).expect("1x1");
        assert!(run1(&text.replace("1,1,1,2", "1,1,1,4"), &[x, c, s, p]).is_err());
    }
}
