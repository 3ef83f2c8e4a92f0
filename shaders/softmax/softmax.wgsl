// Softmax of each row: output[row, c] = e^(input[row, c] - m) / sum over d of e^(input[row, d] - m), m the row's
// maximum; with LOG its logarithm, input[row, c] - m - log(sum over d of e^(input[row, d] - m)).
//
// binding 0  input   [ROWS, COLUMNS] f32
// binding 1  output  [ROWS, COLUMNS] f32
//
// A workgroup of 256 owns 256 / LANES rows; each of a row's LANES invocations takes every LANES-th column, and their
// results meet as lib/row says.
import package::constants::{ROWS, COLUMNS, LANES};
import package::lib::index::workgroup;
import package::lib::row::{row_max, row_sum};
import package::lib::subgroup::number;

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

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
        largest = max(largest, input[row * COLUMNS + c]);
    }
    largest = row_max(largest, local, size);
    var exponentials = 0.0;
    for (var c = lane; c < end; c += LANES) {
        exponentials += exp(input[row * COLUMNS + c] - largest);
    }
    exponentials = row_sum(exponentials, local, size);
    for (var c = lane; c < end; c += LANES) {
        let shifted = input[row * COLUMNS + c] - largest;
        @if(LOG) output[row * COLUMNS + c] = shifted - log(exponentials);
        @if(!LOG) output[row * COLUMNS + c] = exp(shifted) / exponentials;
    }
}
