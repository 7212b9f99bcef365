//! Classes from the decisions between pairs of them.

use super::kernel::Kernel;
use crate::ops::scores::{Labels, PostTransform, argmax, logistic, opposed};
use crate::{Attrs, Result, invalid};

/// A classifier.
#[derive(Debug, PartialEq)]
pub struct Classifier {
    /// Kernel, support vectors and coefficients.
    pub kernel: Kernel,
    /// How classes are found.
    pub classes: Classes,
    /// The labels of the classes.
    pub labels: Labels,
}

/// How classes are found.
#[derive(Debug, PartialEq)]
pub enum Classes {
    /// By a linear score each.
    Linear,
    /// By votes of the pairs.
    Pairs {
        /// The numbers of support vectors of each class.
        vectors: Vec<usize>,
        /// Where the support vectors of each class begin.
        starts: Vec<usize>,
        /// Slope and shift of each pair's probability; without them, scores are decisions.
        platt: Vec<(f32, f32)>,
    },
}

impl Classifier {
    pub(super) fn read(attrs: &mut Attrs) -> Result<Self> {
        let labels = Labels::read(attrs, "classlabels_ints", "classlabels_strings")?;
        attrs.take::<Vec<String>>("classlabels_strings")?;
        attrs.take::<Vec<i64>>("classlabels_ints")?;
        let vectors = attrs.take::<Vec<i64>>("vectors_per_class")?.unwrap_or_default();
        let a = attrs.take::<Vec<f32>>("prob_a")?.unwrap_or_default();
        let b = attrs.take::<Vec<f32>>("prob_b")?.unwrap_or_default();
        let kernel = Kernel::read(attrs)?;
        if vectors.iter().all(|&v| v == 0) {
            return Self::linear(kernel, labels);
        }
        let Some(vectors) = vectors.iter().map(|&v| usize::try_from(v).ok()).collect() else {
            invalid!("vectors_per_class has a negative element");
        };
        Self::pairs(kernel, labels, vectors, a, b)
    }

    fn linear(kernel: Kernel, labels: Labels) -> Result<Self> {
        let n = kernel.coefficients.len();
        if labels.is_empty() || n == 0 || !n.is_multiple_of(labels.len()) {
            invalid!("{n} coefficients do not fit {} classes", labels.len());
        }
        if kernel.rho.is_empty() {
            invalid!("an SVMClassifier needs `rho`");
        }
        Ok(Self { kernel, classes: Classes::Linear, labels })
    }

    fn pairs(
        kernel: Kernel,
        labels: Labels,
        vectors: Vec<usize>,
        a: Vec<f32>,
        b: Vec<f32>,
    ) -> Result<Self> {
        let classes = vectors.len();
        if classes < 2 {
            invalid!("vectors_per_class has {classes} elements: two classes are needed");
        }
        let Some(count) = vectors.iter().try_fold(0usize, |n, &v| n.checked_add(v)) else {
            invalid!("vectors_per_class is out of range");
        };
        kernel.check(count, classes - 1)?;
        let pairs = classes * (classes - 1) / 2;
        if kernel.rho.len() < pairs {
            invalid!("`rho` has {} elements for {pairs} pairs of classes", kernel.rho.len());
        }
        if a.len() != b.len() || (!a.is_empty() && a.len() < pairs) {
            invalid!("prob_a and prob_b need {pairs} elements each, or none");
        }
        let starts = vectors.iter().scan(0, |at, v| Some(std::mem::replace(at, *at + v)));
        let starts = starts.collect();
        let platt = a.into_iter().zip(b).take(pairs).collect();
        let labels = labels.or_count(classes)?;
        Ok(Self { kernel, classes: Classes::Pairs { vectors, starts, platt }, labels })
    }

    pub(super) fn attrs(&self) -> Attrs {
        let mut attrs = self.kernel.write();
        if let Classes::Pairs { vectors, platt, .. } = &self.classes {
            let vectors: Vec<i64> = vectors.iter().map(|&v| v as i64).collect();
            attrs = attrs.with("vectors_per_class", vectors);
            if !platt.is_empty() {
                let (a, b): (Vec<f32>, Vec<f32>) = platt.iter().copied().unzip();
                attrs = attrs.with("prob_a", a).with("prob_b", b);
            }
        }
        self.labels.write(attrs, "classlabels_ints", "classlabels_strings")
    }

    pub(super) fn columns(&self) -> usize {
        match &self.classes {
            Classes::Linear => self.kernel.coefficients.len() / self.labels.len(),
            // Reading has found a support vector.
            Classes::Pairs { vectors, .. } => {
                self.kernel.support_vectors.len() / vectors.iter().sum::<usize>().max(1)
            }
        }
    }

