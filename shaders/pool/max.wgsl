// Max pooling: output[n, oh, ow, c] = max over taps (kh, kw) of
// input[n, oh * STRIDE_H + kh * DILATION_H - BEFORE_H, ow * STRIDE_W + kw * DILATION_W - BEFORE_W, c],
// where positions outside the image do not count. NaN is larger than any number.
//
// binding 0  input   [BATCH, HEIGHT, WIDTH, CHANNELS] f32 or f16
// binding 1  output  [BATCH, OUT_HEIGHT, OUT_WIDTH, CHANNELS] f32 or f16
// binding 2  argmax  the output's shape, u8: kh * KERNEL_W + kw of the first maximum (with ARGMAX)
//
// An invocation owns four neighbouring channels where VECTOR is on; else one output, or with ARGMAX four in a row
// because a word of argmax holds four. A workgroup owns 256 of these.
// COUNT: number of Elements of the output. CHANNELS counts Elements too.
import package::constants::{
    COUNT, HEIGHT, WIDTH, CHANNELS, OUT_HEIGHT, OUT_WIDTH,
    KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, BEFORE_H, BEFORE_W,
};
import package::lib::element::{Element, HeldElement, Word, is_nan};
import package::lib::index::linear;
import package::lib::window::taps_of;

@group(0) @binding(0) var<storage, read> input: array<HeldElement>;
@group(0) @binding(1) var<storage, read_write> output: array<HeldElement>;
@if(ARGMAX) @group(0) @binding(2) var<storage, read_write> argmax: array<u32>;

struct Maximum {
    value: Element,
    tap: Word,
}

fn maximum(i: u32) -> Maximum {
    let c = i % CHANNELS;
    let ow = i / CHANNELS % OUT_WIDTH;
    let oh = i / (CHANNELS * OUT_WIDTH) % OUT_HEIGHT;
    let n = i / (CHANNELS * OUT_WIDTH * OUT_HEIGHT);
    let rows = taps_of(oh, HEIGHT, KERNEL_H, STRIDE_H, DILATION_H, BEFORE_H);
    let columns = taps_of(ow, WIDTH, KERNEL_W, STRIDE_W, DILATION_W, BEFORE_W);
    // The bits of negative infinity: WGSL has no literal for it, and no expression that is constant may have its value.
    var least = Word(0xff800000u);
    var best = Maximum(bitcast<Element>(least), Word(rows.begin * KERNEL_W + columns.begin));
    for (var kh = rows.begin; kh < rows.end; kh++) {
        let h = oh * STRIDE_H + kh * DILATION_H - BEFORE_H;
        for (var kw = columns.begin; kw < columns.end; kw++) {
            let w = ow * STRIDE_W + kw * DILATION_W - BEFORE_W;
            let value = Element(input[((n * HEIGHT + h) * WIDTH + w) * CHANNELS + c]);
            let larger = is_nan(value) | (!is_nan(best.value) & (value > best.value));
            best.value = select(best.value, value, larger);
            best.tap = select(best.tap, Word(kh * KERNEL_W + kw), larger);
        }
    }
    return best;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    @if(VECTOR || !ARGMAX) {
        if i < COUNT {
            let best = maximum(i);
            output[i] = HeldElement(best.value);
            @if(ARGMAX) {
                argmax[i] = best.tap.x | (best.tap.y << 8u) | (best.tap.z << 16u) | (best.tap.w << 24u);
            }
        }
    }
    @if(!VECTOR && ARGMAX) {
        if i * 4u < COUNT {
            var taps = 0u;
            for (var lane = 0u; lane < min(4u, COUNT - i * 4u); lane++) {
                let best = maximum(i * 4u + lane);
                output[i * 4u + lane] = HeldElement(best.value);
                taps |= best.tap << (8u * lane);
            }
            argmax[i] = taps;
        }
    }
}
