// The last transform of Winograd's F(2x2, 3x3): the products m of each tile become its 2 x 2 results,
//     output[b, 2 i + r, 2 j + s, c] = fused((A' m A)[r, s]), where m[u, v] = products[4 u + v, tile (b, i, j), c].
//
// binding 0      products  [16, COUNT, 4 * VECTORS] f32 of the COUNT tiles from FIRST on
// binding 1      output    [BATCH, HEIGHT, WIDTH, 4 * VECTORS] f32
// binding 2 + i  additional input i of the epilogue
//
// An invocation owns four channels of a tile.
import package::constants::{BATCH, HEIGHT, WIDTH, VECTORS, FIRST, COUNT};
import package::conv2d::winograd::tiles::{TILES, tile_of};
import package::conv2d::winograd::transform::{Two, Four, to_result};
import package::fused::{Element, fused};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> products: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    let at = i / VECTORS;
    if at >= COUNT || FIRST + at >= TILES {
        return;
    }
    let tile = tile_of(FIRST + at);
    let channel = i % VECTORS;
    var rows: array<Two, 4>;
    for (var r = 0u; r < 4u; r++) {
        var line: Four;
        for (var c = 0u; c < 4u; c++) {
            line[c] = products[((4u * r + c) * COUNT + at) * VECTORS + channel];
        }
        rows[r] = to_result(line);
    }
    for (var c = 0u; c < 2u; c++) {
        let column = to_result(Four(rows[0][c], rows[1][c], rows[2][c], rows[3][c]));
        for (var r = 0u; r < 2u; r++) {
            if tile.row + r < HEIGHT && tile.column + c < WIDTH {
                let pixel = (tile.image * HEIGHT + tile.row + r) * WIDTH + tile.column + c;
                output[pixel * VECTORS + channel] = fused(column[r], pixel * VECTORS + channel);
            }
        }
    }
}
