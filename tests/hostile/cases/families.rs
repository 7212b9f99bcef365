//! Operators, family by family, with attributes and inputs that no tool would write.

use super::Class;
use crate::proto::{
    F32, Graph, I64, Message, STRING, f32s, float, floats, i64_scalar, i64s, int, ints, strings,
    text, texts,
};

pub fn classes() -> Vec<Class> {
    vec![norms(), recurrent(), attention(), reductions(), blocks(), signals(), boxes(), growth()]
}

/// A model of `op` on `x` of shape 1x4x6x6 and the constants `others`.
fn image(op: &str, others: &[(&str, Message)], attributes: &[Message]) -> Graph {
    let start = Graph::new().init("x", f32s(&[1, 4, 6, 6], &[1.0; 144]));
    on(start, op, others, attributes)
}

/// A model of `op` on `x` of shape 2x3x4 and the constants `others`.
fn rows(op: &str, others: &[(&str, Message)], attributes: &[Message]) -> Graph {
    on(Graph::new().init("x", f32s(&[2, 3, 4], &[0.5; 24])), op, others, attributes)
}

fn on(start: Graph, op: &str, others: &[(&str, Message)], attributes: &[Message]) -> Graph {
    let g = others.iter().fold(start, |g, (name, t)| g.init(name, t.clone()));
    let names = others.iter().fold("x".to_owned(), |all, (name, _)| format!("{all} {name}"));
    g.node(op, &names, "y", attributes).output_any("y")
}

fn ones(dims: &[i64]) -> Message {
    f32s(dims, &vec![1.0; dims.iter().product::<i64>() as usize])
}

fn norms() -> Class {
    let two = |n: i64| [("s", ones(&[n])), ("b", ones(&[n]))];
    let batch = |n: i64| {
        image(
            "BatchNormalization",
            &[("s", ones(&[n])), ("b", ones(&[4])), ("m", ones(&[4])), ("v", ones(&[4]))],
            &[],
        )
    };
    let group = |n| image("GroupNormalization", &two(4), &[int("num_groups", n)]);
    let lrn = |n| image("LRN", &[], &[int("size", n)]);
    let axis = |op, axis| rows(op, &[("s", ones(&[4]))], &[int("axis", axis)]);
    Class::new("norms")
        .bad("batch_scale", batch(7))
        .bad("instance_scale", image("InstanceNormalization", &two(9), &[]))
        .bad("groups_zero", group(0))
        .bad("groups_negative", group(-4))
        .bad("groups_three", group(3))
        .bad("groups_most", group(i64::MAX))
        .bad("lrn_zero", lrn(0))
        .bad("lrn_negative", lrn(-3))
        .odd("lrn_most", lrn(i64::MAX))
        .bad("layer_axis", axis("LayerNormalization", 9))
        .bad("layer_axis_least", axis("LayerNormalization", i64::MIN))
        .bad("rms_axis", axis("RMSNormalization", 5))
        .odd("lp_p", rows("LpNormalization", &[], &[int("p", 7)]))
        .bad("mean_variance_axes", image("MeanVarianceNormalization", &[], &[ints("axes", &[99])]))
        .odd("epsilon_nan", image("InstanceNormalization", &two(4), &[float("epsilon", f32::NAN)]))
}

