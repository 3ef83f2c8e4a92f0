//! The GPU kernels: a workgroup has some queries or keys of a head, and goes through all keys or queries.

use super::Heads;
use crate::kernel::gpu::{Binding, Candidate, Pass, Shader, spread_workgroups};

/// Queries or keys of a workgroup.
const OWN: usize = 64;

/// Columns of sums that the invocations of a workgroup have registers for: of results, and of gradients.
const RESULTS: usize = 128;
const GRADIENTS: usize = 64;

impl Heads {
    fn candidate(&self) -> String {
        format!("attention {OWN}x{}", self.head)
    }

    /// The pass in which a workgroup sums up so many `columns` at most.
    fn pass(&self, path: &'static str, columns: usize, bindings: Vec<Binding>) -> Pass {
        let Self { batch, tokens, heads, head } = *self;
        let slices = head.div_ceil(columns);
        let shader = Shader::file(path)
            .constant("BATCH", batch)
            .constant("TOKENS", tokens)
            .constant("HEADS", heads)
            .constant("HEAD", head)
            .constant("SLICES", slices)
            .constant("SCALE", self.scale() as f32)
            .feature("VECTOR", head.is_multiple_of(4))
            .feature("GRADIENT", columns == GRADIENTS);
        Pass { shader, bindings, workgroups: spread_workgroups(batch * heads * tokens.div_ceil(OWN) * slices) }
    }
}

pub(super) fn forward(heads: &Heads) -> Candidate {
    let bindings = vec![Binding::Input(0), Binding::Output(1), Binding::Output(0)];
    Candidate::single(heads.candidate(), heads.pass("attention/forward", RESULTS, bindings))
}

/// Inputs are the gradient of the results, the projection, the results and the logarithms of sums.
pub(super) fn gradient(heads: &Heads) -> Candidate {
    use Binding::{Input, Output, Scratch, ScratchRead};
    let queries = vec![Input(1), Input(0), Output(0), Input(3), Input(2), Scratch(0)];
    let keys_values = vec![Input(1), Input(0), Output(0), Input(3), ScratchRead(0)];
    Candidate {
        name: heads.candidate(),
        passes: vec![
            heads.pass("attention/grad_queries", GRADIENTS, queries),
            heads.pass("attention/grad_keys_values", GRADIENTS, keys_values),
        ],
        scratch: vec![heads.batch * heads.heads * heads.tokens],
    }
}
