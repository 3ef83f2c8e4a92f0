// Global max pooling: output[n, c] = max over p of input[n, p, c]. NaN is larger than any number.
//
// binding 0  input   [BATCH, POSITIONS, CHANNELS] f32 or f16
// binding 1  output  [BATCH, CHANNELS] f32 or f16
// binding 2  argmax  [BATCH, CHANNELS] u32: p of the first maximum
//
// A workgroup of 256 owns COLUMNS neighbouring channels of one image. Invocations are COLUMNS wide and 256 / COLUMNS
// deep: each takes every (256 / COLUMNS)-th position of its channel, then the depths are compared as a tree. With
// SUBGROUPS those of a channel in one subgroup are compared as a butterfly, then the subgroups in order.
// COLUMNS: power of two up to 64.
import package::constants::{BATCH, POSITIONS, CHANNELS, COLUMNS};
import package::lib::element::is_nan;
import package::lib::held::Held;
import package::lib::index::workgroup;
import package::lib::subgroup::{exchanges, number};

@group(0) @binding(0) var<storage, read> input: array<Held>;
@group(0) @binding(1) var<storage, read_write> output: array<Held>;
@group(0) @binding(2) var<storage, read_write> argmax: array<u32>;

const DEPTH: u32 = 256u / COLUMNS;
const BLOCKS: u32 = (CHANNELS + COLUMNS - 1u) / COLUMNS;

struct Maximum {
    value: f32,
    position: u32,
}

var<workgroup> partial: array<Maximum, 256>;

// The larger one; of two equals, and of two NaNs, the one at the earlier position.
fn larger(a: Maximum, b: Maximum) -> Maximum {
    let equal = (is_nan(a.value) && is_nan(b.value)) || a.value == b.value;
    let above = (is_nan(b.value) && !is_nan(a.value)) || (!is_nan(a.value) && b.value > a.value);
    if above || (equal && b.position < a.position) {
        return b;
    }
    return a;
}

@if(SUBGROUPS)
fn shuffle_xor(a: Maximum, mask: u32) -> Maximum {
    return Maximum(subgroupShuffleXor(a.value, mask), subgroupShuffleXor(a.position, mask));
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
    let c = group % BLOCKS * COLUMNS + local % COLUMNS;
    let n = group / BLOCKS;
    let depth = local / COLUMNS;
    let inside = n < BATCH && c < CHANNELS;

    // Invocations beyond the last position hold the first one.
    var best = Maximum(0.0, select(0u, depth, depth < POSITIONS));
    if inside {
        best.value = f32(input[(n * POSITIONS + best.position) * CHANNELS + c]);
        for (var p = depth + DEPTH; p < POSITIONS; p += DEPTH) {
            best = larger(best, Maximum(f32(input[(n * POSITIONS + p) * CHANNELS + c]), p));
        }
    }
    @if(SUBGROUPS) {
        if exchanges(1u, COLUMNS, 256u, size) { best = larger(best, shuffle_xor(best, 1u)); }
        if exchanges(2u, COLUMNS, 256u, size) { best = larger(best, shuffle_xor(best, 2u)); }
        if exchanges(4u, COLUMNS, 256u, size) { best = larger(best, shuffle_xor(best, 4u)); }
        if exchanges(8u, COLUMNS, 256u, size) { best = larger(best, shuffle_xor(best, 8u)); }
        if exchanges(16u, COLUMNS, 256u, size) { best = larger(best, shuffle_xor(best, 16u)); }
        if exchanges(32u, COLUMNS, 256u, size) { best = larger(best, shuffle_xor(best, 32u)); }
        if exchanges(64u, COLUMNS, 256u, size) { best = larger(best, shuffle_xor(best, 64u)); }
        partial[local] = best;
        workgroupBarrier();
        if depth == 0u {
            let step = max(COLUMNS, size);
            for (var at = local + step; at < 256u; at += step) {
                best = larger(best, partial[at]);
            }
        }
    }
    @if(!SUBGROUPS) {
        partial[local] = best;
        workgroupBarrier();
        for (var half = DEPTH / 2u; half > 0u; half /= 2u) {
            if depth < half {
                best = larger(best, partial[local + half * COLUMNS]);
                partial[local] = best;
            }
            workgroupBarrier();
        }
    }
    if depth == 0u && inside {
        output[n * CHANNELS + c] = Held(best.value);
        argmax[n * CHANNELS + c] = best.position;
    }
}
