// Layer norm: output[row, c] = (input[row, c] - mean[row]) * inv_std[row] * gamma[c] + beta[c], where mean is the row's
// mean and inv_std = 1 / sqrt(the row's biased variance + EPSILON), taken of the differences to the mean.
//
// binding 0  input    [ROWS, COLUMNS] f32
// binding 1  gamma    [COLUMNS] f32
// binding 2  beta     [COLUMNS] f32
// binding 3  output   [ROWS, COLUMNS] f32
// binding 4  mean     [ROWS] f32
// binding 5  inv_std  [ROWS] f32
//
// A workgroup of 256 owns 256 / LANES rows; each of a row's LANES invocations takes every LANES-th column, and their
// sums meet as lib/row says.
import package::constants::{ROWS, COLUMNS, LANES, EPSILON};
import package::lib::index::workgroup;
import package::lib::row::row_sum;
import package::lib::subgroup::number;

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
@group(0) @binding(2) var<storage, read> beta: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> inv_std: array<f32>;

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

    var sum = 0.0;
    for (var c = lane; c < end; c += LANES) {
        sum += input[row * COLUMNS + c];
    }
    let row_mean = row_sum(sum, local, size) / f32(COLUMNS);
    var squares = 0.0;
    for (var c = lane; c < end; c += LANES) {
        let deviation = input[row * COLUMNS + c] - row_mean;
        squares += deviation * deviation;
    }
    let row_inv_std = 1.0 / sqrt(row_sum(squares, local, size) / f32(COLUMNS) + EPSILON);
    for (var c = lane; c < end; c += LANES) {
        let at = row * COLUMNS + c;
        output[at] = (input[at] - row_mean) * row_inv_std * gamma[c] + beta[c];
    }
    if lane == 0u && row < ROWS {
        mean[row] = row_mean;
        inv_std[row] = row_inv_std;
    }
}
