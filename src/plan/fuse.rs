//! Fusion: pointwise operations and reductions take in the pointwise operations that they read, where fewer elements are
//! moved for it; a convolution, matrix product or pooling takes in the pointwise operation that reads it, as its
//! epilogue.

use std::{collections::HashMap, sync::Arc};

use crate::{
    graph::{Node, Source, Value},
    kernel::{Expr, Reduction, gpu::MAX_BINDINGS},
    ops::{Pointwise, Reduce},
    tensor::Shape,
};

/// Operations of fused expressions at most: what occurs several times in one is written out as often.
const MAX_OPERATIONS: u64 = 64;

/// Operations that an element may cost where each of its readers computes it again.
const MAX_RECOMPUTED: u64 = 12;

/// Rewrites `nodes` in place. `uses` counts the readers of each value, results of the graph included; nodes that lose
/// their last reader stay in the list and are to be skipped. Returns for each node the names of the operations that its
/// epilogue computes, joined by `+`.
pub(super) fn fuse(nodes: &mut [Node], uses: &mut Uses) -> Vec<String> {
    for at in 0..nodes.len() {
        while uses.is_live(at) && take_in_producer(nodes, uses, at) {}
    }
    for at in 0..nodes.len() {
        if uses.is_live(at) {
            dissolve(nodes, uses, at);
        }
    }
    // Only then, so that a whole chain becomes the epilogue: an operation takes one.
    let mut epilogues = vec![String::new(); nodes.len()];
    for at in 0..nodes.len() {
        while uses.is_live(at) && become_epilogue(nodes, uses, &mut epilogues, at) {}
    }
    epilogues
}

/// Readers of each value.
pub(super) struct Uses {
    counts: Vec<Vec<usize>>,
}

impl Uses {
    /// Counts the readers among the nodes that `roots` depend on.
    pub fn count(nodes: &[Node], roots: impl IntoIterator<Item = Value>) -> Self {
        let mut counts: Vec<Vec<usize>> = nodes.iter().map(|n| vec![0; n.types.len()]).collect();
        for root in roots {
            counts[root.node][root.output] += 1;
        }
        for at in (0..nodes.len()).rev() {
            if counts[at].iter().any(|c| *c > 0) {
                for input in &nodes[at].inputs {
                    counts[input.node][input.output] += 1;
                }
            }
        }
        Self { counts }
    }

    /// Whether anything reads an output of node `at`.
    pub fn is_live(&self, at: usize) -> bool {
        self.counts[at].iter().any(|c| *c > 0)
    }

    fn of(&self, value: Value) -> usize {
        self.counts[value.node][value.output]
    }

    /// Replaces the inputs of node `at`.
    fn rewire(&mut self, nodes: &mut [Node], at: usize, inputs: Vec<Value>) {
        for input in &inputs {
            self.counts[input.node][input.output] += 1;
        }
        for input in std::mem::replace(&mut nodes[at].inputs, inputs) {
            self.release(nodes, input);
        }
    }

    fn release(&mut self, nodes: &[Node], value: Value) {
        self.counts[value.node][value.output] -= 1;
        if !self.is_live(value.node) {
            for input in nodes[value.node].inputs.clone() {
                self.release(nodes, input);
            }
        }
    }
}

/// Values that a fused operation reads, each once.
#[derive(Default)]
struct Inputs(Vec<Value>);

impl Inputs {
    fn number(&mut self, value: Value) -> usize {
        self.0.iter().position(|v| *v == value).unwrap_or_else(|| {
            self.0.push(value);
            self.0.len() - 1
        })
    }
}

/// A pointwise computation that readers of `value` may take in.
struct Producer {
    value: Value,
    name: String,
    expr: Expr,
    inputs: Vec<Value>,
}

/// What a node becomes that has taken a producer in.
struct Fused {
    source: Source,
    inputs: Vec<Value>,
}

