//! Whole training steps: the GPU path against the CPU path, and training on real images.

use std::collections::HashMap;

use gabor::{
    augment::{Augmentation, Preset},
    check,
    cpu::CpuExecutor,
    data::{self, Batch, Dataset, ImageSize, Labels, Loader, LoaderOptions, Normalisation, Order},
    gpu::GpuExecutor,
    graph::Source,
    models::{self, Model},
    nn::{BatchNorm, Conv2d, Dense, Flatten, GlobalAveragePool, GroupRule, Parameters, Role, Sequential},
    ops::Optimizer,
    plan::Executor,
    tasks::MultiLabel,
    tensor::Tensor,
    train::{BEST, Classifier, Inferred, Progress, Recipe, Session, Trainer, inference_graph_of, training_graph},
};

fn session(executor: Box<dyn Executor>, model: &str, input: [usize; 3], recipe: &Recipe) -> Session {
    let model = models::build(model, input, 10).expect("a model of the zoo");
    let normalisation = Normalisation { mean: vec![0.45; input[2]], std: vec![0.25; input[2]] };
    Session::new(executor, model, recipe.clone(), normalisation).unwrap_or_else(|error| panic!("{error}"))
}

fn gpu() -> Option<Box<dyn Executor>> {
    Some(Box::new(GpuExecutor::new(check::software_gpu()?)))
}

/// Noise over a pattern of its class, so that there is something to learn.
fn batch(number: usize, size: usize, [height, width, channels]: [usize; 3]) -> Batch {
    let elements = height * width * channels;
    let noise = check::random([size, elements], number as u64);
    let noise = noise.as_f32().expect("floats");
    let labels: Vec<u32> = (0..size).map(|at| ((at * 7 + number) % 10) as u32).collect();
    let pixel = |at: usize| {
        let (image, position) = (at / elements, at % elements);
        let pattern = if position * 10 / elements == labels[image] as usize { 80.0 } else { 0.0 };
        (110.0 + pattern + 20.0 * noise[at]).clamp(0.0, 255.0) as u8
    };
    Batch {
        images: (0..size * elements).map(pixel).collect(),
        weights: vec![1.0; size],
        real: size,
        labels: labels.into(),
        ..Batch::default()
    }
}

/// Batches of 8 images of 28x28 pixels.
fn loader_of(Batch { images, labels, .. }: Batch) -> Loader {
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let labels = labels.classes().expect("classes").to_vec();
    let set = Dataset::from_pixels("noise", images, ImageSize::new(28, 28, 1), labels, classes).expect("a data set");
    Loader::new(set, LoaderOptions::new(8)).expect("a loader")
}

/// Losses of `steps` steps.
fn losses(session: &mut Session, steps: usize, rate: f64) -> Vec<f32> {
    let (input, size) = (session.model().input, session.recipe().batch_size());
    let mut figures = Vec::new();
    for step in 0..steps {
        figures.extend(session.train_step(&mut batch(step, size, input), rate).expect("a step"));
    }
    figures.extend(session.finish_steps().expect("the last steps"));
    figures.into_iter().map(|f| f.loss).collect()
}

#[test]
fn seed_cnn_trains_alike_on_gpu_and_cpu() {
    let Some(gpu) = gpu() else { return };
    let (input, recipe) = ([28, 28, 1], Recipe { batch_size: Some(16), ..Recipe::default() });
    let on_gpu = losses(&mut session(gpu, "seed-cnn", input, &recipe), 20, 1e-3);
    let on_cpu = losses(&mut session(Box::new(CpuExecutor::new()), "seed-cnn", input, &recipe), 20, 1e-3);
    assert_eq!(on_gpu.len(), 20);
    assert!(on_cpu[19] < on_cpu[0], "the loss fell: {on_cpu:?}");
    for (step, (gpu, cpu)) in on_gpu.iter().zip(&on_cpu).enumerate() {
        let error = ((gpu - cpu) / cpu).abs();
        assert!(error <= 1e-4, "step {}: {gpu} on the GPU, {cpu} on the CPU", step + 1);
    }
}

