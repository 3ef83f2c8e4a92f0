//! Whether a training step fits a device, and the largest batch that does.

use super::{Recipe, TrainError, graphs::training_graph};
use crate::{
    data::Normalisation,
    graph::Graph,
    models::Model,
    nn::Parameters,
    plan::{Plan, PlanError, PlanOptions, Target},
};

/// What a plan may take.
pub(super) struct Budget {
    pub target: Target,
    pub options: PlanOptions,
    pub memory: Option<u64>,
    /// Bytes that are taken beside the plan.
    pub beside: u64,
}

impl Budget {
    /// The plan of `graph`, where it fits.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, PlanError> {
        let plan = Plan::new(graph, &self.target, self.options)?;
        let bytes = plan.memory.planned + plan.memory.resident + self.beside;
        match self.memory {
            Some(limit) if bytes > limit => {
                Err(PlanError::TooLarge { layer: String::new(), what: "the whole step".to_string(), bytes, limit })
            }
            _ => Ok(plan),
        }
    }
}

/// A plan's failure for want of memory as the error that names the largest batch.
pub(super) fn batch_too_large(
    error: PlanError,
    model: &Model,
    recipe: &Recipe,
    normalisation: &Normalisation,
    budget: &Budget,
    device: String,
) -> TrainError {
    let PlanError::TooLarge { bytes, limit, .. } = error else { return error.into() };
    let fits = |batch: usize| {
        let recipe = Recipe { batch_size: Some(batch), ..recipe.clone() };
        let Ok(groups) = recipe.parameter_groups(model) else { return false };
        let mut parameters = Parameters::with_groups(budget.target.block_limit(), groups);
        training_graph(model, &mut parameters, &recipe, normalisation)
            .is_ok_and(|(graph, _)| budget.plan(&graph).is_ok())
    };
    let (mut low, mut high) = (0, recipe.batch_size());
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    let (batch, largest, on_cpu) = (recipe.batch_size(), (low > 0).then_some(low), budget.target == Target::Cpu);
    TrainError::BatchTooLarge { batch, bytes, limit, device, largest, on_cpu }
}
