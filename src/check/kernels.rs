//! GPU kernels against the CPU's, in double precision: what a device computes right and wrong.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rayon::prelude::*;
use serde::Serialize;

use super::Problem;
use crate::{
    cpu::CpuExecutor,
    gpu::{self, Checks, Gpu},
    graph::{DynOp, Example, Graph, GraphError, Value},
    kernel::{
        Signature,
        gpu::{Candidate, Limits, Source},
    },
    plan::{Buffer, BufferKind, Executor, Location, MemoryUse, Plan, PlanOptions, Step, Target, Work},
    tensor::{DType, Tensor, TensorType},
};

/// Roundings that a kernel may make besides those of its sums: functions of WGSL are exact to a few units in the last
/// place (WGSL, "Accuracy of concrete floating point expressions").
const ROUNDINGS: f64 = 8.0;

/// What rounding a result of 16-bit floats, the GPU's and the CPU's, changes it by, relative to itself: twice the unit
/// roundoff.
const HALF_ROUNDING: f64 = 1.0 / 1024.0;

/// What a rounding of each input may be magnified to, relative to what it does to the exact result.
const MAGNIFICATION: f64 = 8.0;

/// What was found of the kernels of some examples.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KernelReport {
    /// For each shader, by the name of its file below `shaders/`, what was found.
    pub shaders: BTreeMap<String, ShaderReport>,
    /// Examples that could not be computed at all, each with the reason.
    pub broken: Vec<String>,
    /// Operations that were not checked with 16-bit floats, which the device does not have.
    pub skipped: BTreeSet<String>,
}

/// What was found of one shader.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShaderReport {
    /// Results that were compared.
    pub cases: usize,
    /// Ways in which the shader was specialised among them.
    pub specialisations: usize,
    /// The largest `‖gpu − exact‖ / ‖exact‖`.
    pub worst_error: f64,
    /// The largest error as a share of what rounding accounts for; above 1 it is wrong.
    pub worst_share: f64,
    /// What is wrong, a line a case; empty where nothing is.
    pub failures: Vec<String>,
    #[serde(skip)]
    seen: HashSet<u64>,
}

impl KernelReport {
    /// Whether every result was right.
    pub fn is_right(&self) -> bool {
        self.broken.is_empty() && self.shaders.values().all(|shader| shader.failures.is_empty())
    }

    /// The shaders that gave wrong results. A shader that gives right results elsewhere is not accused where it ran
    /// beside one that does not.
    pub fn wrong(&self) -> Vec<&str> {
        let failing = || self.shaders.iter().filter(|(_, shader)| !shader.failures.is_empty());
        let never_right = |shader: &ShaderReport| shader.cases == shader.failures.len();
        let any = failing().any(|(_, shader)| never_right(shader));
        failing().filter(|(_, shader)| !any || never_right(shader)).map(|(name, _)| name.as_str()).collect()
    }

    /// Takes over what `other` found.
    pub fn merge(&mut self, other: KernelReport) {
        self.broken.extend(other.broken);
        self.skipped.extend(other.skipped);
        for (name, found) in other.shaders {
            let shader = self.shaders.entry(name).or_default();
            shader.cases += found.cases;
            shader.worst_error = shader.worst_error.max(found.worst_error);
            shader.worst_share = shader.worst_share.max(found.worst_share);
            shader.failures.extend(found.failures);
            shader.seen.extend(found.seen);
            shader.specialisations = shader.seen.len();
        }
    }

    /// Notes what a candidate's result came to, for each of its shaders.
    fn add(&mut self, candidate: &Candidate, found: &Result<Deviation, String>) {
        let mut noted = HashSet::new();
        for pass in &candidate.passes {
            let name = match &pass.shader.source {
                Source::File(path) => path,
                Source::Text(_) => "text",
            };
            let shader = self.shaders.entry(name.to_string()).or_default();
            shader.seen.insert(hash(&pass.shader));
            shader.specialisations = shader.seen.len();
            if !noted.insert(name) {
                continue;
            }
            shader.cases += 1;
            match found {
                Ok(deviation) => {
                    shader.worst_error = shader.worst_error.max(deviation.error);
                    shader.worst_share = shader.worst_share.max(deviation.error / deviation.bound);
                }
                Err(failure) => shader.failures.push(failure.clone()),
            }
        }
    }
}

