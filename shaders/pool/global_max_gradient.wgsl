// Gradient of global max pooling: input_grad[n, p, c] = output_grad[n, c] where p = argmax[n, c], else 0.
//
// binding 0  output_grad  [BATCH, CHANNELS] f32 or f16
// binding 1  argmax       [BATCH, CHANNELS] u32
// binding 2  input_grad   [BATCH, POSITIONS, CHANNELS] f32 or f16
//
// An invocation owns one Element of input_grad (four neighbouring channels where VECTOR is on), a workgroup 256 in a
// row. COUNT: number of Elements of input_grad. CHANNELS counts Elements too.
import package::constants::{COUNT, POSITIONS, CHANNELS};
import package::lib::element::{HeldElement, Word};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> output_grad: array<HeldElement>;
@group(0) @binding(1) var<storage, read> argmax: array<Word>;
@group(0) @binding(2) var<storage, read_write> input_grad: array<HeldElement>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i < COUNT {
        let at = i / (CHANNELS * POSITIONS) * CHANNELS + i % CHANNELS;
        let position = Word(i / CHANNELS % POSITIONS);
        input_grad[i] = select(HeldElement(0.0), output_grad[at], argmax[at] == position);
    }
}
