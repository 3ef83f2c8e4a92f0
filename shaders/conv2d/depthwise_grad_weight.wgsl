// The gradient of a depthwise convolution's weight:
//     output[split, tap, c] = sum over positions p of the split of x[p's window at tap, c] dy[p, c].
//
// binding 0  x       [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, CHANNELS] f32 or f16
// binding 1  dy      [BATCH, TARGET_HEIGHT, TARGET_WIDTH, CHANNELS] f32 or f16
// binding 2  output  [SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, 1, CHANNELS] f32
//
// An invocation owns one Element (f32, or vec4<f32> of four channels) of all taps of one row of the window: it walks the
// image rows of its split, CHUNK of them. A workgroup owns 256 such in a row, channels first.
//
// CHANNELS: number of channels. VECTOR: Elements are vectors. SLIDING: stride and dilation along the width are 1, so that what
// a window reads is what the one before did, moved by one, and one more.
import package::constants::{
    BATCH, CHANNELS, CHUNK, SPLITS, KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH, DILATION_HEIGHT,
    DILATION_WIDTH, BEFORE_HEIGHT, BEFORE_WIDTH, SOURCE_HEIGHT, SOURCE_WIDTH, TARGET_HEIGHT, TARGET_WIDTH,
};
import package::lib::element::{Element, HeldElement};
import package::lib::index::linear;

@if(VECTOR) const UNITS: u32 = CHANNELS / 4u;
@if(!VECTOR) const UNITS: u32 = CHANNELS;

@group(0) @binding(0) var<storage, read> x: array<HeldElement>;
@group(0) @binding(1) var<storage, read> dy: array<HeldElement>;
@group(0) @binding(2) var<storage, read_write> output: array<Element>;

// x at a column of the row that begins at pixel `start`. What is outside reads the first element instead, so that no read waits
// for a branch.
fn x_at(start: u32, column: i32, channel: u32) -> Element {
    let within = u32(column) < SOURCE_WIDTH;
    let value = Element(x[select(0u, (start + u32(column)) * UNITS + channel, within)]);
    return select(Element(0.0), value, within);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    let channel = i % UNITS;
    let tap_row = i / UNITS % KERNEL_HEIGHT;
    let split = i / (UNITS * KERNEL_HEIGHT);
    if split >= SPLITS {
        return;
    }

    var sums: array<Element, KERNEL_WIDTH>;
    for (var t = 0u; t < KERNEL_WIDTH; t++) {
        sums[t] = Element(0.0);
    }
    @if(SLIDING) var window: array<Element, KERNEL_WIDTH>;
    let last = min((split + 1u) * CHUNK, BATCH * TARGET_HEIGHT);
    for (var line = split * CHUNK; line < last; line++) {
        let row = i32(line % TARGET_HEIGHT * STRIDE_HEIGHT + tap_row * DILATION_HEIGHT) - i32(BEFORE_HEIGHT);
        if u32(row) >= SOURCE_HEIGHT {
            continue;
        }
        let start = (line / TARGET_HEIGHT * SOURCE_HEIGHT + u32(row)) * SOURCE_WIDTH;
        @if(SLIDING) {
            for (var t = 1u; t < KERNEL_WIDTH; t++) {
                window[t] = x_at(start, i32(t) - 1 - i32(BEFORE_WIDTH), channel);
            }
        }
        for (var j = 0u; j < TARGET_WIDTH; j++) {
            let gradient = Element(dy[(line * TARGET_WIDTH + j) * UNITS + channel]);
            @if(SLIDING) {
                for (var t = 1u; t < KERNEL_WIDTH; t++) {
                    window[t - 1u] = window[t];
                }
                window[KERNEL_WIDTH - 1u] = x_at(start, i32(j + KERNEL_WIDTH - 1u) - i32(BEFORE_WIDTH), channel);
                for (var t = 0u; t < KERNEL_WIDTH; t++) {
                    sums[t] = fma(window[t], gradient, sums[t]);
                }
            }
            @if(!SLIDING) {
                for (var t = 0u; t < KERNEL_WIDTH; t++) {
                    let value = x_at(start, i32(j * STRIDE_WIDTH + t * DILATION_WIDTH) - i32(BEFORE_WIDTH), channel);
                    sums[t] = fma(value, gradient, sums[t]);
                }
            }
        }
    }
    for (var t = 0u; t < KERNEL_WIDTH; t++) {
        output[((split * KERNEL_HEIGHT + tap_row) * KERNEL_WIDTH + t) * UNITS + channel] = sums[t];
    }
}
