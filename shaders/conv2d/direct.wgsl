// Convolution without workgroup memory, of grouped channels too:
//     output[m, o] = fused(sum over tap, c of source[m's window at tap, group(o) * K + c] weight[tap, c, o]).
// With BACKWARD it is the gradient of the input: the source is the gradient of the output, the weight is transposed, and z
// counts the phases (see axis.wgsl).
//
// binding 0      source  [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, GROUPS * K] f32
// binding 1      weight  [KERNEL_HEIGHT, KERNEL_WIDTH, K, GROUPS * N] f32, with BACKWARD
//                        [KERNEL_HEIGHT, KERNEL_WIDTH, GROUPS * K, N]
// binding 2      output  [BATCH, TARGET_HEIGHT, TARGET_WIDTH, GROUPS * N] f32
// binding 3 + i  additional input i of the epilogue
//
// An invocation owns ROWS neighbouring positions and 4 * VECTORS neighbouring channels of one group; a workgroup 4 such
// blocks of channels for each of 8 blocks of positions.
//
// K, N: source and target channels of a group. VECTOR_N: N is a multiple of 4.
import package::constants::{BATCH, K, N, GROUPS, ROWS, VECTORS, KERNEL_WIDTH};
import package::conv2d::axis::{Axis, Corner, rows_of, columns_of, corner_of, reach, target_of, inside};
import package::fused::{Element, fused};
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> source: array<f32>;
@if(VECTOR_N) @group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@if(!VECTOR_N) @group(0) @binding(1) var<storage, read> weight: array<f32>;
@if(VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
@if(!VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<f32>;

const COLUMNS: u32 = 4u * VECTORS;
const BLOCKS_N: u32 = (N + COLUMNS - 1u) / COLUMNS;

// Place of the weights of one tap and source channel for target channels from n on.
fn place_of_weight(tap: u32, group: u32, channel: u32, n: u32) -> u32 {
    @if(!BACKWARD) { return (tap * K + channel) * (GROUPS * N) + group * N + n; }
    @if(BACKWARD) { return ((tap * GROUPS + group) * K + channel) * N + n; }
}

// Four of them. Channels past the edge read what others read, because what comes of them is not stored.
fn load_weight(tap: u32, group: u32, channel: u32, n: u32) -> vec4<f32> {
    @if(VECTOR_N) { return weight[place_of_weight(tap, group, channel, min(n, N - 4u)) / 4u]; }
    @if(!VECTOR_N) {
        let last = N - 1u;
        let first = place_of_weight(tap, group, channel, 0u);
        return vec4<f32>(
            weight[first + min(n, last)],
            weight[first + min(n + 1u, last)],
            weight[first + min(n + 2u, last)],
            weight[first + min(n + 3u, last)],
        );
    }
}

@if(VECTOR_N)
fn store(pixel: u32, group: u32, n: u32, value: vec4<f32>) {
    if n < N {
        let at = (pixel * (GROUPS * N) + group * N + n) / 4u;
        output[at] = fused(value, at);
    }
}

@if(!VECTOR_N)
fn store(pixel: u32, group: u32, n: u32, value: vec4<f32>) {
    let at = pixel * (GROUPS * N) + group * N + n;
    if n < N { output[at] = fused(value.x, at); }
    if n + 1u < N { output[at + 1u] = fused(value.y, at + 1u); }
    if n + 2u < N { output[at + 2u] = fused(value.z, at + 2u); }
    if n + 3u < N { output[at + 3u] = fused(value.w, at + 3u); }
}

@compute @workgroup_size(32)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = rows_of(id.z);
    let columns = columns_of(id.z);
    let positions = BATCH * rows.count * columns.count;
    let blocks = GROUPS * BLOCKS_N;
    let tiles_n = (blocks + 3u) / 4u;
    let tile = workgroup(id, count);
    let block = tile % tiles_n * 4u + local % 4u;
    let group = block / BLOCKS_N;
    let n = block % BLOCKS_N * COLUMNS;
    let first = (tile / tiles_n * 8u + local / 4u) * ROWS;
    if first >= positions || block >= blocks {
        return;
    }

    var corners: array<Corner, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
        corners[i] = corner_of(first + i, positions, rows, columns, GROUPS * K);
    }
    var sums: array<vec4<f32>, ROWS * VECTORS>;
    for (var i = 0u; i < ROWS * VECTORS; i++) {
        sums[i] = vec4<f32>(0.0);
    }
    for (var tap_row = 0u; tap_row < rows.taps; tap_row++) {
        for (var tap_column = 0u; tap_column < columns.taps; tap_column++) {
            let kernel_row = u32(rows.kernel + i32(tap_row) * rows.kernel_step);
            let tap = kernel_row * KERNEL_WIDTH + u32(columns.kernel + i32(tap_column) * columns.kernel_step);
            let distance = reach(tap_row, tap_column, rows, columns, GROUPS * K);
            // Pixels outside read the first one, and what they read is dropped.
            var useful = false;
            var within: array<bool, ROWS>;
            var starts: array<u32, ROWS>;
            for (var i = 0u; i < ROWS; i++) {
                let row = corners[i].row + i32(tap_row) * rows.offset_step;
                let column = corners[i].column + i32(tap_column) * columns.offset_step;
                within[i] = inside(row, column);
                starts[i] = select(0u, corners[i].place + distance, within[i]) + group * K;
                useful = useful || within[i];
            }
            if !useful {
                continue;
            }
            for (var channel = 0u; channel < K; channel++) {
                var values: array<f32, ROWS>;
                for (var i = 0u; i < ROWS; i++) {
                    values[i] = select(0.0, source[starts[i] + channel], within[i]);
                }
                for (var j = 0u; j < VECTORS; j++) {
                    let w = load_weight(tap, group, channel, n + 4u * j);
                    for (var i = 0u; i < ROWS; i++) {
                        sums[i * VECTORS + j] = fma(vec4<f32>(values[i]), w, sums[i * VECTORS + j]);
                    }
                }
            }
        }
    }
    for (var i = 0u; i < ROWS; i++) {
        if first + i < positions {
            let to = target_of(first + i, rows, columns);
            for (var j = 0u; j < VECTORS; j++) {
                store(to, group, n + 4u * j, sums[i * VECTORS + j]);
            }
        }
    }
}
