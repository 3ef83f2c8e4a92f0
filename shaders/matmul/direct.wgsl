// Matrix products without workgroup memory, for processors that run shaders: y[l] = op(a[l]) op(b[l]) for each l of a
// batch, then the epilogue.
//
// binding 0      a  [BATCH, M, K] f32, [BATCH, K, M] where TRANSPOSE_A is on
// binding 1      b  [BATCH, K, N] f32, [BATCH, N, K] where TRANSPOSE_B is on
// binding 2      y  [BATCH, M, N] f32
// binding 3 + n  input 1 + n of the epilogue, broadcast to y; declared in package::fused
//
// An invocation owns 8 rows and 16 columns of y, a workgroup of 8 x 4 invocations 128 columns and 32 rows. Reads beyond
// the last row or column are moved back to it; what comes of them is not stored.
// VECTOR_A: a is transposed and M a multiple of 4, so that rows of y are read as vec4s. VECTOR_B: b is not transposed and
// N is a multiple of 4. VECTOR_Y: N is a multiple of 4 and y is written as vec4s.
import package::constants::{BATCH, M, N, K};
import package::lib::index::workgroup;
import package::matmul::result::store;

@if(VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@if(!VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<f32>;
@if(VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@if(!VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<f32>;

// Distances in a stored factor of neighbouring rows of op(a), columns of op(b) and terms of the sum.
@if(TRANSPOSE_A) const ROW_A: u32 = 1u;
@if(TRANSPOSE_A) const TERM_A: u32 = M;
@if(!TRANSPOSE_A) const ROW_A: u32 = K;
@if(!TRANSPOSE_A) const TERM_A: u32 = 1u;
@if(TRANSPOSE_B) const COLUMN_B: u32 = K;
@if(TRANSPOSE_B) const TERM_B: u32 = 1u;
@if(!TRANSPOSE_B) const COLUMN_B: u32 = 1u;
@if(!TRANSPOSE_B) const TERM_B: u32 = N;

const BLOCKS_M: u32 = (M + 31u) / 32u;
const BLOCKS_N: u32 = (N + 127u) / 128u;

// Positions of four neighbouring rows (columns) in a stored factor of `extent` of them, `stride` apart.
fn positions(first: u32, extent: u32, stride: u32) -> vec4<u32> {
    return min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(extent - 1u)) * stride;
}

@if(!VECTOR_A) fn gather_a(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
}

@if(!VECTOR_B) fn gather_b(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
}

@compute @workgroup_size(8, 4)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let group = workgroup(id, count);
    let matrix = group / (BLOCKS_N * BLOCKS_M);
    let row = group / BLOCKS_N % BLOCKS_M * 32u + local.y * 8u;
    let column = group % BLOCKS_N * 128u + local.x * 16u;
    if matrix >= BATCH || row >= M || column >= N {
        return;
    }

    @if(VECTOR_A) let at_a0 = (matrix * M * K + min(row + 0u, M - 4u)) / 4u;
    @if(!VECTOR_A) let at_a0 = matrix * M * K + positions(row + 0u, M, ROW_A);
    @if(VECTOR_A) let at_a1 = (matrix * M * K + min(row + 4u, M - 4u)) / 4u;
    @if(!VECTOR_A) let at_a1 = matrix * M * K + positions(row + 4u, M, ROW_A);
    @if(VECTOR_B) let at_b0 = (matrix * K * N + min(column + 0u, N - 4u)) / 4u;
    @if(!VECTOR_B) let at_b0 = matrix * K * N + positions(column + 0u, N, COLUMN_B);
    @if(VECTOR_B) let at_b1 = (matrix * K * N + min(column + 4u, N - 4u)) / 4u;
    @if(!VECTOR_B) let at_b1 = matrix * K * N + positions(column + 4u, N, COLUMN_B);
    @if(VECTOR_B) let at_b2 = (matrix * K * N + min(column + 8u, N - 4u)) / 4u;
    @if(!VECTOR_B) let at_b2 = matrix * K * N + positions(column + 8u, N, COLUMN_B);
    @if(VECTOR_B) let at_b3 = (matrix * K * N + min(column + 12u, N - 4u)) / 4u;
    @if(!VECTOR_B) let at_b3 = matrix * K * N + positions(column + 12u, N, COLUMN_B);
    var s00 = vec4<f32>(0.0);
    var s01 = vec4<f32>(0.0);
    var s02 = vec4<f32>(0.0);
    var s03 = vec4<f32>(0.0);
    var s10 = vec4<f32>(0.0);
    var s11 = vec4<f32>(0.0);
    var s12 = vec4<f32>(0.0);
    var s13 = vec4<f32>(0.0);
    var s20 = vec4<f32>(0.0);
    var s21 = vec4<f32>(0.0);
    var s22 = vec4<f32>(0.0);
    var s23 = vec4<f32>(0.0);
    var s30 = vec4<f32>(0.0);
    var s31 = vec4<f32>(0.0);
    var s32 = vec4<f32>(0.0);
    var s33 = vec4<f32>(0.0);
    var s40 = vec4<f32>(0.0);
    var s41 = vec4<f32>(0.0);
    var s42 = vec4<f32>(0.0);
    var s43 = vec4<f32>(0.0);
    var s50 = vec4<f32>(0.0);
    var s51 = vec4<f32>(0.0);
    var s52 = vec4<f32>(0.0);
    var s53 = vec4<f32>(0.0);
    var s60 = vec4<f32>(0.0);
    var s61 = vec4<f32>(0.0);
    var s62 = vec4<f32>(0.0);
    var s63 = vec4<f32>(0.0);
    var s70 = vec4<f32>(0.0);
    var s71 = vec4<f32>(0.0);
    var s72 = vec4<f32>(0.0);
    var s73 = vec4<f32>(0.0);
    for (var k = 0u; k < K; k++) {
        @if(VECTOR_A) let a0 = a[at_a0 + k * TERM_A / 4u];
        @if(!VECTOR_A) let a0 = gather_a(at_a0 + k * TERM_A);
        @if(VECTOR_A) let a1 = a[at_a1 + k * TERM_A / 4u];
        @if(!VECTOR_A) let a1 = gather_a(at_a1 + k * TERM_A);
        @if(VECTOR_B) let b0 = b[at_b0 + k * TERM_B / 4u];
        @if(!VECTOR_B) let b0 = gather_b(at_b0 + k * TERM_B);
        @if(VECTOR_B) let b1 = b[at_b1 + k * TERM_B / 4u];
        @if(!VECTOR_B) let b1 = gather_b(at_b1 + k * TERM_B);
        @if(VECTOR_B) let b2 = b[at_b2 + k * TERM_B / 4u];
        @if(!VECTOR_B) let b2 = gather_b(at_b2 + k * TERM_B);
        @if(VECTOR_B) let b3 = b[at_b3 + k * TERM_B / 4u];
        @if(!VECTOR_B) let b3 = gather_b(at_b3 + k * TERM_B);
        s00 = fma(vec4<f32>(a0.x), b0, s00);
        s01 = fma(vec4<f32>(a0.x), b1, s01);
        s02 = fma(vec4<f32>(a0.x), b2, s02);
        s03 = fma(vec4<f32>(a0.x), b3, s03);
        s10 = fma(vec4<f32>(a0.y), b0, s10);
        s11 = fma(vec4<f32>(a0.y), b1, s11);
        s12 = fma(vec4<f32>(a0.y), b2, s12);
        s13 = fma(vec4<f32>(a0.y), b3, s13);
        s20 = fma(vec4<f32>(a0.z), b0, s20);
        s21 = fma(vec4<f32>(a0.z), b1, s21);
        s22 = fma(vec4<f32>(a0.z), b2, s22);
        s23 = fma(vec4<f32>(a0.z), b3, s23);
        s30 = fma(vec4<f32>(a0.w), b0, s30);
        s31 = fma(vec4<f32>(a0.w), b1, s31);
        s32 = fma(vec4<f32>(a0.w), b2, s32);
        s33 = fma(vec4<f32>(a0.w), b3, s33);
        s40 = fma(vec4<f32>(a1.x), b0, s40);
        s41 = fma(vec4<f32>(a1.x), b1, s41);
        s42 = fma(vec4<f32>(a1.x), b2, s42);
        s43 = fma(vec4<f32>(a1.x), b3, s43);
        s50 = fma(vec4<f32>(a1.y), b0, s50);
        s51 = fma(vec4<f32>(a1.y), b1, s51);
        s52 = fma(vec4<f32>(a1.y), b2, s52);
        s53 = fma(vec4<f32>(a1.y), b3, s53);
        s60 = fma(vec4<f32>(a1.z), b0, s60);
        s61 = fma(vec4<f32>(a1.z), b1, s61);
        s62 = fma(vec4<f32>(a1.z), b2, s62);
        s63 = fma(vec4<f32>(a1.z), b3, s63);
        s70 = fma(vec4<f32>(a1.w), b0, s70);
        s71 = fma(vec4<f32>(a1.w), b1, s71);
        s72 = fma(vec4<f32>(a1.w), b2, s72);
        s73 = fma(vec4<f32>(a1.w), b3, s73);
    }
    store(matrix, row + 0u, column + 0u, s00);
    store(matrix, row + 0u, column + 4u, s01);
    store(matrix, row + 0u, column + 8u, s02);
    store(matrix, row + 0u, column + 12u, s03);
    store(matrix, row + 1u, column + 0u, s10);
    store(matrix, row + 1u, column + 4u, s11);
    store(matrix, row + 1u, column + 8u, s12);
    store(matrix, row + 1u, column + 12u, s13);
    store(matrix, row + 2u, column + 0u, s20);
    store(matrix, row + 2u, column + 4u, s21);
    store(matrix, row + 2u, column + 8u, s22);
    store(matrix, row + 2u, column + 12u, s23);
    store(matrix, row + 3u, column + 0u, s30);
    store(matrix, row + 3u, column + 4u, s31);
    store(matrix, row + 3u, column + 8u, s32);
    store(matrix, row + 3u, column + 12u, s33);
    store(matrix, row + 4u, column + 0u, s40);
    store(matrix, row + 4u, column + 4u, s41);
    store(matrix, row + 4u, column + 8u, s42);
    store(matrix, row + 4u, column + 12u, s43);
    store(matrix, row + 5u, column + 0u, s50);
    store(matrix, row + 5u, column + 4u, s51);
    store(matrix, row + 5u, column + 8u, s52);
    store(matrix, row + 5u, column + 12u, s53);
    store(matrix, row + 6u, column + 0u, s60);
    store(matrix, row + 6u, column + 4u, s61);
    store(matrix, row + 6u, column + 8u, s62);
    store(matrix, row + 6u, column + 12u, s63);
    store(matrix, row + 7u, column + 0u, s70);
    store(matrix, row + 7u, column + 4u, s71);
    store(matrix, row + 7u, column + 8u, s72);
    store(matrix, row + 7u, column + 12u, s73);
}
