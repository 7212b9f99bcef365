//! Sliding windows: the geometry that convolutions and pools share.
//!
//! ```text
//! input position = output position * stride - pad + tap * dilation
//! ```

use crate::{Attrs, Dim, Result, attr_enum, attrs, invalid};

attr_enum! {
    /// Where padding comes from.
    pub enum AutoPad {
        /// From `pads`.
        NotSet = "NOTSET",
        /// So that the output has `ceil(input / stride)` positions, an odd pad at the end.
        SameUpper = "SAME_UPPER",
        /// As `SameUpper`, an odd pad at the begin.
        SameLower = "SAME_LOWER",
        /// There is none.
        Valid = "VALID",
    }
}

attrs! {
    /// The geometry attributes as ONNX writes them; empty lists stand for their defaults.
    pub struct Window {
        /// The window's lengths; convolutions may leave them to the weights.
        kernel_shape: Vec<i64> = vec![],
        /// Steps of the window; 1 each where empty.
        strides: Vec<i64> = vec![],
        /// Padding: all begins, then all ends; 0 each where empty.
        pads: Vec<i64> = vec![],
        /// Steps between taps; 1 each where empty.
        dilations: Vec<i64> = vec![],
        /// Where padding comes from.
        auto_pad: AutoPad = AutoPad::NotSet,
    }
}

/// The window along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Taps.
    pub kernel: i64,
    /// Steps between positions.
    pub stride: i64,
    /// Steps between taps.
    pub dilation: i64,
    /// Padding before the first element; meaningless until `resolve` where `auto_pad` is set.
    pub begin: i64,
    /// Padding behind the last element.
    pub end: i64,
    /// Where padding comes from.
    pub auto: AutoPad,
    /// Whether a window that hangs over the end counts.
    pub ceil: bool,
}

/// Lengths and steps up to this are taken; products of two stay far from overflow.
const MOST: i64 = 1 << 30;

impl Window {
    /// Takes the attributes; what equals a default is dropped.
    pub fn take(attrs: &mut Attrs) -> Result<Self> {
        let mut w = Self::read(attrs)?;
        let drop = |list: &mut Vec<i64>, default: i64| {
            if list.iter().all(|&x| x == default) {
                list.clear();
            }
        };
        drop(&mut w.strides, 1);
        drop(&mut w.dilations, 1);
        drop(&mut w.pads, 0);
        if w.auto_pad != AutoPad::NotSet {
            w.pads.clear();
        }
        if w.auto_pad == AutoPad::Valid {
            w.auto_pad = AutoPad::NotSet;
        }
        Ok(w)
    }

    /// The window along each of `n` axes, for a kernel of these lengths; an error where lists
    /// have another length or numbers make no sense.
    pub fn axes(&self, n: usize, kernel: &[i64]) -> Result<Vec<Axis>> {
        let lists = [
            ("kernel_shape", kernel, n),
            ("strides", &self.strides, n),
            ("dilations", &self.dilations, n),
            ("pads", &self.pads, 2 * n),
        ];
        for (name, list, want) in lists {
            if list.len() != want && (!list.is_empty() || name == "kernel_shape") {
                invalid!("{name} has {} numbers, {n} spatial axes need {want}", list.len());
            }
        }
        let at = |list: &[i64], i: usize, default: i64| list.get(i).copied().unwrap_or(default);
        (0..n)
            .map(|i| {
                Axis {
                    kernel: at(kernel, i, 1),
                    stride: at(&self.strides, i, 1),
                    dilation: at(&self.dilations, i, 1),
                    begin: at(&self.pads, i, 0),
                    end: at(&self.pads, n + i, 0),
                    auto: self.auto_pad,
                    ceil: false,
                }
                .checked()
            })
            .collect()
    }
}

impl Axis {
    fn checked(self) -> Result<Self> {
        let positive = [self.kernel, self.stride, self.dilation];
        if positive.iter().any(|x| !(1..=MOST).contains(x)) {
            invalid!(
                "kernel {}, stride {} and dilation {} must be positive and at most {MOST}",
                self.kernel,
                self.stride,
                self.dilation
            );
        }
        if [self.begin, self.end].iter().any(|x| !(-MOST..=MOST).contains(x)) {
            invalid!("pads {} and {} are beyond {MOST}", self.begin, self.end);
        }
        Ok(self)
    }

    /// The distance from the first tap to behind the last.
    pub fn extent(&self) -> i64 {
        (self.kernel - 1) * self.dilation + 1
    }

