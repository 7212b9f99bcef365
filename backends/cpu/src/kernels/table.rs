//! Small steps between tables of other types: numbers as `f32`, and labels that are compared.

use kiln_ir::ops::cast::Cast;
use kiln_ir::ops::compare::Compare;
use kiln_ir::{Error, Graph, NodeId, Op, Result, Type, Value};
use kiln_tensor::{DType, Element, Tensor};

use crate::kernel::{Args, FLOATS, Integers, Kernel, Row, TRUTHS};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "cast_to_f32",
        what: "Cast of truth values, integers and f64 to f32",
        graphs: &[
            "y = Cast(x: bool[5,7]) {to=1}\nreturn y",
            "y = Cast(x: i64[40000]) {to=1}\nz = Neg(y)\nw = Cast(v: i32[3]) {to=1}\nreturn z, w",
            "y = Cast(x: f64[9]) {to=1}\nz = Cast(v: f64[0]) {to=1}\nreturn y, z",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_cast,
    },
    Row {
        name: "equal_i64",
        what: "Equal of 64-bit integers and a constant",
        graphs: &[
            "c = i64[1]{2}\ny = Equal(x: i64[300,2], c)\nreturn y",
            "c = i64[1,1]{0}\ny = Equal(c, x: i64[7])\nreturn y",
        ],
        in_place: false,
        firsts: TRUTHS,
        prepare: prepare_equal,
    },
];

/// Elements that one thread takes at a time.
const JOB: usize = 1 << 14;

/// A conversion to `f32`.
struct ToF32;

fn dtype(g: &Graph, v: Value) -> Option<DType> {
    match g.ty(v) {
        Type::Tensor(t) if t.shape.is_some() => Some(t.dtype),
        _ => None,
    }
}

fn prepare_cast(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Cast(cast) = g.op(id) else { return None };
    let from = [DType::Bool, DType::I64, DType::I32, DType::F64];
    let takes = *cast == Cast::to(DType::F32) && from.contains(&dtype(g, g.input_of(id, 0)?)?);
    takes.then(|| Box::new(ToF32) as Box<dyn Kernel>)
}

/// The elements of operand `i`, which are no `f32`.
fn other<'a>(args: &Args<'a>, i: usize) -> Result<&'a Tensor> {
    let missing = || Error::bug(format!("operand {i} of a kernel is no table of its type"));
    args.optional(i).and_then(|o| o.other).ok_or_else(missing)
}

impl Kernel for ToF32 {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let x = other(&args, 0)?;
        match x.dtype() {
            DType::Bool => convert(x, args.out, |x: bool| f32::from(u8::from(x))),
            DType::I64 => convert(x, args.out, |x: i64| x as f32),
            DType::I32 => convert(x, args.out, |x: i32| x as f32),
            _ => convert(x, args.out, |x: f64| x as f32),
        }
    }
}

/// Every element by a function.
fn convert<T: Element + Sync, U: Send>(
    x: &Tensor,
    y: &mut [U],
    f: impl Fn(T) -> U + Send + Sync,
) -> Result<()> {
    let x = x.as_slice::<T>()?;
    team::each(y.chunks_mut(JOB).zip(x.chunks(JOB)), |(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*x));
    });
    Ok(())
}

/// A comparison of operand `side` with a number.
struct EqualTo {
    side: usize,
    number: i64,
}

fn prepare_equal(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Compare(Compare::Equal) = g.op(id) else { return None };
    let one = |i: usize| {
        let t = g.constant_of(g.input_of(id, i)?)?;
        (t.dtype() == DType::I64 && t.len() == 1).then(|| t.to_scalar().ok())?
    };
    let (side, number) = match (one(0), one(1)) {
        (_, Some(number)) => (0, number),
        (Some(number), None) => (1, number),
        _ => return None,
    };
    dtype(g, g.input_of(id, side)?)?;
    Some(Box::new(EqualTo { side, number }))
}

impl Kernel for EqualTo {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let x = other(&args, self.side)?;
        let Some(Integers::Bool(y)) = args.integers else {
            return Err(Error::bug("a comparison gives truth values"));
        };
        convert(x, y, |x: i64| x == self.number)
    }
}
