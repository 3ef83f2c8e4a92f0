//! Attributes: what an operation is made with, by name.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use thiserror::Error;

/// What an operation is made with: its kind, such as `conv2d`, and all its settings by name, as JSON has them. Enough to
/// print it, to tell it apart from others, and to make it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// What it is made by, such as `pointwise` of all operations that are an expression, whatever their names.
    #[serde(rename = "op")]
    pub kind: String,
    /// The settings.
    #[serde(rename = "attributes", default, skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
}

/// Attributes that no operation can be made with.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the attributes of {kind:?}: {message}")]
pub struct AttributesError {
    /// The operation.
    pub kind: String,
    /// What is wrong, with the name of the attribute.
    pub message: String,
}

impl Attributes {
    /// The fields of `op`, a struct whose fields have names.
    ///
    /// # Panics
    /// If JSON cannot express a field: a map whose keys are no strings.
    pub fn of(kind: &str, op: &impl Serialize) -> Self {
        let settings = match serde_json::to_value(op).expect("the fields of an operation are plain data") {
            Value::Object(settings) => settings,
            // A struct without fields.
            Value::Null => Map::new(),
            value => Map::from_iter([("value".to_string(), value)]),
        };
        Self { kind: kind.to_string(), settings }
    }

    /// The struct of these fields.
    ///
    /// # Errors
    /// If one is missing, unknown, of another type, or a number that no shape or setting can be.
    pub fn make<T: DeserializeOwned>(&self) -> Result<T, AttributesError> {
        if let Some((name, _)) = self.settings.iter().find(|(_, value)| !is_plain(value)) {
            let message = format!("{name:?} holds a whole number above {} or a control character", u32::MAX);
            return Err(AttributesError { kind: self.kind.clone(), message });
        }
        let fail = |error: serde_json::Error| AttributesError { kind: self.kind.clone(), message: error.to_string() };
        match self.settings.is_empty() {
            // A struct without fields is null to serde; one whose fields may all be left out is not.
            true => serde_json::from_value(Value::Null).or_else(|_| serde_json::from_value(Value::Object(Map::new()))),
            false => serde_json::from_value(Value::Object(self.settings.clone())),
        }
        .map_err(fail)
    }
}

/// Whether sums of the sizes that it gives cannot overflow, and its text can be printed.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_u64().is_none_or(|number| number <= u64::from(u32::MAX)),
        Value::Array(values) => values.iter().all(is_plain),
        Value::Object(values) => values.values().all(is_plain),
        Value::String(text) => !text.chars().any(char::is_control),
        Value::Null | Value::Bool(_) => true,
    }
}

/// Such as `conv2d {"groups":1,"stride":[1,1]}`.
impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = serde_json::to_string(&self.settings).map_err(|_| fmt::Error)?;
        write!(f, "{} {settings}", self.kind)
    }
}
