//! Tests of the optimizers.

use super::{
    examples::{inputs, norms, optimizers, step},
    *,
};
use crate::{check, tensor::Tensor};

#[test]
fn nothing_changes_where_the_guard_is_not_zero() {
    for optimizer in optimizers() {
        for guard in [1.0, f32::NAN, f32::INFINITY] {
            let inputs = inputs(&optimizer, 100, optimizer.hyper(0.1, 0.01, 3, None), 1.0, guard);
            let old: Vec<f32> =
                inputs.iter().take(1).chain(&inputs[5..]).flat_map(|t| t.as_f32().unwrap().to_vec()).collect();
            assert_eq!(check::evaluate(&inputs, step(optimizer)).as_f32().unwrap(), old);
        }
    }
}

/// One parameter's way over two steps with the gradients 2 and -1 (scaled by half from 4 and -2), from 1.
fn two_steps(optimizer: &Optimizer, weight_decay: f64) -> [f32; 2] {
    let mut state = vec![1.0; 1];
    state.resize(1 + optimizer.moments(), 0.0);
    [4.0, -2.0].map(|gradient| {
        let number = if gradient > 0.0 { 1 } else { 2 };
        let mut inputs = vec![
            Tensor::f32([1], vec![state[0]]),
            Tensor::f32([1], vec![gradient]),
            Tensor::f32([8], optimizer.hyper(0.1, weight_decay, number, None).to_vec()),
            Tensor::scalar(0.5),
            Tensor::scalar(0.0),
        ];
        inputs.extend(state[1..].iter().map(|moment| Tensor::f32([1], vec![*moment])));
        state = check::evaluate(&inputs, step(*optimizer)).as_f32().unwrap().to_vec();
        state[0]
    })
}

fn assert_close(got: [f32; 2], want: [f64; 2]) {
    for (got, want) in got.into_iter().zip(want) {
        assert!((f64::from(got) - want).abs() < 1e-6, "{got} {want}");
    }
}

#[test]
fn sgd_follows_its_formula() {
    assert_close(two_steps(&Optimizer::Sgd { momentum: 0.0, nesterov: false }, 0.0), [0.8, 0.9]);
    // With decay 0.5 the gradients are 2 + 0.5 and -1 + 0.5 * 0.75.
    assert_close(two_steps(&Optimizer::Sgd { momentum: 0.0, nesterov: false }, 0.5), [0.75, 0.8125]);
    // Velocities 2 and 0.9 * 2 - 1.
    assert_close(two_steps(&Optimizer::Sgd { momentum: 0.9, nesterov: false }, 0.0), [0.8, 0.72]);
    // Steps along 2 + 0.9 * 2 and -1 + 0.9 * 0.8.
    assert_close(two_steps(&Optimizer::Sgd { momentum: 0.9, nesterov: true }, 0.0), [0.62, 0.648]);
}

#[test]
fn adam_follows_its_formula() {
    let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-7);
    // Moments after two steps, without bias: (0.9 * 0.2 - 0.1) / 0.19 and (0.999 * 0.004 + 0.001) / 0.001999.
    let second = 0.1 * (0.08 / 0.19) / (0.004_996f64 / 0.001_999).sqrt();
    assert_close(two_steps(&Optimizer::Adam { beta1, beta2, epsilon }, 0.0), [0.9, 0.9 - second]);
    // Decoupled decay shrinks the parameter by 5% before each step.
    let shrunk = (0.95 - 0.1) * 0.95 - second;
    assert_close(two_steps(&Optimizer::AdamW { beta1, beta2, epsilon }, 0.5), [0.85, shrunk]);
}

#[test]
fn rmsprop_follows_its_formula() {
    // Mean squares 0.4 and 0.9 * 0.4 + 0.1.
    let (first, second) = (2.0 / 0.4f64.sqrt(), -1.0 / 0.46f64.sqrt());
    let plain = Optimizer::RmsProp { rho: 0.9, epsilon: 1e-9, momentum: 0.0 };
    assert_close(two_steps(&plain, 0.0), [1.0 - 0.1 * first, 1.0 - 0.1 * (first + second)]);
    let heavy = Optimizer::RmsProp { rho: 0.9, epsilon: 1e-9, momentum: 0.5 };
    assert_close(two_steps(&heavy, 0.0), [1.0 - 0.1 * first, 1.0 - 0.1 * (1.5 * first + second)]);
}

