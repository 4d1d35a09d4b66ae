//! What a message too large to be taken was about: its envelope, read in passing while the rest is thrown away.
//!
//! Chromium writes the id first, but nothing says that it must: the keys of the outermost object are found wherever
//! they stand.

/// Longest key or value that is looked at.
const TOKEN: usize = 128;

/// The envelope of a skipped message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Skimmed {
    pub(crate) bytes: usize,
    /// The command it answers.
    pub(crate) id: Option<u64>,
    /// The event it is.
    pub(crate) method: Option<String>,
    pub(crate) session: Option<String>,
}

/// Reads JSON byte by byte, just enough to know where the outermost object's own keys are.
#[derive(Debug, Default)]
pub(crate) struct Skim {
    found: Skimmed,
    depth: u64,
    in_string: bool,
    escaped: bool,
    /// The key whose value is being read; `None` before its colon.
    key: Option<Vec<u8>>,
    /// The string or number being read in the outermost object.
    token: Vec<u8>,
}

impl Skim {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.found.bytes += bytes.len();
        for &byte in bytes {
            if self.in_string { self.in_string(byte) } else { self.between_strings(byte) }
        }
    }

    pub(crate) fn finish(self) -> Skimmed {
        self.found
    }

    fn in_string(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.in_string = false;
                return;
            }
            _ => {}
        }
        self.keep(byte);
    }

    fn between_strings(&mut self, byte: u8) {
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                self.token.clear();
            }
            b':' if self.depth == 1 => self.key = Some(std::mem::take(&mut self.token)),
            b',' if self.depth == 1 => self.value(),
            b'}' | b']' => {
                if self.depth == 1 {
                    self.value();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            byte if byte.is_ascii_whitespace() => {}
            byte => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.token.len() <= TOKEN {
            self.token.push(byte);
        }
    }

    /// A value of the outermost object has ended.
    fn value(&mut self) {
        let (key, token) = (self.key.take(), std::mem::take(&mut self.token));
        let text = String::from_utf8(token).ok().filter(|text| !text.is_empty() && text.len() <= TOKEN);
        match key.as_deref() {
            Some(b"id") => self.found.id = text.and_then(|text| text.parse().ok()),
            Some(b"method") => self.found.method = text,
            Some(b"sessionId") => self.found.session = text,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skimmed(json: &str, chunk: usize) -> Skimmed {
        let mut skim = Skim::default();
        json.as_bytes().chunks(chunk).for_each(|bytes| skim.feed(bytes));
        skim.finish()
    }

    #[test]
    fn the_envelope_is_found_wherever_its_keys_stand() {
        let result = r#"{"id":1,"a":["\",\"id\":2}",{"id":3}],"sessionId":"no"}"#;
        for json in [
            format!(r#"{{"id":7,"sessionId":"S","result":{result}}}"#),
            format!(r#"{{"result":{result},"id":7,"sessionId":"S"}}"#),
            format!(r#"{{ "sessionId" : "S" , "result" : {result} , "id" : 7 }}"#),
        ] {
            for chunk in [1, 7, 1000] {
                let expected = Skimmed { bytes: json.len(), id: Some(7), method: None, session: Some("S".to_owned()) };
                assert_eq!(skimmed(&json, chunk), expected, "{json}");
            }
        }
    }

    #[test]
    fn an_event_is_known_by_its_method() {
        let json = format!(r#"{{"method":"A.b","params":{{"x":"{}"}},"sessionId":"S"}}"#, "y".repeat(1000));
        let found = skimmed(&json, 64);
        assert_eq!((found.id, found.method.as_deref(), found.session.as_deref()), (None, Some("A.b"), Some("S")));
    }

    #[test]
    fn nonsense_is_nothing() {
        for json in ["", "}}]]", "\"\"\"", "{\"id\":\"x\"}", "{\"id\":-1}", "[{\"id\":1}]", "\\\\"] {
            assert_eq!(skimmed(json, 3).id, None, "{json}");
        }
        let long = format!(r#"{{"id":{}}}"#, "1".repeat(1000));
        assert_eq!(skimmed(&long, 10).id, None);
    }
}
