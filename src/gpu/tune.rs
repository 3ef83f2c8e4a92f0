//! Autotuning: of the kernels that can compute a call, the one that is fastest on this device.
//!
//! Kernels are timed in place, on the buffers of the real step, and in turns with the estimated best: a device's clock
//! rises under load and falls while shaders are compiled, so that only times of the same moment compare. What was found
//! counts only where the whole step gains by it.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Gpu, GpuExecutor, cache, profile::profile, shader};
use crate::{
    graph::{Graph, Variables},
    plan::{
        BufferKind, Choices, Executor, ExecutorError, Plan, PlanOptions, ProgramId, Target, Tuned, Tuning,
        TuningProgress, Work, call,
    },
    tensor::{DType, Tensor, TensorType, f16},
};

/// How long tuning may take.
fn budget(tuning: Tuning) -> Duration {
    match tuning {
        Tuning::Off => Duration::ZERO,
        Tuning::Quick => Duration::from_secs(5),
        Tuning::Full => Duration::from_secs(120),
    }
}

/// Calls whose alternatives one plan tries at once: few enough that compiling them does not overrun the time by much,
/// which takes a processor that runs the shaders longest.
const ROUND: usize = 12;
const SOFTWARE_ROUND: usize = 3;

/// Steps that tell at the end whether what was found is faster: the first one and another, of both choices.
const LAST_STEPS: u32 = 4;

/// Share of the step below which a call is not worth the time of a quick tuning.
const NEGLIGIBLE: f64 = 0.01;

/// How long kernels run before they are timed, for the device's clock to rise: processors need no such time.
const WARM_UP: Duration = Duration::from_millis(100);

/// Turns that kernels are timed in, and the time after which there are no more of them.
const TURNS: usize = 10;
const LONGEST: Duration = Duration::from_secs(1);

/// An alternative has to be faster than the estimated best by this factor, so that noise changes nothing.
const GAIN: f64 = 0.97;

/// What the user's cache folder holds of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    kernel: String,
    tuning: Tuning,
}

/// What is known of the kernels of a device, and how much may be done to know more.
#[derive(Debug, Default)]
pub(super) struct Tuner {
    tuning: Tuning,
    left: Duration,
    /// What plans take: given from outside, or chosen here.
    pub choices: Choices,
    cached: BTreeMap<String, Entry>,
    cache: Option<PathBuf>,
    /// Who wants to know how far it is.
    pub tell: Option<Tell>,
}

