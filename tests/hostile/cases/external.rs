//! Weights in other files: outside the model's folder, not files, not long enough.

use super::{Beside, Class, Expect};
use crate::proto::{F32, Graph, Message, bare};

pub fn classes() -> Vec<Class> {
    vec![paths(), ranges()]
}

/// A model whose weight of four floats lies where `entries` say.
fn at(entries: &[(&str, &str)]) -> Vec<u8> {
    let weight = entries.iter().fold(bare(F32, &[4]), |m, (key, value)| {
        m.message(13, &Message::default().text(1, key).text(2, value))
    });
    let g = Graph::new().init("w", weight.int(14, 1)).node("Relu", "w", "y", &[]);
    g.output("y", F32).model()
}

fn location(path: &str) -> Vec<u8> {
    at(&[("location", path)])
}

/// Sixteen bytes that are there to be read, were it not for where they lie.
fn zeros(path: &str) -> Vec<u8> {
    at(&[("location", path), ("offset", "0"), ("length", "16")])
}

fn paths() -> Class {
    const UP: &str = "../../../../../../../../../../../../dev/zero";
    Class::new("external_paths")
        .bytes("parent", Expect::Error, zeros(UP))
        .bytes("parent_in_the_middle", Expect::Error, zeros(&format!("inside/{UP}")))
        .beside(Beside::Link("inside", "."))
        .bytes("absolute", Expect::Error, zeros("/dev/zero"))
        .bytes("link_out", Expect::Error, zeros("link"))
        .beside(Beside::Link("link", "/dev/zero"))
        .bytes("linked_folder", Expect::Error, zeros("up/zero"))
        .beside(Beside::Link("up", "/dev"))
        .bytes("endless_device", Expect::Error, location("/dev/zero"))
        .bytes("link_to_endless_device", Expect::Error, location("zero"))
        .beside(Beside::Link("zero", "/dev/zero"))
        .bytes("link_to_itself", Expect::Error, location("loop"))
        .beside(Beside::Link("loop", "loop"))
        .bytes("pipe", Expect::Error, location("pipe"))
        .beside(Beside::Fifo("pipe"))
        .bytes("backslashes", Expect::Error, location("..\\secret"))
        .bytes("nul_inside", Expect::Error, location("weights\0.bin"))
        .bytes("empty", Expect::Error, location(""))
        .bytes("the_folder_itself", Expect::Error, location("."))
        .bytes("no_location", Expect::Error, at(&[]))
        .bytes("missing_file", Expect::Error, location("nowhere.bin"))
}

fn ranges() -> Class {
    let range = |offset: &str, length: &str| {
        at(&[("location", "weights.bin"), ("offset", offset), ("length", length)])
    };
    let cases = [
        ("past_the_end", "8", "16"),
        ("offset_past_the_end", "4096", "16"),
        ("length_too_short", "0", "15"),
        ("length_too_long", "0", "17"),
        ("negative_offset", "-4", "16"),
        ("negative_length", "0", "-16"),
        ("sum_overflows", "18446744073709551600", "16"),
        ("no_number", "zero", "sixteen"),
        ("beyond_64_bits", "99999999999999999999999", "16"),
    ];
    cases.into_iter().fold(Class::new("external_ranges"), |class, (name, offset, length)| {
        let file = Beside::File("weights.bin", vec![0; 20]);
        class.bytes(name, Expect::Error, range(offset, length)).beside(file)
    })
}
