// How fast the device reads and writes memory: output[i] = input[i].
//
// binding 0  input   [COUNT] vec4<f32>
// binding 1  output  [COUNT] vec4<f32>
//
// An invocation owns one vector; a workgroup owns 256 in a row.
import package::constants::COUNT;
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i < COUNT {
        output[i] = input[i];
    }
}
