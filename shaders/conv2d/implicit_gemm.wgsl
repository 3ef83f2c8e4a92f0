// Convolution as a matrix product whose left matrix is read straight from the image:
//     output[m, n] = fused(sum over k of a[m, k] b[k, n]),  k = (tap row, tap column, source channel),
// where row m of a is what the window at position m sees (0 outside of the image) and b is the weight. With BACKWARD it
// is the gradient of the input: the source is the gradient of the output, and z counts the phases (see axis.wgsl), so
// that no known zero is multiplied.
//
// binding 0      source  [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, K] f32
// binding 1      weight  [KERNEL_HEIGHT, KERNEL_WIDTH, K, N] f32, with BACKWARD [KERNEL_HEIGHT, KERNEL_WIDTH, N, K]
// binding 2      output  [BATCH, TARGET_HEIGHT, TARGET_WIDTH, N] f32
// binding 3 + i  additional input i of the epilogue
//
// A workgroup of THREADS_M * THREADS_N owns a tile of ROWS * THREADS_M positions and 4 * VECTORS * THREADS_N channels.
// An invocation owns every THREADS_M-th row of it and every THREADS_N-th vector of four channels. Steps of 16 of k go
// through workgroup memory: a as [row][4 vectors along k], whose place is turned by the row so that four rows that are
// read at once lie in different banks, and b as [k][vectors along n].
//
// K, N: source and target channels. VECTOR_K: K is a multiple of 4, so a is loaded by vectors; WIDE_K: and
// at least 16. VECTOR_N: N is a multiple of 4. VECTOR_FUSED: the epilogue takes four channels at once.
import package::constants::{
    BATCH, K, N, THREADS_M, THREADS_N, ROWS, VECTORS, KERNEL_WIDTH,
};
import package::conv2d::axis::{Axis, Corner, rows_of, columns_of, corner_of, reach, target_of, inside};
import package::fused::{Element, fused};
import package::lib::index::workgroup;

