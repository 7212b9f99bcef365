//! Regions of images, pooled to one size: by interpolation (RoiAlign) or by maxima (MaxRoiPool).
//!
//! ```text
//! y = RoiAlign(x: f32[N,C,H,W], rois: f32[R,4], batch: i64[R]) {output_height=h, output_width=w}
//! y = MaxRoiPool(x: f32[N,C,H,W], rois: f32[R,5]) {pooled_shape=[h,w]}         y: f32[R,C,h,w]
//! ```

use std::ops::{Range, RangeInclusive};

use kiln_tensor::shape::numel;
use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::tensor;
use crate::ops::real::{Real, Ticks, is_real, match_real, narrow, widen};
use crate::{
    Attrs, Build, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, attr_enum, attrs,
    invalid, unsupported,
};

attr_enum! {
    /// What is made of the samples in a bin.
    pub enum RoiMode {
        /// Their mean.
        Avg = "avg",
        /// The greatest weighted element of any of them.
        Max = "max",
    }
}

attr_enum! {
    /// Where the elements of an image lie.
    pub enum RoiCoordinate {
        /// Half an element from the edge.
        HalfPixel = "half_pixel",
        /// At the edge; regions have at least the size of an element.
        OutputHalfPixel = "output_half_pixel",
    }
}

attrs! {
    /// Samples each bin of a region by interpolation; inputs `x rois batch_indices`.
    #[derive(Copy)]
    pub struct RoiAlign {
        /// What is made of the samples.
        mode: RoiMode = RoiMode::Avg,
        /// Where elements lie.
        coordinate "coordinate_transformation_mode": RoiCoordinate = RoiCoordinate::HalfPixel,
        /// Bins along the height.
        output_height: i64 = 1,
        /// Bins along the width.
        output_width: i64 = 1,
        /// Samples along each side of a bin; as many as it has elements where not positive.
        sampling_ratio: i64 = 0,
        /// The length of the image over that which regions speak of.
        spatial_scale: f32 = 1.0,
    }
}

/// The maximum of each bin of a region; inputs `x rois`, a region being `batch x1 y1 x2 y2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxRoiPool {
    /// Bins along height and width.
    pub pooled: [i64; 2],
    /// The length of the image over that which regions speak of.
    pub spatial_scale: f32,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "RoiAlign", since: 16, build: |b| Ok(align(b)?.into()) },
    Schema {
        name: "RoiAlign",
        since: 10,
        build: |b| {
            let coordinate = RoiCoordinate::OutputHalfPixel;
            Ok(RoiAlign { coordinate, ..align(b)? }.into())
        },
    },
    Schema {
        name: "MaxRoiPool",
        since: 1,
        build: |b| {
            let pooled: Vec<i64> = b.require("pooled_shape")?;
            let [h, w] = pooled[..] else {
                invalid!("pooled_shape has {} lengths, not 2", pooled.len())
            };
            let spatial_scale = b.take("spatial_scale")?.unwrap_or(1.0);
            Ok(MaxRoiPool { pooled: [h, w], spatial_scale }.into())
        },
    },
];

/// More samples than this along a side of a bin take too long to be meant.
const MOST_SAMPLES: i64 = 4096;

fn align(b: &mut Build<'_>) -> Result<RoiAlign> {
    let op = RoiAlign::read(&mut b.attrs)?;
    if op.sampling_ratio > MOST_SAMPLES {
        unsupported!("sampling_ratio is {}, the most is {MOST_SAMPLES}", op.sampling_ratio);
    }
    Ok(RoiAlign { sampling_ratio: op.sampling_ratio.max(0), ..op })
}

/// The samples of one bin along one axis.
struct Line {
    /// The elements on both sides, and the share of the second.
    samples: Vec<(usize, usize, f64)>,
    /// How many samples there are, those beside the image included.
    count: f64,
}

