//! `CropAndResize`: parts of images, sampled to one size, their corners on samples.
//!
//! ```text
//! y = com.microsoft.CropAndResize(x: f32[N,C,H,W], boxes: f32[R,4], batch: i32[R], size: i32[2])
//! ```
//! A box is `y1 x1 y2 x2`, where 0 and 1 are the first and the last element of an image.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::tensor;
use crate::ops::real::{Real, Ticks, is_real, match_real, narrow, widen};
use crate::{
    Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attr_enum, attrs, invalid,
};

attr_enum! {
    /// What a sample between elements is.
    pub enum CropMode {
        /// A mix of the four around it.
        Bilinear = "bilinear",
        /// The nearest.
        Nearest = "nearest",
    }
}

attrs! {
    /// Boxes of images, sampled; inputs `x boxes batch_indices crop_size`.
    #[derive(Copy)]
    pub struct CropAndResize {
        /// What a sample between elements is.
        mode: CropMode = CropMode::Bilinear,
        /// What lies beyond an image.
        extrapolation_value: f32 = 0.0,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "com.microsoft.CropAndResize",
    since: 1,
    build: |b| Ok(CropAndResize::read(&mut b.attrs)?.into()),
}];

/// Where the samples of one axis lie: `None` beyond the image, else the elements around and the
/// part of the second.
fn samples<R: Real>(from: R, to: R, count: usize, length: usize) -> Vec<Option<(usize, usize, R)>> {
    let last = R::of(length as f64 - 1.0);
    let at = |i: usize| match count {
        1 => R::of(0.5) * (from + to) * last,
        n => from * last + R::of(i as f64) * ((to - from) * last / R::of(n as f64 - 1.0)),
    };
    let around = |at: R| {
        let within = at >= R::of(0.0) && at <= last;
        let low = at.to_f64().floor();
        within.then(|| (low as usize, at.to_f64().ceil() as usize, at - R::of(low)))
    };
    (0..count).map(|i| around(at(i))).collect()
}

impl CropAndResize {
    fn pixel<R: Real>(
        &self,
        plane: &[R],
        width: usize,
        row: Option<(usize, usize, R)>,
        column: Option<(usize, usize, R)>,
    ) -> R {
        let (Some((top, bottom, dy)), Some((left, right, dx))) = (row, column) else {
            return R::of(self.extrapolation_value.into());
        };
        let at = |y: usize, x: usize| plane[y * width + x];
        match self.mode {
            CropMode::Nearest => {
                let near = |low: usize, high: usize, d: R| if d < R::of(0.5) { low } else { high };
                at(near(top, bottom, dy), near(left, right, dx))
            }
            CropMode::Bilinear => {
                let mix = |a: R, b: R, d: R| a + (b - a) * d;
                let upper = mix(at(top, left), at(top, right), dx);
                mix(upper, mix(at(bottom, left), at(bottom, right), dx), dy)
            }
        }
    }

