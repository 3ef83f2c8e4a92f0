//! Producer duplication: every reader of a cheap pointwise value computes it inside of itself, if then fewer elements are
//! moved: the value is not stored any more. That a mask is applied to a gradient is computed so where the gradient is
//! reduced and where it is used.

use std::collections::HashMap;

use super::producer::{Fused, Producer};
use crate::{
    graph::{Reader, Value},
    kernel::Expr,
    plan::ir::{Ir, Uses},
};

pub(super) fn run(ir: &mut Ir) {
    let mut uses = Uses::count(ir);
    for at in 0..ir.nodes.len() {
        if uses.is_live(at) {
            duplicate(ir, &mut uses, at);
        }
    }
}

/// Lets every reader of node `at` compute its value, if that saves something.
fn duplicate(ir: &mut Ir, uses: &mut Uses, at: usize) {
    let Some(producer) = Producer::of(ir, at).filter(Producer::is_cheap) else { return };
    let value = producer.value;
    let readers = uses.readers(ir, value);
    let readings = readers.iter().flat_map(|r| &ir.nodes[*r].inputs).filter(|v| **v == value).count();
    if readings != uses.of(value) {
        return;
    }
    // As the epilogue of what it reads, it would save writing and reading that.
    let is_epilogue = producer.inputs.iter().any(|input| {
        let op = ir.nodes[input.node].op();
        uses.of(*input) == 1 && op.is_some_and(|op| op.absorb(Reader::Pointwise(&Expr::Input(0))).is_some())
    });
    let stored = ir.shape(value).elements();
    let least = if is_epilogue { 2 * stored } else { 0 };
    let last_reads = last_reads(ir, uses, at);
    let options = [producer.deepened(ir), producer].into_iter().filter_map(|producer| {
        let fused: Vec<Fused> =
            readers.iter().map(|reader| producer.inside(ir, *reader)).collect::<Option<Vec<_>>>()?;
        let (mut before, mut after) = (stored + elements(ir, &ir.nodes[at].inputs), 0);
        let mut prolonged = Vec::new();
        for (reader, fused) in readers.iter().zip(&fused) {
            before += elements(ir, &ir.nodes[*reader].inputs);
            after += elements(ir, &fused.inputs);
            let is_over = |value: &&Value| last_reads.get(&ir.viewed(**value)).is_none_or(|last| last < reader);
            prolonged.extend(fused.inputs.iter().filter(is_over).map(|value| ir.viewed(*value)));
        }
        prolonged.retain(|value| ir.nodes[value.node].op().is_some());
        // What is kept longer must not outweigh what is not stored any more; vectors do not count.
        (before > after + least && elements(ir, &prolonged) < 2 * stored).then(|| (before - after, fused))
    });
    if let Some((_, fused)) = options.max_by_key(|(saved, _)| *saved) {
        for (reader, Fused { op, inputs }) in readers.into_iter().zip(fused) {
            uses.rewrite(ir, reader, op, inputs);
        }
    }
}

/// Elements of some values, each counted once.
fn elements(ir: &Ir, values: &[Value]) -> usize {
    let distinct = values.iter().enumerate().filter(|(at, value)| !values[..*at].contains(value));
    distinct.map(|(_, value)| ir.shape(*value).elements()).sum()
}

/// The last node that reads each value or a view of it, node `but` aside.
fn last_reads(ir: &Ir, uses: &Uses, but: usize) -> HashMap<Value, usize> {
    let readers = (0..ir.nodes.len()).filter(|at| *at != but && uses.is_live(*at));
    readers.flat_map(|at| ir.nodes[at].inputs.iter().map(move |input| (ir.viewed(*input), at))).collect()
}

#[cfg(test)]
mod tests {
    use crate::{
        autodiff,
        graph::{Graph, GraphError, Value},
        ops::{Argmax, Conv2dOptions, Padding, WindowOptions},
        plan::{Plan, PlanOptions, Step, Target},
        tensor::TensorType,
    };

    fn steps(graph: &Graph) -> Vec<Step> {
        Plan::new(graph, &Target::Cpu, PlanOptions::default()).unwrap().steps
    }

