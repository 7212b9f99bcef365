//! How far the outputs of a graph move where its inputs move by one unit in the last place.
//!
//! Nobody's rounding can be held to less: a product of a hundred layers, a matrix near to a
//! singular one, or a box that is kept or not as one score is above another.

use kiln_ir::Result;
use kiln_passes::{Bound, Gap};
use kiln_tensor::{DType, Datum, Tensor};

/// How often the inputs are moved.
const DRAWS: u64 = 4;

/// How far each output moves, at most over all draws.
pub(crate) struct Sway(Vec<Moved>);

#[derive(Clone, Copy, Default)]
struct Moved {
    /// Floats: the largest difference.
    by: f64,
    /// Others: how many elements change; `usize::MAX` where the form does.
    elements: usize,
}

impl Sway {
    /// Measures it; `want` is what `run` gives for `inputs`. `None` where the graph cannot run on
    /// what is moved.
    pub(crate) fn of(
        run: impl Fn(Vec<Datum>) -> Result<Vec<Datum>>,
        inputs: &[Datum],
        want: &[Datum],
    ) -> Option<Self> {
        let mut all = vec![Moved::default(); want.len()];
        for draw in 0..DRAWS {
            let inputs: Option<Vec<Datum>> = inputs.iter().map(|d| nudged(d, draw)).collect();
            let got = run(inputs?).ok()?;
            for ((moved, want), got) in all.iter_mut().zip(want).zip(&got) {
                let gap = Gap::between(want, got, within(f64::INFINITY));
                moved.by = moved.by.max(gap.largest);
                moved.elements = moved.elements.max(gap.faults);
            }
        }
        Some(Self(all))
    }

    /// Whether `got` differs from `want`, output `j`, by no more. An output whose form moves is
    /// never covered: nothing can be said about its elements.
    pub(crate) fn covers(&self, j: usize, want: &Datum, got: &Datum) -> bool {
        let moved = self.0[j];
        let gap = Gap::between(want, got, within(moved.by));
        gap.faults <= moved.elements && gap.faults < usize::MAX
    }
}

fn within(atol: f64) -> Bound {
    Bound::Within { rtol: 0.0, atol }
}

/// A value whose floats are each the next one, up or down; others as they are.
fn nudged(d: &Datum, draw: u64) -> Option<Datum> {
    let Datum::Tensor(t) = d else { return Some(d.clone()) };
    let up = |i: usize| (i as u64 ^ draw << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 0;
    let moved = match t.dtype() {
        DType::F32 => {
            let x = t.as_slice::<f32>().ok()?.iter().enumerate();
            let next = |(i, x): (usize, &f32)| if up(i) { x.next_up() } else { x.next_down() };
            Tensor::from_vec(t.shape(), x.map(next).collect()).ok()?
        }
        DType::F64 => {
            let x = t.as_slice::<f64>().ok()?.iter().enumerate();
            let next = |(i, x): (usize, &f64)| if up(i) { x.next_up() } else { x.next_down() };
            Tensor::from_vec(t.shape(), x.map(next).collect()).ok()?
        }
        _ => t.clone(),
    };
    Some(moved.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(x: &[f32]) -> Datum {
        Tensor::vector(x.to_vec()).into()
    }

    /// The floats themselves times a thousand, and whether each is over one.
    fn steep(inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        let x = inputs[0].as_tensor()?.to_vec::<f32>()?;
        let over: Vec<bool> = x.iter().map(|&x| x > 1.0).collect();
        let times: Vec<f32> = x.iter().map(|x| x * 1000.0).collect();
        Ok(vec![Tensor::vector(times).into(), Tensor::vector(over).into()])
    }

    #[test]
    fn what_moves_is_covered_and_more_is_not() {
        let inputs = [floats(&[1.0, 1.0, 1.0, 1.0, 5.0])];
        let want = steep(inputs.to_vec()).expect("runs");
        let sway = Sway::of(steep, &inputs, &want).expect("runs");
        let covers = |x: &[f32]| {
            let got = steep(vec![floats(x)]).expect("runs");
            [0, 1].map(|j| sway.covers(j, &want[j], &got[j]))
        };
        assert_eq!(covers(&[1.0, 1.0, 1.0, 1.0, 5.0]), [true, true]);
        assert_eq!(covers(&[1.0f32.next_up(), 1.0, 1.0, 1.0, 5.0]), [true, true]);
        assert_eq!(covers(&[1.0, 1.0, 1.0, 1.0, 5.1]), [false, true]);
        // The last flag never moves, so that five are too many.
        assert_eq!(covers(&[2.0, 2.0, 2.0, 2.0, 0.5]), [false, false]);
        assert!(!sway.covers(1, &want[1], &Tensor::vector(vec![false; 4]).into()));
    }

    #[test]
    fn a_form_that_moves_covers_nothing() {
        let filter = |inputs: Vec<Datum>| {
            let x = inputs[0].as_tensor()?.to_vec::<f32>()?;
            Ok(vec![floats(&x.into_iter().filter(|&x| x > 1.0).collect::<Vec<_>>())])
        };
        let inputs = [floats(&[1.0, 1.0, 1.0])];
        let want = filter(inputs.to_vec()).expect("runs");
        let sway = Sway::of(filter, &inputs, &want).expect("runs");
        assert!(sway.covers(0, &want[0], &want[0]));
        assert!(!sway.covers(0, &want[0], &floats(&[2.0])));
    }
}
