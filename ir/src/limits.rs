//! How much a model may ask for. On by default.

/// Bounds on what loading, optimizing and running one model may cost.
///
/// ```text
/// reading     model_bytes tensor_bytes nodes depth
/// optimizing  fold_bytes fold_total_bytes
/// running     tensor_bytes memory_bytes growth depth loop_trips
/// ```
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
    /// Trips of all loops of one run together.
    pub loop_trips: u64,
    /// Bytes alive at once while a model runs, constants not counted.
    pub memory_bytes: u64,
    /// Bytes alive at once while a model runs for each byte of the model and its inputs, beside
    /// [`Limits::FREE`]: what keeps a few lines from asking for all the memory there is.
    pub growth: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            model_bytes: 8 << 30,
            tensor_bytes: 16 << 30,
            nodes: 1_000_000,
            depth: 64,
            fold_bytes: 16 << 20,
            fold_total_bytes: 64 << 20,
            loop_trips: 1 << 17,
            memory_bytes: 64 << 30,
            growth: 1024,
        }
    }
}

impl Limits {
    /// Bytes that every run may have alive, however small the model and its inputs are.
    pub const FREE: u64 = 128 << 20;

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
            growth: u64::MAX,
        }
    }

    /// The limits for a model that, with its inputs, is `given` bytes: its growth becomes a
    /// bound on `memory_bytes`.
    #[must_use]
    pub fn within(&self, given: u64) -> Self {
        let grown = self.growth.saturating_mul(given).saturating_add(Self::FREE);
        Self { memory_bytes: self.memory_bytes.min(grown), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_bounds_memory() {
        let memory = |growth, memory_bytes, given| {
            Limits { growth, memory_bytes, ..Limits::default() }.within(given).memory_bytes
        };
        assert_eq!(memory(10, u64::MAX, 7), Limits::FREE + 70);
        assert_eq!(memory(10, 99, 7), 99);
        assert_eq!(memory(u64::MAX, 5 << 40, 7), 5 << 40);
        assert_eq!(memory(u64::MAX, 5 << 40, 0), Limits::FREE);
    }
}
