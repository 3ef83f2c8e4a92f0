//! Weights of one network in another, by hand: what was learnt on the digits 0 to 4 helps with 5 to 9:
//! `cargo run --release --example transfer`.

use std::error::Error;

use gabor::{
    data::{self, Dataset, Loader, LoaderOptions, Normalisation, Order, Splits},
    device,
    models::Model,
    nn::{Conv2d, Dense, Flatten, GroupRule, MaxPool2d, Sequential},
    train::{Recipe, Session, Trainer},
};

fn model() -> Model {
    let network = Sequential::new()
        .add(Conv2d::new(16, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(32, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Dense::new(64).relu())
        .named("head", Dense::new(5));
    Model::new("five-digits", [28, 28, 1], 5, network)
}

/// Up to `count` images of the digits from `first` to `first + 4`, numbered from 0.
fn digits(set: &Dataset, first: u32, count: usize) -> Result<Dataset, Box<dyn Error>> {
    let labels = set.labels().classes().ok_or("the images are of one class each")?;
    let wanted = |index: &usize| (first..first + 5).contains(&labels[*index]);
    let set = set.subset(&(0..set.len()).filter(wanted).take(count).collect::<Vec<_>>());
    let labels: Vec<u32> = set.labels().classes().unwrap_or_default().iter().map(|label| label - first).collect();
    let names = set.classes()[first as usize..][..5].to_vec();
    let bytes = set.image_size().bytes();
    let mut pixels = vec![0; set.len() * bytes];
    for (at, image) in pixels.chunks_mut(bytes).enumerate() {
        set.read(at, image)?;
    }
    Ok(Dataset::from_pixels(set.name(), pixels, set.image_size(), labels, names)?)
}

fn session(recipe: &Recipe) -> Result<Session, Box<dyn Error>> {
    let normalisation = Normalisation { mean: vec![0.13], std: vec![0.31] };
    Ok(Session::new(device::open("auto")?, model(), recipe.clone(), normalisation)?)
}

fn train(session: &mut Session, set: Dataset) -> Result<(), Box<dyn Error>> {
    let order = Order::Shuffled { seed: session.recipe().seed };
    let loader = Loader::new(set, LoaderOptions { order, ..LoaderOptions::new(session.recipe().batch_size()) })?;
    Trainer::new(session, &loader).run()?;
    Ok(())
}

/// Accuracy on the other digits after training on fifty of them: from the start, and with what was learnt before.
fn run(splits: &Splits, images: usize) -> Result<(f64, f64), Box<dyn Error>> {
    let recipe = Recipe { epochs: 2, batch_size: Some(32), ..Recipe::default() };
    let mut first = session(&recipe)?;
    train(&mut first, digits(&splits.train, 0, images)?)?;

    // All but the last layer, and the optimizer's moments, which begin anew.
    let mut learnt = first.tensors()?;
    learnt.retain(|(name, _)| !name.contains('/') && !name.starts_with("head"));
    let frozen = GroupRule { pattern: "conv*".into(), frozen: Some(true), ..GroupRule::default() };

    let few = digits(&splits.train, 5, 50)?;
    let test = digits(splits.test.as_ref().ok_or("the shipped data has a test part")?, 5, usize::MAX)?;
    let test = Loader::new(test, LoaderOptions::new(recipe.batch_size()))?;
    let mut accuracies = Vec::new();
    for (tensors, groups) in [(&[][..], Vec::new()), (&learnt[..], vec![frozen])] {
        let mut session = session(&Recipe { epochs: 30, learning_rate: 3e-3, groups, ..recipe.clone() })?;
        session.set_tensors(tensors)?;
        train(&mut session, few.clone())?;
        accuracies.push(session.evaluate(&test)?.metric("accuracy").unwrap_or_default());
    }
    Ok((accuracies[0], accuracies[1]))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (scratch, transferred) = run(&data::bundled(&Default::default())?, usize::MAX)?;
    println!("test accuracy {:.2}% from the start, {:.2}% transferred", 100.0 * scratch, 100.0 * transferred);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learnt_helps() {
        let (scratch, transferred) = run(&data::bundled(&Default::default()).unwrap(), 3000).unwrap();
        assert!(transferred > scratch + 0.02, "{scratch} {transferred}");
    }
}