    /// The number of scores of a row: without probabilities one per pair, two for two classes.
    pub fn width(&self) -> usize {
        let classes = self.labels.len();
        match &self.classes {
            Classes::Pairs { platt, .. } if platt.is_empty() && classes > 2 => {
                classes * (classes - 1) / 2
            }
            _ => classes,
        }
    }

    /// Writes the scores of a row, rounded to single precision first, and returns its class.
    pub(super) fn row(&self, row: &mut [f64], out: &mut [f32]) -> usize {
        row.iter_mut().for_each(|x| *x = f64::from(*x as f32));
        let sums = match &self.classes {
            Classes::Linear => self.linear_sums(row),
            Classes::Pairs { vectors, starts, .. } => {
                let count: usize = vectors.iter().sum();
                let kernels: Vec<f64> = (0..count).map(|i| self.kernel.apply(row, i)).collect();
                self.weighted(&kernels, vectors, starts).collect()
            }
        };
        self.finish(&sums, out, &mut Scratch::default())
    }

    /// Writes the scores of a row that has these sums, without `rho`, one per class of a linear
    /// model, else one per pair of classes; returns its class.
    pub fn finish(&self, sums: &[f64], out: &mut [f32], scratch: &mut Scratch) -> usize {
        let rho = &self.kernel.rho;
        let (scores, coupling) = (&mut scratch.scores, &mut scratch.coupling);
        scores.clear();
        let class = match &self.classes {
            Classes::Linear => {
                scores.extend(sums.iter().map(|s| s + f64::from(rho[0])));
                argmax(scores.iter().copied())
            }
            Classes::Pairs { vectors, platt, .. } => {
                scores.extend(sums.iter().zip(rho).map(|(s, &rho)| s + f64::from(rho)));
                decided(vectors.len(), scores, platt, coupling)
            }
        };
        if scores.len() > 1 || self.kernel.post == PostTransform::Probit {
            self.kernel.post.apply(scores);
        }
        if let ([s], [first, second]) = (&scores[..], &mut *out) {
            let complement = self.kernel.post != PostTransform::None;
            [*first, *second] = opposed(*s, complement, self.kernel.post).map(|s| s as f32);
        } else {
            out.iter_mut().zip(scores).for_each(|(o, s)| *o = *s as f32);
        }
        class
    }

    fn linear_sums(&self, row: &[f64]) -> Vec<f64> {
        let score = |c: &[f32]| c.iter().zip(row).map(|(&c, x)| f64::from(c) * x).sum();
        match row.len() {
            0 => vec![0.0; self.labels.len()],
            n => self.kernel.coefficients.chunks_exact(n).map(score).collect(),
        }
    }

    /// The sum for each pair of classes, without `rho`, of what the support vectors give; none
    /// where the model has no pairs.
    pub fn sums(&self, kernels: &[f64]) -> Vec<f64> {
        match &self.classes {
            Classes::Linear => vec![],
            Classes::Pairs { vectors, starts, .. } => {
                self.weighted(kernels, vectors, starts).collect()
            }
        }
    }

    fn weighted(
        &self,
        kernels: &[f64],
        vectors: &[usize],
        starts: &[usize],
    ) -> impl Iterator<Item = f64> {
        let count = kernels.len();
        let sum = move |class: usize, line: usize| -> f64 {
            let at = starts[class];
            let coefficients = &self.kernel.coefficients[line * count + at..][..vectors[class]];
            coefficients.iter().zip(&kernels[at..]).map(|(&c, k)| f64::from(c) * k).sum()
        };
        pairs(vectors.len()).map(move |(i, j)| sum(i, j - 1) + sum(j, i))
    }
}

/// Room for what is calculated of a row.
#[derive(Default)]
pub struct Scratch {
    scores: Vec<f64>,
    coupling: Coupling,
}

#[derive(Default)]
struct Coupling {
    votes: Vec<f64>,
    r: Vec<f64>,
    q: Vec<f64>,
    p: Vec<f64>,
    qp: Vec<f64>,
}

/// The class that the decisions between pairs vote for; where pairs have probabilities, those of
/// the classes take the place of the decisions.
fn decided(
    classes: usize,
    decisions: &mut Vec<f64>,
    platt: &[(f32, f32)],
    coupling: &mut Coupling,
) -> usize {
    let votes = zeros(&mut coupling.votes, classes);
    for ((i, j), &d) in pairs(classes).zip(&*decisions) {
        votes[if d > 0.0 { i } else { j }] += 1.0;
    }
    let class = argmax(votes.iter().copied());
    if !platt.is_empty() {
        decisions.truncate(platt.len());
        for (d, &(a, b)) in decisions.iter_mut().zip(platt) {
            *d = logistic(-(f64::from(a) * *d + f64::from(b))).clamp(1e-7, 1.0 - 1e-7);
        }
        couple(classes, decisions, coupling);
        decisions.clone_from(&coupling.p);
    }
    class
}

