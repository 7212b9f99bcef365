//! Sums of products, written with one letter per axis.
//!
//! ```text
//! y = Einsum(a: f32[B,M,K], b: f32[B,K,N]) {equation="bmk,bkn->bmn"}      y: f32[B,M,N]
//! ```
//!
//! Operands are contracted from left to right, each step as a stack of matrix products; an axis
//! that nothing else names is summed before.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Number, Tensor, shape};

use super::binary::is_plain;
use super::matmul::multiply;
use super::real::{Ticks, match_wide, narrow, widen};
use crate::eval::tensor;
use crate::infer::broadcast_dim;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid};

/// A sum of products of any number of tensors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Einsum {
    /// The letters of each operand's axes and of the result's, as ONNX writes them.
    pub equation: String,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "Einsum",
    since: 12,
    build: |b| {
        let equation: String = b.require("equation")?;
        Equation::parse(&equation)?;
        Ok(Einsum { equation }.into())
    },
}];

/// The letters of an operand's axes, with `REST` where the ellipsis is.
type Term = Vec<usize>;

/// The ellipsis. The axes it stands for are `REST + 1` for the last, `REST + 2` before it, ...
const REST: usize = 256;

/// An equation, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Equation {
    operands: Vec<Term>,
    result: Term,
}

impl Equation {
    fn parse(text: &str) -> Result<Self> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let operands = left.split(',').map(term).collect::<Result<Vec<_>>>()?;
        let result = match right {
            Some(right) => term(right)?,
            None => implied(&operands),
        };
        for (i, label) in result.iter().enumerate() {
            if *label != REST && !operands.iter().any(|o| o.contains(label)) {
                invalid!("no operand of `{text}` names the axis `{}`", letter(*label));
            }
            if result[..i].contains(label) {
                invalid!("the result of `{text}` names the axis `{}` twice", letter(*label));
            }
        }
        Ok(Self { operands, result })
    }

    /// The labels of an operand's axes.
    fn labels(&self, i: usize, rank: usize) -> Result<Vec<usize>> {
        let term = &self.operands[i];
        let letters = term.iter().filter(|&&l| l != REST).count();
        match rank.checked_sub(letters) {
            Some(rest) if rest == 0 || letters < term.len() => Ok(expand(term, rest)),
            _ => invalid!("operand {i} has {rank} axes, the equation names {letters}"),
        }
    }

    fn check_count(&self, given: usize) -> Result<()> {
        match self.operands.len() {
            n if n == given => Ok(()),
            n => invalid!("the equation has {n} operands, {given} are given"),
        }
    }
}

fn letter(label: usize) -> char {
    u8::try_from(label).map_or('.', char::from)
}

fn term(text: &str) -> Result<Term> {
    let mut out = Vec::new();
    let mut left = text;
    while let Some(c) = left.chars().next() {
        if let Some(behind) = left.strip_prefix("...") {
            if out.contains(&REST) {
                invalid!("`{text}` holds two ellipses");
            }
            out.push(REST);
            left = behind;
        } else if c.is_ascii_alphabetic() {
            out.push(c as usize);
            left = &left[1..];
        } else {
            invalid!("`{c}` in the equation is neither a letter nor part of `...`");
        }
    }
    Ok(out)
}

/// The result of an equation without `->`: the ellipsis, then what is named once.
fn implied(operands: &[Term]) -> Term {
    let mut counts = BTreeMap::new();
    operands.iter().flatten().for_each(|l| *counts.entry(*l).or_insert(0usize) += 1);
    let rest = counts.remove(&REST).map(|_| REST);
    rest.into_iter().chain(counts.into_iter().filter(|c| c.1 == 1).map(|c| c.0)).collect()
}

/// A term with labels in place of an ellipsis of `rest` axes.
fn expand(term: &Term, rest: usize) -> Vec<usize> {
    let one = |&label: &usize| match label {
        REST => (1..=rest).rev().map(|k| REST + k).collect(),
        letter => vec![letter],
    };
    term.iter().flat_map(one).collect()
}

/// A tensor whose axes have labels, each once.
struct Operand<T> {
    labels: Vec<usize>,
    shape: Vec<usize>,
    data: Vec<T>,
}

impl<T: Number> Operand<T> {
    /// The elements with the axes in the order of `labels`, all of which the operand has.
    fn arranged(&self, cx: &Context, labels: &[usize]) -> Result<Self> {
        let own = shape::strides(&self.shape);
        let place = |l: &usize| self.labels.iter().position(|o| o == l);
        let axes: Vec<usize> = labels.iter().filter_map(place).collect();
        let out: Vec<usize> = axes.iter().map(|&a| self.shape[a]).collect();
        let strides: Vec<usize> = axes.iter().map(|&a| own[a]).collect();
        cx.numel(T::DTYPE, &out)?;
        let data = shape::offsets(&out, &strides).map(|i| self.data[i]).collect();
        Ok(Self { labels: labels.to_vec(), shape: out, data })
    }

