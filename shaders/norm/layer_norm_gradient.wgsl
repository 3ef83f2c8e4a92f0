// Gradient of layer norm with respect to its input: with g[c] = output_grad[row, c] * gamma[c] and
// z[c] = (input[row, c] - mean[row]) * inv_std[row],
// input_grad[row, c] = inv_std[row] * (g[c] - mean over d of g[d] - z[c] * mean over d of g[d] * z[d]).
//
// binding 0  output_grad  [ROWS, COLUMNS] f32
// binding 1  input        [ROWS, COLUMNS] f32
// binding 2  mean         [ROWS] f32
// binding 3  inv_std      [ROWS] f32
// binding 4  gamma        [COLUMNS] f32
// binding 5  input_grad   [ROWS, COLUMNS] f32
//
// A workgroup of 256 owns 256 / LANES rows; each of a row's LANES invocations takes every LANES-th column, and their
// sums meet as lib/row says.
import package::constants::{ROWS, COLUMNS, LANES};
import package::lib::index::workgroup;
import package::lib::row::row_sum;
import package::lib::subgroup::number;

@group(0) @binding(0) var<storage, read> output_grad: array<f32>;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> inv_std: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> input_grad: array<f32>;

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
    var row_mean = 0.0;
    var row_inv_std = 0.0;
    if row < ROWS {
        row_mean = mean[row];
        row_inv_std = inv_std[row];
    }

    var plain = 0.0;
    var scaled = 0.0;
    for (var c = lane; c < end; c += LANES) {
        let at = row * COLUMNS + c;
        let g = output_grad[at] * gamma[c];
        plain += g;
        scaled += g * ((input[at] - row_mean) * row_inv_std);
    }
    plain = row_sum(plain, local, size) / f32(COLUMNS);
    scaled = row_sum(scaled, local, size) / f32(COLUMNS);
    for (var c = lane; c < end; c += LANES) {
        let at = row * COLUMNS + c;
        let z = (input[at] - row_mean) * row_inv_std;
        input_grad[at] = row_inv_std * (output_grad[at] * gamma[c] - plain - z * scaled);
    }
}
