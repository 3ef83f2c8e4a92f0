// Mean and variance of each channel over the items n of split s, by pairs (Chan, Golub and LeVeque 1979): parts of
// counts a and b, means m_a and m_b, and sums of squared deviations q_a and q_b together have
// mean = m_a + (m_b - m_a) b / (a + b) and q = q_a + q_b + (m_b - m_a)^2 a b / (a + b).
//
// binding 0  input     [ITEMS, CHANNELS] f32
// binding 1  parts     [SPLITS, CHANNELS, 2] f32: mean and sum of squared deviations of each part
// With FINISH, where SPLITS is 1, instead of parts:
// binding 1  gamma     [CHANNELS] f32
// binding 2  beta      [CHANNELS] f32
// binding 3  scale     [CHANNELS] f32: gamma * inv_std
// binding 4  shift     [CHANNELS] f32: beta - mean * scale
// binding 5  mean      [CHANNELS] f32
// binding 6  inv_std   [CHANNELS] f32: 1 / sqrt(q / TOTAL + EPSILON)
// binding 7  variance  [CHANNELS] f32: q / (TOTAL - 1)
// With MERGE, items are the splits of an earlier pass, of PART rows each but the last one: binding 0 is its parts.
//
// A workgroup of 256 owns WIDTH neighbouring Elements of channels (four channels each where VECTOR is on) of one split,
// which takes CHUNK items. Invocations are WIDTH wide and 256 / WIDTH deep: each merges every (256 / WIDTH)-th item of
// its channels in order, then the depths are merged as a tree, so the order is fixed. With SUBGROUPS those of a channel
// in one subgroup are merged as a butterfly, then the subgroups in order.
// CHANNELS counts Elements. WIDTH: power of two. TOTAL: number of all rows.
import package::constants::{ITEMS, CHANNELS, WIDTH, CHUNK, SPLITS, PART, TOTAL, EPSILON};
import package::lib::element::Element;
import package::lib::index::workgroup;
import package::lib::subgroup::{exchanges, number};

struct Part {
    mean: Element,
    squares: Element,
}

@if(!MERGE) @group(0) @binding(0) var<storage, read> input: array<Element>;
@if(MERGE) @group(0) @binding(0) var<storage, read> input: array<Part>;
@if(!FINISH) @group(0) @binding(1) var<storage, read_write> parts: array<Part>;
@if(FINISH) @group(0) @binding(1) var<storage, read> gamma: array<Element>;
@if(FINISH) @group(0) @binding(2) var<storage, read> beta: array<Element>;
@if(FINISH) @group(0) @binding(3) var<storage, read_write> scale: array<Element>;
@if(FINISH) @group(0) @binding(4) var<storage, read_write> shift: array<Element>;
@if(FINISH) @group(0) @binding(5) var<storage, read_write> mean: array<Element>;
@if(FINISH) @group(0) @binding(6) var<storage, read_write> inv_std: array<Element>;
@if(FINISH) @group(0) @binding(7) var<storage, read_write> variance: array<Element>;

const DEPTH: u32 = 256u / WIDTH;
const BLOCKS: u32 = (CHANNELS + WIDTH - 1u) / WIDTH;

struct Moments {
    mean: Element,
    squares: Element,
    count: f32,
}

var<workgroup> means: array<Element, 256>;
var<workgroup> deviations: array<Element, 256>;
var<workgroup> counts: array<f32, 256>;

fn merge(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let share = b.count / max(count, 1.0);
    let delta = b.mean - a.mean;
    return Moments(a.mean + delta * share, a.squares + b.squares + delta * delta * (a.count * share), count);
}

fn shared_by(local: u32) -> Moments {
    return Moments(means[local], deviations[local], counts[local]);
}

fn share(local: u32, moments: Moments) {
    means[local] = moments.mean;
    deviations[local] = moments.squares;
    counts[local] = moments.count;
}

@if(SUBGROUPS)
fn shuffle_xor(moments: Moments, mask: u32) -> Moments {
    return Moments(
        subgroupShuffleXor(moments.mean, mask),
        subgroupShuffleXor(moments.squares, mask),
        subgroupShuffleXor(moments.count, mask),
    );
}

fn item(n: u32, c: u32) -> Moments {
    @if(MERGE) {
        let rows = min(PART, TOTAL - n * PART);
        let part = input[n * CHANNELS + c];
        return Moments(part.mean, part.squares, f32(rows));
    }
    @if(!MERGE) {
        return Moments(input[n * CHANNELS + c], Element(0.0), 1.0);
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @if(SUBGROUPS) @builtin(subgroup_size) size: u32,
    @if(SUBGROUPS) @builtin(subgroup_invocation_id) place: u32,
) {
    @if(!SUBGROUPS) let size = 1u;
    @if(!SUBGROUPS) let place = 0u;
    let local = number(index, size, place);
    let group = workgroup(id, count);
    let c = group % BLOCKS * WIDTH + local % WIDTH;
    let split = group / BLOCKS;
    let depth = local / WIDTH;
    let inside = split < SPLITS && c < CHANNELS;

    var moments = Moments(Element(0.0), Element(0.0), 0.0);
    if inside {
        let end = min((split + 1u) * CHUNK, ITEMS);
        for (var n = split * CHUNK + depth; n < end; n += DEPTH) {
            moments = merge(moments, item(n, c));
        }
    }
    @if(SUBGROUPS) {
        if exchanges(1u, WIDTH, 256u, size) { moments = merge(moments, shuffle_xor(moments, 1u)); }
        if exchanges(2u, WIDTH, 256u, size) { moments = merge(moments, shuffle_xor(moments, 2u)); }
        if exchanges(4u, WIDTH, 256u, size) { moments = merge(moments, shuffle_xor(moments, 4u)); }
        if exchanges(8u, WIDTH, 256u, size) { moments = merge(moments, shuffle_xor(moments, 8u)); }
        if exchanges(16u, WIDTH, 256u, size) { moments = merge(moments, shuffle_xor(moments, 16u)); }
        if exchanges(32u, WIDTH, 256u, size) { moments = merge(moments, shuffle_xor(moments, 32u)); }
        if exchanges(64u, WIDTH, 256u, size) { moments = merge(moments, shuffle_xor(moments, 64u)); }
        share(local, moments);
        workgroupBarrier();
        if depth == 0u {
            let step = max(WIDTH, size);
            for (var at = local + step; at < 256u; at += step) {
                moments = merge(moments, shared_by(at));
            }
        }
    }
    @if(!SUBGROUPS) {
        share(local, moments);
        workgroupBarrier();
        for (var half = DEPTH / 2u; half > 0u; half /= 2u) {
            if depth < half {
                moments = merge(moments, shared_by(local + half * WIDTH));
                share(local, moments);
            }
            workgroupBarrier();
        }
    }
    if depth == 0u && inside {
        @if(!FINISH) {
            parts[split * CHANNELS + c] = Part(moments.mean, moments.squares);
        }
        @if(FINISH) {
            let channel_inv_std = 1.0 / sqrt(moments.squares / f32(TOTAL) + EPSILON);
            let channel_scale = gamma[c] * channel_inv_std;
            scale[c] = channel_scale;
            shift[c] = beta[c] - moments.mean * channel_scale;
            mean[c] = moments.mean;
            inv_std[c] = channel_inv_std;
            variance[c] = moments.squares / f32(TOTAL - 1u);
        }
    }
}
