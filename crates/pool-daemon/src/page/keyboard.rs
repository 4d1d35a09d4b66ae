//! A US keyboard: its keys by name, and pressing them.

use browserfleet_cdp::browser_protocol::input::{DispatchKeyEventParams, DispatchKeyEventType, InsertTextParams};
use tokio::time::Instant;

use super::{Page, input::modifier};
use crate::failure::Failure;

/// A key as it is pressed now: `a` and `A` are the same key with and without Shift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// What it means: `a`, `Enter`.
    name: String,
    /// Where it is on the keyboard: `KeyA`, `Enter`.
    code: String,
    /// The number Windows gives it, which pages still ask for.
    number: i64,
    /// 1 left, 2 right.
    location: i64,
    /// What it types by itself.
    text: Option<String>,
    /// The modifier it is, as one of CDP's bits; 0 for all others.
    modifier: i64,
    /// Whether Shift belongs to what was asked for, as in `A`.
    shift: bool,
}

/// Keys without a text: name, code, number.
const NAMED: &[(&str, &str, i64)] = &[
    ("Backspace", "Backspace", 8),
    ("Tab", "Tab", 9),
    ("Pause", "Pause", 19),
    ("CapsLock", "CapsLock", 20),
    ("Escape", "Escape", 27),
    ("PageUp", "PageUp", 33),
    ("PageDown", "PageDown", 34),
    ("End", "End", 35),
    ("Home", "Home", 36),
    ("ArrowLeft", "ArrowLeft", 37),
    ("ArrowUp", "ArrowUp", 38),
    ("ArrowRight", "ArrowRight", 39),
    ("ArrowDown", "ArrowDown", 40),
    ("PrintScreen", "PrintScreen", 44),
    ("Insert", "Insert", 45),
    ("Delete", "Delete", 46),
    ("ContextMenu", "ContextMenu", 93),
    ("F1", "F1", 112),
    ("F2", "F2", 113),
    ("F3", "F3", 114),
    ("F4", "F4", 115),
    ("F5", "F5", 116),
    ("F6", "F6", 117),
    ("F7", "F7", 118),
    ("F8", "F8", 119),
    ("F9", "F9", 120),
    ("F10", "F10", 121),
    ("F11", "F11", 122),
    ("F12", "F12", 123),
    ("NumLock", "NumLock", 144),
    ("ScrollLock", "ScrollLock", 145),
];

/// Modifier keys: name, the code without its side, number, CDP's bit.
const MODIFIERS: &[(&str, &str, i64, i64)] = &[
    ("Shift", "Shift", 16, modifier::SHIFT),
    ("Control", "Control", 17, modifier::CONTROL),
    // Chromium on Linux: the key that selects all and copies is Control.
    ("ControlOrMeta", "Control", 17, modifier::CONTROL),
    ("Alt", "Alt", 18, modifier::ALT),
    ("Meta", "Meta", 91, modifier::META),
];

/// Keys that type: the two characters without and with Shift, code, number. Letters and digits are computed.
const TYPING: &[(char, char, &str, i64)] = &[
    (' ', ' ', "Space", 32),
    (';', ':', "Semicolon", 186),
    ('=', '+', "Equal", 187),
    (',', '<', "Comma", 188),
    ('-', '_', "Minus", 189),
    ('.', '>', "Period", 190),
    ('/', '?', "Slash", 191),
    ('`', '~', "Backquote", 192),
    ('[', '{', "BracketLeft", 219),
    ('\\', '|', "Backslash", 220),
    (']', '}', "BracketRight", 221),
    ('\'', '"', "Quote", 222),
];

/// What the digits type with Shift, from 0.
const SHIFTED_DIGITS: [char; 10] = [')', '!', '@', '#', '$', '%', '^', '&', '*', '('];

impl Key {
    /// The key of a name (`Enter`), a code (`KeyA`) or a character (`a`).
    pub(super) fn of(name: &str) -> Option<Self> {
        if matches!(name, "Enter" | "\n" | "\r") {
            return Some(Self { text: Some("\r".to_owned()), ..Self::plain("Enter", "Enter", 13) });
        }
        if let Some((name, code, number)) = NAMED.iter().find(|(named, ..)| *named == name) {
            return Some(Self::plain(name, code, *number));
        }
        Self::modifier(name).or_else(|| Self::typing(name))
    }

    fn plain(name: &str, code: &str, number: i64) -> Self {
        let (name, code) = (name.to_owned(), code.to_owned());
        Self { name, code, number, location: 0, text: None, modifier: 0, shift: false }
    }