fn recurrent() -> Class {
    let net = |op: &str, w: &[i64], r: &[i64], attributes: &[Message]| {
        rows(op, &[("w", ones(w)), ("r", ones(r))], attributes)
    };
    let lstm = |attributes: &[Message]| net("LSTM", &[1, 8, 4], &[1, 8, 2], attributes);
    let hidden = || int("hidden_size", 2);
    let lengths = |n: &[i64]| {
        let lens = crate::proto::bare(6, &[n.len() as i64]).packed(5, n);
        let others = [("w", ones(&[1, 8, 4])), ("r", ones(&[1, 8, 2])), ("b", ones(&[1, 16]))];
        let g = Graph::new().init("x", f32s(&[2, 3, 4], &[0.5; 24])).init("n", lens);
        let g = others.iter().fold(g, |g, (name, t)| g.init(name, t.clone()));
        g.node("LSTM", "x w r b n", "y", &[hidden()]).output("y", F32)
    };
    Class::new("recurrent")
        .bad("direction", lstm(&[hidden(), text("direction", "sideways")]))
        .bad("activation", lstm(&[hidden(), texts("activations", &["Bang", "Tanh", "Tanh"])]))
        .bad("activations_few", lstm(&[hidden(), texts("activations", &["Tanh"])]))
        .bad("two_directions", lstm(&[hidden(), text("direction", "bidirectional")]))
        .bad("weights_of_gru", net("GRU", &[1, 8, 4], &[1, 8, 2], &[hidden()]))
        .bad("weights_of_rnn", net("RNN", &[1, 8, 4], &[1, 8, 2], &[hidden()]))
        .bad("recurrence", net("LSTM", &[1, 8, 4], &[1, 8, 5], &[hidden()]))
        .bad("lengths_past_the_end", lengths(&[99, 1, 1]))
        .bad("lengths_negative", lengths(&[-1, 1, 1]))
        .bad("lengths_too_many", lengths(&[1; 9]))
        .odd("clip_negative", lstm(&[hidden(), float("clip", -1.0)]))
        .odd("layout", lstm(&[hidden(), int("layout", 7)]))
}

fn attention() -> Class {
    let attend = |attributes: &[Message]| {
        rows("Attention", &[("k", ones(&[2, 3, 4])), ("v", ones(&[2, 3, 4]))], attributes)
    };
    let heads = |q, kv| attend(&[int("q_num_heads", q), int("kv_num_heads", kv)]);
    let rotary = |attributes: &[Message]| {
        let others = [("c", ones(&[8, 1])), ("s", ones(&[8, 1])), ("p", i64s(&[0]))];
        rows("RotaryEmbedding", &others, attributes)
    };
    let gelu = rows("Gelu", &[], &[text("approximate", "guess")]);
    Class::new("attention")
        .bad("no_heads", attend(&[]))
        .bad("heads_zero", heads(0, 0))
        .bad("heads_negative", heads(-2, -2))
        .bad("heads_three", heads(3, 3))
        .bad("heads_disagree", heads(4, 3))
        .bad("heads_most", heads(i64::MAX, i64::MAX))
        .bad("rotary_heads", rotary(&[int("num_heads", 3)]))
        .bad("rotary_width", rotary(&[int("num_heads", 1), int("rotary_embedding_dim", -2)]))
        .bad("gelu", gelu)
}

fn reductions() -> Class {
    let einsum = |equation: &str, a: &[i64], b: &[i64]| {
        let start = Graph::new().init("x", ones(a));
        on(start, "Einsum", &[("z", ones(b))], &[text("equation", equation)])
    };
    let letters = |n: usize| -> String { ('a'..='z').chain('A'..='Z').take(n).collect() };
    let top = |k: i64| rows("TopK", &[("k", i64s(&[k]))], &[]);
    let outer = einsum("ab,cd->abcd", &[300, 300], &[300, 300]);
    let slow = einsum("abc,def->", &[60, 60, 60], &[60, 60, 60]);
    let wide = format!("{},{}->", letters(26), letters(26));
    Class::new("reductions")
        .bad("einsum_outer", outer)
        .odd("einsum_slow", slow)
        .bad("einsum_letters", einsum(&wide, &[2, 2], &[2, 2]))
        .bad("einsum_disagrees", einsum("ab,bc->ac", &[2, 3], &[4, 5]))
        .bad("einsum_output", einsum("ab,bc->az", &[2, 3], &[3, 5]))
        .bad("einsum_ellipses", einsum("......,...->", &[2, 3], &[3, 5]))
        .bad("top_k_most", top(i64::MAX))
        .bad("top_k_least", top(i64::MIN))
        .bad("top_k_none", rows("TopK", &[("k", i64s(&[]))], &[]))
        .bad("axes_twice_reshaped", rows("ReduceSum", &[("a", ones(&[2]))], &[]))
        .bad("cumsum_far", rows("CumSum", &[("a", i64_scalar(i64::MAX))], &[]))
        .bad("hardmax_axis", rows("Hardmax", &[], &[int("axis", 3)]))
        .odd("unique_axis", rows("Unique", &[], &[int("axis", -9)]))
        .odd("clip_crossed", {
            rows("Clip", &[("lo", f32s(&[], &[9.0])), ("hi", f32s(&[], &[-9.0]))], &[])
        })
        .odd("dropout_ratio", rows("Dropout", &[("r", f32s(&[], &[f32::NAN]))], &[]))
        .bad("loss_labels", {
            let labels = ("l", i64s(&[99, -7]));
            let g = Graph::new().init("x", ones(&[2, 3]));
            on(g, "SoftmaxCrossEntropyLoss", &[labels], &[])
        })
}

