// Convolution on processors that run shaders in subgroups of eight, of grouped channels too:
//     output[m, o] = fused(sum over tap, c of source[m's window at tap, group(o) * K + c] weight[tap, c, o]).
// With BACKWARD it is the gradient of the input: the source is the gradient of the output, the weight is transposed, and z
// counts the phases (see axis.wgsl).
//
// binding 0      source  [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, GROUPS * K] f32
// binding 1, 2   weight and output, see factors.wgsl
// binding 3 + i  additional input i of the epilogue
//
// A workgroup is one subgroup and owns 8 * LOADS neighbouring positions and 32 * COLUMNS neighbouring channels of one group
// (see lib/broadcast). The blocks of the same channels follow one another, so that their weights stay in the cache.
//
// K, N: source and target channels of a group, multiples of 4. VECTOR_N is on. EPILOGUE: there is one.
import package::constants::{BATCH, K, N, GROUPS, LOADS, COLUMNS, KERNEL_WIDTH};
import package::conv2d::axis::{Corner, rows_of, columns_of, corner_of, reach, target_of, inside};
import package::conv2d::factors::{load_weight, store_sum, finish};
import package::lib::broadcast::{Columns, Sums, Terms, accumulate};
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;

const ROWS: u32 = 8u * LOADS;
const BLOCKS_N: u32 = (N + 32u * COLUMNS - 1u) / (32u * COLUMNS);

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let rows = rows_of(id.z);
    let columns = columns_of(id.z);
    let positions = BATCH * rows.count * columns.count;
    let tiles = (positions + ROWS - 1u) / ROWS;
    let block = workgroup(id, count);
    if block >= tiles * GROUPS * BLOCKS_N {
        return;
    }
    let first = block % tiles * ROWS;
    let group = block / tiles / BLOCKS_N;
    let n = block / tiles % BLOCKS_N * (32u * COLUMNS) + 4u * lane;

    var corners: array<Corner, LOADS>;
    for (var g = 0u; g < LOADS; g++) {
        corners[g] = corner_of(first + 8u * g + lane, positions, rows, columns, GROUPS * K);
    }
    var sums: Sums;
    for (var tap_row = 0u; tap_row < rows.taps; tap_row++) {
        for (var tap_column = 0u; tap_column < columns.taps; tap_column++) {
            let kernel_row = u32(rows.kernel + i32(tap_row) * rows.kernel_step);
            let tap = kernel_row * KERNEL_WIDTH + u32(columns.kernel + i32(tap_column) * columns.kernel_step);
            let distance = reach(tap_row, tap_column, rows, columns, GROUPS * K);
            // Pixels outside read the first one, and what they read is dropped.
            var within: array<bool, LOADS>;
            var starts: array<u32, LOADS>;
            for (var g = 0u; g < LOADS; g++) {
                let row = corners[g].row + i32(tap_row) * rows.offset_step;
                let column = corners[g].column + i32(tap_column) * columns.offset_step;
                within[g] = inside(row, column);
                starts[g] = select(0u, corners[g].place + distance, within[g]) + group * K;
            }
            for (var k = 0u; k < K; k += 4u) {
                var terms: Terms;
                for (var g = 0u; g < LOADS; g++) {
                    terms[g] = select(vec4<f32>(0.0), source[(starts[g] + k) / 4u], within[g]);
                }
                var weights: Columns;
                for (var c = 0u; c < COLUMNS; c++) {
                    for (var t = 0u; t < 4u; t++) {
                        weights[c][t] = load_weight(tap, group, k + t, n + 32u * c);
                    }
                }
                accumulate(&sums, terms, weights);
            }
        }
    }
    for (var g = 0u; g < LOADS; g++) {
        // Each invocation divides for its own positions only.
        let own = target_of(first + 8u * g + lane, rows, columns);
        let targets = array<u32, 8>(
            subgroupBroadcast(own, 0u),
            subgroupBroadcast(own, 1u),
            subgroupBroadcast(own, 2u),
            subgroupBroadcast(own, 3u),
            subgroupBroadcast(own, 4u),
            subgroupBroadcast(own, 5u),
            subgroupBroadcast(own, 6u),
            subgroupBroadcast(own, 7u),
        );
        for (var l = 0u; l < 8u; l++) {
            if first + 8u * g + l < positions {
                for (var c = 0u; c < COLUMNS; c++) {
                    store_sum(targets[l], group, n + 32u * c, sums[8u * g + l][c]);
                }
            }
        }
    }
    @if(EPILOGUE)
    for (var row = first; row < min(first + ROWS, positions); row++) {
        let pixel = target_of(row, rows, columns);
        for (var c = 0u; c < COLUMNS; c++) {
            finish(pixel, group, n + 32u * c);
        }
    }
}
