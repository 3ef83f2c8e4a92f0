//! Checks of operations, for the tests, for `gabor check` and for operations from outside of this crate: gradients
//! against finite differences, each GPU kernel against the CPU kernel, and whole training steps on both.

mod gradients;
#[cfg(test)]
mod instruction_sets;
#[cfg(feature = "gpu")]
mod kernels;
#[cfg(test)]
mod reference;
#[cfg(feature = "gpu")]
mod training;

pub use gradients::{gradients, gradients_of, gradients_of_examples};
#[cfg(feature = "gpu")]
pub use kernels::{KernelReport, ShaderReport, check_kernels, gpu_matches_cpu, kernels_of, software_gpu};
#[cfg(feature = "gpu")]
pub use training::{Network, STEPS, TrainingReport, check_training, networks};

#[cfg(test)]
pub(crate) use reference::{Case, reference};

pub use crate::tensor::random;

use crate::{
    autodiff,
    cpu::{CpuExecutor, Precision},
    graph::{Graph, GraphError, Value, VariableId, Variables},
    plan::{Executor, Plan, PlanOptions, ProgramId, Target},
    tensor::{DType, Tensor, TensorType},
};

/// `‖a − b‖ / ‖b‖`; NaN where either holds one, and `‖a‖` where `b` is zero.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths of the values compared");
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let norm: f64 = b.iter().map(|b| square(f64::from(*b))).sum();
    if norm == 0.0 { difference.sqrt() } else { (difference / norm).sqrt() }
}

/// Computes `build` of `inputs` on the CPU.
///
/// # Panics
/// If the graph cannot be built.
pub fn evaluate(inputs: &[Tensor], build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>) -> Tensor {
    let mut problem = Problem::new(inputs, build);
    problem.graph.output("y", problem.y);
    let (mut cpu, program) = problem.load::<f32>(PlanOptions::default());
    cpu.run(program, &[]).expect("a run without feeds");
    cpu.collect(program, true).expect("a finished run").remove(0).remove(0).1
}

/// The gradients of `sum(build(inputs) * dy)` with respect to the inputs numbered `wrt`, on the CPU in single
/// precision.
///
/// # Panics
/// If the graph cannot be built.
pub fn gradients_for(
    inputs: &[Tensor],
    dy: &Tensor,
    wrt: &[usize],
    build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>,
) -> Vec<Tensor> {
    let mut problem = Problem::new(inputs, build);
    let grads = problem.differentiate(dy.clone(), wrt);
    for (at, grad) in grads.into_iter().enumerate() {
        problem.graph.output(format!("grad{at}"), grad);
    }
    let (mut cpu, program) = problem.load::<f32>(PlanOptions::default());
    cpu.run(program, &[]).expect("a run without feeds");
    cpu.collect(program, true).expect("a finished run").remove(0).into_iter().map(|(_, tensor)| tensor).collect()
}

/// A graph over inputs that are variables, so that single elements can be nudged.
struct Problem {
    graph: Graph,
    variables: Variables,
    inputs: Vec<(VariableId, Tensor)>,
    values: Vec<Value>,
    y: Value,
}

impl Problem {
    fn new(inputs: &[Tensor], build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>) -> Self {
        Self::try_new(inputs, build).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_new(
        inputs: &[Tensor],
        build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>,
    ) -> Result<Self, GraphError> {
        let mut graph = Graph::new();
        let mut variables = Variables::new();
        let mut ids = Vec::new();
        let mut values = Vec::new();
        for (at, tensor) in inputs.iter().enumerate() {
            let TensorType { dtype, shape } = tensor.ty();
            let id = variables.add(format!("input{at}"), dtype, shape.elements());
            values.push(graph.variable(id, 0, tensor.ty()));
            ids.push((id, tensor.clone()));
        }
        let y = build(&mut graph, &values)?;
        Ok(Self { graph, variables, inputs: ids, values, y })
    }

    /// Appends the gradients of `sum(y * dy)`.
    fn differentiate(&mut self, dy: Tensor, wrt: &[usize]) -> Vec<Value> {
        let wrt: Vec<Value> = wrt.iter().map(|at| self.values[*at]).collect();
        let loss = self.projection(dy);
        autodiff::gradients(&mut self.graph, loss, &wrt).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Appends `sum(y * dy)`.
    fn projection(&mut self, dy: Tensor) -> Value {
        let graph = &mut self.graph;
        let elements = graph.shape(self.y).elements();
        let dy = graph.constant(Tensor::f32([elements], dy.as_f32().expect("a gradient of floats").to_vec()));
        let y = graph.reshape(self.y, [elements]).expect("the same elements");
        let y = graph.cast(y, DType::F32).expect("floats");
        let product = graph.multiply(y, dy).expect("equal shapes");
        graph.sum(product, &[0]).expect("one axis")
    }

    fn load<T: Precision>(&self, options: PlanOptions) -> (CpuExecutor<T>, ProgramId) {
        let mut cpu = CpuExecutor::<T>::default();
        cpu.declare(&self.variables).expect("variables in memory");
        for (id, tensor) in &self.inputs {
            cpu.write(*id, 0, tensor).expect("a variable of this size");
        }
        let plan = Plan::new(&self.graph, &Target::Cpu, options).unwrap_or_else(|error| panic!("{error}"));
        let program = cpu.load(plan).expect("a plan in memory");
        (cpu, program)
    }

    /// Numbers of the inputs that hold floats.
    fn float_inputs(&self) -> Vec<usize> {
        (0..self.inputs.len()).filter(|at| self.inputs[*at].1.ty().dtype.is_float()).collect()
    }
}
