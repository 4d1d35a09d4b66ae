//! Acting on a page.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Click {
    /// What is clicked, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref, or a selector of it alone
    pub target: String,
    /// Double click instead of a single one
    #[serde(default)]
    pub double_click: Option<bool>,
    /// Mouse button, left by default
    #[serde(default)]
    pub button: Option<MouseButton>,
    /// Keys held down during the click
    #[serde(default)]
    #[schemars(length(max = 5))]
    pub modifiers: Option<Vec<Modifier>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MouseButton {
    #[default]
    Left,
    Right,
    Middle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum Modifier {
    Alt,
    Control,
    ControlOrMeta,
    Meta,
    Shift,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Type {
    /// What is typed into, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref, or a selector of it alone
    pub target: String,
    /// The text; it replaces what is there
    pub text: String,
    /// Press Enter afterwards
    #[serde(default)]
    pub submit: Option<bool>,
    /// Press a key per character, appending, for pages that listen to keys
    #[serde(default)]
    pub slowly: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// The element the function gets, for people
    #[serde(default)]
    pub element: Option<String>,
    /// An element to pass to the function: a ref, or a selector of it alone
    #[serde(default)]
    pub target: Option<String>,
    /// `() => { /* code */ }`, or `(element) => { /* code */ }` with a target; an expression works too
    pub function: String,
    /// Keep the result as a resource of this name
    #[serde(default)]
    pub filename: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hover {
    /// What the pointer is moved over, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref, or a selector of it alone
    pub target: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Drag {
    /// What is dragged, for people
    #[serde(default)]
    pub start_element: Option<String>,
    /// The element to drag: a ref, or a selector of it alone
    pub start_target: String,
    /// Where it is dropped, for people
    #[serde(default)]
    pub end_element: Option<String>,
    /// The element to drop it on: a ref, or a selector of it alone
    pub end_target: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PressKey {
    /// A key such as `Enter`, `ArrowLeft`, `F5` or `a`, with modifiers held down as in `Control+Shift+A`
    pub key: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyDown {
    /// Such as Shift or a
    pub key: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyUp {
    /// The key to let go
    pub key: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectOption {
    /// The drop-down, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The drop-down or list: a ref, or a selector of it alone
    pub target: String,
    /// Values or texts of the options to select; several where the list allows it
    #[schemars(length(max = 1000))]
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is checked, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref, or a selector of it alone
    pub target: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uncheck {
    /// What is unchecked, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref, or a selector of it alone
    pub target: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FillForm {
    /// The fields, filled in this order
    #[schemars(length(max = 200))]
    pub fields: Vec<FormField>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct FormField {
    /// The field, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The field: a ref, or a selector of it alone
    pub target: String,
    /// Its name, for the error message
    #[serde(default)]
    pub name: String,
    pub r#type: FieldType,
    /// What to fill in: a text, true or false for a checkbox, an option's text for a combobox, a number for a slider
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum FieldType {
    Textbox,
    Checkbox,
    Radio,
    Combobox,
    Slider,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileUpload {
    /// Not offered: use files
    #[serde(default)]
    pub paths: Option<Vec<String>>,
    /// The files; without any, the page's question is called off
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub files: Option<Vec<FileGiven>>,
    /// A file input to give them to, without clicking it first: a ref, or a selector of it alone
    #[serde(default)]
    pub target: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drop {
    /// What it is dropped onto, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref, or a selector of it alone
    pub target: String,
    /// Not offered: use files
    #[serde(default)]
    pub paths: Option<Vec<String>>,
    /// Files to drop
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub files: Option<Vec<FileGiven>>,
    /// Texts to drop by their MIME type, such as {"text/plain": "hello"}
    #[serde(default)]
    pub data: Option<BTreeMap<String, String>>,
}

/// A file that comes with the call.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(inline)]
pub struct FileGiven {
    /// Its name, without a path; by default the artifact's
    #[serde(default)]
    pub name: Option<String>,
    /// What is in it
    #[serde(default)]
    pub content: Option<String>,
    /// A file that this server keeps, in place of content: its browserfleet:// URI
    #[serde(default)]
    pub artifact: Option<String>,
    /// How content is written, text by default
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// Its type, by default from the name
    #[serde(default)]
    pub mime_type: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Encoding {
    #[default]
    Text,
    Base64,
}