    fn modifier(name: &str) -> Option<Self> {
        let (bare, side, location) = match (name.strip_suffix("Left"), name.strip_suffix("Right")) {
            (Some(bare), _) => (bare, "Left", 1),
            (_, Some(bare)) => (bare, "Right", 2),
            _ => (name, "Left", 1),
        };
        let (_, code, number, bit) = MODIFIERS.iter().find(|(named, ..)| *named == bare)?;
        let key = Self::plain(code, &format!("{code}{side}"), *number);
        Some(Self { location, modifier: *bit, ..key })
    }

    fn typing(name: &str) -> Option<Self> {
        let mut characters = name.chars();
        let only = characters.next().filter(|_| characters.next().is_none());
        let typed = |character: char, code: String, number: i64, shift: bool| Self {
            text: Some(character.to_string()),
            shift,
            ..Self::plain(&character.to_string(), &code, number)
        };
        let letter = only.or_else(|| name.strip_prefix("Key")?.parse().ok().filter(char::is_ascii_uppercase));
        if let Some(letter) = letter.filter(char::is_ascii_alphabetic) {
            let upper = letter.to_ascii_uppercase();
            // `KeyA` is the key by itself.
            let meant = if only.is_some() { letter } else { letter.to_ascii_lowercase() };
            return Some(typed(meant, format!("Key{upper}"), i64::from(u32::from(upper)), meant == upper));
        }
        let digit = only.or_else(|| name.strip_prefix("Digit")?.parse().ok()).filter(char::is_ascii_digit);
        if let Some(digit) = digit {
            return Some(typed(digit, format!("Digit{digit}"), i64::from(u32::from(digit)), false));
        }
        if let Some(digit) = SHIFTED_DIGITS.iter().position(|&shifted| Some(shifted) == only) {
            let number = 48 + i64::try_from(digit).unwrap_or(0);
            return Some(typed(SHIFTED_DIGITS[digit], format!("Digit{digit}"), number, true));
        }
        let (plain, shifted, code, number) = TYPING
            .iter()
            .find(|(plain, shifted, code, _)| only == Some(*plain) || only == Some(*shifted) || *code == name)?;
        let shift = only == Some(*shifted) && plain != shifted;
        Some(typed(if shift { *shifted } else { *plain }, (*code).to_owned(), *number, shift))
    }

    /// What the key types and is called while these modifiers are held.
    fn with(mut self, modifiers: i64) -> Self {
        if modifiers & modifier::SHIFT != 0 && !self.shift && self.text.is_some() {
            self.shifted();
        }
        // Control and its like turn typing into commands.
        if modifiers & !modifier::SHIFT != 0 {
            self.text = None;
        }
        self
    }

    fn shifted(&mut self) {
        let Some(plain) = self.name.chars().next().filter(|_| self.name.len() == 1) else { return };
        let shifted = match plain {
            'a'..='z' => plain.to_ascii_uppercase(),
            '0'..='9' => usize::try_from(u32::from(plain) - 48).map_or(plain, |digit| SHIFTED_DIGITS[digit]),
            _ => TYPING.iter().find(|(other, ..)| *other == plain).map_or(plain, |(_, shifted, ..)| *shifted),
        };
        self.name = shifted.to_string();
        self.text = Some(self.name.clone());
    }

    fn event(&self, kind: DispatchKeyEventType, modifiers: i64) -> DispatchKeyEventParams {
        let down = kind != DispatchKeyEventType::KeyUp;
        let mut event = DispatchKeyEventParams::new(kind);
        event.key = Some(self.name.clone());
        event.code = Some(self.code.clone());
        event.windows_virtual_key_code = Some(self.number);
        event.modifiers = Some(modifiers);
        event.location = (self.location != 0).then_some(self.location);
        event.text = self.text.clone().filter(|_| down);
        event
    }
}

/// The parts of `Control+Shift+A`; the last one may be a plus itself.
fn chord(keys: &str) -> Vec<&str> {
    let (held, last) = match keys.strip_suffix('+') {
        Some(held) => (held.strip_suffix('+').unwrap_or(held), "+"),
        None => keys.rsplit_once('+').unwrap_or(("", keys)),
    };
    let mut parts: Vec<_> = held.split('+').filter(|part| !part.is_empty()).collect();
    parts.push(last);
    parts
}

fn unknown(key: &str) -> Failure {
    Failure::invalid(format!(
        "Unknown key: \"{key}\". Keys are called as in KeyboardEvent.key: Enter, ArrowLeft, F5, a"
    ))
}

impl Page {
    /// Types one character: its key where the keyboard has one, else as an input method would.
    pub(super) async fn type_character(&self, character: char, deadline: Instant) -> Result<(), Failure> {
        if Key::of(character.encode_utf8(&mut [0; 4])).is_some() {
            self.press(&character.to_string(), deadline).await
        } else {
            self.insert(&character.to_string(), deadline).await
        }
    }

