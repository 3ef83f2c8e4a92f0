//! Stochastic depth.

use super::{Builder, Dropout, Layer, Mode};
use crate::{
    graph::{GraphError, Value},
    tensor::Tensor,
};

/// Stochastic depth (Huang et al. 2016), for the end of a residual branch: in training the whole branch becomes 0 for a
/// sample with probability `rate`, and is scaled for the others to keep the mean.
#[derive(Clone, Copy, Debug)]
pub struct StochasticDepth {
    rate: f64,
}

impl StochasticDepth {
    /// Drops the branch of a sample with this probability, 0 to below 1.
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }
}

impl Layer for StochasticDepth {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        if builder.mode() == Mode::Inference || self.rate == 0.0 {
            return Ok(x);
        }
        let extents = builder.shape(x).iter().enumerate();
        let shape: Vec<usize> = extents.map(|(axis, &extent)| if axis == 0 { extent } else { 1 }).collect();
        let samples = shape.iter().product();
        let ones = builder.graph.constant(Tensor::f32(shape, vec![1.0; samples]));
        let factors = Dropout::new(self.rate).forward(builder, ones)?;
        builder.graph.multiply(x, factors)
    }

    fn kind(&self) -> &'static str {
        "dropout"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check,
        graph::Graph,
        nn::Parameters,
        tensor::{TensorType, random},
    };

    fn forward(graph: &mut Graph, mode: Mode, values: &[Value]) -> Result<Value, GraphError> {
        let mut parameters = Parameters::new(usize::MAX);
        let clock = values.get(1).copied();
        StochasticDepth::new(0.25).forward(&mut Builder::new(graph, &mut parameters, mode, clock), values[0])
    }

    #[test]
    fn whole_samples_are_dropped_and_the_mean_is_kept() {
        let (samples, each) = (4000, 6);
        let x = Tensor::f32([samples, 1, 2, 3], vec![1.0; samples * each]);
        let clock = Tensor::u32([2], vec![1, 2]);
        let y = check::evaluate(&[x, clock], |graph, v| forward(graph, Mode::Training, v));
        let y = y.as_f32().unwrap();
        let is_whole = |sample: &[f32]| sample.iter().all(|v| *v == sample[0] && (*v == 0.0 || *v == 1.0 / 0.75));
        assert!(y.chunks(each).all(is_whole));
        let dropped = y.chunks(each).filter(|sample| sample[0] == 0.0).count();
        assert!((900..1100).contains(&dropped), "{dropped} of {samples} dropped");
    }

    #[test]
    fn gradients() {
        let inputs = [random([5, 2, 3], 1), Tensor::u32([2], vec![7, 1])];
        check::gradients(&inputs, |graph, v| forward(graph, Mode::Training, v));
    }

    #[test]
    fn inference_leaves_the_branch_as_it_is() {
        let mut graph = Graph::new();
        let x = graph.feed("x", TensorType::f32([2, 3]));
        assert_eq!(forward(&mut graph, Mode::Inference, &[x]).unwrap(), x);
    }
}
