//! Products between scratch buffers.

use super::{Product, gpu};
use crate::{
    kernel::{
        Signature,
        gpu::{Binding, Candidate, Limits},
    },
    tensor::TensorType,
};

/// Kernels of a product as a part of another operation: the factors are scratch buffers `a` and `b` and the result `y`.
/// What scratch memory the kernel itself needs is numbered from `free` on.
pub(in crate::ops) fn between_scratch(
    product: &Product,
    [a, b, y]: [usize; 3],
    free: usize,
    limits: &Limits,
) -> Vec<Candidate> {
    let Product { batch, m, n, k, transpose_a, transpose_b } = *product;
    let stored = |rows, columns, transposed| {
        TensorType::f32(if transposed { [batch, columns, rows] } else { [batch, rows, columns] })
    };
    let signature = Signature {
        inputs: vec![stored(m, k, transpose_a), stored(k, n, transpose_b)],
        outputs: vec![stored(m, n, false)],
    };
    let place = |binding: &mut Binding| {
        *binding = match *binding {
            Binding::Input(0) => Binding::ScratchRead(a),
            Binding::Input(_) => Binding::ScratchRead(b),
            Binding::Output(_) => Binding::Scratch(y),
            Binding::OutputRead(_) => Binding::ScratchRead(y),
            Binding::Scratch(at) => Binding::Scratch(free + at),
            Binding::ScratchRead(at) => Binding::ScratchRead(free + at),
        };
    };
    let mut kernels = gpu::candidates(product, None, &signature, limits);
    kernels.iter_mut().flat_map(|kernel| &mut kernel.passes).flat_map(|pass| &mut pass.bindings).for_each(place);
    kernels
}