impl Producer {
    /// What node `at` computes, where that is pointwise.
    fn of(nodes: &[Node], at: usize) -> Option<Self> {
        let Source::Op(op) = &nodes[at].source else { return None };
        let (name, inputs) = (op.name().to_string(), nodes[at].inputs.clone());
        Some(Self { value: Value { node: at, output: 0 }, name, expr: op.pointwise()?, inputs })
    }

    /// Whether it may be computed again in each reader.
    fn is_cheap(&self) -> bool {
        self.expr.operations() <= MAX_RECOMPUTED && !self.expr.is_transcendental()
    }

    /// The same computation with its inputs computed inside of it, where these are pointwise themselves, cheap, and of
    /// its shape.
    fn deepened(&self, nodes: &[Node]) -> Self {
        let mut inputs = Inputs::default();
        let expr = self.expr.substitute(&mut |n| {
            let input = self.inputs[n];
            let inner = Producer::of(nodes, input.node)
                .filter(|inner| inner.is_cheap() && shape(nodes, input) == shape(nodes, self.value));
            match inner {
                Some(inner) => inner.expr.substitute(&mut |m| Expr::Input(inputs.number(inner.inputs[m]))),
                None => Expr::Input(inputs.number(input)),
            }
        });
        Self { value: self.value, name: self.name.clone(), expr, inputs: inputs.0 }
    }

    /// Node `at` with this computed inside of it; `None` where that cannot be.
    fn inside(&self, nodes: &[Node], at: usize) -> Option<Fused> {
        let node = &nodes[at];
        let Source::Op(op) = &node.source else { return None };
        // What only repeats elements leaves no trace in the name.
        let name = match op.name() {
            name if self.expr.operations() == 0 => name.to_string(),
            name => format!("{}+{name}", self.name),
        };
        let mut inputs = Inputs::default();
        let mut read = |n: usize| match node.inputs[n] {
            input if input == self.value => self.expr.substitute(&mut |m| Expr::Input(inputs.number(self.inputs[m]))),
            input => Expr::Input(inputs.number(input)),
        };
        if let Some(expr) = op.pointwise().filter(|_| node.types[0].shape == *shape(nodes, self.value)) {
            let expr = expr.substitute(&mut read);
            let Inputs(inputs) = inputs;
            if inputs.is_empty() || inputs.len() + 1 > MAX_BINDINGS || expr.operations() > MAX_OPERATIONS {
                return None;
            }
            return Some(Fused { source: Source::Op(Arc::new(Pointwise::new(name, inputs.len(), expr))), inputs });
        }
        let reduction = op.reduction().filter(|reduction| reduction.shape == *shape(nodes, self.value))?;
        let mut is_finish = (0..node.inputs.len()).filter(|n| reduction.finishes_with(*n));
        if is_finish.any(|n| node.inputs[n] == self.value) {
            return None;
        }
        let terms: Vec<Expr> = reduction.terms.iter().map(|term| term.substitute(&mut read)).collect();
        let sums = terms.len();
        let mut finish = |n: usize| match n.checked_sub(sums) {
            Some(input) => Expr::Input(sums + inputs.number(node.inputs[input])),
            None => Expr::Input(n),
        };
        let outputs = reduction.outputs.iter().map(|output| output.substitute(&mut finish)).collect();
        let reduction = Reduction { terms, outputs, ..reduction.clone() };
        let Inputs(inputs) = inputs;
        let operations: u64 = reduction.terms.iter().map(Expr::operations).sum();
        if inputs.is_empty() || reduction.bindings(inputs.len()) > MAX_BINDINGS || operations > MAX_OPERATIONS {
            return None;
        }
        Some(Fused { source: Source::Op(Arc::new(Reduce::new(name, reduction))), inputs })
    }
}

fn shape(nodes: &[Node], value: Value) -> &Shape {
    &nodes[value.node].types[value.output].shape
}

/// Elements of some values, each counted once.
fn elements(nodes: &[Node], values: &[Value]) -> usize {
    let distinct = values.iter().enumerate().filter(|(at, value)| !values[..*at].contains(value));
    distinct.map(|(_, value)| shape(nodes, *value).elements()).sum()
}

