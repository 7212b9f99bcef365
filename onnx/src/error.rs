//! What goes wrong while reading and writing ONNX files.

use std::fmt;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The model or the input is wrong.
    Invalid,
    /// kiln does not do this yet.
    Unsupported,
    /// The model is larger than the caller's limits.
    Limit,
    /// A file could not be read or written.
    Io,
    /// kiln itself is wrong.
    Bug,
}

/// What failed and what to do about it.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
    help: Option<String>,
}

/// What fallible functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of any kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None }
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
        Self::new(Kind::Limit, message).help(format!("raise the limit `{flag}`"))
    }

    /// kiln itself is wrong.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    /// A file could not be read or written.
    pub fn io(path: &std::path::Path, cause: &std::io::Error) -> Self {
        Self::new(Kind::Io, format!("{}: {cause}", path.display()))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What failed, in one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
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