/// With geometry, colours, mixing, a moving average and all that is drawn for them.
#[test]
fn augmented_steps_are_alike_on_gpu_and_cpu() {
    let Some(gpu) = gpu() else { return };
    let augment = Augmentation {
        preset: Some(Preset::Strong),
        hue: Some(0.1),
        blur: Some(1.0),
        noise: Some(10.0),
        rotation_range: Some(15.0),
        ..Augmentation::default()
    };
    let recipe = Recipe { batch_size: Some(8), augment, ema: Some(0.9), ..Recipe::default() };
    let input = [16, 16, 3];
    let run = |executor| {
        let mut session = session(executor, "seed-cnn", input, &recipe);
        (losses(&mut session, 8, 1e-3), session.tensors().expect("the parameters"))
    };
    let ((on_gpu, gpu_tensors), (on_cpu, cpu_tensors)) = (run(gpu), run(Box::new(CpuExecutor::new())));
    for (step, (gpu, cpu)) in on_gpu.iter().zip(&on_cpu).enumerate() {
        let error = ((gpu - cpu) / cpu).abs();
        assert!(error <= 1e-4, "step {}: {gpu} on the GPU, {cpu} on the CPU", step + 1);
    }
    let mut averages = 0;
    for ((name, gpu), (_, cpu)) in
        gpu_tensors.iter().zip(&cpu_tensors).filter(|((name, _), _)| name.starts_with("average/"))
    {
        let error = check::relative_error(gpu.as_f32().expect("floats"), cpu.as_f32().expect("floats"));
        assert!(error <= 1e-3, "{name} is off by {error:.2e}");
        averages += 1;
    }
    assert_eq!(averages, 8);
    let plain = Recipe { augment: Augmentation::default(), ..recipe.clone() };
    let plain = losses(&mut session(Box::new(CpuExecutor::new()), "seed-cnn", input, &plain), 8, 1e-3);
    assert_ne!(plain, on_cpu);
}

/// By hand: after two steps `slow += alpha (fast - slow)`, and both are that; on both devices.
#[test]
fn lookahead_goes_back_to_weights_that_follow() {
    let alpha = 0.5;
    let plain = Recipe { batch_size: Some(8), ..Recipe::default() };
    let ahead = Recipe { lookahead: Some(2), lookahead_alpha: alpha, ..plain.clone() };
    let after = |executor: Box<dyn Executor>, recipe: &Recipe, steps: usize, name: &str| {
        let mut session = session(executor, "seed-cnn", [28, 28, 1], recipe);
        losses(&mut session, steps, 1e-2);
        let tensors = session.tensors().expect("the parameters");
        let (_, tensor) = tensors.iter().find(|(given, _)| given == name).expect("a tensor of that name");
        tensor.as_f32().expect("floats").to_vec()
    };
    let (weight, slow) = ("dense2.weight", "average/dense2.weight");
    let cpu = || Some(Box::new(CpuExecutor::new()) as Box<dyn Executor>);
    for executor in [cpu as fn() -> Option<Box<dyn Executor>>, gpu] {
        let run = |recipe: &Recipe, steps, name| Some(after(executor()?, recipe, steps, name));
        let (Some(begun), Some(fast)) = (run(&plain, 0, weight), run(&plain, 2, weight)) else { continue };
        let expected: Vec<f32> =
            begun.iter().zip(&fast).map(|(slow, fast)| slow + alpha as f32 * (fast - slow)).collect();
        for name in [weight, slow] {
            let got = run(&ahead, 2, name).expect("an executor");
            assert!(check::relative_error(&got, &expected) < 1e-5, "{name}");
        }
        // Between, the trained weights are as without it, and the others stay.
        assert_eq!(run(&ahead, 1, weight), run(&plain, 1, weight));
        assert_eq!(run(&ahead, 1, slow), Some(begun));
        assert_ne!(run(&ahead, 3, weight), run(&ahead, 3, slow));
    }
}

