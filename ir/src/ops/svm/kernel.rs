//! Kernels and the numbers of a model.

use crate::ops::scores::PostTransform;
use crate::{Result, attr_enum, attrs, invalid};

attr_enum! {
    /// The function of a row and a support vector.
    pub enum KernelType {
        /// `x.s`.
        Linear = "LINEAR",
        /// `(gamma x.s + coef0) ^ degree`.
        Poly = "POLY",
        /// `exp(-gamma |x - s|^2)`.
        Rbf = "RBF",
        /// `tanh(gamma x.s + coef0)`.
        Sigmoid = "SIGMOID",
    }
}

attrs! {
    /// Kernel, support vectors and coefficients.
    pub struct Kernel {
        /// The function.
        kind "kernel_type": KernelType = KernelType::Linear,
        /// gamma, coef0 and degree; none is three zeros.
        params "kernel_params": Vec<f32> = vec![],
        /// The support vectors, one after the other.
        support_vectors: Vec<f32> = vec![],
        /// The weights of the support vectors; a row per class, or per class but one.
        coefficients: Vec<f32> = vec![],
        /// What is added to each sum.
        rho: Vec<f32> = vec![],
        /// What becomes of the scores of a row.
        post "post_transform": PostTransform = PostTransform::None,
    }
}

impl Kernel {
    /// An error unless there are `count` support vectors with `rows` coefficients each.
    pub(super) fn check(&self, count: usize, rows: usize) -> Result<()> {
        if !matches!(self.params.len(), 0 | 3) {
            invalid!("kernel_params has {} elements, expected 3", self.params.len());
        }
        let n = self.support_vectors.len();
        if count > 0 && (n == 0 || !n.is_multiple_of(count)) {
            invalid!("{n} numbers are no {count} support vectors");
        }
        let want = rows.checked_mul(count);
        if count > 0 && want != Some(self.coefficients.len()) {
            invalid!(
                "{} coefficients for {count} support vectors, expected {rows} each",
                self.coefficients.len()
            );
        }
        Ok(())
    }

    /// The kernel of a row and support vector `i`, which must exist and be as long.
    pub fn apply(&self, row: &[f64], i: usize) -> f64 {
        let s = self.support_vectors[i * row.len()..][..row.len()].iter();
        let pairs = row.iter().zip(s.map(|&s| f64::from(s)));
        let param = |k: usize| self.params.get(k).map_or(0.0, |&p| f64::from(p));
        let (gamma, coef0, degree) = (param(0), param(1), param(2));
        if self.kind == KernelType::Rbf {
            let distance: f64 = pairs.map(|(x, s)| (x - s) * (x - s)).sum();
            return (-gamma * distance).exp();
        }
        let dot: f64 = pairs.map(|(x, s)| x * s).sum();
        match self.kind {
            KernelType::Poly => (gamma * dot + coef0).powf(degree),
            KernelType::Sigmoid => (gamma * dot + coef0).tanh(),
            KernelType::Linear | KernelType::Rbf => dot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_by_hand() {
        let of = |kind| {
            Kernel {
                kind,
                params: vec![0.5, 1.0, 3.0],
                support_vectors: vec![9.0, 9.0, 1.0, 2.0],
                coefficients: vec![],
                rho: vec![],
                post: PostTransform::None,
            }
            .apply(&[3.0, -1.0], 1)
        };
        assert_eq!(of(KernelType::Linear), 1.0);
        assert_eq!(of(KernelType::Poly), 3.375);
        assert_eq!(of(KernelType::Rbf), (-6.5f64).exp());
        assert_eq!(of(KernelType::Sigmoid), 1.5f64.tanh());
    }
}
