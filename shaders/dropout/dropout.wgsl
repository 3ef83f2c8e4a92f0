// Dropout: output[i] = input[i] * SCALE where a random word is at least THRESHOLD, else 0. The word is number i % 4 of
// pcg4d(seed, step, LAYER, i / 4).
//
// binding 0  input   any shape, read as COUNT Elements (f32, or four in a row where VECTOR is on)
// binding 1  clock   [2] u32: seed and step
// binding 2  output  as input
//
// An invocation owns one Element, a workgroup 256 in a row.
// THRESHOLD: the rate as a fraction of 2^32. SCALE: 1 / (1 - rate).
import package::constants::{COUNT, LAYER, THRESHOLD, SCALE};
import package::lib::element::Element;
import package::lib::index::linear;
import package::lib::random::pcg4d;

@group(0) @binding(0) var<storage, read> input: array<Element>;
@group(0) @binding(1) var<storage, read> clock: vec2<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<Element>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i >= COUNT {
        return;
    }
    @if(VECTOR) {
        let kept = pcg4d(vec4<u32>(clock, LAYER, i)) >= vec4<u32>(THRESHOLD);
        output[i] = select(Element(0.0), input[i] * SCALE, kept);
    }
    @if(!VECTOR) {
        let words = pcg4d(vec4<u32>(clock, LAYER, i / 4u));
        output[i] = select(0.0, input[i] * SCALE, words[i % 4u] >= THRESHOLD);
    }
}
