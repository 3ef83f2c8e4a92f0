// The gradient of a convolution's weight as a matrix product over all positions:
//     output[split, k, n] = sum over positions p of the split of x[p's window at tap(k), channel(k)] dy[p, n].
//
// binding 0  x       [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, CHANNELS] f32
// binding 1  dy      [BATCH, TARGET_HEIGHT, TARGET_WIDTH, N] f32
// binding 2  output  [SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, CHANNELS, N] f32
//
// A workgroup of THREADS_K * THREADS_N owns a tile of 4 * VECTORS_K * THREADS_K rows k and 4 * VECTORS_N * THREADS_N
// columns n of one split, which takes CHUNK positions. An invocation owns every THREADS_K-th vector of four rows and
// every THREADS_N-th vector of four columns. Steps of 16 positions go through workgroup memory; where their windows
// lie is computed once a step, by 16 invocations, for all.
//
// CHUNK: positions of a split, a multiple of 16. VECTOR_K: CHANNELS is a multiple of 4. VECTOR_N: N is.
import package::constants::{
    BATCH, CHANNELS, N, THREADS_K, THREADS_N, VECTORS_K, VECTORS_N, CHUNK, SPLITS,
    KERNEL_HEIGHT, KERNEL_WIDTH, DILATION_HEIGHT, DILATION_WIDTH, SOURCE_WIDTH, TARGET_HEIGHT, TARGET_WIDTH,
};
import package::conv2d::axis::{Corner, rows_of, columns_of, corner_of, inside};
import package::lib::index::workgroup;

