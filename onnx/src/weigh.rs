//! How much memory a message takes once it is decoded, found without decoding it.
//!
//! Two bytes can say "one more empty node", which takes hundreds in memory: a file of a few
//! hundred megabytes could ask for more than a machine has. Real models take less than
//! [`FACTOR`] times their file, so more than that is refused before anything is allocated.

use kiln_ir::{Error, Result};
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::proto::tensor_proto::Segment;
use crate::proto::tensor_shape_proto::Dimension;
use crate::proto::{self, type_proto};

/// What decoding may take for each byte of the file.
const FACTOR: u64 = 32;
/// What any file may take, so that small ones need no weighing.
const FREE: u64 = 256 << 20;
/// Where prost stops too.
const DEPTH: usize = 100;
/// `String` or `Bytes`, whichever is larger.
const LEAF: u64 = size_of::<bytes::Bytes>() as u64;

macro_rules! messages {
    ($($name:ident($of:ty) { $($tag:literal $child:ident),* $(,)? })*) => {
        /// The messages of ONNX.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Kind { $(#[allow(missing_docs)] $name,)* }

        impl Kind {
            /// Bytes of the message itself, in the list that holds it.
            fn size(self) -> u64 {
                match self { $(Kind::$name => size_of::<$of>() as u64,)* }
            }

            /// The message that field `tag` holds; none if it holds something else.
            fn child(self, tag: u32) -> Option<Kind> {
                match (self, tag) {
                    $($((Kind::$name, $tag) => Some(Kind::$child),)*)*
                    _ => None,
                }
            }
        }

        /// The most bytes that one entry takes.
        const LARGEST: u64 = {
            let sizes = [$(size_of::<$of>()),*];
            let (mut i, mut most) = (0, 0);
            while i < sizes.len() {
                most = if sizes[i] > most { sizes[i] } else { most };
                i += 1;
            }
            most as u64
        };

        #[cfg(test)]
        const TABLE: &[(&str, &[u32])] = &[$((stringify!($of), &[$($tag),*]),)*];
    };
}

messages! {
    Model(proto::ModelProto) { 7 Graph, 8 Opset, 14 Entry, 20 Training, 25 Function, 26 Devices }
    Graph(proto::GraphProto) {
        1 Node, 5 Tensor, 11 ValueInfo, 12 ValueInfo, 13 ValueInfo, 14 Annotation, 15 Sparse,
        16 Entry,
    }
    Node(proto::NodeProto) { 5 Attribute, 9 Entry, 10 NodeDevice }
    Attribute(proto::AttributeProto) {
        5 Tensor, 6 Graph, 10 Tensor, 11 Graph, 14 Type, 15 Type, 22 Sparse, 23 Sparse,
    }
    Function(proto::FunctionProto) { 7 Node, 9 Opset, 11 Attribute, 12 ValueInfo, 14 Entry }
    Training(proto::TrainingInfoProto) { 1 Graph, 2 Graph, 3 Entry, 4 Entry }
    ValueInfo(proto::ValueInfoProto) { 2 Type, 4 Entry }
    Annotation(proto::TensorAnnotation) { 2 Entry }
    Entry(proto::StringStringEntryProto) {}
    Opset(proto::OperatorSetIdProto) {}
    Tensor(proto::TensorProto) { 3 Segment, 13 Entry, 16 Entry }
    Segment(Segment) {}
    Sparse(proto::SparseTensorProto) { 1 Tensor, 2 Tensor }
    Type(proto::TypeProto) {
        1 TensorType, 4 SequenceType, 5 MapType, 7 OpaqueType, 8 SparseType, 9 OptionalType,
    }
    TensorType(type_proto::Tensor) { 2 Shape }
    SparseType(type_proto::SparseTensor) { 2 Shape }
    SequenceType(type_proto::Sequence) { 1 Type }
    OptionalType(type_proto::Optional) { 1 Type }
    MapType(type_proto::Map) { 2 Type }
    OpaqueType(type_proto::Opaque) {}
    Shape(proto::TensorShapeProto) { 1 Dim }
    Dim(Dimension) {}
    Devices(proto::DeviceConfigurationProto) {}
    NodeDevice(proto::NodeDeviceConfigurationProto) { 2 Sharding }
    Sharding(proto::ShardingSpecProto) { 3 Group, 4 ShardedDim }
    Group(proto::IntIntListEntryProto) {}
    ShardedDim(proto::ShardedDimProto) { 2 SimpleDim }
    SimpleDim(proto::SimpleShardedDimProto) {}
    Sequence(proto::SequenceProto) { 3 Tensor, 4 Sparse, 5 Sequence, 6 Map, 7 Optional }
    Map(proto::MapProto) { 5 Sequence }
    Optional(proto::OptionalProto) { 3 Tensor, 4 Sparse, 5 Sequence, 6 Map, 7 Optional }
}

