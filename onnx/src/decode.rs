//! Bytes -> [`ModelProto`]: is it a model, and of a version kiln knows?
//!
//! Raw tensor data stays a slice of the bytes given, so a mapped file is not copied.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use kiln_ir::{Error, Limits, Result};
use prost::Message;

use crate::proto::{ModelProto, OperatorSetIdProto, Version};
use crate::{file, weigh};

/// The first IR version that was released; it brought the opset imports.
const OLDEST_IR: i64 = Version::IrVersion2017113 as i64;
const NEWEST_IR: i64 = Version::IrVersion as i64;

/// Files of at least this many bytes are mapped instead of read.
const MAP_FROM: u64 = 64 << 20;

/// The newest opset of each domain that the ONNX project defines.
pub const NEWEST_OPSETS: [(&str, i64); 5] = [
    ("", 28),
    ("ai.onnx.ml", 5),
    ("ai.onnx.preview", 1),
    ("ai.onnx.preview.training", 1),
    ("ai.onnx.training", 1),
];

/// Reads the model at `path`; large files are mapped, so they must not be changed while it is used.
///
/// # Errors
/// If the file cannot be read, is larger than `limits.model_bytes`, or [`decode`] refuses it.
pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<ModelProto> {
    let path = path.as_ref();
    decode(read(path, limits)?, limits)
}

fn read(path: &Path, limits: &Limits) -> Result<Bytes> {
    let failed = |e| Error::io(path, &e);
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(Error::invalid(format!("{} is a folder", path.display()))
            .help("give the path of the .onnx file in it"));
    }
    if meta.is_file() {
        check_len(meta.len(), limits)?;
        return file::contents(file, meta.len(), MAP_FROM).map_err(failed);
    }
    // A pipe or a terminal has no length: read one byte more than allowed, to see that it is more.
    let mut bytes = Vec::new();
    file.take(limits.model_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

/// Decodes a serialized `ModelProto` and checks that it is a model: a graph, a known IR version and
/// opset imports of known versions. The graph itself is not looked at.
///
/// # Errors
/// *limit* if there are more than `limits.model_bytes` bytes, *unsupported* if the model is of a
/// version newer than kiln, *invalid* if it is no model.
pub fn decode(bytes: Bytes, limits: &Limits) -> Result<ModelProto> {
    check_len(bytes.len() as u64, limits)?;
    refuse_other_formats(&bytes)?;
    weigh::check(&bytes, weigh::Kind::Model)?;
    let model = ModelProto::decode(bytes).map_err(|e| {
        Error::invalid(format!("not an ONNX model: {}", briefly(&e.to_string())))
            .help("check that the file is a complete .onnx file")
    })?;
    check_model(&model)?;
    Ok(model)
}

/// A decoder's error without the middle of the path to its place, one field of which can repeat.
pub(crate) fn briefly(error: &str) -> String {
    let parts: Vec<_> = error.split(": ").collect();
    match &parts[..] {
        [first, second, _, .., place, cause] if parts.len() > 6 => {
            [first, second, "…", place, cause].join(": ")
        }
        _ => error.to_owned(),
    }
}

fn check_len(len: u64, limits: &Limits) -> Result<()> {
    if len <= limits.model_bytes {
        return Ok(());
    }
    let limit = limits.model_bytes;
    let message = format!("the model is larger than the limit of {limit} bytes");
    Err(Error::limit("model-bytes", message))
}

/// Files that are often given instead of a model, told by their first bytes.
fn refuse_other_formats(bytes: &[u8]) -> Result<()> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let (what, help) = if bytes.is_empty() {
        ("an empty file", "give the path of an .onnx file")
    } else if starts(b"version https://git-lfs") {
        ("a Git LFS pointer, not the model itself", "fetch the model with `git lfs pull`")
    } else if starts(b"PK\x03\x04") || starts(b"\x1f\x8b") {
        ("a compressed archive", "unpack the .onnx file first")
    } else if starts(b"<!DOCTYPE") || starts(b"<html") {
        ("a web page", "download the .onnx file itself")
    } else if bytes.get(4..8) == Some(b"ORTM") {
        ("a model in ONNX Runtime's own format", "give the .onnx file that it was made from")
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("not an ONNX model: it is {what}")).help(help))
}

