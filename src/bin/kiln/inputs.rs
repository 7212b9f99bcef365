//! Inputs: files by name, and the rest made up.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use clap::Args;
use kiln::{DType, Datum, Error, Limits, Result, Tensor, Type, ValueInfo, npy, pb};
use kiln_tensor::match_scalar;

use crate::failure::{Failure, note};
use crate::files;
use crate::generate::{self, Lengths};
use crate::options::{number, pair};

/// Where the inputs come from.
#[derive(Args, Clone, Debug, Default)]
pub struct Feeding {
    /// An input: .pb, .npy or FILE.npz:KEY; others are made up
    #[arg(long = "input", short = 'i', value_name = "NAME=FILE", value_parser = pair)]
    input: Vec<(String, String)>,
    /// All inputs: an .npz by name, or a folder of input_<j>.pb
    #[arg(long, value_name = "FILE.npz|DIR")]
    inputs: Option<String>,
    /// The length of a symbol in inputs that are made up; 1 if not given
    #[arg(long = "dim", value_name = "NAME=N", value_parser = number)]
    dims: Vec<(String, u64)>,
}

/// Reads a value for an input of the declared type.
pub fn read(file: &str, declared: &Type, limits: &Limits) -> Result<Datum> {
    let at = |e: Error| led_by(file, &e);
    let (path, member) = split(file);
    let ending = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or("");
    let bytes = files::read(path.as_ref())?;
    let tensor = match ending {
        "npy" | "npz" if npy::is_npz(&bytes) => one_of(&bytes, member),
        "npy" => npy::read(&bytes).map_err(files::numpy),
        _ => return pb::read(bytes, declared, limits).map_err(at),
    };
    tensor.map(|t| widened(t, declared).into()).map_err(at)
}

/// The error, led by what it is about.
fn led_by(what: &str, e: &Error) -> Error {
    let led = Error::new(e.kind(), format!("{what}: {}", e.message()));
    e.remedy().into_iter().fold(led, Error::help)
}

/// Splits `FILE.npz:KEY`.
fn split(file: &str) -> (&str, Option<&str>) {
    match file.rsplit_once(':') {
        Some((path, key)) if path.ends_with(".npz") => (path, Some(key)),
        _ => (file, None),
    }
}

fn one_of(file: &Bytes, member: Option<&str>) -> Result<Tensor> {
    let mut all = npy::read_npz(file).map_err(files::numpy)?;
    let names: Vec<_> = all.iter().map(|(n, _)| n.clone()).collect();
    let at = match member {
        Some(m) => names.iter().position(|n| n == m),
        None => Some(0).filter(|_| all.len() == 1),
    };
    match at {
        Some(i) => Ok(all.swap_remove(i).1),
        None => Err(Error::invalid("the archive does not say which array is meant")
            .help(format!("write FILE.npz:KEY; the keys are {}", names.join(", ")))),
    }
}

/// NumPy lacks the small types: arrays of the next larger one stand for them.
pub fn widened(tensor: Tensor, declared: &Type) -> Tensor {
    use DType as D;
    let Type::Tensor(want) = declared else { return tensor };
    let stands_for = match tensor.dtype() {
        D::F32 => want.dtype.is_float() && !matches!(want.dtype, D::F64 | D::F32 | D::F16),
        D::I8 => matches!(want.dtype, D::I4 | D::I2),
        D::U8 => matches!(want.dtype, D::U4 | D::U2),
        _ => false,
    };
    if !stands_for {
        return tensor;
    }
    let narrow = match_scalar!(want.dtype, T => {
        tensor.to_vec::<T>().and_then(|v| Tensor::from_vec(tensor.shape(), v))
    }, else return tensor);
    narrow.unwrap_or(tensor)
}

impl Feeding {
    /// All inputs from an `.npz` or a folder.
    pub fn from(inputs: String) -> Self {
        Self { inputs: Some(inputs), ..Self::default() }
    }

    /// Whether any input is given.
    pub fn is_given(&self) -> bool {
        self.inputs.is_some() || !self.input.is_empty()
    }

    /// Makes a symbol stand for `n`, unless it has a length already.
    pub fn set_default(&mut self, name: &str, n: u64) {
        if self.dims.iter().all(|(known, _)| known != name) {
            self.dims.push((name.to_owned(), n));
        }
    }

