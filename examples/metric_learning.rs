//! A task of your own: a network that puts images of the same class near each other, trained with a triplet loss
//! (Schroff et al. 2015, over all triplets of a batch): `cargo run --release --example metric_learning`.

use std::error::Error;

use gabor::{
    data::{self, Dataset, Label, Labels, Loader, LoaderOptions, Normalisation, Order},
    device,
    graph::{Graph, GraphError, Value},
    kernel::Expr,
    models::Model,
    nn::{Conv2d, Dense, Flatten, MaxPool2d, Sequential},
    ops::Pointwise,
    tasks::{Evaluation, Metric, Objective, SampleMetric, Samples, Tally, Task, Unit},
    tensor::TensorType,
    train::{Recipe, Session, Trainer},
};

const CLASSES: usize = 10;
const DIMENSIONS: usize = 16;
const MARGIN: f64 = 0.2;

/// Embeds images as points. Labels are rows with a 1 at the class, so that the product of a batch's labels with themselves
/// says which images are of one class.
struct MetricLearning;

impl Task for MetricLearning {
    fn name(&self) -> &str {
        "metric learning"
    }

    fn targets(&self, batch: usize) -> Option<TensorType> {
        Some(TensorType::f32([batch, CLASSES]))
    }

    fn output(&self, batch: usize) -> Option<TensorType> {
        Some(TensorType::f32([batch, DIMENSIONS]))
    }

    fn objective(&self, graph: &mut Graph, samples: &Samples) -> Result<Objective, GraphError> {
        let targets = samples.targets()?;
        let batch = graph.shape(targets)[0];
        let points = unit_length(graph, samples.output)?;
        let alike = graph.matmul(targets, targets.t())?;
        // What only fills up the batch is neither like nor unlike anything.
        let weights = graph.reshape(samples.weights, [1, batch])?;
        let of = |same: f64| Expr::Input(1).select((Expr::Input(0) - 0.5) * same, 0.0).select(1.0, 0.0);
        let same = graph.pointwise("same", of(1.0), &[alike, weights])?;
        let other = graph.pointwise("other", of(-1.0), &[alike, weights])?;
        // The squared distance of points of length 1 is 2 - 2 * cosine.
        let cosine = graph.matmul(points, points.t())?;
        let to_same = graph.reshape(cosine, [batch, batch, 1])?;
        let to_other = graph.reshape(cosine, [batch, 1, batch])?;
        let too_near = graph.subtract(to_other, to_same)?;
        let excess = Expr::Input(0) * 2.0 + MARGIN;
        let hinge =
            Pointwise::new("hinge", 1, excess.clone().max(0.0)).with_derivatives([Some(excess.select(2.0, 0.0))]);
        let hinge = graph.map(hinge, &[too_near])?;
        // The mean over the triplets of each image.
        let same = graph.reshape(same, [batch, batch, 1])?;
        let other = graph.reshape(other, [batch, 1, batch])?;
        let counts = graph.multiply(same, other)?;
        let counted = graph.multiply(hinge, counts)?;
        let sum = graph.sum(counted, &[1, 2])?;
        let triplets = graph.sum(counts, &[1, 2])?;
        let at_least_one = graph.pointwise("at_least_one", Expr::Input(0).max(1.0), &[triplets])?;
        let losses = graph.divide(sum, at_least_one)?;
        let wrong = graph.pointwise("wrong", Expr::Input(0).select(Expr::Input(1), 0.0), &[hinge, counts])?;
        let wrong = graph.sum(wrong, &[1, 2])?;
        let share = graph.divide(wrong, at_least_one)?;
        let metric = SampleMetric { name: "triplets within the margin", unit: Unit::Share, values: share };
        Ok(Objective { losses, metrics: vec![metric] })
    }

    fn prediction(&self, graph: &mut Graph, output: Value) -> Result<Value, GraphError> {
        unit_length(graph, output)
    }

    fn tally(&self, _: &[String]) -> Box<dyn Tally> {
        Box::new(Neighbours::default())
    }
}

