// Bytes to normalised floats: output[i] = (images[i] / 255 - mean[c]) / deviation[c], where c is the channel of i.
//
// binding 0  images     [..., CHANNELS] u8, four to a word
// binding 1  mean       [CHANNELS] f32
// binding 2  deviation  [CHANNELS] f32
// binding 3  output     [..., CHANNELS] f32, read as vec4 where VECTOR is on
//
// An invocation owns one word of images, a workgroup 256 in a row. COUNT: number of bytes; a multiple of four where
// VECTOR is on.
import package::constants::{COUNT, CHANNELS};
import package::lib::element::Element;
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> images: array<u32>;
@group(0) @binding(1) var<storage, read> mean: array<f32>;
@group(0) @binding(2) var<storage, read> deviation: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<Element>;

fn normalised(word: u32, i: u32, lane: u32) -> f32 {
    let c = (i * 4u + lane) % CHANNELS;
    return (f32((word >> (8u * lane)) & 0xffu) / 255.0 - mean[c]) / deviation[c];
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i * 4u >= COUNT {
        return;
    }
    let word = images[i];
    @if(VECTOR) {
        output[i] = vec4<f32>(
            normalised(word, i, 0u), normalised(word, i, 1u), normalised(word, i, 2u), normalised(word, i, 3u),
        );
    }
    @if(!VECTOR) {
        for (var lane = 0u; lane < min(4u, COUNT - i * 4u); lane++) {
            output[i * 4u + lane] = normalised(word, i, lane);
        }
    }
}
