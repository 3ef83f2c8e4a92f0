//! Images of your own origin, here drawn as they are asked for: `cargo run --release --example own_data`.

use std::{error::Error, sync::Arc};

use gabor::{
    data::{DataError, Dataset, ImageSize, ImageSource, Loader, LoaderOptions, Normalisation, Order},
    device,
    models::Model,
    nn::{Conv2d, Dense, GlobalAveragePool, Sequential},
    tasks::Evaluation,
    train::{Recipe, Session, Trainer},
};

const SIZE: ImageSize = ImageSize::new(16, 16, 1);

/// Discs and squares of several sizes at several places.
struct Shapes {
    count: usize,
}

impl Shapes {
    fn is_disc(index: usize) -> bool {
        index.is_multiple_of(2)
    }
}

impl ImageSource for Shapes {
    fn len(&self) -> usize {
        self.count
    }

    fn name(&self, index: usize) -> String {
        format!("shape {index}")
    }

    fn read(&self, index: usize, out: &mut [u8]) -> Result<(), DataError> {
        // Any numbers will do that an index gives always alike.
        let number = |salt: usize, below: usize| (index * 2_654_435_761 + salt * 40_503) / 65_536 % below;
        let radius = 3.0 + number(1, 100) as f32 / 50.0;
        let [row, column] = [2, 3].map(|salt| 6.0 + number(salt, 100) as f32 / 25.0);
        let brightness = 120 + number(4, 120) as u8;
        for (at, pixel) in out.iter_mut().enumerate() {
            let [y, x] = [(at / SIZE.width) as f32 - row, (at % SIZE.width) as f32 - column];
            let inside =
                if Self::is_disc(index) { x.hypot(y) <= radius } else { x.abs().max(y.abs()) <= 0.85 * radius };
            *pixel = if inside { brightness } else { 20 };
        }
        Ok(())
    }
}

fn shapes(count: usize) -> Result<Dataset, DataError> {
    let labels: Vec<u32> = (0..count).map(|index| u32::from(!Shapes::is_disc(index))).collect();
    Dataset::new("shapes", Arc::new(Shapes { count }), SIZE, labels, vec!["disc".into(), "square".into()])
}

/// Trains on the first shapes; the figures of the others.
fn run() -> Result<Evaluation, Box<dyn Error>> {
    let all = shapes(1280)?;
    let (train, test): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|index| *index < 1024);
    let (train, test) = (all.subset(&train), all.subset(&test));
    let recipe = Recipe { epochs: 8, batch_size: Some(32), learning_rate: 1e-2, ..Recipe::default() };
    let normalisation = Normalisation::of(&train)?;
    let order = Order::Shuffled { seed: recipe.seed };
    let train = Loader::new(train, LoaderOptions { order, ..LoaderOptions::new(recipe.batch_size()) })?;
    let test = Loader::new(test, LoaderOptions::new(recipe.batch_size()))?;

    let network = Sequential::new()
        .add(Conv2d::new(16, 5).stride(2).relu())
        .add(Conv2d::new(32, 3).relu())
        .add(GlobalAveragePool)
        .add(Dense::new(2));
    let model = Model::new("shapes", [SIZE.height, SIZE.width, SIZE.channels], 2, network);
    let mut session = Session::new(device::open("auto")?, model, recipe, normalisation)?;
    Trainer::new(&mut session, &train).run()?;
    Ok(session.evaluate(&test)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", run()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn shapes_are_told_apart() {
        let evaluation = super::run().unwrap();
        assert!(evaluation.metric("accuracy").unwrap() > 0.9, "{evaluation}");
    }
}
