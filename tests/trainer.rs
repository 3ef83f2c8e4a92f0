//! The training loop from the outside: what it does when a device, an observer or the person at the keyboard ends it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gabor::{
    cpu::CpuExecutor,
    data::{Dataset, ImageSize, Loader, LoaderOptions, Normalisation, Order},
    graph::{VariableId, Variables},
    models::{Model, Teacher},
    nn::{Dense, Flatten, Sequential},
    plan::{Executor, ExecutorError, Outputs, Plan, ProgramId, Target, Timing},
    report::EpochLog,
    tasks::Metric,
    tensor::Tensor,
    train::{
        Control, EarlyStopping, EpochReport, ModelCheckpoint, Observer, Recipe, ReduceLrOnPlateau, Schedule, Session,
        StepReport, StopReason, TrainError, Trainer, read_card,
    },
};

/// The CPU, until it has run so many times.
struct Failing {
    cpu: CpuExecutor,
    runs_left: usize,
}

impl Executor for Failing {
    fn device(&self) -> String {
        "failing".into()
    }

    fn target(&self) -> Target {
        self.cpu.target()
    }

    fn available_memory(&self) -> Option<u64> {
        None
    }

    fn declare(&mut self, variables: &Variables) -> Result<(), ExecutorError> {
        self.cpu.declare(variables)
    }

    fn load(&mut self, plan: Plan) -> Result<ProgramId, ExecutorError> {
        self.cpu.load(plan)
    }

    fn run(&mut self, program: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<(), ExecutorError> {
        if self.runs_left == 0 {
            return Err(ExecutorError::Lost("the cable was pulled".into()));
        }
        self.runs_left -= 1;
        self.cpu.run(program, feeds)
    }

    fn collect(&mut self, program: ProgramId, wait: bool) -> Result<Vec<Outputs>, ExecutorError> {
        self.cpu.collect(program, wait)
    }

    fn profile(&mut self, program: ProgramId, feeds: &[(&str, &Tensor)]) -> Result<Vec<Timing>, ExecutorError> {
        self.cpu.profile(program, feeds)
    }

    fn write(&mut self, id: VariableId, offset: usize, values: &Tensor) -> Result<(), ExecutorError> {
        self.cpu.write(id, offset, values)
    }

    fn read(&mut self, id: VariableId) -> Result<Tensor, ExecutorError> {
        self.cpu.read(id)
    }
}

const BATCHES: u64 = 5;

/// Twenty images of 2x2, one of two classes by their first pixel, in five batches.
fn loader() -> Loader {
    let labels: Vec<u32> = (0..20).map(|at| at % 2).collect();
    let pixels = (0..20u8).flat_map(|at| [200 * (at % 2), 3 * at, 7 * at, 100]).collect();
    let classes = vec!["dark".to_string(), "bright".to_string()];
    let set = Dataset::from_pixels("dots", pixels, ImageSize::new(2, 2, 1), labels, classes).unwrap();
    Loader::new(set, LoaderOptions { order: Order::Shuffled { seed: 1 }, ..LoaderOptions::new(4) }).unwrap()
}

fn dots() -> Model {
    Model::new("dots", [2, 2, 1], 2, Sequential::new().add(Flatten).add(Dense::new(3)).add(Dense::new(2)))
}

fn session(executor: impl Executor + 'static, recipe: Recipe) -> Session {
    let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
    Session::new(Box::new(executor), dots(), recipe, normalisation).unwrap()
}

fn recipe() -> Recipe {
    Recipe { epochs: 4, batch_size: Some(4), schedule: Schedule::Constant, ..Recipe::default() }
}

fn last(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("last.safetensors")).unwrap()
}

/// The weights of a run that nothing disturbs.
fn undisturbed() -> Vec<u8> {
    undisturbed_by(recipe())
}

