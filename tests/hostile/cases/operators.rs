//! Operators with indices, divisors, orders and patterns that make no sense.

use super::Class;
use crate::proto::{
    F32, Graph, I64, Message, STRING, bare, f32s, i64_scalar, i64s, int, ints, strings, text,
};

pub fn classes() -> Vec<Class> {
    vec![
        indices(),
        integers(),
        slices(),
        orders(),
        patterns(),
        quantised(),
        broadcasts(),
        sequences(),
    ]
}

fn x() -> Graph {
    Graph::new().init("x", f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
}

fn indices() -> Class {
    let at = |op: &str, shape: &[i64], index: &[i64], attributes: &[Message]| {
        let g = x().init("i", bare(I64, shape).packed(7, index));
        g.node(op, "x i", "y", attributes).output("y", F32)
    };
    let scatter = |op: &str, shape: &[i64], index: &[i64], updates: Message| {
        let g = x().init("i", bare(I64, shape).packed(7, index)).init("u", updates);
        g.node(op, "x i u", "y", &[]).output("y", F32)
    };
    Class::new("indices")
        .bad("gather", at("Gather", &[1], &[2], &[]))
        .bad("gather_negative", at("Gather", &[1], &[-3], &[]))
        .bad("gather_most_negative", at("Gather", &[1], &[i64::MIN], &[]))
        .bad("gather_axis", at("Gather", &[1], &[0], &[int("axis", 5)]))
        .bad("gather_elements", at("GatherElements", &[1, 3], &[0, 9, 0], &[]))
        .bad("gather_nd", at("GatherND", &[1, 2], &[1, 3], &[]))
        .bad("gather_nd_too_deep", at("GatherND", &[1, 3], &[0, 0, 0], &[]))
        .bad("gather_nd_batch_dims", at("GatherND", &[1, 2], &[0, 0], &[int("batch_dims", 9)]))
        .bad("scatter_nd", scatter("ScatterND", &[1, 1], &[7], f32s(&[1, 3], &[0.0; 3])))
        .bad("scatter_nd_updates", scatter("ScatterND", &[1, 1], &[0], f32s(&[1], &[0.0])))
        .bad("scatter_elements", scatter("ScatterElements", &[1, 1], &[-9], f32s(&[1, 1], &[0.0])))
        .bad("reverse_sequence", {
            let g = x().init("n", i64s(&[9, 9, 9]));
            g.node("ReverseSequence", "x n", "y", &[]).output("y", F32)
        })
        .bad(
            "top_k_too_many",
            x().init("k", i64s(&[9])).node("TopK", "x k", "y i", &[]).output("y", F32),
        )
        .bad("top_k_negative", {
            x().init("k", i64s(&[-1])).node("TopK", "x k", "y i", &[]).output("y", F32)
        })
        .odd("compress_too_long", {
            let g = x().init("c", crate::proto::bools(&[1; 100]));
            g.node("Compress", "x c", "y", &[int("axis", 0)]).output("y", F32)
        })
}

fn integers() -> Class {
    let of = |op: &str, a: i64, b: i64| {
        let g = Graph::new().init("a", i64s(&[a])).init("b", i64s(&[b]));
        g.node(op, "a b", "y", &[]).output("y", I64)
    };
    let unary = |op: &str| {
        let g = Graph::new().init("a", i64s(&[i64::MIN]));
        g.node(op, "a", "y", &[]).output("y", I64)
    };
    let shift = |by: u64| {
        let g =
            Graph::new().init("a", bare(12, &[1]).int(5, 1)).init("b", bare(12, &[1]).int(5, by));
        g.node("BitShift", "a b", "y", &[text("direction", "LEFT")]).output("y", 12)
    };
    Class::new("integers")
        .odd("divide_by_zero", of("Div", 1, 0))
        .odd("divide_overflows", of("Div", i64::MIN, -1))
        .odd("mod_zero", of("Mod", 1, 0))
        .odd("mod_overflows", of("Mod", i64::MIN, -1))
        .odd("add_overflows", of("Add", i64::MAX, 1))
        .odd("mul_overflows", of("Mul", i64::MAX, 2))
        .odd("pow_negative", of("Pow", 0, -1))
        .odd("pow_huge", of("Pow", 3, i64::MAX))
        .odd("abs_overflows", unary("Abs"))
        .odd("neg_overflows", unary("Neg"))
        .odd("shift_too_far", shift(255))
}

fn slices() -> Class {
    let of = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        let g = x().init("s", i64s(starts)).init("e", i64s(ends)).init("a", i64s(axes));
        g.init("t", i64s(steps)).node("Slice", "x s e a t", "y", &[]).output("y", F32)
    };
    let split = |sizes: &[i64]| {
        let g = x().init("s", i64s(sizes));
        g.node("Split", "x s", "y z", &[int("axis", 1)]).output("y", F32)
    };
    Class::new("slices")
        .odd("step_most_negative", of(&[1], &[i64::MIN], &[0], &[i64::MIN]))
        .odd("step_most_positive", of(&[0], &[i64::MAX], &[0], &[i64::MAX]))
        .odd("ends_most_extreme", of(&[i64::MIN], &[i64::MAX], &[0], &[1]))
        .bad("step_zero", of(&[0], &[1], &[0], &[0]))
        .bad("axis_out_of_range", of(&[0], &[1], &[7], &[1]))
        .odd("axis_twice", of(&[0, 0], &[1, 1], &[0, 0], &[1, 1]))
        .bad("lengths_differ", of(&[0, 0], &[1], &[0], &[1]))
        .bad("split_too_much", split(&[2, 9]))
        .bad("split_negative", split(&[-1, 4]))
        .bad("split_wraps", split(&[i64::MAX, i64::MIN + 4]))
        .bad("split_into_zero", {
            x().node("Split", "x", "y", &[int("num_outputs", 0)]).output("y", F32)
        })
}