impl Line {
    /// The samples of the bin that begins at `first`; the image is `n` long.
    fn new(first: f64, bin: f64, ratio: i64, n: usize) -> Self {
        let count = if ratio > 0 { ratio as f64 } else { bin.ceil().max(0.0) };
        let step = bin / count;
        let begin = first + step / 2.0;
        let mut samples = Vec::new();
        if n == 0 || !step.is_finite() || !begin.is_finite() {
            return Self { samples, count };
        }
        // A long region has most of its samples beside the image.
        let skipped = if ratio > 0 { 0.0 } else { ((-1.0 - begin) / step).floor().max(0.0) };
        let last = (n - 1) as f64;
        // Steps are at least half an element long where their number follows from the bin.
        let most = if ratio > 0 { ratio as usize } else { n.saturating_mul(2).saturating_add(8) };
        for k in 0..most {
            let k = skipped + k as f64;
            let at = begin + k * step;
            if k >= count || (ratio == 0 && at > n as f64) {
                break;
            }
            if at >= -1.0 && at <= n as f64 {
                let at = at.clamp(0.0, last);
                samples.push((at as usize, (at as usize + 1).min(n - 1), at.fract()));
            }
        }
        Self { samples, count }
    }
}

impl RoiAlign {
    /// The lines of all bins along an axis.
    fn lines(&self, from: f64, to: f64, bins: usize, n: usize) -> Vec<Line> {
        let half = self.coordinate == RoiCoordinate::HalfPixel;
        let scale = f64::from(self.spatial_scale);
        let shift = if half { 0.5 } else { 0.0 };
        let (from, to) = (from * scale - shift, to * scale - shift);
        let length = if half { to - from } else { (to - from).max(1.0) };
        let bin = length / bins as f64;
        (0..bins).map(|i| Line::new(from + i as f64 * bin, bin, self.sampling_ratio, n)).collect()
    }

    /// The value of one bin of one plane.
    fn bin<R: Real>(&self, plane: &[R], width: usize, rows: &Line, columns: &Line) -> R {
        let total = rows.count * columns.count;
        let seen = rows.samples.len() * columns.samples.len();
        let (mut sum, mut most) = (R::ZERO, None);
        for &(y, below, v) in &rows.samples {
            for &(x, right, u) in &columns.samples {
                let corners = [
                    (y, x, (1.0 - v) * (1.0 - u)),
                    (y, right, (1.0 - v) * u),
                    (below, x, v * (1.0 - u)),
                    (below, right, v * u),
                ];
                for (y, x, weight) in corners {
                    let part = R::of(weight) * plane[y * width + x];
                    sum += part;
                    most = Some(most.map_or(part, |m: R| if part > m { part } else { m }));
                }
            }
        }
        match (self.mode, most) {
            (RoiMode::Avg, _) => sum / R::of(total.max(1.0)),
            // Samples beside the image are 0.
            (RoiMode::Max, Some(most)) if (seen as f64) < total && most < R::ZERO => R::ZERO,
            (RoiMode::Max, most) => most.unwrap_or(R::ZERO),
        }
    }

    fn run<R: Real>(
        &self,
        cx: &Context,
        x: &Tensor,
        rois: &[f64],
        planes: &[usize],
    ) -> Result<(Vec<usize>, Vec<R>)> {
        let &[_, channels, height, width] = x.shape() else { invalid!("x is no image") };
        let shape =
            [planes.len(), channels, self.output_height as usize, self.output_width as usize];
        let mut y = cx.zeros::<R>(&shape)?;
        let data = widen::<R>(x)?;
        let (area, bins) = (height * width, shape[2] * shape[3]);
        let mut ticks = Ticks::new(cx);
        if y.is_empty() {
            return Ok((shape.to_vec(), y));
        }
        let regions = rois.chunks_exact(4).zip(planes);
        for ((roi, &batch), y) in regions.zip(y.chunks_exact_mut(channels * bins)) {
            let rows = self.lines(roi[1], roi[3], shape[2], height);
            let columns = self.lines(roi[0], roi[2], shape[3], width);
            for (c, y) in y.chunks_exact_mut(bins).enumerate() {
                let plane = &data[(batch * channels + c) * area..][..area];
                for (i, y) in y.iter_mut().enumerate() {
                    let (row, column) = (&rows[i / shape[3]], &columns[i % shape[3]]);
                    *y = self.bin(plane, width, row, column);
                    ticks.add(row.samples.len() * column.samples.len() + 1)?;
                }
            }
        }
        Ok((shape.to_vec(), y))
    }
}

/// Checks an index of the batch.
fn batch_index(i: f64, n: usize) -> Result<usize> {
    match i >= 0.0 && i < n as f64 {
        true => Ok(i as usize),
        false => Err(Error::invalid(format!("a region is of image {i}, there are {n}"))),
    }
}