/// Takes how far tuning is.
pub(super) struct Tell(pub Box<dyn FnMut(TuningProgress) + Send>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

/// A call that more than one kernel can compute.
struct Call {
    name: String,
    kernels: Vec<String>,
    /// Its steps in the plan.
    steps: Vec<usize>,
    best: usize,
    /// Time of the estimated best in a whole step.
    time: Duration,
}

/// How long steps of a plan take, by their number.
type Times = BTreeMap<usize, Duration>;

impl Call {
    /// The time of its steps.
    fn in_steps(&self, times: &Times) -> Duration {
        self.steps.iter().filter_map(|step| times.get(step)).sum()
    }
}

impl Tuner {
    /// With `known` choices, which are not questioned, and those in the user's cache folder.
    pub fn new(gpu: &Gpu, tuning: Tuning, known: Choices) -> Self {
        let cache = gpu.cache_folder().filter(|_| tuning != Tuning::Off).map(|folder| folder.join(cache_name(gpu)));
        let cached = cache.as_deref().map(read_cache).unwrap_or_default();
        Self { tuning, left: budget(tuning), choices: known, cached, cache, tell: None }
    }

    /// Takes the choice that the cache has for a call; false where it has none that is good enough.
    fn recall(&mut self, call: &Call) -> bool {
        let Some(entry) = self.cached.get(&call.name) else { return false };
        let good = entry.tuning >= self.tuning && call.kernels.contains(&entry.kernel);
        if good {
            self.choices.set(&call.name, &entry.kernel);
        }
        good
    }

    /// Keeps what was found, here and in the cache. Failing to write it costs only time at the next start, so it is
    /// only logged.
    fn keep(&mut self, calls: &[Call]) {
        for call in calls {
            let kernel = call.kernels[call.best].clone();
            self.choices.set(&call.name, &kernel);
            self.cached.insert(call.name.clone(), Entry { kernel, tuning: self.tuning });
        }
        let Some(path) = &self.cache else { return };
        let mut entries = read_cache(path);
        entries.extend(self.cached.clone());
        let written =
            serde_json::to_vec_pretty(&entries).map_err(Into::into).and_then(|text| cache::write(path, &[&text]));
        if let Err(error) = written {
            tracing::warn!("the choice of kernels in {} was not written: {error}", path.display());
        }
    }
}

/// One file for each adapter, driver and state of the shaders.
fn cache_name(gpu: &Gpu) -> String {
    let info = gpu.info();
    let digest = Sha256::new()
        .chain_update(format!("{}\n{}\n{}\n", info.name, info.backend, info.driver))
        .chain_update(shader::digest())
        .finalize();
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("kernels_{hash}.json")
}

/// What a cache file holds; nothing where it is missing or damaged.
fn read_cache(path: &std::path::Path) -> BTreeMap<String, Entry> {
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// The calls of a plan that more than one kernel can compute.
fn calls(plan: &Plan, gpu: &Gpu) -> Vec<Call> {
    let mut found: BTreeMap<String, Call> = BTreeMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        let Work::Run { op, signature, .. } = &step.work else { continue };
        let candidates = op.kernels(signature, gpu.limits());
        if candidates.len() < 2 {
            continue;
        }
        let name = call(op.name(), &candidates);
        let new = || Call {
            name: name.clone(),
            kernels: candidates.into_iter().map(|candidate| candidate.name).collect(),
            steps: Vec::new(),
            best: 0,
            time: Duration::ZERO,
        };
        found.entry(name.clone()).or_insert_with(new).steps.push(at);
    }
    found.into_values().collect()
}

/// See [`Executor::tune`].
pub(super) async fn tune(
    gpu: &std::sync::Arc<Gpu>,
    tuner: &mut Tuner,
    graph: &Graph,
    variables: &Variables,
    options: PlanOptions,
) -> Result<Tuned, ExecutorError> {
    let start = Instant::now();
    if tuner.tuning == Tuning::Off {
        return Ok(Tuned::default());
    }
    let mut bench = Bench { executor: GpuExecutor::new(gpu.clone()), graph, options };
    // What cannot be planned fails again where it is to be loaded, and is reported there.
    let Ok(plan) = bench.plan(&tuner.choices) else { return Ok(Tuned::default()) };
    let all = calls(&plan, gpu);
    let mut tuned = Tuned { calls: all.len(), ..Tuned::default() };
    let mut open: Vec<Call> =
        all.into_iter().filter(|call| tuner.choices.get(&call.name).is_none() && !tuner.recall(call)).collect();
    if !open.is_empty() {
        match bench.choose(&mut open, variables, tuner).await {
            Ok(timed) => tuned.timed = timed,
            // Another copy of the step may not fit beside what there is: for this run the estimate has to do.
            Err(ExecutorError::OutOfMemory { .. }) => {
                open.iter().for_each(|call| tuner.choices.set(&call.name, &call.kernels[0]));
                return Ok(tuned);
            }
            Err(error) => return Err(error),
        }
        tuned.faster = open.iter().filter(|call| call.best != 0).count();
        // Those that time did not suffice for as well: the next run is to take the same kernels.
        tuner.keep(&open);
    }
    tuned.time = start.elapsed();
    Ok(tuned)
}

/// A device of its own to time kernels on, so that variables of the real one stay as they are.
struct Bench<'a> {
    executor: GpuExecutor,
    graph: &'a Graph,
    options: PlanOptions,
}