fn hash(value: &impl std::hash::Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// How far a result is off, and how far rounding may bring it.
#[derive(Clone, Copy, Debug)]
struct Deviation {
    error: f64,
    bound: f64,
}

/// Compares, on `gpus`, which are devices of one adapter, every GPU kernel that the operations of `examples` and of their
/// gradients declare with the operation's CPU kernel in double precision: each candidate for each signature, fused and not, with subgroup operations and without,
/// as for hardware and as for a GPU in software, on outputs and scratch memory that start as NaN, compiled with each of
/// `checks`. `done` is called after each example, from any thread.
///
/// A result may be off by what rounding accounts for: `(8 + √n) ε ‖exact‖` for sums of `n` terms, and where the exact
/// result itself depends on the last bits of the inputs, as differences of nearly equal numbers do, by eight times what
/// it changes by when each input is rounded another way. A result of 16-bit floats is rounded to these besides, which adds
/// 2⁻¹⁰ of it.
pub fn check_kernels(
    gpus: &[Arc<Gpu>],
    examples: &[Example],
    checks: &[Checks],
    done: impl Fn() + Sync,
) -> KernelReport {
    let report = Mutex::new(KernelReport::default());
    // One at a time: some take a hundred times as long to compile as others.
    examples.par_iter().with_max_len(1).for_each(|example| {
        let mut found = KernelReport::default();
        let gpu = &gpus[rayon::current_thread_index().unwrap_or(0) % gpus.len()];
        check_example(gpu, example, checks, &mut found);
        report.lock().unwrap_or_else(PoisonError::into_inner).merge(found);
        done();
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The shaders of all kernels that the operations of `example`, and of its gradient, declare for devices of these
/// `limits`, fused and not.
///
/// # Errors
/// If the graph cannot be built.
pub fn kernels_of(example: &Example, limits: &[Limits]) -> Result<Vec<Candidate>, GraphError> {
    let mut found = Vec::new();
    for problem in problems(example)? {
        for fuse in [false, true] {
            let options = PlanOptions { fuse, share: false, ..PlanOptions::default() };
            let Ok(plan) = Plan::new(&problem.graph, &Target::Cpu, options) else { continue };
            for step in &plan.steps {
                if let Work::Run { op, signature, .. } = &step.work {
                    found.extend(limits.iter().flat_map(|limits| op.kernels(signature, limits)));
                }
            }
        }
    }
    Ok(found)
}

/// The value of an example, and where it is differentiable its gradients.
fn problems(example: &Example) -> Result<Vec<Problem>, GraphError> {
    let build = |graph: &mut Graph, values: &[Value]| example.build(graph, values);
    let mut forward = Problem::try_new(&example.inputs, build)?;
    forward.graph.output("y", forward.y);
    let mut problems = vec![forward];
    let mut backward = Problem::try_new(&example.inputs, build)?;
    let wrt = backward.differentiable_inputs();
    if !wrt.is_empty() {
        let dy = super::random(backward.graph.shape(backward.y).clone(), 977);
        for (at, grad) in backward.differentiate(dy, &wrt).into_iter().enumerate() {
            backward.graph.output(format!("grad{at}"), grad);
        }
        problems.push(backward);
    }
    Ok(problems)
}

fn check_example(gpu: &Gpu, example: &Example, checks: &[Checks], report: &mut KernelReport) {
    let problems = match problems(example) {
        Ok(problems) => problems,
        Err(error) => return report.broken.push(format!("{example:?}: {error}")),
    };
    let mut seen = HashSet::new();
    for problem in &problems {
        for fuse in [false, true] {
            let options = PlanOptions { fuse, share: false, ..PlanOptions::default() };
            let (mut cpu, program) = problem.load::<f32>(options);
            if let Err(error) = cpu.run(program, &[]) {
                return report.broken.push(format!("{example:?}: {error}"));
            }
            let steps: Vec<Step> = cpu.plan(program).steps.clone();
            for step in &steps {
                let Work::Run { op, signature, .. } = &step.work else { continue };
                if !seen.insert(format!("{op:?} {signature:?}")) {
                    continue;
                }
                let inputs = step.inputs.iter().zip(&signature.inputs);
                let inputs: Vec<Tensor> = inputs.map(|(place, ty)| cpu.peek(program, *place, ty)).collect();
                Call { op, signature, inputs }.check(gpu, checks, report);
            }
        }
    }
}

/// One call of an operation.
struct Call<'a> {
    op: &'a Arc<dyn DynOp>,
    signature: &'a Signature,
    inputs: Vec<Tensor>,
}

/// A result of the CPU kernel in double precision.
enum Exact {
    Floats(Vec<f64>),
    Whole(Tensor),
}

impl Call<'_> {
    fn check(&self, gpu: &Gpu, checks: &[Checks], report: &mut KernelReport) {
        let candidates = self.candidates(gpu.limits());
        if candidates.is_empty() && !gpu.limits().f16 {
            let with_f16 = Limits { f16: true, ..gpu.limits().clone() };
            if !self.candidates(&with_f16).is_empty() {
                report.skipped.insert(self.op.name().to_string());
                return;
            }
        }
        if candidates.is_empty() {
            return report.broken.push(format!("{} has no kernel for {:?}", self.op.name(), self.signature));
        }
        let exact = self.exact(&self.inputs);
        // What a rounding of the inputs does is computed only where the roundings of the sums do not suffice.
        let mut sensitivity = None;
        for candidate in &candidates {
            for checks in checks {
                let found = self.compare(gpu, candidate, *checks, &exact, &mut sensitivity);
                report.add(
                    candidate,
                    &found.map_err(|error| {
                        let types: Vec<String> = self.signature.inputs.iter().map(ToString::to_string).collect();
                        format!("{}({}), kernel {}: {error}", self.op.name(), types.join(", "), candidate.name)
                    }),
                );
            }
        }
    }

    /// What a planner could choose on this device, on one without subgroup operations, and were it hardware or software.
    fn candidates(&self, limits: &Limits) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for software in [limits.software, !limits.software] {
            for subgroup in [limits.subgroup, None] {
                for candidate in self.op.kernels(self.signature, &Limits { software, subgroup, ..limits.clone() }) {
                    if !candidates.contains(&candidate) {
                        candidates.push(candidate);
                    }
                }
            }
        }
        candidates
    }

    fn compare(
        &self,
        gpu: &Gpu,
        candidate: &Candidate,
        checks: Checks,
        exact: &[Exact],
        sensitivity: &mut Option<Vec<f64>>,
    ) -> Result<Deviation, String> {
        let outputs = gpu::run_candidate(gpu, candidate, self.signature, &self.inputs, self.op.in_place(), checks)
            .map_err(|error| error.to_string())?;
        let mut worst = Deviation { error: 0.0, bound: 1.0 };
        for (at, (output, exact)) in outputs.iter().zip(exact).enumerate() {
            let deviation = match (output.to_f32(), exact) {
                (Some(got), Exact::Floats(want)) => {
                    let error = relative_error(&got, want).map_err(|error| format!("output {at}: {error}"))?;
                    let mut bound = (ROUNDINGS + self.terms(at).sqrt()) * f64::from(f32::EPSILON);
                    if output.ty().dtype == DType::F16 {
                        bound += HALF_ROUNDING;
                    }
                    if error > bound {
                        bound += MAGNIFICATION * sensitivity.get_or_insert_with(|| self.sensitivity())[at];
                    }
                    Deviation { error, bound }
                }
                (_, Exact::Whole(want)) if output == want => continue,
                _ => return Err(format!("output {at} differs from the CPU's")),
            };
            if deviation.error > deviation.bound {
                return Err(format!(
                    "output {at} is off by {:.2e}, and rounding accounts for {:.2e}",
                    deviation.error, deviation.bound
                ));
            }
            if deviation.error / deviation.bound > worst.error / worst.bound {
                worst = deviation;
            }
        }
        Ok(worst)
    }

    /// Terms that are added up for each element of output `at`, at most.
    fn terms(&self, at: usize) -> f64 {
        self.op.flop(self.signature) as f64 / self.signature.outputs[at].elements().max(1) as f64
    }

    /// Relative change of each output when the inputs are rounded another way.
    fn sensitivity(&self) -> Vec<f64> {
        let exact = self.exact(&self.inputs);
        let mut worst = vec![0.0f64; exact.len()];
        for seed in 0..3 {
            let inputs: Vec<Tensor> = self.inputs.iter().map(|tensor| rounded_otherwise(tensor, seed)).collect();
            for ((worst, exact), moved) in worst.iter_mut().zip(&exact).zip(self.exact(&inputs)) {
                if let (Exact::Floats(exact), Exact::Floats(moved)) = (exact, moved) {
                    let moved: Vec<f32> = moved.iter().map(|x| *x as f32).collect();
                    *worst = worst.max(relative_error(&moved, exact).unwrap_or(0.0));
                }
            }
        }
        worst
    }

    /// What the CPU kernel computes in double precision, by a plan of this call alone: the planner may have given it
    /// outputs of other shapes than its inputs alone imply.
    fn exact(&self, inputs: &[Tensor]) -> Vec<Exact> {
        let mut buffers = Vec::new();
        let mut add = |ty: &TensorType, kind: BufferKind| {
            let elements = ty.elements();
            buffers.push(Buffer { dtype: ty.dtype, elements, kind });
            Location { buffer: buffers.len() - 1, offset: 0, elements }
        };
        let Signature { inputs: input_types, outputs: output_types } = self.signature;
        let constants = inputs.iter().zip(input_types);
        let given: Vec<Location> =
            constants.map(|(tensor, ty)| add(ty, BufferKind::Constant(Arc::new(tensor.clone())))).collect();
        let results: Vec<Location> = output_types.iter().map(|ty| add(ty, BufferKind::Arena)).collect();
        let scratch = self.op.cpu_scratch(self.signature);
        let scratch = (scratch > 0).then(|| add(&TensorType::f32([scratch]), BufferKind::Arena));

        let step = |work, inputs: Vec<Location>, outputs: Vec<Location>, scratch: Option<Location>| Step {
            layer: String::new(),
            inputs,
            outputs,
            scratch: scratch.into_iter().collect(),
            work,
            epilogue: String::new(),
        };
        let in_place = self.op.in_place().iter();
        let mut steps: Vec<Step> = in_place
            .map(|(input, output)| step(Work::Copy, vec![given[*input]], vec![results[*output]], None))
            .collect();
        let run = Work::Run { op: self.op.clone(), signature: self.signature.clone(), kernel: None };
        steps.push(step(run, given, results.clone(), scratch));

        let mut cpu = CpuExecutor::<f64>::default();
        let plan = Plan {
            buffers,
            steps,
            prepared: 0,
            changes_variables: false,
            outputs: Vec::new(),
            memory: MemoryUse::default(),
        };
        let program = cpu.load(plan).expect("a plan in memory");
        cpu.run(program, &[]).expect("a run without feeds");
        let exact = |(place, ty): (&Location, &TensorType)| match ty.dtype.is_float() {
            true => Exact::Floats(cpu.peek_float(program, *place)),
            false => Exact::Whole(cpu.peek(program, *place, ty)),
        };
        results.iter().zip(output_types).map(exact).collect()
    }
}

/// `‖got − want‖ / ‖want‖` over the finite elements, or `‖got − want‖` where these are all zero. Elements that are NaN or
/// infinite must be so in both.
fn relative_error(got: &[f32], want: &[f64]) -> Result<f64, String> {
    assert_eq!(got.len(), want.len(), "lengths of the values compared");
    let (mut difference, mut norm) = (0.0, 0.0);
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let got = f64::from(*got);
        if want.is_finite() && (got - want).is_finite() {
            difference += (got - want).powi(2);
            norm += want.powi(2);
        } else if !(got == *want || (got.is_nan() && want.is_nan())) {
            return Err(format!("element {at} is {got} and should be {want}"));
        }
    }
    Ok(if norm == 0.0 { difference.sqrt() } else { (difference / norm).sqrt() })
}

