// Matrix products by tiles in workgroup memory: y[l] = op(a[l]) op(b[l]) for each l of a batch, then the epilogue.
//
// bindings 0, 1  a, b: see matmul/factors.wgsl
// binding 2      y  [SPLITS, BATCH, M, N] f32: the result, or with several SPLITS the sums over CHUNK terms each
// binding 3 + n  input 1 + n of the epilogue, broadcast to y; declared in package::fused
//
// A workgroup of ACROSS x DOWN invocations owns a tile of TILE_M x TILE_N of y, an invocation 4 columns of it (8 where
// WIDE is on) and 4 rows (8 where TALL is on). The tile goes through k 16 at a time: the invocations copy that part of
// the factors to workgroup memory, in blocks of 4 x 4 that were fetched while the part before was computed with; then
// each adds 16 outer products to its own block of y. The 8 rows (columns) of an invocation are two groups of 4, half a
// tile apart, so that neighbours read neighbouring vec4s.
// CHUNK: a multiple of 16. TWICE: there are more blocks to fetch than invocations, but at most twice as many.
// VECTOR_Y: N is a multiple of 4 and y is written as vec4s.
import package::constants::{BATCH, M, N, K, ACROSS, DOWN, TILE_M, TILE_N, CHUNK, SPLITS};
import package::lib::index::workgroup;
import package::matmul::factors::{block_a, block_b};
import package::matmul::result::store;

const INVOCATIONS: u32 = ACROSS * DOWN;
const TILES_M: u32 = (M + TILE_M - 1u) / TILE_M;
const TILES_N: u32 = (N + TILE_N - 1u) / TILE_N;
// vec4s of one term in a tile.
const STRIDE_A: u32 = TILE_M / 4u;
const STRIDE_B: u32 = TILE_N / 4u;

// op(a) and op(b) of the tile: [16, TILE_M] and [16, TILE_N].
var<workgroup> tile_a: array<vec4<f32>, 16u * STRIDE_A>;
var<workgroup> tile_b: array<vec4<f32>, 16u * STRIDE_B>;

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

// Which four rows of a (columns of b) and which four terms block `block` of a tile holds, so that neighbouring blocks
// are neighbours in memory.
fn place_a(block: u32) -> vec2<u32> {
    @if(TRANSPOSE_A) { return vec2<u32>(block % STRIDE_A, block / STRIDE_A); }
    @if(!TRANSPOSE_A) { return vec2<u32>(block / 4u, block % 4u); }
}

fn place_b(block: u32) -> vec2<u32> {
    @if(TRANSPOSE_B) { return vec2<u32>(block / 4u, block % 4u); }
    @if(!TRANSPOSE_B) { return vec2<u32>(block % STRIDE_B, block / STRIDE_B); }
}

// The tile of a has TILE_M blocks, that of b, which are numbered after them, TILE_N.
fn fetch(block: u32, matrix: u32, m: u32, n: u32, k: u32) -> mat4x4<f32> {
    var terms: mat4x4<f32>;
    if block < TILE_M {
        let place = 4u * place_a(block);
        terms = block_a(matrix, m + place.x, k + place.y);
    } else if block < TILE_M + TILE_N {
        let place = 4u * place_b(block - TILE_M);
        terms = block_b(matrix, n + place.x, k + place.y);
    }
    return terms;
}

fn put(block: u32, terms: mat4x4<f32>) {
    if block < TILE_M {
        let place = place_a(block);
        let at = 4u * place.y * STRIDE_A + place.x;
        tile_a[at] = terms[0];
        tile_a[at + STRIDE_A] = terms[1];
        tile_a[at + 2u * STRIDE_A] = terms[2];
        tile_a[at + 3u * STRIDE_A] = terms[3];
    } else if block < TILE_M + TILE_N {
        let place = place_b(block - TILE_M);
        let at = 4u * place.y * STRIDE_B + place.x;
        tile_b[at] = terms[0];
        tile_b[at + STRIDE_B] = terms[1];
        tile_b[at + 2u * STRIDE_B] = terms[2];
        tile_b[at + 3u * STRIDE_B] = terms[3];
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

    let at_a = local / ACROSS;
    let at_b = local % ACROSS;
    var sums: Sums;
    let end = min((split + 1u) * CHUNK, K);
    var terms = fetch(local, matrix, m, n, split * CHUNK);
    @if(TWICE) var more_terms = fetch(local + INVOCATIONS, matrix, m, n, split * CHUNK);
    for (var k = split * CHUNK; k < end; k += 16u) {
        put(local, terms);
        @if(TWICE) put(local + INVOCATIONS, more_terms);
        workgroupBarrier();
        if k + 16u < end {
            terms = fetch(local, matrix, m, n, k + 16u);
            @if(TWICE) { more_terms = fetch(local + INVOCATIONS, matrix, m, n, k + 16u); }
        }
        step(&sums, at_a + 0u * STRIDE_A, at_b + 0u * STRIDE_B);
        step(&sums, at_a + 1u * STRIDE_A, at_b + 1u * STRIDE_B);
        step(&sums, at_a + 2u * STRIDE_A, at_b + 2u * STRIDE_B);
        step(&sums, at_a + 3u * STRIDE_A, at_b + 3u * STRIDE_B);
        step(&sums, at_a + 4u * STRIDE_A, at_b + 4u * STRIDE_B);
        step(&sums, at_a + 5u * STRIDE_A, at_b + 5u * STRIDE_B);
        step(&sums, at_a + 6u * STRIDE_A, at_b + 6u * STRIDE_B);
        step(&sums, at_a + 7u * STRIDE_A, at_b + 7u * STRIDE_B);
        step(&sums, at_a + 8u * STRIDE_A, at_b + 8u * STRIDE_B);
        step(&sums, at_a + 9u * STRIDE_A, at_b + 9u * STRIDE_B);
        step(&sums, at_a + 10u * STRIDE_A, at_b + 10u * STRIDE_B);
        step(&sums, at_a + 11u * STRIDE_A, at_b + 11u * STRIDE_B);
        step(&sums, at_a + 12u * STRIDE_A, at_b + 12u * STRIDE_B);
        step(&sums, at_a + 13u * STRIDE_A, at_b + 13u * STRIDE_B);
        step(&sums, at_a + 14u * STRIDE_A, at_b + 14u * STRIDE_B);
        step(&sums, at_a + 15u * STRIDE_A, at_b + 15u * STRIDE_B);
        workgroupBarrier();
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