fn check_model(model: &ModelProto) -> Result<()> {
    let Some(ir) = model.ir_version else {
        return Err(Error::invalid("not an ONNX model: it has no ir_version")
            .help("check that the file is a model and not a tensor"));
    };
    if model.graph.is_none() {
        return Err(Error::invalid("the model has no graph"));
    }
    check_ir(ir)?;
    if model.opset_import.is_empty() {
        return Err(Error::invalid("the model imports no opset")
            .help("add an opset_import entry for each domain its nodes use"));
    }
    check_opsets(&model.opset_import, "the model")?;
    for function in &model.functions {
        let owner = format!("function `{}`", function.name());
        check_opsets(&function.opset_import, &owner)?;
    }
    Ok(())
}

fn check_ir(ir: i64) -> Result<()> {
    if ir <= 0 {
        return Err(Error::invalid(format!("ir_version is {ir}, it must be positive")));
    }
    if ir < OLDEST_IR {
        return Err(Error::unsupported(format!(
            "the model has IR version {ir}; the oldest kiln reads is {OLDEST_IR}"
        ))
        .help("convert the model with onnx.version_converter"));
    }
    if ir > NEWEST_IR {
        return Err(Error::unsupported(format!(
            "the model has IR version {ir}; the newest kiln reads is {NEWEST_IR}"
        ))
        .help("export the model for an older version"));
    }
    Ok(())
}

fn check_opsets(imports: &[OperatorSetIdProto], owner: &str) -> Result<()> {
    let mut seen = BTreeMap::new();
    for import in imports {
        let (domain, version) = (canonical_domain(import.domain()), import.version());
        let shown = if domain.is_empty() { "ai.onnx" } else { domain };
        if version <= 0 {
            return Err(Error::invalid(format!(
                "{owner} imports opset {version} of `{shown}`, it must be positive"
            )));
        }
        if let Some(other) = seen.insert(domain, version).filter(|&other| other != version) {
            return Err(Error::invalid(format!(
                "{owner} imports two opsets of `{shown}`, {other} and {version}"
            )));
        }
        if let Some(newest) = newest_opset(domain).filter(|&newest| version > newest) {
            return Err(Error::unsupported(format!(
                "{owner} imports opset {version} of `{shown}`; the newest kiln knows is {newest}"
            ))
            .help("export the model for an older opset"));
        }
    }
    Ok(())
}

