// Images seen through an affine map: output[n, r, c] is the image n at row maps[n] . (r, c, 1) and column
// maps[n] . (r, c, 1) of the second three, both counted in pixels from the centre of the first one.
//
// binding 0  images  [BATCH, HEIGHT, WIDTH, CHANNELS] u8, four to a word
// binding 1  maps    [BATCH, 6] f32
// binding 2  output  [BATCH, HEIGHT, WIDTH, CHANNELS] f32, of 0 to 255
//
// An invocation owns one pixel of output, a workgroup 256 in a row. Between pixels it interpolates linearly where BILINEAR
// is on, else it takes the nearest. Beyond the edge lies FILL, with CLAMP the pixel at the edge, with REFLECT the image
// mirrored, with WRAP the image again.
import package::constants::{BATCH, HEIGHT, WIDTH, CHANNELS, FILL};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> images: array<u32>;
@group(0) @binding(1) var<storage, read> maps: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;

// Farther out than any place that is told apart: what is beyond is moved here, so that it is a whole number.
const FAR: f32 = 1048576.0;

// The place in 0..size of the pixel at `at`; -1 where there is none.
fn inside(at: i32, size: i32) -> i32 {
    @if(CLAMP) { return clamp(at, 0, size - 1); }
    @if(REFLECT) {
        let place = ((at % (2 * size)) + 2 * size) % (2 * size);
        return min(place, 2 * size - 1 - place);
    }
    @if(WRAP) { return ((at % size) + size) % size; }
    @if(!CLAMP && !REFLECT && !WRAP) { return select(-1, at, at >= 0 && at < size); }
}

// Channel `channel` of the pixel at `row` and `column`, both from `inside`.
fn byte(image: u32, row: i32, column: i32, channel: u32) -> f32 {
    if row < 0 || column < 0 {
        return FILL;
    }
    let at = ((image * HEIGHT + u32(row)) * WIDTH + u32(column)) * CHANNELS + channel;
    return f32((images[at / 4u] >> (8u * (at % 4u))) & 0xffu);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i >= BATCH * HEIGHT * WIDTH {
        return;
    }
    let image = i / (HEIGHT * WIDTH);
    let r = f32(i / WIDTH % HEIGHT);
    let c = f32(i % WIDTH);
    let map = 6u * image;
    let y = clamp(maps[map] * r + maps[map + 1u] * c + maps[map + 2u], -FAR, FAR);
    let x = clamp(maps[map + 3u] * r + maps[map + 4u] * c + maps[map + 5u], -FAR, FAR);
    @if(BILINEAR) {
        let top = inside(i32(floor(y)), i32(HEIGHT));
        let bottom = inside(i32(floor(y)) + 1, i32(HEIGHT));
        let left = inside(i32(floor(x)), i32(WIDTH));
        let right = inside(i32(floor(x)) + 1, i32(WIDTH));
        let down = y - floor(y);
        let across = x - floor(x);
        for (var k = 0u; k < CHANNELS; k++) {
            let above = mix(byte(image, top, left, k), byte(image, top, right, k), across);
            let below = mix(byte(image, bottom, left, k), byte(image, bottom, right, k), across);
            output[i * CHANNELS + k] = mix(above, below, down);
        }
    }
    @if(!BILINEAR) {
        let row = inside(i32(floor(y + 0.5)), i32(HEIGHT));
        let column = inside(i32(floor(x + 0.5)), i32(WIDTH));
        for (var k = 0u; k < CHANNELS; k++) {
            output[i * CHANNELS + k] = byte(image, row, column, k);
        }
    }
}
