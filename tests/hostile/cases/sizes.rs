//! Small models that ask for large results.

use super::Class;
use crate::proto::{F32, Graph, I64, Message, f32s, float, i64_scalar, i64s, int, ints};

pub fn classes() -> Vec<Class> {
    vec![
        shapes("constant_of_shape", "ConstantOfShape", ""),
        shapes("expand", "Expand", "x"),
        reshape(),
        tile(),
        pad(),
        range(),
        one_hot(),
        convolutions(),
        pools(),
        resize(),
        generators(),
        windows(),
    ]
}

fn x() -> Graph {
    Graph::new().init("x", f32s(&[1, 1], &[1.0]))
}

/// An operator whose last input is the shape of its result.
fn shapes(class: &'static str, op: &str, first: &str) -> Class {
    let of = |shape: &[i64]| {
        x().init("s", i64s(shape)).node(op, &format!("{first} s"), "y", &[]).output("y", F32)
    };
    Class::new(class)
        .bad("two_to_40", of(&[1 << 40]))
        .bad("two_to_62", of(&[1 << 62]))
        .bad("product_overflows", of(&[1 << 33, 1 << 33]))
        .bad("product_wraps_to_zero", of(&[1 << 32, 1 << 32]))
        .bad("negative", of(&[-3, 2]))
        .bad("most_negative", of(&[i64::MIN]))
        .odd("zero_times_huge", of(&[0, i64::MAX]))
        .odd("rank_4000", of(&[1; 4000]))
}

fn reshape() -> Class {
    let of = |shape: &[i64]| {
        let g = Graph::new().input("x", F32, &[2, 3]).init("s", i64s(shape));
        g.node("Reshape", "x s", "y", &[]).output("y", F32)
    };
    Class::new("reshape")
        .bad("wrong_product", of(&[5]))
        .bad("product_wraps", of(&[1 << 33, 1 << 33]))
        .bad("two_unknown", of(&[-1, -1]))
        .bad("minus_two", of(&[-2, 3]))
        .bad("unknown_over_zero", of(&[-1, 4]))
        .bad("zero_past_the_rank", of(&[6, 1, 0]))
        .bad("empty_of_six", of(&[]))
}

fn tile() -> Class {
    let of = |repeats: &[i64]| {
        x().init("r", i64s(repeats)).node("Tile", "x r", "y", &[]).output("y", F32)
    };
    Class::new("tile")
        .bad("two_to_40", of(&[1 << 40, 1]))
        .bad("product_overflows", of(&[1 << 40, 1 << 40]))
        .bad("negative", of(&[-1, 1]))
        .bad("wrong_rank", of(&[2]))
}

fn pad() -> Class {
    let of = |pads: &[i64]| x().init("p", i64s(pads)).node("Pad", "x p", "y", &[]).output("y", F32);
    Class::new("pad")
        .bad("two_to_60", of(&[0, 1 << 60, 0, 1 << 60]))
        .bad("two_to_35", of(&[0, 0, 1 << 35, 0]))
        .bad("sum_overflows", of(&[i64::MAX, 0, i64::MAX, 0]))
        .bad("cuts_more_than_there_is", of(&[-5, 0, 0, 0]))
        .bad("most_negative", of(&[i64::MIN, 0, i64::MIN, 0]))
        .bad("wrong_length", of(&[1, 1, 1]))
}

fn range() -> Class {
    let ints = |from, to, step| {
        let g = Graph::new().init("a", i64_scalar(from)).init("b", i64_scalar(to));
        g.init("c", i64_scalar(step)).node("Range", "a b c", "y", &[]).output("y", I64)
    };
    let floats = |from, to, step| {
        let g = Graph::new().init("a", f32s(&[], &[from])).init("b", f32s(&[], &[to]));
        g.init("c", f32s(&[], &[step])).node("Range", "a b c", "y", &[]).output("y", F32)
    };
    Class::new("range")
        .bad("two_to_62", ints(0, 1 << 62, 1))
        .bad("whole_i64", ints(i64::MIN, i64::MAX, 1))
        .bad("step_zero", ints(0, 5, 0))
        .odd("step_most_negative", ints(5, 0, i64::MIN))
        .bad("to_infinity", floats(0.0, f32::INFINITY, 1.0))
        .bad("step_nan", floats(0.0, 5.0, f32::NAN))
        .bad("step_tiny", floats(0.0, 1e30, 1e-30))
        .bad("float_step_zero", floats(0.0, 5.0, 0.0))
}

