// A pointwise operation that takes the place of its first input: output[i] = fused(output[i], i).
//
// binding 0      output: any shape, read and written as COUNT elements of type Element (f32, or vec4<f32> of the innermost
//                dimension)
// binding 1 + n  further input n of the operation, broadcast to the output; declared in package::fused
//
// An invocation owns one Element of the output; a workgroup owns 256 in a row.
// COUNT: number of Elements.
import package::constants::COUNT;
import package::fused::{Element, fused};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read_write> output: array<Element>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i < COUNT {
        output[i] = fused(output[i], i);
    }
}
