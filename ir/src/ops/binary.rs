//! Elementwise functions of two broadcast tensors: `y[i] = f(a[i], b[i])`.

use std::ops::RangeInclusive;

use kiln_tensor::{
<<<<<<< HEAD
    DType, Datum, Element, Number, Scalar, Tensor, match_float, match_integer, match_number, shape,
=======
    DType, Datum, Element, Float, Number, Scalar, Tensor, match_float, match_integer, match_number,
    shape,
>>>>>>> ops-base
};

use super::layout::{Layout, known_dims};
use crate::eval::tensor;
use crate::{
    Attrs, Build, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, Traits, attr_enum,
    invalid, unsupported,
};

/// A function of two elements, mostly of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`; integers wrap.
    Add,
    /// `a - b`; integers wrap.
    Sub,
    /// `a * b`; integers wrap.
    Mul,
    /// `a / b`; integers towards zero, by 0 an error.
    Div,
    /// `a` to the power of `b`, in the type of `a`; `b` may have another.
    Pow,
    /// The remainder of `a / b`; integers by 0 are an error.
    Mod {
        /// Whether its sign is that of `a`, not of `b`.
        fmod: bool,
    },
    /// `a` where it is not negative, else `a * b`; has the shape of `a`.
    PRelu,
    /// `a` shifted by `b` bits; shifts beyond the width leave only copies of the sign.
    BitShift(Direction),
    /// The bits set in both.
    BitwiseAnd,
    /// The bits set in either.
    BitwiseOr,
    /// The bits set in one of the two.
    BitwiseXor,
}

