// The gradient of a grouped convolution's weight:
//     output[split, tap, c, o] = sum over positions p of the split of x[p's window at tap, group(o) * K + c] dy[p, o].
//
// binding 0  x       [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, GROUPS * K] f32
// binding 1  dy      [BATCH, TARGET_HEIGHT, TARGET_WIDTH, GROUPS * N] f32
// binding 2  output  [SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, K, GROUPS * N] f32
//
// An invocation owns one element of the output: it walks the image rows of its split, CHUNK of them, and of each the
// columns whose window lies inside of the image. A workgroup owns 256 elements in a row.
//
// K, N: input and output channels of a group.
import package::constants::{
    BATCH, K, N, GROUPS, CHUNK, SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH, DILATION_HEIGHT,
    DILATION_WIDTH, BEFORE_HEIGHT, BEFORE_WIDTH, SOURCE_HEIGHT, SOURCE_WIDTH, TARGET_HEIGHT, TARGET_WIDTH,
};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

const CHANNELS: u32 = GROUPS * K;
const FILTERS: u32 = GROUPS * N;
const ELEMENTS: u32 = KERNEL_HEIGHT * KERNEL_WIDTH * K * FILTERS;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    let split = i / ELEMENTS;
    if split >= SPLITS {
        return;
    }
    let element = i % ELEMENTS;
    let o = element % FILTERS;
    let channel = o / N * K + element / FILTERS % K;
    let tap = element / (FILTERS * K);
    let row_offset = i32(tap / KERNEL_WIDTH * DILATION_HEIGHT) - i32(BEFORE_HEIGHT);
    let column_offset = i32(tap % KERNEL_WIDTH * DILATION_WIDTH) - i32(BEFORE_WIDTH);
    // Columns j with 0 <= j * STRIDE_WIDTH + column_offset < SOURCE_WIDTH.
    let first = u32(max(-column_offset + i32(STRIDE_WIDTH) - 1, 0)) / STRIDE_WIDTH;
    let past = u32(max(i32(SOURCE_WIDTH) - column_offset + i32(STRIDE_WIDTH) - 1, 0)) / STRIDE_WIDTH;
    let end = min(past, TARGET_WIDTH);

    var sum = 0.0;
    let last = min((split + 1u) * CHUNK, BATCH * TARGET_HEIGHT);
    for (var line = split * CHUNK; line < last; line++) {
        let image = line / TARGET_HEIGHT;
        let row = i32(line % TARGET_HEIGHT * STRIDE_HEIGHT) + row_offset;
        if u32(row) >= SOURCE_HEIGHT {
            continue;
        }
        let row_start = i32((image * SOURCE_HEIGHT + u32(row)) * SOURCE_WIDTH) + column_offset;
        // Summed by itself, so that the error grows with the row's length and the number of rows, not their product.
        var of_row = 0.0;
        for (var j = first; j < end; j++) {
            let pixel = u32(row_start + i32(j * STRIDE_WIDTH));
            of_row = fma(x[pixel * CHANNELS + channel], dy[(line * TARGET_WIDTH + j) * FILTERS + o], of_row);
        }
        sum += of_row;
    }
    output[i] = sum;
}