fn undisturbed_by(recipe: Recipe) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader();
    let mut session = session(CpuExecutor::new(), recipe);
    let trainer = Trainer::new(&mut session, &loader).checkpoints(folder.path(), Duration::MAX);
    let outcome = trainer.run().unwrap();
    assert_eq!((outcome.reason, outcome.progress.step), (StopReason::Finished, 4 * BATCHES));
    last(folder.path())
}

fn resumed(folder: &Path) -> Vec<u8> {
    resumed_by(recipe(), folder)
}

fn resumed_by(recipe: Recipe, folder: &Path) -> Vec<u8> {
    let loader = loader();
    let mut session = session(CpuExecutor::new(), recipe);
    let progress = session.resume(folder).unwrap();
    let trainer = Trainer::new(&mut session, &loader).checkpoints(folder, Duration::MAX);
    trainer.resume(progress).unwrap().run().unwrap();
    last(folder)
}

#[test]
fn a_lost_device_leaves_the_last_checkpoint_and_the_way_on() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader();
    let executor = Failing { cpu: CpuExecutor::new(), runs_left: 12 };
    let mut session = session(executor, recipe());
    let trainer = Trainer::new(&mut session, &loader).checkpoints(folder.path(), Duration::MAX);
    let error = trainer.run().unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, TrainError::DeviceLost { checkpoint: Some(_), .. }), "{message}");
    assert!(message.contains("cable") && message.contains("`resume` from"), "{message}");
    assert_eq!(read_card(&folder.path().join("last.safetensors")).unwrap().progress.step, 2 * BATCHES);
    assert!(resumed(folder.path()) == undisturbed());
}

#[test]
fn a_device_lost_before_the_first_checkpoint_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader();
    let mut session = session(Failing { cpu: CpuExecutor::new(), runs_left: 2 }, recipe());
    let trainer = Trainer::new(&mut session, &loader).checkpoints(folder.path(), Duration::MAX);
    let message = trainer.run().unwrap_err().to_string();
    assert!(message.contains("no checkpoint yet"), "{message}");
}

/// Asks the run to stop after a step.
struct StopAfter {
    step: u64,
    stop: Arc<AtomicBool>,
    epochs_seen: Vec<u64>,
}