    /// The number of positions over an input of length `n`; an error where it is known to be
    /// negative.
    pub fn positions(&self, n: &Dim) -> Result<Dim> {
        let out = match self.auto {
            AutoPad::SameUpper | AutoPad::SameLower => n.ceil_div(self.stride),
            _ => self.padded_positions(n),
        };
        // Over nothing there is no window; else at least one must fit.
        let least = i64::from(n.as_const() != Some(0));
        match out.as_const() {
            Some(x) if x < least => {
                invalid!("a window of {} is longer than the input with its pads", self.extent())
            }
            _ => Ok(out.as_const().map_or(out, |x| x.max(0).into())),
        }
    }

    fn padded_positions(&self, n: &Dim) -> Dim {
        let room = n.clone() + Dim::from(self.begin + self.end - self.extent());
        if !self.ceil {
            return room.floor_div(&self.stride.into()) + 1i64.into();
        }
        let over = room.ceil_div(self.stride) + 1i64.into();
        // A window that begins behind the input and its leading pad is dropped.
        let begun = (n.clone() + Dim::from(self.begin - 1)).floor_div(&self.stride.into());
        smaller(&over, &(begun + 1i64.into()))
    }

    /// The number of positions over an input of length `n`, and the axis with its pads set.
    pub fn resolve(mut self, n: usize) -> Result<(Self, usize)> {
        let Some(out) = self.positions(&n.into())?.as_len() else {
            invalid!("a window over {n} elements has no length");
        };
        if matches!(self.auto, AutoPad::SameUpper | AutoPad::SameLower) {
            let last = (out as i64 - 1).saturating_mul(self.stride);
            let total = last.saturating_add(self.extent()).saturating_sub(n as i64).max(0);
            let half = total / 2;
            let upper = self.auto == AutoPad::SameUpper;
            self.begin = if upper { half } else { total - half };
            self.end = total - self.begin;
            self.auto = AutoPad::NotSet;
        }
        Ok((self, out))
    }

    /// Where tap `tap` of the window at `position` lies; outside the input it is padding.
    pub fn at(&self, position: usize, tap: usize) -> i64 {
        position as i64 * self.stride - self.begin + tap as i64 * self.dilation
    }

    /// The positions of `0..out` at which tap `tap` lies inside an input of length `n`.
    pub fn inside(&self, tap: usize, n: usize, out: usize) -> std::ops::Range<usize> {
        let shift = self.begin - tap as i64 * self.dilation;
        let up = |x: i64| (x.saturating_add(self.stride - 1)).div_euclid(self.stride).max(0);
        let (lo, hi) = (up(shift), up(shift.saturating_add(n as i64)));
        let hi = (hi as usize).min(out);
        (lo as usize).min(hi)..hi
    }

    /// The taps that lie inside an input of length `n` at some position of `0..out`.
    fn useful(&self, n: usize, out: usize) -> std::ops::Range<usize> {
        let (Some(last), true) = (out.checked_sub(1), n > 0) else { return 0..0 };
        self.taps(last, n).start..self.taps(0, n).end
    }

    /// The taps that lie inside an input of length `n`, for the window at `position`.
    pub fn taps(&self, position: usize, n: usize) -> std::ops::Range<usize> {
        let first = self.at(position, 0);
        let up = |x: i64| (x.saturating_add(self.dilation - 1)).div_euclid(self.dilation).max(0);
        let hi = up((n as i64).saturating_sub(first)).min(self.kernel);
        let lo = up(-first).min(hi);
        lo as usize..hi as usize
    }
}

/// The smaller of the two: their sum less the larger.
pub(crate) fn smaller(a: &Dim, b: &Dim) -> Dim {
    a.clone() + b.clone() - a.larger(b)
}

/// One tap of a window at every position where it lies inside the plane that is read.
///
/// The window slides over a plane of lengths `wide`, its positions form a plane of lengths
/// `positions`.
pub(crate) struct Tap<'a> {
    axes: &'a [Axis],
    at: Vec<usize>,
    positions: &'a [usize],
    wide: &'a [usize],
}

