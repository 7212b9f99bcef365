//! Texts that quote a model, made fit for a terminal.

use std::borrow::Cow;

/// Elements of a list, characters of a word, characters of a text: beyond, all are cut.
const LIST: usize = 16;
const WORD: usize = 100;
const TEXT: usize = 2000;

/// The text with control characters escaped, and long lists, words and itself cut short:
/// `f32[1,1,1,1,… 4996 more]`.
pub fn readable(text: &str) -> Cow<'_, str> {
    let plain = text.len() <= WORD && !text.chars().any(char::is_control);
    if plain && text.matches(',').count() <= LIST {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if out.len() >= TEXT {
            out.push('…');
            break;
        }
        let (token, after) = match c {
            '[' => rest.split_at(rest.find(']').unwrap_or(rest.len())),
            _ if separates(c) => rest.split_at(c.len_utf8()),
            _ => rest.split_at(rest.find(|c| c == '[' || separates(c)).unwrap_or(rest.len())),
        };
        match c {
            '[' if token.matches(',').nth(LIST - 1).is_some() => list(token, &mut out),
            '[' => word(token, LIST * WORD, &mut out),
            _ => word(token, WORD, &mut out),
        }
        rest = after;
    }
    Cow::Owned(out)
}

fn separates(c: char) -> bool {
    c == ' ' || c == ',' || c == ']'
}

/// The first elements of a list, and how many there are beside them.
fn list(token: &str, out: &mut String) {
    let mut items = token.split(',');
    for item in items.by_ref().take(LIST / 2) {
        word(item, WORD, out);
        out.push(',');
    }
    *out += &format!("… {} more", items.count());
}

/// The first and the last characters of a word.
fn word(token: &str, most: usize, out: &mut String) {
    let n = token.chars().count();
    for (i, c) in token.chars().enumerate() {
        match c {
            _ if n > most && (most / 2..n - most / 4).contains(&i) => {
                if i == most / 2 {
                    out.push('…');
                }
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_texts_stay() {
        let long = "a sentence of words that is longer than one word may be, which changes nothing \
                    at all, because words are what is cut and not sentences";
        for text in ["", "weight [64,3] has 3", "`naïve` [1, 2, 3", long, "[1], [2], [3]"] {
            assert_eq!(readable(text), text);
        }
        let nine = "f32[1,1,1,1,1,1,1,1,1] ".repeat(20);
        assert_eq!(readable(&nine), nine);
    }

    #[test]
    fn long_lists_and_words_are_cut() {
        let ones = vec!["1"; 5000].join(", ");
        let got = readable(&format!("f32[{ones}] and f32[2]")).into_owned();
        assert_eq!(got, "f32[1, 1, 1, 1, 1, 1, 1, 1,… 4992 more] and f32[2]");
        let name = readable(&format!("`{}`", "n".repeat(5000))).into_owned();
        assert_eq!(name.chars().count(), WORD / 2 + 1 + WORD / 4);
        assert!(readable(&"word ".repeat(5000)).len() < TEXT + 10);
        assert!(readable(&format!("[{}", "é".repeat(5000))).chars().count() < LIST * WORD);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(readable("Relu\n\u{1b}[31m"), "Relu\\n\\u{1b}[31m");
    }
}
