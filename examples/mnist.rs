//! Defines a network, trains it on the shipped images and tests it: `cargo run --release --example mnist`.

use gabor::{
    data::{self, Loader, LoaderOptions, Normalisation, Order},
    device,
    models::Model,
    nn::{Conv2d, Dense, Flatten, MaxPool2d, Sequential},
    train::{Control, EpochReport, Observer, Recipe, Session, TrainError, Trainer},
};

struct Print;

impl Observer for Print {
    fn on_epoch(&mut self, report: &EpochReport, _: &mut Control) -> Result<(), TrainError> {
        println!(
            "epoch {}: loss {:.4}, {}, {:.0} images/s",
            report.epoch, report.train_loss, report.train_metrics[0], report.images_per_second
        );
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = Sequential::new()
        .add(Conv2d::new(32, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(64, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Dense::new(128).relu())
        .add(Dense::new(10));
    let model = Model::new("my-cnn", [28, 28, 1], 10, network);

    let recipe = Recipe { epochs: 3, ..Recipe::default() };
    let splits = data::bundled(&Default::default())?;
    let normalisation = Normalisation::of(&splits.train)?;
    let order = Order::Shuffled { seed: recipe.seed };
    let train = Loader::new(splits.train, LoaderOptions { order, ..LoaderOptions::new(recipe.batch_size()) })?;
    let test = splits.test.ok_or("the shipped data has a test part")?;
    let test = Loader::new(test, LoaderOptions::new(recipe.batch_size()))?;

    let mut session = Session::new(device::open("auto")?, model, recipe, normalisation)?;
    println!("training on {}", session.device());
    Trainer::new(&mut session, &train).observer(&mut Print).run()?;
    println!("test {}", session.evaluate(&test)?);
    Ok(())
}
