//! Samples to calibrate on: many sets of inputs from files and folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kiln::{Datum, Error, Limits, Tensor, Type, ValueInfo, npy};

use crate::failure::Failure;
use crate::files;
use crate::inputs::{Feeding, read, widened};

/// Reads all samples of a file or a folder: a value for every input, in order.
///
/// ```text
/// FILE.npz              arrays by the names of the inputs, a sample in each row
/// FILE.npy, FILE.pb     the only input
/// DIR/input_<j>.pb      one sample
/// DIR/*/input_<j>.pb    one sample a folder
/// DIR/*.npz|npy|pb      all of them
/// ```
pub fn samples(
    path: &str,
    wanted: &[ValueInfo],
    limits: &Limits,
) -> Result<Vec<Vec<Datum>>, Failure> {
    let folder = Path::new(path);
    if !folder.is_dir() {
        return file(folder, wanted, limits);
    }
    if folder.join("input_0.pb").exists() {
        return Ok(vec![one(folder, wanted, limits)?]);
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(|e| Error::io(folder, &e))?
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    let mut all = Vec::new();
    for entry in entries {
        if entry.join("input_0.pb").exists() {
            all.push(one(&entry, wanted, limits)?);
        } else if matches!(ending(&entry), "npz" | "npy" | "pb") {
            all.extend(file(&entry, wanted, limits)?);
        }
    }
    match all.is_empty() {
        false => Ok(all),
        true => Err(Failure::usage(
            format!("--calib {path}: no .npz, .npy or .pb file in it, nor in its folders"),
            "name an .npz of arrays by input, or a folder of folders of input_<j>.pb",
        )),
    }
}

fn ending(path: &Path) -> &str {
    path.extension().and_then(|e| e.to_str()).unwrap_or("")
}

/// The sample of a folder of `input_<j>.pb`.
fn one(folder: &Path, wanted: &[ValueInfo], limits: &Limits) -> Result<Vec<Datum>, Failure> {
    let feeding = Feeding::from(folder.display().to_string());
    let values = feeding.resolve(wanted, 0, limits)?;
    Ok(values.into_iter().map(|(_, d)| d).collect())
}

fn file(path: &Path, wanted: &[ValueInfo], limits: &Limits) -> Result<Vec<Vec<Datum>>, Failure> {
    let shown = path.display().to_string();
    if ending(path) == "npz" {
        let arrays = npy::read_npz(&files::read(path)?).map_err(files::numpy)?;
        let mut arrays: BTreeMap<_, _> = arrays.into_iter().collect();
        let given = wanted.iter().map(|want| match arrays.remove(&want.name) {
            Some(t) => Ok(widened(t, &want.ty)),
            None => Err(Failure::usage(
                format!("{shown} has no array `{}`", want.name),
                format!("its arrays are named after the inputs: {}", names(wanted)),
            )),
        });
        return Ok(split(&given.collect::<Result<Vec<_>, _>>()?, wanted)?);
    }
    let [want] = wanted else {
        return Err(Failure::usage(
            format!("{shown} holds one array, the model has {} inputs", wanted.len()),
            format!("write an .npz with arrays named {}", names(wanted)),
        ));
    };
    match read(&shown, &want.ty, limits)? {
        Datum::Tensor(t) => Ok(split(&[t], wanted)?),
        other => Ok(vec![vec![other]]),
    }
}

fn names(wanted: &[ValueInfo]) -> String {
    wanted.iter().map(|w| w.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Cuts arrays into samples along their first axis, where all agree on their number; else they
/// are one sample.
fn split(arrays: &[Tensor], wanted: &[ValueInfo]) -> kiln::Result<Vec<Vec<Datum>>> {
    let counts: Vec<Option<usize>> =
        arrays.iter().zip(wanted).map(|(t, want)| count(t, &want.ty)).collect();
    let n = match counts[..] {
        [Some(n), ref rest @ ..] if n > 0 && rest.iter().all(|c| *c == Some(n)) => n,
        _ => return Ok(vec![arrays.iter().map(|t| t.clone().into()).collect()]),
    };
    let sample = |i: usize| {
        let parts = arrays.iter().zip(wanted).map(|(t, want)| part(t, &want.ty, i, n));
        parts.collect::<kiln::Result<Vec<Datum>>>()
    };
    (0..n).map(sample).collect()
}

/// How many samples an array holds; a symbol stands for 1.
fn count(t: &Tensor, ty: &Type) -> Option<usize> {
    let Type::Tensor(want) = ty else { return None };
    let dims = want.shape.as_ref()?;
    let first = *t.shape().first()?;
    if t.rank() == dims.len() + 1 {
        return Some(first);
    }
    let each = dims.first()?.as_len().unwrap_or(1);
    (t.rank() == dims.len() && each > 0 && first.is_multiple_of(each)).then(|| first / each)
}

/// Part `i` of `n` of an array.
fn part(t: &Tensor, ty: &Type, i: usize, n: usize) -> kiln::Result<Datum> {
    let each = t.len() / n;
    let mut shape = t.shape().to_vec();
    match ty.rank() {
        Some(rank) if rank < shape.len() => drop(shape.remove(0)),
        _ => shape[0] /= n,
    }
    Ok(t.take(&shape, i * each..(i + 1) * each)?.into())
}

#[cfg(test)]
mod tests {
    use kiln::DType;

    use super::*;

    fn wanted(dims: &[&str]) -> ValueInfo {
        let dim = |d: &&str| match d.parse::<i64>() {
            Ok(n) => n.into(),
            Err(_) => kiln_ir::Dim::sym(d),
        };
        let shape = dims.iter().map(dim).collect();
        ValueInfo { name: "x".to_owned(), ty: Type::tensor(DType::I64, Some(shape)) }
    }

    /// The shapes and the first elements of the samples in 12 numbers of this shape.
    fn cut(shape: &[usize], dims: &[&str]) -> Vec<(Vec<usize>, i64)> {
        let t = Tensor::from_vec(shape, (0..12i64).collect()).expect("12 numbers");
        let samples = split(&[t], &[wanted(dims)]).expect("cuts");
        let first = |s: &Vec<Datum>| {
            let t = s[0].as_tensor().expect("a tensor");
            (t.shape().to_vec(), t.to_vec::<i64>().expect("numbers")[0])
        };
        samples.iter().map(first).collect()
    }

    #[test]
    fn arrays_are_cut_into_samples() {
        assert_eq!(cut(&[3, 4], &["N", "4"]), [(vec![1, 4], 0), (vec![1, 4], 4), (vec![1, 4], 8)]);
        assert_eq!(cut(&[4, 3], &["2", "3"]), [(vec![2, 3], 0), (vec![2, 3], 6)]);
        assert_eq!(cut(&[2, 2, 3], &["2", "3"]), [(vec![2, 3], 0), (vec![2, 3], 6)]);
        assert_eq!(cut(&[12], &["12"]), [(vec![12], 0)]);
        // What does not fit is one sample; the library says what is wrong with it.
        assert_eq!(cut(&[3, 4], &["2", "4"]), [(vec![3, 4], 0)]);
    }

    #[test]
    fn inputs_that_disagree_are_one_sample() {
        let t = |n: usize| Tensor::from_vec(&[n, 1], vec![0i64; n]).expect("a column");
        let two = [wanted(&["N", "1"]), wanted(&["N", "1"])];
        assert_eq!(split(&[t(2), t(3)], &two).expect("one").len(), 1);
        assert_eq!(split(&[t(2), t(2)], &two).expect("two").len(), 2);
    }
}
