//! Mixtures of experts: each row goes through the few networks that a router prefers.
//!
//! ```text
//! y = com.microsoft.MoE(x: f32[T,H], router: f32[T,E], w1: f32[E,I,H], _, w2: f32[E,H,I]) {k=2}
//!   y[t] = sum of p[t,e] * (w2[e] * act(w1[e] * x[t])) over the k largest router[t,e]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::real::{Ticks, narrow, widen};
use crate::{
    Attrs, Build, Built, Context, Fact, Infer, Operator, Result, Schema, attr_enum, attrs, invalid,
    unsupported,
};

mod weights;

use weights::{Matrix, Packing};

attr_enum! {
    /// What stands between the two products of an expert.
    pub enum ExpertActivation {
        /// `max(x, 0)`.
        Relu = "relu",
        /// Gelu by `tanh`.
        Gelu = "gelu",
        /// `x / (1 + exp(-x))`.
        Silu = "silu",
        /// `g / (1 + exp(-alpha * g)) * (l + beta)`.
        Swiglu = "swiglu",
        /// Nothing.
        Identity = "identity",
    }
}

attrs! {
    /// The attributes of a mixture of experts.
    pub struct Experts {
        /// How many experts a row goes through.
        k: i64 = 1,
        /// What stands between the products.
        activation "activation_type": ExpertActivation = ExpertActivation::Relu,
        /// The factor within `swiglu`.
        alpha "activation_alpha": f32 = 1.0,
        /// What `swiglu` adds to its second part.
        beta "activation_beta": f32 = 0.0,
        /// The bound of both parts of `swiglu`.
        limit "swiglu_limit": Option<f32> = None,
        /// Where the second part of `swiglu` is: 0 in a third matrix, 1 in the odd rows of the
        /// first, 2 in its second half.
        fusion "swiglu_fusion": i64 = 0,
        /// Whether the weights of the chosen experts add up to 1.
        normalize "normalize_routing_weights": bool = false,
        /// The bits of a weight: 2, 4 or 8.
        bits "expert_weight_bits": i64 = 4,
        /// The bits of the first matrix, where it has its own.
        bits1 "fc1_expert_weight_bits": Option<i64> = None,
        /// The bits of the second matrix.
        bits2 "fc2_expert_weight_bits": Option<i64> = None,
        /// The bits of the third matrix.
        bits3 "fc3_expert_weight_bits": Option<i64> = None,
        /// How many weights of a row share a scale; all where 0.
        block "block_size": i64 = 0,
    }
}

/// A mixture of experts, its weights real numbers or packed integers.
#[derive(Clone, Debug, PartialEq)]
pub struct MoE {
    /// The attributes; those of packing are without meaning for real numbers.
    pub experts: Box<Experts>,
    /// Whether the weights are packed.
    pub packed: bool,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "com.microsoft.MoE", since: 1, build: |b| build(b, false) },
    Schema { name: "com.microsoft.QMoE", since: 1, build: |b| build(b, true) },
];

fn build(b: &mut Build<'_>, packed: bool) -> Result<Built> {
    if b.take("use_sparse_mixer")?.unwrap_or(false) {
        unsupported!("the sparse mixer of a mixture of experts is not supported");
    }
    if packed {
        // How exact a kernel must be; the definition is exact.
        b.take::<i64>("accuracy_level")?;
        if b.take::<i64>("weights_prepacked")?.is_some_and(|p| p > 0) {
            unsupported!("weights packed for one device are not supported: export them raw");
        }
        if b.take::<String>("quant_type")?.is_some_and(|t| t != "int") {
            unsupported!("weights of an expert must be real numbers or integers");
        }
    }
    let experts = Experts::read(&mut b.attrs)?;
    if experts.k < 1 || !(0..=2).contains(&experts.fusion) || experts.block < 0 {
        invalid!("k, swiglu_fusion and block_size are {experts:?}");
    }
    Ok(MoE { experts: Box::new(experts), packed }.into())
}