@if(VECTOR_K) @group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@if(!VECTOR_K) @group(0) @binding(0) var<storage, read> x: array<f32>;
@if(VECTOR_N) @group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@if(!VECTOR_N) @group(0) @binding(1) var<storage, read> dy: array<f32>;
@if(VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
@if(!VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<f32>;

const INVOCATIONS: u32 = THREADS_K * THREADS_N;
const TILE_K4: u32 = VECTORS_K * THREADS_K;
const TILE_N4: u32 = VECTORS_N * THREADS_N;
const LOADS_A: u32 = 16u * TILE_K4 / INVOCATIONS;
const LOADS_B: u32 = 16u * TILE_N4 / INVOCATIONS;
const K: u32 = KERNEL_HEIGHT * KERNEL_WIDTH * CHANNELS;
const N4: u32 = (N + 3u) / 4u;
const POSITIONS: u32 = BATCH * TARGET_HEIGHT * TARGET_WIDTH;
const SUMS: u32 = 4u * VECTORS_K * VECTORS_N;

var<workgroup> corners: array<Corner, 16>;
var<workgroup> a_tile: array<vec4<f32>, 16u * TILE_K4>;
var<workgroup> b_tile: array<vec4<f32>, 16u * TILE_N4>;

// Where row k of the gradient reads in a window: distance from its corner in rows, columns and elements of x.
struct Tap {
    row: i32,
    column: i32,
    distance: u32,
}

fn tap_of(k: u32) -> Tap {
    let row = k / CHANNELS / KERNEL_WIDTH;
    let column = k / CHANNELS % KERNEL_WIDTH;
    // Rows past the last read far outside of every image.
    let far = select(0, 0x20000000, k >= K);
    let distance = (row * DILATION_HEIGHT * SOURCE_WIDTH + column * DILATION_WIDTH) * CHANNELS + k % CHANNELS;
    return Tap(i32(row * DILATION_HEIGHT) + far, i32(column * DILATION_WIDTH), distance / UNIT);
}

// One element of x in the window of a position, or with VECTOR_K four.
fn load_x(corner: Corner, tap: Tap) -> Unit {
    if inside(corner.row + tap.row, corner.column + tap.column) {
        return x[corner.place + tap.distance];
    }
    return Unit(0.0);
}

// Elements of x in the window of a position for the rows that `taps` belong to.
@if(VECTOR_K)
fn load_a(corner: Corner, taps: ptr<function, array<Tap, TAPS>>) -> vec4<f32> {
    return load_x(corner, (*taps)[0]);
}

@if(!VECTOR_K)
fn load_a(corner: Corner, taps: ptr<function, array<Tap, TAPS>>) -> vec4<f32> {
    return vec4<f32>(
        load_x(corner, (*taps)[0]),
        load_x(corner, (*taps)[1]),
        load_x(corner, (*taps)[2]),
        load_x(corner, (*taps)[3]),
    );
}

@if(VECTOR_K) alias Unit = vec4<f32>;
@if(!VECTOR_K) alias Unit = f32;
@if(VECTOR_K) const UNIT: u32 = 4u;
@if(!VECTOR_K) const UNIT: u32 = 1u;
@if(VECTOR_K) const TAPS: u32 = 1u;
@if(!VECTOR_K) const TAPS: u32 = 4u;

// Elements of dy at a position for columns n4 * 4 to n4 * 4 + 3.
@if(VECTOR_N)
fn load_b(position: u32, end: u32, n4: u32) -> vec4<f32> {
    if position < end && n4 < N4 {
        return dy[position * N4 + n4];
    }
    return vec4<f32>(0.0);
}

@if(!VECTOR_N)
fn load_b(position: u32, end: u32, n4: u32) -> vec4<f32> {
    var value = vec4<f32>(0.0);
    if position < end {
        let at = position * N + n4 * 4u;
        if n4 * 4u < N { value.x = dy[at]; }
        if n4 * 4u + 1u < N { value.y = dy[at + 1u]; }
        if n4 * 4u + 2u < N { value.z = dy[at + 2u]; }
        if n4 * 4u + 3u < N { value.w = dy[at + 3u]; }
    }
    return value;
}

@if(VECTOR_N)
fn store(row: u32, n4: u32, value: vec4<f32>) {
    if n4 < N4 {
        output[row * N4 + n4] = value;
    }
}

@if(!VECTOR_N)
fn store(row: u32, n4: u32, value: vec4<f32>) {
    let at = row * N + n4 * 4u;
    if n4 * 4u < N { output[at] = value.x; }
    if n4 * 4u + 1u < N { output[at + 1u] = value.y; }
    if n4 * 4u + 2u < N { output[at + 2u] = value.z; }
    if n4 * 4u + 3u < N { output[at + 3u] = value.w; }
}

// Adds one position: its vector of x from a_at, its vector of dy from b_at.
fn accumulate(sums: ptr<function, array<vec4<f32>, SUMS>>, a_at: u32, b_at: u32) {
    var b: array<vec4<f32>, VECTORS_N>;
    for (var j = 0u; j < VECTORS_N; j++) {
        b[j] = b_tile[b_at + j * THREADS_N];
    }
    for (var i = 0u; i < VECTORS_K; i++) {
        let a = a_tile[a_at + i * THREADS_K];
        for (var j = 0u; j < VECTORS_N; j++) {
            let at = (i * VECTORS_N + j) * 4u;
            (*sums)[at] = fma(vec4<f32>(a.x), b[j], (*sums)[at]);
            (*sums)[at + 1u] = fma(vec4<f32>(a.y), b[j], (*sums)[at + 1u]);
            (*sums)[at + 2u] = fma(vec4<f32>(a.z), b[j], (*sums)[at + 2u]);
            (*sums)[at + 3u] = fma(vec4<f32>(a.w), b[j], (*sums)[at + 3u]);
        }
    }
}

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = rows_of(0u);
    let columns = columns_of(0u);
    let tiles_n = (N4 + TILE_N4 - 1u) / TILE_N4;
    let tiles = (K + TILE_K4 * 4u - 1u) / (TILE_K4 * 4u) * tiles_n;
    let group = workgroup(id, count);
    // Neighbouring workgroups share a split, that is the same positions.
    let split = group / tiles;
    let first_k4 = group % tiles / tiles_n * TILE_K4;
    let first_n4 = group % tiles_n * TILE_N4;
    if split >= SPLITS {
        return;
    }
    let end = min((split + 1u) * CHUNK, POSITIONS);

    // What this invocation loads.
    let k4 = first_k4 + local % TILE_K4;
    var taps: array<Tap, TAPS>;
    for (var i = 0u; i < TAPS; i++) {
        taps[i] = tap_of(k4 * 4u + i);
    }
    // What it computes.
    let m = local / THREADS_N;
    let n = local % THREADS_N;
    var sums: array<vec4<f32>, SUMS>;
    for (var i = 0u; i < SUMS; i++) {
        sums[i] = vec4<f32>(0.0);
    }

    for (var first = split * CHUNK; first < end; first += 16u) {
        if local < 16u {
            corners[local] = corner_of(first + local, end, rows, columns, CHANNELS / UNIT);
        }
        for (var i = 0u; i < LOADS_B; i++) {
            let at = local + i * INVOCATIONS;
            b_tile[at] = load_b(first + at / TILE_N4, end, first_n4 + at % TILE_N4);
        }
        workgroupBarrier();
        for (var i = 0u; i < LOADS_A; i++) {
            let at = local + i * INVOCATIONS;
            a_tile[at] = load_a(corners[at / TILE_K4], &taps);
        }
        workgroupBarrier();

        // The steps are written out, not left to the compiler to unroll.
        accumulate(&sums, m, n);
        accumulate(&sums, m + TILE_K4, n + TILE_N4);
        accumulate(&sums, m + 2u * TILE_K4, n + 2u * TILE_N4);
        accumulate(&sums, m + 3u * TILE_K4, n + 3u * TILE_N4);
        accumulate(&sums, m + 4u * TILE_K4, n + 4u * TILE_N4);
        accumulate(&sums, m + 5u * TILE_K4, n + 5u * TILE_N4);
        accumulate(&sums, m + 6u * TILE_K4, n + 6u * TILE_N4);
        accumulate(&sums, m + 7u * TILE_K4, n + 7u * TILE_N4);
        accumulate(&sums, m + 8u * TILE_K4, n + 8u * TILE_N4);
        accumulate(&sums, m + 9u * TILE_K4, n + 9u * TILE_N4);
        accumulate(&sums, m + 10u * TILE_K4, n + 10u * TILE_N4);
        accumulate(&sums, m + 11u * TILE_K4, n + 11u * TILE_N4);
        accumulate(&sums, m + 12u * TILE_K4, n + 12u * TILE_N4);
        accumulate(&sums, m + 13u * TILE_K4, n + 13u * TILE_N4);
        accumulate(&sums, m + 14u * TILE_K4, n + 14u * TILE_N4);
        accumulate(&sums, m + 15u * TILE_K4, n + 15u * TILE_N4);
        workgroupBarrier();
    }

    for (var i = 0u; i < VECTORS_K; i++) {
        for (var r = 0u; r < 4u; r++) {
            let k = (first_k4 + m + i * THREADS_K) * 4u + r;
            if k < K {
                for (var j = 0u; j < VECTORS_N; j++) {
                    store(split * K + k, first_n4 + n + j * THREADS_N, sums[(i * VECTORS_N + j) * 4u + r]);
                }
            }
        }
    }
}