impl Observer for StopAfter {
    fn on_step(&mut self, report: &StepReport, _: &mut Control) -> Result<(), TrainError> {
        if report.step >= self.step {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn on_epoch(&mut self, report: &EpochReport, _: &mut Control) -> Result<(), TrainError> {
        self.epochs_seen.push(report.epoch);
        Ok(())
    }
}

#[test]
fn a_run_stopped_at_any_step_goes_on_as_if_nothing_had_been() {
    let whole = undisturbed();
    for step in [1, BATCHES - 1, BATCHES, BATCHES + 1, 4 * BATCHES - 1] {
        let folder = tempfile::tempdir().unwrap();
        let loader = loader();
        let stop = Arc::new(AtomicBool::new(false));
        let mut observer = StopAfter { step, stop: stop.clone(), epochs_seen: Vec::new() };
        let mut session = session(CpuExecutor::new(), recipe());
        let trainer = Trainer::new(&mut session, &loader).checkpoints(folder.path(), Duration::MAX);
        let outcome = trainer.stop_flag(stop).observer(&mut observer).run().unwrap();
        assert_eq!((outcome.reason, outcome.progress.step), (StopReason::Stopped, step));
        // An epoch that was gone through is reported, even if the run ends with it.
        assert_eq!(observer.epochs_seen, (1..=step / BATCHES).collect::<Vec<_>>());
        assert!(resumed(folder.path()) == whole, "stopped after {step}");
    }
}

#[test]
fn a_run_goes_on_with_the_moments_of_any_optimizer() {
    for optimizer in gabor::ops::Optimizer::ALL {
        let recipe = Recipe { optimizer, weight_decay: 0.01, ..recipe() };
        let folder = tempfile::tempdir().unwrap();
        let loader = loader();
        let stop = Arc::new(AtomicBool::new(false));
        let mut observer = StopAfter { step: BATCHES + 1, stop: stop.clone(), epochs_seen: Vec::new() };
        let mut session = session(CpuExecutor::new(), recipe.clone());
        let trainer = Trainer::new(&mut session, &loader).checkpoints(folder.path(), Duration::MAX);
        trainer.stop_flag(stop).observer(&mut observer).run().unwrap();
        assert!(resumed_by(recipe.clone(), folder.path()) == undisturbed_by(recipe), "{}", optimizer.name());
    }
}

/// Steers a run: after the second epoch it lowers the learning rate and keeps the weights, after `last` it stops.
struct Steers {
    last: u64,
    logged: Vec<Vec<Metric>>,
    rates: Vec<f64>,
}

impl Observer for Steers {
    fn on_epoch(&mut self, report: &EpochReport, control: &mut Control) -> Result<(), TrainError> {
        self.logged.push(report.logged.clone());
        self.rates.push(report.learning_rate);
        control.log(Metric::number("epochs so far", report.epoch as f64));
        if report.epoch == 2 {
            control.set_learning_rate_factor(0.25);
            control.keep_weights("second");
        }
        if report.epoch == self.last {
            control.stop();
        }
        Ok(())
    }
}

#[test]
fn observers_steer_a_run_and_a_resumed_one_is_steered_alike() {
    let run = |folder: &Path, last: u64, resume: bool| {
        let loader = loader();
        let mut steers = Steers { last, logged: Vec::new(), rates: Vec::new() };
        let mut log = EpochLog::create(&folder.join("metrics.csv")).unwrap();
        let mut session = session(CpuExecutor::new(), recipe());
        let progress = resume.then(|| session.resume(folder).unwrap());
        let mut trainer = Trainer::new(&mut session, &loader).checkpoints(folder, Duration::MAX);
        if let Some(progress) = progress {
            trainer = trainer.resume(progress).unwrap();
        }
        let outcome = trainer.observer(&mut steers).observer(&mut log).run().unwrap();
        (outcome, steers)
    };
    let [whole, parts] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let (outcome, steers) = run(whole.path(), 9, false);
    assert_eq!(outcome.reason, StopReason::Finished);
    let rate = Recipe::default().learning_rate;
    assert_eq!(steers.rates, [rate, rate, 0.25 * rate, 0.25 * rate]);
    assert!(steers.logged.iter().all(Vec::is_empty), "an observer sees what others logged before it");
    let rows = std::fs::read_to_string(whole.path().join("metrics.csv")).unwrap();
    let last_column = |row: &str| row.rsplit(',').next().map(String::from);
    assert_eq!(
        rows.lines().map(|row| last_column(row).unwrap()).collect::<Vec<_>>(),
        ["epochs_so_far", "1.0", "2.0", "3.0", "4.0"]
    );
    assert_eq!(read_card(&whole.path().join("second.safetensors")).unwrap().progress.step, 2 * BATCHES);

    let (outcome, _) = run(parts.path(), 3, false);
    assert_eq!((outcome.reason, outcome.progress.step), (StopReason::Stopped, 3 * BATCHES));
    run(parts.path(), 9, true);
    assert!(last(parts.path()) == last(whole.path()));
    assert!(last(whole.path()) != undisturbed());
}

#[test]
fn a_run_without_better_epochs_lowers_its_rate_and_ends() {
    // Nothing is learnt at this rate, so that only the first epoch is better than none.
    let recipe = Recipe {
        epochs: 50,
        learning_rate: 1e-12,
        plateau: Some(2),
        plateau_factor: 0.5,
        min_lr: 0.3e-12,
        patience: Some(7),
        min_delta: 1e-3,
        monitor: Some("loss".into()),
        ..recipe()
    };
    struct Rates(Vec<f64>);
    impl Observer for Rates {
        fn on_epoch(&mut self, report: &EpochReport, _: &mut Control) -> Result<(), TrainError> {
            self.0.push(report.learning_rate);
            Ok(())
        }
    }
    let loader = loader();
    let mut rates = Rates(Vec::new());
    let mut session = session(CpuExecutor::new(), recipe);
    let outcome = Trainer::new(&mut session, &loader).observer(&mut rates).run().unwrap();
    assert_eq!((outcome.reason, outcome.progress.epochs()), (StopReason::NotBetter, 8));
    let factors = [1.0, 1.0, 1.0, 0.5, 0.5, 0.3, 0.3, 0.3];
    assert!(rates.0.iter().zip(factors).all(|(rate, factor)| (rate / 1e-12 - factor).abs() < 1e-9), "{:?}", rates.0);
}

/// What the recipe says, said by observers, comes to the same.
#[test]
fn the_callbacks_are_observers_by_themselves() {
    let still = Recipe { epochs: 50, learning_rate: 1e-12, ..recipe() };
    let monitor = Some("loss".to_string());
    let mut plateau = ReduceLrOnPlateau { monitor: monitor.clone(), min_delta: 1e-3, ..ReduceLrOnPlateau::new(2) };
    (plateau.factor, plateau.least) = (0.5, 0.3);
    let mut stopping = EarlyStopping { monitor: monitor.clone(), min_delta: 1e-3, ..EarlyStopping::new(7) };
    let mut rates = Vec::new();
    let mut follow = |report: &EpochReport, _: &mut Control| {
        rates.push(report.learning_rate / 1e-12);
        Ok(())
    };
    let loader = loader();
    let mut still = session(CpuExecutor::new(), still);
    let trainer = Trainer::new(&mut still, &loader).observer(&mut plateau).observer(&mut stopping);
    let outcome = trainer.observer(&mut follow).run().unwrap();
    assert_eq!((outcome.reason, outcome.progress.epochs()), (StopReason::Stopped, 8));
    let factors = [1.0, 1.0, 1.0, 0.5, 0.5, 0.3, 0.3, 0.3];
    assert!(rates.iter().zip(factors).all(|(rate, factor)| (rate - factor).abs() < 1e-9), "{rates:?}");

    let [by_observer, by_trainer] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let recipe = Recipe { learning_rate: 0.05, epochs: 12, monitor: monitor.clone(), ..recipe() };
    let mut checkpoint = ModelCheckpoint { monitor, ..ModelCheckpoint::new(2) };
    let mut first = session(CpuExecutor::new(), recipe.clone());
    let trainer = Trainer::new(&mut first, &loader).checkpoints(by_observer.path(), Duration::MAX);
    trainer.observer(&mut checkpoint).run().unwrap();
    let mut second = session(CpuExecutor::new(), recipe);
    let trainer = Trainer::new(&mut second, &loader).checkpoints(by_trainer.path(), Duration::MAX);
    let outcome = trainer.keep_best(2).run().unwrap();
    assert_eq!(outcome.progress.kept, checkpoint.kept);
    let files = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries.map(|e| (e.file_name(), std::fs::read(e.path()).unwrap())).collect();
        files.retain(|(name, _)| name.to_str().unwrap().starts_with("best-"));
        files.sort();
        // The card of the observer's files does not know of them.
        files.into_iter().map(|(name, bytes)| (name, bytes[bytes.len() - 60..].to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(files(by_observer.path()).len(), 2);
    assert_eq!(files(by_observer.path()), files(by_trainer.path()));
}

/// A teacher that answers as the student itself leaves nothing to imitate, also one of another normalisation.
#[test]
fn a_teacher_is_asked_in_its_own_normalisation() {
    let loss = |weight: f64, teacher: Option<Teacher>| {
        let recipe = Recipe { teacher_weight: weight, teacher_temperature: 2.0, ..recipe() };
        let mut student = dots();
        student.teacher = teacher.map(Arc::new);
        let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
        let mut session = Session::new(Box::new(CpuExecutor::new()), student, recipe, normalisation).unwrap();
        let mut finished = session.train_step(&mut loader().batch(0, 0).unwrap(), 0.0).unwrap();
        finished.extend(session.finish_steps().unwrap());
        finished[0].loss
    };
    let own = session(CpuExecutor::new(), recipe()).tensors().unwrap();
    let own: Vec<(String, Tensor)> = own.into_iter().filter(|(name, _)| !name.contains('/')).collect();
    let as_student = || Teacher {
        model: dots(),
        normalisation: Normalisation { mean: vec![0.5], std: vec![0.5] },
        weights: own.clone(),
    };
    // Twice the deviation and twice the weights of the first layer.
    let mut wider = as_student();
    wider.normalisation.std = vec![1.0];
    let first = &mut wider.weights.iter_mut().find(|(name, _)| name == "dense1.weight").unwrap().1;
    *first = Tensor::f32(first.shape(), first.as_f32().unwrap().iter().map(|x| 2.0 * x).collect());
    let mut narrower = as_student();
    narrower.normalisation.std = vec![0.25];

    let hard = loss(0.5, None);
    for teacher in [as_student(), wider] {
        let halved = loss(0.5, Some(teacher));
        assert!((halved - 0.5 * hard).abs() < 1e-5, "{halved} {hard}");
    }
    assert!(loss(1.0, Some(as_student())).abs() < 1e-5);
    assert!(loss(1.0, Some(narrower)) > 1e-3);
}

#[test]
fn epochs_are_compared_by_a_figure_that_they_have() {
    let loader = loader();
    let mut session = session(CpuExecutor::new(), Recipe { monitor: Some("f1".into()), ..recipe() });
    let error = Trainer::new(&mut session, &loader).validation(&loader).run().unwrap_err().to_string();
    assert!(error.contains("`monitor` is f1, and an epoch has loss, accuracy"), "{error}");
}

#[test]
fn weights_are_kept_under_a_name_of_their_own_only() {
    struct Keeps(&'static str);
    impl Observer for Keeps {
        fn on_epoch(&mut self, _: &EpochReport, control: &mut Control) -> Result<(), TrainError> {
            control.keep_weights(self.0);
            Ok(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["last", "best", "resume", "../up", ""] {
        let loader = loader();
        let mut session = session(CpuExecutor::new(), recipe());
        let mut keeps = Keeps(name);
        let trainer = Trainer::new(&mut session, &loader).checkpoints(folder.path(), Duration::MAX);
        let error = trainer.observer(&mut keeps).run().unwrap_err().to_string();
        assert!(error.contains("another name"), "{name}: {error}");
    }
}

#[test]
fn another_number_of_steps_an_epoch_cannot_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader();
    let mut first = session(CpuExecutor::new(), recipe());
    Trainer::new(&mut first, &loader).checkpoints(folder.path(), Duration::MAX).run().unwrap();
    let mut second = session(CpuExecutor::new(), recipe());
    let progress = second.resume(folder.path()).unwrap();
    let other = Loader::new(loader.dataset().clone(), LoaderOptions::new(10)).unwrap();
    let error = Trainer::new(&mut second, &other).resume(progress).err().unwrap();
    assert!(error.to_string().contains("5 steps an epoch"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_names_its_layer_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader();
    let optimizer = gabor::ops::Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let recipe = Recipe { optimizer, learning_rate: 1e38, ..recipe() };
    let mut session = session(CpuExecutor::new(), recipe);
    let error = Trainer::new(&mut session, &loader).run().unwrap_err();
    let TrainError::NotFinite { step, epoch, place, .. } = &error else { panic!("{error}") };
    assert_eq!((*step, *epoch), (2, 1), "{error}");
    assert!(!place.is_empty(), "{error}");
    // The step that failed did not touch the weights.
    let card = session.card(loader.dataset(), &gabor::train::Progress::default());
    session.save(folder.path(), &card, false).unwrap();
    let bytes = last(folder.path());
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in file.tensors() {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
        assert!(values.iter().all(|value| value.is_finite()), "{name} {values:?}");
    }
}