/// The inputs.
struct Given<'a> {
    x: Vec<f32>,
    router: Vec<f32>,
    mix: Option<Vec<f32>>,
    layers: Layers<'a>,
    rows: usize,
    hidden: usize,
    experts: usize,
}

/// The matrices of all experts.
struct Layers<'a> {
    first: Matrix<'a>,
    second: Matrix<'a>,
    third: Option<Matrix<'a>>,
    /// What goes into the second.
    inner: usize,
}

impl MoE {
    fn given<'a>(&self, inputs: &[Option<&'a Datum>]) -> Result<Given<'a>> {
        let (x, router) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let Some(&hidden) = x.shape().last().filter(|&&h| h > 0) else {
            invalid!("rows of length 0 go through no expert");
        };
        let rows = x.len() / hidden;
        let &[n, experts] = router.shape() else {
            invalid!("the router has rank {}, expected 2", router.shape().len());
        };
        if n != rows || self.experts.k as usize > experts {
            invalid!("the router has {n} rows of {experts}: {rows} rows choose {}", self.experts.k);
        }
        let mix = if self.packed { optional(inputs, 14)? } else { None };
        if mix.is_some_and(|m| m.shape() != router.shape()) {
            invalid!("the router has shape {:?}, its weights another", router.shape());
        }
        let real = |t: &Tensor| Ok::<_, crate::Error>(widen::<f32>(t)?.into_owned());
        Ok(Given {
            x: real(x)?,
            router: real(router)?,
            mix: mix.map(real).transpose()?,
            layers: self.layers(inputs, experts, hidden)?,
            rows,
            hidden,
            experts,
        })
    }

    fn layers<'a>(
        &self,
        inputs: &[Option<&'a Datum>],
        experts: usize,
        hidden: usize,
    ) -> Result<Layers<'a>> {
        let e = &*self.experts;
        let Some(first) = self.matrix(inputs, 0, e.bits1, [experts, hidden])? else {
            invalid!("the first weights are missing");
        };
        let fused = e.activation == ExpertActivation::Swiglu && e.fusion > 0;
        let inner = if fused { first.rows / 2 } else { first.rows };
        let Some(second) = self.matrix(inputs, 1, e.bits2, [experts, inner])? else {
            invalid!("the second weights are missing");
        };
        let third = self.matrix(inputs, 2, e.bits3, [experts, hidden])?;
        let needs = e.activation == ExpertActivation::Swiglu && !fused;
        if second.rows != hidden
            || fused && first.rows % 2 != 0
            || needs && third.is_none()
            || third.as_ref().is_some_and(|t| fused || t.rows != inner)
        {
            invalid!("{inner} and {} rows of weights do not fit rows of {hidden}", second.rows);
        }
        Ok(Layers { first, second, third, inner })
    }

    /// Matrix `i` of each expert, where it is given.
    fn matrix<'a>(
        &self,
        inputs: &[Option<&'a Datum>],
        i: usize,
        bits: Option<i64>,
        [experts, columns]: [usize; 2],
    ) -> Result<Option<Matrix<'a>>> {
        let (at, beside) = match self.packed {
            true => (2 + 3 * i, [Some(3 + 3 * i), Some(4 + 3 * i), Some(11 + i)]),
            false => (2 + 2 * i, [None, Some(3 + 2 * i), None]),
        };
        let Some(w) = optional(inputs, at)? else { return Ok(None) };
        let e = &*self.experts;
        let packing = match self.packed {
            true => Some(Packing::new(bits.unwrap_or(e.bits), e.block, columns)?),
            false => None,
        };
        let [scales, bias, zeros] = beside.map(|at| at.map_or(Ok(None), |at| optional(inputs, at)));
        let beside = [scales?, bias?, zeros?];
        Matrix::new(i + 1, w, beside, packing, [experts, columns]).map(Some)
    }

    /// The experts of a row, and their weights.
    fn choose(&self, g: &Given<'_>, row: usize) -> Vec<(usize, f32)> {
        let of = row * g.experts..(row + 1) * g.experts;
        let scores = &g.router[of.clone()];
        let mut order: Vec<usize> = (0..g.experts).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order.truncate(self.experts.k as usize);
        let most = scores[order[0]];
        let exp = |e: &usize| (scores[*e] - most).exp();
        let mut weights: Vec<f32> = match &g.mix {
            Some(mix) => order.iter().map(|&e| mix[of.start + e]).collect(),
            None => order.iter().map(exp).collect(),
        };
        // Packed experts share their weights among the chosen ones, others among all.
        let sum: f32 = match &g.mix {
            None if !self.packed && !self.experts.normalize => {
                (0..g.experts).map(|e| exp(&e)).sum()
            }
            Some(_) if !self.experts.normalize => 1.0,
            _ => weights.iter().sum(),
        };
        weights.iter_mut().for_each(|w| *w /= sum);
        order.into_iter().zip(weights).collect()
    }

    /// What goes into the second product, of what comes out of the first and the third.
    fn activate(&self, first: &[f32], third: Option<&[f32]>, to: &mut [f32]) {
        let e = &*self.experts;
        let swiglu = |g: f32, l: f32| {
            let limit = e.limit.unwrap_or(f32::INFINITY);
            let (g, l) = (g.min(limit), l.max(-limit).min(limit));
            g / (1.0 + (-e.alpha * g).exp()) * (l + e.beta)
        };
        let n = to.len();
        for (i, to) in to.iter_mut().enumerate() {
            let other = third.map(|t| t[i]);
            *to = match e.activation {
                ExpertActivation::Swiglu => match e.fusion {
                    1 => swiglu(first[2 * i], first[2 * i + 1]),
                    2 => swiglu(first[i], first[n + i]),
                    _ => swiglu(first[i], other.unwrap_or(0.0)),
                },
                plain => curve(plain, first[i]) * other.unwrap_or(1.0),
            };
        }
    }

    fn run(&self, cx: &Context, g: &Given<'_>) -> Result<Vec<f32>> {
        let mut rows = vec![vec![]; g.experts];
        for row in 0..g.rows {
            self.choose(g, row).into_iter().for_each(|(e, w)| rows[e].push((row, w)));
        }
        let mut y = cx.zeros::<f32>(&[g.rows, g.hidden])?;
        let mut ticks = Ticks::new(cx);
        for (e, rows) in rows.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let x: Vec<&[f32]> =
                rows.iter().map(|&(r, _)| &g.x[r * g.hidden..][..g.hidden]).collect();
            let first = g.layers.first.times(cx, e, &x, &mut ticks)?;
            let third = match &g.layers.third {
                Some(third) => Some(third.times(cx, e, &x, &mut ticks)?),
                None => None,
            };
            let mut inner = cx.zeros::<f32>(&[rows.len(), g.layers.inner])?;
            for (i, to) in inner.chunks_exact_mut(g.layers.inner.max(1)).enumerate() {
                let part = |all: &[f32], n: usize| all[i * n..][..n].to_vec();
                let other = third.as_ref().map(|t| part(t, g.layers.inner));
                self.activate(&part(&first, g.layers.first.rows), other.as_deref(), to);
            }
            let inner: Vec<&[f32]> = inner.chunks_exact(g.layers.inner.max(1)).collect();
            let second = g.layers.second.times(cx, e, &inner, &mut ticks)?;
            for (&(row, w), add) in rows.iter().zip(second.chunks_exact(g.hidden)) {
                let y = &mut y[row * g.hidden..][..g.hidden];
                y.iter_mut().zip(add).for_each(|(y, a)| *y += w * a);
            }
        }
        Ok(y)
    }
}

