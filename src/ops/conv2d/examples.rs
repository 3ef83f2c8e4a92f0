//! Examples of convolutions, alone and with what is fused with them.

use super::Conv2dOptions;
use crate::{
    graph::{Example, Graph, GraphError, Value},
    ops::Padding,
    tensor::{DType, Tensor, random},
};

/// Input, weight and options of a convolution.
pub type Case = ([usize; 4], [usize; 4], Conv2dOptions);

pub fn options() -> Conv2dOptions {
    Conv2dOptions::default()
}

pub fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = grid().iter().map(plain).collect();
    examples.extend(grid().iter().map(of_a_sum));
    examples.extend(with_epilogues());
    examples.push(of_many_channels());
    examples.extend(with_f16());
    examples
}

/// With 16-bit floats: channels in vectors and not, strides and dilations, groups, depthwise, with epilogues, and what is
/// converted on its way out.
fn with_f16() -> Vec<Example> {
    let grid = grid();
    let cases = [1, 4, 6, 8, 13, 17, 20, 21, 22].map(|at| &grid[at]);
    let mut examples: Vec<Example> = cases.iter().map(|case| of_a_sum(case).in_f16()).collect();
    examples.extend(with_epilogues().map(|example| example.in_f16()));
    let case = &grid[4];
    let [x, w] = inputs(case);
    for (inputs, to) in [([x.to_f16(), w.to_f16()], DType::F32), ([x, w], DType::F16)] {
        let options = case.2;
        examples.push(Example::new(inputs, move |graph, v| {
            let y = conv(graph, v, &options)?;
            graph.cast(y, to)
        }));
    }
    examples
}

pub fn plain(case: &Case) -> Example {
    let options = case.2;
    Example::new(inputs(case), move |graph, v| conv(graph, v, &options))
}

/// A convolution of what the gradient of its input goes through as an epilogue.
pub fn of_a_sum(case: &Case) -> Example {
    let options = case.2;
    let [x, w] = inputs(case);
    Example::new([x, w, random([case.0[3]], 3)], move |graph, v| {
        let x = graph.add(v[0], v[2])?;
        let x = graph.tanh(x)?;
        conv(graph, &[x, v[1]], &options)
    })
}

fn with_epilogues() -> [Example; 3] {
    [(8, vec![8]), (7, vec![7]), (8, vec![2, 1, 1, 8])].map(|(channels, other)| {
        let inputs = [random([2, 7, 5, 4], 1), random([3, 3, 4, channels], 2), random(other, 3)];
        Example::new(inputs, |graph, v| {
            let y = conv(graph, v, &options().padding(Padding::Same))?;
            let y = graph.multiply(y, v[2])?;
            graph.relu(y)
        })
    })
}

/// Channels for which a processor chooses Winograd's, with epilogues of the result and of the gradient.
fn of_many_channels() -> Example {
    let inputs =
        [random([8, 15, 15, 128], 1), random([3, 3, 128, 128], 2), random([128], 3), random([8, 15, 15, 128], 4)];
    Example::new(inputs, |graph, v| {
        let x = graph.tanh(v[0])?;
        let y = conv(graph, &[x, v[1]], &options().padding(Padding::Same))?;
        let y = graph.add(y, v[2])?;
        let y = graph.add(y, v[3])?;
        graph.relu(y)
    })
}

/// Shapes whose edges divide no tile: one pixel, seven channels, stride past the window, padding past half of it.
pub fn grid() -> Vec<Case> {
    let same = options().padding(Padding::Same);
    let uneven = Padding::Explicit { top: 2, bottom: 0, left: 1, right: 3 };
    vec![
        ([1, 1, 1, 1], [1, 1, 1, 1], options()),
        ([2, 1, 1, 7], [3, 3, 7, 5], same),
        ([2, 6, 5, 3], [3, 3, 3, 8], options()),
        ([2, 9, 7, 1], [3, 3, 1, 6], same),
        ([3, 8, 8, 4], [3, 3, 4, 8], same),
        ([2, 5, 13, 16], [3, 3, 16, 36], same),
        ([2, 6, 5, 8], [3, 3, 8, 6], same),
        ([1, 15, 14, 3], [7, 7, 3, 20], options().stride(2).padding(Padding::all(3))),
        ([2, 9, 8, 8], [3, 3, 8, 12], options().stride(2).padding(Padding::Same)),
        ([2, 11, 10, 4], [3, 3, 4, 4], options().stride(3).padding(Padding::all(1))),
        ([2, 7, 9, 4], [1, 1, 4, 8], options().stride(2)),
        ([2, 7, 6, 5], [2, 3, 5, 3], options().stride(4).padding(Padding::all(2))),
        ([1, 4, 4, 4], [3, 3, 4, 4], options().padding(Padding::all(4))),
        ([2, 9, 10, 4], [3, 2, 4, 8], options().dilation(2).padding(uneven)),
        ([1, 12, 11, 4], [3, 3, 4, 4], options().stride(2).dilation(2).padding(Padding::all(2))),
        ([1, 13, 12, 2], [3, 3, 2, 3], options().stride(2).dilation(3).padding(Padding::all(3))),
        ([70, 4, 4, 4], [3, 3, 4, 8], same),
        ([2, 5, 6, 8], [1, 1, 8, 68], options()),
        ([1, 20, 19, 2], [17, 16, 2, 5], options()),
        ([2, 6, 7, 6], [3, 3, 2, 9], same.groups(3)),
        ([2, 6, 7, 16], [3, 3, 8, 24], same.groups(2).stride(2)),
        ([2, 6, 7, 7], [3, 3, 1, 7], same.groups(7)),
        ([2, 9, 8, 20], [3, 3, 1, 20], same.groups(20).stride(2)),
        ([1, 9, 8, 36], [5, 3, 1, 36], options().groups(36).dilation(2)),
        ([2, 6, 5, 4], [3, 3, 1, 12], same.groups(4)),
        // Groups of few channels that fill vectors together, and whole tiles of channels.
        ([2, 6, 7, 16], [3, 3, 4, 16], same.groups(4)),
        ([2, 9, 8, 16], [3, 3, 2, 32], same.groups(8).stride(2)),
        ([1, 9, 10, 32], [3, 3, 8, 32], options().groups(4).dilation(2)),
        ([2, 5, 6, 28], [1, 1, 28, 40], options()),
    ]
}

pub fn conv(graph: &mut Graph, values: &[Value], options: &Conv2dOptions) -> Result<Value, GraphError> {
    graph.conv2d(values[0], values[1], options)
}

pub fn inputs(case: &Case) -> [Tensor; 2] {
    [random(case.0, 1), random(case.1, 2)]
}