    /// The steps of a block in training that gets images of [`IMAGES`] from a convolution, and what the convolution got,
    /// and is read by another one: name, and how often the elements of a value of that shape are moved.
    fn block(build: impl Fn(&mut Graph, Value, Value) -> Result<Value, GraphError>) -> Vec<(String, u64)> {
        let mut graph = Graph::new();
        let mut weights = Vec::new();
        let mut conv = |graph: &mut Graph, x: Value| {
            let variable = graph.feed(format!("weight{}", weights.len()), TensorType::f32([1, 1, CHANNELS, CHANNELS]));
            weights.push(variable);
            graph.conv2d(x, variable, &Conv2dOptions::default()).unwrap()
        };
        let x = graph.feed("x", TensorType::f32(IMAGES));
        let shortcut = conv(&mut graph, x);
        let x = conv(&mut graph, shortcut);
        let y = graph.scoped("block", |graph| build(graph, x, shortcut)).unwrap();
        let y = conv(&mut graph, y);
        let loss = graph.mean(y, &[0, 1, 2, 3]).unwrap();
        let is_parameter =
            |at: &usize| matches!(&graph.nodes()[*at].source, crate::graph::Source::Feed(name) if name != "x");
        let wrt: Vec<Value> =
            (0..graph.nodes().len()).filter(is_parameter).map(|node| Value { node, output: 0 }).collect();
        for (at, gradient) in autodiff::gradients(&mut graph, loss, &wrt).unwrap().into_iter().enumerate() {
            graph.output(format!("gradient{at}"), gradient);
        }
        let passes = |step: &Step| step.bytes() / (4 * IMAGES.iter().product::<usize>() as u64);
        let in_block = |step: &&Step| step.layer == "block";
        steps(&graph).iter().filter(in_block).map(|step| (step.description(), passes(step))).collect()
    }

    const CHANNELS: usize = 8;
    const IMAGES: [usize; 4] = [4, 10, 10, CHANNELS];

    fn norm(graph: &mut Graph, x: Value) -> Result<Value, GraphError> {
        let channels = TensorType::f32([CHANNELS]);
        let at = graph.nodes().len();
        let (gamma, beta) =
            (graph.feed(format!("gamma{at}"), channels.clone()), graph.feed(format!("beta{at}"), channels));
        Ok(graph.batch_norm_train(x, gamma, beta, 1e-5)?.y)
    }

    #[track_caller]
    fn expect(steps: Vec<(String, u64)>, expected: &[(&str, u64)]) {
        let steps: Vec<(&str, u64)> = steps.iter().map(|(name, passes)| (name.as_str(), *passes)).collect();
        assert_eq!(steps, expected);
    }

    #[test]
    fn the_mask_of_an_activation_is_computed_where_its_gradient_is_read() {
        let steps = block(|graph, x, _| {
            let y = norm(graph, x)?;
            graph.relu(y)
        });
        let expected = [("batch_norm+relu", 2), ("relu_grad+batch_norm_sums", 2), ("relu_grad+batch_norm_grad", 3)];
        expect(steps, &expected);
    }

    #[test]
    fn the_gradient_of_a_residual_block_is_masked_once() {
        let steps = block(|graph, x, shortcut| {
            let y = norm(graph, x)?;
            let sum = graph.add(y, shortcut)?;
            graph.relu(sum)
        });
        let expected = [
            ("batch_norm+add+relu", 3),
            // It takes the mask in as its epilogue.
            ("conv2d_grad_input+relu_grad", 3),
            ("batch_norm_sums", 2),
            ("batch_norm_grad", 3),
        ];
        expect(steps, &expected);
    }

    #[test]
    fn two_norms_that_are_added_are_one_pass() {
        let steps = block(|graph, x, shortcut| {
            let (a, b) = (norm(graph, x)?, norm(graph, shortcut)?);
            let sum = graph.add(a, b)?;
            graph.relu(sum)
        });
        assert_eq!(steps[1], ("batch_norm+batch_norm+add+relu".to_string(), 3), "{steps:?}");
    }

    #[test]
    fn what_would_move_more_elements_is_stored() {
        let mut graph = Graph::new();
        let [a, b, c] = ["a", "b", "c"].map(|name| graph.feed(name, TensorType::f32(IMAGES)));
        let sum = graph.add(a, b).unwrap();
        let sum = graph.add(sum, c).unwrap();
        for slope in [0.1, 0.2, 0.3] {
            let y = graph.leaky_relu(sum, slope).unwrap();
            graph.output(format!("y{slope}"), y);
        }
        let names: Vec<String> = steps(&graph).iter().map(Step::description).collect();
        assert_eq!(names, ["add+add", "leaky_relu", "leaky_relu", "leaky_relu"]);
    }

    #[test]
    fn a_pooling_masks_its_gradient() {
        let options =
            WindowOptions { kernel: [2; 2], stride: [2; 2], dilation: [1; 2], padding: Padding::Valid, ceil: false };
        let steps = block(|graph, x, _| {
            let bias = graph.feed("bias", TensorType::f32([CHANNELS]));
            let y = graph.add(x, bias)?;
            let y = graph.relu(y)?;
            graph.max_pool2d(y, &options, Argmax::Kept)
        });
        let expected = [("conv2d+add+relu", 2), ("max_pool2d", 1), ("max_pool2d_grad+relu_grad", 2), ("sum", 1)];
        expect(steps, &expected);
    }
}