/// Takes one producer that only node `at` reads into it; false where there is none.
fn take_in_producer(nodes: &mut [Node], uses: &mut Uses, at: usize) -> bool {
    for input in nodes[at].inputs.clone() {
        let Some(producer) = Producer::of(nodes, input.node) else { continue };
        // A mere broadcast costs nothing, so it is taken in wherever it is read.
        let readings = nodes[at].inputs.iter().filter(|v| **v == input).count();
        if producer.expr.operations() > 0 && uses.of(input) > readings {
            continue;
        }
        if let Some(Fused { source, inputs }) = producer.inside(nodes, at) {
            nodes[at].source = source;
            uses.rewire(nodes, at, inputs);
            return true;
        }
    }
    false
}

/// Lets every reader of node `at` compute its value again, if then fewer elements are moved: the value is not stored any
/// more. That a mask is applied to a gradient is computed so where the gradient is reduced and where it is used.
fn dissolve(nodes: &mut [Node], uses: &mut Uses, at: usize) {
    let Some(producer) = Producer::of(nodes, at).filter(Producer::is_cheap) else { return };
    let value = producer.value;
    let readers: Vec<usize> = (at + 1..nodes.len())
        .filter(|reader| uses.is_live(*reader) && nodes[*reader].inputs.contains(&value))
        .collect();
    let readings = readers.iter().flat_map(|r| &nodes[*r].inputs).filter(|v| **v == value).count();
    if readings != uses.of(value) {
        return;
    }
    // As the epilogue of what it reads, it would save writing and reading that.
    let is_epilogue = producer.inputs.iter().any(|input| match &nodes[input.node].source {
        Source::Op(op) => uses.of(*input) == 1 && op.with_epilogue(&Expr::Input(0)).is_some(),
        _ => false,
    });
    let stored = shape(nodes, value).elements();
    let least = if is_epilogue { 2 * stored } else { 0 };
    let last_reads = last_reads(nodes, uses, at);
    let options = [producer.deepened(nodes), producer].into_iter().filter_map(|producer| {
        let fused: Vec<Fused> =
            readers.iter().map(|reader| producer.inside(nodes, *reader)).collect::<Option<Vec<_>>>()?;
        let (mut before, mut after) = (stored + elements(nodes, &nodes[at].inputs), 0);
        let mut prolonged = Vec::new();
        for (reader, fused) in readers.iter().zip(&fused) {
            before += elements(nodes, &nodes[*reader].inputs);
            after += elements(nodes, &fused.inputs);
            let is_over = |value: &&Value| last_reads.get(&root(nodes, **value)).is_none_or(|last| last < reader);
            prolonged.extend(fused.inputs.iter().filter(is_over).map(|value| root(nodes, *value)));
        }
        prolonged.retain(|value| matches!(nodes[value.node].source, Source::Op(_)));
        // What is kept longer must not outweigh what is not stored any more; vectors do not count.
        (before > after + least && elements(nodes, &prolonged) < 2 * stored).then_some((before - after, fused))
    });
    if let Some((_, fused)) = options.max_by_key(|(saved, _)| *saved) {
        for (reader, Fused { source, inputs }) in readers.into_iter().zip(fused) {
            nodes[reader].source = source;
            uses.rewire(nodes, reader, inputs);
        }
    }
}

/// The value whose storage `value` is a view of.
fn root(nodes: &[Node], mut value: Value) -> Value {
    while let Source::Op(op) = &nodes[value.node].source {
        if !op.is_view() {
            break;
        }
        value = nodes[value.node].inputs[0];
    }
    value
}

/// The last node that reads each value or a view of it, node `but` aside.
fn last_reads(nodes: &[Node], uses: &Uses, but: usize) -> HashMap<Value, usize> {
    let readers = (0..nodes.len()).filter(|at| *at != but && uses.is_live(*at));
    readers.flat_map(|at| nodes[at].inputs.iter().map(move |input| (root(nodes, *input), at))).collect()
}

