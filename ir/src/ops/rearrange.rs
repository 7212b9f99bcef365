//! Fixed rearrangements: blocks and channels, reversed sequences, triangles.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor, shape};

use super::layout::transpose;
use super::pad::with_filler;
use crate::eval::{optional, tensor};
use crate::{
    Attrs, Build, Context, Dim, Fact, Infer, Operator, Result, Schema, attr_enum, invalid,
};

attr_enum! {
    /// In which order the channels hold block and depth.
    pub enum BlockMode {
        /// Block first: depth, column, row.
        Dcr = "DCR",
        /// Depth first: column, row, depth.
        Crd = "CRD",
    }
}

/// A rearrangement of the elements of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rearrange {
    /// Channels become blocks of `block x block` pixels.
    DepthToSpace {
        /// The length of a block.
        block: i64,
        /// The order of the channels.
        mode: BlockMode,
    },
    /// Blocks of `block x block` pixels become channels.
    SpaceToDepth {
        /// The length of a block.
        block: i64,
        /// The order of the channels.
        mode: BlockMode,
    },
    /// The first `lens[i]` steps of sequence `i` in reverse.
    ReverseSequence {
        /// The axis of the sequences, 0 or 1.
        batch: i64,
        /// The axis of the steps, the other one.
        time: i64,
    },
    /// The upper or lower triangle of matrices, zeros elsewhere.
    Trilu {
        /// Whether it is the upper one.
        upper: bool,
    },
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "DepthToSpace",
        since: 1,
        build: |b| {
            let (block, mode) = block(b)?;
            Ok(Rearrange::DepthToSpace { block, mode }.into())
        },
    },
    Schema {
        name: "SpaceToDepth",
        since: 1,
        build: |b| {
            let (block, mode) = block(b)?;
            Ok(Rearrange::SpaceToDepth { block, mode }.into())
        },
    },
    Schema {
        name: "ReverseSequence",
        since: 10,
        build: |b| {
            let batch = b.take("batch_axis")?.unwrap_or(1);
            let time = b.take("time_axis")?.unwrap_or(0);
            if !matches!((batch, time), (0, 1) | (1, 0)) {
                invalid!("batch_axis {batch} and time_axis {time} must be 0 and 1");
            }
            Ok(Rearrange::ReverseSequence { batch, time }.into())
        },
    },
    Schema { name: "Trilu", since: 14, build: trilu },
    Schema { name: "com.microsoft.Trilu", since: 1, build: trilu },
];

fn block(b: &mut Build<'_>) -> Result<(i64, BlockMode)> {
    let block = b.require("blocksize")?;
    if block < 1 {
        invalid!("a blocksize of {block}; it must be positive");
    }
    Ok((block, b.take("mode")?.unwrap_or(BlockMode::Dcr)))
}

fn trilu(b: &mut Build<'_>) -> Result<crate::Built> {
    Ok(Rearrange::Trilu { upper: b.take("upper")?.unwrap_or(true) }.into())
}

impl Operator for Rearrange {
    fn name(&self) -> &str {
        match self {
            Rearrange::DepthToSpace { .. } => "DepthToSpace",
            Rearrange::SpaceToDepth { .. } => "SpaceToDepth",
            Rearrange::ReverseSequence { .. } => "ReverseSequence",
            Rearrange::Trilu { .. } => "Trilu",
        }
    }

