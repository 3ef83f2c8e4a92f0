//! Sums over the segments of a vector.

use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Op, ShapeError},
    kernel::{Signature, cpu, gpu},
    tensor::{DType, Real, TensorType},
};

/// `output[i]` is the sum of the `values` in the segment of `i`. Inputs: values f32 `[n]`, and where each segment begins, u32
/// `[segments + 1]`: 0 first, ascending, and n last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::ops) struct SegmentSums {}

impl Op for SegmentSums {
    fn name(&self) -> &str {
        "segment_sums"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("segment_sums", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        match inputs {
            [values, starts]
                if values.dtype == DType::F32
                    && starts.dtype == DType::U32
                    && values.shape.rank() == 1
                    && starts.shape.rank() == 1
                    && starts.elements() > 1 =>
            {
                Ok(vec![(*values).clone()])
            }
            _ => Err(ShapeError::new("expects values f32[n] and starts u32[segments + 1]")),
        }
    }

    fn flop(&self, signature: &Signature) -> u64 {
        signature.outputs[0].elements() as u64
    }

    fn cpu<T: Real>(&self, mut args: cpu::Args<'_, T>) {
        let (values, starts) = (args.inputs.float(0), args.inputs.uint(1));
        let output = args.outputs.float(0);
        for segment in starts.windows(2) {
            let segment = segment[0] as usize..segment[1] as usize;
            let sum: T = values[segment.clone()].iter().copied().sum();
            output[segment].fill(sum);
        }
    }

    fn gpu(&self, signature: &Signature, _: &gpu::Limits) -> Vec<gpu::Candidate> {
        use gpu::Binding::{Input, Output};
        let segments = signature.inputs[1].elements() - 1;
        let pass = gpu::Pass {
            shader: gpu::Shader::file("reduce/segments").constant("SEGMENTS", segments),
            bindings: vec![Input(0), Input(1), Output(0)],
            workgroups: gpu::spread_workgroups(segments),
        };
        vec![gpu::Candidate::single("segments", pass)]
    }
}
