//! Files that are read whole and written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use kiln::{Datum, Error, Kind, Result, npy, pb};

use crate::failure::Failure;

/// The contents of a file.
pub fn read(path: &Path) -> Result<Bytes> {
    Ok(fs::read(path).map_err(|e| Error::io(path, &e))?.into())
}

/// Writes a file through a temporary one beside it, so that nobody sees half of it.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e| Error::io(path, &e);
    let name = path
        .file_name()
        .ok_or_else(|| Error::new(Kind::Io, format!("{} does not name a file", path.display())))?;
    // A pipe or a device is written to, not replaced.
    if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return fs::write(path, bytes).map_err(failed);
    }
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(hidden);
    let made = File::create(&part)
        .and_then(|mut f| f.write_all(bytes))
        .and_then(|()| fs::rename(&part, path));
    made.map_err(|e| {
        let _ = fs::remove_file(&part);
        failed(e)
    })
}

/// Whether both paths lead to one file that exists.
pub fn same(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Writes a value as the ending says: `.npy`, or a protobuf; `-` is stdout.
pub fn write_value(path: &Path, name: &str, value: &Datum) -> Result<(), Failure> {
    let stdout = path == Path::new("-");
    let npy = stdout || path.extension().is_some_and(|e| e == "npy");
    let bytes = match npy {
        true => {
            let tensor = value.as_tensor().map_err(|e| {
                Error::invalid(format!("output `{name}`: {e}"))
                    .help("a .npy file holds one tensor: write a .pb file instead")
            })?;
            npy::write(tensor).map_err(numpy)?
        }
        false => pb::write(value, name)?,
    };
    if stdout {
        return Ok(io::stdout().write_all(&bytes)?);
    }
    Ok(write(path, &bytes)?)
}

/// Writes the outputs as `output_<j>.pb` into a folder, which is made where it is missing.
pub fn write_folder(folder: &Path, outputs: &[(String, Datum)]) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, &e))?;
    for (j, (name, value)) in outputs.iter().enumerate() {
        write(&folder.join(format!("output_{j}.pb")), &pb::write(value, name)?)?;
    }
    Ok(())
}

/// An error of a NumPy file as one of the library: the file is data, so what kiln cannot read
/// in it is the file's fault, not the model's.
pub fn numpy(e: npy::Error) -> Error {
    let kind = match e {
        npy::Error::Limit(_) => Kind::Limit,
        _ => Kind::Invalid,
    };
    Error::new(kind, e.to_string())
}
