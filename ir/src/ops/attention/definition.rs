//! What attention calculates, row by row.

use kiln_tensor::shape::broadcast_strides;
use kiln_tensor::{DType, Datum, Tensor, bf16, f16};

use super::Settings;
use crate::ops::real::{Real, Ticks, narrow, widen};
use crate::{Context, Result, invalid};

/// The inputs.
pub(super) struct Given<'a> {
    pub(super) of: [&'a Tensor; 3],
    pub(super) mask: Option<&'a Tensor>,
    pub(super) past: [Option<&'a Tensor>; 2],
    pub(super) lengths: Option<&'a Tensor>,
}

/// Queries, keys or values in the order batch, head, place.
struct Part<R> {
    data: Vec<R>,
    batch: usize,
    heads: usize,
    rows: usize,
    size: usize,
}

impl<R: Real> Part<R> {
    fn new(cx: &Context, t: &Tensor, heads: Option<i64>) -> Result<Self> {
        // Even rows without elements take their time.
        let lengths: Vec<usize> = t.shape().iter().map(|&n| n.max(1)).collect();
        cx.numel(DType::U8, &lengths)?;
        let x = widen::<R>(t)?;
        match *t.shape() {
            [batch, heads, rows, size] => {
                Ok(Self { data: x.into_owned(), batch, heads, rows, size })
            }
            [batch, rows, width] => {
                let heads = heads.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
                let Some(heads) = heads.filter(|n| width.is_multiple_of(*n)) else {
                    invalid!("rows of {width} fall into no {heads:?} heads");
                };
                let size = width / heads;
                let mut data = Vec::with_capacity(cx.numel(R::DTYPE, t.shape())?);
                for (b, h) in pairs(batch, heads) {
                    for s in 0..rows {
                        data.extend_from_slice(&x[((b * rows + s) * heads + h) * size..][..size]);
                    }
                }
                Ok(Self { data, batch, heads, rows, size })
            }
            _ => invalid!("attention takes ranks 3 and 4, not the shape {:?}", t.shape()),
        }
    }

    /// The rows of one head.
    fn head(&self, b: usize, h: usize) -> &[R] {
        let n = self.rows * self.size;
        &self.data[(b * self.heads + h) * n..][..n]
    }

    /// Puts the rows of an earlier part before these.
    fn after(self, cx: &Context, past: Option<&Tensor>) -> Result<Self> {
        let Some(past) = past else { return Ok(self) };
        let past = Part::<R>::new(cx, past, None)?;
        let same = |p: &Part<R>| (p.batch, p.heads, p.size);
        if same(&past) != same(&self) {
            invalid!("the past has batch, heads, length {:?}, not {:?}", same(&past), same(&self));
        }
        let rows = past.rows.saturating_add(self.rows);
        let n = cx.numel(R::DTYPE, &[self.batch, self.heads, rows, self.size])?;
        let mut data = Vec::with_capacity(n);
        for (b, h) in pairs(self.batch, self.heads) {
            data.extend_from_slice(past.head(b, h));
            data.extend_from_slice(self.head(b, h));
        }
        Ok(Self { data, rows, ..self })
    }

    fn shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.rows, self.size]
    }
}

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |i| (0..b).map(move |k| (i, k)))
}

/// What is added to products, from the mask and from what queries may see.
struct Bias<'a, R> {
    settings: &'a Settings,
    mask: Option<Mask<R>>,
    /// The keys that are no padding, for each element of the batch.
    lengths: Option<Vec<i64>>,
    past: usize,
    rows: usize,
}

struct Mask<R> {
    data: Vec<R>,
    strides: [usize; 3],
    /// The keys that it knows of; later ones are not seen.
    width: usize,
}

impl<R: Real> Mask<R> {
    fn new(t: &Tensor, to: [usize; 3], total: usize) -> Result<Self> {
        let data = match t.dtype() {
            DType::Bool => {
                let bias = |&seen: &bool| if seen { R::ZERO } else { R::LEAST };
                t.as_slice::<bool>()?.iter().map(bias).collect()
            }
            _ => widen::<R>(t)?.into_owned(),
        };
        let shape = if t.rank() == 0 { &[1][..] } else { t.shape() };
        let (&width, lead) = shape.split_last().expect("invariant: the rank is not 0");
        let fits = lead.len() <= 3
            && lead.iter().rev().zip(to.iter().rev()).all(|(&m, &n)| m == 1 || m == n);
        if !fits || width > total {
            invalid!("the mask {shape:?} does not broadcast to {to:?} with {total} keys");
        }
        let mut strides = [0; 3];
        strides.copy_from_slice(&broadcast_strides(lead, &to));
        Ok(Self { data, strides: strides.map(|s| s * width), width })
    }
}

