//! NumPy files: reads `.npy` and `.npz`, writes `.npy`.
//!
//! ```text
//! .npy = magic ‖ version ‖ header {descr, fortran_order, shape} ‖ elements
//! .npz = zip of .npy
//! ```
//!
//! A file is never trusted: sizes are checked before memory is taken, and an array of Python
//! objects is read only where every object is a string, without ever making an object.

mod header;
mod pickle;
mod write;
mod zip;

use bytes::Bytes;
use kiln_tensor::shape::{numel, offsets};
use kiln_tensor::{DType, Tensor};

use header::{Elements, Header};
pub use write::write;

/// The most bytes that the members of one `.npz` may unpack to, and one string array may hold,
/// unless the file itself is longer.
const MAX_UNPACKED: usize = 2 << 30;

/// The most elements of a string array whose elements take no bytes.
const MAX_EMPTY: usize = 1 << 20;

/// Why a NumPy file could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file breaks the format.
    #[error("not a valid NumPy file: {0}")]
    Invalid(String),
    /// The file is well formed, and kiln cannot represent what it holds.
    #[error("NumPy file not supported: {0}")]
    Unsupported(String),
    /// The file asks for more memory than kiln grants.
    #[error("NumPy file too large: {0}")]
    Limit(String),
}

/// The result of reading or writing a NumPy file.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn invalid<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::Invalid(what.into()))
}

impl From<kiln_tensor::Error> for Error {
    fn from(e: kiln_tensor::Error) -> Self {
        Error::Invalid(e.to_string())
    }
}

/// Reads one `.npy` file; numbers in row-major little-endian order share the file's bytes.
pub fn read(file: &Bytes) -> Result<Tensor> {
    let (header, start) = Header::parse(file)?;
    let body = file.slice(start..);
    let n = numel(&header.shape)?;
    let flat = match header.elements {
        Elements::Object => {
            let strings = pickle::strings(&body, MAX_UNPACKED.max(file.len()))?;
            // NumPy pickles the elements in row-major order, whatever the header says.
            return Ok(Tensor::from_strings(&header.shape, strings)?);
        }
        Elements::Number { dtype, big } => numbers(body, n, dtype, big)?,
        Elements::Utf32 { width, big } => strings(&body, n, width, |b| utf32(b, big))?,
        Elements::Ascii { width } => strings(&body, n, width, ascii)?,
    };
    match header.fortran {
        true => Ok(flat.take(&header.shape, offsets(&header.shape, &fortran(&header.shape)))?),
        false => Ok(flat.reshape(&header.shape)?),
    }
}

/// Reads every array of an `.npz` file, in the order of its directory.
pub fn read_npz(file: &Bytes) -> Result<Vec<(String, Tensor)>> {
    let mut left = MAX_UNPACKED.max(file.len());
    let mut arrays = Vec::new();
    for entry in zip::directory(file)? {
        let Some(name) = entry.name.strip_suffix(".npy").map(str::to_owned) else {
            return Err(Error::Unsupported(format!("member `{}` is not an .npy file", entry.name)));
        };
        let member = entry.extract(file, left)?;
        left = left.saturating_sub(member.len());
        let array = read(&member).map_err(|e| e.inside(&name))?;
        if arrays.iter().any(|(other, _)| *other == name) {
            return invalid(format!("two members are named `{name}`"));
        }
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// Whether `file` begins like a zip, and so like an `.npz`.
pub fn is_npz(file: &[u8]) -> bool {
    file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06")
}

impl Error {
    fn inside(self, member: &str) -> Self {
        let at = |what| format!("member `{member}`: {what}");
        match self {
            Error::Invalid(what) => Error::Invalid(at(what)),
            Error::Unsupported(what) => Error::Unsupported(at(what)),
            Error::Limit(what) => Error::Limit(at(what)),
        }
    }
}

/// Strides, in elements, of a column-major array.
fn fortran(shape: &[usize]) -> Vec<usize> {
    let lengths = shape.iter().scan(1usize, |n, &d| {
        let stride = *n;
        *n = n.saturating_mul(d);
        Some(stride)
    });
    lengths.collect()
}

/// Checks that `body` is exactly `n` elements of `width` bytes.
fn check_len(body: &[u8], n: usize, width: usize) -> Result<()> {
    match n.checked_mul(width) {
        Some(want) if want == body.len() => Ok(()),
        _ => invalid(format!(
            "the header asks for {n} elements of {width} bytes, the file holds {} bytes",
            body.len()
        )),
    }
}

fn numbers(body: Bytes, n: usize, dtype: DType, big: bool) -> Result<Tensor> {
    check_len(&body, n, dtype.size())?;
    if !big {
        return Ok(Tensor::from_bytes(dtype, &[n], body)?);
    }
    let part = match dtype {
        DType::C64 | DType::C128 => dtype.size() / 2,
        _ => dtype.size(),
    };
    let mut swapped = body.to_vec();
    swapped.chunks_exact_mut(part).for_each(<[u8]>::reverse);
    Ok(Tensor::from_bytes(dtype, &[n], swapped.into())?)
}

fn strings(
    body: &[u8],
    n: usize,
    width: usize,
    decode: impl Fn(&[u8]) -> Result<String>,
) -> Result<Tensor> {
    check_len(body, n, width)?;
    if width == 0 && n > MAX_EMPTY {
        return Err(Error::Limit(format!("{n} strings of no characters")));
    }
    let texts = (0..n).map(|i| decode(&body[i * width..(i + 1) * width]));
    Ok(Tensor::from_strings(&[n], texts.collect::<Result<_>>()?)?)
}

/// One element of a `U` array: code points of four bytes, padded with zeros.
fn utf32(bytes: &[u8], big: bool) -> Result<String> {
    let point = |c: &[u8]| {
        let c = [c[0], c[1], c[2], c[3]];
        let code = if big { u32::from_be_bytes(c) } else { u32::from_le_bytes(c) };
        char::from_u32(code)
            .ok_or_else(|| Error::Invalid(format!("{code:#x} in a string is no Unicode character")))
    };
    let text = bytes.chunks_exact(4).map(point).collect::<Result<String>>()?;
    Ok(text.trim_end_matches('\0').to_owned())
}

/// One element of an `S` array: bytes, padded with zeros.
fn ascii(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.trim_end_matches('\0').to_owned()),
        Err(_) => invalid("a byte string is not UTF-8; decode it and save it as `U`"),
    }
}

#[cfg(test)]
mod tests;
