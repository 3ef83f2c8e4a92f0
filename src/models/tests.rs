//! The networks against torchvision's and timm's: numbers of parameters, and logits and gradients of the same weights.

use std::{collections::BTreeSet, fs, path::PathBuf};

use tempfile::TempDir;

use super::{ZOO, build, pytorch};
use crate::{
    autodiff, check,
    cpu::CpuExecutor,
    data::Normalisation,
    device,
    graph::{Graph, Value},
    nn::{Builder, Mode, Parameter, Parameters, Role},
    ops::Optimizer,
    plan::{Executor, Plan, PlanOptions, Target},
    tensor::{Shape, Tensor, TensorType},
    train::{Pretrained, Recipe, Session},
    weights,
};

#[test]
fn parameters_are_as_many_as_published() {
    for (name, expected) in [
        ("resnet20", 272_474),
        ("resnet32", 466_906),
        ("resnet44", 661_338),
        ("resnet56", 855_770),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("resnext50_32x4d", 25_028_904),
        ("seresnet50", 28_088_024),
        ("vgg11", 132_863_336),
        ("vgg16", 138_357_544),
        ("densenet121", 7_978_856),
        ("mobilenet_v2", 3_504_872),
        ("mobilenet_v3_large", 5_483_032),
        ("mobilenet_v3_small", 2_542_856),
        ("efficientnet_b0", 5_288_548),
        ("efficientnet_b1", 7_794_184),
        ("efficientnet_b2", 9_109_994),
        ("efficientnet_b3", 12_233_232),
        ("efficientnet_b4", 19_341_616),
        ("efficientnet_b5", 30_389_784),
        ("efficientnet_b6", 43_040_704),
        ("efficientnet_b7", 66_347_960),
        ("convnext_tiny", 28_589_128),
        ("vit_tiny", 5_717_416),
        ("vit_small", 22_050_664),
    ] {
        let entry = ZOO.iter().find(|entry| entry.name == name).unwrap();
        let (mut graph, mut parameters) = (Graph::new(), Parameters::new(usize::MAX));
        let [height, width, channels] = entry.input;
        let x = graph.feed("x", TensorType::f32([1, height, width, channels]));
        let network = build(name, entry.input, entry.classes).unwrap().network;
        network.forward(&mut Builder::new(&mut graph, &mut parameters, Mode::Inference, None), x).unwrap();
        assert_eq!(parameters.trained(), expected, "{name}");
    }
}

/// Images of a case.
const BATCH: usize = 2;

/// Parameters of more elements are left out of the comparison of gradients.
const LARGEST: usize = 1 << 22;