    /// The product of the lengths of some axes.
    fn size(&self, labels: &[usize]) -> usize {
        let axes = self.labels.iter().zip(&self.shape);
        axes.filter(|(l, _)| labels.contains(l)).fold(1, |p, (_, &n)| p.saturating_mul(n))
    }
}

/// What all operands together say of the lengths, and who names which label.
struct Plan<'a> {
    cx: &'a Context,
    terms: Vec<Vec<usize>>,
    /// The terms without axes of length 1 that another operand makes longer.
    names: Vec<Vec<usize>>,
    result: Vec<usize>,
    sizes: BTreeMap<usize, usize>,
}

impl<'a> Plan<'a> {
    fn new(cx: &'a Context, equation: &Equation, inputs: &[&Tensor]) -> Result<Self> {
        equation.check_count(inputs.len())?;
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        let mut terms = Vec::new();
        for (i, x) in inputs.iter().enumerate() {
            let labels = equation.labels(i, x.rank())?;
            for (&label, &n) in labels.iter().zip(x.shape()) {
                let size = sizes.entry(label).or_insert(n);
                match (*size, n) {
                    (a, b) if a == b => {}
                    (1, n) => *size = n,
                    (_, 1) => {}
                    (a, b) => invalid!("axis `{}` is {a} and {b} long", letter(label)),
                }
            }
            terms.push(labels);
        }
        let rest = sizes.keys().filter(|&&l| l > REST).count();
        let long = |(l, n): (&usize, &usize)| (*n != 1 || sizes[l] == 1).then_some(*l);
        let long =
            |(t, x): (&Vec<usize>, &&Tensor)| t.iter().zip(x.shape()).filter_map(long).collect();
        let names = terms.iter().zip(inputs).map(long).collect();
        Ok(Self { cx, terms, names, result: expand(&equation.result, rest), sizes })
    }

    /// Whether the result or an operand from `next` on names the label.
    fn is_wanted(&self, label: usize, next: usize) -> bool {
        self.result.contains(&label) || self.names[next..].iter().any(|t| t.contains(&label))
    }

    /// Operand `i` with its diagonals taken, its repeated axes of length 1 left out, and what
    /// only it names summed.
    fn operand<T: Number>(&self, i: usize, shape: &[usize], x: &[T]) -> Result<Operand<T>> {
        let mut axes: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for ((&label, &n), stride) in self.terms[i].iter().zip(shape).zip(shape::strides(shape)) {
            let axis = axes.entry(label).or_insert((n, 0));
            if axis.0 != n {
                invalid!("axis `{}` of operand {i} is {} and {n} long", letter(label), axis.0);
            }
            axis.1 += stride;
        }
        axes.retain(|label, (n, _)| *n != 1 || self.sizes[label] == 1);
        let elsewhere = |label: usize| {
            self.is_wanted(label, i + 1) || self.names[..i].iter().any(|t| t.contains(&label))
        };
        let (kept, summed): (Vec<_>, Vec<_>) = axes.into_iter().partition(|a| elsewhere(a.0));
        let lengths = |a: &[(usize, (usize, usize))]| a.iter().map(|a| a.1.0).collect::<Vec<_>>();
        let steps = |a: &[(usize, (usize, usize))]| a.iter().map(|a| a.1.1).collect::<Vec<_>>();
        let kept_shape = lengths(&kept);
        let mut data = self.cx.zeros::<T>(&kept_shape)?;
        let mut ticks = Ticks::new(self.cx);
        let places = shape::offsets(&kept_shape, &steps(&kept));
        let (inner, inner_steps) = (lengths(&summed), steps(&summed));
        let each = shape::numel(&inner).unwrap_or(usize::MAX);
        for (y, at) in data.iter_mut().zip(places) {
            for k in shape::offsets(&inner, &inner_steps) {
                *y = y.plus(x[at + k]);
            }
            ticks.add(each)?;
        }
        Ok(Operand { labels: kept.iter().map(|a| a.0).collect(), shape: kept_shape, data })
    }

