// Matrix products by tiles in workgroup memory: y[l] = op(a[l]) op(b[l]) for each l of a batch, then the epilogue.
//
// bindings 0, 1  a, b: see matmul/factors.wgsl
// binding 2      y  [SPLITS, BATCH, M, N] f32 or f16: the result, or with several SPLITS the sums over CHUNK terms each
// binding 3 + n  input 1 + n of the epilogue, broadcast to y; declared in package::fused
//
// A workgroup of ACROSS x DOWN invocations owns a tile of TILE_M x TILE_N of y, an invocation 4 columns of it (8 where
// WIDE is on) and 4 rows (8 where TALL is on). The tile goes through k 16 at a time: the invocations copy that part of
// the factors to workgroup memory, in vec4s that were fetched while the part before was computed with; then each adds
// 16 outer products to its own block of y. The 8 rows (columns) of an invocation are two groups of 4, half a tile apart,
// so that neighbours read neighbouring vec4s.
// CHUNK: a multiple of 16. TWO_A, FOUR_A (TWO_B, FOUR_B): an invocation fetches two, four vec4s of a (b) for a tile, else
// one. VECTOR_Y: N is a multiple of 4 and y is written as vec4s.
import package::constants::{BATCH, M, N, K, ACROSS, DOWN, TILE_M, TILE_N, CHUNK, SPLITS};
import package::lib::block::block_of;
import package::lib::index::workgroup;
import package::matmul::factors::{position_a, position_b, fetch_a, fetch_b, row_a, column_b, term_a, term_b};
import package::matmul::result::store;

const INVOCATIONS: u32 = ACROSS * DOWN;
const TILES_M: u32 = (M + TILE_M - 1u) / TILE_M;
const TILES_N: u32 = (N + TILE_N - 1u) / TILE_N;

// vec4s from one term of a tile to the next, and from one four of them to the next. A factor that is stored along the terms
// is turned as it is put into the tile, four terms an invocation: the gap after them spreads what is put at once over all
// banks of workgroup memory.
const ONE_A: u32 = TILE_M / 4u;
const ONE_B: u32 = TILE_N / 4u;
@if(TRANSPOSE_A) const GROUP_A: u32 = 4u * ONE_A;
@if(!TRANSPOSE_A) const GROUP_A: u32 = 4u * ONE_A + 2u;
@if(TRANSPOSE_B) const GROUP_B: u32 = 4u * ONE_B + 2u;
@if(!TRANSPOSE_B) const GROUP_B: u32 = 4u * ONE_B;

// op(a) and op(b) of the tile: [16, TILE_M] and [16, TILE_N].
var<workgroup> tile_a: array<vec4<f32>, 4u * GROUP_A>;
var<workgroup> tile_b: array<vec4<f32>, 4u * GROUP_B>;

// An invocation's block of y, by rows.
struct Sums {
    left0: vec4<f32>,
    left1: vec4<f32>,
    left2: vec4<f32>,
    left3: vec4<f32>,
    left4: vec4<f32>,
    left5: vec4<f32>,
    left6: vec4<f32>,
    left7: vec4<f32>,
    right0: vec4<f32>,
    right1: vec4<f32>,
    right2: vec4<f32>,
    right3: vec4<f32>,
    right4: vec4<f32>,
    right5: vec4<f32>,
    right6: vec4<f32>,
    right7: vec4<f32>,
}

// Adds the outer product of one k.
fn step(sums: ptr<function, Sums>, at_a: u32, at_b: u32) {
    let a0 = tile_a[at_a];
    @if(TALL) let a1 = tile_a[at_a + DOWN];
    let b0 = tile_b[at_b];
    @if(WIDE) let b1 = tile_b[at_b + ACROSS];
    (*sums).left0 = fma(vec4<f32>(a0.x), b0, (*sums).left0);
    (*sums).left1 = fma(vec4<f32>(a0.y), b0, (*sums).left1);
    (*sums).left2 = fma(vec4<f32>(a0.z), b0, (*sums).left2);
    (*sums).left3 = fma(vec4<f32>(a0.w), b0, (*sums).left3);
    @if(TALL) {
        (*sums).left4 = fma(vec4<f32>(a1.x), b0, (*sums).left4);
        (*sums).left5 = fma(vec4<f32>(a1.y), b0, (*sums).left5);
        (*sums).left6 = fma(vec4<f32>(a1.z), b0, (*sums).left6);
        (*sums).left7 = fma(vec4<f32>(a1.w), b0, (*sums).left7);
    }
    @if(WIDE) {
        (*sums).right0 = fma(vec4<f32>(a0.x), b1, (*sums).right0);
        (*sums).right1 = fma(vec4<f32>(a0.y), b1, (*sums).right1);
        (*sums).right2 = fma(vec4<f32>(a0.z), b1, (*sums).right2);
        (*sums).right3 = fma(vec4<f32>(a0.w), b1, (*sums).right3);
    }
    @if(WIDE && TALL) {
        (*sums).right4 = fma(vec4<f32>(a1.x), b1, (*sums).right4);
        (*sums).right5 = fma(vec4<f32>(a1.y), b1, (*sums).right5);
        (*sums).right6 = fma(vec4<f32>(a1.z), b1, (*sums).right6);
        (*sums).right7 = fma(vec4<f32>(a1.w), b1, (*sums).right7);
    }
}