fn blocks() -> Class {
    let quantize = |scale: Message, attributes: &[Message]| {
        rows("QuantizeLinear", &[("s", scale)], attributes)
    };
    let crop = |n: &[i64]| rows("CenterCropPad", &[("s", i64s(n))], &[]);
    let split = |attributes: &[Message]| {
        let g = Graph::new().init("x", strings(&[b"a b", b"c"]));
        g.node("StringSplit", "x", "y n", attributes).output("y", STRING)
    };
    let eye = |k| {
        let g = Graph::new().init("x", ones(&[3, 3]));
        on(g, "EyeLike", &[], &[int("k", k)])
    };
    let integers = {
        let image = crate::proto::raw(2, &[1, 1, 4, 4], &[1; 16]);
        let weights = crate::proto::raw(2, &[1, 1, 3, 3], &[1; 9]);
        let g = Graph::new().init("q", image).init("w", weights);
        let attributes = [ints("pads", &[1 << 40; 4])];
        g.node("ConvInteger", "q w", "y", &attributes).output("y", 6)
    };
    Class::new("blocks")
        .bad("block_negative", quantize(ones(&[2, 3, 4]), &[int("block_size", -3)]))
        .bad("block_most", quantize(ones(&[9, 9, 9]), &[int("block_size", i64::MAX)]))
        .bad("axis", quantize(ones(&[4]), &[int("axis", 12)]))
        .bad("output_dtype", quantize(ones(&[]), &[int("output_dtype", 8)]))
        .bad("crop_negative", crop(&[-2, 3, 4]))
        .bad("crop_two_to_40", crop(&[1 << 40, 1, 1]))
        .bad("crop_length", crop(&[1, 1]))
        .odd("split_most", split(&[int("maxsplit", i64::MAX)]))
        .odd("split_least", split(&[int("maxsplit", i64::MIN)]))
        .odd("eye_most", eye(i64::MAX))
        .odd("eye_least", eye(i64::MIN))
        .bad("integer_pads", integers)
        .bad("depth_to_space_mode", {
            image("DepthToSpace", &[], &[int("blocksize", 2), text("mode", "XYZ")])
        })
        .bad("space_to_depth_most", image("SpaceToDepth", &[], &[int("blocksize", i64::MAX)]))
        .bad("max_pool_dilations", {
            let attributes = [ints("kernel_shape", &[2, 2]), ints("dilations", &[i64::MAX, 1])];
            image("MaxPool", &[], &attributes)
        })
        .bad("conv_auto_pad", {
            image("Conv", &[("w", ones(&[4, 4, 3, 3]))], &[text("auto_pad", "SOMETIMES")])
        })
}

fn signals() -> Class {
    let stft = |step: i64, length: i64| {
        let g = Graph::new().init("x", ones(&[1, 64, 1])).init("s", i64_scalar(step));
        g.init("n", i64_scalar(length)).node("STFT", "x s - n", "y", &[]).output("y", F32)
    };
    let grid = |size: &[i64]| {
        let g = Graph::new().init("x", ones(&[1, 2, 3]));
        on(g, "AffineGrid", &[("s", i64s(size))], &[])
    };
    let sample = |value: f32| image("GridSample", &[("g", f32s(&[1, 2, 2, 2], &[value; 8]))], &[]);
    let sampled = |mode: &str| {
        image("GridSample", &[("g", ones(&[1, 2, 2, 2]))], &[text("padding_mode", mode)])
    };
    Class::new("signals")
        .bad("stft_step_zero", stft(0, 16))
        .bad("stft_step_negative", stft(-4, 16))
        .bad("stft_frame_zero", stft(4, 0))
        .bad("stft_frame_most", stft(4, i64::MAX))
        .bad("affine_two_to_30", grid(&[1, 1, 1 << 30, 1 << 30]))
        .bad("affine_negative", grid(&[1, 1, -2, 4]))
        .bad("affine_rank", grid(&[1, 1]))
        .odd("sample_far", sample(1e38))
        .odd("sample_nan", sample(f32::NAN))
        .bad("sample_mode", sampled("mirror"))
}

