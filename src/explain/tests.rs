//! Networks that are looked into: against what follows by hand, and on images where it is known what there is to see.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Explainer, Map, Occlusion, nearest};
use crate::{
    cpu::CpuExecutor,
    data::{Batch, Dataset, ImageSize, Loader, LoaderOptions, Normalisation},
    models::{self, Model},
    nn::{Conv2d, Dense, Flatten, GlobalAveragePool, Sequential},
    ops::Padding,
    plan::Executor,
    tensor::Tensor,
    train::{Classifier, Inferred, Progress, Recipe, Session},
};

/// The CPU, and a GPU in software where there is one.
fn executors() -> Vec<Box<dyn Executor>> {
    let mut all: Vec<Box<dyn Executor>> = vec![Box::new(CpuExecutor::new())];
    #[cfg(feature = "gpu")]
    all.extend(
        crate::check::software_gpu().map(|gpu| Box::new(crate::gpu::GpuExecutor::new(gpu)) as Box<dyn Executor>),
    );
    all
}

fn noise(seed: u32, at: usize) -> u8 {
    let mixed = (at as u32 + 1).wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503);
    (mixed.wrapping_mul(mixed >> 15 | 1) >> 24) as u8
}

/// A network of that many steps of training on `data`, all of it in each step; its weights in a folder.
fn trained(model: Model, data: &Dataset, steps: usize) -> (TempDir, PathBuf, Session) {
    let count = data.len();
    let channels = model.input[2];
    let recipe = Recipe { batch_size: Some(count), ..Recipe::default() };
    let normalisation = Normalisation { mean: vec![0.4; channels], std: vec![0.25; channels] };
    let mut session = Session::new(Box::new(CpuExecutor::new()), model, recipe, normalisation).unwrap();
    let mut images = vec![0; count * data.image_size().bytes()];
    for (at, image) in images.chunks_exact_mut(data.image_size().bytes()).enumerate() {
        data.read(at, image).unwrap();
    }
    let whole = Batch {
        images,
        labels: data.labels().clone(),
        weights: vec![1.0; count],
        indices: (0..count as u32).collect(),
        real: count,
        ..Batch::default()
    };
    for _ in 0..steps {
        session.train_step(&mut whole.clone(), 0.02).unwrap();
    }
    session.finish_steps().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let card = session.card(data, &Progress::default());
    session.keep_weights(folder.path(), "weights", &card).unwrap();
    let path = folder.path().join("weights.safetensors");
    (folder, path, session)
}

fn set(pixels: Vec<u8>, size: ImageSize, labels: Vec<u32>, classes: &[&str]) -> Dataset {
    Dataset::from_pixels("made", pixels, size, labels, classes.iter().map(ToString::to_string).collect()).unwrap()
}

fn named(session: &mut Session, name: &str) -> Tensor {
    session.tensors().unwrap().into_iter().find(|(given, _)| given == name).unwrap().1
}

/// A convolution of nothing but its middle, so that its output is easily told by hand; a mean over the image, and a dense layer.
fn pointwise_network() -> Model {
    let network = Sequential::new().add(Conv2d::new(5, 1).relu()).add(GlobalAveragePool).add(Dense::new(3));
    Model::new("pointwise", [4, 6, 3], 3, network)
}

