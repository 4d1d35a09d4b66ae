//! Assertions about a page, and locators for tests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VerifyElementVisible {
    /// The element's role, as in the snapshot
    pub role: String,
    /// Its name, or a part of it, as in the snapshot
    pub accessible_name: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyTextVisible {
    /// The text, or a part of it, whatever its case
    pub text: String,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyListVisible {
    /// The list, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The list: a ref, or a selector of it alone
    pub target: String,
    /// Texts of items that must be in it
    #[schemars(length(max = 200))]
    pub items: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyValue {
    /// What kind of field it is
    pub r#type: ValueType,
    /// The field, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The field: a ref, or a selector of it alone
    pub target: String,
    /// The value it must have; true or false for a checkbox or radio button
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ValueType {
    Textbox,
    Checkbox,
    Radio,
    Combobox,
    Slider,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateLocator {
    /// The element, for people
    #[serde(default)]
    pub element: Option<String>,
    /// The element: a ref, or a selector of it alone
    pub target: String,
}
