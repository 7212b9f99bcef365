//! Non-maximum suppression: of boxes that overlap, the one with the best score is kept.
//!
//! ```text
//! i = NonMaxSuppression(boxes: f32[N,B,4], scores: f32[N,C,B], most, overlap, least)   i: i64[K,3]
//! ```
//! A row of the result is the place of a box: batch, class, box.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Scalar, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::real::Ticks;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attrs, invalid};

attrs! {
    /// Non-maximum suppression; inputs `boxes scores max_output_boxes_per_class iou_threshold
    /// score_threshold`.
    #[derive(Copy)]
    pub struct NonMaxSuppression {
        /// Whether boxes are given as center and lengths, not as two corners.
        center_point_box: bool = false,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "NonMaxSuppression",
    since: 10,
    build: |b| Ok(NonMaxSuppression::read(&mut b.attrs)?.into()),
}];

/// A box by its corners; the first is the lower one along both axes.
#[derive(Clone, Copy)]
struct Corners {
    low: [f32; 2],
    high: [f32; 2],
}

impl Corners {
    fn area(&self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Whether the boxes overlap by more than `share` of what they cover together.
    fn overlaps(&self, other: &Corners, share: f32) -> bool {
        let side = |k: usize| self.high[k].min(other.high[k]) - self.low[k].max(other.low[k]);
        let (a, b) = (side(0), side(1));
        if a <= 0.0 || b <= 0.0 || self.area() <= 0.0 || other.area() <= 0.0 {
            return false;
        }
        let common = a * b;
        let total = self.area() + other.area() - common;
        common > 0.0 && total > 0.0 && common / total > share
    }
}

/// What is kept of each class.
struct Bounds {
    most: usize,
    overlap: f32,
    least: Option<f32>,
}

impl NonMaxSuppression {
    fn corners(&self, b: &[f32]) -> Corners {
        if self.center_point_box {
            let (x, y, w, h) = (b[0], b[1], b[2] / 2.0, b[3] / 2.0);
            return Corners { low: [x - w, y - h], high: [x + w, y + h] };
        }
        let (low, high) = ([b[0].min(b[2]), b[1].min(b[3])], [b[0].max(b[2]), b[1].max(b[3])]);
        Corners { low, high }
    }

    /// The boxes of one class that are kept, the best first.
    fn keep(
        &self,
        ticks: &mut Ticks<'_>,
        boxes: &[f32],
        scores: &[f32],
        bounds: &Bounds,
    ) -> Result<Vec<usize>> {
        let enough = |i: &usize| bounds.least.is_none_or(|least| scores[*i] > least);
        let mut order: Vec<usize> = (0..scores.len()).filter(enough).collect();
        // The sort is stable: of equal scores, as 0 and -0 are, the first comes first.
        order.sort_by(|&a, &b| (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)));
        let mut kept: Vec<(usize, Corners)> = Vec::new();
        for i in order {
            if kept.len() >= bounds.most {
                break;
            }
            let corners = self.corners(&boxes[i * 4..i * 4 + 4]);
            if !kept.iter().any(|(_, k)| k.overlaps(&corners, bounds.overlap)) {
                kept.push((i, corners));
            }
            ticks.add(kept.len())?;
        }
        Ok(kept.into_iter().map(|(i, _)| i).collect())
    }
}

/// The only element of an optional input; nothing where it is empty.
fn scalar<T: Scalar>(inputs: &[Option<&Datum>], i: usize) -> Result<Option<T>> {
    Ok(match optional(inputs, i)? {
        Some(t) if !t.is_empty() => Some(t.to_scalar::<T>()?),
        _ => None,
    })
}

/// Checks the shapes of boxes and scores.
fn check(boxes: &[Dim], scores: &[Dim]) -> Result<()> {
    let differ = |a: &Dim, b: &Dim| match (a.as_const(), b.as_const()) {
        (Some(a), Some(b)) => a != b,
        _ => false,
    };
    let ([n, b, four], [m, _, s]) = (boxes, scores) else {
        invalid!(
            "boxes have rank {} and scores rank {}: both must be 3",
            boxes.len(),
            scores.len()
        );
    };
    if differ(n, m) || differ(b, s) || differ(four, &4i64.into()) {
        invalid!(
            "boxes [{n},{b},{four}] must be [N,B,4] where scores are [N,C,B], here N={m}, B={s}"
        );
    }
    Ok(())
}

