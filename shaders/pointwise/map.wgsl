// A chain of pointwise operations: output[i] = fused(i), where fused is the chain's expression.
//
// binding 0      output: any shape, read as COUNT elements of type Stored (f32 or f16, or a vec4 of these of the innermost
//                dimension); with BYTES signed bytes, four to a word
// binding 1 + n  input n of the chain, broadcast to the output; declared in package::fused
//
// An invocation owns one Element of the output, with BYTES one word; a workgroup owns 256 in a row.
// COUNT: number of Elements. VECTOR: with BYTES, an Element is four bytes.
import package::constants::COUNT;
import package::fused::{Stored, fused};
import package::lib::bytes::word_of;
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read_write> output: array<Stored>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    @if(!BYTES)
    if i < COUNT {
        output[i] = Stored(fused(i));
    }
    @if(BYTES && VECTOR)
    if i < COUNT {
        output[i] = word_of(fused(i));
    }
    @if(BYTES && !VECTOR)
    if i * 4u < COUNT {
        var bytes: vec4<f32>;
        for (var lane = 0u; lane < min(4u, COUNT - i * 4u); lane++) {
            bytes[lane] = fused(i * 4u + lane);
        }
        output[i] = word_of(bytes);
    }
}