    /// The product of two operands, summed over what is not wanted from operand `next` on.
    fn contract<T: Number>(
        &self,
        a: &Operand<T>,
        b: &Operand<T>,
        next: usize,
    ) -> Result<Operand<T>> {
        let (shared, rows): (Vec<usize>, Vec<usize>) =
            a.labels.iter().partition(|l| b.labels.contains(l));
        let (stack, inner): (Vec<usize>, Vec<usize>) =
            shared.iter().partition(|&&l| self.is_wanted(l, next));
        let columns: Vec<usize> =
            b.labels.iter().copied().filter(|l| !a.labels.contains(l)).collect();
        let (m, k, n) = (a.size(&rows), a.size(&inner), b.size(&columns));
        let a = a.arranged(self.cx, &[&stack[..], &rows, &inner].concat())?;
        let b = b.arranged(self.cx, &[&stack[..], &inner, &columns].concat())?;
        let labels = [&stack[..], &rows, &columns].concat();
        let split = stack.len() + inner.len();
        let shape = [&a.shape[..stack.len() + rows.len()], &b.shape[split..]].concat();
        let mut data = self.cx.zeros::<T>(&shape)?;
        if !data.is_empty() && k > 0 {
            let mut ticks = Ticks::new(self.cx);
            let operands = a.data.chunks_exact(m * k).zip(b.data.chunks_exact(k * n));
            for ((a, b), c) in operands.zip(data.chunks_exact_mut(m * n)) {
                multiply(&mut ticks, [m, k, n], a, b, c)?;
            }
        }
        Ok(Operand { labels, shape, data })
    }

    fn run<T: Number>(&self, inputs: &[&Tensor]) -> Result<Operand<T>> {
        let one = |i: usize| self.operand(i, inputs[i].shape(), &widen::<T>(inputs[i])?);
        let mut sum = one(0)?;
        for i in 1..inputs.len() {
            sum = self.contract(&sum, &one(i)?, i + 1)?;
        }
        sum.arranged(self.cx, &self.result)
    }
}

/// The length of each label as far as it is known, and how many axes the ellipsis stands for;
/// `None` where an operand with an ellipsis has an unknown rank.
fn known(cx: &mut Infer<'_>, equation: &Equation) -> Result<(BTreeMap<usize, Dim>, Option<usize>)> {
    let mut sizes: BTreeMap<usize, Dim> = BTreeMap::new();
    let mut rest = Some(0);
    for i in 0..equation.operands.len() {
        let Some(x) = cx.shape(i)? else {
            rest = rest.filter(|_| !equation.operands[i].contains(&REST));
            continue;
        };
        for (label, d) in equation.labels(i, x.len())?.into_iter().zip(x) {
            let size = match sizes.remove(&label) {
                Some(size) => broadcast_dim(size, d.clone())?,
                None => d.clone(),
            };
            sizes.insert(label, size);
        }
        let axes = sizes.keys().filter(|&&l| l > REST).count();
        rest = rest.map(|r: usize| r.max(axes));
    }
    Ok((sizes, rest))
}

impl Operator for Einsum {
    fn name(&self) -> &str {
        "Einsum"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default().with("equation", self.equation.clone())
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_plain)?;
        let dtype = cx.same_dtype(0..cx.len())?;
        let equation = Equation::parse(&self.equation)?;
        equation.check_count(cx.len())?;
        let (sizes, rest) = known(cx, &equation)?;
        let rest = if equation.result.contains(&REST) { rest } else { Some(0) };
        let shape = rest.map(|rest| {
            let labels = expand(&equation.result, rest);
            labels.iter().map(|l| sizes.get(l).cloned().unwrap_or_else(|| cx.fresh())).collect()
        });
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let inputs = (0..inputs.len()).map(|i| tensor(inputs, i)).collect::<Result<Vec<_>>>()?;
        let plan = Plan::new(cx, &Equation::parse(&self.equation)?, &inputs)?;
        let dtype: DType = inputs[0].dtype();
        let y: Tensor = match_wide!(dtype, T => {
            let y = plan.run::<T>(&inputs)?;
            narrow(dtype, &y.shape, y.data)?
        }, else invalid!("Einsum takes no {dtype}"));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn of(equation: &str, inputs: &[Tensor]) -> Result<Tensor> {
        let one = |(i, t): (usize, &Tensor)| {
            let dims: Vec<String> = t.shape().iter().map(usize::to_string).collect();
            format!("x{i}: {}[{}]", t.dtype(), dims.join(","))
        };
        let args: Vec<String> = inputs.iter().enumerate().map(one).collect();
        let args = args.join(", ");
        run1(&format!("y = Einsum({args}) {{equation=\"{equation}\"}}\nreturn y"), inputs)
    }

    /// 0, 1, 2, ...
    fn t(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>();
        Tensor::from_vec(shape, (0..n as i64).collect()).expect("lengths agree")
    }

