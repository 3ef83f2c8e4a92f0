//! Losses that are computed element by element.

use super::Pointwise;
use crate::{
    graph::{Graph, GraphError, Value},
    kernel::Expr,
};

impl Graph {
    /// Cross-entropy of the logistic function of `logits` and of `targets`, which are probabilities of the same shape:
    /// for each element `ln(1 + e^x) - t * x`. `positive_weight` broadcasts to the targets and is the factor of that part
    /// of the loss which a target of 1 has: `(1 - t) * ln(1 + e^x) + w * t * ln(1 + e^-x)`. Only the logits have a
    /// gradient.
    ///
    /// # Errors
    /// If the inputs do not hold f32 or do not broadcast.
    pub fn sigmoid_cross_entropy(
        &mut self,
        logits: Value,
        targets: Value,
        positive_weight: Value,
    ) -> Result<Value, GraphError> {
        let [x, target, weight] = [0, 1, 2].map(Expr::Input);
        let one = || Expr::from(1.0);
        // Of a large magnitude nothing overflows: e^-|x| tends to 0.
        let tail = (one() + (-x.clone().abs()).exp()).ln();
        let [of_positive, of_negative] = [(-x.clone()).max(0.0), x.clone().max(0.0)].map(|part| part + tail.clone());
        let positive = weight * target.clone();
        let negative = one() - target;
        let loss = positive.clone() * of_positive + negative.clone() * of_negative;
        let probability = x.sigmoid();
        let slope = (positive.clone() + negative) * probability - positive;
        let op = Pointwise::new("sigmoid_cross_entropy", 3, loss).with_derivatives([Some(slope), None, None]);
        self.map(op, &[logits, targets, positive_weight])
    }

    /// Focal losses (Lin et al. 2017): `(1 - p)^focus * loss` of cross-entropies `loss = -ln p`.
    ///
    /// # Errors
    /// If the losses are not f32.
    pub fn focal(&mut self, losses: Value, focus: f64) -> Result<Value, GraphError> {
        let [loss, p] = [Expr::Input(0), (-Expr::Input(0)).exp()];
        // So that the logarithm of what is next to certain is finite.
        let missing = (Expr::from(1.0) - p.clone()).max(1e-7);
        let power = (missing.clone().ln() * focus).exp();
        let slope = power.clone() + power.clone() / missing * p * loss.clone() * focus;
        self.map(Pointwise::new("focal", 1, power * loss).with_derivatives([Some(slope)]), &[losses])
    }

    /// The mean of two values with the share that the first has: `share * a + (1 - share) * b`. The share has no gradient.
    ///
    /// # Errors
    /// If the inputs do not hold f32 or do not broadcast.
    pub fn mean_by_share(&mut self, a: Value, b: Value, share: Value) -> Result<Value, GraphError> {
        let [first, second, of_first] = [0, 1, 2].map(Expr::Input);
        let of_second = Expr::from(1.0) - of_first.clone();
        let mean = of_first.clone() * first + of_second.clone() * second;
        let op = Pointwise::new("mean_by_share", 3, mean).with_derivatives([Some(of_first), Some(of_second), None]);
        self.map(op, &[a, b, share])
    }
}
