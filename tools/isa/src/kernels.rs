//! The kernels that gabor's planner may choose for its speed workloads.

use std::collections::HashSet;

use anyhow::Context;
use gabor::{
    autodiff,
    data::Normalisation,
    graph::{Graph, Value},
    kernel::gpu::{Limits, Shader, Source},
    models,
    nn::Parameters,
    ops::{Conv2dOptions, Optimizer, Padding},
    plan::{Choices, Plan, PlanOptions, Target, Work},
    tensor::TensorType,
    train::{Recipe, training_graph},
};

/// A shader of a candidate.
pub struct Kernel {
    /// Its file below `shaders/`.
    pub file: &'static str,
    /// Kernel and tile as the plan's table shows them.
    pub candidate: String,
    /// What is specialised.
    pub shader: Shader,
}

/// What a discrete GPU offers.
fn limits() -> Limits {
    Limits {
        max_binding: 2 << 30,
        max_buffer: 2 << 30,
        workgroup_memory: 32 << 10,
        workgroup_invocations: 1024,
        offset_alignment: 256,
        units: 96,
        subgroup: Some((32, 64)),
        software: false,
        f16: false,
        adapter: String::new(),
    }
}

/// Every kernel for the training steps of three networks, for matrix products, convolutions, softmax, layer norm and attention. Of
/// kernels that differ in nothing but the geometry of their tensors there is the first.
pub fn all() -> anyhow::Result<Vec<Kernel>> {
    let mut found = Found::default();
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: false };
    found.products()?;
    found.convolution()?;
    found.epilogues()?;
    found.rows()?;
    found.attention()?;
    found.training("seed-cnn", [28, 28, 1], Recipe::default())?;
    found.training("resnet18", [32, 32, 3], Recipe { batch_size: Some(32), optimizer: sgd, ..Recipe::default() })?;
    found.training("resnet50", [224, 224, 3], Recipe { batch_size: Some(64), optimizer: sgd, ..Recipe::default() })?;
    found.kernels.sort_by(|a, b| (a.file, &a.candidate).cmp(&(b.file, &b.candidate)));
    Ok(found.kernels)
}

#[derive(Default)]
struct Found {
    seen: HashSet<Kind>,
    kernels: Vec<Kernel>,
}

/// What tells kernels apart, geometry aside: file, tile, conditions and the form of what is fused.
type Kind = (&'static str, String, Vec<&'static str>, Option<String>);

impl Found {
    fn products(&mut self) -> anyhow::Result<()> {
        // The last one is a dense layer of one image.
        for [m, n] in [[512, 512], [1024, 1024], [2048, 2048], [1, 512]] {
            self.operation(&[&[m, n], &[n, n]], |graph, v| Ok(graph.dense(v[0], v[1])?))?;
        }
        Ok(())
    }

    fn convolution(&mut self) -> anyhow::Result<()> {
        let options = Conv2dOptions { padding: Padding::all(1), ..Conv2dOptions::default() };
        self.operation(&[&[8, 56, 56, 64], &[3, 3, 64, 64]], |graph, v| Ok(graph.conv2d(v[0], v[1], &options)?))
    }

    /// The longest that the planner makes: the gradient of the input ends with that of a GELU.
    fn epilogues(&mut self) -> anyhow::Result<()> {
        let same = Conv2dOptions { padding: Padding::Same, ..Conv2dOptions::default() };
        for (groups, weights) in [(1, [3, 3, 64, 64]), (16, [3, 3, 4, 64]), (64, [3, 3, 1, 64])] {
            let options = Conv2dOptions { groups, ..same };
            self.operation(&[&[8, 56, 56, 64], &weights], |graph, v| {
                let activated = graph.gelu(v[0])?;
                Ok(graph.conv2d(activated, v[1], &options)?)
            })?;
        }
        Ok(())
    }

    fn rows(&mut self) -> anyhow::Result<()> {
        self.operation(&[&[128, 1000]], |graph, v| Ok(graph.softmax(v[0])?))?;
        self.operation(&[&[3136, 96], &[96], &[96]], |graph, v| Ok(graph.layer_norm(v[0], v[1], v[2], 1e-6)?))
    }

    fn attention(&mut self) -> anyhow::Result<()> {
        for head in [32, 64, 128] {
            self.operation(&[&[8, 197, 3 * 3 * head]], |graph, v| Ok(graph.attention(v[0], 3)?))?;
        }
        Ok(())
    }

    /// The kernels of one operation on tensors of these shapes, and of its gradients.
    fn operation(
        &mut self,
        shapes: &[&[usize]],
        build: impl Fn(&mut Graph, &[Value]) -> anyhow::Result<Value>,
    ) -> anyhow::Result<()> {
        let mut graph = Graph::new();
        let inputs: Vec<Value> = shapes.iter().map(|shape| graph.feed("input", TensorType::f32(*shape))).collect();
        let y = build(&mut graph, &inputs)?;
        let dy = graph.feed("dy", graph.ty(y).clone());
        let product = graph.multiply(y, dy)?;
        let axes: Vec<usize> = (0..graph.shape(y).rank()).collect();
        let loss = graph.sum(product, &axes)?;
        graph.output("y", y);
        for gradient in autodiff::gradients(&mut graph, loss, &inputs)? {
            graph.output("gradient", gradient);
        }
        self.plan(&graph)
    }

    fn training(&mut self, name: &str, input: [usize; 3], recipe: Recipe) -> anyhow::Result<()> {
        let model = models::build(name, input, 10).with_context(|| format!("the zoo has no {name}"))?;
        let normalisation = Normalisation { mean: vec![0.5; input[2]], std: vec![0.25; input[2]] };
        let mut parameters = Parameters::new(Target::Gpu(limits(), Choices::default()).block_limit());
        let (graph, _) = training_graph(&model, &mut parameters, &recipe, &normalisation)?;
        self.plan(&graph)
    }

    fn plan(&mut self, graph: &Graph) -> anyhow::Result<()> {
        let limits = limits();
        let plan = Plan::new(graph, &Target::Gpu(limits.clone(), Choices::default()), PlanOptions::default())?;
        for step in &plan.steps {
            let Work::Run { op, signature, .. } = &step.work else { continue };
            for candidate in op.kernels(signature, &limits) {
                for pass in candidate.passes {
                    self.add(&candidate.name, pass.shader);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, candidate: &str, shader: Shader) {
        let Source::File(file) = shader.source else { return };
        // How often a sum is split depends on its length alone.
        let candidate = candidate.split(" split ").next().unwrap_or(candidate).to_string();
        let fused = shader.fused.as_ref().map(|text| text.replace(|c: char| c.is_ascii_digit(), ""));
        if self.seen.insert((file, candidate.clone(), shader.features.clone(), fused)) {
            self.kernels.push(Kernel { file, candidate, shader });
        }
    }
}
