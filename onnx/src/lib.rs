//! kiln-onnx