/// After a mean over the image and a dense layer of weights `w`, the gradient of logit `c` by channel `k` is `w[k, c] / places` at
/// each place, so that Grad-CAM is `ReLU(sum of w[k, c] A_k)`, the class activation map of Zhou et al. (2016), by the number of
/// places.
#[test]
fn after_a_mean_over_the_image_it_is_the_class_activation_map() {
    let size = ImageSize::new(4, 6, 3);
    let pixels: Vec<u8> = (0..3 * size.bytes()).map(|at| noise(3, at)).collect();
    let data = set(pixels.clone(), size, vec![0, 1, 2], &["a", "b", "c"]);
    let (_folder, path, mut session) = trained(pointwise_network(), &data, 3);
    let [weight, bias, dense] =
        ["conv1.weight", "conv1.bias", "dense1.weight"].map(|name| named(&mut session, name).to_f32().unwrap());
    let image = &pixels[size.bytes()..2 * size.bytes()];
    let places = size.height * size.width;
    for executor in executors() {
        let device = executor.device();
        let mut explainer = Explainer::with_model(&path, pointwise_network(), executor).unwrap();
        assert_eq!(explainer.default_layer().unwrap().path, "conv1");
        let mut positive = 0;
        for class in 0..3 {
            let expected = image.chunks_exact(3).map(|pixel| {
                let of_channel = |channel: usize| {
                    let x = |colour: usize| (f64::from(pixel[colour]) / 255.0 - 0.4) / 0.25;
                    let sum: f64 = (0..3).map(|colour| x(colour) * f64::from(weight[colour * 5 + channel])).sum();
                    let activation = (sum + f64::from(bias[channel])).max(0.0);
                    activation * f64::from(dense[channel * 3 + class])
                };
                (0..5).map(of_channel).sum::<f64>().max(0.0) / places as f64
            });
            let map = explainer.grad_cam(image, class, "conv1").unwrap();
            assert_eq!((map.height, map.width), (4, 6));
            for (at, (value, expected)) in map.values.iter().zip(expected).enumerate() {
                assert!((f64::from(*value) - expected).abs() < 1e-6, "{device}, {class} at {at}: {value}, {expected}");
                positive += usize::from(expected > 0.0);
            }
        }
        assert!(positive > 10, "{positive} places of a map are above 0");
    }
}

#[test]
fn what_cannot_be_is_told() {
    let size = ImageSize::new(4, 6, 3);
    let data = set(vec![9; 3 * size.bytes()], size, vec![0, 1, 2], &["a", "b", "c"]);
    let (_folder, path, _) = trained(pointwise_network(), &data, 0);
    let mut explainer = Explainer::with_model(&path, pointwise_network(), Box::new(CpuExecutor::new())).unwrap();
    let image = vec![9; size.bytes()];
    let error = explainer.grad_cam(&image, 0, "conv2").unwrap_err().to_string();
    assert!(error.contains("conv2") && error.contains("did you mean conv1?"), "{error}");
    let error = explainer.grad_cam(&image, 3, "conv1").unwrap_err().to_string();
    assert!(error.contains("no class 3") && error.contains("tells 3 apart"), "{error}");
    let error = explainer.grad_cam(&image[1..], 0, "conv1").unwrap_err().to_string();
    assert!(error.contains("71 bytes") && error.contains("4x6x3"), "{error}");

    let flat = || Model::new("flat", [4, 6, 3], 3, Sequential::new().add(Flatten).add(Dense::new(3)));
    let (_folder, path, _) = trained(flat(), &data, 0);
    let mut explainer = Explainer::with_model(&path, flat(), Box::new(CpuExecutor::new())).unwrap();
    let error = explainer.grad_cam(&image, 0, "dense1").unwrap_err().to_string();
    assert!(error.contains("flat has no layer whose output is laid out"), "{error}");
    assert!(explainer.filters().unwrap_err().to_string().contains("no filters to show"));
}

#[test]
fn feature_maps_are_those_of_the_strongest_channels_and_filters_are_the_weights() {
    let size = ImageSize::new(4, 6, 3);
    let pixels: Vec<u8> = (0..3 * size.bytes()).map(|at| noise(5, at)).collect();
    let data = set(pixels.clone(), size, vec![0, 1, 2], &["a", "b", "c"]);
    let (_folder, path, mut session) = trained(pointwise_network(), &data, 1);
    for executor in executors() {
        let mut explainer = Explainer::with_model(&path, pointwise_network(), executor).unwrap();
        let layers = ["conv1".to_string()];
        let maps = explainer.feature_maps(&pixels[..size.bytes()], &layers, 4).unwrap().remove(0);
        assert_eq!((maps.layer.as_str(), maps.channels, maps.maps.len()), ("conv1", 5, 4));
        let means: Vec<f32> = maps.maps.iter().map(|(_, map)| map.values.iter().sum()).collect();
        assert!(means.is_sorted_by(|a, b| a >= b) && means[0] > 0.0, "{means:?}");
        let filters = explainer.filters().unwrap();
        assert_eq!((filters.name.as_str(), filters.shape), ("conv1.weight", [1, 1, 3, 5]));
        assert_eq!(Some(&filters.weights[..]), named(&mut session, "conv1.weight").as_f32());
    }
}

