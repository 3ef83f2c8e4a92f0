//! What can be wrong with how a run goes.

use std::fmt;

/// Something about how a run goes that a person should know. Its text names the figure and what to try.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Symptom {
    /// The first loss is far above that of guessing.
    FarFromGuessing {
        /// The loss of the first step.
        loss: f64,
        /// That of guessing.
        guessing: f64,
    },
    /// The training loss rises.
    Rising {
        /// The epoch, from 1 on.
        epoch: u64,
        /// The loss of the first step.
        first: f64,
        /// That of the epoch.
        loss: f64,
    },
    /// The training loss hardly falls.
    Slow {
        /// Epochs so far.
        epochs: u64,
        /// The loss of the first one.
        first: f64,
        /// That of the last epoch.
        loss: f64,
    },
    /// The validation loss rises while the training loss falls.
    Overfitting {
        /// The epoch of the lowest validation loss, from 1 on.
        since: u64,
        /// Validation loss then and now.
        validation: [f64; 2],
        /// Training loss then and now.
        training: [f64; 2],
    },
    /// Classes of which no validation image is told right.
    Starved {
        /// Their names.
        classes: Vec<String>,
        /// For so many epochs.
        epochs: u64,
    },
    /// Hardly anything of the gradient reaches the first layer.
    Vanishing {
        /// The step, from 1 on.
        step: u64,
        /// The first weights that are trained, and the root mean square of their gradient.
        first: (String, f64),
        /// Those of the largest one.
        largest: (String, f64),
    },
    /// A step changes weights by more than what they are.
    Exploding {
        /// The step, from 1 on.
        step: u64,
        /// The weights that change most, for what they are.
        parameter: String,
        /// Norm of the change over that of the weights.
        ratio: f64,
        /// Norm of their gradient.
        gradient: f64,
    },
    /// Steps hardly change the weights.
    Still {
        /// The step, from 1 on.
        step: u64,
        /// Norm of the change of all weights over theirs.
        ratio: f64,
        /// The learning rate.
        learning_rate: f64,
    },
    /// A rectifier that is 0 for (nearly) all images: no gradient comes through it.
    Dead {
        /// The step, from 1 on.
        step: u64,
        /// The layer.
        layer: String,
        /// Channels that are 0 everywhere in each image, and channels.
        channels: [usize; 2],
    },
    /// Training images whose loss stays high while that of the others is low: their labels may be wrong.
    Mislabelled {
        /// The images of the highest loss, the highest first: their names, classes and losses.
        images: Vec<(String, String, f32)>,
        /// How many there are.
        count: usize,
        /// Mean loss of all images.
        mean: f64,
    },
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::FarFromGuessing { loss, guessing } => write!(
                f,
                "the loss begins at {loss:.3}, and that of guessing is {guessing:.3}: the weights begin too large, or images are \
                 not normalised as the network wants them"
            ),
            Self::Rising { epoch, first, loss } => write!(
                f,
                "the training loss rose from {first:.3} at first to {loss:.3} in epoch {epoch}: a lower `learning_rate`, \
                 `warmup_steps` or a `clip_norm` of 1 usually help"
            ),
            Self::Slow { epochs, first, loss } => write!(
                f,
                "the training loss hardly falls, from {first:.3} in the first epoch to {loss:.3} after {epochs}: try a higher \
                 `learning_rate` (gabor lr-range finds one), and look whether the labels are those of the images"
            ),
            Self::Overfitting { since, validation: [lowest, now], training: [then, later] } => write!(
                f,
                "overfitting since epoch {since}: the validation loss rose from {lowest:.3} to {now:.3} while the training loss \
                 fell from {then:.3} to {later:.3}. More images, a stronger `augment`, `dropout`, `weight_decay` or an end by \
                 `patience` usually help"
            ),
            Self::Starved { classes, epochs } => write!(
                f,
                "no validation image of {} was told right in the last {epochs} epochs: add images of that kind, or try \
                 `balance_classes`",
                classes.join(", ")
            ),
            Self::Vanishing { step, first: (first, least), largest: (largest, most) } => write!(
                f,
                "the gradient vanishes on its way to the first layers: its root mean square is {least:.1e} in {first} and \
                 {most:.1e} in {largest}, at step {step}. ReLU or GELU in place of sigmoid or tanh, norms after the layers, \
                 residual connections or fewer layers usually help"
            ),
            Self::Exploding { step, parameter, ratio, gradient } => write!(
                f,
                "step {step} changed {parameter} by {ratio:.1} times its norm (norm of its gradient: {gradient:.1e}), where a \
                 thousandth is usual: a much lower `learning_rate` (gabor lr-range finds one), `warmup_steps` or a `clip_norm` of \
                 1 usually help"
            ),
            Self::Still { step, ratio, learning_rate } => write!(
                f,
                "step {step} changed the weights by {ratio:.1e} of their norm, where a thousandth is usual: the `learning_rate` of \
                 {learning_rate:.1e} is too low (gabor lr-range finds one)"
            ),
            Self::Dead { step, layer, channels: [dead, channels] } => write!(
                f,
                "{dead} of {channels} channels of the rectifier in {layer} are 0 for every image, at step {step}: no gradient \
                 comes through them, and they do not learn any more. A lower `learning_rate`, biases that begin at 0, a norm before \
                 it or leaky ReLU usually help"
            ),
            Self::Mislabelled { images, count, mean } => {
                let names = images.iter().map(|(image, class, loss)| format!("{image} ({class}, loss {loss:.1})"));
                write!(
                    f,
                    "the labels of {count} training images look wrong: their loss stays far above the mean of {mean:.2}, as that \
                     of {}. Look at them, and at the others that gabor clean finds",
                    names.collect::<Vec<_>>().join(", ")
                )
            }
        }
    }
}
