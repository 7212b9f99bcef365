//! The one error of the library: what failed, where, whose fault it is, and what to do.

use std::borrow::Cow;
use std::fmt;

use crate::readable;

/// Whose fault an error is, which decides the exit code and the tone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The model or the input is wrong.
    Invalid,
    /// kiln does not do this yet.
    Unsupported,
    /// A limit of [`crate::Limits`] was hit; the help names it.
    Limit,
    /// The caller cancelled, or the deadline passed.
    Cancelled,
    /// A file could not be read or written.
    Io,
    /// A device or a backend failed.
    Backend,
    /// kiln itself is wrong.
    Bug,
}

impl Kind {
    /// The word that begins the message.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Invalid => "invalid",
            Kind::Unsupported => "unsupported",
            Kind::Limit => "limit",
            Kind::Cancelled => "cancelled",
            Kind::Io => "io",
            Kind::Backend => "backend",
            Kind::Bug => "bug",
        }
    }
}

/// The node at which an error arose.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodeInfo {
    /// The place in the file's node list, where it came from a file.
    pub index: Option<usize>,
    /// The node's name, or its first output's.
    pub name: String,
    /// The operator with its domain, such as `ai.onnx.ml.Scaler`.
    pub op: String,
    /// The inputs as `name type`, in order.
    pub inputs: Vec<String>,
}

impl NodeInfo {
    /// Cut to what people read.
    fn shortened(mut self) -> Self {
        const INPUTS: usize = 16;
        let more = self.inputs.len().saturating_sub(INPUTS);
        self.inputs.truncate(INPUTS);
        for text in [&mut self.name, &mut self.op].into_iter().chain(&mut self.inputs) {
            if let Cow::Owned(short) = readable(text) {
                *text = short;
            }
        }
        if more > 0 {
            self.inputs.push(format!("… {more} more"));
        }
        self
    }
}

/// An error with its place and its remedy.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    message: String,
    node: Option<NodeInfo>,
    file: Option<String>,
    help: Option<String>,
    missing: Vec<String>,
}

/// The result of this library's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of any kind. A message that quotes the model is cut to what people read.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // The text of a bug may be a whole graph.
        if kind != Kind::Bug
            && let Cow::Owned(short) = readable(&message)
        {
            message = short;
        }
        Self(Box::new(Inner { kind, message, node: None, file: None, help: None, missing: vec![] }))
    }

    /// The model or the input is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// kiln does not do this yet.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// A limit was hit; `flag` is the limit's name.
    pub fn limit(flag: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Limit, message)
            .help(format!("raise it with `--limit {flag}=N` if you trust this model"))
    }

    /// kiln itself is wrong.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message).help("this is a bug in kiln; please report it")
    }

    /// A file could not be read or written.
    pub fn io(path: &std::path::Path, cause: &std::io::Error) -> Self {
        Self::new(Kind::Io, format!("{}: {cause}", path.display()))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.0.help = Some(readable(&text.into()).into_owned());
        self
    }

    /// Adds the node, unless an inner node is already known.
    #[must_use]
    pub fn at(mut self, node: impl FnOnce() -> NodeInfo) -> Self {
        if self.0.node.is_none() {
            self.0.node = Some(node().shortened());
        }
        self
    }

    /// Adds the file, unless it is already known.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.0.file.get_or_insert_with(|| file.into());
        self
    }

    /// Adds the operators that are missing, as `domain::Op`.
    #[must_use]
    pub fn missing(mut self, ops: Vec<String>) -> Self {
        self.0.missing = ops;
        self
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What failed, in one sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The node, where one is known.
    pub fn node(&self) -> Option<&NodeInfo> {
        self.0.node.as_ref()
    }

    /// The file, where one is known.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// All operators of the model that kiln lacks, as `domain::Op`.
    pub fn missing_ops(&self) -> &[String] {
        &self.0.missing
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.0.kind.word())?;
        if let Some(file) = &self.0.file {
            write!(f, "{file}: ")?;
        }
        if let Some(n) = &self.0.node {
            write!(f, "node ")?;
            if let Some(i) = n.index {
                write!(f, "#{i} ")?;
            }
            write!(f, "`{}` ({}): ", n.name, n.op)?;
        }
        write!(f, "{}", self.0.message)
    }
}

impl std::error::Error for Error {}

impl From<kiln_tensor::Error> for Error {
    fn from(e: kiln_tensor::Error) -> Self {
        match e {
            kiln_tensor::Error::TooLarge(_) => Error::limit("tensor-bytes", e.to_string()),
            _ => Error::invalid(e.to_string()),
        }
    }
}

/// Returns an *invalid* error with a formatted message.
#[macro_export]
macro_rules! invalid {
    ($($t:tt)*) => { return Err($crate::Error::invalid(format!($($t)*))) };
}

/// Returns an *unsupported* error with a formatted message.
#[macro_export]
macro_rules! unsupported {
    ($($t:tt)*) => { return Err($crate::Error::unsupported(format!($($t)*))) };
}