/// Calls `f` with every tap that lies inside the plane at some position, in row-major order.
pub(crate) fn each_tap(
    axes: &[Axis],
    positions: &[usize],
    wide: &[usize],
    mut f: impl FnMut(&Tap<'_>) -> Result<()>,
) -> Result<()> {
    let useful: Vec<_> = (0..axes.len()).map(|i| axes[i].useful(wide[i], positions[i])).collect();
    if useful.iter().any(std::ops::Range::is_empty) {
        return Ok(());
    }
    let at = useful.iter().map(|r| r.start).collect();
    let mut tap = Tap { axes, at, positions, wide };
    loop {
        f(&tap)?;
        let Some(i) = (0..useful.len()).rev().find(|&i| tap.at[i] + 1 < useful[i].end) else {
            return Ok(());
        };
        tap.at[i] += 1;
        for (at, range) in tap.at.iter_mut().zip(&useful).skip(i + 1) {
            *at = range.start;
        }
    }
}

impl<'a> Tap<'a> {
    /// Tap `tap` of the kernel in row-major order.
    pub(crate) fn new(
        axes: &'a [Axis],
        tap: usize,
        positions: &'a [usize],
        wide: &'a [usize],
    ) -> Self {
        let mut rest = tap;
        let mut at = vec![0; axes.len()];
        for (at, a) in at.iter_mut().zip(axes).rev() {
            *at = rest % a.kernel as usize;
            rest /= a.kernel as usize;
        }
        Self { axes, at, positions, wide }
    }

    /// Calls `f(position, len, read, step)` for every row: positions `position..position + len`
    /// read the elements `read`, `read + step`, ..; all are flat offsets.
    pub(crate) fn rows(&self, mut f: impl FnMut(usize, usize, usize, usize)) {
        let n = self.axes.len();
        let ranges: Vec<_> = (0..n)
            .map(|i| self.axes[i].inside(self.at[i], self.wide[i], self.positions[i]))
            .collect();
        let (Some(last), false) = (n.checked_sub(1), ranges.iter().any(std::ops::Range::is_empty))
        else {
            return;
        };
        let mut at: Vec<usize> = ranges.iter().map(|r| r.start).collect();
        loop {
            let (position, read) = self.offsets(&at);
            f(position, ranges[last].len(), read, self.axes[last].stride as usize);
            let Some(i) = (0..last).rev().find(|&i| at[i] + 1 < ranges[i].end) else { return };
            at[i] += 1;
            for k in i + 1..last {
                at[k] = ranges[k].start;
            }
        }
    }

    fn offsets(&self, at: &[usize]) -> (usize, usize) {
        let (mut position, mut read) = (0, 0);
        for (i, &o) in at.iter().enumerate() {
            position = position * self.positions[i] + o;
            read = read * self.wide[i] + self.axes[i].at(o, self.at[i]) as usize;
        }
        (position, read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(kernel: i64, stride: i64, dilation: i64, pads: [i64; 2]) -> Axis {
        let w = Window {
            kernel_shape: vec![],
            strides: vec![stride],
            pads: pads.to_vec(),
            dilations: vec![dilation],
            auto_pad: AutoPad::NotSet,
        };
        w.axes(1, &[kernel]).expect("makes sense")[0]
    }

    #[test]
    fn lengths_with_symbols() {
        let n = Dim::sym("N");
        assert_eq!(axis(3, 1, 1, [1, 1]).positions(&n).expect("same"), n);
        let half = axis(2, 2, 1, [0, 0]).positions(&n).expect("halved");
        assert_eq!(half, n.floor_div(&2i64.into()));
        let ceil = Axis { ceil: true, ..axis(2, 2, 1, [0, 0]) };
        let out = ceil.positions(&n).expect("halved upwards");
        for k in 2..9 {
            assert_eq!(out.eval(&|_| Some(k)), Some((k + 1) / 2), "{k}");
        }
        assert!(axis(5, 1, 1, [0, 0]).positions(&3i64.into()).is_err());
    }

    #[test]
    fn same_padding() {
        let mut a = axis(3, 2, 1, [0, 0]);
        a.auto = AutoPad::SameUpper;
        let (up, out) = a.resolve(4).expect("resolves");
        assert_eq!((up.begin, up.end, out), (0, 1, 2));
        a.auto = AutoPad::SameLower;
        let (low, _) = a.resolve(4).expect("resolves");
        assert_eq!((low.begin, low.end), (1, 0));
    }

    #[test]
    fn what_lies_inside() {
        let a = axis(3, 2, 2, [2, 2]);
        let (n, out) = (5, 3);
        for tap in 0..3 {
            let want: Vec<_> =
                (0..out).filter(|&o| (0..n as i64).contains(&a.at(o, tap))).collect();
            assert_eq!(a.inside(tap, n, out).collect::<Vec<_>>(), want, "tap {tap}");
        }
        for o in 0..out {
            let want: Vec<_> = (0..3).filter(|&t| (0..n as i64).contains(&a.at(o, t))).collect();
            assert_eq!(a.taps(o, n).collect::<Vec<_>>(), want, "position {o}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut w = Window::read(&mut Attrs::default()).expect("all defaults");
        assert!(w.axes(2, &[1]).is_err());
        w.strides = vec![0];
        assert!(w.axes(1, &[1]).is_err());
        w.strides = vec![i64::MAX];
        assert!(w.axes(1, &[1]).is_err());
    }
}
