// Sums over segments: output[i] = sum of values[j] over the j of the segment that i is in, which for segment s are those
// with starts[s] <= j < starts[s + 1].
//
// binding 0  values  [N] f32
// binding 1  starts  [SEGMENTS + 1] u32, from 0 to N
// binding 2  output  [N] f32
//
// A workgroup of 256 owns a segment: each invocation adds every 256th value in order, then all are added as a tree.
import package::constants::SEGMENTS;
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let segment = min(workgroup(id, count), SEGMENTS);
    let first = starts[segment];
    let end = starts[min(segment + 1u, SEGMENTS)];
    var sum = 0.0;
    for (var i = first + local; i < end; i += 256u) {
        sum += values[i];
    }
    partial[local] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if local < half {
            partial[local] += partial[local + half];
        }
        workgroupBarrier();
    }
    for (var i = first + local; i < end; i += 256u) {
        output[i] = partial[0];
    }
}