@if(VECTOR_K) @group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@if(!VECTOR_K) @group(0) @binding(0) var<storage, read> source: array<f32>;
@if((BACKWARD && VECTOR_K) || (!BACKWARD && VECTOR_N)) @group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@if((BACKWARD && !VECTOR_K) || (!BACKWARD && !VECTOR_N)) @group(0) @binding(1) var<storage, read> weight: array<f32>;
@if(VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
@if(!VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<f32>;

const INVOCATIONS: u32 = THREADS_M * THREADS_N;
const TILE_M: u32 = ROWS * THREADS_M;
const TILE_N4: u32 = VECTORS * THREADS_N;
const N4: u32 = (N + 3u) / 4u;
// Rows of a and vectors of b that one invocation loads in a step.
const LOADS_A: u32 = TILE_M * 4u / INVOCATIONS;
const LOADS_B: u32 = 16u * TILE_N4 / INVOCATIONS;
// Vectors along columns of b that it loads where b lies that way.
const LOADS_C: u32 = (TILE_N4 * 4u + INVOCATIONS - 1u) / INVOCATIONS;
const SUMS: u32 = ROWS * VECTORS;
@if(VECTOR_K) const K_UNITS: u32 = K / 4u;

var<workgroup> a_tile: array<vec4<f32>, TILE_M * 4u>;
var<workgroup> b_tile: array<vec4<f32>, 16u * TILE_N4>;

// A tap and a source channel (with VECTOR_K a vector of four).
struct Step {
    row: u32,
    column: u32,
    channel: u32,
}

// The step at `k`, in units of what `channel` counts.
@if(VECTOR_K)
fn step_at(k: u32, columns: u32) -> Step {
    return Step(k / K_UNITS / columns, k / K_UNITS % columns, k % K_UNITS);
}

@if(!VECTOR_K)
fn step_at(k: u32, columns: u32) -> Step {
    return Step(k / K / columns, k / K % columns, k % K);
}

// The step four units after `step`, which is the one at `k`. Walked to where channels last that long: a division would
// cost as much as the loads.
@if(VECTOR_K && WIDE_K)
fn next(step: Step, k: u32, columns: u32) -> Step {
    var to = Step(step.row, step.column, step.channel + 4u);
    if to.channel >= K_UNITS {
        to.channel -= K_UNITS;
        to.column += 1u;
        if to.column >= columns {
            to.column = 0u;
            to.row += 1u;
        }
    }
    return to;
}

@if(VECTOR_K && !WIDE_K)
fn next(step: Step, k: u32, columns: u32) -> Step {
    return step_at(k, max(columns, 1u));
}

// Single channels are found one by one.
@if(!VECTOR_K)
fn next(step: Step, k: u32, columns: u32) -> Step {
    return step;
}

@if(BACKWARD)
fn tap_of(step: Step, rows: Axis, columns: Axis) -> u32 {
    let row = u32(rows.kernel + i32(step.row) * rows.kernel_step);
    return row * KERNEL_WIDTH + u32(columns.kernel + i32(step.column) * columns.kernel_step);
}

@if(VECTOR_K) alias SourceElement = vec4<f32>;
@if(!VECTOR_K) alias SourceElement = f32;
@if(VECTOR_K) const SOURCE_UNITS: u32 = K_UNITS;
@if(!VECTOR_K) const SOURCE_UNITS: u32 = K;

// One element of a, or with VECTOR_K four, at `distance` from the corner.
fn load_source(corner: Corner, step: Step, distance: u32, rows: Axis, columns: Axis) -> SourceElement {
    let row = corner.row + i32(step.row) * rows.offset_step;
    let column = corner.column + i32(step.column) * columns.offset_step;
    if step.row < rows.taps && inside(row, column) {
        return source[corner.place + distance];
    }
    return SourceElement(0.0);
}

fn distance_of(step: Step, rows: Axis, columns: Axis) -> u32 {
    return reach(step.row, step.column, rows, columns, SOURCE_UNITS) + step.channel;
}

// Four elements of a row of a, from k4 * 4 on; `step` and `distance` are those at k4 where four channels are one.
@if(VECTOR_K)
fn load_a(corner: Corner, k4: u32, step: Step, distance: u32, rows: Axis, columns: Axis) -> vec4<f32> {
    return load_source(corner, step, distance, rows, columns);
}

@if(!VECTOR_K)
fn load_one(corner: Corner, k: u32, rows: Axis, columns: Axis) -> f32 {
    let step = step_at(k, max(columns.taps, 1u));
    return load_source(corner, step, distance_of(step, rows, columns), rows, columns);
}

@if(!VECTOR_K)
fn load_a(corner: Corner, k4: u32, step: Step, distance: u32, rows: Axis, columns: Axis) -> vec4<f32> {
    return vec4<f32>(
        load_one(corner, k4 * 4u, rows, columns),
        load_one(corner, k4 * 4u + 1u, rows, columns),
        load_one(corner, k4 * 4u + 2u, rows, columns),
        load_one(corner, k4 * 4u + 3u, rows, columns),
    );
}

// Four elements of row k of b, from column n4 * 4 on.
@if(!BACKWARD && VECTOR_N)
fn load_b(k: u32, n4: u32, steps: u32) -> vec4<f32> {
    if k < steps && n4 < N4 {
        return weight[k * N4 + n4];
    }
    return vec4<f32>(0.0);
}

@if(!BACKWARD && !VECTOR_N)
fn load_b(k: u32, n4: u32, steps: u32) -> vec4<f32> {
    var value = vec4<f32>(0.0);
    if k < steps {
        let at = k * N + n4 * 4u;
        if n4 * 4u < N { value.x = weight[at]; }
        if n4 * 4u + 1u < N { value.y = weight[at + 1u]; }
        if n4 * 4u + 2u < N { value.z = weight[at + 2u]; }
        if n4 * 4u + 3u < N { value.w = weight[at + 3u]; }
    }
    return value;
}

// Four elements of column n of b, from row k4 * 4 on.
@if(BACKWARD && VECTOR_K)
fn load_column(k4: u32, n: u32, step: Step, rows: Axis, columns: Axis) -> vec4<f32> {
    if n < N && step.row < rows.taps {
        return weight[(tap_of(step, rows, columns) * N + n) * K_UNITS + step.channel];
    }
    return vec4<f32>(0.0);
}

@if(BACKWARD && !VECTOR_K)
fn load_element(k: u32, n: u32, rows: Axis, columns: Axis) -> f32 {
    let step = step_at(k, max(columns.taps, 1u));
    if n < N && step.row < rows.taps {
        return weight[(tap_of(step, rows, columns) * N + n) * K + step.channel];
    }
    return 0.0;
}

@if(BACKWARD && !VECTOR_K)
fn load_column(k4: u32, n: u32, step: Step, rows: Axis, columns: Axis) -> vec4<f32> {
    return vec4<f32>(
        load_element(k4 * 4u, n, rows, columns),
        load_element(k4 * 4u + 1u, n, rows, columns),
        load_element(k4 * 4u + 2u, n, rows, columns),
        load_element(k4 * 4u + 3u, n, rows, columns),
    );
}

@if(VECTOR_N && VECTOR_FUSED)
fn store(pixel: u32, n4: u32, value: vec4<f32>) {
    if n4 < N4 {
        let at = pixel * N4 + n4;
        output[at] = fused(value, at);
    }
}

@if(VECTOR_N && !VECTOR_FUSED)
fn store(pixel: u32, n4: u32, value: vec4<f32>) {
    if n4 < N4 {
        let at = (pixel * N4 + n4) * 4u;
        output[pixel * N4 + n4] = vec4<f32>(
            fused(value.x, at), fused(value.y, at + 1u), fused(value.z, at + 2u), fused(value.w, at + 3u),
        );
    }
}

@if(!VECTOR_N)
fn store(pixel: u32, n4: u32, value: vec4<f32>) {
    let at = pixel * N + n4 * 4u;
    if n4 * 4u < N { output[at] = fused(value.x, at); }
    if n4 * 4u + 1u < N { output[at + 1u] = fused(value.y, at + 1u); }
    if n4 * 4u + 2u < N { output[at + 2u] = fused(value.z, at + 2u); }
    if n4 * 4u + 3u < N { output[at + 3u] = fused(value.w, at + 3u); }
}

// Adds four steps of k: rows of a from a_at, rows of b from b_at.
fn accumulate(sums: ptr<function, array<vec4<f32>, SUMS>>, a_at: u32, b_at: u32) {
    var a: array<vec4<f32>, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
        a[i] = a_tile[a_at + i * (THREADS_M * 4u)];
    }
    for (var j = 0u; j < VECTORS; j++) {
        let b = b_tile[b_at + j * THREADS_N];
        for (var i = 0u; i < ROWS; i++) {
            (*sums)[i * VECTORS + j] = fma(vec4<f32>(a[i].x), b, (*sums)[i * VECTORS + j]);
        }
    }
    for (var j = 0u; j < VECTORS; j++) {
        let b = b_tile[b_at + TILE_N4 + j * THREADS_N];
        for (var i = 0u; i < ROWS; i++) {
            (*sums)[i * VECTORS + j] = fma(vec4<f32>(a[i].y), b, (*sums)[i * VECTORS + j]);
        }
    }
    for (var j = 0u; j < VECTORS; j++) {
        let b = b_tile[b_at + 2u * TILE_N4 + j * THREADS_N];
        for (var i = 0u; i < ROWS; i++) {
            (*sums)[i * VECTORS + j] = fma(vec4<f32>(a[i].z), b, (*sums)[i * VECTORS + j]);
        }
    }
    for (var j = 0u; j < VECTORS; j++) {
        let b = b_tile[b_at + 3u * TILE_N4 + j * THREADS_N];
        for (var i = 0u; i < ROWS; i++) {
            (*sums)[i * VECTORS + j] = fma(vec4<f32>(a[i].w), b, (*sums)[i * VECTORS + j]);
        }
    }
}

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = rows_of(id.z);
    let columns = columns_of(id.z);
    let positions = BATCH * rows.count * columns.count;
    // Tiles of one row of tiles are neighbours: they read the same part of the image.
    let tiles_n = (N4 + TILE_N4 - 1u) / TILE_N4;
    let tile = workgroup(id, count);
    let first_m = tile / tiles_n * TILE_M;
    let first_n4 = tile % tiles_n * TILE_N4;
    if first_m >= positions {
        return;
    }

    // What this invocation loads: a vector along k of every INVOCATIONS / 4-th row.
    let k4 = local % 4u;
    let load_row = local / 4u;
    let turned = k4 ^ ((load_row >> 1u) & 3u);
    var corners: array<Corner, LOADS_A>;
    for (var i = 0u; i < LOADS_A; i++) {
        corners[i] = corner_of(first_m + load_row + i * (INVOCATIONS / 4u), positions, rows, columns, SOURCE_UNITS);
    }
    var step = step_at(k4, max(columns.taps, 1u));

    // What it computes.
    let m = local / THREADS_N;
    let n = local % THREADS_N;
    let turn = (m >> 1u) & 3u;
    var sums: array<vec4<f32>, SUMS>;
    for (var i = 0u; i < SUMS; i++) {
        sums[i] = vec4<f32>(0.0);
    }

    let steps = rows.taps * columns.taps * K;
    for (var first_k = 0u; first_k < steps; first_k += 16u) {
        let distance = distance_of(step, rows, columns);
        for (var i = 0u; i < LOADS_A; i++) {
            let at = (load_row + i * (INVOCATIONS / 4u)) * 4u + turned;
            a_tile[at] = load_a(corners[i], first_k / 4u + k4, step, distance, rows, columns);
        }
        @if(!BACKWARD)
        for (var i = 0u; i < LOADS_B; i++) {
            let at = local + i * INVOCATIONS;
            b_tile[at] = load_b(first_k + at / TILE_N4, first_n4 + at % TILE_N4, steps);
        }
        @if(BACKWARD)
        for (var i = 0u; i < LOADS_C; i++) {
            // Four columns of b, turned into four rows.
            let vector = load_row + i * (INVOCATIONS / 4u);
            let n = (first_n4 + vector) * 4u;
            if vector < TILE_N4 {
                let x = load_column(first_k / 4u + k4, n, step, rows, columns);
                let y = load_column(first_k / 4u + k4, n + 1u, step, rows, columns);
                let z = load_column(first_k / 4u + k4, n + 2u, step, rows, columns);
                let w = load_column(first_k / 4u + k4, n + 3u, step, rows, columns);
                let at = k4 * 4u * TILE_N4 + vector;
                b_tile[at] = vec4<f32>(x.x, y.x, z.x, w.x);
                b_tile[at + TILE_N4] = vec4<f32>(x.y, y.y, z.y, w.y);
                b_tile[at + 2u * TILE_N4] = vec4<f32>(x.z, y.z, z.z, w.z);
                b_tile[at + 3u * TILE_N4] = vec4<f32>(x.w, y.w, z.w, w.w);
            }
        }
        workgroupBarrier();

        // The steps are written out, not left to the compiler to unroll.
        accumulate(&sums, m * 4u + (0u ^ turn), n);
        accumulate(&sums, m * 4u + (1u ^ turn), n + 4u * TILE_N4);
        accumulate(&sums, m * 4u + (2u ^ turn), n + 8u * TILE_N4);
        accumulate(&sums, m * 4u + (3u ^ turn), n + 12u * TILE_N4);
        workgroupBarrier();

        step = next(step, first_k / 4u + k4 + 4u, columns.taps);
    }

    for (var i = 0u; i < ROWS; i++) {
        let at = first_m + m + i * THREADS_M;
        if at < positions {
            let pixel = target_of(at, rows, columns);
            for (var j = 0u; j < VECTORS; j++) {
                store(pixel, first_n4 + n + j * THREADS_N, sums[i * VECTORS + j]);
            }
        }
    }
}
