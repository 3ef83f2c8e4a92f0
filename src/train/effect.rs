//! Settings that do nothing.

use super::Recipe;
use crate::{augment::Policy, models::Model, ops::Fill};

impl Recipe {
    /// What is said of each setting that has no effect on training `model` with `batches` batches an epoch, as people who gave it
    /// expect one.
    pub fn without_effect(&self, model: &Model, batches: usize) -> Vec<String> {
        let default = Self::default();
        let resolved = self.augment.resolved(model.input);
        let positive = |number: Option<f64>| number.is_some_and(|number| number > 0.0);
        let mut said = Vec::new();
        let mut say = |without: bool, setting: &str, why: &str| {
            if without {
                said.push(format!("`{setting}` has no effect: {why}"));
            }
        };
        let given = &self.augment;
        let grey = model.input[2] != 3;
        for (setting, value) in [("hue", given.hue), ("saturation", given.saturation), ("grayscale", given.grayscale)] {
            say(grey && positive(value), setting, "the images are grey");
        }
        let other_policy = resolved.policy != Some(Policy::RandAugment);
        for (setting, is_given) in [
            ("policy_magnitude", given.policy_magnitude.is_some()),
            ("policy_operations", given.policy_operations.is_some()),
        ] {
            say(other_policy && is_given, setting, "it is for the `policy` randaugment");
        }
        let other_fill = resolved.fill_mode.unwrap_or_default() != Fill::Constant;
        say(other_fill && given.fill_value.is_some(), "fill_value", "it is for the `fill_mode` constant");
        for (setting, value) in [("mixup", resolved.mixup), ("cutmix", resolved.cutmix)] {
            say(
                self.batch_size() == 1 && positive(value),
                setting,
                "a `batch_size` of 1 leaves no other image to mix with",
            );
        }
        for (setting, changed) in [
            ("plateau_factor", self.plateau_factor != default.plateau_factor),
            ("min_lr", self.min_lr != default.min_lr),
        ] {
            say(self.plateau.is_none() && changed, setting, "it is for `plateau`, which was not given");
        }
        for (setting, changed) in [
            ("lookahead_alpha", self.lookahead_alpha != default.lookahead_alpha),
            ("lookahead_ramp", self.lookahead_ramp != default.lookahead_ramp),
        ] {
            say(self.lookahead.is_none() && changed, setting, "it is for `lookahead`, which was not given");
        }
        let nothing_waits = self.plateau.is_none() && self.patience.is_none();
        say(
            nothing_waits && self.min_delta > 0.0,
            "min_delta",
            "it is for `patience` and `plateau`, and neither was given",
        );
        for (setting, changed) in [
            ("teacher_weight", self.teacher_weight != default.teacher_weight),
            ("teacher_temperature", self.teacher_temperature != default.teacher_temperature),
        ] {
            say(model.teacher.is_none() && changed, setting, "there is no `teacher`");
        }
        let total = self.total_steps(batches);
        if let Some(lookahead) = self.lookahead.filter(|steps| *steps > total) {
            said.push(format!(
                "`lookahead` is every {lookahead} steps and the run has {total}: the weights that are evaluated and kept stay \
                 as they begin"
            ));
        }
        if self.warmup_steps >= total {
            said.push(format!(
                "`warmup_steps` is {} and the run has {total} steps: the `learning_rate` is not reached before its end",
                self.warmup_steps
            ));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{augment::Augmentation, models};

    #[test]
    fn what_does_nothing_is_told_and_what_does_something_is_not() {
        let [grey, coloured] = [1, 3].map(|channels| models::build("lenet5", [28, 28, channels], 10).unwrap());
        let recipe = Recipe::default();
        let augment = Augmentation::default();
        let cases = [
            ("hue", Recipe { augment: Augmentation { hue: Some(0.1), ..augment.clone() }, ..recipe.clone() }),
            (
                "saturation",
                Recipe { augment: Augmentation { saturation: Some(0.1), ..augment.clone() }, ..recipe.clone() },
            ),
            (
                "policy_magnitude",
                Recipe {
                    augment: Augmentation {
                        policy: Some(Policy::TrivialAugment),
                        policy_magnitude: Some(5.0),
                        ..augment.clone()
                    },
                    ..recipe.clone()
                },
            ),
            (
                "fill_value",
                Recipe {
                    augment: Augmentation { fill_mode: Some(Fill::Nearest), fill_value: Some(5.0), ..augment.clone() },
                    ..recipe.clone()
                },
            ),
            (
                "mixup",
                Recipe {
                    batch_size: Some(1),
                    augment: Augmentation { mixup: Some(0.2), ..augment.clone() },
                    ..recipe.clone()
                },
            ),
            ("plateau_factor", Recipe { plateau_factor: 0.5, ..recipe.clone() }),
            ("min_lr", Recipe { min_lr: 1e-5, ..recipe.clone() }),
            ("lookahead_alpha", Recipe { lookahead_alpha: 0.6, ..recipe.clone() }),
            ("min_delta", Recipe { min_delta: 0.1, ..recipe.clone() }),
            ("teacher_weight", Recipe { teacher_weight: 0.9, ..recipe.clone() }),
            ("lookahead", Recipe { lookahead: Some(201), ..recipe.clone() }),
            ("warmup_steps", Recipe { warmup_steps: 200, ..recipe.clone() }),
        ];
        for (setting, recipe) in cases {
            let said = recipe.without_effect(&grey, 10);
            assert!(said.len() == 1 && said[0].starts_with(&format!("`{setting}` ")), "{setting}: {said:?}");
        }
        assert!(recipe.without_effect(&grey, 10).is_empty());
        let with_effect = Recipe {
            warmup_steps: 199,
            lookahead: Some(200),
            plateau: Some(2),
            plateau_factor: 0.5,
            min_delta: 0.1,
            augment: Augmentation {
                hue: Some(0.1),
                policy: Some(Policy::RandAugment),
                policy_magnitude: Some(5.0),
                mixup: Some(0.2),
                ..augment
            },
            ..recipe
        };
        assert_eq!(with_effect.without_effect(&coloured, 10), [""; 0]);
    }
}
