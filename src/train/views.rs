//! What an augmentation makes of images, to be looked at.

use super::TrainError;
use crate::{
    augment::{Augmentation, Drawn},
    graph::{Graph, Source},
    kernel::random,
    plan::{Executor, Plan, PlanOptions},
    tensor::Tensor,
};

/// Images u8 `[batch, height, width, channels]` as they would be trained on in step `step` of a run of this seed, the first of
/// them being the first of its batch. What training erases by the mean of all images is black.
///
/// # Errors
/// If they are no such images, or the device fails.
pub fn augmented(
    executor: &mut dyn Executor,
    augmentation: &Augmentation,
    images: &Tensor,
    seed: u64,
    step: u64,
) -> Result<Tensor, TrainError> {
    let ty = images.ty();
    let &[batch, height, width, channels] = &ty.shape[..] else {
        return Err(TrainError::Setting(format!("images are u8[batch, height, width, channels], and not {ty}")));
    };
    let size = [height, width, channels];
    let augmentation = augmentation.resolved(size);
    let mut graph = Graph::new();
    let given = graph.feed("images", ty.clone());
    let [mean, deviation] = [0.0, 1.0].map(|x| graph.constant(Tensor::f32([channels], vec![x; channels])));
    let varied = augmentation.apply(&mut graph, given, mean, deviation)?;
    graph.output("varied", varied);
    let indices: Vec<u32> = (0..batch as u32).collect();
    let clock = random::clock(seed, step);
    let clock = clock.as_u32().and_then(|words| words.try_into().ok()).unwrap_or_default();
    let draws = augmentation.draw(&Drawn { clock, epoch: step, indices: &indices, real: batch, size });
    // Not the shares of labels, of which there are none.
    let is_fed = |name: &str| graph.nodes().iter().any(|node| matches!(&node.source, Source::Feed(fed) if fed == name));
    let drawn = draws.feeds.iter().filter(|(name, _)| is_fed(name)).map(|(name, tensor)| (*name, tensor));
    let program = executor.load(Plan::new(&graph, &executor.target(), PlanOptions::default())?)?;
    let mut feeds = vec![("images", images)];
    feeds.extend(drawn);
    executor.run(program, &feeds)?;
    let outputs = executor.collect(program, true)?.pop().unwrap_or_default();
    let values = outputs.first().and_then(|(_, values)| values.as_f32()).unwrap_or_default();
    let bytes = values.iter().map(|x| (255.0 * x).round().clamp(0.0, 255.0) as u8).collect();
    Ok(Tensor::u8(ty.shape, bytes))
}
