// Gradients of a norm's scale and shift, summed over the items n of split s:
// gamma_grad[s, c] = sum of output_grad[n, c] * (input[n, c] - mean) * inv_std, beta_grad[s, c] = sum of output_grad[n, c]
//
// binding 0  output_grad  [ITEMS, CHANNELS] f32
// binding 1  input        [ITEMS, CHANNELS] f32
// binding 2  gamma_grad   [SPLITS, CHANNELS] f32
// binding 3  beta_grad    [SPLITS, CHANNELS] f32
// binding 4  mean         [CHANNELS] f32 with OF_CHANNELS, [ITEMS] with OF_ROWS
// binding 5  inv_std      the same shape
// With MERGE, items are the splits of an earlier pass: binding 0 is its beta_grad, binding 1 its gamma_grad.
//
// A workgroup of 256 owns WIDTH neighbouring Elements of channels (four channels each where VECTOR is on) of one split,
// which takes CHUNK items. Invocations are WIDTH wide and 256 / WIDTH deep: each adds every (256 / WIDTH)-th item of
// its channels in order, then the depths are added as a tree, so the order of additions is fixed.
// CHANNELS counts Elements. WIDTH: power of two.
import package::constants::{ITEMS, CHANNELS, WIDTH, CHUNK, SPLITS};
import package::lib::element::Element;
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> output_grad: array<Element>;
@group(0) @binding(1) var<storage, read> input: array<Element>;
@group(0) @binding(2) var<storage, read_write> gamma_grad: array<Element>;
@group(0) @binding(3) var<storage, read_write> beta_grad: array<Element>;
@if(OF_CHANNELS) @group(0) @binding(4) var<storage, read> mean: array<Element>;
@if(OF_CHANNELS) @group(0) @binding(5) var<storage, read> inv_std: array<Element>;
@if(OF_ROWS) @group(0) @binding(4) var<storage, read> mean: array<f32>;
@if(OF_ROWS) @group(0) @binding(5) var<storage, read> inv_std: array<f32>;

const DEPTH: u32 = 256u / WIDTH;
const BLOCKS: u32 = (CHANNELS + WIDTH - 1u) / WIDTH;

var<workgroup> gamma_sums: array<Element, 256>;
var<workgroup> beta_sums: array<Element, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup(id, count);
    let c = group % BLOCKS * WIDTH + local % WIDTH;
    let split = group / BLOCKS;
    let depth = local / WIDTH;
    let inside = split < SPLITS && c < CHANNELS;

    var gamma_sum = Element(0.0);
    var beta_sum = Element(0.0);
    if inside {
        @if(OF_CHANNELS) let channel_mean = mean[c];
        @if(OF_CHANNELS) let channel_inv_std = inv_std[c];
        let end = min((split + 1u) * CHUNK, ITEMS);
        for (var n = split * CHUNK + depth; n < end; n += DEPTH) {
            let dy = output_grad[n * CHANNELS + c];
            let x = input[n * CHANNELS + c];
            @if(OF_CHANNELS) gamma_sum += dy * ((x - channel_mean) * channel_inv_std);
            @if(OF_ROWS) gamma_sum += dy * ((x - mean[n]) * inv_std[n]);
            @if(MERGE) gamma_sum += x;
            beta_sum += dy;
        }
    }
    gamma_sums[local] = gamma_sum;
    beta_sums[local] = beta_sum;
    workgroupBarrier();
    for (var half = DEPTH / 2u; half > 0u; half /= 2u) {
        if depth < half {
            gamma_sums[local] += gamma_sums[local + half * WIDTH];
            beta_sums[local] += beta_sums[local + half * WIDTH];
        }
        workgroupBarrier();
    }
    if depth == 0u && inside {
        gamma_grad[split * CHANNELS + c] = gamma_sums[local];
        beta_grad[split * CHANNELS + c] = beta_sums[local];
    }
}
