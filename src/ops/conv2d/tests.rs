//! Tests of convolution.

use super::{
    Conv2dGradInput, Conv2dGradWeight, Conv2dOptions, Geometry,
    examples::{Case, conv, grid, inputs, of_a_sum, options, plain},
};
use crate::{
    check,
    graph::{Graph, Value},
    ops::Padding,
    tensor::{Shape, Tensor, TensorType},
};

/// Shapes that the CPU takes in other ways than those of [`grid`]; a GPU makes no difference between them.
fn wide() -> Vec<Case> {
    let same = options().padding(Padding::Same);
    let uneven = Padding::Explicit { top: 2, bottom: 0, left: 1, right: 3 };
    vec![
        // Enough positions and channels for Winograd's: whole tiles and not, images of a block and blocks of an image.
        ([8, 7, 8, 32], [3, 3, 32, 48], same),
        ([1, 28, 16, 48], [3, 3, 48, 32], options().padding(uneven)),
        ([38, 4, 3, 32], [3, 3, 32, 32], same),
        // Few positions of many channels: threads divide the channels.
        ([2, 5, 4, 20], [3, 3, 20, 140], same.stride(2)),
        ([1, 4, 4, 132], [3, 3, 132, 129], same),
        ([3, 3, 5, 136], [1, 1, 136, 150], options()),
    ]
}

/// The definition, term by term.
fn definition(x: &Tensor, w: &Tensor, output: &Shape, options: &Conv2dOptions, pad: [isize; 2]) -> Vec<f32> {
    let (xs, ws) = (x.shape(), w.shape());
    let (xv, wv) = (x.as_f32().unwrap(), w.as_f32().unwrap());
    let mut y = vec![0.0; output.elements()];
    for (at, y) in y.iter_mut().enumerate() {
        let (o, rest) = (at % output[3], at / output[3]);
        let (j, rest) = (rest % output[2], rest / output[2]);
        let (i, b) = (rest % output[1], rest / output[1]);
        let mut sum = 0.0;
        for (ki, kj) in (0..ws[0]).flat_map(|ki| (0..ws[1]).map(move |kj| (ki, kj))) {
            let row = (i * options.stride[0] + ki * options.dilation[0]) as isize - pad[0];
            let column = (j * options.stride[1] + kj * options.dilation[1]) as isize - pad[1];
            if row < 0 || column < 0 || row >= xs[1] as isize || column >= xs[2] as isize {
                continue;
            }
            for c in 0..ws[2] {
                let channel = o / (ws[3] / options.groups) * ws[2] + c;
                let pixel = (b * xs[1] + row as usize) * xs[2] + column as usize;
                let weight = ((ki * ws[1] + kj) * ws[2] + c) * ws[3] + o;
                sum += f64::from(xv[pixel * xs[3] + channel]) * f64::from(wv[weight]);
            }
        }
        *y = sum as f32;
    }
    y
}

#[test]
fn the_cpu_computes_the_definition() {
    for case in grid().into_iter().chain(wide()) {
        let [x, w] = inputs(&case);
        let y = check::evaluate(&[x.clone(), w.clone()], |graph, values| conv(graph, values, &case.2));
        let window = Geometry::new(&case.2, case.0[0], [case.0[1], case.0[2]], case.0[3], case.1).unwrap().window;
        let pad = [window.height.before as isize, window.width.before as isize];
        let expected = definition(&x, &w, y.shape(), &case.2, pad);
        let error = check::relative_error(y.as_f32().unwrap(), &expected);
        assert!(error < 1e-6, "{case:?}: off by {error:.2e}");
    }
}

#[test]
fn gradients_match_finite_differences() {
    let cases: Vec<Case> = grid().into_iter().chain(wide()).collect();
    check::gradients_of_examples(&cases.iter().map(plain).collect::<Vec<_>>());
}

#[test]
fn gradients_of_the_gradients_match_finite_differences() {
    let options = options().stride(2).padding(Padding::Same);
    let [x, dy, w] = [check::random([2, 5, 4, 3], 1), check::random([2, 3, 2, 5], 2), check::random([3, 3, 3, 5], 3)];
    check::gradients(&[dy.clone(), w], |graph, values| {
        graph.apply1(Conv2dGradInput { options, extents: [5, 4], epilogue: None }, values)
    });
    check::gradients(&[x, dy], |graph, values| graph.apply1(Conv2dGradWeight { options, kernel: [3, 3] }, values));
}

