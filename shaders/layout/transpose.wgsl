// Transposition of matrices: output[b, c, r] = input[b, r, c].
//
// binding 0  input   [BATCH, ROWS, COLUMNS] of u32 or f32, with F16 of f16, moved as they are
// binding 1  output  [BATCH, COLUMNS, ROWS]
//
// A workgroup of 256 owns a tile of 32 by 32: 32 invocations read along a row at a time and write along a column. The
// tile's rows are 33 long so that neither way meets one memory bank twice.
import package::constants::{BATCH, ROWS, COLUMNS};
import package::lib::index::workgroup;

@if(F16) alias Item = f16;
@if(!F16) alias Item = u32;

@group(0) @binding(0) var<storage, read> input: array<Item>;
@group(0) @binding(1) var<storage, read_write> output: array<Item>;

const TILE: u32 = 32u;
const STEP: u32 = 256u / TILE;
const TILES_DOWN: u32 = (ROWS + TILE - 1u) / TILE;
const TILES_ACROSS: u32 = (COLUMNS + TILE - 1u) / TILE;

var<workgroup> tile: array<Item, 1056>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup(id, count);
    let left = group % TILES_ACROSS * TILE;
    let top = group / TILES_ACROSS % TILES_DOWN * TILE;
    let b = group / (TILES_ACROSS * TILES_DOWN);
    let x = local % TILE;
    let first = local / TILE;

    for (var y = first; y < TILE; y += STEP) {
        if b < BATCH && top + y < ROWS && left + x < COLUMNS {
            tile[y * (TILE + 1u) + x] = input[(b * ROWS + top + y) * COLUMNS + left + x];
        }
    }
    workgroupBarrier();
    for (var y = first; y < TILE; y += STEP) {
        if b < BATCH && left + y < COLUMNS && top + x < ROWS {
            output[(b * COLUMNS + left + y) * ROWS + top + x] = tile[x * (TILE + 1u) + y];
        }
    }
}
