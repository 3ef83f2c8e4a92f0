//! Which value of a step is the first that is not finite.

use super::TrainError;
use crate::{
    device,
    graph::Graph,
    nn::Parameters,
    plan::{Executor, Plan, PlanOptions, Step, Target, Work},
    tensor::{DType, Tensor},
};

/// Replays a training graph on the CPU with the executor's variables and every value kept, and names the first
/// parameter or value that is not finite; `None` where the CPU finds none.
pub(super) fn first_non_finite(
    graph: &Graph,
    parameters: &Parameters,
    executor: &mut dyn Executor,
    feeds: &[(&str, &Tensor)],
) -> Result<Option<String>, TrainError> {
    let finite = |tensor: &Tensor| tensor.as_f32().is_none_or(|values| values.iter().all(|v| v.is_finite()));
    let mut cpu = device::reference();
    cpu.declare(parameters.variables())?;
    for (id, _) in parameters.variables().iter() {
        let content = executor.read(id)?;
        cpu.write(id, 0, &content)?;
        let block = parameters.blocks().iter().position(|b| b.variable == id);
        for parameter in parameters.iter().filter(|p| Some(p.block) == block) {
            let values = content.as_f32().map(|all| &all[parameter.offset..][..parameter.shape.elements()]);
            if values.is_some_and(|values| values.iter().any(|v| !v.is_finite())) {
                return Ok(Some(format!("the parameter {}", parameter.name)));
            }
        }
    }
    let plan = Plan::new(graph, &Target::Cpu, PlanOptions { fuse: false, share: false, ..PlanOptions::default() })?;
    let steps: Vec<Step> = plan.steps.clone();
    let program = cpu.load(plan)?;
    cpu.run(program, feeds)?;
    for step in &steps {
        let Work::Run { signature, .. } = &step.work else { continue };
        for (location, ty) in step.outputs.iter().zip(&signature.outputs) {
            if ty.dtype == DType::F32 && !finite(&cpu.peek(program, *location, ty)) {
                let layer = if step.layer.is_empty() { "the network" } else { &step.layer };
                return Ok(Some(format!("layer {layer} ({})", step.name())));
            }
        }
    }
    Ok(None)
}
