// The second pass of a matrix product whose sums were split: y[i] = fused(sum over s of partial[s, i], i).
//
// binding 0      partial  [SPLITS, COUNT] Elements (f32, or vec4<f32> of four neighbours)
// binding 1      y        [COUNT] Elements
// binding 2 + n  input 1 + n of the epilogue, broadcast to y; declared in package::fused
//
// An invocation owns one Element and adds its partial sums in order.
import package::constants::{COUNT, SPLITS};
import package::fused::{Element, Stored, fused};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> partial: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i < COUNT {
        var sum = partial[i];
        for (var split = 1u; split < SPLITS; split++) {
            sum += partial[split * COUNT + i];
        }
        y[i] = Stored(fused(sum, i));
    }
}