#[test]
fn gradients_are_clipped_by_value_after_they_are_scaled() {
    let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false };
    let inputs = [
        Tensor::f32([4], vec![0.0; 4]),
        Tensor::f32([4], vec![1.0, -1.0, 10.0, -10.0]),
        Tensor::f32([8], sgd.hyper(1.0, 0.0, 1, Some(2.0)).to_vec()),
        Tensor::scalar(0.5),
        Tensor::scalar(0.0),
    ];
    assert_eq!(check::evaluate(&inputs, step(sgd)).as_f32().unwrap(), [-0.5, 0.5, -2.0, 2.0]);
}

#[test]
fn the_global_norm_is_brought_down_and_never_up() {
    for (example, expected) in norms() {
        let scale = check::evaluate(&example.inputs, |g, v| example.build(g, v)).as_f32().unwrap()[0];
        assert!((f64::from(scale) - expected).abs() < 1e-6, "{scale} {expected}");
    }
    assert!(Graph::new().global_norm_scale(&[], 1.0).is_err());
}

#[test]
fn a_configuration_survives_serialisation_and_defaults_are_filled_in() {
    for optimizer in optimizers() {
        let text = toml::to_string(&optimizer).unwrap();
        assert_eq!(toml::from_str::<Optimizer>(&text).unwrap(), optimizer, "{text}");
    }
    for default in Optimizer::ALL {
        let text = format!("name = \"{}\"", default.name());
        assert_eq!(toml::from_str::<Optimizer>(&text).unwrap(), default);
    }
    assert!(toml::from_str::<Optimizer>("name = \"sgd\"\nmomemtum = 0.9").is_err());
}

#[test]
fn moments_of_another_number_or_shape_are_an_error() {
    let mut graph = Graph::new();
    let adam = Optimizer::default();
    let block = graph.feed("block", TensorType::f32([8]));
    let one = graph.feed("one", TensorType::f32([]));
    let error = graph.optimizer_step(&adam, block, &[block], block, block, one, one, &[]).unwrap_err().to_string();
    assert!(error.contains("2 moments"), "{error}");
    let short = graph.feed("short", TensorType::f32([7]));
    let error =
        graph.optimizer_step(&adam, block, &[block, short], block, block, one, one, &[]).unwrap_err().to_string();
    assert!(error.contains("one shape"), "{error}");
}

/// The parameters after each of two steps with these gradients at rate 0.1 and decay 0.05: two matrices of these shapes, the
/// second of which begins at 0, in a block of 128.
fn two_steps_of_matrices(
    optimizer: Optimizer,
    shape: [usize; 2],
    initial: [f32; 6],
    gradients: [[f32; 12]; 2],
) -> [[f32; 12]; 2] {
    const BLOCK: usize = 128;
    let tensors = [(0, Shape::from(shape)), (64, Shape::from([shape[1], shape[0]]))];
    let block = |values: &[f32]| {
        let mut block = vec![0.0; BLOCK];
        block[..6].copy_from_slice(&values[..6]);
        block[64..70].copy_from_slice(&values[6..]);
        block
    };
    let mut state = block(&[initial, [0.0; 6]].concat());
    state.resize(BLOCK * (1 + optimizer.moments()), 0.0);
    let mut number = 0;
    gradients.map(|gradient| {
        number += 1;
        let blocks = state.chunks(BLOCK).map(|block| Tensor::f32([BLOCK], block.to_vec()));
        let mut inputs: Vec<Tensor> = blocks.collect();
        let fixed = [
            Tensor::f32([BLOCK], block(&gradient)),
            Tensor::f32([8], optimizer.hyper(0.1, 0.05, number, None).to_vec()),
            Tensor::scalar(1.0),
            Tensor::scalar(0.0),
        ];
        inputs.splice(1..1, fixed);
        let new = check::evaluate(&inputs, |graph, v| {
            let new = graph.optimizer_step(&optimizer, v[0], &v[5..], v[1], v[2], v[3], v[4], &tensors)?;
            graph.concat(&new, 0)
        });
        state = new.as_f32().unwrap().to_vec();
        [&state[..6], &state[64..70]].concat().try_into().unwrap()
    })
}

