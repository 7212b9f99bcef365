//! Blocks added up into an image: what a transposed convolution does behind its product.
//!
//! ```text
//! y = Col2Im(x: f32[N,C*kH*kW,L], image_shape: i64[2], block_shape: i64[2])     y: f32[N,C,H,W]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::numel;
use kiln_tensor::{DType, Datum, Number, Tensor, match_integer};

use crate::eval::tensor;
use crate::ops::conv_transpose::scatter;
use crate::ops::layout::{lengths, product, target_shape};
use crate::ops::real::{Ticks, is_real, match_wide, narrow, widen};
use crate::ops::window::{Axis, Tap, Window};
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid};

/// Adds up blocks; inputs `x image_shape block_shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct Col2Im {
    /// The geometry of the blocks; their lengths are an input.
    pub window: Box<Window>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "Col2Im",
    since: 18,
    build: |b| Ok(Col2Im { window: Box::new(Window::take(&mut b.attrs)?) }.into()),
}];

/// An image and the blocks that it is made of.
struct Layout {
    axes: Vec<Axis>,
    /// How many blocks there are along each axis.
    positions: Vec<usize>,
    shape: Vec<usize>,
}

impl Col2Im {
    fn layout(&self, x: &[usize], image: &[usize], block: &[usize]) -> Result<Layout> {
        let &[batch, rows, blocks] = x else { invalid!("x has rank {}, not 3", x.len()) };
        if image.len() != block.len() || image.is_empty() {
            invalid!("an image of {} axes has no blocks of {} axes", image.len(), block.len());
        }
        let kernel: Vec<i64> =
            block.iter().map(|&b| i64::try_from(b).unwrap_or(i64::MAX)).collect();
        let axes = self.window.axes(image.len(), &kernel)?;
        let resolved: Vec<(Axis, usize)> =
            axes.into_iter().zip(image).map(|(a, &n)| a.resolve(n)).collect::<Result<_>>()?;
        let (axes, positions): (Vec<_>, Vec<_>) = resolved.into_iter().unzip();
        let (taps, count) = (numel(block)?, numel(&positions)?);
        if !rows.is_multiple_of(taps.max(1)) || blocks != count {
            invalid!(
                "x is [{batch},{rows},{blocks}]: rows must be a multiple of {taps}, blocks {count}"
            );
        }
        let mut shape = vec![batch, rows / taps.max(1)];
        shape.extend_from_slice(image);
        Ok(Layout { axes, positions, shape })
    }
}

impl Layout {
    fn run<T: Number>(&self, cx: &Context, x: &[T]) -> Result<Vec<T>> {
        let mut y = cx.zeros::<T>(&self.shape)?;
        if x.is_empty() || y.is_empty() {
            return Ok(y);
        }
        let image = &self.shape[2..];
        let (plane, count) = (numel(image)?, numel(&self.positions)?);
        let taps = x.len() / count / (self.shape[0] * self.shape[1]);
        let mut ticks = Ticks::new(cx);
        for (x, y) in x.chunks_exact(taps * count).zip(y.chunks_exact_mut(plane)) {
            for (tap, x) in x.chunks_exact(count).enumerate() {
                Tap::new(&self.axes, tap, &self.positions, image).rows(|from, len, to, step| {
                    scatter(T::ONE, &x[from..from + len], &mut y[to..], step);
                });
                ticks.add(count)?;
            }
        }
        Ok(y)
    }
}

impl Operator for Col2Im {
    fn name(&self) -> &str {
        "Col2Im"
    }

    fn attrs(&self) -> Attrs {
        self.window.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, |d| is_real(d) || match_integer!(d, T => true, else false))?;
        for i in 1..3 {
            cx.dtype_in(i, |d| d == DType::I64)?;
        }
        let x = match cx.shape(0)? {
            Some([n, rows, _]) => Some((n.clone(), rows.clone())),
            Some(x) => invalid!("x has rank {}, not 3", x.len()),
            None => None,
        };
        let (image, block) = (target_shape(cx, 1)?, target_shape(cx, 2)?);
        let Some(image) = image else { return Ok(vec![Fact::tensor(dtype, None)]) };
        let (n, channels) = match (x, block) {
            (Some((n, rows)), Some(block)) => {
                let taps = product(&block);
                let whole = taps.as_const().is_some_and(|t| t > 0);
                (n, if whole { rows.floor_div(&taps) } else { cx.fresh() })
            }
            (Some((n, _)), None) => (n, cx.fresh()),
            (None, _) => (cx.fresh(), cx.fresh()),
        };
        let shape: Vec<Dim> = [n, channels].into_iter().chain(image).collect();
        Ok(vec![Fact::shaped(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let (image, block) = (lengths(tensor(inputs, 1)?)?, lengths(tensor(inputs, 2)?)?);
        let layout = self.layout(x.shape(), &image, &block)?;
        let y: Tensor = match_wide!(x.dtype(), T => {
            narrow(x.dtype(), &layout.shape, layout.run(cx, &widen::<T>(x)?)?)?
        }, else invalid!("Col2Im takes no {}", x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn image(x: Tensor, image: &str, block: &str, attrs: &str) -> Result<Tensor> {
        let shape: Vec<_> = x.shape().iter().map(usize::to_string).collect();
        let (dtype, shape) = (x.dtype(), shape.join(","));
        let text = format!(
            "i = i64{image}\nb = i64{block}\n\
             y = Col2Im(x: {dtype}[{shape}], i, b) {attrs}\nreturn y"
        );
        run1(&text, &[x])
    }

    #[test]
    fn blocks_add_up() {
        // Two blocks of two, one step apart, on a line of three: 1 2 and 10 20.
        let x = Tensor::from_vec(&[1, 2, 2], vec![1f32, 10.0, 2.0, 20.0]).expect("1x2x2");
        let y = image(x.clone(), "[2]{1,3}", "[2]{1,2}", "").expect("runs");
        assert_eq!(y, Tensor::from_vec(&[1, 1, 1, 3], vec![1f32, 12.0, 20.0]).expect("3"));
        let y = image(x.clone(), "[1]{4}", "[1]{2}", "{strides=[2]}").expect("runs");
        assert_eq!(y, Tensor::from_vec(&[1, 1, 4], vec![1f32, 2.0, 10.0, 20.0]).expect("4"));
        // The first and the last element lie in the padding.
        let y = image(x.clone(), "[1]{1}", "[1]{2}", "{pads=[1,1]}").expect("runs");
        assert_eq!(y, Tensor::from_vec(&[1, 1, 1], vec![12f32]).expect("1"));
        let y = image(x.clone(), "[1]{4}", "[1]{2}", "{dilations=[2]}").expect("runs");
        assert_eq!(y, Tensor::from_vec(&[1, 1, 4], vec![1f32, 10.0, 2.0, 20.0]).expect("4"));
        assert!(image(x.clone(), "[1]{5}", "[1]{2}", "").is_err());
        assert!(image(x, "[1]{3}", "[1]{0}", "").is_err());
    }

    #[test]
    fn shapes() {
        let text = "i = i64[2]{5,6}\nb = i64[2]{1,5}\ny = Col2Im(x: u8[N,10,L], i, b)\nreturn y";
        assert_eq!(types(text).expect("types"), ["u8[N,2,5,6]"]);
    }
}
