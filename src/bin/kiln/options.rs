//! The flags that verbs share, and how they become a model and options.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use kiln::{BackendKind, Error, Limits, Model, Options};

/// How a model is read.
#[derive(Args, Clone, Debug)]
pub struct Reading {
    /// Raise or lower a limit; --help names them all
    ///
    /// model-bytes, tensor-bytes, nodes, depth, fold-bytes, fold-total-bytes, loop-trips,
    /// memory-bytes (with no regard to how small the model is)
    #[arg(long = "limit", value_name = "NAME=N", value_parser = limit)]
    limits: Vec<(usize, u64)>,
    /// A further folder where external data may lie
    #[arg(long, value_name = "DIR")]
    data_root: Vec<PathBuf>,
}

/// Which passes run.
#[derive(Args, Clone, Debug)]
pub struct Passing {
    /// 0 no passes, 1 clean only, 2 and 3 all
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=3))]
    pub opt_level: u8,
    /// Leave out a pass
    #[arg(long, value_name = "PASS", value_parser = pass)]
    pub skip: Vec<String>,
}

impl Passing {
    /// The options, all others at their defaults.
    pub fn options(&self) -> Options {
        Options { opt_level: self.opt_level, skip: self.skip.clone(), ..Options::default() }
    }
}

/// How a model is optimized and run.
#[derive(Args, Clone, Debug)]
pub struct Building {
    /// Where it runs: cpu, cuda or reference
    #[arg(long, value_name = "B", default_value = "cpu", value_parser = backend)]
    backend: BackendKind,
    /// Threads inside one run; 0 is one per core
    #[arg(long, value_name = "T", default_value_t = 0)]
    pub threads: usize,
    #[command(flatten)]
    passing: Passing,
    /// Where random numbers begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// A limit's name, and its place in [`Limits`].
type Row = (&'static str, fn(&mut Limits, u64));

const LIMITS: [Row; 8] = [
    ("model-bytes", |l, n| l.model_bytes = n),
    ("tensor-bytes", |l, n| l.tensor_bytes = n),
    ("nodes", |l, n| l.nodes = usize::try_from(n).unwrap_or(usize::MAX)),
    ("depth", |l, n| l.depth = usize::try_from(n).unwrap_or(usize::MAX)),
    ("fold-bytes", |l, n| l.fold_bytes = n),
    ("fold-total-bytes", |l, n| l.fold_total_bytes = n),
    ("loop-trips", |l, n| l.loop_trips = n),
    // Who names a number means it, however small the model is.
    ("memory-bytes", |l, n| (l.memory_bytes, l.growth) = (n, u64::MAX)),
];

fn limit(text: &str) -> Result<(usize, u64), String> {
    let (name, n) = number(text)?;
    match LIMITS.iter().position(|(known, _)| *known == name) {
        Some(i) => Ok((i, n)),
        None => {
            let all: Vec<_> = LIMITS.iter().map(|(known, _)| *known).collect();
            Err(format!("there is no limit `{name}`: {}", all.join(", ")))
        }
    }
}

fn backend(text: &str) -> Result<BackendKind, String> {
    text.parse().map_err(|e: Error| e.message().to_owned())
}

/// Reads the name of a pass.
pub fn pass(text: &str) -> Result<String, String> {
    let known = kiln_passes::names();
    match known.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("the passes are {}", known.join(", "))),
    }
}

/// Reads `NAME=TEXT`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads `NAME=N`; N may end in K, M or G (powers of 1024).
pub fn number(text: &str) -> Result<(String, u64), String> {
    let (name, n) = pair(text)?;
    let (digits, shift) = match n.as_bytes().last() {
        Some(b'K') => (&n[..n.len() - 1], 10),
        Some(b'M') => (&n[..n.len() - 1], 20),
        Some(b'G') => (&n[..n.len() - 1], 30),
        _ => (&n[..], 0),
    };
    let n = digits.parse::<u64>().ok().and_then(|d| d.checked_mul(1 << shift));
    n.map(|n| (name, n)).ok_or_else(|| "expected NAME=N, such as 4096, 64K, 16M or 8G".to_owned())
}

impl Reading {
    /// The limits that hold.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        for &(row, n) in &self.limits {
            LIMITS[row].1(&mut limits, n);
        }
        limits
    }

    /// Loads the model of this file.
    pub fn open(&self, path: &str) -> kiln::Result<Model> {
        Model::load_with(path, &self.limits(), &self.data_root)
    }

    /// Loads the model of this file; `-` is stdin.
    pub fn load(&self, path: &str) -> kiln::Result<Model> {
        if path != "-" {
            return self.open(path);
        }
        let limits = self.limits();
        let mut bytes = Vec::new();
        let most = limits.model_bytes.saturating_add(1);
        std::io::stdin()
            .lock()
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io("stdin".as_ref(), &e))?;
        Model::from_bytes_with(bytes, &limits).map_err(|e| e.in_file("-"))
    }
}

impl Building {
    /// The name of the backend.
    pub fn backend_name(&self) -> &'static str {
        match self.backend {
            BackendKind::Cuda => "cuda",
            BackendKind::Reference => "reference",
            _ => "cpu",
        }
    }

    /// The options of the library.
    pub fn options(&self) -> Options {
        Options {
            backend: self.backend,
            threads: self.threads,
            opt_level: self.passing.opt_level,
            skip: self.passing.skip.clone(),
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        let n = |text: &str| number(text).map(|(_, n)| n).ok();
        assert_eq!(n("a=3"), Some(3));
        assert_eq!(n("a=2K"), Some(2048));
        assert_eq!(n("a=1G"), Some(1 << 30));
        assert_eq!(n("a=99999999999G"), None);
        assert_eq!(n("a=M"), None);
        assert_eq!(n("a=-1"), None);
        assert_eq!(n("=1"), None);
        assert_eq!(n("a"), None);
    }

    #[test]
    fn every_limit_sets_its_own_field() {
        for (i, (name, _)) in LIMITS.iter().enumerate() {
            assert_eq!(limit(&format!("{name}=7")), Ok((i, 7)));
            let limits = vec![(i, 7)];
            let set = Reading { limits, data_root: vec![] }.limits();
            assert!(format!("{set:?}").contains(&format!("{}: 7", name.replace('-', "_"))));
        }
        assert!(limit("node=1").is_err());
    }
}
