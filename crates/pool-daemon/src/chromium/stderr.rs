//! The last of what a browser wrote to stderr.

use std::collections::VecDeque;

/// How much is kept.
const TAIL: usize = 4096;

/// A bounded tail of bytes from a hostile source.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
}

impl Tail {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(TAIL)..];
        let excess = (self.bytes.len() + chunk.len()).saturating_sub(TAIL);
        self.bytes.drain(..excess);
        self.bytes.extend(chunk);
    }

    /// On one line, safe for logs and terminals.
    pub(super) fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        escape(&String::from_utf8_lossy(&[front, back].concat()))
    }
}

/// Writes control characters, and those that change the direction of text, as escapes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        if c.is_control() || is_format(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

/// Invisible characters that reorder or break what a reader sees.
fn is_format(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(chunks: &[&[u8]]) -> String {
        let mut tail = Tail::default();
        for chunk in chunks {
            tail.push(chunk);
        }
        tail.text()
    }

    #[test]
    fn control_and_bidi_characters_are_escaped() {
        let text = tail(&["a\x1b[31mred\0\r\nb\u{202e}c\u{9b}ä\n".as_bytes()]);
        assert_eq!(text, r"a\u{1b}[31mred\u{0}\r\nb\u{202e}c\u{9b}ä");
    }

    #[test]
    fn only_the_last_bytes_are_kept() {
        let text = tail(&[b"lost", &[b'x'; TAIL - 3], b"end"]);
        assert_eq!((text.len(), text.starts_with('x'), text.ends_with("xend")), (TAIL, true, true));
        assert_eq!(tail(&[b"lost", &[b'y'; 3 * TAIL]]), "y".repeat(TAIL));
    }

    #[test]
    fn bytes_that_are_not_text_become_replacement_characters() {
        assert_eq!(tail(&[&[0xff, b'a', 0xc3]]), "\u{fffd}a\u{fffd}");
    }
}