impl<R: Real> Bias<'_, R> {
    /// The keys that a query may see by its place.
    fn seen(&self, b: usize, i: usize, total: usize) -> std::ops::Range<usize> {
        let padless = |n: &Vec<i64>| n.get(b).copied().unwrap_or(0).clamp(0, total as i64);
        let length = self.lengths.as_ref().map(padless);
        let own = i as i64 + length.map_or(self.past as i64, |n| n - self.rows as i64);
        let (mut first, mut end) = (0, length.unwrap_or(total as i64));
        if self.settings.is_causal {
            end = end.min(own + 1);
        }
        if self.settings.left_window_size >= 0 {
            first = own.saturating_sub(self.settings.left_window_size).max(0);
        }
        if self.settings.right_window_size >= 0 {
            end = end.min(own.saturating_add(self.settings.right_window_size).saturating_add(1));
        }
        let end = end.clamp(0, total as i64);
        first.min(end) as usize..end as usize
    }

    /// The bias of one query for every key.
    fn row(&self, [b, h, i]: [usize; 3], out: &mut [R]) {
        let seen = self.seen(b, i, out.len());
        for (j, o) in out.iter_mut().enumerate() {
            *o = match &self.mask {
                _ if !seen.contains(&j) => R::LEAST,
                None => R::ZERO,
                Some(m) if j >= m.width => R::LEAST,
                Some(m) => m.data[b * m.strides[0] + h * m.strides[1] + i * m.strides[2] + j],
            };
        }
    }
}

/// The nearest value that a type holds.
fn rounded<R: Real>(x: R, dtype: DType) -> R {
    match dtype {
        DType::F16 => R::of(f16::from_f64(x.to_f64()).to_f64()),
        DType::BF16 => R::of(bf16::from_f64(x.to_f64()).to_f64()),
        DType::F32 => R::of(f64::from(x.to_f64() as f32)),
        _ => x,
    }
}

/// Turns the scores of one query into weights; those of keys that are not seen are 0.
fn softmax<R: Real>(x: &mut [R], bias: &[R], dtype: Option<DType>) {
    let round = |x: R| dtype.map_or(x, |d| rounded(x, d));
    if bias.iter().all(|&b| b == R::LEAST) {
        return x.fill(R::ZERO);
    }
    let mut most = R::LEAST;
    for x in x.iter_mut() {
        *x = round(*x);
        most = if *x > most || x.is_nan() { *x } else { most };
    }
    if most == R::LEAST {
        return x.fill(R::ZERO);
    }
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = if *x == R::LEAST { R::ZERO } else { (*x - most).exp() };
        sum += x.to_f64();
    }
    x.iter_mut().for_each(|x| *x = round(R::of(x.to_f64() / sum)));
}

