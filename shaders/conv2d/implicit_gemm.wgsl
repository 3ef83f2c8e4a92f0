// Convolution as a matrix product whose left matrix is read straight from the image:
//     output[split, m, n] = fused(sum over the k of the split of a[m, k] b[k, n]),  k = (tap row, tap column, source channel),
// where row m of a is what the window at position m sees (0 outside of the image) and b is the weight. With BACKWARD it
// is the gradient of the input: the source is the gradient of the output, b the weight transposed, and z counts the
// phases (see axis.wgsl), so that no known zero is multiplied.
//
// binding 0      source  [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, K] f32 or f16
// binding 1      weight  [KERNEL_HEIGHT, KERNEL_WIDTH, K, N] f32 or f16
// binding 2      output  [SPLITS, BATCH, TARGET_HEIGHT, TARGET_WIDTH, N] f32 or f16
// binding 3 + i  additional input i of the epilogue
//
// A workgroup of THREADS_M * THREADS_N owns a tile of 4 * VECTORS_M * THREADS_M positions and 4 * VECTORS_N * THREADS_N
// channels; an invocation every THREADS_M-th vector of four positions and every THREADS_N-th vector of four channels.
// Steps of 16 of k go through workgroup memory as [k][positions] and [k][channels], fetched while the step before is
// computed with. Where the units of k read is computed once for many steps, by all invocations together, and which taps
// of a position's window lie inside of the image once for all steps, so that fetching takes no division.
//
// With several SPLITS, each of CHUNK terms of k, the sums are partial: another pass adds them up and has the epilogue.
//
// Positions and channels past the edge read what others read, because what comes of them is not stored.
//
// K, N: source and target channels. CHUNK: a multiple of 16. VECTOR_K: K is a multiple of 4, so a is loaded by vectors. WIDE: K is one of 16, so
// that a step belongs to one tap. VECTOR_N: N is a multiple of 4. EDGE_K: a step may pass the end of k. CHECKED: a tap may
// lie outside of the image, or EDGE_K. MOMENTS: the moments of the channels are made as well (see moments.wgsl), and there is
// no epilogue. PAIRS is always on.
import package::constants::{
    BATCH, K, N, THREADS_M, THREADS_N, VECTORS_M, VECTORS_N, KERNEL_WIDTH, TARGET_HEIGHT, TARGET_WIDTH, CHUNK, SPLITS,
};
import package::conv2d::axis::{
    Axis, Corner, rows_of, columns_of, corner_of, reach, target_of, tap_bits, taps_inside, NO_TAP,
};
import package::conv2d::tile::{
    INVOCATIONS, TILE_M4, TILE_N4, SUMS, ONE_A, FOUR_A, a_tile, b_tile, multiply,
};
@if(MOMENTS) import package::conv2d::moments::measure;
import package::fused::{Stored, fused};
import package::lib::block::block_of;
import package::lib::held::{Held, Held4};
import package::lib::index::workgroup;

@if(VECTOR_K) @group(0) @binding(0) var<storage, read> source: array<Held4>;
@if(!VECTOR_K) @group(0) @binding(0) var<storage, read> source: array<Held>;
@if(VECTOR_N) @group(0) @binding(1) var<storage, read> weight: array<Held4>;
@if(!VECTOR_N) @group(0) @binding(1) var<storage, read> weight: array<Held>;
@group(0) @binding(2) var<storage, read_write> output: array<Stored>;

const N4: u32 = (N + 3u) / 4u;

// Vectors along k that one invocation loads of each of two rows of a, and their distance: those of a step are four.
const LOADS_A: u32 = TILE_M4 * 8u / INVOCATIONS;
const STEP_A: u32 = 4u / LOADS_A;
// Places where it reads a row: with WIDE the others follow from the first.
@if(WIDE) const PLACES_A: u32 = 1u;
@if(!WIDE) const PLACES_A: u32 = LOADS_A;
// Vectors of b that one invocation loads, each of them so many rows after the one before.
const LOADS_B: u32 = TILE_N4 * 16u / INVOCATIONS;
const ROWS_B: u32 = INVOCATIONS / TILE_N4;

