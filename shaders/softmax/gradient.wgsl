// Gradient of a softmax y of each row, with dy its output's gradient:
// input_grad[row, c] = y[row, c] * (dy[row, c] - sum over d of dy[row, d] * y[row, d]);
// with LOG, where y is a log-softmax: input_grad[row, c] = dy[row, c] - e^y[row, c] * sum over d of dy[row, d].
//
// binding 0  output_grad  [ROWS, COLUMNS] f32: dy
// binding 1  output       [ROWS, COLUMNS] f32: y
// binding 2  input_grad   [ROWS, COLUMNS] f32
//
// A workgroup of 256 owns 256 / LANES rows; each of a row's LANES invocations takes every LANES-th column, and their
// results meet as lib/row says.
import package::constants::{ROWS, COLUMNS, LANES};
import package::lib::index::workgroup;
import package::lib::row::row_sum;
import package::lib::subgroup::number;

@group(0) @binding(0) var<storage, read> output_grad: array<f32>;
@group(0) @binding(1) var<storage, read> output: array<f32>;
@group(0) @binding(2) var<storage, read_write> input_grad: array<f32>;

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
        let at = row * COLUMNS + c;
        @if(LOG) sum += output_grad[at];
        @if(!LOG) sum += output_grad[at] * output[at];
    }
    sum = row_sum(sum, local, size);
    for (var c = lane; c < end; c += LANES) {
        let at = row * COLUMNS + c;
        @if(LOG) input_grad[at] = output_grad[at] - exp(output[at]) * sum;
        @if(!LOG) input_grad[at] = output[at] * (output_grad[at] - sum);
    }
}
