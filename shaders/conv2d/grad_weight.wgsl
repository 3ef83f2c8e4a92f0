// The gradient of a convolution's weight as a matrix product over all positions:
//     output[split, k, n] = sum over positions p of the split of x[p's window at tap(k), channel(k)] dy[p, n].
//
// binding 0  x       [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, CHANNELS] f32 or f16
// binding 1  dy      [BATCH, TARGET_HEIGHT, TARGET_WIDTH, N] f32 or f16
// binding 2  output  [SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, CHANNELS, N] f32
//
// A workgroup of THREADS_M * THREADS_N owns a tile of 4 * VECTORS_M * THREADS_M rows k and 4 * VECTORS_N * THREADS_N
// columns n of one split, which takes CHUNK positions; an invocation every THREADS_M-th vector of four rows and every
// THREADS_N-th vector of four columns. Steps of 16 positions go through workgroup memory, fetched while the step before
// is computed with. Where the windows of the positions lie, and which taps of them are inside of the image, is computed
// once for many steps, by all invocations together, so that fetching takes no division.
//
// Rows and columns past the edge read what others read, because what comes of them is not stored.
//
// CHUNK: positions of a split, a multiple of 16. VECTOR_K: CHANNELS is a multiple of 4. WIDE: it is one of 64. VECTOR_N: N is. EDGE_P: a step
// may pass the end of the positions. CHECKED: a tap may lie outside of the image, or EDGE_P.
import package::constants::{
    BATCH, CHANNELS, N, THREADS_M, THREADS_N, VECTORS_M, VECTORS_N, CHUNK, SPLITS,
    KERNEL_HEIGHT, KERNEL_WIDTH, DILATION_HEIGHT, DILATION_WIDTH, SOURCE_WIDTH, TARGET_HEIGHT, TARGET_WIDTH,
};
import package::conv2d::axis::{Axis, Corner, rows_of, columns_of, corner_of, reach, tap_bits, taps_inside};
import package::conv2d::tile::{INVOCATIONS, TILE_M4, TILE_N4, SUMS, ONE_A, FOUR_A, a_tile, b_tile, multiply};
import package::lib::block::block_of;
import package::lib::held::{Held, Held4};
import package::lib::index::workgroup;