/// Turns the pointwise node `at` into the epilogue of an operation that only it reads; false where none takes it.
fn become_epilogue(nodes: &mut [Node], uses: &mut Uses, epilogues: &mut [String], at: usize) -> bool {
    let Some(Producer { name, expr, inputs, .. }) = Producer::of(nodes, at) else { return false };
    for (position, input) in inputs.iter().enumerate() {
        let producer = &nodes[input.node];
        let Source::Op(op) = &producer.source else { continue };
        if producer.types.len() != 1 || producer.types[0].shape != nodes[at].types[0].shape || uses.of(*input) != 1 {
            continue;
        }
        let others: Vec<usize> = (0..inputs.len()).filter(|n| *n != position && expr.uses(*n) > 0).collect();
        if producer.inputs.len() + others.len() + 1 > MAX_BINDINGS {
            continue;
        }
        let epilogue = expr.substitute(&mut |n| {
            Expr::Input(if n == position { 0 } else { 1 + others.iter().position(|o| *o == n).unwrap_or(0) })
        });
        let Some(fused) = op.with_epilogue(&epilogue) else { continue };
        let merged = producer.inputs.iter().copied().chain(others.iter().map(|n| inputs[*n])).collect();
        let before = &epilogues[input.node];
        epilogues[at] = if before.is_empty() { name } else { format!("{before}+{name}") };
        nodes[at].source = Source::Op(fused);
        uses.rewire(nodes, at, merged);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::{
        autodiff, check,
        graph::{Graph, GraphError, Value},
        ops::{Conv2dOptions, Padding, WindowOptions},
        plan::{Plan, PlanOptions, Step, Target},
        tensor::TensorType,
    };

    fn steps(graph: &Graph) -> Vec<Step> {
        Plan::new(graph, &Target::Cpu, PlanOptions::default()).unwrap().steps
    }

    fn names(graph: &Graph) -> Vec<String> {
        steps(graph).iter().map(Step::description).collect()
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
    fn a_pooling_masks_its_gradient() {
        let options =
            WindowOptions { kernel: [2; 2], stride: [2; 2], dilation: [1; 2], padding: Padding::Valid, ceil: false };
        let steps = block(|graph, x, _| {
            let bias = graph.feed("bias", TensorType::f32([CHANNELS]));
            let y = graph.add(x, bias)?;
            let y = graph.relu(y)?;
            graph.max_pool2d(y, &options, true)
        });
        let expected = [("conv2d+add+relu", 2), ("max_pool2d", 1), ("max_pool2d_grad+relu_grad", 2), ("sum", 1)];
        expect(steps, &expected);
    }

    #[test]
    fn a_loss_is_weighted_where_it_is_summed() {
        let mut graph = Graph::new();
        let [losses, weights] = ["losses", "weights"].map(|name| graph.feed(name, TensorType::f32([100])));
        let mean = graph.weighted_mean(losses, weights).unwrap();
        graph.output("mean", mean);
        assert_eq!(names(&graph), ["multiply+sum", "sum", "divide_positive"]);
    }

    #[test]
    fn bias_and_activation_become_the_convolution_s_epilogue() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([1, 5, 5, 2]));
        let weight = graph.constant(check::random([3, 3, 2, 4], 1));
        let bias = graph.constant(check::random([4], 2));
        let y = graph.conv2d(x, weight, &Conv2dOptions::default()).unwrap();
        let y = graph.add(y, bias).unwrap();
        let y = graph.relu(y).unwrap();
        graph.output("y", y);
        assert_eq!(names(&graph).len(), 1, "{:?}", names(&graph));
    }

    #[test]
    fn what_two_operations_read_is_computed_once() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([8]));
        let shared = graph.tanh(x).unwrap();
        let a = graph.relu(shared).unwrap();
        let b = graph.scale(shared, 2.0).unwrap();
        graph.output("a", a);
        graph.output("b", b);
        assert_eq!(names(&graph), ["tanh", "relu", "scale"]);
    }
}
