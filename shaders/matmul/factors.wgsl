// The factors of a matrix product as vec4s of their stored rows, of matrices stored either way round and of any extents.
//
// binding 0  a  [BATCH, M, K] f32 or f16, [BATCH, K, M] where TRANSPOSE_A is on
// binding 1  b  [BATCH, K, N] f32 or f16, [BATCH, N, K] where TRANSPOSE_B is on
//
// A tile of a has TILE_M rows, one of b TILE_N columns, both 16 terms of the sum: 4 * TILE vec4s, which are numbered as
// they are stored, so that neighbours read neighbours. A vec4 is fetched from its position in the first tile, which an
// invocation computes once, plus the same distance for all invocations. Tiles may lie beyond the edge of the matrices:
// past the last term they are 0; past the last row or column they hold anything that is in the buffer, because what
// comes of them is not stored.
// VECTOR_A, VECTOR_B: the stored rows are whole vec4s, and are read as such.
import package::constants::{BATCH, M, N, K, TILE_M, TILE_N};
import package::lib::held::{Held, Held4};

@if(VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<Held4>;
@if(!VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<Held>;
@if(VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<Held4>;
@if(!VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<Held>;

// Elements of what the buffers are read in.
@if(VECTOR_A) const WIDTH_A: u32 = 4u;
@if(!VECTOR_A) const WIDTH_A: u32 = 1u;
@if(VECTOR_B) const WIDTH_B: u32 = 4u;
@if(!VECTOR_B) const WIDTH_B: u32 = 1u;

// Distance of neighbouring terms.
@if(TRANSPOSE_A) const TERM_A: u32 = M;
@if(!TRANSPOSE_A) const TERM_A: u32 = 1u;
@if(TRANSPOSE_B) const TERM_B: u32 = 1u;
@if(!TRANSPOSE_B) const TERM_B: u32 = N;

// Whether tiles pass an edge. Nothing is left of the guards where they do not.
const EDGE_K: bool = K % 16u != 0u;
const EDGE_A: bool = EDGE_K || M % TILE_M != 0u;
const EDGE_B: bool = EDGE_K || N % TILE_N != 0u;
const LAST_A: u32 = BATCH * M * K / WIDTH_A - 1u;
const LAST_B: u32 = BATCH * K * N / WIDTH_B - 1u;

// The first term of vec4 `number` of a tile.
@if(TRANSPOSE_A) fn term_a(number: u32) -> u32 { return number / (TILE_M / 4u); }
@if(!TRANSPOSE_A) fn term_a(number: u32) -> u32 { return number % 4u * 4u; }
@if(TRANSPOSE_B) fn term_b(number: u32) -> u32 { return number % 4u * 4u; }
@if(!TRANSPOSE_B) fn term_b(number: u32) -> u32 { return number / (TILE_N / 4u); }

// Its first row (column) in the tile.
@if(TRANSPOSE_A) fn row_a(number: u32) -> u32 { return number % (TILE_M / 4u) * 4u; }
@if(!TRANSPOSE_A) fn row_a(number: u32) -> u32 { return number / 4u; }
@if(TRANSPOSE_B) fn column_b(number: u32) -> u32 { return number / 4u; }
@if(!TRANSPOSE_B) fn column_b(number: u32) -> u32 { return number % (TILE_N / 4u) * 4u; }

// Where vec4 `number` of the tile of the first terms is stored that begins at row `m` of matrix `matrix`.
fn position_a(matrix: u32, m: u32, number: u32) -> u32 {
    let row = m + row_a(number);
    @if(TRANSPOSE_A) { return ((matrix * K + term_a(number)) * M + row) / WIDTH_A; }
    @if(!TRANSPOSE_A) { return ((matrix * M + row) * K + term_a(number)) / WIDTH_A; }
}

// Likewise of b, at column `n`.
fn position_b(matrix: u32, n: u32, number: u32) -> u32 {
    let column = n + column_b(number);
    @if(TRANSPOSE_B) { return ((matrix * N + column) * K + term_b(number)) / WIDTH_B; }
    @if(!TRANSPOSE_B) { return ((matrix * K + term_b(number)) * N + column) / WIDTH_B; }
}

// The vec4 `k` terms, a multiple of 4, after `position`; `number` is its number in the tile.
fn fetch_a(position: u32, number: u32, k: u32) -> vec4<f32> {
    let at = position + k / WIDTH_A * TERM_A;
    @if(VECTOR_A) let value = vec4<f32>(a[select(at, min(at, LAST_A), EDGE_A)]);
    @if(!VECTOR_A) let value = vec4<f32>(Held4(a[min(at, LAST_A)], a[min(at + 1u, LAST_A)], a[min(at + 2u, LAST_A)], a[min(at + 3u, LAST_A)]));
    if !EDGE_K {
        return value;
    }
    let term = k + term_a(number);
    @if(TRANSPOSE_A) { return select(vec4<f32>(0.0), value, term < K); }
    @if(!TRANSPOSE_A) { return existing(value, term); }
}

fn fetch_b(position: u32, number: u32, k: u32) -> vec4<f32> {
    let at = position + k / WIDTH_B * TERM_B;
    @if(VECTOR_B) let value = vec4<f32>(b[select(at, min(at, LAST_B), EDGE_B)]);
    @if(!VECTOR_B) let value = vec4<f32>(Held4(b[min(at, LAST_B)], b[min(at + 1u, LAST_B)], b[min(at + 2u, LAST_B)], b[min(at + 3u, LAST_B)]));
    if !EDGE_K {
        return value;
    }
    let term = k + term_b(number);
    @if(TRANSPOSE_B) { return existing(value, term); }
    @if(!TRANSPOSE_B) { return select(vec4<f32>(0.0), value, term < K); }
}

// Four neighbouring terms, those that exist.
fn existing(terms: vec4<f32>, first: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), terms, vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(K));
}
