//! How much a model may ask for.

/// Upper bounds that hold while a model is read.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the model file, without its external data.
    pub model_bytes: u64,
    /// Bytes of one tensor in memory.
    pub tensor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { model_bytes: 2 << 30, tensor_bytes: 64 << 30 }
    }
}