#[test]
fn an_epilogue_gives_what_the_operations_after_it_give() {
    let x = check::random([2, 7, 9, 5], 1);
    let w = check::random([3, 3, 5, 20], 2);
    let bias = check::random([20], 3);
    let skip = check::random([2, 7, 9, 20], 4);
    let build = |graph: &mut Graph, values: &[Value]| {
        let y = conv(graph, values, &options().padding(Padding::Same))?;
        let y = graph.add(y, values[2])?;
        let y = graph.add(y, values[3])?;
        graph.relu(y)
    };
    let inputs = [x, w, bias, skip];
    let fused = check::evaluate(&inputs, build);
    let convolved = check::evaluate(&inputs, |graph, values| conv(graph, values, &options().padding(Padding::Same)));
    let expected: Vec<f32> = convolved
        .as_f32()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(at, y)| (y + inputs[2].as_f32().unwrap()[at % 20] + inputs[3].as_f32().unwrap()[at]).max(0.0))
        .collect();
    assert!(check::relative_error(fused.as_f32().unwrap(), &expected) < 1e-6);
}

#[test]
fn the_gradient_of_the_input_takes_an_epilogue() {
    let cases: Vec<Case> = grid().into_iter().chain(wide()).collect();
    check::gradients_of_examples(&cases.iter().map(of_a_sum).collect::<Vec<_>>());
}

fn error(x: [usize; 4], w: [usize; 4], options: &Conv2dOptions) -> String {
    let mut graph = Graph::new();
    let x = graph.feed("x", TensorType::f32(x));
    let w = graph.feed("w", TensorType::f32(w));
    graph.conv2d(x, w, options).unwrap_err().to_string()
}

#[test]
fn errors_name_what_does_not_match() {
    let text = error([1, 8, 8, 3], [3, 3, 4, 8], &options());
    assert!(text.contains("the input has 3 channels, but the weight takes 4"), "{text}");
    let text = error([1, 8, 8, 6], [3, 3, 2, 8], &options().groups(3));
    assert!(text.contains("3 groups do not divide 6 input channels and 8 output channels"), "{text}");
    let text = error([1, 2, 8, 4], [3, 3, 4, 8], &options());
    assert!(text.contains("height of 2"), "{text}");
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    for case in check::reference("conv2d") {
        let numbers = |name: &str| -> Vec<usize> {
            let list = case.parameters[name].as_array().unwrap();
            list.iter().map(|n| n.as_u64().unwrap() as usize).collect()
        };
        let pair = |name: &str| -> [usize; 2] { numbers(name).try_into().unwrap() };
        let padding = numbers("padding");
        let options = Conv2dOptions {
            stride: pair("stride"),
            padding: Padding::Explicit { top: padding[0], bottom: padding[1], left: padding[2], right: padding[3] },
            dilation: pair("dilation"),
            groups: case.parameters["groups"].as_u64().unwrap() as usize,
        };
        let build = |graph: &mut Graph, values: &[Value]| {
            let y = conv(graph, values, &options)?;
            if let Some(bias) = values.get(2) { graph.add(y, *bias) } else { Ok(y) }
        };
        let names: Vec<&str> = ["x", "w", "b"].into_iter().filter(|name| case.has(name)).collect();
        let inputs: Vec<Tensor> = names.iter().map(|name| case.tensor(name)).collect();
        let wrt: Vec<usize> = (0..inputs.len()).collect();
        let mut got = vec![check::evaluate(&inputs, build)];
        got.extend(check::gradients_for(&inputs, &case.tensor("dy"), &wrt, build));
        let mut expected = vec![case.tensor("y")];
        expected.extend(names.iter().map(|name| case.tensor(&format!("d{name}"))));
        for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert_eq!(got.shape(), expected.shape(), "{}: result {at}", case.name);
            let error = check::relative_error(got.as_f32().unwrap(), expected.as_f32().unwrap());
            assert!(error < 2e-6, "{}: result {at} is off by {error:.2e}", case.name);
        }
    }
}
