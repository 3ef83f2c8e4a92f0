// Depthwise convolution: output[m, c] = fused(sum over taps of source[m's window at tap, c] weight[tap, c]).
// With BACKWARD it is the gradient of the input: the source is the gradient of the output and z counts the phases (see
// axis.wgsl).
//
// binding 0      source  [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, CHANNELS] f32 or f16
// binding 1      weight  [KERNEL_HEIGHT, KERNEL_WIDTH, 1, CHANNELS] f32 or f16
// binding 2      output  [BATCH, TARGET_HEIGHT, TARGET_WIDTH, CHANNELS] f32 or f16
// binding 3 + i  additional input i of the epilogue
//
// An invocation owns one Element (f32, or vec4<f32> of four channels) of ROWS neighbouring positions of a row of the
// image, so that a weight is loaded once for all of them; a workgroup owns 256 such in a row, channels first.
//
// CHANNELS: number of channels. VECTOR: Elements are vectors.
import package::constants::{BATCH, CHANNELS, ROWS, KERNEL_WIDTH};
import package::conv2d::axis::{Axis, Corner, rows_of, columns_of, corner_of, reach, target_of, inside};
import package::fused::{Element, Stored, fused};
import package::lib::element::HeldElement;
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> source: array<HeldElement>;
@group(0) @binding(1) var<storage, read> weight: array<HeldElement>;
@group(0) @binding(2) var<storage, read_write> output: array<Stored>;

@if(VECTOR) const UNITS: u32 = CHANNELS / 4u;
@if(!VECTOR) const UNITS: u32 = CHANNELS;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = rows_of(id.z);
    let columns = columns_of(id.z);
    let positions = BATCH * rows.count * columns.count;
    let blocks = (columns.count + ROWS - 1u) / ROWS;
    let i = linear(id, local, count);
    let channel = i % UNITS;
    let line = i / UNITS / blocks;
    let column = i / UNITS % blocks * ROWS;
    if line >= BATCH * rows.count {
        return;
    }
    let first = line * columns.count + column;
    let corner = corner_of(first, positions, rows, columns, UNITS);

    var sums: array<Element, ROWS>;
    for (var m = 0u; m < ROWS; m++) {
        sums[m] = Element(0.0);
    }
    for (var tap_row = 0u; tap_row < rows.taps; tap_row++) {
        let row = corner.row + i32(tap_row) * rows.offset_step;
        let kernel_row = u32(rows.kernel + i32(tap_row) * rows.kernel_step);
        for (var tap_column = 0u; tap_column < columns.taps; tap_column++) {
            let kernel_column = u32(columns.kernel + i32(tap_column) * columns.kernel_step);
            let w = Element(weight[(kernel_row * KERNEL_WIDTH + kernel_column) * UNITS + channel]);
            let place = corner.place + reach(tap_row, tap_column, rows, columns, UNITS) + channel;
            for (var m = 0u; m < ROWS; m++) {
                let at = corner.column + i32(m) * columns.stride + i32(tap_column) * columns.offset_step;
                // What is outside reads the first element instead, so that no read waits for a branch.
                let within = inside(row, at);
                let value = Element(source[select(0u, place + m * u32(columns.stride) * UNITS, within)]);
                sums[m] = fma(select(Element(0.0), value, within), w, sums[m]);
            }
        }
    }
    for (var m = 0u; m < ROWS; m++) {
        if column + m < columns.count {
            let to = target_of(first + m, rows, columns) * UNITS + channel;
            output[to] = Stored(fused(sums[m], to));
        }
    }
}
