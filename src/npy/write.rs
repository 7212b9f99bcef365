//! The writer of `.npy` files.

use kiln_tensor::{DType, Tensor};

use super::{Error, MAX_UNPACKED, Result};

/// The bytes of an `.npy` file that holds `tensor`, row-major and little-endian.
///
/// Types that NumPy lacks are widened to one that holds every value: small floats to float32,
/// small integers to int8 and uint8. A string that ends in NUL cannot be written: NumPy pads
/// with NUL.
pub fn write(tensor: &Tensor) -> Result<Vec<u8>> {
    let shape = tensor.shape();
    let (descr, body) = match tensor.dtype() {
        DType::String => strings(tensor.strings()?)?,
        dtype => match descr(dtype) {
            Some(descr) => (descr.to_owned(), tensor.bytes().to_vec()),
            None => return write(&widen(tensor)?),
        },
    };
    let tuple = match shape {
        [n] => format!("({n},)"),
        _ => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {tuple}, }}");
    let mut file = preamble(&text);
    file.extend(body);
    Ok(file)
}

fn descr(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "|b1",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::C64 => "<c8",
        DType::C128 => "<c16",
        _ => return None,
    })
}

fn widen(tensor: &Tensor) -> Result<Tensor> {
    let (dtype, shape) = (tensor.dtype(), tensor.shape());
    Ok(match (dtype.is_float(), dtype.is_signed()) {
        (true, _) => Tensor::from_vec(shape, tensor.to_vec::<f32>()?)?,
        (false, true) => Tensor::from_vec(shape, tensor.to_vec::<i8>()?)?,
        (false, false) => Tensor::from_vec(shape, tensor.to_vec::<u8>()?)?,
    })
}

/// The type string and the code points of `U` elements as wide as the longest.
fn strings(texts: &[String]) -> Result<(String, Vec<u8>)> {
    if let Some(text) = texts.iter().find(|t| t.ends_with('\0')) {
        return Err(Error::Unsupported(format!("the string {text:?} ends in NUL")));
    }
    let width = texts.iter().map(|t| t.chars().count()).max().unwrap_or(0).max(1);
    let size = width.checked_mul(4).and_then(|w| w.checked_mul(texts.len()));
    if size.is_none_or(|size| size > MAX_UNPACKED) {
        let n = texts.len();
        return Err(Error::Limit(format!("{n} strings padded to {width} characters")));
    }
    let mut body = Vec::new();
    for text in texts {
        let end = body.len() + 4 * width;
        body.extend(text.chars().flat_map(|c| u32::from(c).to_le_bytes()));
        body.resize(end, 0);
    }
    Ok((format!("<U{width}"), body))
}

/// Magic, version and the header text, padded so that the elements begin at a multiple of 64.
fn preamble(text: &str) -> Vec<u8> {
    let long = text.len() + 64 > usize::from(u16::MAX);
    let fixed = if long { 12 } else { 10 };
    let total = (fixed + text.len() + 1).next_multiple_of(64);
    let len = total - fixed;
    let mut file = b"\x93NUMPY".to_vec();
    match long {
        true => {
            file.extend([2, 0]);
            file.extend((len as u32).to_le_bytes());
        }
        false => {
            file.extend([1, 0]);
            file.extend((len as u16).to_le_bytes());
        }
    }
    file.extend(text.as_bytes());
    file.resize(total - 1, b' ');
    file.push(b'\n');
    file
}