/// The shape of what is pooled from regions of `columns` numbers.
fn infer_shape(cx: &mut Infer<'_>, columns: i64, bins: [i64; 2]) -> Result<Vec<Dim>> {
    if bins.iter().any(|&b| b < 1) {
        invalid!("regions are pooled to {bins:?}, which is not positive");
    }
    let channels = match cx.shape(0)? {
        Some([_, c, _, _]) => c.clone(),
        Some(x) => invalid!("x has rank {}, not 4", x.len()),
        None => cx.fresh(),
    };
    let regions = match cx.shape(1)? {
        Some([r, n]) if n.as_const().is_none_or(|n| n == columns) => r.clone(),
        Some(_) => invalid!("regions must have shape [R,{columns}]"),
        None => cx.fresh(),
    };
    Ok(vec![regions, channels, bins[0].into(), bins[1].into()])
}

impl Operator for RoiAlign {
    fn name(&self) -> &str {
        "RoiAlign"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype([0, 1])?;
        cx.dtype_in(2, |d| d == DType::I64)?;
        let shape = infer_shape(cx, 4, [self.output_height, self.output_width])?;
        Ok(vec![Fact::shaped(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, rois) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let planes = tensor(inputs, 2)?.to_vec::<i64>()?;
        if rois.shape() != [planes.len(), 4] || x.rank() != 4 {
            invalid!("{} images are given for regions of shape {:?}", planes.len(), rois.shape());
        }
        let index = |&i: &i64| batch_index(i as f64, x.shape()[0]);
        let planes: Vec<usize> = planes.iter().map(index).collect::<Result<_>>()?;
        let rois = rois.to_vec::<f64>()?;
        let y = match_real!(x.dtype(), R => {
            let (shape, y) = self.run::<R>(cx, x, &rois, &planes)?;
            narrow(x.dtype(), &shape, y)?
        }, else invalid!("RoiAlign takes no {}", x.dtype()));
        Ok(vec![y.into()])
    }
}

impl MaxRoiPool {
    /// The elements of each bin along an axis.
    fn ranges(&self, from: f64, to: f64, bins: usize, n: usize) -> Vec<Range<usize>> {
        let scale = f64::from(self.spatial_scale);
        let (from, to) = ((from * scale).round(), (to * scale).round());
        let bin = (to - from + 1.0).max(1.0) / bins as f64;
        let inside = |x: f64| x.clamp(0.0, n as f64) as usize;
        (0..bins)
            .map(|i| {
                let i = i as f64;
                inside((i * bin).floor() + from)..inside(((i + 1.0) * bin).ceil() + from)
            })
            .collect()
    }

    fn run<R: Real>(&self, cx: &Context, x: &Tensor, rois: &[f64]) -> Result<(Vec<usize>, Vec<R>)> {
        let &[n, channels, height, width] = x.shape() else { invalid!("x is no image") };
        let [h, w] = self.pooled.map(|p| p as usize);
        let shape = vec![rois.len() / 5, channels, h, w];
        let mut y = cx.zeros::<R>(&shape)?;
        let (data, area) = (widen::<R>(x)?, height * width);
        let mut ticks = Ticks::new(cx);
        let planes = numel(&shape[1..])?.max(1);
        for (roi, y) in rois.chunks_exact(5).zip(y.chunks_exact_mut(planes)) {
            let batch = batch_index(roi[0], n)?;
            let rows = self.ranges(roi[2], roi[4], h, height);
            let columns = self.ranges(roi[1], roi[3], w, width);
            for (i, y) in y.iter_mut().enumerate() {
                let plane = &data[(batch * channels + i / (h * w)) * area..][..area];
                let (row, column) = (&rows[i / w % h], &columns[i % w]);
                let elements = row.clone().flat_map(|r| &plane[r * width..][column.clone()]);
                // An empty bin is 0.
                *y = elements.copied().reduce(|a, b| if b > a { b } else { a }).unwrap_or(R::ZERO);
                ticks.add(row.len() * column.len() + 1)?;
            }
        }
        Ok((shape, y))
    }
}

impl Operator for MaxRoiPool {
    fn name(&self) -> &str {
        "MaxRoiPool"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
            .with("pooled_shape", self.pooled.to_vec())
            .with("spatial_scale", Some(self.spatial_scale).filter(|&s| s != 1.0))
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype([0, 1])?;
        Ok(vec![Fact::shaped(dtype, infer_shape(cx, 5, self.pooled)?)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, rois) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        if rois.rank() != 2 || rois.shape()[1] != 5 {
            invalid!("regions have shape {:?}, not [R,5]", rois.shape());
        }
        let rois = rois.to_vec::<f64>()?;
        let y = match_real!(x.dtype(), R => {
            let (shape, y) = self.run::<R>(cx, x, &rois)?;
            narrow(x.dtype(), &shape, y)?
        }, else invalid!("MaxRoiPool takes no {}", x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run1, types};

    fn image() -> Tensor {
        Tensor::from_vec(&[1, 1, 4, 4], (0..16).map(|i| i as f32).collect()).expect("4x4")
    }

    fn align(roi: [f32; 4], attrs: &str) -> Vec<f32> {
        let text = format!(
            "b = i64[1]{{0}}\ny = RoiAlign(x: f32[1,1,4,4], r: f32[1,4], b) {{{attrs}}}\nreturn y"
        );
        let roi = Tensor::from_vec(&[1, 4], roi.to_vec()).expect("1x4");
        run1(&text, &[image(), roi]).expect("runs").to_vec().expect("floats")
    }

    #[test]
    fn bins_are_sampled() {
        // One sample in the middle of each bin: at 1 and 2 along both axes.
        let got = align([1.0, 1.0, 3.0, 3.0], "output_height=2, output_width=2");
        assert_close(&got, &[5.0, 6.0, 9.0, 10.0], 1e-5);
        let edge = "coordinate_transformation_mode=\"output_half_pixel\"";
        let got = align([1.0, 1.0, 3.0, 3.0], &format!("{edge}, sampling_ratio=1"));
        assert_close(&got, &[10.0], 1e-5);
        // At 0.25 and 0.75 between 0 1 4 5: the greatest part is 9/16 of the 5.
        let got = align([0.5, 0.5, 1.5, 1.5], "mode=\"max\", sampling_ratio=2");
        assert_close(&got, &[45.0 / 16.0], 1e-5);
        // Beside the image, everything is 0; so it is of a region without a size.
        assert_eq!(align([1e30, 1e30, 2e30, 2e30], ""), [0.0]);
        assert_eq!(align([2.0, 2.0, 2.0, 2.0], ""), [0.0]);
    }

    #[test]
    fn maxima_of_bins() {
        let pool = |roi: [f32; 5]| {
            let text = "y = MaxRoiPool(x: f32[1,1,4,4], r: f32[1,5]) \
                        {pooled_shape=[2,2], spatial_scale=0.5}\nreturn y";
            let roi = Tensor::from_vec(&[1, 5], roi.to_vec()).expect("1x5");
            Ok::<_, Error>(run1(text, &[image(), roi])?.to_vec::<f32>()?)
        };
        // Columns 0 to 2 and rows 1 to 3; bins of 1.5 elements share one.
        assert_eq!(pool([0.0, 0.0, 2.0, 4.0, 6.0]).expect("runs"), [9.0, 10.0, 13.0, 14.0]);
        assert_eq!(pool([0.0, 20.0, 20.0, 30.0, 30.0]).expect("runs"), [0.0; 4]);
        assert!(pool([1.0, 0.0, 0.0, 1.0, 1.0]).is_err());
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |op: &str| types(&format!("y = {op}\nreturn y"));
        let y = ty("RoiAlign(x: f16[N,C,H,W], r: f16[R,4], b: i64[R]) {output_height=7}");
        assert_eq!(y.expect("types"), ["f16[R,C,7,1]"]);
        assert!(ty("RoiAlign(x: f32[N,C,H,W], r: f32[R,5], b: i64[R])").is_err());
        assert!(ty("RoiAlign(x: f32[N,C,H], r: f32[R,4], b: i64[R])").is_err());
        assert!(ty("MaxRoiPool(x: f32[N,C,H,W], r: f32[R,5])").is_err());
        assert!(ty("MaxRoiPool(x: f32[N,C,H,W], r: f32[R,5]) {pooled_shape=[0,1]}").is_err());
    }
}
