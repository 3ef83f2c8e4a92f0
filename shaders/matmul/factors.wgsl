// The factors of a matrix product as blocks of 4 x 4, of matrices stored either way round and of any extents.
//
// binding 0  a  [BATCH, M, K] f32, [BATCH, K, M] where TRANSPOSE_A is on
// binding 1  b  [BATCH, K, N] f32, [BATCH, N, K] where TRANSPOSE_B is on
//
// Blocks come from tiles of TILE_M rows, TILE_N columns and 16 terms, and may lie beyond the edge of the matrices: past
// the last term they are 0; past the last row or column they repeat others, because what comes of them is not stored.
// VECTOR_A, VECTOR_B: the stored rows are whole vec4s, and are read as such.
import package::constants::{M, N, K, TILE_M, TILE_N};

@if(VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@if(!VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<f32>;
@if(VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@if(!VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<f32>;

// Whether tiles pass an edge.
const EDGE_M: bool = M % TILE_M != 0u;
const EDGE_N: bool = N % TILE_N != 0u;
const EDGE_K: bool = K % 16u != 0u;

// Extents as stored, rows first, and whether tiles pass them.
@if(TRANSPOSE_A) const STORED_A: vec2<u32> = vec2<u32>(K, M);
@if(TRANSPOSE_A) const EDGE_A: vec2<bool> = vec2<bool>(EDGE_K, EDGE_M);
@if(!TRANSPOSE_A) const STORED_A: vec2<u32> = vec2<u32>(M, K);
@if(!TRANSPOSE_A) const EDGE_A: vec2<bool> = vec2<bool>(EDGE_M, EDGE_K);
@if(TRANSPOSE_B) const STORED_B: vec2<u32> = vec2<u32>(N, K);
@if(TRANSPOSE_B) const EDGE_B: vec2<bool> = vec2<bool>(EDGE_N, EDGE_K);
@if(!TRANSPOSE_B) const STORED_B: vec2<u32> = vec2<u32>(K, N);
@if(!TRANSPOSE_B) const EDGE_B: vec2<bool> = vec2<bool>(EDGE_K, EDGE_N);

// `at`, moved back to `last` where it may pass it. `edge` is a constant, so that nothing is left of it elsewhere.
fn inside(at: u32, last: u32, edge: bool) -> u32 {
    return select(at, min(at, last), edge);
}

// Four neighbours in a stored row of matrix `matrix` of a; `column` is a multiple of 4.
fn row_a(matrix: u32, row: u32, column: u32) -> vec4<f32> {
    let start = (matrix * STORED_A.x + inside(row, STORED_A.x - 1u, EDGE_A.x)) * STORED_A.y;
    @if(VECTOR_A) { return a[(start + inside(column, STORED_A.y - 4u, EDGE_A.y)) / 4u]; }
    @if(!VECTOR_A) {
        let last = STORED_A.y - 1u;
        return vec4<f32>(
            a[start + inside(column, last, EDGE_A.y)],
            a[start + inside(column + 1u, last, EDGE_A.y)],
            a[start + inside(column + 2u, last, EDGE_A.y)],
            a[start + inside(column + 3u, last, EDGE_A.y)],
        );
    }
}

// Likewise of b.
fn row_b(matrix: u32, row: u32, column: u32) -> vec4<f32> {
    let start = (matrix * STORED_B.x + inside(row, STORED_B.x - 1u, EDGE_B.x)) * STORED_B.y;
    @if(VECTOR_B) { return b[(start + inside(column, STORED_B.y - 4u, EDGE_B.y)) / 4u]; }
    @if(!VECTOR_B) {
        let last = STORED_B.y - 1u;
        return vec4<f32>(
            b[start + inside(column, last, EDGE_B.y)],
            b[start + inside(column + 1u, last, EDGE_B.y)],
            b[start + inside(column + 2u, last, EDGE_B.y)],
            b[start + inside(column + 3u, last, EDGE_B.y)],
        );
    }
}

// `block`, whose columns are the terms k to k + 3, with zeros for those that do not exist.
fn existing_terms(block: mat4x4<f32>, k: u32) -> mat4x4<f32> {
    if !EDGE_K {
        return block;
    }
    let zero = vec4<f32>(0.0);
    return mat4x4<f32>(
        select(zero, block[0], k < K),
        select(zero, block[1], k + 1u < K),
        select(zero, block[2], k + 2u < K),
        select(zero, block[3], k + 3u < K),
    );
}

// Terms k to k + 3 of rows m to m + 3 of op(a): each column of the block is one term.
fn block_a(matrix: u32, m: u32, k: u32) -> mat4x4<f32> {
    @if(TRANSPOSE_A)
    let block = mat4x4<f32>(row_a(matrix, k, m), row_a(matrix, k + 1u, m), row_a(matrix, k + 2u, m), row_a(matrix, k + 3u, m));
    @if(!TRANSPOSE_A)
    let block = transpose(
        mat4x4<f32>(row_a(matrix, m, k), row_a(matrix, m + 1u, k), row_a(matrix, m + 2u, k), row_a(matrix, m + 3u, k)),
    );
    return existing_terms(block, k);
}

// Terms k to k + 3 of columns n to n + 3 of op(b): each column of the block is one term.
fn block_b(matrix: u32, n: u32, k: u32) -> mat4x4<f32> {
    @if(TRANSPOSE_B)
    let block = transpose(
        mat4x4<f32>(row_b(matrix, n, k), row_b(matrix, n + 1u, k), row_b(matrix, n + 2u, k), row_b(matrix, n + 3u, k)),
    );
    @if(!TRANSPOSE_B)
    let block = mat4x4<f32>(row_b(matrix, k, n), row_b(matrix, k + 1u, n), row_b(matrix, k + 2u, n), row_b(matrix, k + 3u, n));
    return existing_terms(block, k);
}
