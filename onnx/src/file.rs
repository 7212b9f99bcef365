//! A regular file as shared bytes.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use memmap2::Mmap;

/// The first `len` bytes of `file`, or all of it if it is shorter: files of `map_from` bytes or
/// more are mapped, smaller ones read.
pub fn contents(mut file: File, len: u64, map_from: u64) -> io::Result<Bytes> {
    if len >= map_from.max(1)
        && let Ok(bytes) = map(&file)
    {
        return Ok(bytes);
    }
    // Some file systems cannot map; there, and for small files, a copy does.
    let mut bytes = Vec::new();
    let room = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.try_reserve_exact(room).map_err(|_| io::ErrorKind::OutOfMemory)?;
    (&mut file).take(len).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// The whole of `file`, mapped and shared by every slice of the result.
fn map(file: &File) -> io::Result<Bytes> {
    // SAFETY: the map is private and read-only and lives as long as any slice of it. Nothing in
    // this process writes the file; another process that does can change the bytes, or end this
    // one with SIGBUS by cutting the file short, which is the documented price of mapping.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
