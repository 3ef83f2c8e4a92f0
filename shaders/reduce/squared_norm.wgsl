// Sums of squares: output[g] = sum of input[i]^2 over chunk g of CHUNK Elements.
//
// binding 0  input   any shape, read as COUNT Elements (f32, or four in a row where VECTOR is on)
// binding 1  output  [number of workgroups] f32
//
// A workgroup of 256 owns one chunk: each invocation adds every 256th Element in order, then the invocations' sums
// are added as a tree, so the order of additions is fixed.
import package::constants::{COUNT, CHUNK, CHUNKS};
import package::lib::element::Element;
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> input: array<Element>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let chunk = workgroup(id, count);
    var sums = Element(0.0);
    let end = min((chunk + 1u) * CHUNK, COUNT);
    for (var i = chunk * CHUNK + local; i < end; i += 256u) {
        sums += input[i] * input[i];
    }
    @if(VECTOR) { partial[local] = (sums.x + sums.y) + (sums.z + sums.w); }
    @if(!VECTOR) { partial[local] = sums; }
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if local < half {
            partial[local] += partial[local + half];
        }
        workgroupBarrier();
    }
    if local == 0u && chunk < CHUNKS {
        output[chunk] = partial[0];
    }
}