/// Numbers in -1..1 by a hash of a name and an index, as `make_models.py` has them.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let mut crc = flate2::Crc::new();
    crc.update(name.as_bytes());
    let seed = crc.sum();
    let number = |at: usize| {
        let mut hash = (at as u32 ^ seed).wrapping_mul(0x9E37_79B1);
        hash = (hash ^ hash >> 15).wrapping_mul(0x85EB_CA77);
        hash ^= hash >> 13;
        (hash >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(number).collect()
}

/// The value of a parameter: weights keep the scale of what they are applied to, norms do little.
fn value(parameter: &Parameter, gain: f64) -> Tensor {
    let shape = &parameter.shape;
    let (base, factor) = match shape.rank() {
        1 if parameter.name.ends_with("bias") || parameter.name.ends_with("running_mean") => (0.0, 0.1),
        1 => (1.0, 0.2),
        rank => (0.0, (3.0 * gain / shape[..rank - 1].iter().product::<usize>() as f64).sqrt() as f32),
    };
    let values = numbers(&parameter.name, shape.elements()).into_iter().map(|number| base + factor * number);
    Tensor::f32(shape.clone(), values.collect())
}

/// In inference's mode, where nothing is drawn at random, and in double precision, in which no rounding takes a value to
/// the other side of a ReLU's corner.
fn expect_reference(name: &str) {
    let cases = check::reference("models");
    let case = cases.iter().find(|case| case.name == name).unwrap();
    let gain = case.parameters["gain"].as_f64().unwrap();
    let side = case.parameters["side"].as_u64().unwrap() as usize;
    let logits_of_case = case.tensor("logits");
    let classes = logits_of_case.shape().last();

    let (mut graph, mut parameters) = (Graph::new(), Parameters::new(usize::MAX));
    let shape = Shape::from([BATCH, side, side, 3]);
    let x = graph.constant(Tensor::f32(shape.clone(), numbers("x", shape.elements())));
    let mut builder = Builder::new(&mut graph, &mut parameters, Mode::Inference, None);
    let logits = build(name, [side, side, 3], classes).unwrap().network.forward(&mut builder, x).unwrap();
    let built = builder.finish();
    graph.output("logits", logits);
    let dy = graph.constant(Tensor::f32([BATCH, classes], numbers("dy", BATCH * classes)));
    let product = graph.multiply(logits, dy).unwrap();
    let loss = graph.sum(product, &[0, 1]).unwrap();
    let compared = |parameter: &Parameter| parameter.role == Role::Trained && parameter.shape.elements() <= LARGEST;
    let trained: Vec<_> = built.parameters.iter().filter(|(at, _)| compared(parameters.get(*at))).collect();
    let wrt: Vec<Value> = trained.iter().map(|(_, value)| *value).collect();
    for ((at, _), gradient) in trained.iter().zip(autodiff::gradients(&mut graph, loss, &wrt).unwrap()) {
        graph.output(&parameters.get(*at).name, gradient);
    }

    let names = |of: &str| -> Vec<String> { serde_json::from_value(case.parameters[of].clone()).unwrap() };
    let declared: BTreeSet<String> = parameters.iter().map(|parameter| parameter.name.clone()).collect();
    let theirs = names("names").into_iter().filter_map(|theirs| pytorch::name(name, &theirs));
    assert_eq!(declared, theirs.collect(), "{name}: names of parameters");

    let mut cpu = CpuExecutor::<f64>::default();
    cpu.declare(parameters.variables()).unwrap();
    for parameter in parameters.iter() {
        let variable = parameters.blocks()[parameter.block].variable;
        cpu.write(variable, parameter.offset, &value(parameter, gain)).unwrap();
    }
    let program = cpu.load(Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap()).unwrap();
    cpu.run(program, &[]).unwrap();
    let outputs = cpu.collect(program, true).unwrap().remove(0);

    let norms = case.tensor("norms");
    let projections = case.tensor("projections");
    let compared = names("compared");
    assert_eq!(compared.len() + 1, outputs.len(), "{name}");
    for (output, got) in &outputs {
        let got = got.as_f32().unwrap();
        if output == "logits" {
            let error = check::relative_error(got, logits_of_case.as_f32().unwrap());
            assert!(error <= 1e-5, "{name}: logits are off by {error:.2e}");
            continue;
        }
        let at = compared.iter().position(|name| name == output).unwrap();
        let of = |tensor: &Tensor| f64::from(tensor.as_f32().unwrap()[at]);
        let (norm, projection) = (of(&norms), of(&projections));
        let got_norm = got.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let directions = numbers(&format!("{output} direction"), got.len());
        let got_projection: f64 = got.iter().zip(directions).map(|(g, d)| f64::from(*g) * f64::from(d)).sum();
        let error = (got_norm - norm).abs().max((got_projection - projection).abs()) / norm;
        assert!(error <= 1e-5, "{name}: the gradient of {output} is off by {error:.2e}");
    }
}

#[test]
fn transformers_say_which_images_they_take() {
    let (mut graph, mut parameters) = (Graph::new(), Parameters::new(usize::MAX));
    let x = graph.feed("x", TensorType::f32([1, 40, 32, 3]));
    let network = build("vit_tiny", [40, 32, 3], 10).unwrap().network;
    let error = network.forward(&mut Builder::new(&mut graph, &mut parameters, Mode::Inference, None), x).unwrap_err();
    assert!(error.to_string().contains("multiples of 16 pixels, not 40 by 32"), "{error}");
}

/// A test a network.
macro_rules! networks {
    ($($name:ident),* $(,)?) => {
        mod logits_and_gradients_are_pytorch_s {
            $(
                #[test]
                fn $name() {
                    super::expect_reference(stringify!($name));
                }
            )*
        }
    };
}

networks! {
    resnet20,
    resnet18,
    resnet50,
    resnet152,
    resnext50_32x4d,
    seresnet50,
    cbam_resnet18,
    vgg16,
    densenet121,
    mobilenet_v2,
    mobilenet_v3_large,
    mobilenet_v3_small,
    efficientnet_b0,
    efficientnet_b5,
    convnext_tiny,
    vit_tiny,
    vit_small,
    vit_tiny_conv,
}

/// A parameter in PyTorch's layout, as [`pytorch`] does not know it.
fn to_pytorch(name: &str, tensor: &Tensor) -> (Vec<usize>, Vec<f32>) {
    let (shape, values) = (tensor.shape().to_vec(), tensor.as_f32().unwrap());
    match shape[..] {
        [channels] if name.ends_with("layer_scale") => (vec![channels, 1, 1], values.to_vec()),
        [height, width, inner, out] => {
            let mut turned = Vec::new();
            for o in 0..out {
                for i in 0..inner {
                    let pixels = 0..height * width;
                    turned.extend(pixels.map(|pixel| values[(pixel * inner + i) * out + o]));
                }
            }
            (vec![out, inner, height, width], turned)
        }
        [inner, out] => {
            let turned = (0..out).flat_map(|o| (0..inner).map(move |i| values[i * out + o]));
            (vec![out, inner], turned.collect())
        }
        _ => (shape, values.to_vec()),
    }
}

/// The weights of a case in a file as PyTorch writes it, with its names and layout.
fn written(case: &check::Case, folder: &TempDir) -> PathBuf {
    let side = case.parameters["side"].as_u64().unwrap() as usize;
    let gain = case.parameters["gain"].as_f64().unwrap();
    let model = build(&case.name, [side, side, 3], case.tensor("logits").shape().last()).unwrap();
    let parameters = model.parameters().unwrap();
    let names: Vec<String> = serde_json::from_value(case.parameters["names"].clone()).unwrap();
    let tensors = names.into_iter().map(|theirs| {
        let ours = pytorch::name(&case.name, &theirs).unwrap();
        let parameter = parameters.iter().find(|parameter| parameter.name == ours).unwrap();
        let (shape, values) = to_pytorch(&theirs, &value(parameter, gain));
        (theirs, shape, values)
    });
    let path = folder.path().join("weights.pth");
    fs::write(&path, weights::tests::saved(&tensors.collect::<Vec<_>>())).unwrap();
    path
}

fn session(name: &str, input: [usize; 3], classes: usize) -> Session {
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let recipe = Recipe { batch_size: Some(BATCH), optimizer, ..Recipe::default() };
    let model = build(name, input, classes).unwrap();
    Session::new(device::open("cpu").unwrap(), model, recipe, Normalisation::imagenet()).unwrap()
}

fn expect_logits_of_a_file(name: &str) {
    let cases = check::reference("models");
    let case = cases.iter().find(|case| case.name == name).unwrap();
    let side = case.parameters["side"].as_u64().unwrap() as usize;
    let logits_of_case = case.tensor("logits");
    let (input, classes) = ([side, side, 3], logits_of_case.shape().last());
    let folder = tempfile::tempdir().unwrap();
    let mut session = session(name, input, classes);
    let begun = session.begin_with(&Pretrained::open(&written(case, &folder)).unwrap(), &[]).unwrap();
    assert_eq!((begun.tensors, begun.new_head), (session.parameters().iter().count(), None));
    let taken = session.tensors().unwrap();

    let (mut graph, mut parameters) = (Graph::new(), Parameters::new(usize::MAX));
    let shape = Shape::from([BATCH, side, side, 3]);
    let x = graph.constant(Tensor::f32(shape.clone(), numbers("x", shape.elements())));
    let mut builder = Builder::new(&mut graph, &mut parameters, Mode::Inference, None);
    let logits = build(name, input, classes).unwrap().network.forward(&mut builder, x).unwrap();
    graph.output("logits", logits);
    let mut cpu = CpuExecutor::<f32>::default();
    cpu.declare(parameters.variables()).unwrap();
    for parameter in parameters.iter() {
        let (_, tensor) = taken.iter().find(|(name, _)| *name == parameter.name).unwrap();
        cpu.write(parameters.blocks()[parameter.block].variable, parameter.offset, tensor).unwrap();
    }
    let program = cpu.load(Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap()).unwrap();
    cpu.run(program, &[]).unwrap();
    let (_, got) = cpu.collect(program, true).unwrap().remove(0).remove(0);
    let error = check::relative_error(got.as_f32().unwrap(), logits_of_case.as_f32().unwrap());
    assert!(error <= 1e-4, "{name}: logits are off by {error:.2e}");
}

#[test]
fn weights_of_a_file_give_pytorch_s_logits() {
    for name in ["resnet20", "resnet18", "densenet121", "mobilenet_v3_small", "efficientnet_b0", "vit_tiny"] {
        expect_logits_of_a_file(name);
    }
}

#[test]
fn weights_of_a_file_fit_other_classes_and_images() {
    let cases = check::reference("models");
    let case = cases.iter().find(|case| case.name == "vit_tiny").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pretrained = Pretrained::open(&written(case, &folder)).unwrap();
    let mut session = session("vit_tiny", [64, 48, 3], 7);
    let of = |session: &mut Session, name: &str| {
        let tensors = session.tensors().unwrap();
        tensors.into_iter().find(|(given, _)| given == name).unwrap().1
    };
    let head = of(&mut session, "head.weight");
    let begun = session.begin_with(&pretrained, &[]).unwrap();
    assert_eq!(begun.new_head, Some(("head".into(), Some(10))));
    assert_eq!(begun.positions, Some([[3, 3], [4, 3]]));
    assert_eq!(begun.tensors, session.parameters().iter().count() - 2);
    assert_eq!(of(&mut session, "head.weight"), head);
    // The class token's position stays.
    let positions = of(&mut session, "pos_embed");
    let parameters = build("vit_tiny", [48, 48, 3], 7).unwrap().parameters().unwrap();
    let theirs = value(parameters.iter().find(|parameter| parameter.name == pytorch::POSITIONS).unwrap(), 1.0);
    assert_eq!(positions.shape()[..], [1, 13, 192]);
    assert_eq!(positions.as_f32().unwrap()[..192], theirs.as_f32().unwrap()[..192]);
}