/// Of a vision transformer the tokens of patches are the places: those that the last attention is given, since the classifier reads
/// the class token alone.
#[test]
fn the_patches_of_a_vision_transformer_are_places() {
    let model = || models::build("vit_tiny", [32, 48, 3], 3).unwrap();
    let size = ImageSize::new(32, 48, 3);
    let pixels: Vec<u8> = (0..size.bytes()).map(|at| noise(7, at)).collect();
    let data = set(pixels.clone(), size, vec![0], &["a", "b", "c"]);
    let (_folder, path, _) = trained(model(), &data, 0);
    let mut explainer = Explainer::with_model(&path, model(), Box::new(CpuExecutor::new())).unwrap();
    let layer = explainer.default_layer().unwrap().clone();
    assert_eq!((layer.path.as_str(), layer.height, layer.width), ("blocks.11.norm1", 2, 3));
    let maps: Vec<Map> = (0..3).map(|class| explainer.grad_cam(&pixels, class, &layer.path).unwrap()).collect();
    assert!(maps.iter().all(|map| map.values.len() == 6 && map.values.iter().all(|value| value.is_finite())));
    assert!(maps.iter().any(|map| map.peak().2 > 0.0), "{maps:?}");
    assert!(explainer.layer("blocks.11.mlp.fc2").is_err());
}

/// What a residual's sum makes of its branch is what the next layer sees, and so is an activation of a norm.
#[test]
fn blocks_are_looked_at_behind_their_sums() {
    let model = || models::build("resnet20", [16, 16, 3], 3).unwrap();
    let size = ImageSize::new(16, 16, 3);
    let pixels: Vec<u8> = (0..size.bytes()).map(|at| noise(13, at)).collect();
    let data = set(pixels.clone(), size, vec![0], &["a", "b", "c"]);
    let (_folder, path, _) = trained(model(), &data, 0);
    let mut explainer = Explainer::with_model(&path, model(), Box::new(CpuExecutor::new())).unwrap();
    let last = explainer.default_layer().unwrap();
    assert_eq!((last.path.as_str(), last.height, last.channels), ("layer3.2", 4, 64));
    let layers = ["bn1", "layer1.0.bn1", "layer1.0.bn2", "layer1.0", "layer3.2"].map(String::from);
    let features = explainer.feature_maps(&pixels, &layers, 64).unwrap();
    let least = |at: usize| features[at].maps.iter().flat_map(|(_, map)| &map.values).copied().fold(0.0, f32::min);
    // All but the norm before a sum are behind a ReLU.
    assert_eq!([least(0), least(1), least(3), least(4)], [0.0; 4]);
    assert!(least(2) < 0.0);
    assert!(explainer.layers().iter().all(|layer| layer.path != "input"));
}

const SIDE: usize = 16;

/// Pixels of a side of the bright square.
const SQUARE: usize = 4;

/// The rows and columns of the square of an image.
fn corner(image: usize) -> (usize, usize) {
    let at = |far: usize| if far == 1 { SIDE - SQUARE - 1 } else { 1 };
    (at(image / 2 % 2), at(image % 2))
}