impl Operator for NonMaxSuppression {
    fn name(&self) -> &str {
        "NonMaxSuppression"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=5
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let types = [DType::F32, DType::F32, DType::I64, DType::F32, DType::F32];
        for (i, want) in types.into_iter().enumerate().filter(|&(i, _)| i < 2 || cx.has(i)) {
            cx.dtype_in(i, |d| d == want)?;
        }
        if let (Some(boxes), Some(scores)) = (cx.shape(0)?, cx.shape(1)?) {
            check(boxes, scores)?;
        }
        Ok(vec![Fact::shaped(DType::I64, vec![cx.fresh(), 3i64.into()])])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (boxes, scores) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let dims = |t: &Tensor| t.shape().iter().map(|&d| Dim::from(d)).collect::<Vec<_>>();
        check(&dims(boxes), &dims(scores))?;
        let bounds = Bounds {
            most: scalar::<i64>(inputs, 2)?.unwrap_or(0).max(0) as usize,
            overlap: scalar(inputs, 3)?.unwrap_or(0.0),
            least: scalar(inputs, 4)?,
        };
        let (count, classes) = (scores.shape()[2], scores.shape()[1]);
        let mut rows: Vec<i64> = Vec::new();
        if count > 0 && bounds.most > 0 {
            let mut ticks = Ticks::new(cx);
            let boxes = boxes.as_slice::<f32>()?;
            for (i, scores) in scores.as_slice::<f32>()?.chunks_exact(count).enumerate() {
                let (n, class) = (i / classes, i % classes);
                let boxes = &boxes[n * count * 4..(n + 1) * count * 4];
                for kept in self.keep(&mut ticks, boxes, scores, &bounds)? {
                    rows.extend([n as i64, class as i64, kept as i64]);
                }
                ticks.add(count)?;
            }
        }
        Ok(vec![Tensor::from_vec(&[rows.len() / 3, 3], rows)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    /// Three boxes, of which the first two overlap by a third.
    fn keep(consts: &str, args: &str, boxes: [f32; 12], scores: &[f32]) -> Vec<i64> {
        let classes = scores.len() / 3;
        let text = format!(
            "{consts}\ni = NonMaxSuppression(b: f32[1,3,4], s: f32[1,{classes},3], {args}\nreturn i"
        );
        let boxes = Tensor::from_vec(&[1, 3, 4], boxes.to_vec()).expect("1x3x4");
        let scores = Tensor::from_vec(&[1, classes, 3], scores.to_vec()).expect("scores");
        run1(&text, &[boxes, scores]).expect("runs").to_vec().expect("integers")
    }

    const BOXES: [f32; 12] = [0.0, 0.0, 2.0, 2.0, 2.0, 3.0, 0.0, 1.0, 5.0, 5.0, 6.0, 6.0];

    #[test]
    fn the_best_of_those_that_overlap() {
        let scores = [0.5, 0.9, 0.1, 0.7, 0.7, 0.8];
        let consts = "m = i64[1]{3}\no = f32[1]{0.3}\nl = f32[1]{0.2}";
        let got = keep(consts, "m, o, l)", BOXES, &scores);
        assert_eq!(got, [0, 0, 1, 0, 1, 2, 0, 1, 0]);
        // A third is not more than a third.
        let consts = "m = i64[]{3}\no = f32[]{0.33333334}";
        let got = keep(consts, "m, o)", BOXES, &scores[..3]);
        assert_eq!(got, [0, 0, 1, 0, 0, 0, 0, 0, 2]);
        assert_eq!(keep("m = i64[]{1}", "m)", BOXES, &scores[..3]), [0, 0, 1]);
        assert_eq!(keep("", "_)", BOXES, &scores), [0i64; 0]);
    }

    #[test]
    fn boxes_by_their_centers() {
        let boxes = [1.0, 1.0, 2.0, 2.0, 1.0, 2.0, 2.0, 2.0, 5.5, 5.5, 1.0, 1.0];
        let consts = "m = i64[]{3}\no = f32[]{0.3}";
        let got = keep(consts, "m, o) {center_point_box=1}", boxes, &[0.5, 0.9, 0.1]);
        assert_eq!(got, [0, 0, 1, 0, 0, 2]);
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |op: &str| types(&format!("i = NonMaxSuppression({op})\nreturn i"));
        assert!(ty("b: f32[N,B,4], s: f32[N,C,B]").expect("types")[0].ends_with(",3]"));
        assert!(ty("b: f32[N,B,5], s: f32[N,C,B]").is_err());
        assert!(ty("b: f32[2,B,4], s: f32[3,C,B]").is_err());
        assert!(ty("b: f64[N,B,4], s: f64[N,C,B]").is_err());
    }
}
