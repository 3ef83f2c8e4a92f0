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
}