fn curve(activation: ExpertActivation, x: f32) -> f32 {
    match activation {
        ExpertActivation::Relu => x.max(0.0),
        ExpertActivation::Gelu => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        ExpertActivation::Silu => x / (1.0 + (-x).exp()),
        ExpertActivation::Swiglu | ExpertActivation::Identity => x,
    }
}

impl Operator for MoE {
    fn name(&self) -> &str {
        if self.packed { "com.microsoft.QMoE" } else { "com.microsoft.MoE" }
    }

    fn attrs(&self) -> Attrs {
        self.experts.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=if self.packed { 15 } else { 8 }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let real = |d: DType| matches!(d, DType::F32 | DType::F16 | DType::BF16);
        let dtype = cx.dtype_in(0, real)?;
        let weights: &[usize] = if self.packed { &[2, 5, 8] } else { &[2, 4, 6] };
        for &i in weights.iter().filter(|&&i| cx.has(i)) {
            cx.dtype_in(i, |d| if self.packed { d == DType::U8 } else { d == dtype })?;
        }
        Ok(vec![Fact::tensor(dtype, cx.shape(0)?.map(<[_]>::to_vec))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x: &Tensor = tensor(inputs, 0)?;
        let y = self.run(cx, &self.given(inputs)?)?;
        Ok(vec![narrow(x.dtype(), x.shape(), y)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run1, t, types};

    fn y(op: &str, inputs: &[Tensor]) -> Vec<f32> {
        let y = run1(&format!("y = com.microsoft.{op}\nreturn y"), inputs).expect(op);
        y.to_vec::<f32>().expect("f32")
    }

    fn bytes(shape: &[usize], v: &[u8]) -> Tensor {
        Tensor::from_vec(shape, v.to_vec()).expect("lengths agree")
    }

    #[test]
    fn the_best_experts_share_a_row() {
        // Three experts of one number each: 2 * relu(10x), 3 * relu(20x) + 1, 5 * relu(-x).
        let inputs = [
            t(&[2, 1], &[1., -1.]),
            t(&[2, 3], &[0., 2f32.ln(), -9., 0., -9., 3f32.ln()]),
            t(&[3, 1, 1], &[10., 20., -1.]),
            t(&[3, 1, 1], &[2., 3., 5.]),
            t(&[3, 1], &[0., 1., 0.]),
        ];
        let op = "MoE(x: f32[2,1], r: f32[2,3], w: f32[3,1,1], _, v: f32[3,1,1], c: f32[3,1])";
        let all = [3. + (-9f32).exp(), 4. + (-9f32).exp()];
        let got = y(&format!("{op} {{k=2}}"), &inputs);
        assert_close(&got, &[(20. + 2. * 61.) / all[0], 3. * 5. / all[1]], 1e-4);
        let got = y(&format!("{op} {{k=2, normalize_routing_weights=1}}"), &inputs);
        assert_close(&got, &[(20. + 2. * 61.) / 3., 3. * 5. / 4.], 1e-4);
        assert_close(&y(op, &inputs), &[2. * 61. / all[0], 3. * 5. / all[1]], 1e-4);
    }

    #[test]
    fn gates_of_every_place() {
        let swiglu = |g: f32, l: f32| g / (1. + (-2. * g).exp()) * (l + 1.);
        let tail = "activation_type=\"swiglu\", activation_alpha=2.0, activation_beta=1.0}";
        let (x, r) = (t(&[1, 1], &[1.]), t(&[1, 1], &[0.]));
        let w = t(&[1, 4, 1], &[1., 2., 3., 4.]);
        let v = t(&[1, 1, 2], &[1., 10.]);
        let op = "MoE(x: f32[1,1], r: f32[1,1], w: f32[1,4,1], _, v: f32[1,1,2])";
        let inputs = [x.clone(), r.clone(), w, v.clone()];
        let got = y(&format!("{op} {{swiglu_fusion=1, {tail}"), &inputs);
        assert_close(&got, &[swiglu(1., 2.) + 10. * swiglu(3., 4.)], 1e-4);
        let got = y(&format!("{op} {{swiglu_fusion=2, swiglu_limit=1.5, {tail}"), &inputs);
        assert_close(&got, &[swiglu(1., 1.5) + 10. * swiglu(1.5, 1.5)], 1e-4);
        let op = "MoE(x: f32[1,1], r: f32[1,1], w: f32[1,2,1], _, v: f32[1,1,2], _, u: f32[1,2,1])";
        let (w, u) = (t(&[1, 2, 1], &[1., 3.]), t(&[1, 2, 1], &[2., 4.]));
        let got = y(&format!("{op} {{{tail}"), &[x, r, w, v, u]);
        assert_close(&got, &[swiglu(1., 2.) + 10. * swiglu(3., 4.)], 1e-4);
    }

    #[test]
    fn packed_weights() {
        // Rows 0 and 1 of the first matrix: 1, -1 and 2, 0, halved and doubled; the second: 7, -8.
        let inputs = [
            t(&[1, 2], &[4., 1.]),
            t(&[1, 1], &[5.]),
            bytes(&[1, 2, 1], &[0x79, 0x8a]),
            t(&[1, 2], &[0.5, 2.]),
            bytes(&[1, 2, 1], &[0x0f, 0x80]),
            t(&[1, 2], &[1., 1.]),
        ];
        let op = "QMoE(x: f32[1,2], r: f32[1,1], w: u8[1,2,1], s: f32[1,2], _, v: u8[1,2,1], \
                  z: f32[1,2])";
        // First: (4 - 1) / 2 and 2 * 2 * 4; second: 7, -8 and -8, 0.
        assert_eq!(y(op, &inputs), [7. * 1.5 - 8. * 16., -8. * 1.5]);
        let wrong = op.replace("w: u8", "w: f32");
        assert!(types(&format!("y = com.microsoft.{wrong}\nreturn y")).is_err());
    }

    #[test]
    fn packed_weights_in_blocks_with_zero_points() {
        let inputs = [
            t(&[1, 4], &[1., 1., 1., 1.]),
            t(&[1, 1], &[0.]),
            bytes(&[1, 4, 2], &[0x21, 0x43, 0, 0, 0, 0, 0, 0]),
            t(&[1, 4, 2], &[1., 10., 0., 0., 0., 0., 0., 0.]),
            bytes(&[1, 4, 2], &[1, 0, 0, 0, 0, 0, 2, 0]),
            t(&[1, 4, 2], &[1.; 8]),
            // The zero points of the first matrix: 1 and 2, then 0.
            bytes(&[1, 4, 1], &[0x21, 0, 0, 0]),
            bytes(&[1, 4, 1], &[0; 4]),
            t(&[1, 1], &[0.5]),
        ];
        let op = "QMoE(x: f32[1,4], r: f32[1,1], w: u8[1,4,2], s: f32[1,4,2], _, v: u8[1,4,2], \
                  z: f32[1,4,2], _, _, _, _, a: u8[1,4,1], b: u8[1,4,1], _, m: f32[1,1]) \
                  {block_size=2, activation_type=\"identity\"}";
        // The first row: (0 + 1) * 1 + (1 + 2) * 10 = 31.
        assert_eq!(y(op, &inputs), [15.5, 0., 0., 31.]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        for (op, shapes) in [
            ("MoE(x: f32[1,2], r: f32[1,1], w: f32[1,1,3], _, v: f32[1,2,1])", [3, 2]),
            ("MoE(x: f32[1,2], r: f32[1,1], w: f32[1,1,2], _, v: f32[1,1,1])", [2, 1]),
            ("MoE(x: f32[1,2], r: f32[1,1], w: f32[1,1,2], _, v: f32[1,2,1]) {k=2}", [2, 2]),
        ] {
            let inputs = [
                t(&[1, 2], &[0.; 2]),
                t(&[1, 1], &[0.]),
                t(&[1, 1, shapes[0]], &vec![0.; shapes[0]]),
                t(&[1, shapes[1], 1], &vec![0.; shapes[1]]),
            ];
            let text = format!("y = com.microsoft.{op}\nreturn y");
            assert!(run1(&text, &inputs).is_err(), "{op}");
        }
    }
}
