//! A Fourier transform of any length in `n log n` steps.

use std::f64::consts::PI;

/// A complex number.
pub(super) type C = (f64, f64);

fn times(a: C, b: C) -> C {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// `exp(-2 pi i k / n)`.
fn root(k: usize, n: usize) -> C {
    let (sin, cos) = (-2.0 * PI * k as f64 / n as f64).sin_cos();
    (cos, sin)
}

/// A transform of one length.
pub(super) struct Fft {
    n: usize,
    kind: Kind,
}

enum Kind {
    /// A power of two: the roots of unity, half of them.
    Two(Vec<C>),
    /// Any other length: as a convolution with a chirp (Bluestein 1970).
    Chirp { inner: Box<Fft>, chirp: Vec<C>, spectrum: Vec<C> },
}

impl Fft {
    /// How many complex numbers a transform of length `n` holds at most.
    pub(super) fn space(n: usize) -> usize {
        n.saturating_mul(8)
    }

    pub(super) fn new(n: usize) -> Self {
        if n.is_power_of_two() || n == 0 {
            return Self { n, kind: Kind::Two((0..n / 2).map(|k| root(k, n)).collect()) };
        }
        let m = (2 * n - 1).next_power_of_two();
        let inner = Fft::new(m);
        // The angle is pi k^2 / n: the square is taken modulo 2n, so that it stays exact.
        let chirp: Vec<C> =
            (0..n as u128).map(|k| root((k * k % (2 * n as u128)) as usize, 2 * n)).collect();
        let mut spectrum = vec![(0.0, 0.0); m];
        for (k, &(re, im)) in chirp.iter().enumerate() {
            spectrum[k] = (re, -im);
            spectrum[(m - k) % m] = (re, -im);
        }
        inner.forward(&mut spectrum);
        Self { n, kind: Kind::Chirp { inner: Box::new(inner), chirp, spectrum } }
    }

    /// `y[k] = sum of x[i] exp(-2 pi i k / n)` in place.
    pub(super) fn forward(&self, x: &mut [C]) {
        debug_assert_eq!(x.len(), self.n);
        match &self.kind {
            Kind::Two(roots) => butterflies(x, roots),
            Kind::Chirp { inner, chirp, spectrum } => {
                let mut z = vec![(0.0, 0.0); spectrum.len()];
                for ((z, &x), &c) in z.iter_mut().zip(&*x).zip(chirp) {
                    *z = times(x, c);
                }
                inner.forward(&mut z);
                z.iter_mut().zip(spectrum).for_each(|(z, &s)| *z = times(*z, s));
                inner.backward(&mut z);
                for ((x, &z), &c) in x.iter_mut().zip(&z).zip(chirp) {
                    *x = times(z, c);
                }
            }
        }
    }

    /// The inverse of `forward`, in place.
    pub(super) fn backward(&self, x: &mut [C]) {
        let turn = |x: &mut [C]| x.iter_mut().for_each(|x| *x = (x.1, x.0));
        turn(x);
        self.forward(x);
        turn(x);
        let n = self.n as f64;
        x.iter_mut().for_each(|x| *x = (x.0 / n, x.1 / n));
    }
}

/// The transform of a length that is a power of two.
fn butterflies(x: &mut [C], roots: &[C]) {
    let n = x.len();
    if n < 2 {
        return;
    }
    let shift = usize::BITS - n.trailing_zeros();
    for i in 0..n {
        let j = i.reverse_bits() >> shift;
        if i < j {
            x.swap(i, j);
        }
    }
    let mut half = 1;
    while half < n {
        let step = n / (2 * half);
        for block in x.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (k, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let t = times(*b, roots[k * step]);
                (*a, *b) = ((a.0 + t.0, a.1 + t.1), (a.0 - t.0, a.1 - t.1));
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_agrees_with_the_sum() {
        for n in 1..40 {
            let x: Vec<C> = (0..n).map(|i| ((i * i % 7) as f64, (i % 5) as f64 - 2.0)).collect();
            let mut y = x.clone();
            let fft = Fft::new(n);
            fft.forward(&mut y);
            for (k, y) in y.iter().enumerate() {
                let want = x.iter().enumerate().fold((0.0, 0.0), |sum, (i, &x)| {
                    let t = times(x, root(i * k % n, n));
                    (sum.0 + t.0, sum.1 + t.1)
                });
                assert!((y.0 - want.0).abs() < 1e-11 && (y.1 - want.1).abs() < 1e-11, "{n} {k}");
            }
            fft.backward(&mut y);
            for (x, y) in x.iter().zip(&y) {
                assert!((x.0 - y.0).abs() < 1e-12 && (x.1 - y.1).abs() < 1e-12, "{n}");
            }
        }
    }
}