/// The default operator domain has two spellings, `""` and `"ai.onnx"`; this gives the first.
pub fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The newest opset of `domain`, or `None` if the ONNX project does not define the domain.
pub fn newest_opset(domain: &str) -> Option<i64> {
    let domain = canonical_domain(domain);
    NEWEST_OPSETS.iter().find(|(known, _)| *known == domain).map(|&(_, newest)| newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto};

    fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
        OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
    }

    fn model() -> ModelProto {
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![opset("", 17)],
            graph: Some(GraphProto::default()),
            ..Default::default()
        }
    }

    fn decoded(model: &ModelProto) -> Result<ModelProto> {
        decode(model.encode_to_vec().into(), &Limits::default())
    }

    fn message(result: Result<ModelProto>) -> String {
        let error = result.expect_err("an error");
        format!("{error}; {}", error.remedy().unwrap_or_default())
    }

    #[test]
    fn models_of_known_versions_pass() {
        let cases = [
            model(),
            ModelProto { ir_version: Some(3), ..model() },
            ModelProto { ir_version: Some(14), ..model() },
            ModelProto { opset_import: vec![opset("ai.onnx", 28)], ..model() },
            ModelProto { opset_import: vec![opset("", 9), opset("ai.onnx", 9)], ..model() },
            ModelProto { opset_import: vec![opset("ai.onnx.ml", 5)], ..model() },
            ModelProto { opset_import: vec![opset("my.company", 999)], ..model() },
        ];
        for case in cases {
            assert_eq!(decoded(&case).expect("a model"), case);
        }
    }

    #[test]
    fn wrong_models_say_why() {
        let function = FunctionProto {
            name: Some("f".into()),
            opset_import: vec![opset("", 99)],
            ..Default::default()
        };
        let cases = [
            (ModelProto { ir_version: None, ..model() }, "no ir_version"),
            (ModelProto { ir_version: Some(-1), ..model() }, "must be positive"),
            (ModelProto { ir_version: Some(2), ..model() }, "oldest kiln reads is 3"),
            (ModelProto { ir_version: Some(15), ..model() }, "newest kiln reads is 14"),
            (ModelProto { graph: None, ..model() }, "no graph"),
            (ModelProto { opset_import: vec![], ..model() }, "imports no opset"),
            (
                ModelProto { opset_import: vec![opset("", 29)], ..model() },
                "opset 29 of `ai.onnx`; the newest kiln knows is 28",
            ),
            (
                ModelProto { opset_import: vec![opset("ai.onnx.ml", 6)], ..model() },
                "opset 6 of `ai.onnx.ml`; the newest kiln knows is 5",
            ),
            (ModelProto { opset_import: vec![opset("", 0)], ..model() }, "must be positive"),
            (
                ModelProto { opset_import: vec![opset("", 9), opset("ai.onnx", 10)], ..model() },
                "two opsets of `ai.onnx`, 9 and 10",
            ),
            (ModelProto { functions: vec![function], ..model() }, "function `f` imports opset 99"),
        ];
        for (case, why) in cases {
            let got = message(decoded(&case));
            assert!(got.contains(why), "{got:?} lacks {why:?}");
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "empty file"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
            (b"PK\x03\x04\0\0", "archive"),
            (b"\x1f\x8b\x08\0", "archive"),
            (b"<!DOCTYPE html>", "web page"),
            (b"\x10\0\0\0ORTM\0\0", "ONNX Runtime"),
            (b"\xff\xff\xff\xff", "not an ONNX model"),
            // A valid TensorProto: dims = [2], data_type = FLOAT.
            (b"\x08\x02\x10\x01", "not an ONNX model"),
        ];
        for (bytes, why) in cases {
            let got = message(decode(Bytes::from_static(bytes), &Limits::default()));
            assert!(got.contains(why), "{got:?} lacks {why:?}");
        }
    }

    #[test]
    fn no_truncation_is_the_model() {
        let bytes = Bytes::from(model().encode_to_vec());
        for end in 0..bytes.len() {
            let got = decode(bytes.slice(..end), &Limits::default()).ok();
            assert_ne!(got, Some(model()), "{end} bytes");
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let mut graph = GraphProto::default();
        for _ in 0..200 {
            let attribute = AttributeProto { g: Some(Box::new(graph)), ..Default::default() };
            let node = NodeProto { attribute: vec![attribute], ..Default::default() };
            graph = GraphProto { node: vec![node], ..Default::default() };
        }
        let deep = ModelProto { graph: Some(graph), ..model() };
        let got = message(decoded(&deep));
        assert!(got.contains("recursion limit"), "{got}");
        // Unknown groups nest without being messages: field 100, wire type 3, as a two-byte tag.
        let groups = [0xa3, 0x06].repeat(100_000);
        let got = message(decode(groups.into(), &Limits::default()));
        assert!(got.contains("recursion limit"), "{got}");
    }

    #[test]
    fn the_limit_is_on_bytes() {
        let bytes = Bytes::from(model().encode_to_vec());
        let at = |model_bytes| Limits { model_bytes, ..Default::default() };
        assert!(decode(bytes.clone(), &at(bytes.len() as u64)).is_ok());
        let got = message(decode(bytes.clone(), &at(bytes.len() as u64 - 1)));
        assert!(got.contains("model-bytes"), "{got}");
    }

    #[test]
    fn raw_data_is_not_copied_and_text_need_not_be_utf8() {
        let tensor = TensorProto {
            raw_data: Some(Bytes::from(vec![7; 4096])),
            doc_string: Some(Bytes::from_static(b"caf\xe9")),
            ..Default::default()
        };
        let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
        let bytes = Bytes::from(ModelProto { graph: Some(graph), ..model() }.encode_to_vec());
        let got = decode(bytes.clone(), &Limits::default()).expect("a model");
        let tensor = &got.graph.expect("a graph").initializer[0];
        let data = tensor.raw_data();
        assert_eq!(tensor.doc_string(), b"caf\xe9");
        assert!(bytes.as_ptr_range().contains(&data.as_ptr()), "the data was copied");
    }

    #[test]
    fn open_reads_files_and_names_what_it_cannot_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, model().encode_to_vec()).expect("a file");
        assert_eq!(open(&path, &Limits::default()).expect("a model"), model());
        let small = Limits { model_bytes: 3, ..Default::default() };
        assert!(message(open(&path, &small)).contains("limit of 3 bytes"));
        assert!(message(open(folder.path(), &Limits::default())).contains("is a folder"));
        let missing = message(open(folder.path().join("no.onnx"), &Limits::default()));
        assert!(missing.contains("no.onnx: No such file"), "{missing}");
        #[cfg(unix)]
        assert!(message(open("/dev/zero", &small)).contains("limit of 3 bytes"));
    }

    #[test]
    fn large_files_are_mapped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.onnx");
        let tensor = TensorProto { raw_data: Some(vec![1; 65 << 20].into()), ..Default::default() };
        let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
        let large = ModelProto { graph: Some(graph), ..model() };
        std::fs::write(&path, large.encode_to_vec()).expect("a file");
        assert!(open(&path, &Limits::default()).expect("a model") == large);
    }
}