const INITIAL: [f32; 6] = [1.0, -2.0, 0.5, 0.25, 3.0, -1.0];

const GRADIENTS: [[f32; 12]; 2] = [
    [0.5, -1.0, 2.0, 0.1, -0.3, 0.7, 0.2, -0.4, 1.0, 0.0, 0.0, 0.0],
    [-0.2, 0.6, 1.0, 0.4, 0.3, -0.9, 0.1, 0.5, -0.3, 0.0, 0.0, 0.0],
];

#[test]
fn lamb_follows_its_formula_for_each_parameter() {
    let (beta1, beta2, epsilon) = (0.8, 0.99, 1e-3);
    let got = two_steps_of_matrices(Optimizer::Lamb { beta1, beta2, epsilon }, [2, 3], INITIAL, GRADIENTS);
    let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let initial: Vec<f64> = INITIAL.iter().map(|x| f64::from(*x)).chain([0.0; 6]).collect();
    for from in [0, 6] {
        let mut p = initial[from..from + 6].to_vec();
        let (mut m, mut v) = (vec![0.0; 6], vec![0.0; 6]);
        for (number, (gradient, got)) in (1..).zip(GRADIENTS.iter().zip(&got)) {
            let mut direction = Vec::new();
            for at in 0..6 {
                let g = f64::from(gradient[from + at]);
                m[at] = beta1 * m[at] + (1.0 - beta1) * g;
                v[at] = beta2 * v[at] + (1.0 - beta2) * g * g;
                let (mean, square) = (m[at] / (1.0 - beta1.powi(number)), v[at] / (1.0 - beta2.powi(number)));
                direction.push(mean / (square.sqrt() + epsilon) + 0.05 * p[at]);
            }
            let norms = [norm(&p), norm(&direction)];
            let ratio = if norms[0] > 0.0 && norms[1] > 0.0 { norms[0] / norms[1] } else { 1.0 };
            for at in 0..6 {
                p[at] -= 0.1 * ratio * direction[at];
                assert!((f64::from(got[from + at]) - p[at]).abs() < 1e-6, "{} {}", got[from + at], p[at]);
            }
        }
    }
    // timm 1.0's Lamb(lr=0.1, betas=(0.8, 0.99), eps=1e-3, weight_decay=0.05, max_grad_norm=None, always_adapt=True).
    let timm = [
        [
            0.832_265_1,
            -1.824_102_9,
            0.336_026_9,
            0.089_532_2,
            3.135_512_4,
            -1.151_820_9,
            -0.099_502_5,
            0.099_750_6,
            -0.099_900_1,
        ],
        [
            0.740_597_4,
            -1.761_937_5,
            0.079_832_8,
            -0.161_944,
            3.061_908_2,
            -1.071_633_7,
            -0.115_07,
            0.095_872_6,
            -0.106_297_2,
        ],
    ];
    for (got, timm) in got.iter().zip(timm) {
        let error = check::relative_error(&got[..9], &timm);
        assert!(error < 1e-6, "off by {error:.2e}");
    }
}

#[test]
fn muon_follows_pytorch_whichever_side_is_longer() {
    // torch 2.15's Muon(lr=0.1, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw") on the wide matrix, with its
    // iteration in f32 (torch.bfloat16 = torch.float32 first), since its bfloat16 is only right to some percent of a step.
    let torch = [
        [0.980_018_2, -1.974_969_5, 0.482_372_05, 0.277_667_82, 2.972_912_3, -1.016_571_9],
        [0.969_402_7, -1.969_195_7, 0.455_504_86, 0.253_302_16, 2.948_282_5, -1.004_770_9],
    ];
    let transposed = |x: &[f32]| [x[0], x[3], x[1], x[4], x[2], x[5]];
    let muon = Optimizer::ALL.into_iter().find(|optimizer| optimizer.name() == "muon").unwrap();
    let wide = two_steps_of_matrices(muon, [2, 3], INITIAL, GRADIENTS);
    let tall = GRADIENTS.map(|g| [&transposed(&g)[..], &g[6..]].concat().try_into().unwrap());
    let tall = two_steps_of_matrices(muon, [3, 2], transposed(&INITIAL), tall);
    for ((wide, tall), torch) in wide.iter().zip(&tall).zip(torch) {
        for (got, torch) in [(&wide[..6], torch), (&tall[..6], transposed(&torch))] {
            let error = check::relative_error(got, &torch);
            assert!(error < 1e-6, "off by {error:.2e}");
        }
    }
    // A matrix without gradients stays.
    let still = two_steps_of_matrices(muon, [2, 3], INITIAL, [[0.0; 12]; 2]);
    assert!((still[0][0] - 0.995).abs() < 1e-6 && still[1][6..] == [0.0; 6], "{still:?}");
}