/// Each float moved to a neighbour, up or down by its bits and `seed`: equal numbers stay equal and zeros zero.
fn rounded_otherwise(tensor: &Tensor, seed: u64) -> Tensor {
    let Some(values) = tensor.as_f32() else { return tensor.clone() };
    let neighbour = |x: &f32| match *x {
        x if x == 0.0 || !x.is_finite() => x,
        x if hash(&(x.to_bits(), seed)) % 2 == 0 => x.next_up(),
        x => x.next_down(),
    };
    Tensor::f32(tensor.shape(), values.iter().map(neighbour).collect())
}

/// Compares the kernels of examples on the GPU that tests run on, as [`check_kernels`] does, compiled as they run in use: without
/// naga's run-time checks.
///
/// Where the environment variable `GABOR_TEST_GPU` is `required`, a missing GPU is a failure; else nothing is compared,
/// with a message.
///
/// # Panics
/// If a kernel gives another result than the CPU, fails to compile, or a graph cannot be built.
pub fn gpu_matches_cpu(examples: &[Example]) {
    let Some(_) = software_gpu() else { return };
    let report = check_kernels(gpu::for_tests(), examples, &[Checks::Off], || ());
    if !report.skipped.is_empty() {
        let skipped: Vec<&str> = report.skipped.iter().map(String::as_str).collect();
        eprintln!("no 16-bit floats on this GPU: {} were not compared with them", skipped.join(", "));
    }
    let failures = report.shaders.values().flat_map(|shader| &shader.failures).chain(&report.broken);
    let failures: Vec<&str> = failures.map(String::as_str).collect();
    assert!(report.is_right(), "wrong: {}\n{}", report.wrong().join(", "), failures.join("\n"));
}

