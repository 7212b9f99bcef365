//! Matrix products: `MatMul`, with the factors and transpositions of `FusedMatMul`, and `Gemm`.
//!
//! ```text
//! c = MatMul(a: f32[B,M,K], b: f32[K,N])      c: f32[B,M,N]
//! y = Gemm(a: f32[M,K], b: f32[K,N], c)       y = alpha * a * b + beta * c
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Number, Scalar, Tensor, shape};

use crate::eval::{optional, tensor};
use crate::infer::broadcast;
use crate::ops::real::{Ticks, axpy, is_real, match_wide, narrow, widen};
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attrs, invalid};

attrs! {
    /// A matrix product of stacks of matrices, which broadcast; vectors are promoted.
    #[derive(Copy)]
    pub struct MatMul {
        /// Factor of the product.
        alpha: f32 = 1.0,
        /// Whether the last two axes of A are swapped.
        trans_a "transA": bool = false,
        /// Whether the last two axes of B are swapped.
        trans_b "transB": bool = false,
        /// Whether the first axis of A is moved behind its batch axes, before `trans_a`.
        trans_batch_a "transBatchA": bool = false,
        /// Whether the first axis of B is moved behind its batch axes, before `trans_b`.
        trans_batch_b "transBatchB": bool = false,
    }
}

attrs! {
    /// `alpha * A * B + beta * C` of matrices; C is optional and broadcasts.
    #[derive(Copy)]
    pub struct Gemm {
        /// Factor of the product.
        alpha: f32 = 1.0,
        /// Factor of C.
        beta: f32 = 1.0,
        /// Whether A is transposed.
        trans_a "transA": bool = false,
        /// Whether B is transposed.
        trans_b "transB": bool = false,
    }
}

impl MatMul {
    /// The plain product of ONNX.
    pub const PLAIN: MatMul = MatMul {
        alpha: 1.0,
        trans_a: false,
        trans_b: false,
        trans_batch_a: false,
        trans_batch_b: false,
    };
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "MatMul", since: 1, build: |_| Ok(MatMul::PLAIN.into()) },
    Schema {
        name: "com.microsoft.FusedMatMul",
        since: 1,
        build: |b| Ok(MatMul::read(&mut b.attrs)?.into()),
    },
    Schema {
        name: "com.microsoft.TransposeMatMul",
        since: 1,
        build: |b| Ok(MatMul::read(&mut b.attrs)?.into()),
    },
    Schema { name: "Gemm", since: 7, build: |b| Ok(Gemm::read(&mut b.attrs)?.into()) },
    Schema {
        name: "Gemm",
        since: 1,
        build: |b| {
            // C broadcasts whether or not it is told to.
            b.take::<bool>("broadcast")?;
            Ok(Gemm::read(&mut b.attrs)?.into())
        },
    },
];

/// Whether products are defined for the type.
fn takes(d: DType) -> bool {
    is_real(d) || matches!(d, DType::I64 | DType::I32 | DType::U64 | DType::U32)
}

/// The order in which the axes of an operand are read; `None` where it is their own.
pub(crate) fn order(rank: usize, trans: bool, trans_batch: bool) -> Option<Vec<usize>> {
    if rank < 2 || !(trans || trans_batch) {
        return None;
    }
    let mut axes: Vec<usize> = (0..rank).collect();
    if trans_batch {
        axes[..rank - 1].rotate_left(1);
    }
    if trans {
        axes.swap(rank - 2, rank - 1);
    }
    Some(axes)
}

/// An operand with its axes in order.
fn arrange(t: &Tensor, trans: bool, trans_batch: bool) -> Result<Tensor> {
    let Some(axes) = order(t.rank(), trans, trans_batch) else { return Ok(t.clone()) };
    let own = shape::strides(t.shape());
    let lengths: Vec<usize> = axes.iter().map(|&a| t.shape()[a]).collect();
    let strides: Vec<usize> = axes.iter().map(|&a| own[a]).collect();
    Ok(t.take(&lengths, shape::offsets(&lengths, &strides))?)
}

fn arrange_dims(dims: &[Dim], trans: bool, trans_batch: bool) -> Vec<Dim> {
    match order(dims.len(), trans, trans_batch) {
        Some(axes) => axes.iter().map(|&a| dims[a].clone()).collect(),
        None => dims.to_vec(),
    }
}

/// Checks that two inner lengths can be equal.
fn same_inner(a: &Dim, b: &Dim) -> Result<()> {
    match (a.as_const(), b.as_const()) {
        (Some(x), Some(y)) if x != y => {
            invalid!("the inner lengths differ: A has {x} columns, B has {y} rows")
        }
        _ => Ok(()),
    }
}

