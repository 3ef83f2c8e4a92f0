// Average pooling: output[n, oh, ow, c] = fused(sum over taps (kh, kw) of
// input[n, oh * STRIDE_H + kh * DILATION_H - BEFORE_H, ow * STRIDE_W + kw * DILATION_W - BEFORE_W, c] / divisor),
// where positions outside the image are 0 and the divisor counts the taps in the image, or with INCLUDE_PADDING in the
// padded image.
//
// binding 0  input   [BATCH, HEIGHT, WIDTH, CHANNELS] f32 or f16
// binding 1  output  [BATCH, OUT_HEIGHT, OUT_WIDTH, CHANNELS] f32 or f16
// binding 2 + n  input 1 + n of the epilogue, broadcast to the output; declared in package::fused
//
// An invocation owns one Element of the output (four neighbouring channels where VECTOR is on), a workgroup 256 in a
// row. COUNT: number of Elements of the output. CHANNELS counts Elements too.
import package::constants::{
    COUNT, HEIGHT, WIDTH, CHANNELS, OUT_HEIGHT, OUT_WIDTH,
    KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, BEFORE_H, BEFORE_W,
};
import package::fused::{Element, Stored, fused};
import package::lib::average::divisor;
import package::lib::element::HeldElement;
import package::lib::index::linear;
import package::lib::window::taps_of;

@group(0) @binding(0) var<storage, read> input: array<HeldElement>;
@group(0) @binding(1) var<storage, read_write> output: array<Stored>;

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
    let ow = i / CHANNELS % OUT_WIDTH;
    let oh = i / (CHANNELS * OUT_WIDTH) % OUT_HEIGHT;
    let n = i / (CHANNELS * OUT_WIDTH * OUT_HEIGHT);
    let rows = taps_of(oh, HEIGHT, KERNEL_H, STRIDE_H, DILATION_H, BEFORE_H);
    let columns = taps_of(ow, WIDTH, KERNEL_W, STRIDE_W, DILATION_W, BEFORE_W);
    var sum = Element(0.0);
    for (var kh = rows.begin; kh < rows.end; kh++) {
        let h = oh * STRIDE_H + kh * DILATION_H - BEFORE_H;
        for (var kw = columns.begin; kw < columns.end; kw++) {
            let w = ow * STRIDE_W + kw * DILATION_W - BEFORE_W;
            sum += Element(input[((n * HEIGHT + h) * WIDTH + w) * CHANNELS + c]);
        }
    }
    output[i] = Stored(fused(sum / divisor(oh, ow), i));
}
