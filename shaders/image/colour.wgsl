// Other colours of the same images: blur, then brightness, contrast, saturation, hue, grey, shift and noise.
//
// binding 0  images  [BATCH, HEIGHT, WIDTH, CHANNELS] f32, of 0 to 255
// binding 1  looks   [BATCH, 12] f32: the factors of brightness, contrast and saturation; the turn of the hue, 1 being
//                    the whole circle; 1 for grey, else 0; what is added to each of three channels; deviation of the noise;
//                    the weights that blur gives to the pixel itself, its neighbour and the one after, on each axis
// binding 2  pivots  [BATCH] f32: the brightness that contrast leaves as it is
// binding 3  seeds   [BATCH] u32, of the noise
// binding 4  output  [BATCH, HEIGHT, WIDTH, CHANNELS] f32, of 0 to 255
//
// An invocation owns one pixel of output, a workgroup 256 in a row. BLUR and NOISE: whether there is any. Saturation, hue and
// grey are of three channels, RGB. Beyond the edge the image is mirrored, without its edge.
import package::constants::{BATCH, HEIGHT, WIDTH, CHANNELS};
import package::lib::index::linear;
import package::lib::random::pcg4d;

@group(0) @binding(0) var<storage, read> images: array<f32>;
@group(0) @binding(1) var<storage, read> looks: array<f32>;
@group(0) @binding(2) var<storage, read> pivots: array<f32>;
@group(0) @binding(3) var<storage, read> seeds: array<u32>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

fn mirrored(at: i32, size: i32) -> u32 {
    let last = size - 1;
    return u32(clamp(last - abs(last - abs(at)), 0, last));
}

fn seen(image: u32, row: u32, column: u32, channel: u32) -> f32 {
    @if(!BLUR) { return images[((image * HEIGHT + row) * WIDTH + column) * CHANNELS + channel]; }
    @if(BLUR) {
        var sum = 0.0;
        for (var dr = -2; dr <= 2; dr++) {
            let line = (image * HEIGHT + mirrored(i32(row) + dr, i32(HEIGHT))) * WIDTH;
            var across = 0.0;
            for (var dc = -2; dc <= 2; dc++) {
                let at = line + mirrored(i32(column) + dc, i32(WIDTH));
                across += looks[image * 12u + 9u + u32(abs(dc))] * images[at * CHANNELS + channel];
            }
            sum += looks[image * 12u + 9u + u32(abs(dr))] * across;
        }
        return sum;
    }
}

fn bounded(x: f32) -> f32 {
    return clamp(x, 0.0, 255.0);
}

fn bounded3(x: vec3<f32>) -> vec3<f32> {
    return clamp(x, vec3<f32>(0.0), vec3<f32>(255.0));
}

// Brightness as ITU-R BT.601 weighs the channels.
fn luma(rgb: vec3<f32>) -> f32 {
    return dot(rgb, vec3<f32>(0.299, 0.587, 0.114));
}

// The colour whose hue is turned: by way of hue, chroma and the least of the channels.
fn turned(rgb: vec3<f32>, turn: f32) -> vec3<f32> {
    let most = max(rgb.r, max(rgb.g, rgb.b));
    let least = min(rgb.r, min(rgb.g, rgb.b));
    let chroma = most - least;
    if chroma <= 0.0 {
        return rgb;
    }
    var sixth = (rgb.r - rgb.g) / chroma + 4.0;
    if rgb.r >= most {
        sixth = (rgb.g - rgb.b) / chroma;
    } else if rgb.g >= most {
        sixth = (rgb.b - rgb.r) / chroma + 2.0;
    }
    let hue = (sixth + 6.0 * turn) / 6.0;
    let place = (hue - floor(hue)) * 6.0;
    let rising = abs((vec3<f32>(place) + vec3<f32>(0.0, 4.0, 2.0)) % vec3<f32>(6.0) - 3.0) - 1.0;
    return vec3<f32>(least) + chroma * clamp(rising, vec3<f32>(0.0), vec3<f32>(1.0));
}

// Nearly normal: the sum of eight uniform numbers of 16 bits, scaled to a deviation of 1.
fn normal(image: u32, element: u32) -> f32 {
    let words = pcg4d(vec4<u32>(seeds[image], element, 0u, 0u));
    let halves = (words & vec4<u32>(0xffffu)) + (words >> vec4<u32>(16u));
    return (f32(halves.x + halves.y + halves.z + halves.w) - 262140.0) * 1.8688131e-5;
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
    let row = i / WIDTH % HEIGHT;
    let column = i % WIDTH;
    let look = 12u * image;
    var pixel: array<f32, CHANNELS>;
    for (var k = 0u; k < CHANNELS; k++) {
        let bright = bounded(seen(image, row, column, k) * looks[look]);
        pixel[k] = bounded(pivots[image] + (bright - pivots[image]) * looks[look + 1u]);
    }
    @if(RGB) {
        var rgb = vec3<f32>(pixel[0], pixel[1], pixel[2]);
        rgb = bounded3(vec3<f32>(luma(rgb)) + (rgb - vec3<f32>(luma(rgb))) * looks[look + 2u]);
        rgb = turned(rgb, looks[look + 3u]);
        rgb = mix(rgb, vec3<f32>(luma(rgb)), looks[look + 4u]);
        pixel[0] = rgb.r;
        pixel[1] = rgb.g;
        pixel[2] = rgb.b;
    }
    for (var k = 0u; k < CHANNELS; k++) {
        var value = pixel[k];
        @if(SHIFT) { value += looks[look + 5u + k]; }
        @if(NOISE) { value += looks[look + 8u] * normal(image, (row * WIDTH + column) * CHANNELS + k); }
        output[i * CHANNELS + k] = bounded(value);
    }
}