fn one_hot() -> Class {
    let of = |depth, axis| {
        let g = Graph::new().init("i", i64s(&[0, 1])).init("d", i64_scalar(depth));
        let g = g.init("v", f32s(&[2], &[0.0, 1.0]));
        g.node("OneHot", "i d v", "y", &[int("axis", axis)]).output("y", F32)
    };
    Class::new("one_hot")
        .bad("two_to_62", of(1 << 62, -1))
        .bad("two_to_36", of(1 << 36, -1))
        .bad("negative", of(-4, -1))
        .bad("axis_out_of_range", of(3, 9))
}

fn image(channels: i64) -> Graph {
    let numbers = vec![1.0; (channels * 64) as usize];
    Graph::new().init("x", f32s(&[1, channels, 8, 8], &numbers))
}

fn convolutions() -> Class {
    let of = |op: &str, attributes: &[Message]| {
        let g = image(2).init("w", f32s(&[2, 2, 3, 3], &[1.0; 36]));
        g.node(op, "x w", "y", attributes).output("y", F32)
    };
    let conv = |attribute| of("Conv", &[attribute]);
    Class::new("convolutions")
        .bad("pads_two_to_61", conv(ints("pads", &[1 << 61; 4])))
        .bad("pads_two_to_20", conv(ints("pads", &[1 << 20; 4])))
        .bad("pads_most_negative", conv(ints("pads", &[i64::MIN; 4])))
        .bad("pads_wrong_length", conv(ints("pads", &[1; 3])))
        .bad("strides_zero", conv(ints("strides", &[0, 0])))
        .bad("strides_negative", conv(ints("strides", &[-1, -1])))
        .bad("dilations_two_to_62", conv(ints("dilations", &[1 << 62; 2])))
        .bad("dilations_zero", conv(ints("dilations", &[0, 0])))
        .bad("kernel_disagrees", conv(ints("kernel_shape", &[5, 5])))
        .bad("group_zero", conv(int("group", 0)))
        .bad("group_negative", conv(int("group", -2)))
        .bad("group_three", conv(int("group", 3)))
        .bad("group_i64_max", conv(int("group", i64::MAX)))
        .bad("transposed_strides", of("ConvTranspose", &[ints("strides", &[1 << 40; 2])]))
        .bad("transposed_output", of("ConvTranspose", &[ints("output_shape", &[1 << 40; 2])]))
        .bad("transposed_padding", of("ConvTranspose", &[ints("output_padding", &[1 << 62; 2])]))
}

fn pools() -> Class {
    let of = |op: &str, attributes: &[Message]| image(1).node(op, "x", "y", attributes);
    let max = |attributes: &[Message]| of("MaxPool", attributes).output("y", F32);
    let kernel = |k: i64| ints("kernel_shape", &[k, k]);
    Class::new("pools")
        .bad("kernel_two_to_62", max(&[kernel(1 << 62)]))
        .bad("kernel_zero", max(&[kernel(0)]))
        .bad("kernel_negative", max(&[kernel(-2)]))
        .bad("no_kernel", max(&[]))
        .bad("strides_zero", max(&[kernel(2), ints("strides", &[0, 0])]))
        .bad("pads_two_to_40", max(&[kernel(2), ints("pads", &[1 << 40; 4])]))
        .bad("average", of("AveragePool", &[kernel(1 << 40)]).output("y", F32))
        .odd("lp_p_zero", of("LpPool", &[kernel(2), int("p", 0)]).output("y", F32))
}

fn resize() -> Class {
    let scaled = |scales: &[f32]| {
        let g = image(1).init("s", f32s(&[scales.len() as i64], scales));
        g.node("Resize", "x - s", "y", &[]).output("y", F32)
    };
    let sized = |sizes: &[i64]| {
        image(1).init("s", i64s(sizes)).node("Resize", "x - - s", "y", &[]).output("y", F32)
    };
    Class::new("resize")
        .bad("scales_1e30", scaled(&[1.0, 1.0, 1e30, 1e30]))
        .bad("scales_1e5", scaled(&[1.0, 1.0, 1e5, 1e5]))
        .bad("scales_nan", scaled(&[1.0, 1.0, f32::NAN, 1.0]))
        .bad("scales_negative", scaled(&[1.0, 1.0, -1.0, 1.0]))
        .odd("scales_zero", scaled(&[1.0, 1.0, 0.0, 1.0]))
        .bad("scales_too_few", scaled(&[2.0]))
        .bad("sizes_two_to_40", sized(&[1, 1, 1 << 40, 1 << 40]))
        .bad("sizes_negative", sized(&[1, 1, -8, 8]))
}

