// Convolution without workgroup memory, of grouped channels too:
//     output[m, o] = fused(sum over tap, c of source[m's window at tap, group(o) * K + c] weight[tap, c, o]).
// With BACKWARD it is the gradient of the input: the source is the gradient of the output, the weight is transposed, and z
// counts the phases (see axis.wgsl).
//
// binding 0      source  [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, GROUPS * K] f32 or f16
// binding 1, 2   weight and output, see factors.wgsl
// binding 3 + i  additional input i of the epilogue
//
// An invocation owns ROWS neighbouring positions and 4 * VECTORS neighbouring channels of one group; a workgroup 4 such
// blocks of channels for each of 8 blocks of positions.
//
// ROWS: 4, 8 or 16. K, N: source and target channels of a group. VECTOR_N: N is a multiple of 4.
import package::constants::{BATCH, K, N, GROUPS, ROWS, VECTORS, KERNEL_WIDTH};
import package::conv2d::axis::{Axis, Corner, rows_of, columns_of, corner_of, reach, target_of, inside};
import package::conv2d::factors::{load_weight, store};
import package::lib::held::Held;
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> source: array<Held>;

const COLUMNS: u32 = 4u * VECTORS;
const BLOCKS_N: u32 = (N + COLUMNS - 1u) / COLUMNS;

// Where an invocation's results belong: the first of the positions, how many there are, the group, and its first channel.
struct Goal {
    first: u32,
    positions: u32,
    group: u32,
    n: u32,
}

// Stores one of ROWS, of at most 4 vectors: see conv2d/implicit_gemm.wgsl.
fn store_row(sums: ptr<function, array<vec4<f32>, ROWS * VECTORS>>, row: u32, goal: Goal, rows: Axis, columns: Axis) {
    if goal.first + row < goal.positions {
        let to = target_of(goal.first + row, rows, columns);
        let sum = row * VECTORS;
        store(to, goal.group, goal.n, (*sums)[sum]);
        if VECTORS > 1u { store(to, goal.group, goal.n + 4u, (*sums)[sum + 1u]); }
        if VECTORS > 2u { store(to, goal.group, goal.n + 8u, (*sums)[sum + 2u]); }
        if VECTORS > 3u { store(to, goal.group, goal.n + 12u, (*sums)[sum + 3u]); }
    }
}

@compute @workgroup_size(32)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let rows = rows_of(id.z);
    let columns = columns_of(id.z);
    let positions = BATCH * rows.count * columns.count;
    let blocks = GROUPS * BLOCKS_N;
    let tiles_n = (blocks + 3u) / 4u;
    let tile = workgroup(id, count);
    let block = tile % tiles_n * 4u + local % 4u;
    let group = block / BLOCKS_N;
    let n = block % BLOCKS_N * COLUMNS;
    let first = (tile / tiles_n * 8u + local / 4u) * ROWS;
    if first >= positions || block >= blocks {
        return;
    }

    var corners: array<Corner, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
        corners[i] = corner_of(first + i, positions, rows, columns, GROUPS * K);
    }
    var sums: array<vec4<f32>, ROWS * VECTORS>;
    for (var i = 0u; i < ROWS * VECTORS; i++) {
        sums[i] = vec4<f32>(0.0);
    }
    for (var tap_row = 0u; tap_row < rows.taps; tap_row++) {
        for (var tap_column = 0u; tap_column < columns.taps; tap_column++) {
            let kernel_row = u32(rows.kernel + i32(tap_row) * rows.kernel_step);
            let tap = kernel_row * KERNEL_WIDTH + u32(columns.kernel + i32(tap_column) * columns.kernel_step);
            let distance = reach(tap_row, tap_column, rows, columns, GROUPS * K);
            // Pixels outside read the first one, and what they read is dropped.
            var useful = false;
            var within: array<bool, ROWS>;
            var starts: array<u32, ROWS>;
            for (var i = 0u; i < ROWS; i++) {
                let row = corners[i].row + i32(tap_row) * rows.offset_step;
                let column = corners[i].column + i32(tap_column) * columns.offset_step;
                within[i] = inside(row, column);
                starts[i] = select(0u, corners[i].place + distance, within[i]) + group * K;
                useful = useful || within[i];
            }
            if !useful {
                continue;
            }
            for (var channel = 0u; channel < K; channel++) {
                var values: array<f32, ROWS>;
                for (var i = 0u; i < ROWS; i++) {
                    values[i] = select(0.0, f32(source[starts[i] + channel]), within[i]);
                }
                for (var j = 0u; j < VECTORS; j++) {
                    let w = load_weight(tap, group, channel, n + 4u * j);
                    for (var i = 0u; i < ROWS; i++) {
                        sums[i * VECTORS + j] = fma(vec4<f32>(values[i]), w, sums[i * VECTORS + j]);
                    }
                }
            }
        }
    }
    let goal = Goal(first, positions, group, n);
    store_row(&sums, 0u, goal, rows, columns);
    store_row(&sums, 1u, goal, rows, columns);
    store_row(&sums, 2u, goal, rows, columns);
    store_row(&sums, 3u, goal, rows, columns);
    if ROWS > 4u {
        store_row(&sums, 4u, goal, rows, columns);
        store_row(&sums, 5u, goal, rows, columns);
        store_row(&sums, 6u, goal, rows, columns);
        store_row(&sums, 7u, goal, rows, columns);
    }
    if ROWS > 8u {
        store_row(&sums, 8u, goal, rows, columns);
        store_row(&sums, 9u, goal, rows, columns);
        store_row(&sums, 10u, goal, rows, columns);
        store_row(&sums, 11u, goal, rows, columns);
        store_row(&sums, 12u, goal, rows, columns);
        store_row(&sums, 13u, goal, rows, columns);
        store_row(&sums, 14u, goal, rows, columns);
        store_row(&sums, 15u, goal, rows, columns);
    }
}