    fn attrs(&self) -> Attrs {
        let a = Attrs::default();
        match *self {
            Rearrange::DepthToSpace { block, mode } | Rearrange::SpaceToDepth { block, mode } => {
                a.with("blocksize", block).with("mode", Some(mode).filter(|m| *m != BlockMode::Dcr))
            }
            Rearrange::ReverseSequence { batch, time } => a
                .with("batch_axis", Some(batch).filter(|&x| x != 1))
                .with("time_axis", Some(time).filter(|&x| x != 0)),
            Rearrange::Trilu { upper } => a.with("upper", (!upper).then_some(false)),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Rearrange::ReverseSequence { .. } => 2..=2,
            Rearrange::Trilu { .. } => 1..=2,
            _ => 1..=1,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype(0)?;
        let int = |d| matches!(d, DType::I64 | DType::I32);
        if cx.has(1) {
            cx.dtype_in(1, int)?;
        }
        let x = cx.shape(0)?;
        let shape = match (*self, x) {
            (Rearrange::DepthToSpace { block, .. }, Some(x)) => Some(to_space(x, block)?),
            (Rearrange::SpaceToDepth { block, .. }, Some(x)) => Some(to_depth(x, block)?),
            (Rearrange::DepthToSpace { .. } | Rearrange::SpaceToDepth { .. }, None) => {
                Some(cx.fresh_shape(4))
            }
            (_, Some(x)) if x.len() < 2 => {
                invalid!("{} needs two axes, the input has {}", self.name(), x.len())
            }
            (_, x) => x.map(<[_]>::to_vec),
        };
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, _: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let y = match *self {
            Rearrange::DepthToSpace { block, mode } => {
                let out = known(to_space(&dims(x), block)?)?;
                let &[n, c, h, w] = x.shape() else { invalid!("an image has four axes") };
                let (b, depth) = (block as usize, out[1]);
                debug_assert_eq!(c, depth * b * b);
                let (split, perm) = match mode {
                    BlockMode::Dcr => ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2]),
                    BlockMode::Crd => ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]),
                };
                transpose(&x.reshape(&split)?, &perm)?.reshape(&out)?
            }
            Rearrange::SpaceToDepth { block, mode } => {
                let out = known(to_depth(&dims(x), block)?)?;
                let (b, s) = (block as usize, x.shape());
                let split = [s[0], s[1], out[2], b, out[3], b];
                let perm = match mode {
                    BlockMode::Dcr => [0, 3, 5, 1, 2, 4],
                    BlockMode::Crd => [0, 1, 3, 5, 2, 4],
                };
                transpose(&x.reshape(&split)?, &perm)?.reshape(&out)?
            }
            Rearrange::ReverseSequence { time, .. } => reverse(x, tensor(inputs, 1)?, time == 0)?,
            Rearrange::Trilu { upper } => {
                let k = optional(inputs, 1)?.map(Tensor::to_scalar::<i64>).transpose()?;
                triangle(x, k.unwrap_or(0), upper)?
            }
        };
        Ok(vec![y.into()])
    }
}

fn dims(x: &Tensor) -> Vec<Dim> {
    x.shape().iter().map(|&n| n.into()).collect()
}

fn known(dims: Vec<Dim>) -> Result<Vec<usize>> {
    let known = dims.iter().map(Dim::as_len).collect::<Option<Vec<_>>>();
    known.ok_or_else(|| crate::Error::bug("a length that is no number"))
}

/// `n / by`; an error where it leaves a remainder.
fn divided(n: &Dim, by: i64, what: &str) -> Result<Dim> {
    if n.as_const().is_some_and(|n| n % by != 0) {
        invalid!("the {what} {n} does not divide into blocks of {by}");
    }
    Ok(n.floor_div(&by.into()))
}

fn to_space(x: &[Dim], block: i64) -> Result<Vec<Dim>> {
    let [n, c, h, w] = x else { invalid!("an image has four axes, not {}", x.len()) };
    let Some(area) = block.checked_mul(block) else { invalid!("blocks of {block} are too large") };
    let side = Dim::from(block);
    Ok(vec![n.clone(), divided(c, area, "depth")?, h.clone() * side.clone(), w.clone() * side])
}

fn to_depth(x: &[Dim], block: i64) -> Result<Vec<Dim>> {
    let [n, c, h, w] = x else { invalid!("an image has four axes, not {}", x.len()) };
    let Some(area) = block.checked_mul(block) else { invalid!("blocks of {block} are too large") };
    Ok(vec![
        n.clone(),
        c.clone() * area.into(),
        divided(h, block, "height")?,
        divided(w, block, "width")?,
    ])
}

fn reverse(x: &Tensor, lens: &Tensor, time_first: bool) -> Result<Tensor> {
    let [d0, d1, behind @ ..] = x.shape() else { invalid!("sequences have two axes") };
    let (times, batches) = if time_first { (*d0, *d1) } else { (*d1, *d0) };
    let lens = lens.to_vec::<i64>()?;
    let fits = |&n: &i64| usize::try_from(n).is_ok_and(|n| n <= times);
    if lens.len() != batches || !lens.iter().all(fits) {
        invalid!("{batches} sequences of up to {times} steps cannot have lengths {lens:?}");
    }
    let inner = shape::numel(behind)?;
    let source = |i: usize, j: usize| {
        let (t, b) = if time_first { (i, j) } else { (j, i) };
        let len = lens[b] as usize;
        let t = if t < len { len - 1 - t } else { t };
        (if time_first { t * d1 + b } else { b * d1 + t }) * inner
    };
    let rows = if x.is_empty() { 0 } else { *d0 };
    let starts = (0..rows).flat_map(|i| (0..*d1).map(move |j| (i, j)));
    Ok(x.take(
        x.shape(),
        starts
            .flat_map(|(i, j)| (0..inner).map(move |k| (i, j, k)))
            .map(|(i, j, k)| source(i, j) + k),
    )?)
}