fn orders() -> Class {
    let transpose = |perm: &[i64]| x().node("Transpose", "x", "y", &[ints("perm", perm)]);
    let axes = |op: &str, axes: &[i64]| x().init("a", i64s(axes)).node(op, "x a", "y", &[]);
    let many: Vec<i64> = (0..100_000).collect();
    Class::new("orders")
        .bad("perm_out_of_range", transpose(&[0, 2]).output("y", F32))
        .bad("perm_twice", transpose(&[0, 0]).output("y", F32))
        .odd("perm_negative", transpose(&[-1, 0]).output("y", F32))
        .bad("perm_too_short", transpose(&[0]).output("y", F32))
        .bad("perm_too_long", transpose(&[0, 1, 2]).output("y", F32))
        .bad("squeeze_not_one", axes("Squeeze", &[0]).output("y", F32))
        .bad("squeeze_out_of_range", axes("Squeeze", &[i64::MAX]).output("y", F32))
        .bad("unsqueeze_twice", axes("Unsqueeze", &[0, 0]).output("y", F32))
        .bad("unsqueeze_far", axes("Unsqueeze", &[1 << 40]).output("y", F32))
        .odd("unsqueeze_100000_times", axes("Unsqueeze", &many).output("y", F32))
        .bad("reduce_out_of_range", axes("ReduceSum", &[4]).output("y", F32))
        .bad("reduce_most_negative", axes("ReduceMax", &[i64::MIN]).output("y", F32))
        .bad("cumsum_axis", {
            x().init("a", i64_scalar(9)).node("CumSum", "x a", "y", &[]).output("y", F32)
        })
        .bad("argmax_axis", x().node("ArgMax", "x", "y", &[int("axis", -9)]).output("y", I64))
        .odd(
            "trilu_far",
            x().init("k", i64_scalar(i64::MIN)).node("Trilu", "x k", "y", &[]).output("y", F32),
        )
        .bad("flatten_axis", x().node("Flatten", "x", "y", &[int("axis", 3)]).output("y", F32))
}

fn patterns() -> Class {
    let einsum = |equation: &str| x().node("Einsum", "x x", "y", &[text("equation", equation)]);
    let regex = |pattern: &str| {
        let g = Graph::new().init("s", strings(&[&[b'a'; 4000]]));
        g.node("RegexFullMatch", "s", "y", &[text("pattern", pattern)]).output("y", 9)
    };
    let normalize = |locale: &str| {
        let g = Graph::new().init("s", strings(&[b"a", b"b"]));
        let attrs = [text("locale", locale), text("case_change_action", "UPSIDE")];
        g.node("StringNormalizer", "s", "y", &attrs).output("y", STRING)
    };
    Class::new("patterns")
        .bad("einsum_junk", einsum("ij,jk-?>ik").output("y", F32))
        .bad("einsum_too_many_terms", einsum("ij,jk,kl->il").output("y", F32))
        .bad("einsum_unknown_output", einsum("ij,ij->z").output("y", F32))
        .bad("einsum_wrong_rank", einsum("ijk,ij->i").output("y", F32))
        .bad("einsum_mismatch", einsum("ij,jk->ik").output("y", F32))
        .bad("einsum_empty", einsum("").output("y", F32))
        .bad("regex_open", regex("(a"))
        .bad("regex_huge", regex("((a{1000}){1000}){1000}"))
        .odd("regex_backtracks", regex("(a*)*b"))
        .bad("regex_deep", regex(&"(".repeat(100_000)))
        .bad("normalizer_action", normalize("nowhere"))
        .bad("image_decoder", {
            let bytes = crate::proto::raw(2, &[4], b"\xFF\xD8\xFF\x00");
            Graph::new().init("b", bytes).node("ImageDecoder", "b", "y", &[]).output("y", 2)
        })
}