/// The same network by hand: `average += (1 - keep) (weights - average)`, and evaluation by it.
#[test]
fn the_moving_average_is_evaluated_and_kept() {
    let recipe = Recipe { batch_size: Some(8), ema: Some(0.5), ..Recipe::default() };
    let mut session = session(Box::new(CpuExecutor::new()), "seed-cnn", [28, 28, 1], &recipe);
    let find = |tensors: &[(String, Tensor)], name: &str| {
        let (_, tensor) = tensors.iter().find(|(given, _)| given == name).expect("a tensor of that name");
        tensor.as_f32().expect("floats").to_vec()
    };
    let mut average = find(&session.tensors().expect("the parameters"), "dense2.weight");
    for step in 0..3 {
        session.train_step(&mut batch(step, 8, [28, 28, 1]), 1e-2).expect("a step");
        let weights = find(&session.tensors().expect("the parameters"), "dense2.weight");
        let keep = (2.0 + step as f32) / (11.0 + step as f32);
        for (average, weight) in average.iter_mut().zip(&weights) {
            *average += (1.0 - keep) * (weight - *average);
        }
        assert!(check::relative_error(&average, &weights) > 1e-4);
    }
    let tensors = session.tensors().expect("the parameters");
    assert!(check::relative_error(&find(&tensors, "average/dense2.weight"), &average) < 1e-5);
    let folder = tempfile::tempdir().expect("a folder");
    let loader = loader_of(batch(0, 8, [28, 28, 1]));
    let loss = session.evaluate(&loader).expect("an evaluation").loss;
    let card = session.card(loader.dataset(), &Progress::default());
    session.save(folder.path(), &card, true).expect("files");
    let mut kept = Classifier::load(&folder.path().join(BEST), Box::new(CpuExecutor::new()), 8).expect("weights");
    let of_file = kept.evaluate(std::slice::from_ref(&loader), &mut |_| ()).expect("an evaluation").loss;
    assert!((loss - of_file).abs() < 1e-6, "{loss} in the session, {of_file} from its file");
}

#[test]
fn embeddings_are_what_the_last_dense_layer_is_given() {
    let recipe = Recipe { batch_size: Some(8), ..Recipe::default() };
    let mut session = session(Box::new(CpuExecutor::new()), "lenet5", [28, 28, 1], &recipe);
    let folder = tempfile::tempdir().expect("a folder");
    let loader = loader_of(batch(0, 8, [28, 28, 1]));
    let card = session.card(loader.dataset(), &Progress::default());
    session.save(folder.path(), &card, true).expect("files");
    let load = |embeddings| {
        let inferred = Inferred { batch: 8, embeddings, ..Inferred::default() };
        Classifier::load_for(&folder.path().join(BEST), Box::new(CpuExecutor::new()), &inferred).expect("weights")
    };
    let found = load(true).predictions(std::slice::from_ref(&loader), &mut |_| ()).expect("predictions");
    let tensors = session.tensors().expect("the parameters");
    let find = |name: &str| {
        let (_, tensor) = tensors.iter().find(|(given, _)| given == name).expect("a tensor of that name");
        tensor.as_f32().expect("floats")
    };
    let last = session.parameters().last_dense().expect("a dense layer").to_string();
    let (weights, bias) = (find(&format!("{last}.weight")), find(&format!("{last}.bias")));
    for (embedding, answer) in found.embeddings.chunks(weights.len() / 10).zip(found.answers.chunks(10)) {
        let logit = |class: usize| {
            let terms = embedding.iter().enumerate().map(|(at, x)| x * weights[10 * at + class]);
            (bias[class] + terms.sum::<f32>()).exp()
        };
        let powers: Vec<f32> = (0..10).map(logit).collect();
        let sum: f32 = powers.iter().sum();
        let expected: Vec<f32> = powers.iter().map(|power| power / sum).collect();
        assert!(check::relative_error(answer, &expected) < 1e-4, "{answer:?}, not {expected:?}");
    }
    let without = load(false).predictions(std::slice::from_ref(&loader), &mut |_| ()).expect("predictions");
    assert!(without.embeddings.is_empty() && found.embeddings.len() == 8 * weights.len() / 10);
}

#[test]
fn a_network_without_a_vector_an_image_has_no_embeddings() {
    let network = Sequential::new().add(Conv2d::new(10, 3)).add(GlobalAveragePool);
    let model = Model::new("convolutions", [8, 8, 3], 10, network);
    let normalisation = Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] };
    let inferred = Inferred { embeddings: true, ..Inferred::default() };
    let mut parameters = Parameters::new(usize::MAX);
    let error = inference_graph_of(&model, &mut parameters, &normalisation, &inferred, 1.0).expect_err("an error");
    assert!(error.to_string().contains("convolutions has no embeddings of images"), "{error}");
}

