//! The strings of a pickled object array.
//!
//! ```text
//! ndarray ‖ (1, shape, dtype, False, [str, str, …]) ‖ BUILD ‖ STOP
//! ```
//!
//! This is no unpickler: it follows the stack far enough to find the list of elements in the
//! last state that is built, and makes no object. What it does not know, it refuses.

use std::collections::HashMap;

use super::{Error, Result, invalid};

/// What the stack may hold. A tuple holds lists and scalars, a list holds scalars: anything
/// deeper becomes `Other`, so that no value nests further than that.
#[derive(Clone)]
enum Value<'a> {
    Text(&'a str),
    List(Vec<Value<'a>>),
    Tuple(Vec<Value<'a>>),
    Mark,
    Other,
}

/// The elements of a pickled array, in row-major order; at most `limit` bytes of text.
pub(super) fn strings(pickle: &[u8], limit: usize) -> Result<Vec<String>> {
    let mut machine = Machine { rest: pickle, stack: vec![], memo: HashMap::new(), found: None };
    while machine.step()? {}
    let Some(elements) = machine.found else {
        return unsupported("the pickle holds no array");
    };
    let mut bytes = 0usize;
    let text = |value: Value<'_>| {
        let Value::Text(text) = value else {
            return unsupported("an element is not a string");
        };
        bytes = bytes.saturating_add(text.len());
        match bytes <= limit {
            true => Ok(text.to_owned()),
            false => Err(Error::Limit(format!("the strings take more than {limit} bytes"))),
        }
    };
    elements.into_iter().map(text).collect()
}

fn unsupported<T>(what: &str) -> Result<T> {
    Err(Error::Unsupported(format!(
        "an array of Python objects ({what}); save strings with `astype(str)`"
    )))
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value<'a>>,
    memo: HashMap<u32, Value<'a>>,
    found: Option<Vec<Value<'a>>>,
}

impl<'a> Machine<'a> {
    /// Follows one opcode; false at the end of the pickle.
    fn step(&mut self) -> Result<bool> {
        match self.take(1)?[0] {
            b'.' => return Ok(false),
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            code @ (b'q' | 0x94 | b'r' | b'h' | b'j') => self.memo(code)?,
            code @ (b')' | 0x85..=0x87 | b't' | b']' | b'a' | b'e') => self.container(code)?,
            0x93 | b'R' => {
                self.pop()?;
                self.pop()?;
                self.stack.push(Value::Other);
            }
            b'b' => self.build()?,
            b'(' => self.stack.push(Value::Mark),
            code => self.opaque(code)?,
        }
        Ok(true)
    }

    /// Values whose content does not matter here.
    fn opaque(&mut self, code: u8) -> Result<()> {
        match code {
            b'N' | 0x88 | 0x89 => {}
            b'K' => drop(self.take(1)?),
            b'M' => drop(self.take(2)?),
            b'J' => drop(self.take(4)?),
            b'G' => drop(self.take(8)?),
            b'C' | 0x8a => drop(self.sized(1)?),
            b'B' => drop(self.sized(4)?),
            b'c' => {
                self.line()?;
                self.line()?;
            }
            _ => return unsupported("the pickle does more than list strings"),
        }
        self.stack.push(Value::Other);
        Ok(())
    }

    fn memo(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'q' | b'h' => self.number(1)?,
            0x94 => self.memo.len(),
            _ => self.number(4)?,
        } as u32;
        if matches!(code, b'h' | b'j') {
            let Some(value) = self.memo.get(&key) else {
                return invalid("the pickle reads a memo that it never wrote");
            };
            self.stack.push(value.clone());
            return Ok(());
        }
        let value = match self.stack.last() {
            Some(Value::Text(text)) => Value::Text(text),
            _ => Value::Other,
        };
        self.memo.insert(key, value);
        Ok(())
    }

    fn container(&mut self, code: u8) -> Result<()> {
        let value = match code {
            b')' => Value::Tuple(vec![]),
            b']' => Value::List(vec![]),
            b't' => self.marked_tuple()?,
            0x85..=0x87 => {
                let Some(at) = self.stack.len().checked_sub(usize::from(code - 0x84)) else {
                    return invalid("the pickle's stack is empty");
                };
                tuple(self.stack.split_off(at))
            }
            _ => return self.append(code),
        };
        self.stack.push(value);
        Ok(())
    }

    fn marked_tuple(&mut self) -> Result<Value<'a>> {
        Ok(tuple(self.since_mark()?))
    }

    fn append(&mut self, code: u8) -> Result<()> {
        let items = if code == b'a' { vec![self.pop()?] } else { self.since_mark()? };
        let Some(Value::List(list)) = self.stack.last_mut() else {
            return invalid("the pickle appends to something that is not a list");
        };
        list.extend(items.into_iter().map(|item| match item {
            Value::Text(text) => Value::Text(text),
            _ => Value::Other,
        }));
        Ok(())
    }

    /// `object, state -> object`; the state of an array ends in its elements.
    fn build(&mut self) -> Result<()> {
        if let Value::Tuple(mut state) = self.pop()?
            && state.len() == 5
            && let Some(Value::List(elements)) = state.pop()
        {
            self.found = Some(elements);
        }
        Ok(())
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>> {
        match self.stack.iter().rposition(|v| matches!(v, Value::Mark)) {
            Some(mark) => {
                let items = self.stack.split_off(mark + 1);
                self.stack.pop();
                Ok(items)
            }
            None => invalid("the pickle lacks a mark"),
        }
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        match self.stack.pop() {
            Some(value) => Ok(value),
            None => invalid("the pickle's stack is empty"),
        }
    }

    fn text(&mut self, length_bytes: usize) -> Result<()> {
        match std::str::from_utf8(self.sized(length_bytes)?) {
            Ok(text) => self.stack.push(Value::Text(text)),
            Err(_) => return invalid("a string in the pickle is not UTF-8"),
        }
        Ok(())
    }

    fn sized(&mut self, length_bytes: usize) -> Result<&'a [u8]> {
        let len = self.number(length_bytes)?;
        self.take(len)
    }

    fn line(&mut self) -> Result<()> {
        match self.rest.iter().position(|&b| b == b'\n') {
            Some(at) => self.take(at + 1).map(drop),
            None => invalid("the pickle ends inside a name"),
        }
    }

    fn number(&mut self, bytes: usize) -> Result<usize> {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(n) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => invalid("the pickle is cut off"),
        }
    }
}

