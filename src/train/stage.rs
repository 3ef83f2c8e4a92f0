//! The training steps of a run: that of all parameters, and that of the head alone where a run begins with it.

use super::{
    Recipe, TrainError,
    graphs::{TrainingState, gradient_graph, stage_graph, update_graph},
};
use crate::{
    data::Normalisation,
    graph::{Graph, GraphError},
    models::Model,
    nn::Parameters,
    plan::{Executor, Plan, PlanOptions, ProgramId},
};

/// The graphs of a step.
pub(super) struct StageGraphs {
    pub graph: Graph,
    /// Where a step takes several batches, what follows them: `graph` adds up their gradients then.
    update: Option<Graph>,
}

/// A step that an executor has loaded.
pub(super) struct Stage {
    pub graph: Graph,
    pub train: ProgramId,
    pub update: Option<ProgramId>,
}

impl StageGraphs {
    /// Of what is trained of `parameters` now. `whole` is the graph of a step on one batch, where that is known.
    pub fn new(
        model: &Model,
        parameters: &mut Parameters,
        recipe: &Recipe,
        normalisation: &Normalisation,
        state: &TrainingState,
        whole: Option<Graph>,
    ) -> Result<Self, GraphError> {
        if recipe.accumulate > 1 {
            let (graph, sums) = gradient_graph(model, parameters, recipe, normalisation, state)?;
            return Ok(Self { graph, update: Some(update_graph(parameters, recipe, state, &sums)?) });
        }
        let graph = match whole {
            Some(graph) => graph,
            None => stage_graph(model, parameters, recipe, normalisation, state)?,
        };
        Ok(Self { graph, update: None })
    }

    /// Loads them, `plan` being that of the first.
    pub fn load(self, executor: &mut dyn Executor, plan: Plan) -> Result<Stage, TrainError> {
        let target = executor.target();
        let train = executor.load(plan)?;
        let update = match self.update {
            Some(graph) => Some(executor.load(Plan::new(&graph, &target, PlanOptions::default())?)?),
            None => None,
        };
        Ok(Stage { graph: self.graph, train, update })
    }
}

/// Fails where a pattern of the groups matches no parameter, or nothing is left to train.
pub(super) fn check_groups(parameters: &Parameters, state: &TrainingState, recipe: &Recipe) -> Result<(), TrainError> {
    let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    if let Some(pattern) = parameters.groups().unmatched(&names) {
        let near = near(pattern, &names).join(", ");
        let message = format!("no parameter is called {pattern}, where * is for any characters; near to it are {near}");
        return Err(TrainError::Setting(message));
    }
    if state.updates.is_empty() {
        return Err(TrainError::Setting("all parameters are frozen: there is nothing to train".into()));
    }
    if state.updates.iter().all(|update| update.group.learning_rate == 0.0) {
        let message = "the factor of the learning rate is 0 for all parameters: there is nothing to train".into();
        return Err(TrainError::Setting(message));
    }
    let Recipe { unfreeze_at: Some(epoch), epochs, .. } = recipe else { return Ok(()) };
    if state.updates.iter().all(|update| update.group.late) {
        let message = "the last dense layer is frozen: there is nothing to train before `unfreeze_at`".into();
        return Err(TrainError::Setting(message));
    }
    if epoch > epochs {
        let message = format!("`unfreeze_at` is {epoch} and must be at most `epochs`, {epochs}: all would stay frozen");
        return Err(TrainError::Setting(message));
    }
    Ok(())
}

/// The names that are most like a pattern, the most alike first.
fn near<'a>(pattern: &str, names: &[&'a str]) -> Vec<&'a str> {
    const SHOWN: usize = 5;
    let likeness = |name: &str| strsim::jaro_winkler(pattern.trim_matches('*'), name);
    let mut ranked: Vec<(f64, &str)> = names.iter().map(|name| (likeness(name), *name)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().take(SHOWN).map(|(_, name)| name).collect()
}
