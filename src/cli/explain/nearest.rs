//! The training images that are most like an image to the network.

use std::path::Path;

use anyhow::{Context, Result};
use gabor::{
    data::{Dataset, Label, Labels, Loader, LoaderOptions},
    explain::{self, Neighbour, Picture},
    train::{Card, Classifier},
};
use serde_json::{Value, json};

use super::{images::Image, input_size};
use crate::cli::{config::open_data, console::Console, run_folder::config_beside, train::sized_as};

/// A training image that is like another.
pub struct Near {
    /// What it is called.
    pub name: String,
    /// Its class, or its classes.
    pub class: String,
    pub similarity: f32,
    pub picture: Picture,
}

impl Near {
    pub fn figures(&self) -> Value {
        json!({"image": self.name, "class": self.class, "similarity": self.similarity})
    }
}

/// The `count` training images of a run that are nearest to each of some images.
pub fn find(
    weights: &Path,
    card: &Card,
    images: &[Image],
    classifier: &mut Classifier,
    count: usize,
    console: Console,
) -> Result<Vec<Vec<Near>>> {
    let config = config_beside(weights)?.with_context(|| {
        format!("there is no config.toml beside {} that says what data it was trained on", weights.display())
    })?;
    let options = sized_as(card, config.images);
    let training = open_data(config.data.as_deref(), &options).context("the training images cannot be read")?.train;
    let batches = LoaderOptions::new(classifier.batch_size());
    let own = Loader::new(as_data(images, &training, card)?, batches.clone())?;
    let own = classifier.predictions(&[own], &mut |_| ())?.embeddings;
    let bar = console.bar("comparing with training images", training.len());
    let loaders = [Loader::new(training, batches)?];
    let all = classifier.predictions(&loaders, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let training = loaders[0].dataset();
    let near = |Neighbour { index, similarity }: Neighbour| -> Result<Near> {
        let name = all.images[index].clone();
        // Images that cannot be read any more are left out, so that the others come earlier.
        let place = (index..training.len()).find(|at| training.image_name(*at) == name).unwrap_or(index);
        let mut pixels = vec![0; training.image_size().bytes()];
        training.read(place, &mut pixels)?;
        let picture = Picture { size: training.image_size(), pixels };
        Ok(Near { name, class: classes_of(all.labels.get(index), training.classes()), similarity, picture })
    };
    let width = (own.len() / images.len().max(1)).max(1);
    let of = |embedding: &[f32]| explain::nearest(embedding, &all.embeddings, count).into_iter().map(near).collect();
    own.chunks_exact(width).map(of).collect()
}

/// Images as data that has labels of the kind that training images have, which nothing is asked of.
fn as_data(images: &[Image], training: &Dataset, card: &Card) -> Result<Dataset> {
    let labels = match training.labels() {
        Labels::Classes(_) => Labels::Classes(vec![0; images.len()]),
        Labels::Rows { width, .. } => Labels::Rows { width: *width, values: vec![0.0; width * images.len()] },
    };
    let pixels = images.iter().flat_map(|image| image.pixels.iter().copied()).collect();
    let classes = training.classes().to_vec();
    Ok(Dataset::from_pixels("the images", pixels, input_size(card), labels, classes)?)
}

/// What a person calls a label.
fn classes_of(label: Label<'_>, classes: &[String]) -> String {
    match label {
        Label::Class(class) => classes.get(class as usize).cloned().unwrap_or_else(|| class.to_string()),
        Label::Row(row) => {
            let those = classes.iter().zip(row).filter(|(_, is)| **is > 0.5).map(|(class, _)| class.as_str());
            those.collect::<Vec<&str>>().join(", ")
        }
    }
}