attr_enum! {
    /// Where a shift moves the bits.
    pub enum Direction {
        /// Towards the high bits.
        Left = "LEFT",
        /// Towards the low bits, with copies of the sign behind them.
        Right = "RIGHT",
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Add", since: 1, build: |b| legacy(b, Binary::Add) },
    Schema { name: "Sub", since: 1, build: |b| legacy(b, Binary::Sub) },
    Schema { name: "Mul", since: 1, build: |b| legacy(b, Binary::Mul) },
    Schema { name: "Div", since: 1, build: |b| legacy(b, Binary::Div) },
    Schema { name: "Pow", since: 1, build: |b| legacy(b, Binary::Pow) },
    Schema { name: "Add", since: 7, build: |_| Ok(Binary::Add.into()) },
    Schema { name: "Sub", since: 7, build: |_| Ok(Binary::Sub.into()) },
    Schema { name: "Mul", since: 7, build: |_| Ok(Binary::Mul.into()) },
    Schema { name: "Div", since: 7, build: |_| Ok(Binary::Div.into()) },
    Schema { name: "Pow", since: 7, build: |_| Ok(Binary::Pow.into()) },
    Schema {
        name: "Mod",
        since: 10,
        build: |b| Ok(Binary::Mod { fmod: b.take("fmod")?.unwrap_or(false) }.into()),
    },
    Schema { name: "PRelu", since: 1, build: channel_slope },
    Schema { name: "PRelu", since: 7, build: |_| Ok(Binary::PRelu.into()) },
    Schema {
        name: "BitShift",
        since: 11,
        build: |b| Ok(Binary::BitShift(b.require("direction")?).into()),
    },
    Schema { name: "BitwiseAnd", since: 18, build: |_| Ok(Binary::BitwiseAnd.into()) },
    Schema { name: "BitwiseOr", since: 18, build: |_| Ok(Binary::BitwiseOr.into()) },
    Schema { name: "BitwiseXor", since: 18, build: |_| Ok(Binary::BitwiseXor.into()) },
];

/// Before opset 7, `axis` says at which axis of input 0 the shape of input 1 begins.
pub(crate) fn legacy(b: &mut Build<'_>, op: impl Into<crate::Op>) -> Result<crate::Built> {
    b.take::<Vec<i64>>("consumed_inputs")?;
    let broadcast = b.take::<bool>("broadcast")?.unwrap_or(false);
    let axis = b.take::<i64>("axis")?.filter(|&a| broadcast && a >= 0);
    if let Some(axis) = axis {
        let (Some(x), Some(y)) = (b.rank(0)?, b.rank(1)?) else {
            unsupported!("`axis` needs inputs of known rank; use opset 7 or later");
        };
        let behind = (x as i64).checked_sub(axis).and_then(|n| n.checked_sub(y as i64));
        match behind {
            Some(n) if n < 0 => invalid!("axis {axis} leaves no room for {y} axes of {x}"),
            None => invalid!("axis {axis} is out of range for rank {x}"),
            Some(n) => append_axes(b, y, n as usize)?,
        }
    }
    Ok(crate::Built::Op(op.into()))
}

/// Gives input 1, of rank `rank`, `n` more axes of length 1 behind its own.
fn append_axes(b: &mut Build<'_>, rank: usize, n: usize) -> Result<()> {
    if n > 0 {
        let axes = b.constant(Tensor::vector((rank..rank + n).map(|a| a as i64).collect()));
        let y = b.node(Layout::Unsqueeze, &[b.input(1)?, axes])?;
        b.set_input(1, Some(y));
    }
    Ok(())
}

/// Before opset 7, the slopes of a PRelu are those of the channels.
fn channel_slope(b: &mut Build<'_>) -> Result<crate::Built> {
    b.take::<Vec<i64>>("consumed_inputs")?;
    if let (Some(rank), Some(1)) = (b.rank(0)?, b.rank(1)?) {
        append_axes(b, 1, rank.saturating_sub(2))?;
    }
    Ok(Binary::PRelu.into())
}

impl Binary {
    /// The value at `a` and `b`; `None` for an integer by 0, and for the functions of bits.
    pub fn apply<T: Number>(self, a: T, b: T) -> Option<T> {
        match self {
            Binary::Add => Some(a.plus(b)),
            Binary::Sub => Some(a.minus(b)),
            Binary::Mul => Some(a.times(b)),
            Binary::Div => a.over(b),
            Binary::Mod { fmod: true } => a.rem(b),
            Binary::Mod { fmod: false } => floor_mod(a, b),
            Binary::PRelu => Some(if a < T::ZERO { a.times(b) } else { a }),
            _ => None,
        }
    }

    /// Whether it works on the bits of integers.
    fn is_bits(self) -> bool {
        use Binary::{BitShift, BitwiseAnd, BitwiseOr, BitwiseXor};
        matches!(self, BitShift(_) | BitwiseAnd | BitwiseOr | BitwiseXor)
    }

    fn takes(self, d: DType) -> bool {
        if self.is_bits() { d.is_integer() && d.bits() >= 8 } else { is_plain(d) }
    }
}

/// Whether it is a number that calculates: no float or integer below 8 bits, no 8-bit float.
pub(crate) fn is_plain(d: DType) -> bool {
    match_number!(d, T => true, else false)
}

/// The remainder with the sign of `b`, zeros too.
fn floor_mod<T: Number>(a: T, b: T) -> Option<T> {
    let r = a.rem(b)?;
    let negative = b < T::ZERO;
    Some(match r {
        r if r == T::ZERO && negative => T::ZERO.minus(T::ONE).times(T::ZERO),
        r if r == T::ZERO => T::ZERO,
        r if (r < T::ZERO) != negative => r.plus(b),
        r => r,
    })
}

impl Operator for Binary {
    fn name(&self) -> &str {
        match self {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
            Binary::Pow => "Pow",
            Binary::Mod { .. } => "Mod",
            Binary::PRelu => "PRelu",
            Binary::BitShift(_) => "BitShift",
            Binary::BitwiseAnd => "BitwiseAnd",
            Binary::BitwiseOr => "BitwiseOr",
            Binary::BitwiseXor => "BitwiseXor",
        }
    }

    fn attrs(&self) -> Attrs {
        match self {
            Binary::Mod { fmod: true } => Attrs::default().with("fmod", true),
            Binary::BitShift(d) => Attrs::default().with("direction", *d),
            _ => Attrs::default(),
        }
    }

    fn traits(&self) -> Traits {
        use Binary::{Add, BitwiseAnd, BitwiseOr, BitwiseXor, Mul};
        let commutative = matches!(self, Add | Mul | BitwiseAnd | BitwiseOr | BitwiseXor);
        Traits { commutative, ..Traits::ELEMENTWISE }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, |d| self.takes(d))?;
        match self {
            Binary::Pow => drop(cx.dtype_in(1, is_plain)?),
            _ => drop(cx.same_dtype(0..2)?),
        }
        let both = cx.broadcast(0..2)?;
        let shape = match (self, cx.shape(0)?, both) {
            (Binary::PRelu, Some(x), Some(both)) if !same_rank_or_unknown(x, &both) => {
                invalid!("the slope has more axes than the input")
            }
            (Binary::PRelu, x, _) => x.map(<[_]>::to_vec),
            (_, _, both) => both,
        };
        let dims = match (known_dims(cx, 0), known_dims(cx, 1)) {
            (Some(a), Some(b)) => dims(*self, &a, &b),
            _ => None,
        };
        Ok(vec![Fact::tensor(dtype, shape).with_dims(dims)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (a, b) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let y = match self {
            Binary::Pow => pow(cx, a, b)?,
            _ if self.is_bits() => match_integer!(a.dtype(), T => zip(cx, a, b, |x: T, y: T| {
                Ok(match self {
                    Binary::BitwiseAnd => x & y,
                    Binary::BitwiseOr => x | y,
                    Binary::BitwiseXor => x ^ y,
                    Binary::BitShift(d) => shift(*d, x, y),
                    _ => return Err(Error::bug("no function of bits")),
                })
            })?, else invalid!("{} takes no {}", self.name(), a.dtype())),
            _ => match_number!(a.dtype(), T => zip(cx, a, b, |x: T, y: T| {
                self.apply(x, y).ok_or_else(|| Error::invalid("division of an integer by zero"))
            })?, else invalid!("{} takes no {}", self.name(), a.dtype())),
        };
        if *self == Binary::PRelu && y.shape() != a.shape() {
            invalid!("a slope of shape {:?} does not fit {:?}", b.shape(), a.shape());
        }
        Ok(vec![y.into()])
    }
}

/// Whether broadcasting with a second shape kept the rank of `x` and its known lengths.
fn same_rank_or_unknown(x: &[Dim], both: &[Dim]) -> bool {
    let same = |(a, b): (&Dim, &Dim)| match (a.as_const(), b.as_const()) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    x.len() == both.len() && x.iter().zip(both).all(same)
}

fn shift<T: Number>(direction: Direction, x: T, by: T) -> T {
    let bits = T::DTYPE.bits() as i128;
    // Beyond the width only copies of the sign are left.
    let by = Some(by.to_i128()).filter(|by| (0..bits).contains(by));
    match (direction, by) {
        (Direction::Left, Some(by)) => T::from_i128(x.to_i128() << by),
        (Direction::Left, None) => T::ZERO,
        (Direction::Right, by) => T::from_i128(x.to_i128() >> by.unwrap_or(127)),
    }
}

fn pow(cx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (x, y) = (a.dtype(), b.dtype());
    if !is_plain(x) || !is_plain(y) {
        invalid!("Pow takes no {x} to the power of {y}");
    }
    if x == y && x.is_float() {
        return match_float!(x, T => zip(cx, a, b, |x: T, y: T| {
            Ok(x.map(|v| v.powf(y.to_f64()), |v| v.powf(y.to_f64() as f32)))
        }), else Err(Error::bug("no float")));
    }
    match_number!(x, T => {
        if y.is_float() || x.is_float() {
            let wide = |t: &Tensor| Tensor::from_vec(t.shape(), t.to_vec::<f64>()?);
            return zip(cx, &wide(a)?, &wide(b)?, |x: f64, y: f64| Ok(T::from_f64(x.powf(y))));
        }
        let base = Tensor::from_vec(a.shape(), a.to_vec::<T>()?)?;
        match_number!(y, U => zip_two(cx, &base, b, |x: T, y: U| integer_power(x, y.to_i128())),
            else Err(Error::bug("no number")))
    }, else Err(Error::bug("no number")))
}

/// `x` multiplied `n` times, wrapping; its rounded inverse for a negative `n`.
fn integer_power<T: Number>(x: T, n: i128) -> Result<T> {
    if n < 0 && x == T::ZERO {
        invalid!("0 to a negative power");
    }
    let minus_one = T::ZERO.minus(T::ONE);
    if n < 0 && x != T::ONE && (x != minus_one || !T::DTYPE.is_signed()) {
        return Ok(T::ZERO);
    }
    let (mut base, mut left, mut y) = (x, n.unsigned_abs(), T::ONE);
    while left > 0 {
        if left & 1 == 1 {
            y = y.times(base);
        }
        base = base.times(base);
        left >>= 1;
    }
    Ok(y)
}

/// The function on lengths, elementwise; `None` where it is no polynomial.
fn dims(op: Binary, a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let n = if a.len() == 1 { b.len() } else { a.len() };
    if b.len() != n && b.len() != 1 {
        return None;
    }
    (0..n)
        .map(|i| {
            let (x, y) = (a[i.min(a.len() - 1)].clone(), b[i.min(b.len() - 1)].clone());
            match op {
                Binary::Add => Some(x + y),
                Binary::Sub => Some(x - y),
                Binary::Mul => Some(x * y),
                Binary::Div => quotient(&x, &y),
                Binary::Mod { .. } if positive(&x) && positive(&y) => {
                    Some(x.clone() - x.floor_div(&y) * y)
                }
                _ => None,
            }
        })
        .collect()
}

/// Whether it is no negative number; lengths are none.
fn positive(d: &Dim) -> bool {
    d.as_const().is_none_or(|n| n > 0)
}

fn quotient(x: &Dim, y: &Dim) -> Option<Dim> {
    match (x.as_const(), y.as_const()) {
        (Some(a), Some(b)) => a.checked_div(b).map(Dim::from),
        (_, Some(0)) => None,
        // Lengths are not negative, so towards zero is down.
        (_, Some(b)) if b > 0 => Some(x.floor_div(y)),
        (_, None) if positive(x) => Some(x.floor_div(y)),
        _ => None,
    }
}

/// Elements between two looks at the cancel token.
pub(crate) const POLL: usize = 1 << 20;

/// Applies `f` to every pair of elements of two broadcast tensors.
pub(crate) fn zip<T: Element, U: Element>(
    cx: &Context,
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(T, T) -> Result<U>,
) -> Result<Tensor> {
    zip_two(cx, a, b, f)
}

/// As [`zip`], for tensors of two types.
pub(crate) fn zip_two<S: Element, T: Element, U: Element>(
    cx: &Context,
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(S, T) -> Result<U>,
) -> Result<Tensor> {
    let out = shape::broadcast(a.shape(), b.shape())?;
    let mut data = Vec::with_capacity(cx.numel(U::DTYPE, &out)?);
    let (x, y) = (a.as_slice::<S>()?, b.as_slice::<T>()?);
    if a.shape() == b.shape() {
        for (x, y) in x.chunks(POLL).zip(y.chunks(POLL)) {
            cx.cancel.poll()?;
            for (&x, &y) in x.iter().zip(y) {
                data.push(f(x, y)?);
            }
        }
        return Ok(Tensor::from_vec(&out, data)?);
    }
    let at = |t: &Tensor| shape::offsets(&out, &shape::broadcast_strides(t.shape(), &out));
    for (n, (i, j)) in at(a).zip(at(b)).enumerate() {
        if n % POLL == 0 {
            cx.cancel.poll()?;
        }
        data.push(f(x[i], y[j])?);
    }
    Ok(Tensor::from_vec(&out, data)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::ops::testing::{run1, types};
    use crate::schema::{NodeSpec, add};

    /// `op` of two vectors.
    fn two(op: &str, attrs: &str, a: Tensor, b: Tensor) -> Result<Tensor> {
        let ty = |t: &Tensor| format!("{}[{}]", t.dtype(), t.len());
        run1(&format!("y = {op}(a: {}, b: {}) {{{attrs}}}\nreturn y", ty(&a), ty(&b)), &[a, b])
    }

    #[test]
    fn powers() {
        let y = two("Pow", "", Tensor::vector(vec![2i32, -3]), Tensor::vector(vec![10i64, 3]));
        assert_eq!(y.expect("integers"), Tensor::vector(vec![1024, -27]));
        let y = two("Pow", "", Tensor::vector(vec![9f32, 2.0]), Tensor::vector(vec![0.5f64, -1.0]));
        assert_eq!(y.expect("floats"), Tensor::vector(vec![3f32, 0.5]));
        let y = two("Pow", "", Tensor::vector(vec![9i64]), Tensor::vector(vec![0.5f32]));
        assert_eq!(y.expect("mixed"), Tensor::vector(vec![3i64]));
        let y = two("Pow", "", Tensor::vector(vec![-1i64, 2]), Tensor::vector(vec![-3i64, -1]));
        assert_eq!(y.expect("inverses"), Tensor::vector(vec![-1i64, 0]));
        assert!(two("Pow", "", Tensor::vector(vec![0i64]), Tensor::vector(vec![-1i64])).is_err());
    }

    #[test]
    fn remainders() {
        let (a, b) = (vec![-4i32, 7, 5, 4, -7, 8], vec![2i32, -3, 8, -2, 3, 5]);
        let run = |attrs: &str| {
            two("Mod", attrs, Tensor::vector(a.clone()), Tensor::vector(b.clone())).expect("runs")
        };
        assert_eq!(run(""), Tensor::vector(vec![0, -2, 5, 0, 2, 3]));
        assert_eq!(run("fmod=1"), Tensor::vector(vec![0, 1, 5, 0, -1, 3]));
        let inf = f32::INFINITY;
        let y = two(
            "Mod",
            "",
            Tensor::vector(vec![-1f32, 1.0, 0.0, -4.5]),
            Tensor::vector(vec![inf, inf, -2.0, 2.0]),
        );
        assert_eq!(y.expect("floats"), Tensor::vector(vec![inf, 1.0, -0.0, 1.5]));
        assert!(two("Mod", "", Tensor::scalar(1i8), Tensor::scalar(0i8)).is_err());
    }

    #[test]
    fn bits() {
        let (a, b) = (Tensor::vector(vec![12u8, 255]), Tensor::vector(vec![10u8, 15]));
        for (op, want) in [
            ("BitwiseAnd", vec![8u8, 15]),
            ("BitwiseOr", vec![14, 255]),
            ("BitwiseXor", vec![6, 240]),
        ] {
            assert_eq!(two(op, "", a.clone(), b.clone()).expect(op), Tensor::vector(want), "{op}");
        }
        let shift = |d: &str, x: Vec<i8>, by: Vec<i8>| {
            let attrs = format!("direction=\"{d}\"");
            two("BitShift", &attrs, Tensor::vector(x), Tensor::vector(by)).expect("runs")
        };
        let y = shift("RIGHT", vec![-8, -8, 8, -1], vec![1, 100, -1, 7]);
        assert_eq!(y, Tensor::vector(vec![-4i8, -1, 0, -1]));
        let y = shift("LEFT", vec![3, 1, 1], vec![7, 8, -1]);
        assert_eq!(y, Tensor::vector(vec![-128i8, 0, 0]));
        assert!(two("BitwiseAnd", "", Tensor::scalar(1f32), Tensor::scalar(1f32)).is_err());
    }

    #[test]
    fn slopes() {
        let y = run1(
            "y = PRelu(x: f32[2,2], s: f32[2])\nreturn y",
            &[
                Tensor::from_vec(&[2, 2], vec![-1f32, -1.0, 2.0, -2.0]).expect("2x2"),
                Tensor::vector(vec![0.5f32, 2.0]),
            ],
        );
        let want = Tensor::from_vec(&[2, 2], vec![-0.5f32, -2.0, 2.0, -4.0]).expect("2x2");
        assert_eq!(y.expect("runs"), want);
        assert!(types("y = PRelu(x: f32[2], s: f32[2,2])\nreturn y").is_err());
        assert!(types("y = PRelu(x: f32[1], s: f32[2])\nreturn y").is_err());
    }

    /// The type of a node of an old opset on `f32` inputs of these shapes.
    fn old(op: &str, shapes: [&[i64]; 2], attrs: Attrs) -> Result<String> {
        let mut graph = Graph::new();
        let mut input = |dims: &[i64]| {
            let dims = dims.iter().map(|&d| d.into()).collect();
            Some(graph.input("x", crate::Type::tensor(DType::F32, Some(dims))))
        };
        let inputs = shapes.map(&mut input).to_vec();
        let spec = NodeSpec { op, opset: 6, name: "y", inputs, attrs, outputs: 1 };
        let y = add(&mut graph, spec)?;
        Ok(graph.ty(y[0]).to_string())
    }

    #[test]
    fn old_broadcasting_names_its_first_axis() {
        let axis = |a: i64| Attrs::default().with("broadcast", true).with("axis", a);
        let y = old("Mul", [&[2, 3, 4, 5], &[3, 4]], axis(1)).expect("builds");
        assert_eq!(y, "f32[2,3,4,5]");
        assert_eq!(old("Add", [&[2, 3], &[2]], axis(0)).expect("builds"), "f32[2,3]");
        assert_eq!(old("Add", [&[2, 3], &[3]], axis(-1)).expect("builds"), "f32[2,3]");
        assert!(old("Add", [&[2, 3], &[3]], axis(2)).is_err());
        let y = old("PRelu", [&[2, 3, 4, 5], &[3]], Attrs::default()).expect("builds");
        assert_eq!(y, "f32[2,3,4,5]");
    }

    #[test]
    fn lengths_are_calculated() {
        let text = "s = Shape(x: f32[N])\nk = i64[1]{2}\nd = Div(s, k)\nm = Mod(s, k)\n\
            a = Add(d, k)\ny = ConstantOfShape(a)\nz = ConstantOfShape(m)\nreturn y, z";
        let want = ["f32[floor(N,2)+2]", "f32[N-2*floor(N,2)]"];
        let got = types(text).expect("types");
        assert_eq!(got[0], want[0]);
        assert!(got[1].contains("floor(N,2)"), "{}", got[1]);
        let text = "a = i64[2]{-3,3}\nb = i64[1]{2}\nd = Div(a, b)\nc = i64[1]{3}\n\
            e = Add(d, c)\ny = ConstantOfShape(e)\nreturn y";
        assert_eq!(types(text).expect("types"), ["f32[2,4]"]);
    }

    #[test]
    fn broadcasts() {
        let y = run1(
            "y = Sub(a: f32[2,1], b: f32[2])\nreturn y",
            &[
                Tensor::from_vec(&[2, 1], vec![1f32, 2.0]).expect("2x1"),
                Tensor::vector(vec![10f32, 20.0]),
            ],
        );
        let want = Tensor::from_vec(&[2, 2], vec![-9f32, -19.0, -8.0, -18.0]).expect("2x2");
        assert_eq!(y.expect("runs"), want);
    }

    #[test]
    fn integers_wrap_and_refuse_zero() {
        let div = |a: i32, b: i32| {
            run1("y = Div(a: i32[], b: i32[])\nreturn y", &[Tensor::scalar(a), Tensor::scalar(b)])
        };
        assert_eq!(div(-7, 2).expect("runs"), Tensor::scalar(-3));
        assert_eq!(div(i32::MIN, -1).expect("runs"), Tensor::scalar(i32::MIN));
        assert_eq!(div(1, 0).expect_err("by zero").message(), "division of an integer by zero");
    }

    #[test]
    fn shapes_with_symbols() {
        let t = types("y = Add(a: f32[N,1], b: f32[M,1,4])\nreturn y").expect("types");
        assert_eq!(t, ["f32[M,N,4]"]);
    }
}
