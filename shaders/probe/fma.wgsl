// How fast the device multiplies and adds: output[i] = the sum of twelve chains x = fma(x, FACTOR, OFFSET), ROUNDS times,
// that begin at 0 to 11 and at start[i].
//
// binding 0  start   [COUNT] f32
// binding 1  output  [COUNT] f32
//
// An invocation owns one element and its chains, which depend on nothing else; a workgroup owns 256 in a row. FACTOR is
// below 1, so that the chains stay finite. ROUNDS is a multiple of 8.
import package::constants::{COUNT, FACTOR, OFFSET, ROUNDS};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> start: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i >= COUNT {
        return;
    }
    var a = start[i] + vec4<f32>(0.0, 1.0, 2.0, 3.0);
    var b = start[i] + vec4<f32>(4.0, 5.0, 6.0, 7.0);
    var c = start[i] + vec4<f32>(8.0, 9.0, 10.0, 11.0);
    let factor = vec4<f32>(FACTOR);
    let offset = vec4<f32>(OFFSET);
    for (var round = 0u; round < ROUNDS; round += 8u) {
        a = fma(a, factor, offset); b = fma(b, factor, offset); c = fma(c, factor, offset);
        a = fma(a, factor, offset); b = fma(b, factor, offset); c = fma(c, factor, offset);
        a = fma(a, factor, offset); b = fma(b, factor, offset); c = fma(c, factor, offset);
        a = fma(a, factor, offset); b = fma(b, factor, offset); c = fma(c, factor, offset);
        a = fma(a, factor, offset); b = fma(b, factor, offset); c = fma(c, factor, offset);
        a = fma(a, factor, offset); b = fma(b, factor, offset); c = fma(c, factor, offset);
        a = fma(a, factor, offset); b = fma(b, factor, offset); c = fma(c, factor, offset);
        a = fma(a, factor, offset); b = fma(b, factor, offset); c = fma(c, factor, offset);
    }
    let sum = a + b + c;
    output[i] = (sum.x + sum.y) + (sum.z + sum.w);
}
