// Images mixed with others of their batch: inside of a box the other image, outside of it a mean of both, and 0 in a second
// box, wherever that lies.
//
// binding 0  images  [BATCH, HEIGHT, WIDTH, CHANNELS] f32
// binding 1  mixes   [BATCH, 10] f32: number of the other image, share of the image itself in the mean; first row, first
//                    column, row and column after the last of the box that is the other image; the same of the one that is 0
// binding 2  output  [BATCH, HEIGHT, WIDTH, CHANNELS] f32
//
// An invocation owns one element of output, a workgroup 256 in a row.
import package::constants::{BATCH, HEIGHT, WIDTH, CHANNELS};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> images: array<f32>;
@group(0) @binding(1) var<storage, read> mixes: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

fn in_box(first: u32, row: f32, column: f32) -> bool {
    return row >= mixes[first] && column >= mixes[first + 1u] && row < mixes[first + 2u] && column < mixes[first + 3u];
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i >= BATCH * HEIGHT * WIDTH * CHANNELS {
        return;
    }
    let image = i / (HEIGHT * WIDTH * CHANNELS);
    let within = i % (HEIGHT * WIDTH * CHANNELS);
    let row = f32(within / (WIDTH * CHANNELS));
    let column = f32(within / CHANNELS % WIDTH);
    let mix = 10u * image;
    let other = u32(clamp(mixes[mix], 0.0, f32(BATCH - 1u)));
    var share = mixes[mix + 1u];
    if in_box(mix + 2u, row, column) {
        share = 0.0;
    }
    var value = images[i];
    if share != 1.0 {
        value = share * value + (1.0 - share) * images[other * HEIGHT * WIDTH * CHANNELS + within];
    }
    output[i] = select(value, 0.0, in_box(mix + 6u, row, column));
}
