// The gradient of a convolution's weight without workgroup memory, of grouped channels too:
//     output[split, tap, c, o] = sum over positions p of the split of x[p's window at tap, group(o) * K + c] dy[p, o].
//
// binding 0  x       [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, GROUPS * K] f32 or f16
// binding 1  dy      [BATCH, TARGET_HEIGHT, TARGET_WIDTH, GROUPS * N] f32 or f16
// binding 2  output  [SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, K, GROUPS * N] f32
//
// An invocation owns ROWS neighbouring rows (tap, c) and 4 * VECTORS neighbouring columns o of one group: it walks the
// image rows of its split, CHUNK of them. A workgroup owns 32 such blocks in a row, columns first.
//
// Columns past the edge read what others read, because what comes of them is not stored.
//
// K, N: input and output channels of a group. ONE_TAP: K is a multiple of ROWS, so that all rows of a block belong to one
// tap, and the columns of the image whose windows lie inside are known. VECTOR_N: N is a multiple of 4.
import package::constants::{
    BATCH, K, N, GROUPS, ROWS, VECTORS, CHUNK, SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH,
    DILATION_HEIGHT, DILATION_WIDTH, BEFORE_HEIGHT, BEFORE_WIDTH, SOURCE_HEIGHT, SOURCE_WIDTH, TARGET_HEIGHT,
    TARGET_WIDTH,
};
import package::lib::held::{Held, Held4};
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> x: array<Held>;
@if(VECTOR_N) @group(0) @binding(1) var<storage, read> dy: array<Held4>;
@if(!VECTOR_N) @group(0) @binding(1) var<storage, read> dy: array<Held>;
@if(VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
@if(!VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<f32>;

const CHANNELS: u32 = GROUPS * K;
const FILTERS: u32 = GROUPS * N;
const WEIGHTS: u32 = KERNEL_HEIGHT * KERNEL_WIDTH * K;
const BLOCKS_K: u32 = (WEIGHTS + ROWS - 1u) / ROWS;
const BLOCKS_N: u32 = (N + 4u * VECTORS - 1u) / (4u * VECTORS);
const BLOCKS: u32 = BLOCKS_K * GROUPS * BLOCKS_N;

// Distance in rows and columns from a window's position to what row k reads.
fn offset_of(k: u32) -> vec2<i32> {
    let tap = min(k, WEIGHTS - 1u) / K;
    return vec2<i32>(
        i32(tap / KERNEL_WIDTH * DILATION_HEIGHT) - i32(BEFORE_HEIGHT),
        i32(tap % KERNEL_WIDTH * DILATION_WIDTH) - i32(BEFORE_WIDTH),
    );
}

// Four neighbours of dy.
fn load_dy(position: u32, group: u32, n: u32) -> vec4<f32> {
    let first = position * FILTERS + group * N;
    @if(VECTOR_N) { return vec4<f32>(dy[(first + min(n, N - 4u)) / 4u]); }
    @if(!VECTOR_N) {
        let last = N - 1u;
        return vec4<f32>(Held4(
            dy[first + min(n, last)],
            dy[first + min(n + 1u, last)],
            dy[first + min(n + 2u, last)],
            dy[first + min(n + 3u, last)],
        ));
    }
}

fn store(row: u32, group: u32, n: u32, value: vec4<f32>) {
    let at = row * FILTERS + group * N + n;
    @if(VECTOR_N) {
        if n < N { output[at / 4u] = value; }
    }
    @if(!VECTOR_N) {
        if n < N { output[at] = value.x; }
        if n + 1u < N { output[at + 1u] = value.y; }
        if n + 2u < N { output[at + 2u] = value.z; }
        if n + 3u < N { output[at + 3u] = value.w; }
    }
}

@compute @workgroup_size(32)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = workgroup(id, count) * 32u + local;
    let split = i / BLOCKS;
    if split >= SPLITS {
        return;
    }
    let block = i % BLOCKS;
    let n = block % BLOCKS_N * (4u * VECTORS);
    let group = block / BLOCKS_N % GROUPS;
    let k = block / (BLOCKS_N * GROUPS) * ROWS;

    var sums: array<vec4<f32>, ROWS * VECTORS>;
    for (var r = 0u; r < ROWS * VECTORS; r++) {
        sums[r] = vec4<f32>(0.0);
    }
    @if(ONE_TAP) let offset = offset_of(k);
    @if(ONE_TAP) let channel = group * K + k % K;
    // Columns j with 0 <= j * STRIDE_WIDTH + offset.y < SOURCE_WIDTH.
    @if(ONE_TAP) let begin = u32(max(-offset.y + i32(STRIDE_WIDTH) - 1, 0)) / STRIDE_WIDTH;
    @if(ONE_TAP) let past = u32(max(i32(SOURCE_WIDTH) - offset.y + i32(STRIDE_WIDTH) - 1, 0)) / STRIDE_WIDTH;
    @if(ONE_TAP) let end = min(past, TARGET_WIDTH);
    @if(!ONE_TAP) let begin = 0u;
    @if(!ONE_TAP) let end = TARGET_WIDTH;
    @if(!ONE_TAP) var offsets: array<vec2<i32>, ROWS>;
    @if(!ONE_TAP) var channels: array<u32, ROWS>;
    @if(!ONE_TAP)
    for (var r = 0u; r < ROWS; r++) {
        offsets[r] = offset_of(k + r);
        channels[r] = group * K + (k + r) % K;
    }

    let last = min((split + 1u) * CHUNK, BATCH * TARGET_HEIGHT);
    for (var line = split * CHUNK; line < last; line++) {
        let image = line / TARGET_HEIGHT * SOURCE_HEIGHT;
        let row = i32(line % TARGET_HEIGHT * STRIDE_HEIGHT);
        @if(ONE_TAP) {
            if u32(row + offset.x) >= SOURCE_HEIGHT {
                continue;
            }
        }
        @if(ONE_TAP) let start = i32((image + u32(row + offset.x)) * SOURCE_WIDTH) + offset.y;
        for (var j = begin; j < end; j++) {
            var values: array<f32, ROWS>;
            @if(ONE_TAP) let at = u32(start + i32(j * STRIDE_WIDTH)) * CHANNELS + channel;
            for (var r = 0u; r < ROWS; r++) {
                @if(ONE_TAP) { values[r] = f32(x[at + r]); }
                @if(!ONE_TAP) {
                    let source = vec2<i32>(row, i32(j * STRIDE_WIDTH)) + offsets[r];
                    let within = u32(source.x) < SOURCE_HEIGHT && u32(source.y) < SOURCE_WIDTH;
                    let pixel = (image + u32(source.x)) * SOURCE_WIDTH + u32(source.y);
                    values[r] = select(0.0, f32(x[select(0u, pixel * CHANNELS + channels[r], within)]), within);
                }
            }
            for (var v = 0u; v < VECTORS; v++) {
                let gradient = load_dy(line * TARGET_WIDTH + j, group, n + 4u * v);
                for (var r = 0u; r < ROWS; r++) {
                    sums[r * VECTORS + v] = fma(vec4<f32>(values[r]), gradient, sums[r * VECTORS + v]);
                }
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        if k + r < WEIGHTS {
            for (var v = 0u; v < VECTORS; v++) {
                store(split * WEIGHTS + k + r, group, n + 4u * v, sums[r * VECTORS + v]);
            }
        }
    }
}