/// The GPU that shaders are compared on: in software, or the one that the environment variable `GABOR_TEST_DEVICE` names
/// a part of the name of. `None`, with a message, where there is none and none is required.
///
/// # Panics
/// If there is none and `GABOR_TEST_GPU` is `required`.
pub fn software_gpu() -> Option<Arc<Gpu>> {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Each device compiles with a thread of its own.
        static OWN: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    let gpus = gpu::for_tests();
    let gpu = gpus.get(OWN.with(|own| own % gpus.len().max(1))).cloned();
    if gpu.is_none() {
        let required = std::env::var("GABOR_TEST_GPU").is_ok_and(|v| v == "required");
        assert!(!required, "GABOR_TEST_GPU is required and there is no software GPU: install lavapipe");
        eprintln!("no software GPU: shaders were not compared");
    }
    gpu
}

impl Problem {
    /// Numbers of the float inputs that the result has a gradient with respect to.
    pub(super) fn differentiable_inputs(&self) -> Vec<usize> {
        let has_gradient = |at: &usize| {
            let mut graph = self.graph.clone();
            let elements = graph.shape(self.y).elements();
            if !graph.ty(self.y).dtype.is_float() {
                return false;
            }
            let flat = graph.reshape(self.y, [elements]).expect("the same elements");
            let sum = graph.sum(flat, &[0]).expect("one axis");
            crate::autodiff::gradients(&mut graph, sum, &[self.values[*at]]).is_ok()
        };
        self.float_inputs().into_iter().filter(has_gradient).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::{Attributes, Op, ShapeError},
        kernel::{
            cpu,
            gpu::{Binding, Pass, Shader, linear_workgroups},
        },
        tensor::Real,
    };

