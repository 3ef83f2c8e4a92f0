// Matrix products of few rows: y[l] = op(a[l]) op(b[l]) for each l of a batch, then the epilogue. Reading b is what takes
// time, and each element of it is read once.
//
// binding 0      a  [BATCH, M, K] f32 or f16, [BATCH, K, M] where TRANSPOSE_A is on; M is at most 8
// binding 1      b  [BATCH, K, N] f32 or f16, [BATCH, N, K] where TRANSPOSE_B is on
// binding 2      y  [BATCH, M, N] f32 or f16
// binding 3 + n  input 1 + n of the epilogue, broadcast to y; declared in package::fused
//
// A workgroup of 256 owns 32 columns of y, in 8 groups of 4. Of each group every row is the sum over 32 invocations, which
// take every 32nd term each; their sums are added in order through workgroup memory. Neighbours read neighbours in
// memory: other columns, or other terms where b is transposed. Reads beyond the last column are moved back to it; what
// comes of them is not stored.
// VECTOR_B: b is not transposed and N is a multiple of 4, so that b is read as vec4s. VECTOR_Y: N is a multiple of 4 and y
// is written as vec4s.
import package::constants::{BATCH, M, N, K};
import package::lib::held::{Held, Held4};
import package::lib::index::workgroup;
import package::matmul::result::store;

@group(0) @binding(0) var<storage, read> a: array<Held>;
@if(VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<Held4>;
@if(!VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<Held>;

@if(TRANSPOSE_A) const ROW_A: u32 = 1u;
@if(TRANSPOSE_A) const TERM_A: u32 = M;
@if(!TRANSPOSE_A) const ROW_A: u32 = K;
@if(!TRANSPOSE_A) const TERM_A: u32 = 1u;
@if(TRANSPOSE_B) const COLUMN_B: u32 = K;
@if(TRANSPOSE_B) const TERM_B: u32 = 1u;
@if(!TRANSPOSE_B) const COLUMN_B: u32 = 1u;
@if(!TRANSPOSE_B) const TERM_B: u32 = N;

const ACROSS: u32 = 8u;
const DOWN: u32 = 32u;
const GROUPS: u32 = (N + 4u * ACROSS - 1u) / (4u * ACROSS);

// One row: the sums of each invocation, [DOWN, ACROSS].
var<workgroup> partial: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup(id, count);
    let matrix = group / GROUPS;
    if matrix >= BATCH {
        return;
    }
    @if(TRANSPOSE_B) let across = local / DOWN;
    @if(TRANSPOSE_B) let down = local % DOWN;
    @if(!TRANSPOSE_B) let across = local % ACROSS;
    @if(!TRANSPOSE_B) let down = local / ACROSS;
    let column = 4u * (group % GROUPS * ACROSS + across);

    @if(VECTOR_B) let at = (matrix * K * N + min(column, N - 4u)) / 4u;
    @if(!VECTOR_B)
    let at = matrix * K * N + min(column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(N - 1u)) * COLUMN_B;
    var sums: array<vec4<f32>, M>;
    for (var k = down; k < K; k += DOWN) {
        @if(VECTOR_B) let terms = vec4<f32>(b[at + k * TERM_B / 4u]);
        @if(!VECTOR_B) let places = at + k * TERM_B;
        @if(!VECTOR_B) let terms = vec4<f32>(Held4(b[places.x], b[places.y], b[places.z], b[places.w]));
        for (var row = 0u; row < M; row++) {
            sums[row] = fma(vec4<f32>(f32(a[matrix * M * K + row * ROW_A + k * TERM_A])), terms, sums[row]);
        }
    }
    for (var row = 0u; row < M; row++) {
        workgroupBarrier();
        partial[down * ACROSS + across] = sums[row];
        workgroupBarrier();
        if down == 0u {
            var sum = partial[across];
            for (var other = 1u; other < DOWN; other++) {
                sum += partial[other * ACROSS + across];
            }
            store(matrix, row, column, sum);
        }
    }
}
