// Matrix products without workgroup memory, for processors that run shaders: y[l] = op(a[l]) op(b[l]) for each l of a
// batch, then the epilogue.
//
// binding 0      a  [BATCH, M, K] f32 or f16, [BATCH, K, M] where TRANSPOSE_A is on
// binding 1      b  [BATCH, K, N] f32 or f16, [BATCH, N, K] where TRANSPOSE_B is on
// binding 2      y  [BATCH, M, N] f32 or f16
// binding 3 + n  input 1 + n of the epilogue, broadcast to y; declared in package::fused
//
// An invocation owns ROWS rows (a multiple of 4) and 4 * COLUMNS columns of y. The 32 invocations of a workgroup lie
// ACROSS side by side. Reads beyond the last row or column are moved back to it; what comes of them is not stored.
// A load costs such a processor as much as some fifty multiply-adds, for a vec4 as for a f32: hence vec4s along
// whichever dimension is stored innermost, and the sums of a large block. Its compiler unrolls the loops of constant
// length, so that no array is indexed by a variable.
// VECTOR_A, VECTOR_B: the stored rows are whole vec4s, and are read as such. STEP: terms of the sum a turn of the loop
// adds: 4 where K is a multiple of 4, else 1. VECTOR_Y: N is a multiple of 4 and y is written as vec4s.
import package::constants::{BATCH, M, N, K, ROWS, COLUMNS, ACROSS, STEP};
import package::lib::held::{Held, Held4};
import package::lib::index::workgroup;
import package::matmul::result::store;

@if(VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<Held4>;
@if(!VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<Held>;
@if(VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<Held4>;
@if(!VECTOR_B) @group(0) @binding(1) var<storage, read> b: array<Held>;

// Distances in a stored factor of neighbouring rows of op(a), columns of op(b) and terms of the sum.
@if(TRANSPOSE_A) const ROW_A: u32 = 1u;
@if(TRANSPOSE_A) const TERM_A: u32 = M;
@if(!TRANSPOSE_A) const ROW_A: u32 = K;
@if(!TRANSPOSE_A) const TERM_A: u32 = 1u;
@if(TRANSPOSE_B) const COLUMN_B: u32 = K;
@if(TRANSPOSE_B) const TERM_B: u32 = 1u;
@if(!TRANSPOSE_B) const COLUMN_B: u32 = 1u;
@if(!TRANSPOSE_B) const TERM_B: u32 = N;

const BLOCK_M: u32 = 32u / ACROSS * ROWS;
const BLOCK_N: u32 = ACROSS * COLUMNS * 4u;
const BLOCKS_M: u32 = (M + BLOCK_M - 1u) / BLOCK_M;
const BLOCKS_N: u32 = (N + BLOCK_N - 1u) / BLOCK_N;

@compute @workgroup_size(32)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup(id, count);
    let matrix = group / (BLOCKS_N * BLOCKS_M);
    let row = group / BLOCKS_N % BLOCKS_M * BLOCK_M + local / ACROSS * ROWS;
    let column = group % BLOCKS_N * BLOCK_N + local % ACROSS * COLUMNS * 4u;
    if matrix >= BATCH || row >= M || column >= N {
        return;
    }

    // Where the first term of each row of op(a) and column of op(b) is stored.
    var at_a: array<u32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        at_a[r] = matrix * M * K + min(row + r, M - 1u) * ROW_A;
    }
    var at_b: array<u32, 4u * COLUMNS>;
    for (var c = 0u; c < 4u * COLUMNS; c++) {
        at_b[c] = matrix * K * N + min(column + c, N - 1u) * COLUMN_B;
    }

    var sums: array<array<vec4<f32>, COLUMNS>, ROWS>;
    for (var k = 0u; k < K; k += STEP) {
        // Vectors of four terms serve four steps.
        @if(VECTOR_A && !TRANSPOSE_A) var terms_a: array<vec4<f32>, ROWS>;
        @if(VECTOR_A && !TRANSPOSE_A) {
            for (var r = 0u; r < ROWS; r++) {
                terms_a[r] = vec4<f32>(a[(at_a[r] + k) / 4u]);
            }
        }
        @if(VECTOR_B && TRANSPOSE_B) var terms_b: array<vec4<f32>, 4u * COLUMNS>;
        @if(VECTOR_B && TRANSPOSE_B) {
            for (var c = 0u; c < 4u * COLUMNS; c++) {
                terms_b[c] = vec4<f32>(b[(at_b[c] + k) / 4u]);
            }
        }
        for (var t = 0u; t < STEP; t++) {
            let term_a = (k + t) * TERM_A;
            let term_b = (k + t) * TERM_B;
            var rows: array<vec4<f32>, ROWS / 4u>;
            for (var q = 0u; q < ROWS / 4u; q++) {
                let r = 4u * q;
                @if(VECTOR_A && TRANSPOSE_A) { rows[q] = vec4<f32>(a[(at_a[r] + term_a) / 4u]); }
                @if(VECTOR_A && !TRANSPOSE_A) {
                    rows[q] = vec4<f32>(terms_a[r][t], terms_a[r + 1u][t], terms_a[r + 2u][t], terms_a[r + 3u][t]);
                }
                @if(!VECTOR_A) {
                    rows[q] = vec4<f32>(Held4(
                        a[at_a[r] + term_a],
                        a[at_a[r + 1u] + term_a],
                        a[at_a[r + 2u] + term_a],
                        a[at_a[r + 3u] + term_a],
                    ));
                }
            }
            for (var c = 0u; c < COLUMNS; c++) {
                let n = 4u * c;
                @if(VECTOR_B && TRANSPOSE_B)
                let columns = vec4<f32>(terms_b[n][t], terms_b[n + 1u][t], terms_b[n + 2u][t], terms_b[n + 3u][t]);
                @if(VECTOR_B && !TRANSPOSE_B)
                let columns = vec4<f32>(b[(at_b[n] + term_b) / 4u]);
                @if(!VECTOR_B)
                let columns = vec4<f32>(Held4(
                    b[at_b[n] + term_b],
                    b[at_b[n + 1u] + term_b],
                    b[at_b[n + 2u] + term_b],
                    b[at_b[n + 3u] + term_b],
                ));
                for (var r = 0u; r < ROWS; r++) {
                    sums[r][c] = fma(vec4<f32>(rows[r / 4u][r % 4u]), columns, sums[r][c]);
                }
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        for (var c = 0u; c < COLUMNS; c++) {
            store(matrix, row + r, column + 4u * c, sums[r][c]);
        }
    }
}