    #[test]
    fn one_operand() {
        for (equation, shape, result, want) in [
            ("ij->ji", vec![2, 3], vec![3, 2], vec![0i64, 3, 1, 4, 2, 5]),
            ("ba", vec![2, 3], vec![3, 2], vec![0, 3, 1, 4, 2, 5]),
            ("ij->i", vec![2, 3], vec![2], vec![3, 12]),
            ("ij->", vec![2, 3], vec![], vec![15]),
            (" i i -> i ", vec![3, 3], vec![3], vec![0, 4, 8]),
            ("ii", vec![3, 3], vec![], vec![12]),
            ("...ii->...i", vec![2, 2, 2], vec![2, 2], vec![0, 3, 4, 7]),
            ("i...->...", vec![2, 3], vec![3], vec![3, 5, 7]),
            ("a...->a", vec![2, 3], vec![2], vec![3, 12]),
            ("iJ", vec![1, 2], vec![2, 1], vec![0, 1]),
            ("", vec![], vec![], vec![0]),
        ] {
            let want = Tensor::from_vec(&result, want).expect("lengths agree");
            assert_eq!(of(equation, &[t(&shape)]).expect(equation), want, "{equation}");
        }
    }

    #[test]
    fn two_and_three_operands() {
        let (a, b) = (t(&[2, 2]), t(&[2, 2]));
        for (equation, result, want) in [
            ("ij,jk->ik", vec![2, 2], vec![2i64, 3, 6, 11]),
            ("ij,jk", vec![2, 2], vec![2, 3, 6, 11]),
            ("ij,ij->", vec![], vec![14]),
            ("ij,ij->ij", vec![2, 2], vec![0, 1, 4, 9]),
            ("ij,ik->ijk", vec![2, 2, 2], vec![0, 0, 0, 1, 4, 6, 6, 9]),
            ("ij,kl->lk", vec![2, 2], vec![0, 12, 6, 18]),
            ("ij,kk->ji", vec![2, 2], vec![0, 6, 3, 9]),
            ("...j,j...->...", vec![2], vec![2, 11]),
        ] {
            let want = Tensor::from_vec(&result, want).expect("lengths agree");
            assert_eq!(of(equation, &[a.clone(), b.clone()]).expect(equation), want, "{equation}");
        }
        let v = Tensor::vector(vec![1i64, 10]);
        let y = of("i,ij,j", &[v.clone(), a, v]).expect("runs");
        assert_eq!(y, Tensor::scalar(10 + 20 + 300i64));
    }

    #[test]
    fn broadcasting() {
        let y = of("...i,...i->...i", &[t(&[2, 2]), t(&[2])]).expect("runs");
        assert_eq!(y, Tensor::from_vec(&[2, 2], vec![0i64, 1, 0, 3]).expect("2x2"));
        let y = of("ij,ij->i", &[t(&[2, 2]), Tensor::from_vec(&[1, 1], vec![2i64]).expect("1")]);
        assert_eq!(y.expect("runs"), Tensor::vector(vec![2i64, 10]));
        let y = of("i,i->", &[t(&[3]), Tensor::vector(vec![5i64])]).expect("runs");
        assert_eq!(y, Tensor::scalar(15i64));
        assert_eq!(of("ij,jk->ik", &[t(&[2, 0]), t(&[0, 1])]).expect("runs"), {
            Tensor::from_vec(&[2, 1], vec![0i64; 2]).expect("2x1")
        });
    }

    #[test]
    fn wrong_equations() {
        let m = t(&[2, 2]);
        for equation in ["ij->k", "ij->ii", "i1", "......", "ij->j->i", "i.j", "ijk", "i", "ij,ij"]
        {
            assert!(of(equation, std::slice::from_ref(&m)).is_err(), "{equation}");
        }
        assert!(of("ii", &[t(&[2, 3])]).is_err());
        assert!(of("ij,jk", &[t(&[2, 3]), t(&[2, 2])]).is_err());
    }

    #[test]
    fn shapes_with_symbols() {
        let ty = |args: &str, equation: &str| {
            types(&format!("y = Einsum({args}) {{equation=\"{equation}\"}}\nreturn y"))
        };
        let two = "a: f16[B,H,Q,D], b: f16[B,H,K,D]";
        assert_eq!(ty(two, "bhqd,bhkd->bhqk").expect("types"), ["f16[B,H,Q,K]"]);
        assert_eq!(ty("a: f32[..], b: f32[N]", "ij,j->ij").expect("types"), ["f32[?1,N]"]);
        assert_eq!(ty("a: f32[..], b: f32[N]", "...j,j->...").expect("types"), ["f32[..]"]);
        assert!(ty("a: f32[2], b: f64[2]", "i,i").is_err());
    }
}
