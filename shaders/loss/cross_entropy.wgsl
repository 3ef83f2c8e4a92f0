// Cross-entropy of a softmax, with m the row's maximum and s = sum over d of e^(logits[row, d] - m):
// losses[row] = sum over c of target[row, c] * (log(s) - (logits[row, c] - m)),
// target[row, c] = (1 - SMOOTHING) * label[row, c] + SMOOTHING / COLUMNS, where label is one-hot unless SOFT is on.
// With GRADIENT also its gradient:
// logits_grad[row, c] = (mass * e^(logits[row, c] - m) / s - target[row, c]) * losses_grad[row],
// where mass is the sum of the row's targets: 1 unless soft labels add up to something else.
//
// binding 0  logits       [ROWS, COLUMNS] f32
// binding 1  labels       [ROWS] u32, or with SOFT [ROWS, COLUMNS] f32
// binding 2  losses       [ROWS] f32: NaN where a label is not below COLUMNS
// binding 3  losses_grad  [ROWS] f32, with GRADIENT
// binding 4  logits_grad  [ROWS, COLUMNS] f32, with GRADIENT
//
// A workgroup of 256 owns 256 / LANES rows; each of a row's LANES invocations takes every LANES-th column, and their
// results meet as lib/row says. SMOOTHING: share of the uniform distribution in the targets.
import package::constants::{ROWS, COLUMNS, LANES, SMOOTHING};
import package::lib::index::workgroup;
import package::lib::row::{row_max, row_sum};
import package::lib::subgroup::number;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@if(SOFT) @group(0) @binding(1) var<storage, read> labels: array<f32>;
@if(!SOFT) @group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;
@if(GRADIENT) @group(0) @binding(3) var<storage, read> losses_grad: array<f32>;
@if(GRADIENT) @group(0) @binding(4) var<storage, read_write> logits_grad: array<f32>;

fn target_of(row: u32, c: u32) -> f32 {
    @if(SOFT) let label = labels[row * COLUMNS + c];
    @if(!SOFT) let label = select(0.0, 1.0, labels[row] == c);
    return (1.0 - SMOOTHING) * label + SMOOTHING / f32(COLUMNS);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @if(SUBGROUPS) @builtin(subgroup_size) size: u32,
    @if(SUBGROUPS) @builtin(subgroup_invocation_id) place: u32,
) {
    @if(!SUBGROUPS) let size = 1u;
    @if(!SUBGROUPS) let place = 0u;
    let local = number(index, size, place);
    let row = workgroup(id, count) * (256u / LANES) + local / LANES;
    let lane = local % LANES;
    let end = select(0u, COLUMNS, row < ROWS);

    var largest = -3.4028234e38;
    for (var c = lane; c < end; c += LANES) {
        largest = max(largest, logits[row * COLUMNS + c]);
    }
    largest = row_max(largest, local, size);
    var exponentials = 0.0;
    for (var c = lane; c < end; c += LANES) {
        exponentials += exp(logits[row * COLUMNS + c] - largest);
    }
    exponentials = row_sum(exponentials, local, size);

    let log_sum = log(exponentials);
    var loss = 0.0;
    var mass = 0.0;
    for (var c = lane; c < end; c += LANES) {
        let weight = target_of(row, c);
        // Not 0 * infinity where a class is impossible.
        loss += select(0.0, weight * (log_sum - (logits[row * COLUMNS + c] - largest)), weight != 0.0);
        mass += weight;
    }
    loss = row_sum(loss, local, size);
    if lane == 0u && row < ROWS {
        // The bits of a NaN: WGSL has no literal for it.
        @if(!SOFT) loss = select(bitcast<f32>(labels[row] | 0x7fc00000u), loss, labels[row] < COLUMNS);
        losses[row] = loss;
    }
    @if(GRADIENT) {
        @if(SOFT) mass = row_sum(mass, local, size);
        @if(!SOFT) mass = 1.0;
        for (var c = lane; c < end; c += LANES) {
            let at = row * COLUMNS + c;
            let softmax = exp(logits[at] - largest) / exponentials;
            logits_grad[at] = (mass * softmax - target_of(row, c)) * losses_grad[row];
        }
    }
}
