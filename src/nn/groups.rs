//! Groups of parameters that are trained differently.

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::tensor::Shape;

/// How the parameters are trained whose names match a pattern. What is left out is as it is for all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupRule {
    /// The names, with `*` for any characters and `?` for one, such as `layer1.*` or `*.bias`.
    pub pattern: String,
    /// Factor of the learning rate.
    pub learning_rate: Option<f64>,
    /// Weight decay.
    pub weight_decay: Option<f64>,
    /// Left as they are.
    pub frozen: Option<bool>,
}

/// How a parameter is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Factor of the learning rate.
    pub learning_rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Left as it is.
    pub frozen: bool,
    /// Left as it is for as long as [`Parameters::hold_back`](super::Parameters::hold_back) says.
    pub late: bool,
    /// Its updates are orthogonal, where the optimizer makes such.
    pub orthogonal: bool,
}

/// Which parameters are trained how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    /// Decay of weights: parameters of at least two axes. Biases and what scales and shifts a norm do not decay, since
    /// they bound nothing (as in timm).
    pub weight_decay: f64,
    /// Exceptions; of several that set the same, the last counts.
    pub rules: Vec<GroupRule>,
    /// The layer that is trained before all others: they are late.
    pub head: Option<String>,
    /// The names of those whose updates are orthogonal.
    pub orthogonal: Vec<String>,
}

impl Groups {
    /// How the parameter of this name and shape is trained.
    pub fn of(&self, name: &str, shape: &Shape) -> Group {
        let weight_decay = if shape.rank() > 1 { self.weight_decay } else { 0.0 };
        let of_head = |head: &String| name.strip_prefix(head.as_str()).is_some_and(|rest| rest.starts_with('.'));
        let orthogonal = self.orthogonal.iter().any(|of| of == name);
        let late = self.head.as_ref().is_some_and(|head| !of_head(head));
        let mut group = Group { learning_rate: 1.0, weight_decay, frozen: false, late, orthogonal };
        for rule in self.rules.iter().filter(|rule| WildMatch::new(&rule.pattern).matches(name)) {
            group.learning_rate = rule.learning_rate.unwrap_or(group.learning_rate);
            group.weight_decay = rule.weight_decay.unwrap_or(group.weight_decay);
            group.frozen = rule.frozen.unwrap_or(group.frozen);
        }
        group
    }

    /// The first pattern that matches none of these names.
    pub fn unmatched(&self, names: &[&str]) -> Option<&str> {
        let matches = |rule: &&GroupRule| names.iter().any(|name| WildMatch::new(&rule.pattern).matches(name));
        self.rules.iter().find(|rule| !matches(rule)).map(|rule| rule.pattern.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_counts_and_biases_do_not_decay() {
        let rule = |pattern: &str| GroupRule { pattern: pattern.to_string(), ..GroupRule::default() };
        let groups = Groups {
            weight_decay: 0.1,
            rules: vec![
                GroupRule { frozen: Some(true), ..rule("layer1.*") },
                GroupRule { learning_rate: Some(0.5), ..rule("*.weight") },
                GroupRule { frozen: Some(false), weight_decay: Some(0.3), ..rule("layer1.?.bias") },
            ],
            head: Some("fc".into()),
            orthogonal: vec!["layer1.0.weight".into()],
        };
        let of = |name: &str, shape: &[usize]| groups.of(name, &Shape::from(shape));
        let group = |learning_rate, weight_decay, frozen| Group {
            learning_rate,
            weight_decay,
            frozen,
            late: true,
            orthogonal: false,
        };
        assert_eq!(of("layer1.0.weight", &[3, 4]), Group { orthogonal: true, ..group(0.5, 0.1, true) });
        assert_eq!(of("layer1.0.bias", &[4]), group(1.0, 0.3, false));
        assert_eq!(of("layer2.bias", &[4]), group(1.0, 0.0, false));
        assert_eq!(of("fc.bias", &[4]), Group { late: false, ..group(1.0, 0.0, false) });
        assert!(of("fc2.bias", &[4]).late);
        assert_eq!(groups.unmatched(&["layer1.0.bias", "fc.weight"]), None);
        assert_eq!(groups.unmatched(&["fc.weight"]), Some("layer1.*"));
    }
}