// A unit of k is one source channel of a tap, or with VECTOR_K four.
@if(VECTOR_K) const CHANNELS: u32 = 4u;
@if(!VECTOR_K) const CHANNELS: u32 = 1u;
const UNITS: u32 = K / CHANNELS;
const STEP_UNITS: u32 = 16u / CHANNELS;
const VECTOR_UNITS: u32 = 4u / CHANNELS;

// Elements of weight in a row of b and in a vector of it.
@if(VECTOR_N) const ROW_B: u32 = N4;
@if(VECTOR_N) const COLUMN_B: u32 = 1u;
@if(!VECTOR_N) const ROW_B: u32 = N;
@if(!VECTOR_N) const COLUMN_B: u32 = 4u;

// Where a unit of k reads: the distance from a window's corner, and the bits of its tap.
struct Unit {
    distance: u32,
    tap: u32,
}

var<workgroup> units: array<Unit, INVOCATIONS>;
@if(BACKWARD) var<workgroup> places_of_b: array<u32, INVOCATIONS>;

// What an invocation loads of b: its unit in a step, the distance of its place from the unit's (from the step's where
// that is known without the table), its place in the last row, and how many columns come after its first.
struct OwnB {
    unit: u32,
    place: u32,
    last: u32,
    rest: u32,
}

// Fills the table of units from `first` on.
fn tabulate(first: u32, local: u32, count: u32, rows: Axis, columns: Axis) {
    let unit = min(first + local, count - 1u);
    let channel = unit % UNITS;
    let row = unit / UNITS / columns.taps;
    let column = unit / UNITS % columns.taps;
    let tap = select(NO_TAP, tap_bits(row, column), first + local < count);
    units[local] = Unit(reach(row, column, rows, columns, UNITS) + channel, tap);
    @if(BACKWARD) {
        let kernel_row = u32(rows.kernel + i32(row) * rows.kernel_step);
        let kernel_column = u32(columns.kernel + i32(column) * columns.kernel_step);
        places_of_b[local] = ((kernel_row * KERNEL_WIDTH + kernel_column) * K + channel * CHANNELS) * ROW_B;
    }
}

// The window of a row of a: its corner's place, and which taps are inside of the image.
struct Window {
    place: u32,
    taps: u32,
}

// What an invocation reads of a row of a: a vector of four channels or four single ones.
@if(VECTOR_K) alias Numbers = u32;
@if(!VECTOR_K) alias Numbers = vec4<u32>;
@if(VECTOR_K) alias Inside = bool;
@if(!VECTOR_K) alias Inside = vec4<bool>;

// Where that is, and which of it is inside of the image.
struct Place {
    at: Numbers,
    inside: Inside,
}

// The place at unit `at` of the table. What is outside reads the first element of the image instead.
fn place_of_a(window: Window, at: u32) -> Place {
    @if(VECTOR_K) let distances = units[at].distance;
    @if(VECTOR_K) let taps = units[at].tap;
    @if(!VECTOR_K)
    let distances =
        vec4<u32>(units[at].distance, units[at + 1u].distance, units[at + 2u].distance, units[at + 3u].distance);
    @if(!VECTOR_K) let taps = vec4<u32>(units[at].tap, units[at + 1u].tap, units[at + 2u].tap, units[at + 3u].tap);
    let places = Numbers(window.place) + distances;
    @if(CHECKED) {
        let inside = (Numbers(window.taps) & taps) == taps;
        return Place(select(Numbers(0u), places, inside), inside);
    }
    @if(!CHECKED) { return Place(places, Inside(true)); }
}

fn load_a(at: Numbers) -> vec4<f32> {
    @if(VECTOR_K) { return vec4<f32>(source[at]); }
    @if(!VECTOR_K) { return vec4<f32>(Held4(source[at.x], source[at.y], source[at.z], source[at.w])); }
}

fn existing(value: vec4<f32>, place: Place) -> vec4<f32> {
    @if(CHECKED) { return select(vec4<f32>(0.0), value, place.inside); }
    @if(!CHECKED) { return value; }
}

// Where load `i` of an invocation reads b for the step at `unit` of the table that begins with unit `first`.
fn place_of_b(first: u32, unit: u32, own: OwnB, i: u32) -> u32 {
    @if(BACKWARD) { return places_of_b[unit + own.unit + i * (ROWS_B / CHANNELS)] + own.place; }
    @if(!BACKWARD) {
        let place = (first + unit) * (CHANNELS * ROW_B) + own.place + i * (ROWS_B * ROW_B);
        @if(EDGE_K) { return min(place, own.last); }
        @if(!EDGE_K) { return place; }
    }
}

