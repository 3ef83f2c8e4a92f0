//! What is told of how a run goes: each finding where it is provoked, and none where the same run is sound.

use gabor::{
    check,
    cpu::CpuExecutor,
    data::{self, Batch, Dataset, Loader, LoaderOptions, Normalisation, OpenOptions, Order},
    gpu::GpuExecutor,
    graph::{GraphError, Value},
    models::{self, Model},
    nn::{Builder, Conv2d, Dense, Flatten, GlobalAveragePool, Layer, Sequential},
    ops::Optimizer,
    plan::Executor,
    report::{Diagnosis, Symptom},
    tensor::Tensor,
    train::{Recipe, Session, Trainer, Vitals},
};

const CLASSES: usize = 10;

/// So many of the bundled training images, and of the test images.
fn digits(train: usize, test: usize) -> (Dataset, Dataset) {
    let splits = data::bundled(&OpenOptions::default()).expect("the bundled images");
    let first = |set: &Dataset, count: usize| part(set, count, |_, label| label);
    (first(&splits.train, train), first(&splits.test.expect("test images"), test))
}

/// The first images of a set, with labels made of their numbers and their own.
fn part(set: &Dataset, count: usize, label: impl Fn(usize, u32) -> u32) -> Dataset {
    let size = set.image_size();
    let mut pixels = vec![0; count * size.bytes()];
    for (at, image) in pixels.chunks_mut(size.bytes()).enumerate() {
        set.read(at, image).expect("an image");
    }
    let labels = set.labels().classes().expect("classes");
    let labels: Vec<u32> = labels[..count].iter().enumerate().map(|(at, own)| label(at, *own)).collect();
    Dataset::from_pixels("digits", pixels, size, labels, set.classes().to_vec()).expect("a data set")
}

fn recipe(epochs: usize, learning_rate: f64) -> Recipe {
    Recipe { epochs, learning_rate, batch_size: Some(32), ..Recipe::default() }
}

/// What is found as a model is trained so.
fn found(model: Model, recipe: Recipe, train: Dataset, validation: Dataset) -> Vec<Symptom> {
    let normalisation = Normalisation { mean: vec![0.13], std: vec![0.31] };
    let options = LoaderOptions { order: Order::Shuffled { seed: 1 }, ..LoaderOptions::new(32) };
    let loader = Loader::new(train.clone(), options).expect("a loader");
    let validation = Loader::new(validation, LoaderOptions::new(32)).expect("a loader");
    let guessing = (CLASSES as f64).ln();
    let mut diagnosis = Diagnosis::new(Some(guessing), recipe.warmup_steps).images(train);
    let mut session = Session::new(Box::new(CpuExecutor::new()), model, recipe, normalisation).expect("a session");
    let trainer = Trainer::new(&mut session, &loader).validation(&validation).look_every(10).observer(&mut diagnosis);
    // A loss that is not a number ends a run, and what was found before stays found.
    let _ = trainer.run();
    diagnosis.on_end();
    diagnosis.found().to_vec()
}

fn model(network: impl Layer + 'static) -> Model {
    Model::new("own", [28, 28, 1], CLASSES, network)
}

/// Dense layers with this function after each, and one more.
fn deep(
    layers: usize,
    function: impl Fn(&mut Builder<'_>, Value) -> Result<Value, GraphError> + Copy + Send + Sync + 'static,
) -> Model {
    let mut network = Sequential::new().add(Flatten);
    for _ in 0..layers {
        network = network.add(Dense::new(32)).add(function);
    }
    model(network.add(Dense::new(CLASSES)))
}

#[test]
fn gradients_that_vanish_are_told_with_the_first_layer() {
    let (train, test) = digits(640, 64);
    let vanishing =
        found(deep(30, |builder, x| builder.graph.sigmoid(x)), recipe(1, 1e-3), train.clone(), test.clone());
    let named = vanishing.iter().find_map(|symptom| match symptom {
        Symptom::Vanishing { first, largest, .. } => Some((first.clone(), largest.clone())),
        _ => None,
    });
    let ((first, least), (_, most)) = named.unwrap_or_else(|| panic!("{vanishing:?}"));
    assert!(first == "dense1.weight" && least < 1e-6 * most, "{vanishing:?}");
    assert_eq!(found(deep(3, |builder, x| builder.graph.sigmoid(x)), recipe(1, 1e-3), train, test), []);
}

#[test]
fn steps_that_are_too_large_or_too_small_are_told() {
    let (train, test) = digits(640, 64);
    let lenet = || models::build("lenet5", [28, 28, 1], CLASSES).expect("a model of the zoo");
    let at = |learning_rate| found(lenet(), recipe(1, learning_rate), train.clone(), test.clone());
    let exploding = at(100.0);
    let is_told =
        exploding.iter().any(|symptom| matches!(symptom, Symptom::Exploding { step: 1, ratio, .. } if *ratio > 100.0));
    assert!(is_told, "{exploding:?}");
    let still = at(1e-12);
    assert!(still.iter().any(|symptom| matches!(symptom, Symptom::Still { step: 1, .. })), "{still:?}");
    assert_eq!(at(1e-3), []);
}

#[test]
fn rectifiers_that_are_never_above_0_are_told() {
    let (train, test) = digits(320, 64);
    let biased = |bias: f64| {
        let shift = move |builder: &mut Builder<'_>, x| {
            let bias = builder.graph.constant(Tensor::scalar(bias as f32));
            builder.graph.add(x, bias)
        };
        let network = Sequential::new().add(Flatten).named("first", Dense::new(32)).named("shifted", shift);
        let relu = |builder: &mut Builder<'_>, x| builder.graph.relu(x);
        found(model(network.named("relu", relu).add(Dense::new(CLASSES))), recipe(1, 1e-3), train.clone(), test.clone())
    };
    let dead = biased(-10.0);
    let is_told = dead.iter().any(
        |symptom| matches!(symptom, Symptom::Dead { layer, channels: [dead, 32], .. } if layer == "relu" && *dead > 30),
    );
    assert!(is_told, "{dead:?}");
    assert_eq!(biased(0.0), []);
}