    /// The input plus a number, which the shader may get wrong.
    #[derive(Debug, Serialize)]
    struct Plus {
        number: f32,
    }

    impl Op for Plus {
        fn name(&self) -> &str {
            "plus"
        }

        fn attributes(&self) -> Attributes {
            Attributes::of("plus", self)
        }

        fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
            Ok(vec![inputs[0].clone()])
        }

        fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
            let input = args.inputs.float(0);
            args.outputs.float(0).iter_mut().zip(input).for_each(|(y, x)| *y = *x + T::from_f32(1.0));
        }

        fn gpu(&self, signature: &Signature, _: &Limits) -> Vec<Candidate> {
            let text = "import package::constants::{PLUS};
                @group(0) @binding(0) var<storage, read> x: array<f32>;
                @group(0) @binding(1) var<storage, read_write> y: array<f32>;
                @compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
                    if id.x < arrayLength(&x) { y[id.x] = x[id.x] + PLUS; }
                }";
            let shader = Shader::text(text).constant("PLUS", self.number);
            let bindings = vec![Binding::Input(0), Binding::Output(0)];
            let workgroups = linear_workgroups(signature.outputs[0].elements());
            vec![Candidate::single("plus", Pass { shader, bindings, workgroups })]
        }
    }

    fn report(number: f32) -> Option<KernelReport> {
        let example = Example::new([super::super::random([100], 1)], move |graph, v| graph.apply1(Plus { number }, v));
        software_gpu()?;
        Some(check_kernels(gpu::for_tests(), &[example], &[Checks::Off], || ()))
    }

    #[test]
    fn a_wrong_kernel_is_named_and_a_right_one_is_not() {
        let Some(right) = report(1.0) else { return };
        assert!(right.is_right() && right.wrong().is_empty(), "{right:?}");
        let wrong = report(1.0 + 1e-5).expect("the GPU of before");
        assert_eq!(wrong.wrong(), ["text"], "{wrong:?}");
        assert!(wrong.shaders["text"].failures[0].starts_with("plus(f32[100]), kernel plus: output 0 is off by"));
    }

    #[test]
    fn errors_are_relative_to_what_is_finite() {
        let (nan, infinite) = (f64::NAN, f64::INFINITY);
        assert_eq!(relative_error(&[1.0, 3.0], &[1.0, 3.0]), Ok(0.0));
        assert_eq!(relative_error(&[3.0, f32::NAN, f32::INFINITY], &[4.0, nan, infinite]), Ok(0.25));
        assert!(relative_error(&[1.0], &[nan]).is_err());
        assert!(relative_error(&[f32::NAN], &[1.0]).is_err());
        assert!(relative_error(&[f32::INFINITY], &[-infinite]).is_err());
    }
}