fn triangle(x: &Tensor, k: i64, upper: bool) -> Result<Tensor> {
    let [.., rows, columns] = *x.shape() else { invalid!("a triangle needs a matrix") };
    let keep = |p: usize| {
        let (i, j) = (p / columns % rows, p % columns);
        let diagonal = j as i64 - i as i64;
        if upper { diagonal >= k } else { diagonal <= k }
    };
    let filler = x.len();
    let places = (0..x.len()).map(|p| if keep(p) { p } else { filler });
    Ok(with_filler(x, None)?.take(x.shape(), places)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn grid(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>() as i32;
        Tensor::from_vec(shape, (0..n).collect()).expect("a grid")
    }

    fn of(op: &str, attrs: &str, x: &Tensor) -> Result<Tensor> {
        let ty = crate::Type::of(&x.clone().into());
        run1(&format!("y = {op}(x: {ty}) {{{attrs}}}\nreturn y"), std::slice::from_ref(x))
    }

    fn data(t: &Tensor) -> &[i32] {
        t.as_slice::<i32>().expect("i32")
    }

    #[test]
    fn blocks() {
        let x = grid(&[1, 8, 1, 1]);
        let dcr = of("DepthToSpace", "blocksize=2", &x).expect("DCR");
        assert_eq!((dcr.shape(), data(&dcr)), (&[1, 2, 2, 2][..], &[0, 2, 4, 6, 1, 3, 5, 7][..]));
        let crd = of("DepthToSpace", "blocksize=2,mode=\"CRD\"", &x).expect("CRD");
        assert_eq!(data(&crd), [0, 1, 2, 3, 4, 5, 6, 7]);
        for mode in ["", ",mode=\"CRD\""] {
            let y = of("DepthToSpace", &format!("blocksize=2{mode}"), &x).expect("there");
            let back = of("SpaceToDepth", &format!("blocksize=2{mode}"), &y).expect("back");
            assert_eq!(back, x);
        }
        let y = of("SpaceToDepth", "blocksize=2", &grid(&[1, 1, 2, 4])).expect("space");
        assert_eq!((y.shape(), data(&y)), (&[1, 4, 1, 2][..], &[0, 2, 1, 3, 4, 6, 5, 7][..]));
        assert!(of("DepthToSpace", "blocksize=3", &x).is_err());
        assert!(of("SpaceToDepth", "blocksize=0", &x).is_err());
        assert!(of("SpaceToDepth", &format!("blocksize={}", i64::MAX), &x).is_err());
    }

    #[test]
    fn sequences() {
        let run = |attrs: &str, lens: Vec<i64>| {
            let text = format!("y = ReverseSequence(x: i32[3,2], l: i64[L]) {{{attrs}}}\nreturn y");
            run1(&text, &[grid(&[3, 2]), Tensor::vector(lens)])
        };
        assert_eq!(data(&run("", vec![3, 2]).expect("time first")), [4, 3, 2, 1, 0, 5]);
        let y = run("batch_axis=0,time_axis=1", vec![2, 1, 2]).expect("batch first");
        assert_eq!(data(&y), [1, 0, 2, 3, 5, 4]);
        assert!(run("", vec![4, 0]).is_err());
        assert!(run("", vec![1]).is_err());
        assert!(run("", vec![-1, 0]).is_err());
        assert!(run("batch_axis=0", vec![1, 1]).is_err());
    }

    #[test]
    fn triangles() {
        let x = grid(&[3, 3]);
        let run = |upper: i64, k: i64| {
            let text = format!("y = Trilu(x: i32[3,3], k: i64[]) {{upper={upper}}}\nreturn y");
            data(&run1(&text, &[x.clone(), Tensor::scalar(k)]).expect("runs")).to_vec()
        };
        assert_eq!(run(1, 0), [0, 1, 2, 0, 4, 5, 0, 0, 8]);
        assert_eq!(run(1, 1), [0, 1, 2, 0, 0, 5, 0, 0, 0]);
        assert_eq!(run(0, -1), [0, 0, 0, 3, 0, 0, 6, 7, 0]);
        assert_eq!(run(0, i64::MAX), data(&x));
        assert_eq!(run(1, i64::MIN), data(&x));
        let y = of("com.microsoft.Trilu", "", &grid(&[2, 0])).expect("empty");
        assert_eq!(y.shape(), [2, 0]);
    }

    #[test]
    fn shapes_with_symbols() {
        let text = "a = DepthToSpace(x: f32[N,8,H,W]) {blocksize=2}\n\
            b = SpaceToDepth(a) {blocksize=2}\nreturn a, b";
        assert_eq!(types(text).expect("types"), ["f32[N,2,2*H,2*W]", "f32[N,8,H,W]"]);
        assert!(types("y = DepthToSpace(x: f32[N,7,H,W]) {blocksize=2}\nreturn y").is_err());
        assert!(types("y = Trilu(x: f32[N])\nreturn y").is_err());
    }
}