/// The shape of a product of two stacks of matrices.
pub(crate) fn product_dims(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
    if a.is_empty() || b.is_empty() {
        invalid!("a product needs vectors or matrices, not scalars");
    }
    let (left, k) = a.split_at(a.len() - 1);
    let rows = b.len().saturating_sub(2);
    same_inner(&k[0], &b[rows])?;
    let batch_a = &left[..left.len().saturating_sub(1)];
    let mut out = broadcast(batch_a, &b[..rows])?;
    out.extend(left.last().cloned());
    out.extend(b.get(rows + 1).cloned());
    Ok(out)
}

/// Rows of `b` that stay in cache while all rows of `a` pass over them.
const BLOCK: usize = 16;

/// `c += a * b` for row-major `a: m*k`, `b: k*n`, `c: m*n`; each sum runs over rising `k`.
pub(crate) fn multiply<T: Number>(
    ticks: &mut Ticks<'_>,
    [m, k, n]: [usize; 3],
    a: &[T],
    b: &[T],
    c: &mut [T],
) -> Result<()> {
    if m == 0 || k == 0 || n == 0 {
        return Ok(());
    }
    for (block, b) in b.chunks(BLOCK * n).enumerate() {
        let depth = b.len() / n;
        for (a, c) in a.chunks_exact(k).zip(c.chunks_exact_mut(n)) {
            accumulate(&a[block * BLOCK..][..depth], b, c);
            ticks.add(depth.saturating_mul(n))?;
        }
    }
    Ok(())
}

/// `c += a * b` for a row `a` and the rows `b`, one after another: four to a pass over `c`.
fn accumulate<T: Number>(a: &[T], b: &[T], c: &mut [T]) {
    let n = c.len();
    let (quads, rest) = (a.chunks_exact(4), a.chunks_exact(4).remainder());
    let (whole, last) = b.split_at((a.len() - rest.len()) * n);
    for (a, b) in quads.zip(whole.chunks_exact(4 * n)) {
        let ((b0, b1), (b2, b3)) = (b[..2 * n].split_at(n), b[2 * n..].split_at(n));
        for ((((c, &b0), &b1), &b2), &b3) in c.iter_mut().zip(b0).zip(b1).zip(b2).zip(b3) {
            let half = c.plus(a[0].times(b0)).plus(a[1].times(b1));
            *c = half.plus(a[2].times(b2)).plus(a[3].times(b3));
        }
    }
    for (&a, b) in rest.iter().zip(last.chunks_exact(n)) {
        axpy(a, b, c);
    }
}

/// The shape and the elements of the product of two stacks of matrices.
pub(crate) fn product<T: Number>(
    cx: &Context,
    (a_shape, a): (&[usize], &[T]),
    (b_shape, b): (&[usize], &[T]),
) -> Result<(Vec<usize>, Vec<T>)> {
    let dims = |s: &[usize]| s.iter().map(|&d| Dim::from(d)).collect::<Vec<_>>();
    let out = product_dims(&dims(a_shape), &dims(b_shape))?;
    let out: Vec<usize> = out.iter().filter_map(Dim::as_len).collect();
    let k = a_shape[a_shape.len() - 1];
    let m = if a_shape.len() > 1 { a_shape[a_shape.len() - 2] } else { 1 };
    let n = if b_shape.len() > 1 { b_shape[b_shape.len() - 1] } else { 1 };
    let batch_a = &a_shape[..a_shape.len().saturating_sub(2)];
    let batch_b = &b_shape[..b_shape.len().saturating_sub(2)];
    let batch = shape::broadcast(batch_a, batch_b)?;
    let mut c = cx.zeros::<T>(&out)?;
    if c.is_empty() || k == 0 {
        return Ok((out, c));
    }
    let at = |own: &[usize]| shape::offsets(&batch, &shape::broadcast_strides(own, &batch));
    let mut ticks = Ticks::new(cx);
    for ((i, j), c) in at(batch_a).zip(at(batch_b)).zip(c.chunks_exact_mut(m * n)) {
        let (a, b) = (&a[i * m * k..][..m * k], &b[j * k * n..][..k * n]);
        multiply(&mut ticks, [m, k, n], a, b, c)?;
    }
    Ok((out, c))
}

/// `x * by`; exact products are rounded once.
fn scale<T: Scalar>(x: T, by: f32) -> T {
    if by == 1.0 { x } else { T::from_f64(x.to_f64() * f64::from(by)) }
}