    /// The given lengths and the given inputs, made complete with random values.
    pub fn resolve(
        &self,
        wanted: &[ValueInfo],
        seed: u64,
        limits: &Limits,
    ) -> Result<Vec<(String, Datum)>, Failure> {
        let mut given = self.read_all(wanted, limits)?;
        let mut lengths = self.lengths(wanted)?;
        for want in wanted {
            if let Some(datum) = given.get(&want.name) {
                lengths.learn(&want.ty, datum);
            }
        }
        let mut all = Vec::with_capacity(wanted.len());
        let mut limits = limits.clone();
        for (i, want) in wanted.iter().enumerate() {
            let datum = match given.remove(&want.name) {
                Some(datum) => datum,
                None => make_up(want, &lengths, seed.wrapping_add(i as u64), &limits)?,
            };
            // What the inputs take together is bounded, too.
            limits.memory_bytes = limits.memory_bytes.saturating_sub(datum.nbytes() as u64);
            all.push((want.name.clone(), datum));
        }
        Ok(all)
    }

    fn read_all(
        &self,
        wanted: &[ValueInfo],
        limits: &Limits,
    ) -> Result<BTreeMap<String, Datum>, Failure> {
        let mut given = BTreeMap::new();
        if let Some(file) = self.inputs.as_deref().filter(|f| !Path::new(f).is_dir()) {
            let bytes = files::read(file.as_ref())?;
            for (name, tensor) in npy::read_npz(&bytes).map_err(files::numpy)? {
                let tensor = widened(tensor, &find(wanted, &name)?.ty);
                given.insert(name, tensor.into());
            }
        } else if let Some(folder) = &self.inputs {
            for (j, want) in wanted.iter().enumerate() {
                let file = format!("{folder}/input_{j}.pb");
                if Path::new(&file).exists() {
                    given.insert(want.name.clone(), read(&file, &want.ty, limits)?);
                }
            }
        }
        for (name, file) in &self.input {
            let datum = read(file, &find(wanted, name)?.ty, limits)?;
            given.insert(name.clone(), datum);
        }
        Ok(given)
    }

    /// The lengths that the user gives.
    fn lengths(&self, wanted: &[ValueInfo]) -> Result<Lengths, Failure> {
        let mut lengths = Lengths::default();
        for (name, n) in checked_dims(&self.dims, wanted)? {
            lengths.set(&name, n);
        }
        Ok(lengths)
    }
}

/// The lengths by symbol; an error where a name is no symbol of the inputs.
pub fn checked_dims(
    dims: &[(String, u64)],
    wanted: &[ValueInfo],
) -> Result<BTreeMap<String, i64>, Failure> {
    let known = generate::symbols(wanted);
    if let Some((name, _)) = dims.iter().find(|(name, _)| !known.contains(name)) {
        let all: Vec<_> = known.iter().map(String::as_str).collect();
        let help = match all.is_empty() {
            true => "every length is fixed".to_owned(),
            false => format!("the symbols are {}", all.join(", ")),
        };
        return Err(Failure::usage(format!("--dim {name}: the inputs have no such symbol"), help));
    }
    let length = |(name, n): &(String, u64)| match i64::try_from(*n) {
        Ok(n) => Ok((name.clone(), n)),
        Err(_) => Err(Failure::usage(format!("--dim {name}: {n} is too large"), "use less")),
    };
    dims.iter().map(length).collect()
}

fn find<'a>(wanted: &'a [ValueInfo], name: &str) -> Result<&'a ValueInfo, Failure> {
    wanted.iter().find(|w| w.name == name).ok_or_else(|| {
        let all: Vec<_> = wanted.iter().map(|w| format!("`{}` {}", w.name, w.ty)).collect();
        let help = format!("its inputs are {}", all.join(", "));
        Failure::usage(format!("the model has no input `{name}`"), help)
    })
}

fn make_up(want: &ValueInfo, lengths: &Lengths, seed: u64, limits: &Limits) -> Result<Datum> {
    let datum = generate::value(&want.ty, lengths, seed, limits)
        .map_err(|e| led_by(&format!("input `{}`", want.name), &e))?;
    note(&format!("input `{}` is made up: {}", want.name, Type::of(&datum)));
    Ok(datum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_archives() {
        assert_eq!(split("a.npz:k"), ("a.npz", Some("k")));
        assert_eq!(split("a:b.npy"), ("a:b.npy", None));
        assert_eq!(split("a.npz"), ("a.npz", None));
    }

    #[test]
    fn only_types_that_numpy_lacks_are_converted() {
        let of = |d| Type::tensor(d, None);
        let t = Tensor::vector(vec![1.5f32, -2.0]);
        assert_eq!(widened(t.clone(), &of(DType::BF16)).dtype(), DType::BF16);
        assert_eq!(widened(t.clone(), &of(DType::F64)).dtype(), DType::F32);
        assert_eq!(widened(t, &of(DType::F16)).dtype(), DType::F32);
        let i = Tensor::vector(vec![-3i8]);
        assert_eq!(widened(i, &of(DType::I4)).dtype(), DType::I4);
    }
}