#[test]
fn dropout_stands_before_the_last_dense_layer() {
    let plan = |dropout| {
        let recipe = Recipe { batch_size: Some(4), dropout, ..Recipe::default() };
        let model = models::build("seed-cnn", [28, 28, 1], 10).expect("a model of the zoo");
        let mut parameters = Parameters::new(usize::MAX);
        let normalisation = Normalisation { mean: vec![0.5], std: vec![0.25] };
        let (graph, _) = training_graph(&model, &mut parameters, &recipe, &normalisation).expect("a graph");
        let dropouts =
            graph.nodes().iter().filter(|node| matches!(&node.source, Source::Op(op) if op.name() == "dropout"));
        dropouts.map(|node| node.scope.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(plan(0.0), [""; 0]);
    // Forward, and its gradient.
    assert_eq!(plan(0.5), ["dense2", "dense2"]);
}

/// One step of plain descent at rate 1 moves each parameter by its gradient.
fn gradients(
    executor: Box<dyn Executor>,
    model: &str,
    input: [usize; 3],
    size: usize,
) -> (f32, Vec<(String, Vec<f32>)>) {
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let recipe = Recipe { batch_size: Some(size), optimizer, ..Recipe::default() };
    let mut session = session(executor, model, input, &recipe);
    let floats = |tensor: &Tensor| tensor.as_f32().expect("floats").to_vec();
    let before = session.tensors().expect("the parameters");
    let loss = losses(&mut session, 1, 1.0)[0];
    let after = session.tensors().expect("the parameters");
    let moved = before.iter().zip(&after).map(|((name, old), (_, new))| {
        (name.clone(), floats(old).iter().zip(floats(new)).map(|(old, new)| old - new).collect())
    });
    (loss, moved.collect())
}

/// The reference is the CPU path in double precision: in single precision one activation that lies within rounding of
/// 0 may fall on the other side of ReLU on one of two devices, which is worth a percent of all gradients before it.
#[test]
fn resnet18_has_the_same_gradients_on_gpu_and_cpu() {
    let Some(gpu) = gpu() else { return };
    let (gpu_loss, on_gpu) = gradients(gpu, "resnet18", [16, 16, 3], 2);
    let (cpu_loss, on_cpu) = gradients(Box::new(CpuExecutor::<f64>::default()), "resnet18", [16, 16, 3], 2);
    let error = ((gpu_loss - cpu_loss) / cpu_loss).abs();
    assert!(error <= 1e-5, "a loss of {gpu_loss} on the GPU, {cpu_loss} on the CPU");
    for ((name, gpu), (_, cpu)) in on_gpu.iter().zip(&on_cpu) {
        let error = check::relative_error(gpu, cpu);
        assert!(error <= 1e-3, "the gradient of {name} is off by {error:.2e}");
    }
}

/// Batch norm and ReLU amplify rounding: the gradients of an untrained resnet50 in single precision are some percent
/// away from those in double precision, on any device. A GPU may be as far away as the CPU is, within a small factor.
#[test]
fn resnet50_is_as_exact_on_the_gpu_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let input = [65, 65, 3];
    let (gpu_loss, on_gpu) = gradients(gpu, "resnet50", input, 2);
    let (cpu_loss, on_cpu) = gradients(Box::new(CpuExecutor::new()), "resnet50", input, 2);
    let (_, exact) = gradients(Box::new(CpuExecutor::<f64>::default()), "resnet50", input, 2);
    let error = ((gpu_loss - cpu_loss) / cpu_loss).abs();
    assert!(error <= 1e-4, "a loss of {gpu_loss} on the GPU, {cpu_loss} on the CPU");
    for (((name, gpu), (_, cpu)), (_, exact)) in on_gpu.iter().zip(&on_cpu).zip(&exact) {
        let bound = (4.0 * check::relative_error(cpu, exact)).max(1e-3);
        let error = check::relative_error(gpu, exact);
        assert!(error <= bound, "the gradient of {name} is off by {error:.2e}, more than {bound:.2e}");
    }
}

#[test]
fn one_seed_gives_the_same_bits_and_another_does_not() {
    let run = |seed| {
        let recipe = Recipe { batch_size: Some(8), seed, ..Recipe::default() };
        let mut session = session(Box::new(CpuExecutor::new()), "resnet18", [16, 16, 3], &recipe);
        losses(&mut session, 3, 1e-3);
        session.tensors().expect("the parameters")
    };
    let first = run(1);
    assert!(first == run(1), "the same seed");
    assert!(first != run(2), "another seed");
}

#[test]
fn recomputation_takes_less_memory_for_the_same_losses() {
    let run = |recompute| {
        let recipe = Recipe { batch_size: Some(8), recompute, ..Recipe::default() };
        let mut session = session(Box::new(CpuExecutor::new()), "resnet18", [32, 32, 3], &recipe);
        (losses(&mut session, 3, 1e-3), session.memory().planned, session.recomputation_saves())
    };
    let (kept, memory, nothing) = run(false);
    let (recomputed, less, saved) = run(true);
    assert_eq!(nothing, 0);
    assert_eq!(memory - less, saved);
    assert!(10 * less < 9 * memory, "{less} bytes of {memory}");
    for (kept, recomputed) in kept.iter().zip(&recomputed) {
        assert!((kept - recomputed).abs() <= 1e-6 * kept, "{kept} and {recomputed}");
    }
}

#[test]
fn real_images_are_learnt() {
    let splits = data::bundled(&data::OpenOptions::default()).expect("the shipped images");
    let normalisation = Normalisation::of(&splits.train).expect("the statistics");
    let recipe = Recipe { epochs: 2, ..Recipe::default() };
    let order = Order::Shuffled { seed: recipe.seed };
    let train = Loader::new(splits.train, LoaderOptions { order, ..LoaderOptions::new(128) }).expect("a loader");
    let test = Loader::new(splits.test.expect("test images"), LoaderOptions::new(128)).expect("a loader");
    let model = models::build("seed-cnn", [28, 28, 1], 10).expect("a model of the zoo");
    let mut session = Session::new(Box::new(CpuExecutor::new()), model, recipe, normalisation).expect("a session");
    Trainer::new(&mut session, &train).run().expect("a run");
    let evaluation = session.evaluate(&test).expect("an evaluation");
    assert_eq!(evaluation.images, 2000);
    let accuracy = evaluation.metric("accuracy").unwrap();
    assert!(accuracy >= 0.93, "test accuracy {accuracy}");
}

/// Images of two channels of which each may be bright, and which of them are.
fn lights(count: usize) -> Dataset {
    let bits = |at: usize| [at * 7 / 3 % 2, at * 5 / 2 % 2];
    let pixels = (0..count).flat_map(|at| bits(at).map(|bit| (40 + 150 * bit + at * 13 % 50) as u8)).collect();
    let labels = Labels::Rows { width: 2, values: (0..count).flat_map(|at| bits(at).map(|bit| bit as f32)).collect() };
    let classes = vec!["left".to_string(), "right".to_string()];
    Dataset::from_pixels("lights", pixels, ImageSize::new(1, 2, 1), labels, classes).expect("a data set")
}

#[test]
fn several_classes_an_image_are_learnt_and_inferred() {
    for executor in [Some(Box::new(CpuExecutor::new()) as Box<dyn Executor>), gpu()].into_iter().flatten() {
        let data = lights(200);
        let recipe =
            Recipe { epochs: 20, batch_size: Some(16), learning_rate: 3e-2, label_smoothing: 0.1, ..Recipe::default() };
        let network = Sequential::new().add(Flatten).add(Dense::new(8).relu()).add(Dense::new(2));
        let model = Model::for_task("lights", [1, 2, 1], MultiLabel::new(2), network);
        let normalisation = Normalisation::of(&data).expect("the statistics");
        let loader = Loader::new(data, LoaderOptions::new(16)).expect("a loader");
        let mut session = Session::new(executor, model, recipe, normalisation).expect("a session");
        let outcome = Trainer::new(&mut session, &loader).run().expect("a run");
        assert_eq!(outcome.last_epoch.expect("an epoch").train_metrics[0].name, "accuracy");
        let evaluation = session.evaluate(&loader).expect("an evaluation");
        assert!(evaluation.metric("mean average precision").unwrap() > 0.99, "{evaluation}");
        assert!(evaluation.metric("exact match").unwrap() > 0.95, "{evaluation}");
        assert_eq!(
            evaluation.per_class.iter().map(|class| class.images as usize).collect::<Vec<_>>(),
            loader.dataset().class_counts()
        );
    }
}

#[test]
fn labels_that_the_task_does_not_take_are_refused() {
    let recipe = Recipe { batch_size: Some(16), ..Recipe::default() };
    let network = Sequential::new().add(Flatten).add(Dense::new(2));
    let model = Model::new("lights", [1, 2, 1], 2, network);
    let normalisation = Normalisation { mean: vec![0.5], std: vec![0.25] };
    let mut session = Session::new(Box::new(CpuExecutor::new()), model, recipe, normalisation).expect("a session");
    let loader = Loader::new(lights(32), LoaderOptions::new(16)).expect("a loader");
    let error = Trainer::new(&mut session, &loader).run().unwrap_err().to_string();
    assert!(error.contains("classification does not take labels of the type f32[16, 2]"), "{error}");
    assert_eq!(session.step(), 0);
}

#[test]
fn gradients_are_read_by_name_and_change_nothing() {
    for executor in [Some(Box::new(CpuExecutor::new()) as Box<dyn Executor>), gpu()].into_iter().flatten() {
        let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false };
        let recipe = Recipe { batch_size: Some(8), optimizer: sgd, ..Recipe::default() };
        let network = Sequential::new()
            .add(Conv2d::new(8, 3).no_bias())
            .add(BatchNorm::new())
            .add(GlobalAveragePool)
            .add(Dense::new(10));
        let model = Model::new("small", [12, 12, 3], 10, network);
        let normalisation = Normalisation { mean: vec![0.45; 3], std: vec![0.25; 3] };
        let mut session = Session::new(executor, model, recipe, normalisation).expect("a session");
        let mut images = batch(1, 8, [12, 12, 3]);
        let before = session.tensors().expect("the parameters");
        let gradients = session.gradients(&mut images).expect("the gradients");
        assert!(session.tensors().expect("the parameters") == before);
        assert_eq!(gradients.len(), session.parameters().iter().filter(|p| p.role == Role::Trained).count());
        // A step of plain descent goes against them.
        session.train_step(&mut images, 0.5).expect("a step");
        session.finish_steps().expect("the step");
        let before: HashMap<String, Tensor> = before.into_iter().collect();
        let after: HashMap<String, Tensor> = session.tensors().expect("the parameters").into_iter().collect();
        for (name, gradient) in &gradients {
            let floats = |tensor: &Tensor| tensor.as_f32().expect("floats").to_vec();
            let (old, new) = (floats(&before[name]), floats(&after[name]));
            let expected: Vec<f32> = old.iter().zip(floats(gradient)).map(|(old, g)| old - 0.5 * g).collect();
            let error = check::relative_error(&new, &expected);
            assert!(error <= 1e-5, "{name} is off by {error:.2e}");
        }
    }
}

