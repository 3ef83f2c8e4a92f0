// Cross-entropy of a softmax: output[row] = sum over c of
// target[row, c] * (log(sum over d of e^(logits[row, d] - m)) - (logits[row, c] - m)), m the row's maximum.
//
// binding 0  logits  [ROWS, COLUMNS] f32
// binding 1  labels  [ROWS] u32, or with SOFT [ROWS, COLUMNS] f32; declared in lib/cross_entropy
// binding 2  output  [ROWS] f32: NaN where a label is not below COLUMNS
//
// A workgroup of 256 owns 256 / LANES rows; each of a row's LANES invocations takes every LANES-th column, and their
// results meet as a tree. SMOOTHING: share of the uniform distribution in the targets.
import package::constants::{ROWS, COLUMNS, LANES};
import package::lib::cross_entropy::{labels, target_of};
import package::lib::index::workgroup;
import package::lib::row::{row_max, row_sum};

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

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
    for (var c = lane; c < end; c += LANES) {
        exponentials += exp(logits[row * COLUMNS + c] - largest);
    }
    let log_sum = log(row_sum(exponentials, local));
    var loss = 0.0;
    for (var c = lane; c < end; c += LANES) {
        let weight = target_of(row, c);
        // Not 0 * infinity where a class is impossible.
        loss += select(0.0, weight * (log_sum - (logits[row * COLUMNS + c] - largest)), weight != 0.0);
    }
    loss = row_sum(loss, local);
    if lane == 0u && row < ROWS {
        // The bits of a NaN: WGSL has no literal for it.
        @if(!SOFT) loss = select(bitcast<f32>(labels[row] | 0x7fc00000u), loss, labels[row] < COLUMNS);
        output[row] = loss;
    }
}