fn quantised() -> Class {
    let u8s = || crate::proto::raw(2, &[2, 3], &[1, 2, 3, 4, 5, 6]);
    let of = |scale: Message, attributes: &[Message]| {
        let g = Graph::new().init("q", u8s()).init("s", scale);
        g.node("DequantizeLinear", "q s", "y", attributes).output("y", F32)
    };
    let three = || f32s(&[3], &[1.0; 3]);
    Class::new("quantised")
        .bad("scale_length", of(f32s(&[5], &[1.0; 5]), &[int("axis", 1)]))
        .bad("axis_out_of_range", of(three(), &[int("axis", 4)]))
        .bad("block_negative", of(f32s(&[2, 3], &[1.0; 6]), &[int("block_size", -1)]))
        .bad("block_huge", of(f32s(&[9, 9], &[1.0; 81]), &[int("block_size", i64::MAX)]))
        .odd("scale_zero", of(f32s(&[], &[0.0]), &[]))
        .bad("matmul_zero_point", {
            let square = crate::proto::raw(2, &[2, 2], &[1; 4]);
            let g = Graph::new().init("q", square).init("z", crate::proto::raw(2, &[7], &[0; 7]));
            g.node("MatMulInteger", "q q z", "y", &[]).output("y", 6)
        })
}

fn broadcasts() -> Class {
    let pair = |a: &[i64], b: &[i64], op: &str| {
        let zeros = |dims: &[i64]| f32s(dims, &vec![0.0; dims.iter().product::<i64>() as usize]);
        let g = Graph::new().init("a", zeros(a)).init("b", zeros(b));
        g.node(op, "a b", "y", &[]).output("y", F32)
    };
    let matmul = |n: i64| pair(&[n, 1], &[1, n], "MatMul");
    Class::new("broadcasts")
        .bad("add", pair(&[2, 3], &[4], "Add"))
        .bad("matmul", pair(&[2, 3], &[2, 3], "MatMul"))
        .bad("matmul_scalar", pair(&[], &[2], "MatMul"))
        .bad("outer_sum_of_2_to_34", pair(&[1 << 17, 1], &[1, 1 << 17], "Add"))
        .bad("outer_product_of_2_to_34", matmul(1 << 17))
        .bad("concat", {
            let g = x().init("z", f32s(&[1, 1], &[0.0]));
            g.node("Concat", "x z", "y", &[int("axis", 0)]).output("y", F32)
        })
        .bad("mixed_types", x().init("i", i64s(&[1])).node("Add", "x i", "y", &[]).output("y", F32))
        .bad("strings_added", {
            let g = Graph::new().init("s", strings(&[b"a"]));
            g.node("Add", "s s", "y", &[]).output("y", STRING)
        })
}

fn sequences() -> Class {
    let two = || x().node("SequenceConstruct", "x x", "s", &[]);
    let at = |op: &str, i: i64| two().init("i", i64_scalar(i)).node(op, "s i", "y", &[]);
    Class::new("sequences")
        .bad("at_out_of_range", at("SequenceAt", 2).output("y", F32))
        .bad("at_most_negative", at("SequenceAt", i64::MIN).output("y", F32))
        .bad(
            "erase_out_of_range",
            at("SequenceErase", -9).node("SequenceLength", "y", "n", &[]).output("n", I64),
        )
        .bad("concat_axis", {
            two().node("ConcatFromSequence", "s", "y", &[int("axis", 9)]).output("y", F32)
        })
        .bad("split_zero", {
            let g = x().init("n", i64_scalar(0)).node("SplitToSequence", "x n", "s", &[]);
            g.node("SequenceLength", "s", "y", &[]).output("y", I64)
        })
        .bad("sequence_as_tensor", two().node("Relu", "s", "y", &[]).output("y", F32))
        .bad("tensor_as_sequence", x().node("SequenceLength", "x", "y", &[]).output("y", I64))
        .bad("optional_empty", {
            let kind = Message::default().message(1, &Message::default().int(1, F32));
            let attribute = Message::default().text(1, "type").message(14, &kind).int(20, 13);
            let g = Graph::new().node("Optional", "", "o", &[attribute]);
            g.node("OptionalGetElement", "o", "y", &[]).output("y", F32)
        })
}