/// An optimizer of elements, and those that look at whole parameters.
fn some_optimizers() -> impl Iterator<Item = Optimizer> {
    Optimizer::ALL.into_iter().filter(|optimizer| matches!(optimizer.name(), "adam" | "lamb" | "muon"))
}

/// Parameters after some steps of two batches of 8 images, or of one of 16 of the same images.
fn accumulated(executor: Box<dyn Executor>, optimizer: Optimizer, accumulate: usize) -> Vec<(String, Tensor)> {
    let input = [28, 28, 1];
    let recipe = Recipe {
        batch_size: Some(16 / accumulate),
        accumulate,
        optimizer,
        weight_decay: 1e-2,
        clip_norm: Some(1.0),
        ..Recipe::default()
    };
    let mut session = session(executor, "seed-cnn", input, &recipe);
    for step in 0..4 {
        let whole = batch(step, 16, input);
        let part = |at: usize| {
            let (size, pixels) = (16 / accumulate, 28 * 28 * 16 / accumulate);
            Batch {
                images: whole.images[at * pixels..][..pixels].to_vec(),
                labels: whole.labels.select(at * size..(at + 1) * size),
                weights: whole.weights[at * size..][..size].to_vec(),
                real: size,
                ..Batch::default()
            }
        };
        let mut parts: Vec<Batch> = (0..accumulate).map(part).collect();
        session.train_step_on(&mut parts, 1e-3).expect("a step");
    }
    let figures = session.finish_steps().expect("the last steps");
    assert!(figures.iter().all(|figures| figures.losses.len() == 16), "{figures:?}");
    session.tensors().expect("the parameters")
}

