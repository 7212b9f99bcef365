//! `onnx/proto/*.proto` -> `onnx/src/proto.rs`, without a `protoc`.
//!
//! The text depends only on the `.proto` files and the locked versions of protox and prost-build.

use std::fs;
use std::path::{Path, PathBuf};

const FILES: [&str; 2] = ["onnx-ml.proto", "onnx-data.proto"];

/// Large and mostly absent: inline, they make every attribute five times its size.
const BOXED: [&str; 8] = [
    "AttributeProto.t",
    "AttributeProto.g",
    "AttributeProto.sparse_tensor",
    "AttributeProto.tp",
    "OptionalProto.tensor_value",
    "OptionalProto.sparse_tensor_value",
    "OptionalProto.sequence_value",
    "OptionalProto.map_value",
];

/// Regenerates the committed file.
pub fn write() -> Result<(), String> {
    let path = target();
    fs::write(&path, generate()?).map_err(|e| format!("{}: {e}", path.display()))
}

/// Fails if the committed file is not the regenerated one.
pub fn check() -> Result<(), String> {
    let path = target();
    let committed = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if committed == generate()? {
        return Ok(());
    }
    Err(format!("{} is stale; run `cargo run -p kiln-xtask -- proto`", path.display()))
}

fn onnx() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx")
}

fn target() -> PathBuf {
    onnx().join("src/proto.rs")
}

fn generate() -> Result<String, String> {
    let set = protox::compile(FILES, [onnx().join("proto")]).map_err(|e| e.to_string())?;
    let mut config = prost_build::Config::new();
    // Raw data then stays a slice of the file it came from; and the comments of the .proto files,
    // whose indented text rustdoc would run as tests, stay there.
    config.bytes(["."]).disable_comments(["."]);
    for field in BOXED {
        config.boxed(format!(".onnx.{field}"));
    }
    let module = prost_build::Module::from_protobuf_package_name("onnx");
    let requests = set.file.into_iter().map(|file| (module.clone(), file)).collect();
    let mut modules = config.generate(requests).map_err(|e| e.to_string())?;
    let body = modules.remove(&module).ok_or("prost-build wrote no module `onnx`")?;
    Ok(format!(
        "// Written by `cargo run -p kiln-xtask -- proto` from onnx/proto/*.proto; do not edit.\n\n\
         {body}"
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_file_is_the_regenerated_one() {
        assert_eq!(super::check(), Ok(()));
    }
}
