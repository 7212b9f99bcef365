//! What goes wrong while reading and writing ONNX files.

use std::fmt;

/// What failed and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    class: Class,
    message: String,
    help: Option<String>,
}

/// Whose fault an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The model or the input is wrong.
    Invalid,
    /// The model is right, kiln cannot run it.
    Unsupported,
    /// The model is larger than the caller's limits.
    Limit,
    /// kiln is wrong.
    Bug,
}

/// What fallible functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The model or the input is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { class: Class::Invalid, message: message.into(), help: None }
    }

    /// The model is right, kiln cannot run it.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { class: Class::Unsupported, message: message.into(), help: None }
    }

    /// The model is larger than the caller's limits.
    pub fn limit(message: impl Into<String>) -> Self {
        Self { class: Class::Limit, message: message.into(), help: None }
    }

    /// kiln is wrong.
    pub fn bug(message: impl Into<String>) -> Self {
        Self { class: Class::Bug, message: message.into(), help: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl std::error::Error for Error {}
