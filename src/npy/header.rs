//! The header of an `.npy` file: a Python dictionary of three entries.

use kiln_tensor::DType;

use super::{Error, Result, invalid};

/// What the header says.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    pub elements: Elements,
    /// Column-major order.
    pub fortran: bool,
    pub shape: Vec<usize>,
}

/// How the elements are stored; `big` is big-endian, `width` is in bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Elements {
    Number { dtype: DType, big: bool },
    Utf32 { width: usize, big: bool },
    Ascii { width: usize },
    Object,
}

impl Header {
    /// The header and where the elements begin.
    pub fn parse(file: &[u8]) -> Result<(Header, usize)> {
        let Some(after_magic) = file.strip_prefix(b"\x93NUMPY") else {
            return invalid("it does not begin with the .npy magic");
        };
        let (start, len): (usize, usize) = match *after_magic {
            [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
            [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
            [version @ (0 | 4..), ..] => {
                return Err(Error::Unsupported(format!("format version {version}")));
            }
            _ => return invalid("it ends inside the header"),
        };
        let Some(text) = start.checked_add(len).and_then(|end| file.get(start..end)) else {
            return invalid("it ends inside the header");
        };
        match std::str::from_utf8(text) {
            Ok(text) => Ok((Literal { rest: text }.header()?, start + len)),
            Err(_) => invalid("the header is not text"),
        }
    }
}

/// A reader of the few Python literals that headers are made of.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn header(mut self) -> Result<Header> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.take('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return invalid(format!("unknown key `{key}` in the header")),
            }
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        match (descr, fortran, shape, self.rest.trim()) {
            (Some(elements), Some(fortran), Some(shape), "") => {
                Ok(Header { elements, fortran, shape })
            }
            _ => invalid("the header does not hold exactly `descr`, `fortran_order` and `shape`"),
        }
    }

    fn take(&mut self, c: char) -> bool {
        let rest = self.rest.trim_start().strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, c: char) -> Result<()> {
        match self.take(c) {
            true => Ok(()),
            false => invalid(format!("the header lacks a `{c}`")),
        }
    }

    fn string(&mut self) -> Result<&'a str> {
        let quote = if self.take('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.expect('\'')?;
        }
        match self.rest.split_once(quote) {
            Some((text, rest)) => {
                self.rest = rest;
                Ok(text)
            }
            None => invalid("the header ends inside a string"),
        }
    }

    fn word(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        word
    }

    fn boolean(&mut self) -> Result<bool> {
        match self.word() {
            "True" => Ok(true),
            "False" => Ok(false),
            other => invalid(format!("`fortran_order` is `{other}`, not True or False")),
        }
    }

    fn tuple(&mut self) -> Result<Vec<usize>> {
        let mut lengths = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            // Python 2 wrote long integers with a suffix.
            let word = self.word().trim_end_matches('L');
            match word.parse() {
                Ok(n) => lengths.push(n),
                Err(_) => return invalid(format!("`{word}` in the shape is not a length")),
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(lengths)
    }

    fn descr(&mut self) -> Result<Elements> {
        if matches!(self.rest.trim_start().chars().next(), Some('[' | '(' | '{')) {
            let what = "a structured array; save each field as an array of its own";
            return Err(Error::Unsupported(what.into()));
        }
        elements(self.string()?)
    }
}

/// Reads a type string such as `<f4`.
fn elements(descr: &str) -> Result<Elements> {
    let unsupported = || {
        Err(Error::Unsupported(format!(
            "element type `{descr}`; convert the array with `astype`, for example to float32"
        )))
    };
    let big = descr.starts_with('>');
    let code = descr.strip_prefix(['<', '>', '|', '=']).unwrap_or(descr);
    if let Some(width) = code.strip_prefix(['U', 'S', 'a']).map(str::parse::<usize>) {
        let Ok(width) = width else { return unsupported() };
        return match width.checked_mul(4) {
            Some(bytes) if code.starts_with('U') => Ok(Elements::Utf32 { width: bytes, big }),
            Some(_) => Ok(Elements::Ascii { width }),
            None => unsupported(),
        };
    }
    let dtype = match code {
        "b1" | "?" => DType::Bool,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "c8" => DType::C64,
        "c16" => DType::C128,
        "O" => return Ok(Elements::Object),
        _ => return unsupported(),
    };
    Ok(Elements::Number { dtype, big })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Header> {
        Literal { rest: text }.header()
    }

    #[test]
    fn dictionaries_are_read_in_any_dress() {
        let want = |shape: &[usize]| Header {
            elements: Elements::Number { dtype: DType::F32, big: false },
            fortran: false,
            shape: shape.to_vec(),
        };
        for (text, shape) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  \n", &[2usize, 3][..]),
            ("{'shape':(),'fortran_order':False,'descr':\"<f4\"}", &[]),
            ("{'shape': (7L,), 'descr': '<f4', 'fortran_order': False}", &[7]),
        ] {
            assert_eq!(parse(text), Ok(want(shape)), "{text}");
        }
    }

    #[test]
    fn broken_dictionaries_are_errors() {
        for text in [
            "",
            "{",
            "{}",
            "{'descr': '<f4'}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': ()} x",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f4",
        ] {
            assert!(matches!(parse(text), Err(Error::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn type_strings() {
        let number = |dtype, big| Ok(Elements::Number { dtype, big });
        assert_eq!(elements("|b1"), number(DType::Bool, false));
        assert_eq!(elements(">c16"), number(DType::C128, true));
        assert_eq!(elements("<U3"), Ok(Elements::Utf32 { width: 12, big: false }));
        assert_eq!(elements("|S5"), Ok(Elements::Ascii { width: 5 }));
        assert_eq!(elements("|O"), Ok(Elements::Object));
        for text in ["<M8[ns]", "<f16", "|V2", "", "<U", "<U99999999999999999999"] {
            assert!(matches!(elements(text), Err(Error::Unsupported(_))), "{text}");
        }
    }
}
