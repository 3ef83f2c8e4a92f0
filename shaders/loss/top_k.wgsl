// Whether a sample is recognised: output[row] = 1 where fewer than K classes come before the label, else 0. Class c
// comes before label l where logits[c] > logits[l], where they are equal and c < l, and where either is NaN.
//
// binding 0  logits  [ROWS, COLUMNS] f32
// binding 1  labels  [ROWS] u32; a label that is not below COLUMNS is not recognised
// binding 2  output  [ROWS] f32
//
// A workgroup of 256 owns 256 / LANES rows; each of a row's LANES invocations counts every LANES-th class, and the
// counts, which are exact in f32 below 2^24, meet as lib/row says.
import package::constants::{ROWS, COLUMNS, LANES, K};
import package::lib::element::is_nan;
import package::lib::index::workgroup;
import package::lib::row::row_sum;
import package::lib::subgroup::number;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

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
    var before = 0.0;
    if row < ROWS && labels[row] < COLUMNS {
        let label = labels[row];
        let score = logits[row * COLUMNS + label];
        for (var c = lane; c < COLUMNS; c += LANES) {
            let other = logits[row * COLUMNS + c];
            let is_before = other > score || (other == score && c < label) || is_nan(other) || is_nan(score);
            before += select(0.0, 1.0, is_before);
        }
    }
    before = row_sum(before, local, size);
    if lane == 0u && row < ROWS {
        output[row] = select(0.0, 1.0, labels[row] < COLUMNS && before < f32(K));
    }
}
