//! What there is to measure: the named workloads, and kernels by shape.

use super::Program;
use crate::{
    graph::{Backward, Graph, GraphError, Source, Value},
    models,
    ops::{Argmax, Conv2dOptions, Optimizer, Padding, WindowOptions},
    plan::{Executor, Target},
    tensor::Shape,
    train::{Recipe, TrainError},
};

/// Names of the workloads, and what each is. Peers run them by the same names.
pub const WORKLOADS: [(&str, &str); 8] = [
    ("W1", "training step of seed-cnn, 28x28x1, batch 128, Adam"),
    ("W2", "training step of seed-cnn, 64x64x3, batch 32, Adam"),
    ("W3", "training step of resnet18, 32x32x3, batch 32, SGD with momentum"),
    ("W4", "inference of resnet50, 224x224x3, batches 1 and 8"),
    ("W4t", "training step of resnet50, 224x224x3, batch 4 on a processor, 64 on a GPU, SGD with momentum"),
    ("W5", "matrix product of n x n by n x n, n = 512, 1024, 2048"),
    ("W6", "convolution 3x3, 64 to 64 channels, 56x56, batch 8: forward and both gradients"),
    (
        "W7",
        "training steps of resnet50, resnext50_32x4d, mobilenet_v2, efficientnet_b0, convnext_tiny and vit_tiny, \
         224x224x3, batch 8, SGD with momentum",
    ),
];

