//! Self-attention of several heads as one operation: `softmax(q k' / sqrt(head)) v` for each head, without the matrix of
//! scores in memory (Dao et al. 2022, FlashAttention).

mod cpu;
mod examples;
mod gpu;
mod product;
#[cfg(test)]
mod tests;

pub(super) use examples::examples;

use serde::{Deserialize, Serialize};

use crate::{
    graph::{Attributes, Backward, Graph, GraphError, Op, ShapeError, Value},
    kernel::{self, Signature},
    tensor::{DType, Real, TensorType},
};

/// The results `[batch, tokens, width]` of the projection `[batch, tokens, 3 * width]`; and, for the gradient, the logarithm
/// of the sum of each query's exponentiated scores, `[batch, heads, tokens]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attention {
    heads: usize,
}

/// Gradient of [`Attention`] with respect to the projection, of its output's gradient, the projection, its output and the
/// logarithms. The weights are computed again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttentionGrad {
    heads: usize,
}

/// The extents: a projection is `[batch, tokens, 3, heads, head]`, a result `[batch, tokens, heads, head]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heads {
    batch: usize,
    tokens: usize,
    heads: usize,
    head: usize,
}

impl Heads {
    fn of(heads: usize, qkv: &TensorType) -> Result<Self, ShapeError> {
        match qkv.shape[..] {
            [batch, tokens, width]
                if qkv.dtype == DType::F32 && qkv.elements() > 0 && heads > 0 && width.is_multiple_of(3 * heads) =>
            {
                Ok(Self { batch, tokens, heads, head: width / (3 * heads) })
            }
            _ => Err(ShapeError::new(format!(
                "expects f32[batch, tokens, 3 * width] with a width that {heads} heads divide, not {qkv}"
            ))),
        }
    }

    fn known(heads: usize, qkv: &TensorType) -> Self {
        Self::of(heads, qkv).expect("the shape rule accepted this type")
    }

    fn width(&self) -> usize {
        self.heads * self.head
    }

    /// What scores are multiplied with.
    fn scale(&self) -> f64 {
        (self.head as f64).powf(-0.5)
    }

    fn result_type(&self) -> TensorType {
        TensorType::f32([self.batch, self.tokens, self.width()])
    }

    fn log_sums_type(&self) -> TensorType {
        TensorType::f32([self.batch, self.heads, self.tokens])
    }

    /// Floating-point operations of `products` products of all queries with all keys, and of `others` for each score.
    fn flop(&self, products: usize, others: usize) -> u64 {
        (self.batch * self.heads * self.tokens * self.tokens * (2 * products * self.head + others)) as u64
    }
}

impl Op for Attention {
    fn name(&self) -> &str {
        "self_attention"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("self_attention", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [qkv] = inputs else { return Err(ShapeError::new("expects queries, keys and values as one input")) };
        let heads = Heads::of(self.heads, qkv)?;
        Ok(vec![heads.result_type(), heads.log_sums_type()])
    }

    fn gradient(&self, backward: &mut Backward<'_>) -> Result<Vec<Option<Value>>, GraphError> {
        let inputs = [backward.grad(), backward.inputs[0], backward.outputs[0], backward.outputs[1]];
        Ok(vec![Some(backward.graph.apply1(AttentionGrad { heads: self.heads }, &inputs)?)])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        Heads::known(self.heads, &signature.inputs[0]).flop(2, 5)
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        Heads::known(self.heads, &signature.inputs[0]).forward_scratch()
    }

    fn cpu<T: Real>(&self, args: kernel::cpu::Args<'_, T>) {
        Heads::known(self.heads, args.inputs.ty(0)).forward(args);
    }

    fn gpu(&self, signature: &Signature, _: &kernel::gpu::Limits) -> Vec<kernel::gpu::Candidate> {
        vec![gpu::forward(&Heads::known(self.heads, &signature.inputs[0]))]
    }
}

impl Op for AttentionGrad {
    fn name(&self) -> &str {
        "self_attention_grad"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("self_attention_grad", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [dy, qkv, y, log_sums] = inputs else {
            return Err(ShapeError::new("expects the gradient, the projection, the output and the logarithms of sums"));
        };
        let heads = Heads::of(self.heads, qkv)?;
        let (result, sums) = (heads.result_type(), heads.log_sums_type());
        if **dy != result || **y != result || **log_sums != sums {
            return Err(ShapeError::new(format!("expects {result}, {qkv}, {result} and {sums}")));
        }
        Ok(vec![(*qkv).clone()])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        Heads::known(self.heads, &signature.inputs[1]).flop(5, 7)
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        Heads::known(self.heads, &signature.inputs[1]).gradient_scratch()
    }

    fn cpu<T: Real>(&self, args: kernel::cpu::Args<'_, T>) {
        Heads::known(self.heads, args.inputs.ty(1)).gradient(args);
    }

    fn gpu(&self, signature: &Signature, _: &kernel::gpu::Limits) -> Vec<kernel::gpu::Candidate> {
        vec![gpu::gradient(&Heads::known(self.heads, &signature.inputs[1]))]
    }
}

impl Graph {
    /// Self-attention of several heads (Vaswani et al. 2017, equation 1): of `qkv` `[batch, tokens, 3 * width]`, each token's
    /// queries, keys and values side by side and in each of them the heads, `softmax(q k' / sqrt(width / heads)) v` of each
    /// head, side by side: `[batch, tokens, width]`. The scores are never in memory (Dao et al. 2022).
    ///
    /// # Errors
    /// If `qkv` is no such tensor of f32, or `heads` do not divide the width.
    pub fn attention(&mut self, qkv: Value, heads: usize) -> Result<Value, GraphError> {
        Ok(self.apply(Attention { heads }, &[qkv])?[0])
    }
}
