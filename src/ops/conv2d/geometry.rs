//! What the kernels of a convolution know of its shapes.

use super::Conv2dOptions;
use crate::{
    graph::ShapeError,
    ops::window::{Window, Window1d, WindowOptions},
    tensor::TensorType,
};

/// The extents of a convolution.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Geometry {
    pub batch: usize,
    pub window: Window,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
}

impl Geometry {
    pub fn new(
        options: &Conv2dOptions,
        batch: usize,
        [height, width]: [usize; 2],
        in_channels: usize,
        [kernel_height, kernel_width, group_channels, out_channels]: [usize; 4],
    ) -> Result<Self, ShapeError> {
        let groups = options.groups;
        if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            return Err(ShapeError::new(format!(
                "{groups} groups do not divide {in_channels} input channels and {out_channels} output channels: both \
                 must be multiples of the groups"
            )));
        }
        if in_channels != group_channels * groups {
            return Err(ShapeError::new(format!(
                "the input has {in_channels} channels, but the weight takes {}: with groups {groups} its third extent \
                 must be {}, not {group_channels}",
                group_channels * groups,
                in_channels / groups,
            )));
        }
        let window = WindowOptions {
            kernel: [kernel_height, kernel_width],
            stride: options.stride,
            dilation: options.dilation,
            padding: options.padding,
            ceil: false,
        }
        .over(height, width)?;
        Ok(Self { batch, window, in_channels, out_channels, groups })
    }

    /// The input's type where it holds f32; likewise the others.
    pub fn input_type(&self) -> TensorType {
        TensorType::f32([self.batch, self.window.height.input, self.window.width.input, self.in_channels])
    }

    pub fn output_type(&self) -> TensorType {
        TensorType::f32([self.batch, self.window.height.output, self.window.width.output, self.out_channels])
    }

    pub fn weight_type(&self) -> TensorType {
        let (height, width) = (self.window.height.kernel, self.window.width.kernel);
        TensorType::f32([height, width, self.in_channels / self.groups, self.out_channels])
    }

    /// Checks that a gradient has the output's shape.
    pub fn expect_output(&self, dy: &TensorType) -> Result<(), ShapeError> {
        let output = self.output_type();
        if dy.shape == output.shape {
            return Ok(());
        }
        Err(ShapeError::new(format!("the gradient must have the output's shape {}, not {}", output.shape, dy.shape)))
    }

    /// Number of taps of the window.
    pub fn taps(&self) -> usize {
        self.window.height.kernel * self.window.width.kernel
    }

    /// Input channels of one group.
    pub fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Output channels of one group.
    pub fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Each channel is convolved with its own filter.
    pub fn depthwise(&self) -> bool {
        self.groups > 1 && self.group_in() == 1 && self.group_out() == 1
    }

    /// Multiplications and additions, those with padding included.
    pub fn flop(&self) -> u64 {
        let positions = self.batch * self.window.height.output * self.window.width.output;
        2 * (positions * self.taps() * self.group_in() * self.out_channels) as u64
    }
}

/// One dimension of a sum over taps: target position `t * step + origin` is the sum over taps `j` of source position
/// `t * stride + offset + j * offset_step`, times the weight at `kernel + j * kernel_step`.
///
/// The forward pass is one such sum. The gradient of the input is one for each phase, that is for each remainder of a
/// position by the stride: only every so many taps reach a position, and the same ones for all positions of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Axis {
    /// Number of target positions.
    pub count: usize,
    /// First target position.
    pub origin: usize,
    /// Distance of target positions.
    pub step: usize,
    /// Extent of the target.
    pub target: usize,
    /// Extent of the source.
    pub source: usize,
    /// Distance in the source between the sums of neighbouring target positions.
    pub stride: usize,
    /// Number of taps.
    pub taps: usize,
    /// First tap's source position in the first sum.
    pub offset: isize,
    /// Distance of taps in the source.
    pub offset_step: usize,
    /// Weight of the first tap.
    pub kernel: usize,
    /// Distance of the weights of neighbouring taps.
    pub kernel_step: isize,
}

impl Axis {
    /// The forward pass.
    pub fn forward(window: &Window1d) -> Self {
        Self {
            count: window.output,
            origin: 0,
            step: 1,
            target: window.output,
            source: window.input,
            stride: window.stride,
            taps: window.kernel,
            offset: -(window.before as isize),
            offset_step: window.dilation,
            kernel: 0,
            kernel_step: 1,
        }
    }

    /// The phases of the gradient of the input, which together cover it.
    pub fn backward(window: &Window1d) -> Vec<Self> {
        let phase = |origin: usize| {
            // Tap k reaches this phase's position `origin` from output (origin + before - k dilation) / stride, where
            // that is whole. The last such tap comes first, so that source positions ascend.
            let shift = |k: usize| (origin + window.before) as isize - (k * window.dilation) as isize;
            let stride = window.stride as isize;
            let reaching: Vec<usize> = (0..window.kernel).rev().filter(|k| shift(*k) % stride == 0).collect();
            let period = reaching.windows(2).next().map_or(1, |pair| pair[0] - pair[1]);
            Self {
                count: (window.input - origin).div_ceil(window.stride),
                origin,
                step: window.stride,
                target: window.input,
                source: window.output,
                stride: 1,
                taps: reaching.len(),
                offset: reaching.first().map_or(0, |k| shift(*k) / stride),
                offset_step: period * window.dilation / window.stride,
                kernel: reaching.first().copied().unwrap_or(0),
                kernel_step: -(period as isize),
            }
        };
        (0..window.stride.min(window.input)).map(phase).collect()
    }

    /// Weight and source offset of each tap.
    pub fn each_tap(&self) -> impl Iterator<Item = (usize, isize)> + use<> {
        let this = *self;
        (0..this.taps as isize).map(move |j| {
            (this.kernel.wrapping_add_signed(j * this.kernel_step), this.offset + j * this.offset_step as isize)
        })
    }

    /// First and one past the last source position that target positions `first..end` read.
    pub fn reach(&self, first: usize, end: usize) -> (isize, isize) {
        let start = (first * self.stride) as isize + self.offset;
        let span = (end - 1 - first) * self.stride + self.taps.saturating_sub(1) * self.offset_step;
        (start, start + span as isize + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_reach_the_positions_that_the_forward_pass_read() {
        for (input, kernel, stride, dilation, before) in
            [(7, 3, 1, 1, 1), (9, 3, 2, 1, 0), (10, 5, 3, 2, 4), (8, 3, 2, 2, 2), (5, 1, 2, 1, 0), (2, 2, 3, 1, 1)]
        {
            let output = (input + 2 * before - (kernel - 1) * dilation - 1) / stride + 1;
            let window = Window1d { input, kernel, stride, dilation, before, output };
            let mut forward = Vec::new();
            for position in 0..output {
                for (k, offset) in Axis::forward(&window).each_tap() {
                    let source = (position * stride) as isize + offset;
                    if (0..input as isize).contains(&source) {
                        forward.push((source as usize, k, position));
                    }
                }
            }
            let mut backward = Vec::new();
            for phase in Axis::backward(&window) {
                for t in 0..phase.count {
                    for (k, offset) in phase.each_tap() {
                        let source = t as isize + offset;
                        if (0..output as isize).contains(&source) {
                            backward.push((t * phase.step + phase.origin, k, source as usize));
                        }
                    }
                }
            }
            forward.sort_unstable();
            backward.sort_unstable();
            assert_eq!(forward, backward, "{window:?}");
        }
    }
}
