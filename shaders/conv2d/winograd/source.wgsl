// The first transform of Winograd's F(2x2, 3x3): a patch d of each tile of an image, channel by channel,
//     transformed[4 i + j, t, c] = (B' d B)[i, j], where d are the 4 x 4 pixels that the tile's results see,
// or with GRADIENT
//     transformed[4 i + j, t, c] = (A d A')[i, j], where d are the 2 x 2 gradients of the tile's results.
// Pixels outside of the image are 0, and so are tiles past the last one.
//
// binding 0  source       [BATCH, HEIGHT, WIDTH, 4 * VECTORS] f32
// binding 1  transformed  [16, COUNT, 4 * VECTORS] f32 of the COUNT tiles from FIRST on
//
// An invocation owns four channels of a tile. OFFSET_*: the first tile's first row and column.
import package::constants::{BATCH, HEIGHT, WIDTH, VECTORS, OFFSET_HEIGHT, OFFSET_WIDTH, FIRST, COUNT};
import package::conv2d::winograd::tiles::{TILES, tile_of};
import package::conv2d::winograd::transform::{Two, Four, of_patch, of_gradient};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> transformed: array<vec4<f32>>;

@if(GRADIENT) const SIDE: u32 = 2u;
@if(!GRADIENT) const SIDE: u32 = 4u;
@if(GRADIENT) alias Line = Two;
@if(!GRADIENT) alias Line = Four;

fn transform(line: Line) -> Four {
    @if(GRADIENT) { return of_gradient(line); }
    @if(!GRADIENT) { return of_patch(line); }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    let at = i / VECTORS;
    if at >= COUNT {
        return;
    }
    let exists = FIRST + at < TILES;
    let tile = tile_of(FIRST + at);
    let channel = i % VECTORS;
    let image = tile.image * HEIGHT;
    var rows: array<Four, SIDE>;
    for (var r = 0u; r < SIDE; r++) {
        let row = u32(i32(tile.row + r) + OFFSET_HEIGHT);
        var line: Line;
        for (var c = 0u; c < SIDE; c++) {
            let column = u32(i32(tile.column + c) + OFFSET_WIDTH);
            let inside = exists && row < HEIGHT && column < WIDTH;
            let pixel = select(0u, (image + row) * WIDTH + column, inside);
            line[c] = select(vec4<f32>(0.0), source[pixel * VECTORS + channel], inside);
        }
        rows[r] = transform(line);
    }
    for (var j = 0u; j < 4u; j++) {
        var line: Line;
        for (var r = 0u; r < SIDE; r++) {
            line[r] = rows[r][j];
        }
        let column = transform(line);
        for (var r = 0u; r < 4u; r++) {
            transformed[((4u * r + j) * COUNT + at) * VECTORS + channel] = column[r];
        }
    }
}