/// The outputs that the settings ask for.
pub(super) fn run<R: Real>(
    cx: &Context,
    settings: &Settings,
    given: &Given<'_>,
) -> Result<Vec<Datum>> {
    let [tq, tk, tv] = given.of;
    let q = Part::<R>::new(cx, tq, settings.q_num_heads)?;
    let k = Part::<R>::new(cx, tk, settings.kv_num_heads)?;
    let v = Part::<R>::new(cx, tv, settings.kv_num_heads)?;
    let rows = k.rows;
    let k = k.after(cx, given.past[0])?;
    let v = v.after(cx, given.past[1])?;
    if (k.batch, k.heads, k.rows) != (v.batch, v.heads, v.rows) || k.batch != q.batch {
        invalid!("queries, keys and values are {:?}, {:?}, {:?}", q.shape(), k.shape(), v.shape());
    }
    if q.size != k.size || k.heads == 0 || !q.heads.is_multiple_of(k.heads) {
        invalid!("keys {:?} do not fit queries {:?}", k.shape(), q.shape());
    }
    let to = [q.batch, q.heads, q.rows];
    let lengths = given.lengths.map(Tensor::to_vec::<i64>).transpose()?;
    if lengths.as_ref().is_some_and(|n| n.len() != q.batch) {
        invalid!("nonpad_kv_seqlen needs one element for each of the batch of {}", q.batch);
    }
    let mask = given.mask.map(|m| Mask::new(m, to, k.rows)).transpose()?;
    let bias = Bias { settings, mask, lengths, past: k.rows - rows, rows: q.rows };
    let (y, stage) = weigh(cx, settings, [&q, &k, &v], &bias)?;
    let y = if tq.rank() == 3 { merge(&y, to, v.size) } else { y };
    let shape = match tq.rank() {
        3 => vec![q.batch, q.rows, q.heads * v.size],
        _ => vec![q.batch, q.heads, q.rows, v.size],
    };
    let mut out = vec![narrow(tq.dtype(), &shape, y)?.into()];
    if settings.outputs > 1 {
        let present = |p: Part<R>, t: &Tensor| narrow(t.dtype(), &p.shape(), p.data);
        let keys = k.rows;
        out.push(present(k, tk)?.into());
        out.push(present(v, tv)?.into());
        if settings.outputs > 3 {
            let shape = [q.batch, q.heads, q.rows, keys];
            out.push(narrow(tq.dtype(), &shape, stage)?.into());
        }
    }
    Ok(out)
}

/// The weighted values, and the stage of the calculation that is asked for.
fn weigh<R: Real>(
    cx: &Context,
    settings: &Settings,
    [q, k, v]: [&Part<R>; 3],
    bias: &Bias<'_, R>,
) -> Result<(Vec<R>, Vec<R>)> {
    let scale = match settings.scale {
        Some(s) => R::of(s.into()),
        None => R::of(1.0 / (q.size as f64).sqrt()),
    };
    let mut y = cx.zeros::<R>(&[q.batch, q.heads, q.rows, v.size])?;
    let staged = settings.outputs > 3;
    let all = if staged { [q.batch, q.heads, q.rows, k.rows] } else { [0; 4] };
    let mut stages = Vec::with_capacity(cx.numel(R::DTYPE, &all)?);
    let mut ticks = Ticks::new(cx);
    let (mut scores, mut biases) = (cx.zeros::<R>(&[k.rows])?, cx.zeros::<R>(&[k.rows])?);
    let softcap = R::of(settings.softcap.into());
    for (b, h) in pairs(q.batch, q.heads) {
        let kv = h / (q.heads / k.heads);
        for i in 0..q.rows {
            ticks.add(k.rows * (k.size + v.size) + 1)?;
            let mut stage = |mode: i64, scores: &[R]| {
                if staged && mode == settings.mode {
                    stages.extend_from_slice(scores);
                }
            };
            let row = &q.head(b, h)[i * q.size..][..q.size];
            for (j, s) in scores.iter_mut().enumerate() {
                *s = dot(row, &k.head(b, kv)[j * k.size..][..k.size]) * scale;
            }
            stage(0, &scores);
            if settings.softcap > 0.0 {
                scores.iter_mut().for_each(|s| *s = (*s / softcap).tanh() * softcap);
            }
            stage(1, &scores);
            bias.row([b, h, i], &mut biases);
            for (s, &b) in scores.iter_mut().zip(&biases) {
                // A key that is not seen counts for nothing, even where the product is NaN.
                *s = if b == R::LEAST { b } else { *s + b };
            }
            stage(2, &scores);
            softmax(&mut scores, &biases, settings.softmax_precision);
            stage(3, &scores);
            let at = ((b * q.heads + h) * q.rows + i) * v.size;
            for (j, &w) in scores.iter().enumerate() {
                let value = &v.head(b, kv)[j * v.size..][..v.size];
                y[at..].iter_mut().zip(value).for_each(|(y, &v)| *y += w * v);
            }
        }
    }
    Ok((y, stages))
}

fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    a.iter().zip(b).fold(R::ZERO, |sum, (&a, &b)| sum + a * b)
}

/// Heads side by side in each row.
fn merge<R: Real>(y: &[R], [batch, heads, rows]: [usize; 3], size: usize) -> Vec<R> {
    let mut out = Vec::with_capacity(y.len());
    for (b, s) in pairs(batch, rows) {
        for h in 0..heads {
            out.extend_from_slice(&y[((b * heads + h) * rows + s) * size..][..size]);
        }
    }
    out
}
