//! Files that are no protobuf, or not quite.

use super::{Class, Expect};
use crate::proto::{F32, Graph, Message, bare, f32s, raw, strings, value};

pub fn classes() -> Vec<Class> {
    vec![truncated(), lengths(), groups(), noise(), initializers(), utf8(), types()]
}

/// A model without a fault.
fn sound() -> Graph {
    Graph::new()
        .input("x", F32, &[2, 3])
        .init("w", f32s(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
        .node("MatMul", "x w", "h", &[])
        .node("Relu", "h", "y", &[])
        .output("y", F32)
}

fn truncated() -> Class {
    let whole = sound().model();
    let class = Class::new("truncated").bytes("0", Expect::Error, vec![]);
    (1..whole.len()).step_by(9).fold(class, |class, cut| {
        class.bytes(cut.to_string(), Expect::Error, whole[..cut].to_vec())
    })
}

fn lengths() -> Class {
    let field = |bytes: &[u8]| {
        let mut model = Message::default().int(1, 10).0;
        model.extend(bytes);
        model
    };
    let endless = [&[0x3a][..], &[0xFF; 32]].concat();
    Class::new("lengths")
        .bytes("past_the_end", Expect::Error, field(&[0x3a, 0x7F, 0, 0]))
        .bytes("two_to_63", Expect::Error, field(b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"))
        .bytes("all_ones", Expect::Error, field(b"\x3a\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"))
        .bytes("endless_varint", Expect::Error, field(&endless))
        .bytes("wire_type_7", Expect::Error, field(&[0x3f, 1, 2, 3]))
        .bytes("field_zero", Expect::Error, field(&[0x02, 0]))
        .bytes("graph_is_a_number", Expect::Error, field(&[0x38, 5]))
        .bytes("graph_is_text", Expect::Error, Message::default().text(7, "no graph").0)
}

fn groups() -> Class {
    let flood = |n: usize| [&Message::default().int(1, 10).0[..], &vec![0x0b; n]].concat();
    let balanced = |n: usize| {
        let mut model = vec![0x7b; n];
        model.extend(vec![0x7c; n]);
        model
    };
    Class::new("groups")
        .bytes("open_1000", Expect::Error, flood(1000))
        .bytes("open_million", Expect::Error, flood(1_000_000))
        .bytes("balanced_million", Expect::Error, balanced(500_000))
        .bytes("closed_first", Expect::Error, vec![0x0c; 100])
}

fn noise() -> Class {
    let random = |seed: u64, n: usize| {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..n).map(|_| next()).collect::<Vec<u8>>()
    };
    let class = (1..=6).fold(Class::new("noise"), |class, seed| {
        class.bytes(format!("seed_{seed}"), Expect::Error, random(seed, 100 << seed))
    });
    let whole = sound().model();
    (0..whole.len()).step_by(16).fold(class, |class, at| {
        let mut model = whole.clone();
        model[at] ^= 0xA5;
        class.bytes(format!("flip_{at}"), Expect::ErrorOrOk, model)
    })
}

fn initializers() -> Class {
    let with = |w| Graph::new().init("w", w).node("Relu", "w", "y", &[]).output("y", F32);
    Class::new("initializers")
        .bad("product_overflows", with(raw(F32, &[1 << 40, 1 << 40], &[0; 8])))
        .bad("product_wraps_to_two", with(raw(F32, &[1 << 32, 1 << 32, 2], &[0; 8])))
        .bad("huge_and_empty", with(bare(F32, &[1 << 62])))
        .bad("large_and_empty", with(bare(F32, &[1 << 33])))
        .bad("negative", with(raw(F32, &[-1, 2], &[0; 8])))
        .bad("most_negative", with(raw(F32, &[i64::MIN], &[])))
        .bad("raw_too_short", with(raw(F32, &[4], &[0; 7])))
        .bad("raw_too_long", with(raw(F32, &[1], &[0; 9])))
        .bad("data_too_short", with(f32s(&[3], &[1.0])))
        .bad("unknown_dtype", with(raw(999, &[1], &[0; 4])))
        .bad("dtype_undefined", with(raw(0, &[1], &[0; 4])))
        .odd("zero_times_huge", with(raw(F32, &[0, i64::MAX], &[])))
        .odd("rank_5000", with(raw(F32, &[1; 5000], &[0; 4])))
        .bad("rank_5000_of_twos", with(raw(F32, &[2; 5000], &[0; 4])))
}

fn utf8() -> Class {
    let bad_name = Message::default().bytes(1, b"\xFF\xFE").text(2, "y").text(4, "Relu");
    let named = Graph(Graph::new().input("x", F32, &[1]).0.message(1, &bad_name)).output("y", F32);
    let texts = Graph::new()
        .init("s", strings(&[b"\xFF\xFE", b"\xED\xA0\x80"]))
        .node("Identity", "s", "y", &[])
        .output("y", 8);
    Class::new("utf8").bad("node_input", named).odd("string_tensor", texts)
}

fn types() -> Class {
    let nested = |depth: usize| {
        let leaf = Message::default().message(1, &Message::default().int(1, F32));
        let wrap = |inner: Message, _| {
            Message::default().message(4, &Message::default().message(1, &inner))
        };
        let kind = (0..depth).fold(leaf, wrap);
        let info = Message::default().text(1, "x").message(2, &kind);
        Graph(Graph::new().0.message(11, &info)).node("Identity", "x", "y", &[]).output("y", F32)
    };
    let untyped = Graph(Graph::new().0.message(11, &Message::default().text(1, "x")));
    let negative = Graph(Graph::new().0.message(11, &value("x", F32, &[-5])));
    let huge = Graph::new().input("x", F32, &[1 << 40, 1 << 40]);
    let relu = |g: Graph| g.node("Relu", "x", "y", &[]).output("y", F32);
    Class::new("types")
        .bad("sequences_1000_deep", nested(1000))
        .odd("sequences_20_deep", nested(20))
        .odd("no_type", relu(untyped))
        .odd("negative_length", relu(negative))
        .bad("input_of_2_to_80", relu(huge))
        .bad("input_of_2_to_40", relu(Graph::new().input("x", F32, &[1 << 40])))
}
