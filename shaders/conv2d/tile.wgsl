// A tile of a matrix product in workgroup memory: 16 steps of k of a, 4 * TILE_M4 rows, and of b, 4 * TILE_N4 columns.
//
// A workgroup of THREADS_M * THREADS_N computes it. An invocation owns every THREADS_M-th vector of four rows, VECTORS_M
// of them, and every THREADS_N-th vector of four columns, VECTORS_N of them.
// PAIRS: a is written two rows at a time, not four. SOFTWARE: a processor runs it; WRITTEN_OUT: as on others all the same.
import package::constants::{THREADS_M, THREADS_N, VECTORS_M, VECTORS_N};

const INVOCATIONS: u32 = THREADS_M * THREADS_N;
const TILE_M4: u32 = VECTORS_M * THREADS_M;
const TILE_N4: u32 = VECTORS_N * THREADS_N;
const SUMS: u32 = VECTORS_M * VECTORS_N * 4u;

// Rows that are written at a time, and how many of such parts make a vector.
@if(PAIRS) alias Part = vec2<f32>;
@if(!PAIRS) alias Part = vec4<f32>;
@if(PAIRS) const PARTS: u32 = 2u;
@if(!PAIRS) const PARTS: u32 = 1u;

// Distance in a_tile of one step of k and of four, between which there is a gap, so that the parts of every fourth step
// that are written at once lie in different banks.
const ONE_A: u32 = TILE_M4 * PARTS;
const FOUR_A: u32 = (TILE_M4 * 4u + 16u * VECTORS_M / THREADS_N) * PARTS;

// a as [k][rows], b as [k][columns].
var<workgroup> a_tile: array<Part, FOUR_A * 4u>;
var<workgroup> b_tile: array<vec4<f32>, TILE_N4 * 16u>;

fn read_a(at: u32) -> vec4<f32> {
    @if(PAIRS) { return vec4<f32>(a_tile[at], a_tile[at + 1u]); }
    @if(!PAIRS) { return a_tile[at]; }
}

// Adds one step of k: the vectors of a from a_at on, those of b from b_at on.
fn add(sums: ptr<function, array<vec4<f32>, SUMS>>, a_at: u32, b_at: u32) {
    var a: array<vec4<f32>, VECTORS_M>;
    for (var i = 0u; i < VECTORS_M; i++) {
        a[i] = read_a(a_at + i * THREADS_M * PARTS);
    }
    var b: array<vec4<f32>, VECTORS_N>;
    // What is read last is used first, so that all is waited for once.
    for (var i = 0u; i < VECTORS_N; i++) {
        let j = VECTORS_N - 1u - i;
        b[j] = b_tile[b_at + j * THREADS_N];
    }
    for (var j = 0u; j < VECTORS_N; j++) {
        for (var i = 0u; i < VECTORS_M; i++) {
            let at = (i * VECTORS_N + j) * 4u;
            (*sums)[at] = fma(vec4<f32>(a[i].x), b[j], (*sums)[at]);
            (*sums)[at + 1u] = fma(vec4<f32>(a[i].y), b[j], (*sums)[at + 1u]);
            (*sums)[at + 2u] = fma(vec4<f32>(a[i].z), b[j], (*sums)[at + 2u]);
            (*sums)[at + 3u] = fma(vec4<f32>(a[i].w), b[j], (*sums)[at + 3u]);
        }
    }
}

// Adds all steps for the vectors of rows from m on and the vectors of columns from n on. The steps are written out, not
// left to the compiler to unroll; a software GPU's compiles them for seconds, and takes a loop whose end it cannot know.
@if(!SOFTWARE || WRITTEN_OUT)
fn multiply(sums: ptr<function, array<vec4<f32>, SUMS>>, m: u32, n: u32) {
    add(sums, m * PARTS, n);
    add(sums, m * PARTS + ONE_A, n + TILE_N4);
    add(sums, m * PARTS + 2u * ONE_A, n + 2u * TILE_N4);
    add(sums, m * PARTS + 3u * ONE_A, n + 3u * TILE_N4);
    add(sums, m * PARTS + FOUR_A, n + 4u * TILE_N4);
    add(sums, m * PARTS + FOUR_A + ONE_A, n + 5u * TILE_N4);
    add(sums, m * PARTS + FOUR_A + 2u * ONE_A, n + 6u * TILE_N4);
    add(sums, m * PARTS + FOUR_A + 3u * ONE_A, n + 7u * TILE_N4);
    add(sums, m * PARTS + 2u * FOUR_A, n + 8u * TILE_N4);
    add(sums, m * PARTS + 2u * FOUR_A + ONE_A, n + 9u * TILE_N4);
    add(sums, m * PARTS + 2u * FOUR_A + 2u * ONE_A, n + 10u * TILE_N4);
    add(sums, m * PARTS + 2u * FOUR_A + 3u * ONE_A, n + 11u * TILE_N4);
    add(sums, m * PARTS + 3u * FOUR_A, n + 12u * TILE_N4);
    add(sums, m * PARTS + 3u * FOUR_A + ONE_A, n + 13u * TILE_N4);
    add(sums, m * PARTS + 3u * FOUR_A + 2u * ONE_A, n + 14u * TILE_N4);
    add(sums, m * PARTS + 3u * FOUR_A + 3u * ONE_A, n + 15u * TILE_N4);
}

@if(SOFTWARE && !WRITTEN_OUT)
fn multiply(sums: ptr<function, array<vec4<f32>, SUMS>>, m: u32, n: u32) {
    for (var k = 0u; k < min(16u, 16u + m); k++) {
        add(sums, m * PARTS + k / 4u * FOUR_A + k % 4u * ONE_A, n + k * TILE_N4);
    }
}