fn unit_length(graph: &mut Graph, points: Value) -> Result<Value, GraphError> {
    let batch = graph.shape(points)[0];
    let squares = graph.multiply(points, points)?;
    let squares = graph.sum(squares, &[1])?;
    let squares = graph.reshape(squares, [batch, 1])?;
    let inverse = Pointwise::new("inverse_root", 1, Expr::from(1.0) / (Expr::Input(0) + 1e-6).sqrt())
        .with_derivatives([Some(Expr::Input(1) * -0.5 / (Expr::Input(0) + 1e-6))]);
    let inverse = graph.map(inverse, &[squares])?;
    graph.multiply(points, inverse)
}

/// The points of an evaluation and their classes.
#[derive(Default)]
struct Neighbours(Vec<(Vec<f32>, usize)>);

impl Tally for Neighbours {
    fn add(&mut self, point: &[f32], label: Label<'_>) {
        let Label::Row(row) = label else { return };
        self.0.push((point.to_vec(), row.iter().position(|value| *value > 0.5).unwrap_or(CLASSES)));
    }

    /// The share of images whose nearest neighbour is of their class.
    fn finish(self: Box<Self>, images: usize, loss: f64) -> Evaluation {
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let hit = |(at, (point, class)): (usize, &(Vec<f32>, usize))| {
            let others = self.0.iter().enumerate().filter(|(other, _)| *other != at);
            let nearest = others.max_by(|(_, a), (_, b)| cosine(point, &a.0).total_cmp(&cosine(point, &b.0)));
            nearest.is_some_and(|(_, (_, other))| other == class)
        };
        let hits = self.0.iter().enumerate().filter(|point| hit(*point)).count();
        let recall = Metric::share("recall at 1", hits as f64 / images.max(1) as f64);
        Evaluation { images, loss, metrics: vec![recall], ..Evaluation::default() }
    }
}

/// The first `count` images of a data set of one class each, with rows for labels.
fn with_rows(set: &Dataset, count: usize) -> Result<Dataset, Box<dyn Error>> {
    let set = set.subset(&(0..count.min(set.len())).collect::<Vec<_>>());
    let classes = set.labels().classes().ok_or("the images are of one class each")?;
    let row = |class: &u32| (0..CLASSES as u32).map(|at| f32::from(u8::from(at == *class))).collect::<Vec<_>>();
    let values = classes.iter().flat_map(row).collect();
    let mut pixels = vec![0; set.len() * set.image_size().bytes()];
    for (at, image) in pixels.chunks_mut(set.image_size().bytes()).enumerate() {
        set.read(at, image)?;
    }
    let labels = Labels::Rows { width: CLASSES, values };
    Ok(Dataset::from_pixels(set.name(), pixels, set.image_size(), labels, set.classes().to_vec())?)
}

/// Trains on some of the shipped images; the figures of other ones.
fn run(images: usize, epochs: usize) -> Result<Evaluation, Box<dyn Error>> {
    let splits = data::bundled(&Default::default())?;
    let set = with_rows(&splits.train, images)?;
    let normalisation = Normalisation::of(&set)?;
    let recipe = Recipe { epochs, batch_size: Some(32), ..Recipe::default() };
    let options =
        LoaderOptions { order: Order::Shuffled { seed: recipe.seed }, ..LoaderOptions::new(recipe.batch_size()) };
    let train = Loader::new(set, options)?;
    let others = with_rows(&splits.val.ok_or("the shipped data has a validation part")?, 500)?;
    let others = Loader::new(others, LoaderOptions::new(recipe.batch_size()))?;

    let network = Sequential::new()
        .add(Conv2d::new(16, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(32, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Dense::new(DIMENSIONS));
    let model = Model::for_task("embedding", [28, 28, 1], MetricLearning, network);
    let mut session = Session::new(device::open("auto")?, model, recipe, normalisation)?;
    println!("before training: {}", session.evaluate(&others)?);
    Trainer::new(&mut session, &train).validation(&others).run()?;
    Ok(session.evaluate(&others)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("after training: {}", run(9000, 3)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn neighbours_become_alike() {
        let evaluation = super::run(1500, 1).unwrap();
        assert_eq!(evaluation.images, 500);
        assert!(evaluation.metric("recall at 1").unwrap() > 0.85, "{evaluation}");
    }
}
