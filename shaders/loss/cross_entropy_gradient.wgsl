// Gradient of the cross-entropy of a softmax:
// logits_grad[row, c] = (mass * e^(logits[row, c] - m) / sum over d of e^(logits[row, d] - m) - target[row, c])
//                       * output_grad[row],
// m the row's maximum and mass the sum of its targets, which is 1 unless soft labels add up to something else.
//
// binding 0  logits       [ROWS, COLUMNS] f32
// binding 1  labels       [ROWS] u32, or with SOFT [ROWS, COLUMNS] f32; declared in lib/cross_entropy
// binding 2  output_grad  [ROWS] f32
// binding 3  logits_grad  [ROWS, COLUMNS] f32
//
// A workgroup of 256 owns 256 / LANES rows; each of a row's LANES invocations takes every LANES-th column, and their
// results meet as a tree. SMOOTHING: share of the uniform distribution in the targets.
import package::constants::{ROWS, COLUMNS, LANES};
import package::lib::cross_entropy::target_of;
import package::lib::index::workgroup;
import package::lib::row::{row_max, row_sum};

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> output_grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> logits_grad: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = workgroup(id, count) * (256u / LANES) + local / LANES;
    let lane = local % LANES;
    let end = select(0u, COLUMNS, row < ROWS);

    var largest = -3.4028234e38;
    for (var c = lane; c < end; c += LANES) {
        largest = max(largest, logits[row * COLUMNS + c]);
    }
    largest = row_max(largest, local);
    var exponentials = 0.0;
    var mass = 0.0;
    for (var c = lane; c < end; c += LANES) {
        exponentials += exp(logits[row * COLUMNS + c] - largest);
        @if(SOFT) mass += target_of(row, c);
    }
    exponentials = row_sum(exponentials, local);
    @if(SOFT) mass = row_sum(mass, local);
    @if(!SOFT) mass = 1.0;
    for (var c = lane; c < end; c += LANES) {
        let at = row * COLUMNS + c;
        let softmax = exp(logits[at] - largest) / exponentials;
        logits_grad[at] = (mass * softmax - target_of(row, c)) * output_grad[row];
    }
}