#[test]
fn few_images_are_overfitted_and_labels_that_are_wrong_are_named() {
    let (train, test) = digits(2000, 200);
    let lenet = || models::build("lenet5", [28, 28, 1], CLASSES).expect("a model of the zoo");
    let overfitted = found(lenet(), recipe(80, 4e-3), part(&train, 200, |_, label| label), test.clone());
    let is_told = overfitted.iter().any(|symptom| matches!(symptom, Symptom::Overfitting { .. }));
    assert!(is_told, "{overfitted:?}");

    let wrong = part(&train, 2000, |at, label| if at % 33 == 7 { (label + 3) % 10 } else { label });
    let mislabelled = found(lenet(), recipe(6, 1e-3), wrong, test.clone());
    let named = mislabelled.iter().find_map(|symptom| match symptom {
        Symptom::Mislabelled { images, .. } => Some(images.clone()),
        _ => None,
    });
    let number = |name: &str| name.rsplit('#').next().and_then(|number| number.parse::<usize>().ok());
    let named = named.unwrap_or_else(|| panic!("{mislabelled:?}"));
    assert!(
        named.len() == 5 && named.iter().all(|(name, ..)| number(name).is_some_and(|at| at % 33 == 7)),
        "{named:?}"
    );

    assert_eq!(found(lenet(), recipe(6, 1e-3), train, test), []);
}

/// The figures of a step, beside those that are made of the tensors themselves.
fn vitals_are_those_of_the_tensors(executor: Box<dyn Executor>) {
    let network = Sequential::new().add(Conv2d::new(6, 3).relu()).add(GlobalAveragePool).add(Dense::new(8).relu());
    let model = model(network.add(Dense::new(CLASSES)));
    let recipe = Recipe {
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false },
        batch_size: Some(16),
        ..Recipe::default()
    };
    let normalisation = Normalisation { mean: vec![0.5], std: vec![0.25] };
    let mut session = Session::new(executor, model, recipe, normalisation).expect("a session");
    let (train, _) = digits(16, 1);
    let loader = Loader::new(train, LoaderOptions::new(16)).expect("a loader");
    let mut batch: Batch = loader.batch(0, 0).expect("a batch");
    let tensors = |session: &mut Session| session.tensors().expect("the parameters");
    assert_eq!(session.vitals(&batch, 0.1).expect("vitals"), None);
    let before = tensors(&mut session);
    session.watch().expect("a watched step");
    session.train_step(&mut batch, 0.1).expect("a step");
    let Vitals { step, parameters, rectifiers, .. } =
        session.vitals(&batch, 0.1).expect("vitals").expect("a watched step");
    session.finish_steps().expect("the step");
    let after = tensors(&mut session);
    let gradients = session.gradients(&mut batch).expect("gradients");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let values = |tensors: &[(String, Tensor)], name: &str| -> Vec<f64> {
        let (_, tensor) = tensors.iter().find(|(given, _)| given == name).expect("a tensor of that name");
        tensor.as_f32().expect("floats").iter().map(|x| f64::from(*x)).collect()
    };
    assert_eq!((step, parameters.len()), (1, 6));
    for parameter in parameters {
        let of = |tensors| values(tensors, &parameter.name);
        let (before, after) = (of(&before), of(&after));
        for (found, expected) in [
            (parameter.gradient, norm(&mut of(&gradients).into_iter())),
            (parameter.weight, norm(&mut before.iter().copied())),
            (parameter.update, norm(&mut before.iter().zip(&after).map(|(before, after)| after - before))),
        ] {
            assert!((found - expected).abs() <= 1e-4 * expected + 1e-9, "{}: {found}, not {expected}", parameter.name);
        }
    }
    let found: Vec<(&str, usize)> = rectifiers.iter().map(|found| (found.layer.as_str(), found.channels)).collect();
    assert_eq!(found, [("conv1", 6), ("dense1", 8)]);
    assert!(rectifiers.iter().all(|found| found.zeros > 0.0 && found.zeros < 1.0 && found.dead < found.channels));
}

#[test]
fn vitals_of_the_cpu_are_those_of_the_tensors() {
    vitals_are_those_of_the_tensors(Box::new(CpuExecutor::new()));
}

#[test]
fn vitals_of_a_gpu_are_those_of_the_tensors() {
    let Some(gpu) = check::software_gpu() else { return };
    vitals_are_those_of_the_tensors(Box::new(GpuExecutor::new(gpu)));
}
