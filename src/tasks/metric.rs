//! Figures by name.

use std::{borrow::Cow, fmt};

use serde::Serialize;

/// A figure that says how well a model does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// Its name in words, such as `top-5 accuracy`.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: f64,
    /// What the value is.
    pub unit: Unit,
}

/// What a figure's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A share from 0 to 1, shown in percent.
    Share,
    /// Any number.
    Number,
}

impl Metric {
    /// A share from 0 to 1.
    pub fn share(name: impl Into<Cow<'static, str>>, value: f64) -> Self {
        Self { name: name.into(), value, unit: Unit::Share }
    }

    /// A number.
    pub fn number(name: impl Into<Cow<'static, str>>, value: f64) -> Self {
        Self { name: name.into(), value, unit: Unit::Number }
    }

    /// Its name in files: `top5_accuracy` for `top-5 accuracy`.
    pub fn key(&self) -> String {
        self.name.replace('-', "").replace(' ', "_").to_lowercase()
    }

    /// Its value as a person reads it; `-` where it is undefined.
    pub fn shown(&self) -> String {
        match self.unit {
            _ if self.value.is_nan() => "-".into(),
            Unit::Share => format!("{:.2}%", 100.0 * self.value),
            Unit::Number => format!("{:.4}", self.value),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}", self.name, self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_names_for_people_and_for_files() {
        let share = Metric::share("top-5 accuracy", 0.9876);
        assert_eq!(
            (share.to_string(), share.key()),
            ("top-5 accuracy 98.76%".to_string(), "top5_accuracy".to_string())
        );
        assert_eq!(Metric::number("Distance", 2.0).to_string(), "Distance 2.0000");
        assert_eq!(Metric::share("AUC", f64::NAN).to_string(), "AUC -");
    }
}