/// The models of W7.
const ZOO: [&str; 6] = ["resnet50", "resnext50_32x4d", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_tiny"];

/// Something to measure.
pub struct Case {
    /// The workload that it belongs to, or `kernels`.
    pub workload: &'static str,
    /// What is done, such as `train` or `grad-input`.
    pub what: String,
    /// Side of the images or of the matrices.
    pub size: usize,
    /// Images a step, where there are images.
    pub batch: Option<usize>,
    work: Work,
}

type Build = Box<dyn Fn(&mut Graph, &[Value]) -> Result<Vec<Value>, GraphError>>;

enum Work {
    Step { model: &'static str, channels: usize, classes: usize, optimizer: Option<Optimizer> },
    Kernel { inputs: Vec<Shape>, build: Build },
}

impl Case {
    /// Whether it is a step of a model: its figure is images a second.
    pub fn is_step(&self) -> bool {
        matches!(self.work, Work::Step { .. })
    }

    /// The case as a program on a device.
    ///
    /// # Errors
    /// If the device cannot hold it.
    pub fn load(&self, executor: Box<dyn Executor>) -> Result<Program, TrainError> {
        match &self.work {
            Work::Step { model, channels, classes, optimizer } => {
                let model = models::build(model, [self.size, self.size, *channels], *classes)
                    .ok_or_else(|| TrainError::Setting(format!("there is no model {model}")))?;
                let batch = self.batch.unwrap_or(1);
                match optimizer {
                    Some(optimizer) => {
                        let recipe = Recipe { batch_size: Some(batch), optimizer: *optimizer, ..Recipe::default() };
                        Program::training(executor, &model, &recipe)
                    }
                    None => Program::inference(executor, &model, batch),
                }
            }
            Work::Kernel { inputs, build } => Program::kernel(executor, inputs, build),
        }
    }
}

/// Numbers in place of a workload's own; its own where there are none.
#[derive(Clone, Debug, Default)]
pub struct Scale {
    /// Images a step, of all workloads but W5.
    pub batch_sizes: Vec<usize>,
    /// Sides of the matrices of W5.
    pub sizes: Vec<usize>,
}

/// The cases of a workload on a device of this target; none where there is no workload of that name.
pub fn workload(name: &str, target: &Target, scale: &Scale) -> Vec<Case> {
    let processor = match target {
        Target::Cpu => true,
        Target::Gpu(limits, _) => limits.software,
    };
    let adam = Some(Optimizer::default());
    let sgd = Some(Optimizer::Sgd { momentum: 0.9, nesterov: false });
    let own = |given: &[usize], own: &[usize]| if given.is_empty() { own.to_vec() } else { given.to_vec() };
    let batches = |default: &[usize]| own(&scale.batch_sizes, default).into_iter();
    match name {
        "W1" => batches(&[128]).map(|batch| step("W1", "seed-cnn", [28, 1], 10, batch, adam)).collect(),
        "W2" => batches(&[32]).map(|batch| step("W2", "seed-cnn", [64, 3], 10, batch, adam)).collect(),
        "W3" => batches(&[32]).map(|batch| step("W3", "resnet18", [32, 3], 10, batch, sgd)).collect(),
        "W4" => batches(&[1, 8]).map(|batch| step("W4", "resnet50", [224, 3], 1000, batch, None)).collect(),
        "W4t" => {
            let default = if processor { 4 } else { 64 };
            batches(&[default]).map(|batch| step("W4t", "resnet50", [224, 3], 1000, batch, sgd)).collect()
        }
        "W5" => own(&scale.sizes, &[512, 1024, 2048]).iter().map(|n| gemm("W5", "gemm", [*n; 3])).collect(),
        "W6" => batches(&[8]).flat_map(|batch| conv("W6", "", [batch, 56, 64, 64], [3, 3], 1, 1)).collect(),
        "W7" => {
            let of_batch = |batch| ZOO.map(|model| step("W7", model, [224, 3], 1000, batch, sgd));
            let cases = batches(&[8]).flat_map(of_batch).zip(ZOO.into_iter().cycle());
            cases.map(|(case, model)| Case { what: format!("{} {model}", case.what), ..case }).collect()
        }
        _ => Vec::new(),
    }
}

/// Kernels by the shapes that they have in the zoo.
pub fn kernels() -> Vec<Case> {
    let mut cases = vec![
        gemm("kernels", "gemm 128x1600x128", [128, 1600, 128]),
        gemm("kernels", "gemm 6272x64x256", [6272, 64, 256]),
        gemm("kernels", "gemm 8x2048x1000", [8, 2048, 1000]),
    ];
    let convolutions = [
        ("conv 3x3 1 to 32", [128, 28, 1, 32], [3, 3], 1, 1),
        ("conv 7x7 3 to 64 by 2", [8, 224, 3, 64], [7, 7], 2, 1),
        ("conv 3x3 64 to 128 by 2", [8, 56, 64, 128], [3, 3], 2, 1),
        ("conv 3x3 128", [8, 28, 128, 128], [3, 3], 1, 1),
        ("conv 3x3 256", [8, 14, 256, 256], [3, 3], 1, 1),
        ("conv 3x3 512", [8, 7, 512, 512], [3, 3], 1, 1),
        ("conv 1x1 64 to 256", [8, 56, 64, 256], [1, 1], 1, 1),
        ("conv 1x1 1024 to 256", [8, 14, 1024, 256], [1, 1], 1, 1),
        ("conv 3x3 depthwise 128", [8, 56, 128, 128], [3, 3], 1, 128),
    ];
    for (name, sizes, window, stride, groups) in convolutions {
        cases.extend(conv("kernels", name, sizes, window, stride, groups));
    }
    let image = |channels: usize| Shape::from([8, 56, 56, channels]);
    let memory = |what: &str, inputs: Vec<Shape>, build: Build| Case {
        workload: "kernels",
        what: what.to_string(),
        size: 56,
        batch: Some(8),
        work: Work::Kernel { inputs, build },
    };
    let norm = |graph: &mut Graph, v: &[Value]| Ok(graph.batch_norm_train(v[0], v[1], v[2], 1e-5)?.y);
    let window =
        WindowOptions { kernel: [2, 2], stride: [2, 2], dilation: [1, 1], padding: Padding::Valid, ceil: false };
    let pool = move |graph: &mut Graph, v: &[Value]| graph.max_pool2d(v[0], &window, Argmax::Kept);
    cases.extend([
        memory(
            "add and relu",
            vec![image(256), image(256)],
            Box::new(|graph, v| {
                let sum = graph.add(v[0], v[1])?;
                Ok(vec![graph.relu(sum)?])
            }),
        ),
        memory(
            "batch norm",
            vec![image(64), [64].into(), [64].into()],
            Box::new(move |graph, v| Ok(vec![norm(graph, v)?])),
        ),
        memory(
            "batch norm, gradient",
            vec![image(64), [64].into(), [64].into(), image(64)],
            Box::new(move |graph, v| {
                let y = norm(graph, v)?;
                gradients(graph, y, v[3], &[0, 3, 4])
            }),
        ),
        memory("max pool 2x2", vec![image(64)], Box::new(move |graph, v| Ok(vec![pool(graph, v)?]))),
        memory(
            "max pool 2x2, gradient",
            vec![image(64), [8, 28, 28, 64].into()],
            Box::new(move |graph, v| {
                let y = pool(graph, v)?;
                gradients(graph, y, v[1], &[0])
            }),
        ),
    ]);
    cases
}

/// A step of `model` on images of `[side, channels]`; inference where there is no optimizer.
fn step(
    workload: &'static str,
    model: &'static str,
    [size, channels]: [usize; 2],
    classes: usize,
    batch: usize,
    optimizer: Option<Optimizer>,
) -> Case {
    let what = if optimizer.is_some() { "train" } else { "infer" }.to_string();
    Case { workload, what, size, batch: Some(batch), work: Work::Step { model, channels, classes, optimizer } }
}

/// The product of an `[m, k]` and a `[k, n]` matrix.
fn gemm(workload: &'static str, what: &str, [m, k, n]: [usize; 3]) -> Case {
    let inputs = vec![[m, k].into(), [k, n].into()];
    let build: Build = Box::new(|graph, v| Ok(vec![graph.matmul(v[0], v[1])?]));
    Case { workload, what: what.to_string(), size: n, batch: None, work: Work::Kernel { inputs, build } }
}

/// A convolution of `[batch, side, channels in, channels out]`, padded so that stride 1 keeps the side, and its
/// gradients.
fn conv(
    workload: &'static str,
    name: &str,
    [batch, size, input, output]: [usize; 4],
    [height, width]: [usize; 2],
    stride: usize,
    groups: usize,
) -> [Case; 3] {
    let options = Conv2dOptions::default().stride(stride).padding(Padding::all(height / 2)).groups(groups);
    let side = size.div_ceil(stride);
    let inputs: Vec<Shape> = vec![
        [batch, size, size, input].into(),
        [height, width, input / groups, output].into(),
        [batch, side, side, output].into(),
    ];
    ["forward", "grad-input", "grad-weight"].map(|part| {
        let build: Build = Box::new(move |graph, v| {
            let y = graph.conv2d(v[0], v[1], &options)?;
            match part {
                "forward" => Ok(vec![y]),
                "grad-input" => gradients(graph, y, v[2], &[0]),
                _ => gradients(graph, y, v[2], &[1]),
            }
        });
        let what = if name.is_empty() { part.to_string() } else { format!("{name}, {part}") };
        let inputs = if part == "forward" { inputs[..2].to_vec() } else { inputs.clone() };
        Case { workload, what, size, batch: Some(batch), work: Work::Kernel { inputs, build } }
    })
}

/// The gradients that the operation behind `y` has for its inputs numbered `wrt` where `dy` arrives. What only `y`
/// itself needs is not computed.
fn gradients(graph: &mut Graph, y: Value, dy: Value, wrt: &[usize]) -> Result<Vec<Value>, GraphError> {
    let node = graph.node(y).clone();
    let Source::Op(op) = &node.source else { return Ok(Vec::new()) };
    let outputs: Vec<Value> = (0..node.types.len()).map(|output| Value { node: y.node, output }).collect();
    let grads: Vec<Option<Value>> = outputs.iter().map(|output| (*output == y).then_some(dy)).collect();
    let found = op.gradient(&mut Backward { graph, inputs: &node.inputs, outputs: &outputs, grads: &grads })?;
    Ok(wrt.iter().filter_map(|at| found[*at]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpu::CpuExecutor, plan::Target};

    fn load(case: &Case) -> Program {
        case.load(Box::new(CpuExecutor::new()))
            .unwrap_or_else(|error| panic!("{} {}: {error}", case.workload, case.what))
    }

    fn flop(program: &Program) -> u64 {
        program.costs().iter().map(|cost| cost.flop).sum()
    }

    #[test]
    fn workloads_are_what_they_say() {
        let own = Scale::default();
        for (name, _) in WORKLOADS {
            assert!(workload(name, &Target::Cpu, &own).iter().all(|case| case.workload == name));
        }
        let product = workload("W5", &Target::Cpu, &own);
        assert_eq!(product.iter().map(|case| case.size).collect::<Vec<_>>(), [512, 1024, 2048]);
        assert_eq!(flop(&load(&product[0])), 2 * 512 * 512 * 512);
        for case in workload("W6", &Target::Cpu, &own) {
            let program = load(&case);
            assert_eq!(flop(&program), 2 * 8 * 56 * 56 * 64 * 64 * 9, "{}", case.what);
            let kernels = program.costs().iter().filter(|cost| cost.flop > 0).count();
            assert_eq!((kernels, program.costs().len()), (1, 2), "{}: {:?}", case.what, program.costs());
        }
        let names = workload("W7", &Target::Cpu, &own).into_iter().map(|case| case.what);
        assert_eq!(names.collect::<Vec<_>>(), ZOO.map(|model| format!("train {model}")));
        assert!(ZOO.iter().all(|model| models::build(model, [224, 224, 3], 1000).is_some()));
        assert!(workload("W8", &Target::Cpu, &own).is_empty());
        let scale = Scale { batch_sizes: vec![3, 5], sizes: vec![64] };
        let batches = |name| workload(name, &Target::Cpu, &scale).iter().map(|case| case.batch).collect::<Vec<_>>();
        assert_eq!((batches("W1"), batches("W5")), (vec![Some(3), Some(5)], vec![None]));
    }

    #[test]
    fn every_kernel_loads() {
        for case in kernels() {
            let program = load(&case);
            assert!(program.costs().iter().all(|cost| cost.op != "copy"), "{}: {:?}", case.what, program.costs());
        }
    }
}