fn boxes() -> Class {
    let suppress = |most: i64, boxes: &[i64], scores: &[i64]| {
        let g = Graph::new().init("b", ones(boxes)).init("s", ones(scores));
        let g = g.init("n", i64_scalar(most));
        g.node("NonMaxSuppression", "b s n", "y", &[]).output("y", I64)
    };
    let crops = |batch: i64, attributes: &[Message]| {
        image("RoiAlign", &[("r", ones(&[1, 4])), ("b", i64s(&[batch]))], attributes)
    };
    Class::new("boxes")
        .odd("suppress_most", suppress(i64::MAX, &[1, 6, 4], &[1, 1, 6]))
        .odd("suppress_least", suppress(i64::MIN, &[1, 6, 4], &[1, 1, 6]))
        .bad("suppress_lengths", suppress(1, &[1, 6, 4], &[1, 1, 9]))
        .bad("suppress_corners", suppress(1, &[1, 6, 3], &[1, 1, 6]))
        .bad("roi_batch", crops(7, &[]))
        .bad("roi_batch_negative", crops(-1, &[]))
        .odd("roi_samples", crops(0, &[int("sampling_ratio", 1 << 40)]))
        .bad("roi_height", crops(0, &[int("output_height", -1)]))
        .bad("max_roi_pool", {
            let attributes = [ints("pooled_shape", &[1 << 40, 1 << 40])];
            image("MaxRoiPool", &[("r", f32s(&[1, 5], &[0.0, 0.0, 0.0, 2.0, 2.0]))], &attributes)
        })
        .bad("multinomial_nan", {
            let g = Graph::new().init("x", f32s(&[1, 2], &[f32::NAN; 2]));
            let attributes = [int("sample_size", -4), floats("unused", &[])];
            g.node("Multinomial", "x", "y", &attributes).output("y", 6)
        })
}

/// Small models whose values are each of a modest size.
fn growth() -> Class {
    let many = |n: usize, length: i64| {
        let g = Graph::new().init("s", i64s(&[length]));
        let g = (0..n).fold(g, |g, i| g.node("ConstantOfShape", "s", &format!("c{i}"), &[]));
        let names: Vec<_> = (0..n).map(|i| format!("c{i}")).collect();
        g.node("Sum", &names.join(" "), "y", &[]).output("y", F32)
    };
    let doubled = (0..40).fold(Graph::new().init("v0", strings(&[b"a"])), |g, i| {
        g.node("StringConcat", &format!("v{i} v{i}"), &format!("v{}", i + 1), &[])
    });
    let inputs = (0..64).fold(Graph::new(), |g, i| g.input(&format!("x{i}"), F32, &[1 << 22]));
    let sparse = (0..40).fold(Graph::new(), |g, i| {
        let values = f32s(&[1], &[1.0]).text(8, &format!("w{i}"));
        let m = Message::default().message(1, &values).message(2, &i64s(&[0]));
        let g = Graph(g.0.message(15, &m.packed(3, &[1 << 23])));
        g.node("Relu", &format!("w{i}"), &format!("r{i}"), &[]).output(&format!("r{i}"), F32)
    });
    let named = "n\u{1b}[2J\r\n".repeat(1000);
    let shown = Graph::new().input(&named, F32, &[2]).node("Relu", "nothing", "y", &[]);
    Class::new("growth")
        .bad("constants_64_mib", many(64, 1 << 24))
        .bad("constants_16_mib", many(64, 1 << 22))
        .bad("constants_1_mib", many(1024, 1 << 18))
        .bad("strings_40", doubled.output("v40", STRING))
        .bad("inputs", inputs.node("Relu", "x0", "y", &[]).output("y", F32))
        .bad("input_of_2_gib", {
            Graph::new().input("x", F32, &[1 << 29]).node("Relu", "x", "y", &[]).output("y", F32)
        })
        .bad("sparse", sparse)
        .bad("names", shown.output("y", F32))
}
