use super::{Problem, random};
use crate::{
    graph::{Example, Graph, GraphError, Value},
    plan::{Executor, PlanOptions},
    tensor::{DType, Tensor},
};

/// Elements of one input that are nudged: all of a small one, a sample spread over a large one.
const SAMPLES: usize = 48;

/// Compares the gradient of `build` with respect to every float input with central differences, in double precision:
/// ‖autodiff − difference‖ ≤ 1e-6 ‖difference‖ over the elements looked at. Inputs of other types are constants.
///
/// # Panics
/// If they differ or the graph cannot be built.
pub fn gradients(inputs: &[Tensor], build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>) {
    let wrt = Problem::new(inputs, &build).float_inputs();
    gradients_of(inputs, &wrt, build);
}

/// [`gradients`] of each example whose inputs are not 16-bit floats: the step that a difference takes is lost on these.
///
/// # Panics
/// As [`gradients`].
pub fn gradients_of_examples(examples: &[Example]) {
    let is_f16 = |tensor: &Tensor| tensor.ty().dtype == DType::F16;
    for example in examples.iter().filter(|example| !example.inputs.iter().any(is_f16)) {
        gradients(&example.inputs, |graph, values| example.build(graph, values));
    }
}

/// [`gradients`] with respect to the inputs numbered `wrt` only.
///
/// # Panics
/// If they differ or the graph cannot be built.
pub fn gradients_of(
    inputs: &[Tensor],
    wrt: &[usize],
    build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>,
) {
    let mut problem = Problem::new(inputs, build);
    let dy = random(problem.graph.shape(problem.y).clone(), 977);
    let loss = problem.projection(dy.clone());
    problem.graph.output("loss", loss);
    for (at, grad) in problem.differentiate(dy, wrt).into_iter().enumerate() {
        assert_eq!(problem.graph.shape(grad), problem.inputs[wrt[at]].1.shape(), "shape of the gradient");
        problem.graph.output(format!("grad{at}"), grad);
    }
    let (mut cpu, program) = problem.load::<f64>(PlanOptions { fuse: true, share: false, ..PlanOptions::default() });
    let places: Vec<_> = cpu.plan(program).outputs.iter().map(|(_, location, _)| *location).collect();
    cpu.run(program, &[]).expect("a run without feeds");
    let grads: Vec<Vec<f64>> = places[1..].iter().map(|place| cpu.peek_float(program, *place)).collect();

    for (grad, &input) in grads.iter().zip(wrt) {
        let (id, tensor) = &problem.inputs[input];
        let values = tensor.as_f32().expect("a float input");
        let stride = (values.len() / SAMPLES).max(1);
        let (mut error, mut norm) = (0.0, 0.0);
        for at in (0..values.len()).step_by(stride) {
            let h = 1e-5;
            let mut loss_at = |value: f64| {
                cpu.poke(*id, at, value);
                cpu.run(program, &[]).expect("a run without feeds");
                cpu.peek_float(program, places[0])[0]
            };
            let x = f64::from(values[at]);
            let numeric = (loss_at(x + h) - loss_at(x - h)) / (2.0 * h);
            cpu.poke(*id, at, x);
            error += (grad[at] - numeric).powi(2);
            norm += numeric.powi(2);
        }
        let relative = if norm == 0.0 { error.sqrt() } else { (error / norm).sqrt() };
        assert!(relative <= 1e-6, "gradient of input {input}: off by {relative:.2e} from central differences");
    }
}