    fn run<R: Real>(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Tensor> {
        let (x, boxes) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let batch = tensor(inputs, 2)?.to_vec::<i64>()?;
        let size = tensor(inputs, 3)?.to_vec::<i64>()?;
        let (&[n, channels, height, width], &[rois, 4], &[ch, cw]) =
            (x.shape(), boxes.shape(), size.as_slice())
        else {
            invalid!("images {:?}, boxes {:?}, sizes {size:?}", x.shape(), boxes.shape());
        };
        let length = |v: i64| usize::try_from(v).ok().filter(|&v| v > 0);
        let (Some(ch), Some(cw)) = (length(ch), length(cw)) else {
            invalid!("crops of {ch} x {cw} elements");
        };
        if batch.len() != rois || height == 0 || width == 0 {
            invalid!("{rois} boxes name {} images of {height} x {width}", batch.len());
        }
        let shape = [rois, channels, ch, cw];
        let mut y = cx.zeros::<R>(&shape)?;
        let (images, corners) = (widen::<R>(x)?, widen::<R>(boxes)?);
        let mut ticks = Ticks::new(cx);
        for (roi, (corners, &image)) in corners.chunks_exact(4).zip(&batch).enumerate() {
            let Some(image) = usize::try_from(image).ok().filter(|&i| i < n) else {
                invalid!("box {roi} is of image {image}, there are {n}");
            };
            let rows = samples(corners[0], corners[2], ch, height);
            let columns = samples(corners[1], corners[3], cw, width);
            for c in 0..channels {
                let plane = &images[(image * channels + c) * height * width..][..height * width];
                let to = &mut y[(roi * channels + c) * ch * cw..][..ch * cw];
                for (row, to) in rows.iter().zip(to.chunks_exact_mut(cw)) {
                    for (column, to) in columns.iter().zip(to) {
                        *to = self.pixel(plane, width, *row, *column);
                    }
                }
                ticks.add(ch * cw)?;
            }
        }
        narrow(x.dtype(), &shape, y)
    }
}

impl Operator for CropAndResize {
    fn name(&self) -> &str {
        "com.microsoft.CropAndResize"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        4..=4
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype(0..2)?;
        for i in 2..4 {
            cx.dtype_in(i, |d| matches!(d, DType::I32 | DType::I64))?;
        }
        let rank = |what: &str, shape: Option<&[Dim]>, rank: usize| match shape {
            Some(s) if s.len() != rank => invalid!("{what} have rank {}, not {rank}", s.len()),
            _ => Ok(()),
        };
        rank("images", cx.shape(0)?, 4)?;
        rank("boxes", cx.shape(1)?, 2)?;
        let channels = cx.shape(0)?.map(|s| s[1].clone());
        let rois = cx.shape(1)?.map(|s| s[0].clone());
        let size = cx.ints(3)?;
        if size.as_ref().is_some_and(|s| s.len() != 2 || s.iter().any(|&n| n < 1)) {
            invalid!("a crop has a height and a width of 1 or more, not {size:?}");
        }
        let [height, width] = [0, 1].map(|i| size.as_ref().map(|s| Dim::from(s[i])));
        let mut or = |d: Option<Dim>| d.unwrap_or_else(|| cx.fresh());
        let shape = vec![or(rois), or(channels), or(height), or(width)];
        Ok(vec![Fact::tensor(dtype, Some(shape))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let dtype = tensor(inputs, 0)?.dtype();
        let y = match_real!(dtype, R => self.run::<R>(cx, inputs)?,
            else invalid!("CropAndResize takes no {dtype}"));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, t, types};

    const TEXT: &str = "y = com.microsoft.CropAndResize(x: f32[1,1,2,3], b: f32[1,4], i: i32[1], \
                        s: i32[2])";

    fn crop(attrs: &str, corners: [f32; 4], size: [i32; 2], image: i32) -> Result<Vec<f32>> {
        let inputs = [
            t(&[1, 1, 2, 3], &[0., 1., 2., 10., 11., 12.]),
            t(&[1, 4], &corners),
            Tensor::vector(vec![image]),
            Tensor::vector(size.to_vec()),
        ];
        Ok(run1(&format!("{TEXT}{attrs}\nreturn y"), &inputs)?.to_vec::<f32>()?)
    }

    #[test]
    fn boxes_of_every_size() {
        let whole = [0., 0., 1., 1.];
        for (attrs, corners, size, want) in [
            ("", whole, [2, 2], vec![0., 2., 10., 12.]),
            ("", whole, [1, 1], vec![6.]),
            ("", [0.5, 0.25, 0.5, 0.75], [1, 2], vec![5.5, 6.5]),
            ("", [0., 1., 0., 0.], [1, 3], vec![2., 1., 0.]),
            (" {extrapolation_value=-1.0}", [0., 0., 0., 1.5], [1, 4], vec![0., 1., 2., -1.]),
            (" {mode=\"nearest\"}", [0.4, 0.2, 0.6, 0.3], [2, 2], vec![0., 1., 10., 11.]),
        ] {
            let got = crop(attrs, corners, size, 0).expect("crops");
            assert_eq!(got, want, "{attrs} {corners:?} {size:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(crop("", [0.; 4], [1, 1], 1).is_err());
        assert!(crop("", [0.; 4], [0, 1], 0).is_err());
        assert!(crop("", [f32::NAN; 4], [2, 2], 0).expect("nothing is within") == [0.; 4]);
        let fixed = "s = i32[2]{4, 5}\ny = com.microsoft.CropAndResize(x: f16[N,C,8,8], \
                     b: f16[R,4], i: i32[R], s)\nreturn y";
        assert_eq!(types(fixed).expect("types"), ["f16[R,C,4,5]"]);
        assert!(types(&fixed.replace("[R,4]", "[R]")).is_err());
    }
}