@if(VECTOR_K) @group(0) @binding(0) var<storage, read> x: array<Held4>;
@if(!VECTOR_K) @group(0) @binding(0) var<storage, read> x: array<Held>;
@if(VECTOR_N) @group(0) @binding(1) var<storage, read> dy: array<Held4>;
@if(!VECTOR_N) @group(0) @binding(1) var<storage, read> dy: array<Held>;
@if(VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
@if(!VECTOR_N) @group(0) @binding(2) var<storage, read_write> output: array<f32>;

const K: u32 = KERNEL_HEIGHT * KERNEL_WIDTH * CHANNELS;
const N4: u32 = (N + 3u) / 4u;
const POSITIONS: u32 = BATCH * TARGET_HEIGHT * TARGET_WIDTH;

// Vectors of x that one invocation loads: of neighbouring positions, or with WIDE of one position, whose vectors then lie
// in one tap, a few apart so that neighbouring invocations read neighbours.
const LOADS_A: u32 = 16u * TILE_M4 / INVOCATIONS;
@if(WIDE) const PLACES_A: u32 = 1u;
@if(!WIDE) const PLACES_A: u32 = LOADS_A;
const STEP_A: u32 = 16u / LOADS_A;
// Vectors of dy that it loads, each of them so many positions after the one before.
const LOADS_B: u32 = 16u * TILE_N4 / INVOCATIONS;
const STEP_B: u32 = INVOCATIONS / TILE_N4;

// What four neighbouring rows k read at a time, and how many channels that is.
@if(VECTOR_K) const UNIT: u32 = 4u;
@if(!VECTOR_K) const UNIT: u32 = 1u;
@if(VECTOR_K) alias Numbers = u32;
@if(!VECTOR_K) alias Numbers = vec4<u32>;
@if(VECTOR_K) alias Inside = bool;
@if(!VECTOR_K) alias Inside = vec4<bool>;

// Elements of dy in a position and in a vector of it.
@if(VECTOR_N) const ROW_B: u32 = N4;
@if(VECTOR_N) const COLUMN_B: u32 = 1u;
@if(!VECTOR_N) const ROW_B: u32 = N;
@if(!VECTOR_N) const COLUMN_B: u32 = 4u;

// The window of a position: its corner's place, and which taps are inside of the image.
struct Window {
    place: u32,
    taps: u32,
}

var<workgroup> windows: array<Window, INVOCATIONS>;

// Where rows k read in a window: distances from its corner and bits of their taps.
struct Taps {
    distances: Numbers,
    bits: Numbers,
}

// Distance and bits of one row.
fn tap_of(k: u32, rows: Axis, columns: Axis) -> vec2<u32> {
    let existing = min(k, K - 1u);
    let row = existing / CHANNELS / KERNEL_WIDTH;
    let column = existing / CHANNELS % KERNEL_WIDTH;
    let distance = reach(row, column, rows, columns, CHANNELS) + existing % CHANNELS;
    return vec2<u32>(distance / UNIT, tap_bits(row, column));
}

@if(VECTOR_K)
fn taps_of(k: u32, rows: Axis, columns: Axis) -> Taps {
    let tap = tap_of(k, rows, columns);
    return Taps(tap.x, tap.y);
}

@if(!VECTOR_K)
fn taps_of(k: u32, rows: Axis, columns: Axis) -> Taps {
    let taps = array<vec2<u32>, 4>(
        tap_of(k, rows, columns),
        tap_of(k + 1u, rows, columns),
        tap_of(k + 2u, rows, columns),
        tap_of(k + 3u, rows, columns),
    );
    return Taps(
        vec4<u32>(taps[0].x, taps[1].x, taps[2].x, taps[3].x),
        vec4<u32>(taps[0].y, taps[1].y, taps[2].y, taps[3].y),
    );
}

// Where four rows read at a position, and which of it is inside of the image.
struct Place {
    at: Numbers,
    inside: Inside,
}

fn load_a(places: Numbers) -> vec4<f32> {
    @if(VECTOR_K) { return vec4<f32>(x[places]); }
    @if(!VECTOR_K) { return vec4<f32>(Held4(x[places.x], x[places.y], x[places.z], x[places.w])); }
}

// What is outside reads the first element of the image instead.
fn place_of_a(taps: Taps, at: u32) -> Place {
    let window = windows[at];
    let places = Numbers(window.place) + taps.distances;
    @if(CHECKED) {
        let inside = (Numbers(window.taps) & taps.bits) == taps.bits;
        return Place(select(Numbers(0u), places, inside), inside);
    }
    @if(!CHECKED) { return Place(places, Inside(true)); }
}

fn existing(value: vec4<f32>, place: Place) -> vec4<f32> {
    @if(CHECKED) { return select(vec4<f32>(0.0), value, place.inside); }
    @if(!CHECKED) { return value; }
}

// Four neighbours of dy from `at` on, which is not read past `last`, and of which `rest` are followed by another.
fn load_b(at: u32, last: u32, rest: u32) -> vec4<f32> {
    var place = at;
    @if(EDGE_P) { place = min(at, last); }
    @if(VECTOR_N) { return vec4<f32>(dy[place]); }
    @if(!VECTOR_N) {
        return vec4<f32>(Held4(
            dy[place], dy[place + min(1u, rest)], dy[place + min(2u, rest)], dy[place + min(3u, rest)],
        ));
    }
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

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = rows_of(0u);
    let columns = columns_of(0u);
    let tiles_n = (N4 + TILE_N4 - 1u) / TILE_N4;
    let tiles = (K + TILE_M4 * 4u - 1u) / (TILE_M4 * 4u) * tiles_n;
    let group = workgroup(id, count);
    // Neighbouring workgroups share a split, that is the same positions.
    let split = group / tiles;
    let first_k4 = group % tiles / tiles_n * TILE_M4;
    let first_n4 = group % tiles_n * TILE_N4;
    if split >= SPLITS {
        return;
    }

    // What this invocation loads.
    @if(WIDE) let group_a = local % (TILE_M4 / LOADS_A);
    @if(WIDE) let vector_a = group_a / STEP_A * 16u + group_a % STEP_A;
    @if(WIDE) let row_a = local / (TILE_M4 / LOADS_A);
    @if(!WIDE) let vector_a = local % TILE_M4;
    @if(!WIDE) let row_a = local / TILE_M4 * LOADS_A;
    let taps = taps_of((first_k4 + vector_a) * 4u, rows, columns);
    let place_a = row_a / 4u * FOUR_A + row_a % 4u * ONE_A + vector_a;
    let column_b = min(first_n4 + local % TILE_N4, N4 - 1u) * COLUMN_B;
    let row_b = local / TILE_N4 * ROW_B + column_b;
    let last_b = (POSITIONS - 1u) * ROW_B + column_b;
    let rest_b = ROW_B - 1u - column_b;
    // What it computes.
    let block = block_of(local, THREADS_N);
    let m = block.x;
    let n = block.y;
    var sums: array<vec4<f32>, SUMS>;
    for (var i = 0u; i < SUMS; i++) {
        sums[i] = vec4<f32>(0.0);
    }

    var a_places: array<Place, PLACES_A>;
    var a: array<vec4<f32>, LOADS_A>;
    var b: array<vec4<f32>, LOADS_B>;
    let end = min((split + 1u) * CHUNK, POSITIONS);
    for (var first = split * CHUNK; first < end; first += INVOCATIONS) {
        let corner = corner_of(first + local, end, rows, columns, CHANNELS / UNIT);
        windows[local] = Window(corner.place, taps_inside(corner, rows, columns));
        workgroupBarrier();
        let length = min(end - first, INVOCATIONS);
        let last = (length - 1u) / 16u * 16u;
        for (var i = 0u; i < PLACES_A; i++) {
            a_places[i] = place_of_a(taps, row_a + i);
        }
        for (var i = 0u; i < LOADS_A; i++) {
            @if(WIDE) { a[i] = vec4<f32>(x[a_places[0].at + i * STEP_A]); }
            @if(!WIDE) { a[i] = load_a(a_places[i].at); }
        }
        for (var i = 0u; i < LOADS_B; i++) {
            b[i] = load_b(first * ROW_B + row_b + i * (STEP_B * ROW_B), last_b, rest_b);
        }
        for (var step = 0u; step < length; step += 16u) {
            // What was fetched last is used first, so that all is waited for once.
            for (var i = 0u; i < LOADS_B; i++) {
                let j = LOADS_B - 1u - i;
                b_tile[local + j * INVOCATIONS] = b[j];
            }
            for (var i = 0u; i < LOADS_A; i++) {
                @if(WIDE) { a_tile[place_a + i * STEP_A] = existing(a[i], a_places[0]); }
                @if(!WIDE) { a_tile[place_a + i * ONE_A] = existing(a[i], a_places[i]); }
            }
            workgroupBarrier();

            // After the last step it is fetched once more, which costs less than to keep what was fetched alive.
            let next = min(step + 16u, last);
            for (var i = 0u; i < PLACES_A; i++) {
                a_places[i] = place_of_a(taps, next + row_a + i);
            }
            for (var i = 0u; i < LOADS_A; i++) {
                @if(WIDE) { a[i] = vec4<f32>(x[a_places[0].at + i * STEP_A]); }
                @if(!WIDE) { a[i] = load_a(a_places[i].at); }
            }
            for (var i = 0u; i < LOADS_B; i++) {
                b[i] = load_b((first + next) * ROW_B + row_b + i * (STEP_B * ROW_B), last_b, rest_b);
            }
            multiply(&sums, m, n);
            workgroupBarrier();
        }
    }

    for (var i = 0u; i < VECTORS_M; i++) {
        for (var r = 0u; r < 4u; r++) {
            let k = (first_k4 + m + i * THREADS_M) * 4u + r;
            if k < K {
                for (var j = 0u; j < VECTORS_N; j++) {
                    store(split * K + k, first_n4 + n + j * THREADS_N, sums[(i * VECTORS_N + j) * 4u + r]);
                }
            }
        }
    }
}
