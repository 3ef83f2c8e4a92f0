use std::{fs::OpenOptions, io::Write};

use super::{Problem, random, relative_error};
use crate::{
    gpu::{self, Checks, Gpu},
    graph::{DynOp, Graph, GraphError, Value},
    kernel::{
        Signature,
        gpu::{Candidate, Limits, Source},
    },
    plan::{Executor, PlanOptions, Step, Work},
    tensor::{DType, Tensor, TensorData},
};

/// Largest `‖gpu − cpu‖ / ‖cpu‖` of a kernel's output: rounding in sums of up to some thousand terms.
const TOLERANCE: f64 = 2e-5;

/// Compares every GPU kernel of every operation in `build` and in its gradient with the CPU kernel of the operation,
/// on a software GPU: each candidate for each signature, fused and not, on outputs that start as NaN, with naga's
/// run-time checks and without them.
///
/// Where the environment variable `GABOR_TEST_GPU` is `required` a missing software GPU is a failure; else the check is
/// left out with a message. Each shader that was compared is appended to the file that `GABOR_SHADER_LOG` names.
///
/// # Panics
/// If a kernel differs from the CPU, fails to compile, or the graph cannot be built.
pub fn gpu_matches_cpu(inputs: &[Tensor], build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>) {
    let Some(gpu) = software_gpu() else { return };
    let mut problem = Problem::new(inputs, &build);
    problem.graph.output("y", problem.y);
    compare(&gpu, &problem);

    // Differentiable or not, the forward kernels were compared; the gradient's follow where there is one.
    let mut problem = Problem::new(inputs, &build);
    let wrt = problem.differentiable_inputs();
    if !wrt.is_empty() {
        let dy = random(problem.graph.shape(problem.y).clone(), 977);
        for (at, grad) in problem.differentiate(dy, &wrt).into_iter().enumerate() {
            problem.graph.output(format!("grad{at}"), grad);
        }
        compare(&gpu, &problem);
    }
}

/// The software GPU that shaders are compared on; `None`, with a message, where there is none and none is required.
///
/// # Panics
/// If there is none and `GABOR_TEST_GPU` is `required`.
pub fn software_gpu() -> Option<std::sync::Arc<Gpu>> {
    let gpu = gpu::software();
    if gpu.is_none() {
        let required = std::env::var("GABOR_TEST_GPU").is_ok_and(|v| v == "required");
        assert!(!required, "GABOR_TEST_GPU is required and there is no software GPU: install lavapipe");
        eprintln!("no software GPU: shaders were not compared");
    }
    gpu
}

fn compare(gpu: &Gpu, problem: &Problem) {
    for fuse in [false, true] {
        let (mut cpu, program) = problem.load::<f32>(PlanOptions { fuse, share: false, ..PlanOptions::default() });
        cpu.run(program, &[]).expect("a run without feeds");
        let steps: Vec<Step> = cpu.plan(program).steps.clone();
        for step in &steps {
            if let Work::Run { op, signature, .. } = &step.work {
                let peek = |at: &[_], types: &[_]| -> Vec<Tensor> {
                    at.iter().zip(types).map(|(location, ty)| cpu.peek(program, *location, ty)).collect()
                };
                let inputs = peek(&step.inputs, &signature.inputs);
                let expected = peek(&step.outputs, &signature.outputs);
                compare_candidates(gpu, op.as_ref(), signature, &inputs, &expected);
            }
        }
    }
}

fn compare_candidates(gpu: &Gpu, op: &dyn DynOp, signature: &Signature, inputs: &[Tensor], expected: &[Tensor]) {
    // Also what a device without lavapipe's preferences, or without subgroup operations, would be given.
    let mut candidates = Vec::new();
    for software in [gpu.limits().software, !gpu.limits().software] {
        for subgroup in [gpu.limits().subgroup, None] {
            for candidate in op.gpu(signature, &Limits { software, subgroup, ..gpu.limits().clone() }) {
                if !candidates.contains(&candidate) {
                    candidates.push(candidate);
                }
            }
        }
    }
    assert!(!candidates.is_empty(), "{} has no kernel for {signature:?}", op.name());
    for candidate in &candidates {
        for checks in [Checks::On, Checks::Off] {
            let outputs = gpu::run_candidate(gpu, candidate, signature, inputs, op.in_place(), checks)
                .unwrap_or_else(|error| panic!("{} ({}): {error}", op.name(), candidate.name));
            for (at, (output, expected)) in outputs.iter().zip(expected).enumerate() {
                let what = || format!("{} ({}), output {at} of {signature:?}", op.name(), candidate.name);
                match (output.data(), expected.data()) {
                    (TensorData::F32(got), TensorData::F32(want)) => {
                        let error = relative_error(got, want);
                        assert!(error <= TOLERANCE, "{}: off by {error:.2e} from the CPU", what());
                    }
                    (got, want) => assert!(got == want, "{}: differs from the CPU", what()),
                }
            }
        }
        log(candidate);
    }
}

fn log(candidate: &Candidate) {
    let Ok(path) = std::env::var("GABOR_SHADER_LOG") else { return };
    let mut text = String::new();
    for pass in &candidate.passes {
        let file = match &pass.shader.source {
            Source::File(path) => path,
            Source::Text(_) => "text",
        };
        let specialisation = format!("{:?}{:?}{:?}", pass.shader.constants, pass.shader.features, pass.shader.fused);
        text.push_str(&format!("{file}\t{}\n", specialisation.replace('\n', " ")));
    }
    let appended =
        OpenOptions::new().create(true).append(true).open(&path).and_then(|mut f| f.write_all(text.as_bytes()));
    appended.unwrap_or_else(|error| panic!("GABOR_SHADER_LOG {path}: {error}"));
}

impl Problem {
    /// Numbers of the float inputs that the result has a gradient with respect to.
    fn differentiable_inputs(&self) -> Vec<usize> {
        let has_gradient = |at: &usize| {
            let mut graph = self.graph.clone();
            let elements = graph.shape(self.y).elements();
            if graph.ty(self.y).dtype != DType::F32 {
                return false;
            }
            let flat = graph.reshape(self.y, [elements]).expect("the same elements");
            let sum = graph.sum(flat, &[0]).expect("one axis");
            crate::autodiff::gradients(&mut graph, sum, &[self.values[*at]]).is_ok()
        };
        self.float_inputs().into_iter().filter(has_gradient).collect()
    }
}