// Places of the vec4s that an invocation puts into a tile, from one to the next.
@if(TRANSPOSE_A) const NEXT_A: u32 = INVOCATIONS;
@if(!TRANSPOSE_A) const NEXT_A: u32 = INVOCATIONS / 16u;
@if(TRANSPOSE_B) const NEXT_B: u32 = INVOCATIONS / 16u;
@if(!TRANSPOSE_B) const NEXT_B: u32 = INVOCATIONS;

// Puts a fetched vec4 at `place` of the tile of a; if it holds terms of one row, into component `row` of four places.
fn put_a(place: u32, row: u32, value: vec4<f32>) {
    @if(TRANSPOSE_A) { tile_a[place] = value; }
    @if(!TRANSPOSE_A) {
        tile_a[place][row] = value.x;
        tile_a[place + ONE_A][row] = value.y;
        tile_a[place + 2u * ONE_A][row] = value.z;
        tile_a[place + 3u * ONE_A][row] = value.w;
    }
}

fn put_b(place: u32, column: u32, value: vec4<f32>) {
    @if(!TRANSPOSE_B) { tile_b[place] = value; }
    @if(TRANSPOSE_B) {
        tile_b[place][column] = value.x;
        tile_b[place + ONE_B][column] = value.y;
        tile_b[place + 2u * ONE_B][column] = value.z;
        tile_b[place + 3u * ONE_B][column] = value.w;
    }
}

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup(id, count);
    if group >= TILES_N * TILES_M * BATCH * SPLITS {
        return;
    }
    let n = group % TILES_N * TILE_N;
    let m = group / TILES_N % TILES_M * TILE_M;
    let matrix = group / (TILES_N * TILES_M) % BATCH;
    let split = group / (TILES_N * TILES_M * BATCH);

    let first = split * CHUNK;
    let end = min(first + CHUNK, K);
    let position_a0 = position_a(matrix, m, local);
    @if(TWO_A) let position_a1 = position_a(matrix, m, local + 1u * INVOCATIONS);
    @if(FOUR_A) let position_a2 = position_a(matrix, m, local + 2u * INVOCATIONS);
    @if(FOUR_A) let position_a3 = position_a(matrix, m, local + 3u * INVOCATIONS);
    let position_b0 = position_b(matrix, n, local);
    @if(TWO_B) let position_b1 = position_b(matrix, n, local + 1u * INVOCATIONS);
    @if(FOUR_B) let position_b2 = position_b(matrix, n, local + 2u * INVOCATIONS);
    @if(FOUR_B) let position_b3 = position_b(matrix, n, local + 3u * INVOCATIONS);

    // Compilers of drivers leave in the loop what is computed there.
    let place_a = term_a(local) / 4u * GROUP_A + term_a(local) % 4u * ONE_A + row_a(local) / 4u;
    let place_b = term_b(local) / 4u * GROUP_B + term_b(local) % 4u * ONE_B + column_b(local) / 4u;
    let side_a = row_a(local) % 4u;
    let side_b = column_b(local) % 4u;
    let block = block_of(local, ACROSS);
    let at_a = block.x;
    let at_b = block.y;
    put_a(place_a, side_a, fetch_a(position_a0, local, first));
    @if(TWO_A) { put_a(place_a + 1u * NEXT_A, side_a, fetch_a(position_a1, local + 1u * INVOCATIONS, first)); }
    @if(FOUR_A) { put_a(place_a + 2u * NEXT_A, side_a, fetch_a(position_a2, local + 2u * INVOCATIONS, first)); }
    @if(FOUR_A) { put_a(place_a + 3u * NEXT_A, side_a, fetch_a(position_a3, local + 3u * INVOCATIONS, first)); }
    put_b(place_b, side_b, fetch_b(position_b0, local, first));
    @if(TWO_B) { put_b(place_b + 1u * NEXT_B, side_b, fetch_b(position_b1, local + 1u * INVOCATIONS, first)); }
    @if(FOUR_B) { put_b(place_b + 2u * NEXT_B, side_b, fetch_b(position_b2, local + 2u * INVOCATIONS, first)); }
    @if(FOUR_B) { put_b(place_b + 3u * NEXT_B, side_b, fetch_b(position_b3, local + 3u * INVOCATIONS, first)); }

    var sums: Sums;
    var k = first;
    loop {
        workgroupBarrier();
        // The last part is fetched twice: a branch would make the loads wait for each other.
        let next = select(k, k + 16u, k + 16u < end);
        let next_a0 = fetch_a(position_a0, local, next);
        @if(TWO_A) let next_a1 = fetch_a(position_a1, local + 1u * INVOCATIONS, next);
        @if(FOUR_A) let next_a2 = fetch_a(position_a2, local + 2u * INVOCATIONS, next);
        @if(FOUR_A) let next_a3 = fetch_a(position_a3, local + 3u * INVOCATIONS, next);
        let next_b0 = fetch_b(position_b0, local, next);
        @if(TWO_B) let next_b1 = fetch_b(position_b1, local + 1u * INVOCATIONS, next);
        @if(FOUR_B) let next_b2 = fetch_b(position_b2, local + 2u * INVOCATIONS, next);
        @if(FOUR_B) let next_b3 = fetch_b(position_b3, local + 3u * INVOCATIONS, next);
        step(&sums, at_a + 0u * GROUP_A + 0u * ONE_A, at_b + 0u * GROUP_B + 0u * ONE_B);
        step(&sums, at_a + 0u * GROUP_A + 1u * ONE_A, at_b + 0u * GROUP_B + 1u * ONE_B);
        step(&sums, at_a + 0u * GROUP_A + 2u * ONE_A, at_b + 0u * GROUP_B + 2u * ONE_B);
        step(&sums, at_a + 0u * GROUP_A + 3u * ONE_A, at_b + 0u * GROUP_B + 3u * ONE_B);
        step(&sums, at_a + 1u * GROUP_A + 0u * ONE_A, at_b + 1u * GROUP_B + 0u * ONE_B);
        step(&sums, at_a + 1u * GROUP_A + 1u * ONE_A, at_b + 1u * GROUP_B + 1u * ONE_B);
        step(&sums, at_a + 1u * GROUP_A + 2u * ONE_A, at_b + 1u * GROUP_B + 2u * ONE_B);
        step(&sums, at_a + 1u * GROUP_A + 3u * ONE_A, at_b + 1u * GROUP_B + 3u * ONE_B);
        step(&sums, at_a + 2u * GROUP_A + 0u * ONE_A, at_b + 2u * GROUP_B + 0u * ONE_B);
        step(&sums, at_a + 2u * GROUP_A + 1u * ONE_A, at_b + 2u * GROUP_B + 1u * ONE_B);
        step(&sums, at_a + 2u * GROUP_A + 2u * ONE_A, at_b + 2u * GROUP_B + 2u * ONE_B);
        step(&sums, at_a + 2u * GROUP_A + 3u * ONE_A, at_b + 2u * GROUP_B + 3u * ONE_B);
        step(&sums, at_a + 3u * GROUP_A + 0u * ONE_A, at_b + 3u * GROUP_B + 0u * ONE_B);
        step(&sums, at_a + 3u * GROUP_A + 1u * ONE_A, at_b + 3u * GROUP_B + 1u * ONE_B);
        step(&sums, at_a + 3u * GROUP_A + 2u * ONE_A, at_b + 3u * GROUP_B + 2u * ONE_B);
        step(&sums, at_a + 3u * GROUP_A + 3u * ONE_A, at_b + 3u * GROUP_B + 3u * ONE_B);
        workgroupBarrier();
        put_a(place_a, side_a, next_a0);
        @if(TWO_A) { put_a(place_a + 1u * NEXT_A, side_a, next_a1); }
        @if(FOUR_A) { put_a(place_a + 2u * NEXT_A, side_a, next_a2); }
        @if(FOUR_A) { put_a(place_a + 3u * NEXT_A, side_a, next_a3); }
        put_b(place_b, side_b, next_b0);
        @if(TWO_B) { put_b(place_b + 1u * NEXT_B, side_b, next_b1); }
        @if(FOUR_B) { put_b(place_b + 2u * NEXT_B, side_b, next_b2); }
        @if(FOUR_B) { put_b(place_b + 3u * NEXT_B, side_b, next_b3); }

        continuing {
            k += 16u;
            break if k >= end;
        }
    }

    let place = split * BATCH + matrix;
    let row = m + 4u * at_a;
    let column = n + 4u * at_b;
    store(place, row + 0u, column, sums.left0);
    store(place, row + 1u, column, sums.left1);
    store(place, row + 2u, column, sums.left2);
    store(place, row + 3u, column, sums.left3);
    @if(TALL) {
        store(place, row + TILE_M / 2u + 0u, column, sums.left4);
        store(place, row + TILE_M / 2u + 1u, column, sums.left5);
        store(place, row + TILE_M / 2u + 2u, column, sums.left6);
        store(place, row + TILE_M / 2u + 3u, column, sums.left7);
    }
    @if(WIDE) {
        store(place, row + 0u, column + TILE_N / 2u, sums.right0);
        store(place, row + 1u, column + TILE_N / 2u, sums.right1);
        store(place, row + 2u, column + TILE_N / 2u, sums.right2);
        store(place, row + 3u, column + TILE_N / 2u, sums.right3);
    }
    @if(WIDE && TALL) {
        store(place, row + TILE_M / 2u + 0u, column + TILE_N / 2u, sums.right4);
        store(place, row + TILE_M / 2u + 1u, column + TILE_N / 2u, sums.right5);
        store(place, row + TILE_M / 2u + 2u, column + TILE_N / 2u, sums.right6);
        store(place, row + TILE_M / 2u + 3u, column + TILE_N / 2u, sums.right7);
    }
}