fn zeros(x: &mut Vec<f64>, n: usize) -> &mut [f64] {
    x.clear();
    x.resize(n, 0.0);
    x
}

/// The pairs (0, 1), (0, 2), .. (1, 2), .. of `n` classes.
pub fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (i + 1..n).map(move |j| (i, j)))
}

/// Probabilities of classes from those of pairs, by the second method of Wu, Lin and Weng,
/// "Probability Estimates for Multi-class Classification by Pairwise Coupling" (2004):
/// minimises `sum over i < j of (r_ji p_i - r_ij p_j)^2` one coordinate at a time.
fn couple(n: usize, of_pairs: &[f64], coupling: &mut Coupling) {
    let r = zeros(&mut coupling.r, n * n);
    for ((i, j), &p) in pairs(n).zip(of_pairs) {
        (r[i * n + j], r[j * n + i]) = (p, 1.0 - p);
    }
    let q = zeros(&mut coupling.q, n * n);
    for (i, q) in q.chunks_exact_mut(n).enumerate() {
        for (j, q) in q.iter_mut().enumerate() {
            *q = match i == j {
                true => (0..n).filter(|&k| k != i).map(|k| r[k * n + i] * r[k * n + i]).sum(),
                false => -r[j * n + i] * r[i * n + j],
            };
        }
    }
    let (p, qp) = (zeros(&mut coupling.p, n), zeros(&mut coupling.qp, n));
    p.fill(1.0 / n as f64);
    // Probabilities as other runtimes give them stop here, not at the exact minimum.
    let enough = 0.005 / n as f64;
    for _ in 0..n.max(100) {
        for (q, qp) in q.chunks_exact(n).zip(&mut *qp) {
            *qp = q.iter().zip(&*p).map(|(q, p)| q * p).sum();
        }
        let mut pqp: f64 = p.iter().zip(&*qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < enough) {
            break;
        }
        for (t, q) in q.chunks_exact(n).enumerate() {
            let step = (pqp - qp[t]) / q[t];
            let scale = 1.0 + step;
            p[t] += step;
            pqp = (pqp + step * (step * q[t] + 2.0 * qp[t])) / (scale * scale);
            for ((p, qp), q) in p.iter_mut().zip(&mut *qp).zip(q) {
                *qp = (*qp + step * q) / scale;
                *p /= scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, types};
    use kiln_tensor::Tensor;

    fn rows() -> Tensor {
        Tensor::from_vec(&[3, 2], vec![1f32, 0.0, 0.0, 1.0, -1.0, 0.5]).expect("3x2")
    }

    fn classify(attrs: &str) -> (Vec<i64>, Vec<f32>) {
        let t = format!("y, z = ai.onnx.ml.SVMClassifier(x: f32[N,2]) {{{attrs}}}\nreturn y, z");
        let y = run(&t, &[rows()]).expect("runs");
        let of = |i: usize| y[i].as_tensor().expect("tensor");
        (of(0).to_vec().expect("labels"), of(1).to_vec().expect("scores"))
    }

    const TWO: &str = "kernel_type=\"LINEAR\", support_vectors=[1.0,0.0,0.0,1.0], \
        classlabels_ints=[10,20], vectors_per_class=[1,1], coefficients=[1.0,-1.0], rho=[0.25]";
    const THREE: &str = "kernel_type=\"RBF\", kernel_params=[0.5,0.0,3.0], \
        support_vectors=[1.0,0.0,0.0,1.0,1.0,1.0,0.5,0.5], classlabels_ints=[10,20,30], \
        vectors_per_class=[1,2,1], coefficients=[1.0,-0.5,0.25,-1.0,0.7,-0.2,0.3,-0.6], \
        rho=[0.1,-0.2,0.3]";

    #[test]
    fn two_classes() {
        // Decisions x0 - x1 + 0.25.
        let (label, score) = classify(TWO);
        assert_eq!(label, [10, 20, 20]);
        assert_close(&score, &[-1.25, 1.25, 0.75, -0.75, 1.25, -1.25], 1e-6);
        let (_, score) = classify(&format!("{TWO}, post_transform=\"SOFTMAX\""));
        assert_close(&score[..2], &[-0.25, 1.25], 1e-6);
        let (_, score) = classify(&format!("{TWO}, post_transform=\"LOGISTIC\""));
        assert_close(&score[..2], &[0.2227, 0.7773], 1e-6);
        // Two probabilities are those of the one pair, but for the early stop.
        let (_, score) = classify(&format!("{TWO}, prob_a=[-1.5], prob_b=[0.3]"));
        let want = [0.828_495, 0.171_505, 0.193_837, 0.806_163, 0.101_861, 0.898_139];
        assert_close(&score, &want, 2e-6);
    }

    #[test]
    fn three_classes_have_a_score_per_pair() {
        let (label, score) = classify(THREE);
        assert_eq!(label, [30, 30, 20]);
        let want = [1.067_693, -0.278_801, -0.058_897, 0.119_512, -0.721_285, -0.185_321];
        assert_close(&score[..6], &want, 1e-6);
    }

    #[test]
    fn labels_are_votes_even_beside_probabilities() {
        let (label, score) =
            classify(&format!("{THREE}, prob_a=[-1.5,-1.0,-2.0], prob_b=[0.3,0.1,-0.2]"));
        assert_eq!(label, [30, 30, 20]);
        let want = [
            0.386_84, 0.220_427, 0.392_732, 0.232_459, 0.328_083, 0.439_457, 0.246_629, 0.405_364,
            0.348_008,
        ];
        assert_close(&score, &want, 1e-5);
    }

    #[test]
    fn coupling_of_consistent_pairs_is_exact() {
        // p = (0.5, 0.3, 0.2): r_ij = p_i / (p_i + p_j).
        let mut coupling = Coupling::default();
        couple(3, &[0.625, 0.5 / 0.7, 0.6], &mut coupling);
        let p = coupling.p;
        for (got, want) in p.iter().zip([0.5, 0.3, 0.2]) {
            assert!((got - want).abs() < 5e-3, "{p:?}");
        }
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn linear_scores_share_one_rho() {
        let (label, score) = classify(
            "kernel_type=\"RBF\", classlabels_ints=[10,20,30], rho=[0.1,7.0,7.0], \
             coefficients=[1.0,2.0,-1.0,0.5,0.3,0.2]",
        );
        assert_eq!(label, [10, 10, 20]);
        assert_close(&score, &[1.1, -0.9, 0.4, 2.1, 0.6, 0.3, 0.1, 1.35, -0.1], 1e-6);
    }

    #[test]
    fn the_greater_of_two_linear_scores_wins() {
        let (label, score) =
            classify("classlabels_ints=[10,20], rho=[0.5], coefficients=[1.0,-2.0,-1.0,-3.0]");
        assert_eq!(label, [10, 10, 20]);
        assert_close(&score, &[1.5, -0.5, -1.5, -2.5, -1.5, 0.0], 1e-6);
    }

    fn regress(attrs: &str) -> Vec<f32> {
        let t = format!("y = ai.onnx.ml.SVMRegressor(x: f32[N,2]) {{{attrs}}}\nreturn y");
        run(&t, &[rows()]).expect("runs")[0].as_tensor().expect("t").to_vec().expect("f32")
    }

    #[test]
    fn regressors() {
        let svr = "kernel_type=\"RBF\", kernel_params=[0.5,0.0,3.0], rho=[0.25], \
                   support_vectors=[1.0,0.0,0.0,1.0], coefficients=[1.0,-2.0], n_supports=2";
        assert_close(&regress(svr), &[0.514_241, -1.382_121, -0.701_09], 1e-6);
        assert_eq!(regress(&format!("{svr}, one_class=1")), [1.0, -1.0, -1.0]);
        let linear = "kernel_type=\"RBF\", coefficients=[1.0,-2.0], rho=[0.25]";
        assert_close(&regress(linear), &[1.25, -1.75, -1.75], 1e-6);
    }

    #[test]
    fn types_round_trips_and_errors() {
        let text = |attrs: &str| {
            format!("y, z = ai.onnx.ml.SVMClassifier(x: f64[N,2]) {{{attrs}}}\nreturn y, z")
        };
        let t = text(&format!("{THREE}, prob_a=[1.0,1.0,1.0], prob_b=[0.0,0.0,0.0]"));
        assert_eq!(types(&t).expect("types"), ["i64[N]", "f32[N,3]"]);
        let g = crate::text::parse(&t).expect("parses");
        let printed = crate::text::print_full(&g);
        assert_eq!(printed, crate::text::print_full(&crate::text::parse(&printed).expect("again")));
        for (from, to) in [
            ("vectors_per_class=[1,2,1]", "vectors_per_class=[1,2,2]"),
            ("vectors_per_class=[1,2,1]", "vectors_per_class=[5,-2,1]"),
            ("vectors_per_class=[1,2,1]", "vectors_per_class=[4]"),
            ("rho=[0.1,-0.2,0.3]", "rho=[0.1]"),
            ("kernel_params=[0.5,0.0,3.0]", "kernel_params=[0.5]"),
            ("classlabels_ints=[10,20,30]", "classlabels_ints=[10,20]"),
            ("coefficients=[1.0,", "coefficients=["),
        ] {
            assert!(types(&text(&THREE.replace(from, to))).is_err(), "{to}");
        }
        assert!(types(&text(THREE).replace("f64[N,2]", "f64[N,3]")).is_err());
    }
}