fn tuple(items: Vec<Value<'_>>) -> Value<'_> {
    let flat = |item| if matches!(item, Value::Tuple(_)) { Value::Other } else { item };
    Value::Tuple(items.into_iter().map(flat).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ndarray, (1, shape, dtype, False, [..elements..])` with the elements given as opcodes.
    fn array(elements: &[u8]) -> Vec<u8> {
        let mut p = b"\x80\x04\x8c\x01m\x8c\x01f\x93(K\x01K\x02N\x89]\x94(".to_vec();
        p.extend(elements);
        p.extend(b"etb.");
        p
    }

    #[test]
    fn texts_and_memos_are_followed() {
        let got = strings(&array(b"\x8c\x02ab\x94X\x01\0\0\0ch\x01"), 100);
        assert_eq!(got, Ok(vec!["ab".into(), "c".into(), "ab".into()]));
        assert_eq!(strings(&array(b""), 0), Ok(vec![]));
    }

    #[test]
    fn other_objects_are_refused() {
        for elements in [&b"K\x05"[..], b"N", b"C\x01a", b"]", b"}"] {
            let got = strings(&array(elements), 100);
            assert!(matches!(got, Err(Error::Unsupported(_))), "{elements:?}: {got:?}");
        }
        assert!(matches!(strings(b"\x80\x04K\x01.", 9), Err(Error::Unsupported(_))));
    }

    #[test]
    fn repeated_references_are_bounded() {
        let mut elements = b"\x8c\x04aaaa\x94".to_vec();
        elements.extend(b"h\x01".repeat(20));
        assert_eq!(strings(&array(&elements), 84).map(|s| s.len()), Ok(21));
        assert!(matches!(strings(&array(&elements), 83), Err(Error::Limit(_))));
    }

    #[test]
    fn nesting_and_junk_do_no_harm() {
        let mut deep = b"N".to_vec();
        deep.extend(b"\x85".repeat(1_000_000));
        deep.push(b'.');
        assert!(strings(&deep, 9).is_err());
        let whole = array(b"\x8c\x02ab\x94");
        for cut in 0..whole.len() {
            assert!(strings(&whole[..cut], 100).is_err(), "cut at {cut}");
        }
        for code in 0..=255u8 {
            assert!(strings(&[code, b'.'], 9).is_err());
        }
    }
}
