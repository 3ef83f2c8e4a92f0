// The weight and the output of the convolutions without workgroup memory.
//
// binding 1  weight  [KERNEL_HEIGHT, KERNEL_WIDTH, K, GROUPS * N] f32 or f16, with BACKWARD
//                    [KERNEL_HEIGHT, KERNEL_WIDTH, GROUPS * K, N]
// binding 2  output  [BATCH, TARGET_HEIGHT, TARGET_WIDTH, GROUPS * N] f32 or f16
//
// K, N: source and target channels of a group. VECTOR_N: N is a multiple of 4.
import package::constants::{K, N, GROUPS};
import package::fused::{Stored, fused};
import package::lib::held::{Held, Held4};

@if(VECTOR_N) @group(0) @binding(1) var<storage, read> weight: array<Held4>;
@if(!VECTOR_N) @group(0) @binding(1) var<storage, read> weight: array<Held>;
@group(0) @binding(2) var<storage, read_write> output: array<Stored>;

// Place of the weights of one tap and source channel for target channels from n on.
fn place_of_weight(tap: u32, group: u32, channel: u32, n: u32) -> u32 {
    @if(!BACKWARD) { return (tap * K + channel) * (GROUPS * N) + group * N + n; }
    @if(BACKWARD) { return ((tap * GROUPS + group) * K + channel) * N + n; }
}

// Four of them. Channels past the edge read what others read, because what comes of them is not stored.
fn load_weight(tap: u32, group: u32, channel: u32, n: u32) -> vec4<f32> {
    @if(VECTOR_N) { return vec4<f32>(weight[place_of_weight(tap, group, channel, min(n, N - 4u)) / 4u]); }
    @if(!VECTOR_N) {
        let last = N - 1u;
        let first = place_of_weight(tap, group, channel, 0u);
        return vec4<f32>(Held4(
            weight[first + min(n, last)],
            weight[first + min(n + 1u, last)],
            weight[first + min(n + 2u, last)],
            weight[first + min(n + 3u, last)],
        ));
    }
}

// Stores four neighbouring channels of a pixel, those that exist, after the epilogue.
@if(VECTOR_N)
fn store(pixel: u32, group: u32, n: u32, value: vec4<f32>) {
    if n < N {
        let at = (pixel * (GROUPS * N) + group * N + n) / 4u;
        output[at] = Stored(fused(value, at));
    }
}

@if(!VECTOR_N)
fn store(pixel: u32, group: u32, n: u32, value: vec4<f32>) {
    let at = pixel * (GROUPS * N) + group * N + n;
    if n < N { output[at] = Stored(fused(value.x, at)); }
    if n + 1u < N { output[at + 1u] = Stored(fused(value.y, at + 1u)); }
    if n + 2u < N { output[at + 2u] = Stored(fused(value.z, at + 2u)); }
    if n + 3u < N { output[at + 3u] = Stored(fused(value.w, at + 3u)); }
}

// The same in two parts, for kernels with so many sums that an epilogue for each of them would not be unrolled any more: the
// sums are stored as they are, and the epilogue follows from memory.
@if(VECTOR_N)
fn store_sum(pixel: u32, group: u32, n: u32, value: vec4<f32>) {
    if n < N {
        output[(pixel * (GROUPS * N) + group * N + n) / 4u] = Stored(value);
    }
}

@if(VECTOR_N)
fn finish(pixel: u32, group: u32, n: u32) {
    if n < N {
        let at = (pixel * (GROUPS * N) + group * N + n) / 4u;
        output[at] = Stored(fused(vec4<f32>(output[at]), at));
    }
}
