//! A training loop of your own: steps, a learning rate by your own rule, gradients by name, weights that are kept, and when to
//! stop:
//! `cargo run --release --example own_loop`.

use std::error::Error;

use gabor::{
    data::{self, Loader, LoaderOptions, Normalisation, Order},
    device, models,
    train::{EarlyStopping, Measure, ModelCheckpoint, Recipe, ReduceLrOnPlateau, Session},
};

/// Trains for so many steps; the mean losses of the first and the last ten.
fn run(steps: usize) -> Result<(f32, f32), Box<dyn Error>> {
    let splits = data::bundled(&Default::default())?;
    let normalisation = Normalisation::of(&splits.train)?;
    let recipe = Recipe { batch_size: Some(64), ..Recipe::default() };
    let order = Order::Shuffled { seed: recipe.seed };
    let train = Loader::new(splits.train, LoaderOptions { order, ..LoaderOptions::new(recipe.batch_size()) })?;
    let model = models::build("lenet5", [28, 28, 1], 10).ok_or("lenet5 is in the zoo")?;
    let mut session = Session::new(device::open("auto")?, model, recipe, normalisation)?;

    let mut losses = Vec::new();
    let mut checkpoint = ModelCheckpoint::new(1);
    let mut plateau = ReduceLrOnPlateau { factor: 0.5, ..ReduceLrOnPlateau::new(1) };
    let mut stopping = EarlyStopping::new(3);
    let mut best = session.tensors()?;
    for (step, batch) in (0..).flat_map(|epoch| train.epoch(epoch, 0)).take(steps).enumerate() {
        let mut batch = batch?;
        if step % 50 == 0 {
            let gradients = session.gradients(&mut batch)?;
            let norm = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>().sqrt();
            for (name, gradient) in gradients.iter().filter(|(name, _)| name.ends_with("weight")) {
                println!("step {step}: gradient of {name} {:.4}", norm(gradient.as_f32().unwrap_or_default()));
            }
        }
        // Half a wave every hundred steps (Loshchilov and Hutter 2016).
        let phase = std::f64::consts::PI * (step % 100) as f64 / 100.0;
        let learning_rate = plateau.scale * 5e-4 * (1.0 + phase.cos());
        // Figures come back when the device has them: those of earlier steps, or of none yet.
        losses.extend(session.train_step(&mut batch, learning_rate)?.into_iter().map(|figures| figures.loss));
        train.recycle(batch);
        if step % 100 == 99 {
            losses.extend(session.finish_steps()?.into_iter().map(|figures| figures.loss));
            let recent = mean(&losses[losses.len() - 50..]);
            println!("step {}: loss {recent:.4}", step + 1);
            let measure = Measure::minimised(recent.into());
            if checkpoint.update(step as u64 / 100, measure).0 {
                best = session.tensors()?;
            }
            plateau.update(measure);
            if stopping.update(measure) {
                break;
            }
        }
    }
    losses.extend(session.finish_steps()?.into_iter().map(|figures| figures.loss));
    session.set_tensors(&best)?;
    let test = Loader::new(splits.test.ok_or("the shipped data has a test part")?, LoaderOptions::new(64))?;
    println!("test {}", session.evaluate(&test)?);
    Ok((mean(&losses[..10]), mean(&losses[losses.len() - 10..])))
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

fn main() -> Result<(), Box<dyn Error>> {
    let (first, last) = run(600)?;
    println!("loss {first:.4} at first, {last:.4} at last");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_loss_falls() {
        let (first, last) = super::run(100).unwrap();
        assert!(last < 0.7 * first, "{first} {last}");
    }
}
