// The gradient of a convolution's weight on processors that run shaders in subgroups of eight, of grouped channels too:
//     output[split, tap, c, o] = sum over positions p of the split of x[p's window at tap, group(o) * K + c] dy[p, o].
//
// binding 0  x       [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, GROUPS * K] f32
// binding 1  dy      [BATCH, TARGET_HEIGHT, TARGET_WIDTH, GROUPS * N] f32
// binding 2  output  [SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, K, GROUPS * N] f32
//
// A workgroup is one subgroup and owns 32 neighbouring channels c of one tap, which its invocations load four neighbours at a
// time, and 32 * COLUMNS neighbouring channels o of one group (see lib/broadcast). It walks the positions of its split, CHUNK of
// them, four at a time. Channels past the edge read what others read, because what comes of them is not stored.
//
// K, N: input and output channels of a group, multiples of 4. CHUNK: a multiple of 4. LOADS: 4.
import package::constants::{
    BATCH, K, N, GROUPS, COLUMNS, CHUNK, SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH,
    DILATION_HEIGHT, DILATION_WIDTH, BEFORE_HEIGHT, BEFORE_WIDTH, SOURCE_HEIGHT, SOURCE_WIDTH, TARGET_HEIGHT,
    TARGET_WIDTH,
};
import package::lib::broadcast::{Columns, Sums, Terms, accumulate};
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

const POSITIONS: u32 = BATCH * TARGET_HEIGHT * TARGET_WIDTH;
const BLOCKS_K: u32 = (K + 31u) / 32u;
const BLOCKS_N: u32 = (N + 32u * COLUMNS - 1u) / (32u * COLUMNS);
const TAPS: u32 = KERNEL_HEIGHT * KERNEL_WIDTH;
const BLOCKS: u32 = TAPS * GROUPS * BLOCKS_K * BLOCKS_N;

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let number = workgroup(id, count);
    let split = number / BLOCKS;
    if split >= SPLITS {
        return;
    }
    let n = number % BLOCKS_N * (32u * COLUMNS) + 4u * lane;
    let k = number / BLOCKS_N % BLOCKS_K * 32u;
    let group = number / (BLOCKS_N * BLOCKS_K) % GROUPS;
    let tap = number % BLOCKS / (BLOCKS_N * BLOCKS_K * GROUPS);
    let offset = vec2<i32>(
        i32(tap / KERNEL_WIDTH * DILATION_HEIGHT) - i32(BEFORE_HEIGHT),
        i32(tap % KERNEL_WIDTH * DILATION_WIDTH) - i32(BEFORE_WIDTH),
    );
    let channel = group * K + min(k + 4u * lane, K - 4u);

    var sums: Sums;
    for (var p = split * CHUNK; p < min((split + 1u) * CHUNK, POSITIONS); p += 4u) {
        var terms: Terms;
        var gradients: Columns;
        for (var t = 0u; t < 4u; t++) {
            // Pixels outside and positions past the last one are read elsewhere, and what they read of x is dropped.
            let position = min(p + t, POSITIONS - 1u);
            let line = position / TARGET_WIDTH;
            let row = i32(line % TARGET_HEIGHT * STRIDE_HEIGHT) + offset.x;
            let column = i32(position % TARGET_WIDTH * STRIDE_WIDTH) + offset.y;
            let within = u32(row) < SOURCE_HEIGHT && u32(column) < SOURCE_WIDTH && p + t < POSITIONS;
            let pixel = (line / TARGET_HEIGHT * SOURCE_HEIGHT + u32(row)) * SOURCE_WIDTH + u32(column);
            let at = select(0u, pixel, within) * (GROUPS * K) + channel;
            let channels = select(vec4<f32>(0.0), x[at / 4u], within);
            for (var g = 0u; g < 4u; g++) {
                terms[g][t] = channels[g];
            }
            let first = position * (GROUPS * N) + group * N;
            for (var c = 0u; c < COLUMNS; c++) {
                gradients[c][t] = dy[(first + min(n + 32u * c, N - 4u)) / 4u];
            }
        }
        accumulate(&sums, terms, gradients);
    }
    for (var g = 0u; g < 4u; g++) {
        for (var l = 0u; l < 8u; l++) {
            let channel_of_row = k + 4u * l + g;
            if channel_of_row < K {
                let row = (split * TAPS + tap) * K + channel_of_row;
                for (var c = 0u; c < COLUMNS; c++) {
                    if n + 32u * c < N {
                        output[(row * (GROUPS * N) + group * N + n + 32u * c) / 4u] = sums[8u * g + l][c];
                    }
                }
            }
        }
    }
}
