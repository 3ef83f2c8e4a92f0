// Matrix products on processors that run shaders in subgroups of eight: y[l] = op(a[l]) op(b[l]) for each l of a batch,
// then the epilogue.
//
// binding 0      a  [BATCH, M, K] f32, [BATCH, K, M] where TRANSPOSE_A is on
// binding 1      b  [BATCH, K, N] f32, [BATCH, N, K] where TRANSPOSE_B is on
// binding 2      y  [BATCH, M, N] f32
// binding 3 + n  input 1 + n of the epilogue, broadcast to y; declared in package::fused
//
// A workgroup is one subgroup and owns 8 * LOADS rows and 32 * COLUMNS columns of y (see lib/broadcast). The blocks of a
// column follow one another, so that their part of b stays in the cache. Reads beyond the last row or column are moved
// back to it; what comes of them is not stored.
//
// K, N: multiples of 4. LOADS: 4 where TRANSPOSE_A is on. VECTOR_A: the stored rows of a are whole vec4s, and are read as
// such. VECTOR_Y is on. EPILOGUE: there is one.
import package::constants::{BATCH, M, N, K, LOADS, COLUMNS};
import package::lib::broadcast::{Columns, Sums, Terms, accumulate};
import package::lib::index::workgroup;
import package::matmul::result::{store_sum, finish};

@if(VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@if(!VECTOR_A) @group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;

const ROWS: u32 = 8u * LOADS;
const BLOCKS_M: u32 = (M + ROWS - 1u) / ROWS;
const BLOCKS_N: u32 = (N + 32u * COLUMNS - 1u) / (32u * COLUMNS);

// Row of the block that lane `lane` loads as its `group`-th.
@if(TRANSPOSE_A) fn row_of(group: u32, lane: u32) -> u32 { return 4u * lane + group; }
@if(!TRANSPOSE_A) fn row_of(group: u32, lane: u32) -> u32 { return 8u * group + lane; }

// Four terms from k on of each row that `lane` loads, for the block at row `row`.
fn load_a(matrix: u32, row: u32, lane: u32, k: u32) -> Terms {
    var terms: Terms;
    for (var g = 0u; g < LOADS; g++) {
        @if(!TRANSPOSE_A) { terms[g] = a[((matrix * M + min(row + row_of(g, lane), M - 1u)) * K + k) / 4u]; }
        @if(TRANSPOSE_A && !VECTOR_A) {
            let first = (matrix * K + k) * M + min(row + row_of(g, lane), M - 1u);
            terms[g] = vec4<f32>(a[first], a[first + M], a[first + 2u * M], a[first + 3u * M]);
        }
    }
    @if(TRANSPOSE_A && VECTOR_A)
    for (var t = 0u; t < 4u; t++) {
        let rows = a[((matrix * K + k + t) * M + min(row + row_of(0u, lane), M - 4u)) / 4u];
        for (var g = 0u; g < LOADS; g++) {
            terms[g][t] = rows[g];
        }
    }
    return terms;
}

// Four terms from k on of four columns from `column` on.
fn load_b(matrix: u32, column: u32, k: u32) -> array<vec4<f32>, 4> {
    var columns: array<vec4<f32>, 4>;
    @if(TRANSPOSE_B)
    for (var c = 0u; c < 4u; c++) {
        let terms = b[((matrix * N + min(column + c, N - 1u)) * K + k) / 4u];
        for (var t = 0u; t < 4u; t++) {
            columns[t][c] = terms[t];
        }
    }
    @if(!TRANSPOSE_B)
    for (var t = 0u; t < 4u; t++) {
        columns[t] = b[((matrix * K + k + t) * N + min(column, N - 4u)) / 4u];
    }
    return columns;
}

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let block = workgroup(id, count);
    let matrix = block / (BLOCKS_M * BLOCKS_N);
    if matrix >= BATCH {
        return;
    }
    let row = block % BLOCKS_M * ROWS;
    let column = block / BLOCKS_M % BLOCKS_N * (32u * COLUMNS) + 4u * lane;

    var sums: Sums;
    for (var k = 0u; k < K; k += 4u) {
        var columns: Columns;
        for (var c = 0u; c < COLUMNS; c++) {
            columns[c] = load_b(matrix, column + 32u * c, k);
        }
        accumulate(&sums, load_a(matrix, row, lane, k), columns);
    }
    for (var g = 0u; g < LOADS; g++) {
        for (var l = 0u; l < 8u; l++) {
            for (var c = 0u; c < COLUMNS; c++) {
                store_sum(matrix, row + row_of(g, l), column + 32u * c, sums[8u * g + l][c]);
            }
        }
    }
    @if(EPILOGUE)
    for (var r = row; r < min(row + ROWS, M); r++) {
        for (var c = 0u; c < COLUMNS; c++) {
            finish(matrix, r, column + 32u * c);
        }
    }
}
