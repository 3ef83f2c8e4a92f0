// Gradient of max pooling: input_grad[n, h, w, c] = fused(sum of output_grad[n, oh, ow, c] over the windows (oh, ow)
// whose first maximum is at (h, w), in their order).
//
// binding 0  output_grad  [BATCH, OUT_HEIGHT, OUT_WIDTH, CHANNELS] f32 or f16
// binding 1  argmax       the same shape, u8: number of the tap at each window's first maximum
// binding 2  input_grad   [BATCH, HEIGHT, WIDTH, CHANNELS] f32 or f16
// binding 3 + n  input 1 + n of the epilogue, broadcast to the output; declared in package::fused
//
// An invocation owns one Element of input_grad (four neighbouring channels where VECTOR is on), a workgroup 256 in a
// row. COUNT: number of Elements of input_grad. CHANNELS counts Elements too.
import package::constants::{
    COUNT, HEIGHT, WIDTH, CHANNELS, OUT_HEIGHT, OUT_WIDTH,
    KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, BEFORE_H, BEFORE_W,
};
import package::fused::{Element, Stored, fused};
import package::lib::element::{HeldElement, Word};
import package::lib::index::linear;
import package::lib::window::windows_at;

@group(0) @binding(0) var<storage, read> output_grad: array<HeldElement>;
@group(0) @binding(1) var<storage, read> argmax: array<u32>;
@group(0) @binding(2) var<storage, read_write> input_grad: array<Stored>;

const SPAN_H: u32 = (KERNEL_H - 1u) * DILATION_H + 1u;
const SPAN_W: u32 = (KERNEL_W - 1u) * DILATION_W + 1u;

fn taps_at(i: u32) -> Word {
    @if(VECTOR) {
        return (vec4<u32>(argmax[i]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
    }
    @if(!VECTOR) {
        return (argmax[i / 4u] >> (i % 4u * 8u)) & 0xffu;
    }
}

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
    let c = i % CHANNELS;
    let w = i / CHANNELS % WIDTH;
    let h = i / (CHANNELS * WIDTH) % HEIGHT;
    let n = i / (CHANNELS * WIDTH * HEIGHT);
    let rows = windows_at(h, SPAN_H, STRIDE_H, BEFORE_H, OUT_HEIGHT);
    let columns = windows_at(w, SPAN_W, STRIDE_W, BEFORE_W, OUT_WIDTH);
    var sum = Element(0.0);
    for (var oh = rows.begin; oh < rows.end; oh++) {
        let down = h + BEFORE_H - oh * STRIDE_H;
        for (var ow = columns.begin; ow < columns.end; ow++) {
            let right = w + BEFORE_W - ow * STRIDE_W;
            if down % DILATION_H == 0u && right % DILATION_W == 0u {
                let tap = Word(down / DILATION_H * KERNEL_W + right / DILATION_W);
                let at = ((n * OUT_HEIGHT + oh) * OUT_WIDTH + ow) * CHANNELS + c;
                sum += select(Element(0.0), Element(output_grad[at]), taps_at(at) == tap);
            }
        }
    }
    input_grad[i] = Stored(fused(sum, i));
}
