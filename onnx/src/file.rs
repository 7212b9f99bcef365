//! A regular file as shared bytes.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use memmap2::Mmap;

/// Files of at least this many bytes are mapped instead of read.
const MAP_FROM: u64 = 64 << 20;

/// The whole of `file`: read if small, mapped if large.
pub fn contents(mut file: File, len: u64) -> io::Result<Bytes> {
    if len >= MAP_FROM {
        return map(&file);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    // A file that grows meanwhile is cut where it ended at first.
    (&mut file).take(len).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// The whole of `file`, mapped and shared by every slice of the result.
pub fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private and read-only and lives as long as any slice of it. Nothing in this
    // process writes the file; another process that does can change the bytes, or end this one with
    // SIGBUS by cutting the file short, which is the documented price of mapping.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
