//! A dense tensor: dtype, shape, shared bytes.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ndarray::{ArrayViewD, IxDyn};

use crate::number::Scalar;
use crate::shape::{numel, offsets};
use crate::{DType, Element, Error, Result, match_element, match_scalar};

/// A dense, row-major tensor. Cloning shares the data; writing copies it where it is shared.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Clone)]
enum Data {
    Owned(Arc<dyn Storage>),
    /// A piece of a file; aligned and valid for the dtype, which `from_bytes` has checked.
    Shared(Bytes),
    Strings(Arc<Vec<String>>),
}

/// A `Vec<T>` whose element type is known to the tensor only.
trait Storage: Any + Send + Sync {
    fn bytes(&self) -> &[u8];
    fn any(&self) -> &dyn Any;
    fn any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Element> Storage for Vec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
    fn any(&self) -> &dyn Any {
        self
    }
    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The bytes of a vector that somebody else holds, too.
struct Whole(Arc<dyn Storage>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Tensor {
    /// A tensor of `data` in row-major order. The lengths must agree.
    pub fn from_vec<T: Element>(shape: &[usize], data: Vec<T>) -> Result<Self> {
        check_len(shape, data.len())?;
        Ok(Self { dtype: T::DTYPE, shape: shape.to_vec(), data: Data::Owned(Arc::new(data)) })
    }

    /// A tensor of strings in row-major order. The lengths must agree.
    pub fn from_strings(shape: &[usize], data: Vec<String>) -> Result<Self> {
        check_len(shape, data.len())?;
        let data = Data::Strings(Arc::new(data));
        Ok(Self { dtype: DType::String, shape: shape.to_vec(), data })
    }

    /// A tensor over little-endian bytes, one byte per element for sub-byte types.
    ///
    /// Shares `bytes` where they are aligned for the type, else copies. Any non-zero byte is
    /// a true bool.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: Bytes) -> Result<Self> {
        if dtype == DType::String {
            return Err(Error::DType { want: DType::U8, got: DType::String });
        }
        let want = numel(shape)?
            .checked_mul(dtype.size())
            .ok_or_else(|| Error::TooLarge(shape.to_vec()))?;
        if bytes.len() != want {
            return Err(Error::Length { shape: shape.to_vec(), want, got: bytes.len() });
        }
        if dtype == DType::Bool {
            return Self::from_vec(shape, bytes.iter().map(|&b| b != 0).collect());
        }
        let aligned = bytes.as_ptr().align_offset(dtype.size().min(8)) == 0;
        if aligned && cfg!(target_endian = "little") {
            return Ok(Self { dtype, shape: shape.to_vec(), data: Data::Shared(bytes) });
        }
        match_element!(dtype, T => {
            let mut data = vec![T::default(); want / dtype.size()];
            copy_le(&bytes, &mut data);
            Self::from_vec(shape, data)
        }, else Err(Error::DType { want: DType::U8, got: dtype }))
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { dtype: T::DTYPE, shape: Vec::new(), data: Data::Owned(Arc::new(vec![value])) }
    }

    /// A rank-1 tensor.
    pub fn vector<T: Element>(data: Vec<T>) -> Self {
        Self { dtype: T::DTYPE, shape: vec![data.len()], data: Data::Owned(Arc::new(data)) }
    }

    /// A tensor of zeros, `false` or empty strings.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Self> {
        let n = numel(shape)?;
        match_element!(dtype, T => Self::from_vec(shape, vec![T::default(); n]),
            else Self::from_strings(shape, vec![String::new(); n]))
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Strings(s) => s.len(),
            _ => self.bytes().len() / self.dtype.size(),
        }
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in row-major order, little-endian on every machine that kiln runs on;
    /// none for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Owned(s) => s.bytes(),
            Data::Shared(b) => b,
            Data::Strings(_) => &[],
        }
    }

    /// The elements in row-major order; an error where the tensor holds another type.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        let wrong = || Error::DType { want: T::DTYPE, got: self.dtype };
        if T::DTYPE != self.dtype {
            return Err(wrong());
        }
        match &self.data {
            Data::Owned(s) => match s.any().downcast_ref::<Vec<T>>() {
                Some(v) => Ok(v),
                None => Err(wrong()),
            },
            Data::Shared(b) => bytemuck::checked::try_cast_slice(b).map_err(|_| wrong()),
            Data::Strings(_) => Err(wrong()),
        }
    }

    /// The elements for writing; copies them first where they are shared.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T]> {
        let wrong = Error::DType { want: T::DTYPE, got: self.dtype };
        let unique = match &mut self.data {
            Data::Owned(s) => Arc::get_mut(s).is_some(),
            _ => false,
        };
        if !unique {
            let copy = self.as_slice::<T>()?.to_vec();
            self.data = Data::Owned(Arc::new(copy));
        }
        match &mut self.data {
            Data::Owned(s) => Arc::get_mut(s)
                .and_then(|s| s.any_mut().downcast_mut::<Vec<T>>())
                .map(Vec::as_mut_slice)
                .ok_or(wrong),
            _ => Err(wrong),
        }
    }

    /// The strings in row-major order; an error where the tensor holds another type.
    pub fn strings(&self) -> Result<&[String]> {
        match &self.data {
            Data::Strings(s) => Ok(s),
            _ => Err(Error::DType { want: DType::String, got: self.dtype }),
        }
    }

    /// A typed view with the tensor's shape.
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        let data = self.as_slice::<T>()?;
        ArrayViewD::from_shape(IxDyn(&self.shape), data).map_err(|_| Error::Length {
            shape: self.shape.clone(),
            want: self.len(),
            got: data.len(),
        })
    }

    /// The elements converted as `Scalar` converts them; strings and complex are an error.
    pub fn to_vec<U: Scalar>(&self) -> Result<Vec<U>> {
        if self.dtype == U::DTYPE {
            return Ok(self.as_slice::<U>()?.to_vec());
        }
        match_scalar!(self.dtype, T => {
            let float = self.dtype.is_float() || U::DTYPE.is_float();
            let convert = |&x: &T| match float {
                true => U::from_f64(x.to_f64()),
                false => U::from_i128(x.to_i128()),
            };
            Ok(self.as_slice::<T>()?.iter().map(convert).collect())
        }, else Err(Error::DType { want: U::DTYPE, got: self.dtype }))
    }

    /// The only element, converted; an error where there is not exactly one.
    pub fn to_scalar<U: Scalar>(&self) -> Result<U> {
        match self.to_vec::<U>()?[..] {
            [x] => Ok(x),
            _ => Err(Error::Length { shape: vec![], want: 1, got: self.len() }),
        }
    }

    /// The same data under another shape of equally many elements.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        check_len(shape, self.len())?;
        Ok(Self { dtype: self.dtype, shape: shape.to_vec(), data: self.data.clone() })
    }

    /// A tensor of `shape` whose element `i` is this tensor's flat element `indices[i]`.
    ///
    /// The indices must be in range: an index out of range panics.
    pub fn take(&self, shape: &[usize], indices: impl Iterator<Item = usize>) -> Result<Self> {
        if let Data::Strings(s) = &self.data {
            return Self::from_strings(shape, indices.map(|i| s[i].clone()).collect());
        }
        match_element!(self.dtype, T => {
            let data = self.as_slice::<T>()?;
            Self::from_vec(shape, indices.map(|i| data[i]).collect())
        }, else Err(Error::DType { want: DType::U8, got: self.dtype }))
    }

    /// The elements from byte `from` on, which share the data; no strings. The bytes must be there:
    /// an end beyond the data panics.
    pub(crate) fn part(&self, shape: &[usize], from: usize) -> Self {
        let whole = match &self.data {
            Data::Shared(b) => b.clone(),
            Data::Owned(s) => Bytes::from_owner(Whole(s.clone())),
            Data::Strings(_) => Bytes::new(),
        };
        let n = shape.iter().product::<usize>() * self.dtype.size();
        let data = Data::Shared(whole.slice(from..from + n));
        Self { dtype: self.dtype, shape: shape.to_vec(), data }
    }

    /// The tensor broadcast to `shape`; an error where it does not broadcast one way.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Self> {
        if self.shape == shape {
            return Ok(self.clone());
        }
        if crate::shape::broadcast(&self.shape, shape)? != shape {
            return Err(Error::Broadcast(self.shape.clone(), shape.to_vec()));
        }
        numel(shape)?;
        self.take(shape, offsets(shape, &crate::shape::broadcast_strides(&self.shape, shape)))
    }
}