/// Noise, in every other image with a bright square in one of the corners.
fn squares() -> (Dataset, Vec<u8>) {
    const IMAGES: usize = 32;
    let mut pixels: Vec<u8> = (0..IMAGES * SIDE * SIDE).map(|at| 60 + noise(11, at) / 4).collect();
    for (at, image) in pixels.chunks_exact_mut(SIDE * SIDE).enumerate().skip(1).step_by(2) {
        let (top, left) = corner(at / 2);
        for row in top..top + SQUARE {
            image[row * SIDE + left..][..SQUARE].fill(230);
        }
    }
    let labels = (0..IMAGES as u32).map(|at| at % 2).collect();
    (set(pixels.clone(), ImageSize::new(SIDE, SIDE, 1), labels, &["plain", "square"]), pixels)
}

fn square_network() -> Model {
    let conv = |channels: usize| Conv2d::new(channels, 3).padding(Padding::Same).relu();
    let network = Sequential::new().add(conv(8)).add(conv(8)).add(GlobalAveragePool).add(Dense::new(2));
    Model::new("squares", [SIDE, SIDE, 1], 2, network)
}

/// Whether the largest number of a map of all pixels lies on the square, or touches it.
fn is_on_square(map: &Map, image: usize) -> bool {
    let ((row, column, value), (top, left)) = (map.peak(), corner(image / 2));
    let near = |at: usize, begin: usize| at + 1 >= begin && at <= begin + SQUARE;
    value > 0.0 && near(row, top) && near(column, left)
}

#[test]
fn what_makes_the_class_is_found_where_it_is() {
    let (data, pixels) = squares();
    let (_folder, path, _) = trained(square_network(), &data, 150);
    let inferred = Inferred { batch: 16, embeddings: true, ..Inferred::default() };
    for executor in executors() {
        let mut explainer = Explainer::with_model(&path, square_network(), executor).unwrap();
        for at in [1, 3, 5, 7] {
            let image = &pixels[at * SIDE * SIDE..][..SIDE * SIDE];
            let map = explainer.grad_cam(image, 1, "conv2").unwrap();
            assert!(is_on_square(&map, at), "image {at}: {:?}", map.peak());
        }
    }
    let executor = Box::new(CpuExecutor::new());
    let mut classifier = Classifier::with_model(&path, square_network(), executor, inferred.batch).unwrap();
    let occlusion = Occlusion { patch: SQUARE, stride: 2 };
    for at in [1, 3, 5, 7] {
        let image = &pixels[at * SIDE * SIDE..][..SIDE * SIDE];
        let mut done = 0;
        let map = occlusion.map(&mut classifier, image, 1, &mut |places| done = places).unwrap();
        assert!(is_on_square(&map, at) && map.peak().2 > 0.3, "image {at}: {:?}", map.peak());
        assert_eq!(done, occlusion.places([SIDE, SIDE, 1]));
    }
    // Of the other class nothing that is hidden takes as much.
    let map = occlusion.map(&mut classifier, &pixels[..SIDE * SIDE], 0, &mut |_| ()).unwrap();
    assert!(map.peak().2 < 0.3, "{:?}", map.peak());
}

#[test]
fn the_nearest_of_the_training_images_to_one_of_them_is_itself() {
    let model = || models::build("seed-cnn", [SIDE, SIDE, 1], 2).unwrap();
    let (data, _) = squares();
    let (_folder, path, _) = trained(model(), &data, 5);
    let embedded = |path: &Path| {
        let inferred = Inferred { batch: 8, embeddings: true, ..Inferred::default() };
        let mut classifier = Classifier::load_for(path, Box::new(CpuExecutor::new()), &inferred).unwrap();
        let loader = Loader::new(data.clone(), LoaderOptions::new(8)).unwrap();
        classifier.predictions(&[loader], &mut |_| ()).unwrap().embeddings
    };
    let embeddings = embedded(&path);
    let width = embeddings.len() / data.len();
    for at in [0, 5, 31] {
        let found = nearest(&embeddings[at * width..][..width], &embeddings, 3);
        assert_eq!(found[0].index, at);
        assert!((found[0].similarity - 1.0).abs() < 1e-6 && found[1].similarity < found[0].similarity, "{found:?}");
    }
}
