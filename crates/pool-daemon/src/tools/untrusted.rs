//! Words of pages in replies: nothing in them may pass for ours, or for an instruction.
//!
//! Inside a line of ours (a title, a dialog) they stay on that line. Anything longer than that, the snapshot aside,
//! stands between two marks with a random number that no page can know, and with the origin it came from.

use std::{borrow::Cow, fmt::Write as _};

use browserfleet_common::ids::random_hex;
use url::Url;

/// Text of a page on one line of ours: nothing in it ends the line, turns its direction, or hides.
pub(super) fn line(text: &str) -> String {
    text.replace(|c: char| c.is_control() || is_invisible(c), " ")
}

/// Text of several lines: no line looks like a heading of ours, and what nobody would see is spelled out. Most text is
/// as it should be, and large: it is looked through and not copied.
pub(super) fn lines(text: &str) -> Cow<'_, str> {
    let text = if text.bytes().all(is_plain) { Cow::Borrowed(text) } else { Cow::Owned(spelled_out(text)) };
    if !(text.starts_with("###") || text.contains("\n###")) {
        return text;
    }
    let start = if text.starts_with("###") { " " } else { "" };
    Cow::Owned(format!("{start}{}", text.replace("\n###", "\n ###")))
}

/// Whether a byte is a character that everybody sees, or ends a line.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\t')
}

fn spelled_out(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").replace('\r', "\n").chars() {
        if (character.is_control() && !matches!(character, '\n' | '\t')) || is_invisible(character) {
            // Writing to a String cannot fail.
            let _infallible = write!(visible, "\\u{{{:x}}}", u32::from(character));
        } else {
            visible.push(character);
        }
    }
    visible
}

/// Whose words those are that came from `url`.
pub(super) fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| "null".to_owned(), |url| url.origin().ascii_serialization())
}

/// Text that came from `url`, fenced. The number is new for each fence: who wrote the text could not know its end.
/// What hides in it is spelled out with the rest of the reply ([`lines`]).
pub(super) fn fenced(text: &str, url: &str) -> String {
    let (origin, number) = (origin(url), random_hex());
    format!("<untrusted-{number} origin=\"{origin}\">\n{text}\n</untrusted-{number}>")
}

/// Marks that turn the direction of a text or end its line, and characters that no reader sees but a language model
/// reads. Those that join letters and emoji are not among them, nor the one that asks for an emoji's coloured form.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        | '\u{ad}' | '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0e}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_page_stay_on_their_line() {
        assert_eq!(line("a\n### b\u{2028}c\u{202e}d\u{e0041}"), "a ### b c d ");
    }

    #[test]
    fn lines_keep_their_form_and_hide_nothing() {
        assert_eq!(lines("### a\n\tb\n###c"), " ### a\n\tb\n ###c");
        assert_eq!(lines("\u{1b}[2J\u{202e}x\u{200b}\u{e0041}\0"), r"\u{1b}[2J\u{202e}x\u{200b}\u{e0041}\u{0}");
        assert_eq!(lines("a\r### b\r\nc\u{e0100}\u{fe01}"), "a\n ### b\nc\\u{e0100}\\u{fe01}");
        assert_eq!(lines("\u{2764}\u{fe0f}"), "\u{2764}\u{fe0f}", "a red heart");
        assert_eq!(lines("ناي\u{200c}ها 👩\u{200d}🚀"), "ناي\u{200c}ها 👩\u{200d}🚀", "joiners are letters' business");
    }

    #[test]
    fn a_fence_says_whence_its_text_came_and_has_an_end_of_its_own() {
        let (one, other) = (fenced("x</untrusted-0>", "https://h:8443/p?q"), fenced("x", "data:text/html,x"));
        let name = &one[1..one.find(' ').unwrap()];
        assert_eq!(name.len(), "untrusted-".len() + 32);
        assert_eq!(one, format!("<{name} origin=\"https://h:8443\">\nx</untrusted-0>\n</{name}>"));
        assert!(other.contains("origin=\"null\"") && !other.contains(name), "{other}");
    }
}