impl Bench<'_> {
    fn plan(&self, choices: &Choices) -> Result<Plan, ExecutorError> {
        let target = Target::Gpu(self.executor.gpu().limits().clone(), choices.clone());
        Plan::new(self.graph, &target, self.options).map_err(|error| ExecutorError::Device(error.to_string()))
    }

    /// Finds the best kernel of each of the `open` calls, the longest first, while there is time `left`: compiling the
    /// kernels that would run anyway is not counted. Returns how many calls it got to.
    async fn choose(
        &mut self,
        open: &mut [Call],
        variables: &Variables,
        tuner: &mut Tuner,
    ) -> Result<usize, ExecutorError> {
        let Tuner { tuning, left: budget, choices: known, tell, .. } = tuner;
        if budget.is_zero() {
            return Ok(0);
        }
        let whole = *budget;
        let mut tell = |calls, timed, elapsed, ended| {
            if let Some(Tell(tell)) = tell {
                tell(TuningProgress { calls, timed, elapsed, budget: whole, ended });
            }
        };
        tell(open.len(), 0, Duration::ZERO, false);
        self.executor.declare(variables)?;
        let program = self.load(known)?;
        // Drivers finish compiling in the first run.
        self.profile(program, |_| true).await?;
        let times = self.in_turns(&[program], |_| true).await?.remove(0);
        self.executor.programs.clear();
        let start = Instant::now();
        for call in open.iter_mut() {
            call.time = call.in_steps(&times);
        }
        let step: Duration = times.values().sum();
        open.sort_by_key(|call| std::cmp::Reverse(call.time));
        // Whether all is worth it takes some whole steps with each choice.
        let deadline = (start + *budget).checked_sub(step * LAST_STEPS).unwrap_or(start);
        let worth = match tuning {
            Tuning::Full => open.len(),
            _ => open.iter().take_while(|call| call.time.as_secs_f64() > NEGLIGIBLE * step.as_secs_f64()).count(),
        };
        let mut timed = 0;
        let size = if self.executor.gpu().limits().software { SOFTWARE_ROUND } else { ROUND };
        for round in open[..worth].chunks_mut(size) {
            tell(worth, timed, start.elapsed(), false);
            if Instant::now() >= deadline {
                break;
            }
            self.round(round, known, deadline).await?;
            timed += round.len();
        }
        let finished = &mut open[..timed];
        if finished.iter().any(|call| call.best != 0) && !self.gains(finished, known).await? {
            finished.iter_mut().for_each(|call| call.best = 0);
        }
        tell(worth, timed, start.elapsed(), true);
        *budget = budget.saturating_sub(start.elapsed());
        Ok(timed)
    }

    /// Times the alternatives of some calls, one of each beside those of the others.
    async fn round(&mut self, calls: &mut [Call], known: &Choices, deadline: Instant) -> Result<(), ExecutorError> {
        let most = calls.iter().map(|call| call.kernels.len()).max().unwrap_or(0);
        let steps: HashSet<usize> = calls.iter().flat_map(|call| &call.steps).copied().collect();
        let (mut alternatives, mut programs) = (vec![0], vec![self.load(known)?]);
        // What making one ready took, as the next one will.
        let mut longest = Duration::ZERO;
        for alternative in 1..most {
            if Instant::now() + longest >= deadline {
                break;
            }
            let start = Instant::now();
            let mut choices = known.clone();
            for call in calls.iter().filter(|call| alternative < call.kernels.len()) {
                choices.set(&call.name, &call.kernels[alternative]);
            }
            // Drivers finish compiling in the first run.
            let loaded = match self.load(&choices) {
                Ok(program) => self.profile(program, |step| steps.contains(&step)).await.map(|_| program),
                Err(error) => Err(error),
            };
            match loaded {
                Ok(program) => {
                    alternatives.push(alternative);
                    programs.push(program);
                }
                Err(ExecutorError::Device(error)) => {
                    tracing::warn!("kernels that this device refuses are not used: {error}");
                }
                // Those that do fit beside each other are compared.
                Err(ExecutorError::OutOfMemory { .. }) if programs.len() > 1 => break,
                Err(error) => return Err(error),
            }
            longest = start.elapsed().max(longest);
        }
        let times = self.in_turns(&programs, |step| steps.contains(&step)).await?;
        self.executor.programs.clear();
        for call in calls {
            let first = call.in_steps(&times[0]);
            let mut bar = first.mul_f64(GAIN);
            for (&alternative, times) in alternatives.iter().zip(&times).skip(1) {
                let Some(kernel) = call.kernels.get(alternative) else { continue };
                let time = call.in_steps(times);
                tracing::debug!("{}: {kernel} {time:?}, {} {first:?}", call.name, call.kernels[0]);
                if time < bar {
                    (call.best, bar) = (alternative, time);
                }
            }
        }
        Ok(())
    }

    /// Shortest time of each step that is `wanted` in each of the programs, which run in turns.
    async fn in_turns(
        &mut self,
        programs: &[ProgramId],
        wanted: impl Fn(usize) -> bool + Copy,
    ) -> Result<Vec<Times>, ExecutorError> {
        let software = self.executor.gpu().limits().software;
        let start = Instant::now();
        while !software && start.elapsed() < WARM_UP {
            for program in programs {
                self.profile(*program, wanted).await?;
            }
        }
        let mut best = vec![Times::new(); programs.len()];
        let start = Instant::now();
        for turn in 0..TURNS {
            if turn > 0 && start.elapsed() > LONGEST {
                break;
            }
            for (program, best) in programs.iter().zip(&mut best) {
                for (step, time) in self.profile(*program, wanted).await? {
                    best.entry(step).and_modify(|best| *best = time.min(*best)).or_insert(time);
                }
            }
        }
        Ok(best)
    }

    /// Time of each step that is `wanted` in one run.
    async fn profile(&self, program: ProgramId, wanted: impl Fn(usize) -> bool) -> Result<Times, ExecutorError> {
        let timings = profile(self.executor.gpu(), &self.executor.programs[program.0].0, wanted).await;
        let mut sums = Times::new();
        for timing in timings.map_err(|error| self.executor.error(error, 0))? {
            *sums.entry(timing.step).or_default() += timing.time;
        }
        Ok(sums)
    }

    /// Whether the whole step is faster with what was found.
    async fn gains(&mut self, calls: &[Call], known: &Choices) -> Result<bool, ExecutorError> {
        let mut choices = known.clone();
        for call in calls {
            choices.set(&call.name, &call.kernels[call.best]);
        }
        let programs = [self.load(known)?, self.load(&choices)?];
        let feeds = self.feeds(programs[0]);
        let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut best = [Duration::MAX; 2];
        let start = Instant::now();
        // The first round finishes compiling.
        for round in 0..=TURNS {
            if round > 1 && start.elapsed() > LONGEST {
                break;
            }
            for (program, best) in programs.iter().zip(&mut best) {
                let start = Instant::now();
                self.executor.run_async(*program, &feeds).await?;
                self.executor.collect_async(*program, true).await?;
                if round > 0 {
                    *best = start.elapsed().min(*best);
                }
            }
        }
        tracing::debug!(
            "a step takes {:?} with the estimated kernels, {:?} with those that were faster",
            best[0],
            best[1]
        );
        self.executor.programs.clear();
        Ok(best[1] < best[0])
    }

    fn load(&mut self, choices: &Choices) -> Result<ProgramId, ExecutorError> {
        let plan = self.plan(choices)?;
        self.executor.load(plan)
    }

    fn feeds(&self, program: ProgramId) -> Vec<(String, Tensor)> {
        let plan = &self.executor.programs[program.0].0.plan;
        let feed = |buffer: &crate::plan::Buffer| {
            let BufferKind::Feed(name) = &buffer.kind else { return None };
            let shape = [buffer.elements];
            let tensor = match buffer.dtype {
                // Weights of samples must not all be 0.
                DType::F32 => Tensor::f32(shape, vec![1.0; buffer.elements]),
                DType::F16 => Tensor::f16(shape, vec![f16::ONE; buffer.elements]),
                dtype => Tensor::zeros(&TensorType { dtype, shape: shape.into() }),
            };
            Some((name.clone(), tensor))
        };
        plan.buffers.iter().filter_map(feed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, gpu::DeviceChoice};

    fn product() -> Graph {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([64, 32]));
        let weight = graph.constant(check::random([32, 48], 1));
        let y = graph.dense(x, weight).unwrap();
        graph.output("y", y);
        graph
    }

    #[test]
    fn what_was_tuned_is_known_the_next_time() {
        let Some(shared) = check::software_gpu() else { return };
        let folder = tempfile::tempdir().unwrap();
        let tune = |tuning, known: Choices| {
            let choice = DeviceChoice::Named(shared.info().name.clone());
            let gpu = Gpu::open_with(&choice, Some(folder.path().into())).unwrap().unwrap();
            let mut executor = GpuExecutor::new(gpu).tuned(tuning, known);
            let tuned = executor.tune(&product(), &Variables::new(), PlanOptions::default()).unwrap();
            let Target::Gpu(_, choices) = executor.target() else { panic!("a GPU") };
            (tuned, choices)
        };
        let (off, none) = tune(Tuning::Off, Choices::default());
        assert_eq!((off, none.len()), (Tuned::default(), 0));
        let (quick, chosen) = tune(Tuning::Quick, Choices::default());
        assert_eq!((quick.calls, quick.timed, chosen.len()), (1, 1, 1));
        let (again, recalled) = tune(Tuning::Quick, Choices::default());
        assert_eq!((again.timed, &recalled), (0, &chosen));
        let (full, _) = tune(Tuning::Full, Choices::default());
        assert_eq!(full.timed, 1, "a quick choice is not good enough for a full tuning");

        let (call, kernel) = chosen.iter().next().unwrap();
        let mut known = Choices::default();
        known.set(call, "another");
        let (given, kept) = tune(Tuning::Quick, known.clone());
        assert_eq!((given.timed, kept), (0, known), "what is given is not questioned instead of {kernel}");
    }

    #[test]
    fn a_plan_takes_the_kernel_that_was_chosen() {
        let Some(gpu) = check::software_gpu() else { return };
        let kernel = |choices: &Choices| {
            let target = Target::Gpu(gpu.limits().clone(), choices.clone());
            let plan = Plan::new(&product(), &target, PlanOptions::default()).unwrap();
            let call = calls(&plan, &gpu).remove(0);
            let Work::Run { kernel: Some(kernel), .. } = &plan.steps[0].work else { panic!("a kernel") };
            (kernel.name.clone(), call)
        };
        let (first, call) = kernel(&Choices::default());
        assert_eq!(first, call.kernels[0]);
        let mut choices = Choices::default();
        choices.set(&call.name, call.kernels.last().unwrap());
        assert_eq!(kernel(&choices).0, *call.kernels.last().unwrap());
        choices.set(&call.name, "a kernel of another version");
        assert_eq!(kernel(&choices).0, first);
    }
}
