//! The zip that an `.npz` file is: stored or deflated members, with or without zip64.

use bytes::Bytes;

use super::{Error, Result, invalid};

/// One row of the central directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    deflated: bool,
    crc: u32,
    packed: usize,
    unpacked: usize,
    /// Where the member's local header begins.
    local: usize,
}

/// The members that the central directory lists.
pub(super) fn directory(file: &[u8]) -> Result<Vec<Entry>> {
    let (count, mut at) = find_directory(file)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (entry, next) = Entry::parse(file, at)?;
        entries.push(entry);
        at = next;
    }
    Ok(entries)
}

/// The number of entries, and where the first one begins.
fn find_directory(file: &[u8]) -> Result<(u64, usize)> {
    const END: usize = 22;
    let last = file.len().saturating_sub(END);
    let first = last.saturating_sub(usize::from(u16::MAX));
    let end = (first..=last).rev().find(|&at| {
        file[at..].starts_with(b"PK\x05\x06")
            && u16_at(file, at + 20).is_ok_and(|n| at + END + usize::from(n) == file.len())
    });
    let Some(end) = end else {
        return invalid("the zip has no end record; is the file cut off?");
    };
    let (count, offset) = (u16_at(file, end + 10)?, u32_at(file, end + 16)?);
    if count != u16::MAX && offset != u32::MAX {
        return Ok((count.into(), offset as usize));
    }
    let Some(locator) = end.checked_sub(20) else {
        return invalid("the zip64 locator is missing");
    };
    signature(file, locator, b"PK\x06\x07", "zip64 locator")?;
    let record = size(u64_at(file, locator + 8)?);
    signature(file, record, b"PK\x06\x06", "zip64 end record")?;
    Ok((u64_at(file, at(record, 32)?)?, size(u64_at(file, at(record, 48)?)?)))
}

impl Entry {
    /// The entry at `start`, and where the next one begins.
    fn parse(file: &[u8], start: usize) -> Result<(Entry, usize)> {
        signature(file, start, b"PK\x01\x02", "directory entry")?;
        let (flags, method) = (u16_at(file, start + 8)?, u16_at(file, start + 10)?);
        let [name_len, extra_len, note_len] =
            [28, 30, 32].map(|i| u16_at(file, start + i).map(usize::from));
        let name_at = start + 46;
        let extra_at = name_at + name_len?;
        let note_at = extra_at + extra_len?;
        let Some(name) = file.get(name_at..extra_at).and_then(|n| std::str::from_utf8(n).ok())
        else {
            return invalid("a member's name is not UTF-8");
        };
        if flags & 1 != 0 || !matches!(method, 0 | 8) {
            return Err(Error::Unsupported(format!(
                "member `{name}` is encrypted or packed by method {method}; use np.savez"
            )));
        }
        let mut fields = [24, 20, 42].map(|i| u32_at(file, start + i).map(u64::from));
        for (field, wide) in fields
            .iter_mut()
            .filter(|f| **f == Ok(u32::MAX.into()))
            .zip(zip64(file, extra_at, note_at)?)
        {
            *field = Ok(wide);
        }
        let [unpacked, packed, local] = fields;
        let entry = Entry {
            name: name.to_owned(),
            deflated: method == 8,
            crc: u32_at(file, start + 16)?,
            packed: size(packed?),
            unpacked: size(unpacked?),
            local: size(local?),
        };
        Ok((entry, note_at + note_len?))
    }

    /// The member's content, of at most `limit` bytes; stored members share the file's bytes.
    pub fn extract(&self, file: &Bytes, limit: usize) -> Result<Bytes> {
        let name = &self.name;
        signature(file, self.local, b"PK\x03\x04", "member")?;
        let [name_len, extra_len] = [26, 28].map(|i| u16_at(file, self.local + i).map(usize::from));
        let start = self.local + 30 + name_len? + extra_len?;
        let end = start.checked_add(self.packed).filter(|&end| end <= file.len());
        let Some(end) = end else {
            return invalid(format!("member `{name}` is cut off"));
        };
        if self.unpacked > limit {
            let what = format!("member `{name}` unpacks to {} bytes", self.unpacked);
            return Err(Error::Limit(what));
        }
        let packed = file.slice(start..end);
        let content = match self.deflated {
            true => inflate(&packed, self.unpacked, name)?,
            false => packed,
        };
        if content.len() != self.unpacked || crc32(&content) != self.crc {
            return invalid(format!("member `{name}` is damaged: length or checksum differ"));
        }
        Ok(content)
    }
}

fn inflate(packed: &[u8], limit: usize, name: &str) -> Result<Bytes> {
    match miniz_oxide::inflate::decompress_to_vec_with_limit(packed, limit) {
        Ok(content) => Ok(content.into()),
        Err(e) => invalid(format!("member `{name}` does not inflate: {:?}", e.status)),
    }
}

/// The wide values of the zip64 field among the extra fields in `from..to`.
fn zip64(file: &[u8], from: usize, to: usize) -> Result<Vec<u64>> {
    let mut extra = file.get(from..to).unwrap_or_default();
    while let [a, b, c, d, rest @ ..] = extra {
        let len = usize::from(u16::from_le_bytes([*c, *d]));
        let Some((value, next)) = rest.split_at_checked(len) else { break };
        if u16::from_le_bytes([*a, *b]) == 1 {
            return (0..len / 8).map(|i| u64_at(value, 8 * i)).collect();
        }
        extra = next;
    }
    Ok(vec![])
}

fn signature(file: &[u8], at: usize, magic: &[u8], what: &str) -> Result<()> {
    match file.get(at..).is_some_and(|rest| rest.starts_with(magic)) {
        true => Ok(()),
        false => invalid(format!("the zip has no {what} where it says")),
    }
}

fn at(start: usize, offset: usize) -> Result<usize> {
    start.checked_add(offset).ok_or_else(|| Error::Invalid("an offset overflows".into()))
}

/// A length or offset; what does not fit fails every later bounds check.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn field<const N: usize>(file: &[u8], start: usize) -> Result<[u8; N]> {
    match file.get(start..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => Ok(*bytes),
        None => invalid("the zip is cut off"),
    }
}

fn u16_at(file: &[u8], start: usize) -> Result<u16> {
    field(file, start).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], start: usize) -> Result<u32> {
    field(file, start).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], start: usize) -> Result<u64> {
    field(file, start).map(u64::from_le_bytes)
}

/// The checksum of zip: CRC-32 with the reflected polynomial 0xEDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut c, mut bit) = (i as u32, 0);
            while bit < 8 {
                c = if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 };
                bit += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |c, &b| TABLE[usize::from(c as u8 ^ b)] ^ (c >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_standard_check_string() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