// Four neighbours in a row of b from `at` on, of which `rest` are followed by another.
fn load_b(at: u32, rest: u32) -> vec4<f32> {
    @if(VECTOR_N) { return vec4<f32>(weight[at]); }
    @if(!VECTOR_N) {
        return vec4<f32>(Held4(
            weight[at], weight[at + min(1u, rest)], weight[at + min(2u, rest)], weight[at + min(3u, rest)],
        ));
    }
}

@if(VECTOR_N)
fn store(pixel: u32, n4: u32, value: vec4<f32>) {
    if n4 < N4 {
        let at = pixel * N4 + n4;
        output[at] = Stored(fused(value, at));
    }
}

@if(!VECTOR_N)
fn store(pixel: u32, n4: u32, value: vec4<f32>) {
    let at = pixel * N + n4 * 4u;
    if n4 * 4u < N { output[at] = Stored(fused(value.x, at)); }
    if n4 * 4u + 1u < N { output[at + 1u] = Stored(fused(value.y, at + 1u)); }
    if n4 * 4u + 2u < N { output[at + 2u] = Stored(fused(value.z, at + 2u)); }
    if n4 * 4u + 3u < N { output[at + 3u] = Stored(fused(value.w, at + 3u)); }
}

// Where an invocation's results belong: the first position of its rows, how many there are, the pixel of position 0, and the
// first vector of channels.
struct Goal {
    first: u32,
    positions: u32,
    origin: u32,
    n4: u32,
}

// Stores one of at most 8 rows of sums, of 1 or 2 vectors. Rows are named one by one: compilers unroll no loop around a long
// epilogue, and sums that are indexed by a variable lie in memory, throughout the kernel.
fn store_row(sums: ptr<function, array<vec4<f32>, SUMS>>, row: u32, goal: Goal, rows: Axis, columns: Axis) {
    let at = goal.first + row / 4u * (THREADS_M * 4u) + row % 4u;
    if at < goal.positions {
        let pixel = goal.origin + target_of(at, rows, columns);
        let sum = row / 4u * (VECTORS_N * 4u) + row % 4u;
        store(pixel, goal.n4, (*sums)[sum]);
        if VECTORS_N > 1u {
            store(pixel, goal.n4 + THREADS_N, (*sums)[sum + 4u]);
        }
    }
}

// What an invocation fetches for a step: of two rows of a, and of b.
struct Fetched {
    a_places: array<array<Place, PLACES_A>, 2>,
    a: array<array<vec4<f32>, LOADS_A>, 2>,
    b: array<vec4<f32>, LOADS_B>,
}

// The step at unit `unit` of the table that begins with unit `first`, of which it loads vectors along k from k4 on.
fn fetch(
    fetched: ptr<function, Fetched>,
    windows: ptr<function, array<Window, 2>>,
    own: OwnB,
    first: u32,
    unit: u32,
    k4: u32,
) {
    var b_places: array<u32, LOADS_B>;
    for (var i = 0u; i < LOADS_B; i++) {
        b_places[i] = place_of_b(first, unit, own, i);
    }
    for (var r = 0u; r < 2u; r++) {
        for (var i = 0u; i < PLACES_A; i++) {
            (*fetched).a_places[r][i] = place_of_a((*windows)[r], unit + (k4 + i * STEP_A) * VECTOR_UNITS);
        }
        for (var i = 0u; i < LOADS_A; i++) {
            @if(WIDE) { (*fetched).a[r][i] = load_a((*fetched).a_places[r][0].at + i * STEP_A); }
            @if(!WIDE) { (*fetched).a[r][i] = load_a((*fetched).a_places[r][i].at); }
        }
    }
    for (var i = 0u; i < LOADS_B; i++) {
        (*fetched).b[i] = load_b(b_places[i], own.rest);
    }
}