/// Refuses messages that would take far more memory than their bytes. Malformed ones pass: that
/// is for the decoder to tell.
pub fn check(bytes: &[u8], kind: Kind) -> Result<()> {
    let len = bytes.len() as u64;
    let allowed = FREE.max(len.saturating_mul(FACTOR));
    // An entry has two bytes at least.
    if len.saturating_mul(LARGEST / 2) <= allowed {
        return Ok(());
    }
    let mut left = allowed;
    if weigh(bytes, kind, DEPTH, &mut left) != Some(Over) {
        return Ok(());
    }
    Err(Error::limit(
        "model-bytes",
        format!("the file has {len} bytes and takes more than {allowed} in memory"),
    )
    .help("check that the file is what it should be: it consists of empty entries"))
}

#[derive(Debug, PartialEq)]
struct Over;

/// Takes the weight of the message from `left`; `Some` if there is not enough.
fn weigh(mut bytes: &[u8], kind: Kind, depth: usize, left: &mut u64) -> Option<Over> {
    while let Ok((tag, wire)) = decode_key(&mut bytes) {
        let skip = match wire {
            WireType::Varint => decode_varint(&mut bytes).ok().map(|_| 0),
            WireType::ThirtyTwoBit => Some(4),
            WireType::SixtyFourBit => Some(8),
            WireType::LengthDelimited => decode_varint(&mut bytes).ok(),
            // What is in a group is unknown to the decoder too.
            WireType::StartGroup | WireType::EndGroup => Some(0),
        };
        let skip = usize::try_from(skip?).ok()?;
        let (body, rest) = bytes.split_at_checked(skip)?;
        bytes = rest;
        if wire != WireType::LengthDelimited {
            continue;
        }
        let child = kind.child(tag);
        let Some(enough) = left.checked_sub(child.map_or(LEAF, Kind::size)) else {
            return Some(Over);
        };
        *left = enough;
        if let Some(child) = child
            && depth > 0
            && let Some(over) = weigh(body, child, depth - 1, left)
        {
            return Some(over);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;
    use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

    fn weight(bytes: &[u8]) -> u64 {
        let mut left = u64::MAX;
        assert_eq!(weigh(bytes, Kind::Model, DEPTH, &mut left), None);
        u64::MAX - left
    }

    /// The message fields of each struct and oneof in the generated code.
    fn generated() -> BTreeMap<String, Vec<u32>> {
        let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let mut owner = String::new();
        for line in include_str!("proto.rs").lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("pub struct ") {
                owner = name.trim_end_matches(" {").into();
                found.entry(owner.clone()).or_default();
            } else if line == "pub enum Value {" && owner == "Opaque" {
                owner = "TypeProto".into();
            } else if line.starts_with("#[prost(message") {
                let tag = line.split('"').nth(1).expect("a tag");
                found.entry(owner.clone()).or_default().push(tag.parse().expect("a number"));
            }
        }
        found.values_mut().for_each(|tags| tags.sort_unstable());
        found
    }

    #[test]
    fn the_table_has_every_message_field() {
        let table = TABLE.iter().map(|&(name, tags)| {
            let name = name.rsplit("::").next().expect("a name").trim().to_owned();
            let mut tags = tags.to_vec();
            tags.sort_unstable();
            (name, tags)
        });
        assert_eq!(table.collect::<BTreeMap<_, _>>(), generated());
    }

    #[test]
    fn entries_and_texts_weigh_what_they_take() {
        let attribute = AttributeProto {
            name: Some("axis".into()),
            t: Some(Box::new(TensorProto::default())),
            ..Default::default()
        };
        let node = NodeProto { attribute: vec![attribute], ..Default::default() };
        let graph = GraphProto { node: vec![node.clone(), node], ..Default::default() };
        let model = ModelProto { graph: Some(graph), ..Default::default() };
        let each = Kind::Node.size() + Kind::Attribute.size() + LEAF + Kind::Tensor.size();
        assert_eq!(weight(&model.encode_to_vec()), Kind::Graph.size() + 2 * each);
        assert_eq!(weight(b"\x0a"), 0);
    }

    #[test]
    fn a_bomb_is_refused_and_data_is_not() {
        let inside = |field: u8, body: &[u8]| {
            let mut all = vec![field << 3 | 2];
            prost::encoding::encode_varint(body.len() as u64, &mut all);
            [&all, body].concat()
        };
        let nodes = [0x0a, 0].repeat(5 << 20);
        let attributes = inside(1, &[0x2a, 0].repeat(5 << 20));
        for graph in [nodes, attributes] {
            let bomb = inside(7, &graph);
            let error = check(&bomb, Kind::Model).expect_err("a bomb");
            assert!(error.to_string().contains("takes more than"), "{error}");
        }
        let tensor = TensorProto { raw_data: Some(vec![0; 10 << 20].into()), ..Default::default() };
        let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
        let model = ModelProto { graph: Some(graph), ..Default::default() };
        assert!(check(&model.encode_to_vec(), Kind::Model).is_ok());
    }
}