#[test]
fn accumulated_gradients_are_those_of_one_batch() {
    type Open = fn() -> Option<Box<dyn Executor>>;
    let opens = [(|| Some(Box::new(CpuExecutor::new()) as Box<dyn Executor>)) as Open, gpu];
    for (open, optimizer) in some_optimizers().flat_map(|optimizer| opens.map(|open| (open, optimizer))) {
        let (Some(one), Some(two)) = (open(), open()) else { return };
        let (whole, parts) = (accumulated(one, optimizer, 1), accumulated(two, optimizer, 4));
        for ((name, whole), (_, parts)) in whole.iter().zip(&parts).filter(|((name, _), _)| !name.contains('/')) {
            let error = check::relative_error(parts.as_f32().expect("floats"), whole.as_f32().expect("floats"));
            assert!(error <= 1e-5, "{} of {name} is off by {error:.2e}", optimizer.name());
        }
    }
}

#[test]
fn muon_moves_hidden_weights_and_adamw_the_rest() {
    let optimizer = Optimizer::ALL.into_iter().find(|optimizer| optimizer.name() == "muon").expect("muon");
    let recipe = Recipe { batch_size: Some(8), optimizer, ..Recipe::default() };
    let mut session = session(Box::new(CpuExecutor::new()), "seed-cnn", [28, 28, 1], &recipe);
    let last = session.parameters().last_dense().expect("a classifier").to_string();
    let names: Vec<String> = session.tensors().expect("the parameters").into_iter().map(|(name, _)| name).collect();
    let mut hidden = 0;
    for name in names.iter().filter(|name| !name.contains('/')) {
        // AdamW has two moments, Muon one.
        let adamw = names.contains(&format!("moment2/{name}"));
        assert_eq!(adamw, !name.ends_with(".weight") || *name == format!("{last}.weight"), "{name}");
        hidden += usize::from(!adamw);
    }
    assert!(hidden > 2);
    let losses = losses(&mut session, 12, 3e-3);
    assert!(losses[11] < 0.8 * losses[0], "{losses:?}");
}