fn check_len(shape: &[usize], got: usize) -> Result<()> {
    match numel(shape)? {
        want if want == got => Ok(()),
        want => Err(Error::Length { shape: shape.to_vec(), want, got }),
    }
}

/// Copies little-endian bytes into elements of the machine's order.
fn copy_le<T: Element>(bytes: &[u8], out: &mut [T]) {
    let size = size_of::<T>();
    for (o, b) in out.iter_mut().zip(bytes.chunks_exact(size)) {
        let mut buf = [0u8; 16];
        buf[..size].copy_from_slice(b);
        let part = if T::DTYPE == DType::C64 || T::DTYPE == DType::C128 { size / 2 } else { size };
        if cfg!(target_endian = "big") {
            buf[..size].chunks_exact_mut(part).for_each(<[u8]>::reverse);
        }
        if let Ok(x) = bytemuck::checked::try_pod_read_unaligned(&buf[..size]) {
            *o = x;
        }
    }
}

impl PartialEq for Tensor {
    /// Bit equality: equal NaN patterns are equal, 0.0 and -0.0 are not.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && match (&self.data, &other.data) {
                (Data::Strings(a), Data::Strings(b)) => a == b,
                _ => self.bytes() == other.bytes(),
            }
    }
}

impl Eq for Tensor {}