/// `a * alpha + b * beta`; an integer loses the fraction of the sum, not those of its terms.
fn scaled_sum<T: Number>((a, alpha): (T, f32), (b, beta): (T, f32)) -> T {
    if T::DTYPE.is_integer() && (alpha.fract() != 0.0 || beta.fract() != 0.0) {
        return T::from_f64(a.to_f64() * f64::from(alpha) + b.to_f64() * f64::from(beta));
    }
    scale(a, alpha).plus(scale(b, beta))
}

impl Operator for MatMul {
    fn name(&self) -> &str {
        if *self == Self::PLAIN { "MatMul" } else { "com.microsoft.FusedMatMul" }
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, takes)?;
        let dtype = cx.same_dtype(0..2)?;
        let (Some(a), Some(b)) = (cx.shape(0)?, cx.shape(1)?) else {
            return Ok(vec![Fact::tensor(dtype, None)]);
        };
        let a = arrange_dims(a, self.trans_a, self.trans_batch_a);
        let b = arrange_dims(b, self.trans_b, self.trans_batch_b);
        Ok(vec![Fact::shaped(dtype, product_dims(&a, &b)?)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let a = arrange(tensor(inputs, 0)?, self.trans_a, self.trans_batch_a)?;
        let b = arrange(tensor(inputs, 1)?, self.trans_b, self.trans_batch_b)?;
        let y = match_wide!(a.dtype(), T => {
            let (x, y) = (widen::<T>(&a)?, widen::<T>(&b)?);
            let (out, mut c) = product(cx, (a.shape(), &x), (b.shape(), &y))?;
            c.iter_mut().for_each(|c| *c = scale(*c, self.alpha));
            narrow(a.dtype(), &out, c)?
        }, else invalid!("MatMul takes no {}", a.dtype()));
        Ok(vec![y.into()])
    }
}

impl Operator for Gemm {
    fn name(&self) -> &str {
        "Gemm"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, takes)?;
        let dtype = cx.same_dtype(0..3)?;
        let matrix = |cx: &mut Infer<'_>, i: usize, trans: bool| match cx.shape(i)? {
            Some(d) if d.len() != 2 => {
                invalid!("Gemm takes matrices, input {i} has rank {}", d.len())
            }
            Some(d) => Ok(arrange_dims(d, trans, false)),
            None => Ok(cx.fresh_shape(2)),
        };
        let (a, b) = (matrix(cx, 0, self.trans_a)?, matrix(cx, 1, self.trans_b)?);
        same_inner(&a[1], &b[0])?;
        let out = vec![a[0].clone(), b[1].clone()];
        if cx.has(2)
            && let Some(c) = cx.shape(2)?
        {
            let fits = |(c, y): (&Dim, &Dim)| match (c.as_const(), y.as_const()) {
                (Some(c), Some(y)) => c == 1 || c == y,
                _ => true,
            };
            if c.len() > 2 || !c.iter().rev().zip(out.iter().rev()).all(fits) {
                invalid!("C does not broadcast to [{},{}]", out[0], out[1]);
            }
        }
        Ok(vec![Fact::shaped(dtype, out)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let a = arrange(tensor(inputs, 0)?, self.trans_a, false)?;
        let b = arrange(tensor(inputs, 1)?, self.trans_b, false)?;
        if a.rank() != 2 || b.rank() != 2 {
            invalid!("Gemm takes matrices, got shapes {:?} and {:?}", a.shape(), b.shape());
        }
        let y = match_wide!(a.dtype(), T => {
            let (x, y) = (widen::<T>(&a)?, widen::<T>(&b)?);
            let (out, mut sum) = product(cx, (a.shape(), &x), (b.shape(), &y))?;
            if let Some(c) = optional(inputs, 2)? {
                let c = c.broadcast_to(&out)?;
                for (s, &c) in sum.iter_mut().zip(widen::<T>(&c)?.iter()) {
                    *s = scaled_sum((*s, self.alpha), (c, self.beta));
                }
            } else {
                sum.iter_mut().for_each(|s| *s = scale(*s, self.alpha));
            }
            narrow(a.dtype(), &out, sum)?
        }, else invalid!("Gemm takes no {}", a.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, t, types};

    #[test]
    fn stacks_and_vectors() {
        let m = t(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let v = t(&[2], &[10.0, 1.0]);
        let y = run1("y = MatMul(a: f32[2,2], b: f32[2])\nreturn y", &[m.clone(), v.clone()]);
        assert_eq!(y.expect("runs"), t(&[2], &[12.0, 34.0]));
        let y = run1("y = MatMul(a: f32[2], b: f32[2,2])\nreturn y", &[v.clone(), m.clone()]);
        assert_eq!(y.expect("runs"), t(&[2], &[13.0, 24.0]));
        let y = run1("y = MatMul(a: f32[2], b: f32[2])\nreturn y", &[v.clone(), v]);
        assert_eq!(y.expect("runs"), t(&[], &[101.0]));
        let stack = t(&[2, 1, 1, 2], &[1.0, 0.0, 0.0, 1.0]);
        let text = "y = MatMul(a: f32[2,1,1,2], b: f32[2,2])\nreturn y";
        assert_eq!(run1(text, &[stack, m]).expect("runs"), t(&[2, 1, 1, 2], &[1., 2., 3., 4.]));
    }

    #[test]
    fn integers_of_gemm_keep_the_fraction_until_the_sum() {
        let one = |x: i32| Tensor::from_vec(&[1, 1], vec![x]).expect("1x1");
        let text =
            "y = Gemm(a: i32[1,1], b: i32[1,1], c: i32[1,1]) {alpha=0.5, beta=0.5}\nreturn y";
        // 2.5 + 1.5, not 2 + 1.
        assert_eq!(run1(text, &[one(5), one(1), one(3)]).expect("runs"), one(4));
    }

    #[test]
    fn integers_wrap_and_halves_sum_in_f32() {
        let big = Tensor::from_vec(&[1, 2], vec![i32::MAX, 1]).expect("1x2");
        let two = Tensor::from_vec(&[2, 1], vec![2i32, 0]).expect("2x1");
        let y = run1("y = MatMul(a: i32[1,2], b: i32[2,1])\nreturn y", &[big, two]);
        assert_eq!(y.expect("runs"), Tensor::from_vec(&[1, 1], vec![-2i32]).expect("1x1"));
        // 2048 + 1 + 1 is 2048 in steps of f16, but 2050 in one.
        let h = |x: &[f32]| x.iter().map(|&x| kiln_tensor::f16::from_f32(x)).collect::<Vec<_>>();
        let a = Tensor::vector(h(&[2048.0, 1.0, 1.0]));
        let y = run1(
            "y = MatMul(a: f16[3], b: f16[3])\nreturn y",
            &[a, Tensor::vector(h(&[1.0, 1.0, 1.0]))],
        );
        assert_eq!(y.expect("runs").to_scalar::<f32>(), Ok(2050.0));
    }

    #[test]
    fn fused_transpositions() {
        let a = t(&[2, 1], &[1.0, 2.0]);
        let b = t(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let text = "y = com.microsoft.FusedMatMul(a: f32[2,1], b: f32[3,2]) {transA=1, transB=1, \
                    alpha=0.5}\nreturn y";
        assert_eq!(run1(text, &[a, b]).expect("runs"), t(&[1, 3], &[0.5, 1.0, 1.5]));
        let text = "y = com.microsoft.FusedMatMul(a: f32[M,B,K], b: f32[B,K,N]) \
                    {transBatchA=1}\nreturn y";
        assert_eq!(types(text).expect("types"), ["f32[B,M,N]"]);
    }

    #[test]
    fn gemm_by_hand() {
        let a = t(&[2, 1], &[1.0, 2.0]);
        let b = t(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let c = t(&[2], &[10.0, 20.0]);
        let text = "y = Gemm(a: f32[2,1], b: f32[2,2], c: f32[2]) {transA=1, alpha=2.0, \
                    beta=0.5}\nreturn y";
        assert_eq!(run1(text, &[a, b, c]).expect("runs"), t(&[1, 2], &[19.0, 30.0]));
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |text: &str| types(&format!("y = {text}\nreturn y"));
        assert_eq!(ty("MatMul(a: f32[B,1,M,K], b: f32[H,K,4])").expect("types"), ["f32[B,H,M,4]"]);
        assert_eq!(ty("Gemm(a: f32[K,M], b: f32[..]) {transA=1}").expect("types").len(), 1);
        assert!(ty("MatMul(a: f32[2,3], b: f32[2,3])").is_err());
        assert!(ty("MatMul(a: f32[], b: f32[2,3])").is_err());
        assert!(ty("MatMul(a: i8[2,2], b: i8[2,2])").is_err());
        assert!(ty("Gemm(a: f32[2,2], b: f32[2,2], c: f32[3])").is_err());
        let empty = run1(
            "y = MatMul(a: f32[2,0], b: f32[0,1])\nreturn y",
            &[t(&[2, 0], &[]), t(&[0, 1], &[])],
        );
        assert_eq!(empty.expect("runs"), t(&[2, 1], &[0.0, 0.0]));
    }
}