    pub(super) async fn insert(&self, text: &str, deadline: Instant) -> Result<(), Failure> {
        self.unless_dialog(self.call(InsertTextParams::new(text), deadline)).await.map(drop)
    }

    /// Presses and releases a key, with others held down meanwhile: `Enter`, `a`, `Control+Shift+A`.
    pub async fn press(&self, keys: &str, deadline: Instant) -> Result<(), Failure> {
        let parts = chord(keys);
        let known: Option<Vec<Key>> = parts.iter().map(|part| Key::of(part)).collect();
        let Some(known) = known else {
            // A character that no key makes, such as ü.
            return if parts.len() == 1 && keys.chars().count() == 1 {
                self.insert(keys, deadline).await
            } else {
                Err(unknown(parts.iter().find(|part| Key::of(part).is_none()).unwrap_or(&keys)))
            };
        };
        let pressed = async {
            for key in &known {
                self.down(key, deadline).await?;
            }
            Ok(())
        }
        .await;
        // Also what came before a dialog goes up again: nobody holds it any more.
        for key in known.iter().rev() {
            self.up(key, deadline).await?;
        }
        pressed
    }

    /// Holds a key down.
    pub async fn key_down(&self, key: &str, deadline: Instant) -> Result<(), Failure> {
        self.down(&Key::of(key).ok_or_else(|| unknown(key))?, deadline).await
    }

    /// Lets a key go.
    pub async fn key_up(&self, key: &str, deadline: Instant) -> Result<(), Failure> {
        self.up(&Key::of(key).ok_or_else(|| unknown(key))?, deadline).await
    }

    /// The modifiers that are held down now, as CDP's bits.
    pub(super) fn held_modifiers(&self) -> i64 {
        self.state().held.iter().fold(0, |bits, key| bits | key.modifier)
    }

    async fn down(&self, key: &Key, deadline: Instant) -> Result<(), Failure> {
        let repeated = self.state().held.iter().any(|held| held.code == key.code);
        if !repeated {
            self.state().held.push(key.clone());
        }
        let modifiers = self.held_modifiers() | if key.shift { modifier::SHIFT } else { 0 };
        let key = key.clone().with(modifiers);
        let kind = if key.text.is_some() { DispatchKeyEventType::KeyDown } else { DispatchKeyEventType::RawKeyDown };
        let mut event = key.event(kind, modifiers);
        event.auto_repeat = repeated.then_some(true);
        self.unless_dialog(self.call(event, deadline)).await.map(drop)
    }

    pub(super) async fn up(&self, key: &Key, deadline: Instant) -> Result<(), Failure> {
        self.state().held.retain(|held| held.code != key.code);
        let modifiers = self.held_modifiers();
        let event = key.clone().with(modifiers).event(DispatchKeyEventType::KeyUp, modifiers);
        self.unless_dialog(self.call(event, deadline)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_name_code_and_character() {
        for (name, code, number, shift) in [
            ("Q", "KeyQ", 81, true),
            ("q", "KeyQ", 81, false),
            ("KeyQ", "KeyQ", 81, false),
            ("7", "Digit7", 55, false),
            ("&", "Digit7", 55, true),
            ("Digit7", "Digit7", 55, false),
            ("?", "Slash", 191, true),
            (" ", "Space", 32, false),
            ("Space", "Space", 32, false),
            ("\n", "Enter", 13, false),
            ("F12", "F12", 123, false),
            ("ControlRight", "ControlRight", 17, false),
            ("ControlOrMeta", "ControlLeft", 17, false),
        ] {
            let key = Key::of(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!((key.code.as_str(), key.number, key.shift), (code, number, shift), "{name}");
        }
        for name in ["ü", "語", "ab", "", "enter", "Keyq", "Key", "Left"] {
            assert_eq!(Key::of(name), None, "{name}");
        }
    }

    #[test]
    fn modifiers_change_what_a_key_types() {
        let typed = |name: &str, modifiers: i64| {
            let key = Key::of(name).unwrap().with(modifiers);
            (key.name, key.text)
        };
        assert_eq!(typed("a", modifier::SHIFT), ("A".to_owned(), Some("A".to_owned())));
        assert_eq!(typed("7", modifier::SHIFT).0, "&");
        assert_eq!(typed("/", modifier::SHIFT).0, "?");
        assert_eq!(typed("a", modifier::CONTROL), ("a".to_owned(), None));
        assert_eq!(typed("Enter", modifier::SHIFT), ("Enter".to_owned(), Some("\r".to_owned())));
    }

    #[test]
    fn a_plus_is_a_key_too() {
        assert_eq!(chord("Control+Shift+A"), ["Control", "Shift", "A"]);
        assert_eq!(chord("+"), ["+"]);
        assert_eq!(chord("Control++"), ["Control", "+"]);
        assert_eq!(chord("a"), ["a"]);
    }
}