/// Operators whose attributes alone say how large their result is.
fn generators() -> Class {
    let of = |op: &str, attributes: &[Message]| Graph::new().node(op, "", "y", attributes);
    let huge = || ints("shape", &[1 << 40, 4]);
    let floats = vec![0.0; 9];
    let roi = {
        let g = image(1).init("r", f32s(&[1, 4], &[0.0, 0.0, 1.0, 1.0])).init("b", i64s(&[0]));
        let attrs = [int("output_height", 1 << 40), int("output_width", 1 << 40)];
        g.node("RoiAlign", "x r b", "y", &attrs).output("y", F32)
    };
    let col2im = {
        let g = Graph::new().init("x", f32s(&[1, 9, 1], &floats));
        let g = g.init("i", i64s(&[1 << 40, 1 << 40])).init("k", i64s(&[3, 3]));
        g.node("Col2Im", "x i k", "y", &[]).output("y", F32)
    };
    let unpool = {
        let g =
            image(1).init("i", crate::proto::bare(I64, &[1, 1, 8, 8]).packed(7, &[1 << 50; 64]));
        let attrs = [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
        g.node("MaxUnpool", "x i", "y", &attrs).output("y", F32)
    };
    let blocks = |op: &str, size| image(4).node(op, "x", "y", &[int("blocksize", size)]);
    Class::new("generators")
        .bad("random_normal", of("RandomNormal", &[huge()]).output("y", F32))
        .bad("random_uniform", of("RandomUniform", &[huge()]).output("y", F32))
        .bad("multinomial", {
            let attrs = [int("sample_size", 1 << 40)];
            x().node("Multinomial", "x", "y", &attrs).output("y", 6)
        })
        .bad("roi_align", roi)
        .bad("col2im", col2im)
        .bad("max_unpool", unpool)
        .bad("depth_to_space_zero", blocks("DepthToSpace", 0).output("y", F32))
        .bad("depth_to_space_huge", blocks("DepthToSpace", 1 << 32).output("y", F32))
        .bad("space_to_depth_zero", blocks("SpaceToDepth", 0).output("y", F32))
}

fn windows() -> Class {
    let window = |op: &str, size| {
        Graph::new().init("n", i64_scalar(size)).node(op, "n", "y", &[]).output("y", F32)
    };
    let mel = {
        let g = Graph::new().init("b", i64_scalar(1 << 40)).init("d", i64_scalar(1 << 40));
        let g = g.init("r", i64_scalar(8000)).init("l", f32s(&[], &[0.0]));
        let g = g.init("h", f32s(&[], &[4000.0]));
        g.node("MelWeightMatrix", "b d r l h", "y", &[]).output("y", F32)
    };
    let recurrent = |op: &str, hidden| {
        let g = Graph::new().init("x", f32s(&[1, 1, 1], &[1.0]));
        let g = g.init("w", f32s(&[1, 4, 1], &[1.0; 4])).init("r", f32s(&[1, 4, 1], &[1.0; 4]));
        g.node(op, "x w r", "y", &[int("hidden_size", hidden)]).output("y", F32)
    };
    let dft = {
        let g = Graph::new().init("x", f32s(&[1, 4, 1], &[1.0; 4])).init("n", i64_scalar(1 << 40));
        g.node("DFT", "x n", "y", &[]).output("y", F32)
    };
    Class::new("windows")
        .bad("hann", window("HannWindow", 1 << 40))
        .bad("hamming_negative", window("HammingWindow", -5))
        .bad("blackman", window("BlackmanWindow", i64::MAX))
        .bad("mel", mel)
        .bad("dft", dft)
        .bad("lstm_hidden_size", recurrent("LSTM", 1 << 62))
        .bad("lstm_hidden_zero", recurrent("LSTM", 0))
        .bad("gru_hidden_negative", recurrent("GRU", -1))
        .bad("lstm_clip_is_an_int", {
            let g = Graph::new().init("x", f32s(&[1, 1, 1], &[1.0]));
            g.node("LSTM", "x x x", "y", &[float("hidden_size", 1.0)]).output("y", F32)
        })
}