/// The optimizer, learning rate and weight decay of a case of PyTorch's values.
fn settings(parameters: &serde_json::Value) -> (Optimizer, f64, f64) {
    let number = |name: &str| parameters[name].as_f64().unwrap_or(0.0);
    let (momentum, epsilon) = (number("momentum"), number("eps"));
    let beta = |at: usize| parameters["betas"][at].as_f64().unwrap();
    let optimizer = match parameters["optimizer"].as_str().unwrap() {
        "sgd" => Optimizer::Sgd { momentum, nesterov: parameters["nesterov"].as_bool().unwrap_or(false) },
        "adam" => Optimizer::Adam { beta1: beta(0), beta2: beta(1), epsilon },
        "adamw" => Optimizer::AdamW { beta1: beta(0), beta2: beta(1), epsilon },
        "rmsprop" => Optimizer::RmsProp { rho: number("alpha"), epsilon, momentum },
        other => panic!("an optimizer {other}"),
    };
    (optimizer, number("lr"), number("weight_decay"))
}

#[test]
fn steps_are_those_of_pytorch() {
    for case in check::reference("optimizers") {
        let (optimizer, learning_rate, weight_decay) = settings(&case.parameters);
        let (gradients, trajectory) = (case.tensor("gradients"), case.tensor("parameters"));
        let mut state = case.tensor("initial").as_f32().unwrap().to_vec();
        let n = state.len();
        state.resize(n * (1 + optimizer.moments()), 0.0);
        let steps = gradients.as_f32().unwrap().chunks(n).zip(trajectory.as_f32().unwrap().chunks(n));
        for (number, (gradient, expected)) in (1..).zip(steps) {
            let blocks = state.chunks(n).map(|block| Tensor::f32([n], block.to_vec()));
            let mut inputs: Vec<Tensor> = blocks.collect();
            let fixed = [
                Tensor::f32([n], gradient.to_vec()),
                Tensor::f32([8], optimizer.hyper(learning_rate, weight_decay, number, None).to_vec()),
                Tensor::scalar(1.0),
                Tensor::scalar(0.0),
            ];
            inputs.splice(1..1, fixed);
            state = check::evaluate(&inputs, step(optimizer)).as_f32().unwrap().to_vec();
            let error = check::relative_error(&state[..n], expected);
            assert!(error < 1e-6, "step {number} of {}: off by {error:.2e}", case.name);
        }
    }
}

#[test]
fn clipping_is_that_of_pytorch() {
    for case in check::reference("clipping") {
        let flat = |prefix: &str| -> Vec<f32> {
            (0..3).flat_map(|at| case.tensor(&format!("{prefix}{at}")).as_f32().unwrap().to_vec()).collect()
        };
        let gradients = flat("g");
        let n = gradients.len();
        let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false };
        let limit = |name: &str| case.parameters[name].as_f64();
        let inputs = [
            Tensor::f32([n], vec![0.0; n]),
            Tensor::f32([n], gradients),
            Tensor::f32([8], sgd.hyper(1.0, 0.0, 1, limit("max_value")).to_vec()),
            Tensor::scalar(0.0),
        ];
        // A step of rate 1 from 0 ends at the negated gradient.
        let result = check::evaluate(&inputs, |graph, v| {
            let scale = graph.global_norm_scale(&[v[1]], limit("max_norm").unwrap_or(f32::MAX.into()))?;
            Ok(graph.optimizer_step(&sgd, v[0], &[], v[1], v[2], scale, v[3], &[])?[0])
        });
        let clipped: Vec<f32> = result.as_f32().unwrap().iter().map(|p| -p).collect();
        let error = check::relative_error(&clipped, &flat("c"));
        assert!(error < 1e-6, "{}: off by {error:.2e}", case.name);
    }
}