// Writes it to workgroup memory. What was fetched last is used first, so that all is waited for once.
fn put(fetched: ptr<function, Fetched>, local: u32, a_place: u32) {
    for (var i = 0u; i < LOADS_B; i++) {
        let j = LOADS_B - 1u - i;
        b_tile[local + j * INVOCATIONS] = (*fetched).b[j];
    }
    for (var i = 0u; i < LOADS_A; i++) {
        let place = min(i, PLACES_A - 1u);
        let upper = existing((*fetched).a[0][i], (*fetched).a_places[0][place]);
        let lower = existing((*fetched).a[1][i], (*fetched).a_places[1][place]);
        let at = a_place + i * (STEP_A * FOUR_A);
        a_tile[at] = vec2<f32>(upper.x, lower.x);
        a_tile[at + ONE_A] = vec2<f32>(upper.y, lower.y);
        a_tile[at + 2u * ONE_A] = vec2<f32>(upper.z, lower.z);
        a_tile[at + 3u * ONE_A] = vec2<f32>(upper.w, lower.w);
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
    let number = workgroup(id, count);
    let split = number % SPLITS;
    let tile = number / SPLITS;
    let first_m = tile / tiles_n * (TILE_M4 * 4u);
    let first_n4 = tile % tiles_n * TILE_N4;
    if first_m >= positions {
        return;
    }

    // What this invocation loads: of two neighbouring rows of a the vectors along k from k4 on, of b vector column_b of
    // every ROWS_B-th row.
    let k4 = local % STEP_A;
    let pair = local / STEP_A;
    let a_place = k4 * FOUR_A + pair;
    var windows: array<Window, 2>;
    for (var r = 0u; r < 2u; r++) {
        let at = min(first_m + pair * 2u + r, positions - 1u);
        let corner = corner_of(at, positions, rows, columns, UNITS);
        windows[r] = Window(corner.place, taps_inside(corner, rows, columns));
    }
    let all_units = rows.taps * columns.taps * UNITS;
    let row_b = local / TILE_N4;
    let column_b = min(first_n4 + local % TILE_N4, N4 - 1u) * COLUMN_B;
    @if(BACKWARD) let place_b = row_b % CHANNELS * ROW_B + column_b;
    @if(!BACKWARD) let place_b = row_b * ROW_B + column_b;
    let last_b = (all_units * CHANNELS - 1u) * ROW_B + column_b;
    let own_b = OwnB(row_b / CHANNELS, place_b, last_b, ROW_B - 1u - column_b);

    // What it computes.
    let block = block_of(local, THREADS_N);
    let m = block.x;
    let n = block.y;
    var sums: array<vec4<f32>, SUMS>;
    for (var i = 0u; i < SUMS; i++) {
        sums[i] = vec4<f32>(0.0);
    }

    var fetched: Fetched;
    // A phase of few taps has no terms for the last splits.
    let stop = min((split + 1u) * (CHUNK / CHANNELS), all_units);
    for (var first = split * (CHUNK / CHANNELS); first < stop; first += INVOCATIONS) {
        tabulate(first, local, all_units, rows, columns);
        workgroupBarrier();
        let end = min(stop - first, INVOCATIONS);
        let last = (end - 1u) / STEP_UNITS * STEP_UNITS;
        fetch(&fetched, &windows, own_b, first, 0u, k4);
        for (var unit = 0u; unit < end; unit += STEP_UNITS) {
            put(&fetched, local, a_place);
            workgroupBarrier();

            // After the last step it is fetched once more, which costs less than to keep what was fetched alive.
            let next = min(unit + STEP_UNITS, last);
            fetch(&fetched, &windows, own_b, first, next, k4);
            multiply(&sums, m, n);
            workgroupBarrier();
        }
    }

    @if(MOMENTS) {
        let tile_rows = min(positions - first_m, 4u * TILE_M4);
        measure(&sums, m, n, tile_rows, first_m / (4u * TILE_M4), first_n4);
    }
    let origin = split * (BATCH * TARGET_HEIGHT * TARGET_WIDTH);
    let goal = Goal(first_m + m * 4u, positions, origin, first_n4 + n);
    store_row(&sums, 0u, goal, rows, columns);
    store_row(&sums, 1u, goal, rows, columns);
    store_row(&sums, 2u, goal, rows, columns);
    store_row(&sums, 3u, goal, rows, columns);
    if VECTORS_M > 1u {
        store_row(&sums, 4u, goal, rows, columns);
        store_row(&sums, 5u, goal, rows, columns);
        store_row(&sums, 6u, goal, rows, columns);
        store_row(&sums, 7u, goal, rows, columns);
    }
}
