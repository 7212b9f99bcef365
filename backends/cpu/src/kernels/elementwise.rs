//! Elementwise functions of `f32`, over ranges in parallel, in place where that is allowed.

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::select::{self, Select};
use kiln_ir::ops::unary::Unary;
use kiln_ir::{Graph, NodeId, Op, Result, invalid};
use kiln_tensor::shape;
use rayon::prelude::*;

use super::is_f32;
use crate::kernel::{Args, Kernel, Row};

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "unary_f32",
        what: "functions of one element: ranges in parallel",
        graphs: &["a = Exp(x: f32[3,1000])\nb = Relu(a)\nc = Neg(b)\ny = Tanh(c)\nreturn y"],
        in_place: true,
        prepare: prepare_unary,
    },
    Row {
        name: "binary_f32",
        what: "Add, Sub, Mul, Div with broadcasting: ranges in parallel",
        graphs: &["a = Add(x: f32[3,1,5], z: f32[4,1])\nb = Mul(a, a)\nc = Sub(b, x)\n\
                   y = Div(c, a)\nreturn y"],
        in_place: false,
        prepare: prepare_binary,
    },
    Row {
        name: "clip_f32",
        what: "Clip between two bounds: ranges in parallel",
        graphs: &["l = f32[]{-0.5}\nu = f32[]{0.25}\nx: f32[7,3000]\na = Neg(x)\n\
             b = Clip(x, l, u)\ny = Clip(a, l, h: f32[])\nreturn y, b"],
        in_place: true,
        prepare: prepare_clip,
    },
];

/// Elements of one range.
const RANGE: usize = 1 << 14;

fn prepare_unary(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Unary(op) = g.op(id) else { return None };
    let float = is_f32(g, g.input_of(id, 0)?) && is_f32(g, id.first());
    float.then(|| Box::new(Map(*op)) as Box<dyn Kernel>)
}

fn prepare_binary(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Binary(op) = g.op(id) else { return None };
    let plain = matches!(op, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div);
    let float = g.inputs_of(id).iter().flatten().all(|v| is_f32(g, *v));
    (plain && float).then(|| Box::new(Zip(*op)) as Box<dyn Kernel>)
}

fn prepare_clip(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let inputs = g.inputs_of(id);
    let float = inputs.iter().all(|v| v.is_some_and(|v| is_f32(g, v)));
    let clips = matches!(g.op(id), Op::Select(Select::Clip)) && inputs.len() == 3;
    (clips && float).then(|| Box::new(Clip) as Box<dyn Kernel>)
}

struct Clip;

impl Kernel for Clip {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let [(_, x), (_, &[lower]), (_, &[upper])] = args.inputs[..] else {
            invalid!("the bounds of Clip must be scalars");
        };
        args.out.par_chunks_mut(RANGE).enumerate().for_each(|(i, out)| {
            if !args.in_place {
                out.copy_from_slice(&x[i * RANGE..][..out.len()]);
            }
            out.iter_mut().for_each(|y| *y = select::clip(*y, Some(lower), Some(upper)));
        });
        Ok(())
    }
}

struct Map(Unary);

impl Kernel for Map {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let x = args.inputs[0].1;
        let op = self.0;
        args.out.par_chunks_mut(RANGE).enumerate().for_each(|(i, out)| {
            if !args.in_place {
                out.copy_from_slice(&x[i * RANGE..][..out.len()]);
            }
            match op {
                Unary::Relu => out.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y }),
                _ => out.iter_mut().for_each(|y| *y = op.float(*y)),
            }
        });
        Ok(())
    }
}

struct Zip(Binary);

impl Kernel for Zip {
    fn run(&self, args: Args<'_>) -> Result<()> {
        match self.0 {
            Binary::Add => zip(args, |a, b| a + b),
            Binary::Sub => zip(args, |a, b| a - b),
            Binary::Mul => zip(args, |a, b| a * b),
            _ => zip(args, |a, b| a / b),
        }
    }
}

fn zip(args: Args<'_>, f: impl Fn(f32, f32) -> f32 + Sync) -> Result<()> {
    let ((a_shape, a), (b_shape, b)) = (args.inputs[0], args.inputs[1]);
    if a_shape == b_shape {
        args.out.par_chunks_mut(RANGE).enumerate().for_each(|(i, out)| {
            let (a, b) = (&a[i * RANGE..], &b[i * RANGE..]);
            out.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = f(a, b));
        });
        return Ok(());
    }
    let at = |s: &[usize]| {
        let strides = shape::broadcast_strides(s, args.shape);
        shape::offsets(args.shape, &strides)
    };
    for ((y, i), j) in args.out.iter_mut().zip(at(a_shape)).zip(at(b_shape)) {
        *y = f(a[i], b[j]);
    }
    Ok(())
}
