//! How much a model may ask for. On by default.

/// Bounds on what loading, optimizing and running one model may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the model file, external data not counted.
    pub model_bytes: u64,
    /// Bytes of one tensor.
    pub tensor_bytes: u64,
    /// Nodes of the graph after functions are inlined, bodies counted.
    pub nodes: usize,
    /// Depth of If/Loop/Scan bodies and of function calls.
    pub depth: usize,
    /// Bytes that constant folding may make of one node.
    pub fold_bytes: u64,
    /// Bytes that constant folding may make in all.
    pub fold_total_bytes: u64,
    /// Trips of one loop.
    pub loop_trips: u64,
    /// Bytes alive at once while a model runs.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            model_bytes: 8 << 30,
            tensor_bytes: 16 << 30,
            nodes: 1_000_000,
            depth: 64,
            fold_bytes: 16 << 20,
            fold_total_bytes: 256 << 20,
            loop_trips: 1 << 31,
            memory_bytes: 64 << 30,
        }
    }
}

impl Limits {
    /// No bounds, for models that are trusted.
    pub fn unlimited() -> Self {
        Self {
            model_bytes: u64::MAX,
            tensor_bytes: u64::MAX,
            nodes: usize::MAX,
            depth: 1024,
            fold_bytes: u64::MAX,
            fold_total_bytes: u64::MAX,
            loop_trips: u64::MAX,
            memory_bytes: u64::MAX,
        }
    }
}