impl std::hash::Hash for Tensor {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.dtype, &self.shape).hash(state);
        match &self.data {
            Data::Strings(s) => s.hash(state),
            _ => self.bytes().hash(state),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?} ", self.dtype, self.shape)?;
        const SHOWN: usize = 16;
        match &self.data {
            Data::Strings(s) => f.debug_list().entries(s.iter().take(SHOWN)).finish()?,
            _ => match_element!(self.dtype, T => {
                let data = self.as_slice::<T>().map_err(|_| fmt::Error)?;
                f.debug_list().entries(data.iter().take(SHOWN)).finish()?;
            }, else return Err(fmt::Error)),
        }
        if self.len() > SHOWN { write!(f, "…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_bytes_are_copied() {
        let mut raw = vec![0u8];
        raw.extend(1.5f32.to_le_bytes());
        for skip in 0..2 {
            let bytes = Bytes::from(raw.clone()).slice(skip..);
            let t = Tensor::from_bytes(DType::F32, &[1], bytes);
            assert_eq!(t.is_ok(), skip == 1);
            if let Ok(t) = t {
                assert_eq!(t.as_slice::<f32>(), Ok(&[1.5][..]));
            }
        }
    }

    #[test]
    fn writing_does_not_touch_clones() {
        let a = Tensor::vector(vec![1i32, 2]);
        let mut b = a.clone();
        b.as_mut_slice::<i32>().expect("i32")[0] = 7;
        assert_eq!(a.as_slice::<i32>(), Ok(&[1, 2][..]));
        assert_eq!(b.as_slice::<i32>(), Ok(&[7, 2][..]));
    }

    #[test]
    fn bools_are_normalised() {
        let t = Tensor::from_bytes(DType::Bool, &[2], Bytes::from_static(&[0, 9]));
        assert_eq!(t.expect("two bytes").as_slice::<bool>(), Ok(&[false, true][..]));
    }

    #[test]
    fn wrong_types_and_lengths_are_errors() {
        let t = Tensor::scalar(1f32);
        assert!(t.as_slice::<f64>().is_err());
        assert!(t.reshape(&[2]).is_err());
        assert!(Tensor::from_vec::<u8>(&[3], vec![1]).is_err());
        assert_eq!(t.to_scalar::<i64>(), Ok(1));
    }
}
