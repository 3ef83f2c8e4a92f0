// A pointwise operation that takes the place of its first input: output[i] = fused(output[i], i).
//
// binding 0      output: any shape, read and written as COUNT elements of type Stored (f32 or f16, or a vec4 of these
//                of the innermost dimension)
// binding 1 + n  further input n of the operation, broadcast to the output; declared in package::fused
//
// An invocation owns one Element of the output; a workgroup owns 256 in a row.
// COUNT: number of Elements.
import package::constants::COUNT;
import package::fused::{Element, Stored, fused};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read_write> output: array<Stored>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i < COUNT {
        output[i] = Stored(fused(Element(output[i]), i));
    }
}
