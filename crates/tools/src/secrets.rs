//! Secrets by name: how texts that are typed refer to them, and which texts those are.

use serde_json::{Map, Value};

use crate::{Arguments as _, Batch, FillForm, Type};

/// What stands before a secret's name, and behind it.
const OPEN: &str = "${secret:";
const CLOSE: char = '}';

/// How a text refers to the secret of a name. Where its value would be shown, this is.
pub fn placeholder(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// A text in pieces: as it is, or the name of a secret.
enum Piece<'a> {
    Plain(&'a str),
    Secret(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, named)) = rest.split_once(OPEN)
        && let Some((name, after)) = named.split_once(CLOSE)
    {
        pieces.extend([Piece::Plain(before), Piece::Secret(name)]);
        rest = after;
    }
    pieces.push(Piece::Plain(rest));
    pieces
}

/// The secrets that a text refers to.
pub fn names(text: &str) -> Vec<&str> {
    let secret = |piece| match piece {
        Piece::Secret(name) => Some(name),
        Piece::Plain(_) => None,
    };
    pieces(text).into_iter().filter_map(secret).collect()
}

/// A text with the values of the secrets that it refers to; `None` when one of them has none.
pub fn filled<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    pieces(text)
        .into_iter()
        .map(|piece| match piece {
            Piece::Plain(text) => Some(text),
            Piece::Secret(name) => value(name),
        })
        .collect()
}

/// The texts that a call types, those of its steps included.
pub fn typed<'a>(tool: &str, arguments: &'a Map<String, Value>) -> Vec<&'a str> {
    let items = |name: &str| arguments.get(name).and_then(Value::as_array).into_iter().flatten();
    match tool {
        Type::TOOL => arguments.get("text").and_then(Value::as_str).into_iter().collect(),
        FillForm::TOOL => items("fields").filter_map(|field| field["value"].as_str()).collect(),
        Batch::TOOL => items("steps")
            .filter_map(|step| Some((step["tool"].as_str()?, step.get("arguments")?.as_object()?)))
            .filter(|(tool, _)| *tool != Batch::TOOL)
            .flat_map(|(tool, arguments)| typed(tool, arguments))
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_refer_to_secrets_by_name() {
        assert_eq!(names("a${secret:ONE}b${secret:TWO}${secret:"), ["ONE", "TWO"]);
        assert_eq!(names(&placeholder("X")), ["X"]);
        let value = |name: &str| (name == "ONE").then_some("1");
        assert_eq!(filled("<${secret:ONE}> ${secret:", value).as_deref(), Some("<1> ${secret:"));
        assert_eq!(filled("${secret:TWO}", value), None);
    }

    #[test]
    fn what_is_typed_is_known_of_each_tool() {
        let of = |tool: &str, arguments: Value| {
            let arguments = arguments.as_object().unwrap().clone();
            typed(tool, &arguments).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let typing = json!({ "target": "e1", "text": "a" });
        assert_eq!(of("browser_type", typing.clone()), ["a"]);
        assert_eq!(of("browser_fill_form", json!({ "fields": [{ "value": "b" }] })), ["b"]);
        assert_eq!(of("browser_navigate", json!({ "url": "c" })), [""; 0]);
        let nested = json!({ "tool": "browser_batch", "arguments": { "steps": [] } });
        assert_eq!(
            of("browser_batch", json!({ "steps": [{ "tool": "browser_type", "arguments": typing }, nested] })),
            ["a"]
        );
    }
}