#[test]
fn frozen_parameters_stay_and_others_move() {
    let rule = |pattern: &str| GroupRule { pattern: pattern.into(), frozen: Some(true), ..GroupRule::default() };
    let recipe = Recipe { batch_size: Some(8), groups: vec![rule("conv*")], ..Recipe::default() };
    for optimizer in some_optimizers() {
        let recipe = Recipe { optimizer, ..recipe.clone() };
        let mut session = session(Box::new(CpuExecutor::new()), "seed-cnn", [28, 28, 1], &recipe);
        let before = session.tensors().expect("the parameters");
        losses(&mut session, 2, 1e-3);
        let after: HashMap<String, Tensor> = session.tensors().expect("the parameters").into_iter().collect();
        for (name, tensor) in before.iter().filter(|(name, _)| !name.contains('/')) {
            assert_eq!(after[name] == *tensor, name.starts_with("conv"), "{name}");
        }
    }
    let all = Recipe { groups: vec![rule("*")], ..recipe.clone() };
    let unknown = Recipe { groups: vec![rule("layer9.*")], ..recipe };
    for (recipe, words) in
        [(all, "nothing to train"), (unknown, "layer9.*, where * is for any characters; near to it are")]
    {
        let model = models::build("seed-cnn", [28, 28, 1], 10).expect("a model of the zoo");
        let normalisation = Normalisation { mean: vec![0.5], std: vec![0.25] };
        let error = Session::new(Box::new(CpuExecutor::new()), model, recipe, normalisation).err().expect("an error");
        assert!(error.to_string().contains(words), "{error}");
    }
}
