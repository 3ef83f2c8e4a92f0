// Sum over the middle of three axes: output[s, o, i] = SCALE * sum of input[o, n, i] over the n of split s.
//
// binding 0  input   [OUTER, N, INNER] Elements (f32, or four neighbours where VECTOR is on)
// binding 1  output  [SPLITS, OUTER, INNER] Elements, or f32 where FOLD is on: the sum of the Element's four
//
// A workgroup of 256 owns COLUMNS neighbouring i of one o and one split, which takes CHUNK terms n. Invocations are COLUMNS
// wide and 256 / COLUMNS deep: each adds every (256 / COLUMNS)-th term of its column in order, then the depths are added as
// a tree, so the order of additions is fixed.
// OUTER, N, INNER: extents in Elements. COLUMNS: power of two.
import package::constants::{OUTER, N, INNER, COLUMNS, CHUNK, SPLITS, SCALE};
import package::lib::element::Element;
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> input: array<Element>;
@if(FOLD) @group(0) @binding(1) var<storage, read_write> output: array<f32>;
@if(!FOLD) @group(0) @binding(1) var<storage, read_write> output: array<Element>;

const DEPTH: u32 = 256u / COLUMNS;
const BLOCKS: u32 = (INNER + COLUMNS - 1u) / COLUMNS;

var<workgroup> partial: array<Element, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup(id, count);
    let i = group % BLOCKS * COLUMNS + local % COLUMNS;
    let o = group / BLOCKS % OUTER;
    let split = group / (BLOCKS * OUTER);
    let depth = local / COLUMNS;
    let inside = split < SPLITS && i < INNER;

    var sum = Element(0.0);
    if inside {
        let end = min((split + 1u) * CHUNK, N);
        for (var n = split * CHUNK + depth; n < end; n += DEPTH) {
            sum += input[(o * N + n) * INNER + i];
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    for (var half = DEPTH / 2u; half > 0u; half /= 2u) {
        if depth < half {
            partial[local] += partial[local + half * COLUMNS];
        }
        workgroupBarrier();
    }
    if depth == 0u && inside {
        let total = partial[local] * SCALE;
        let at = (split * OUTER + o) * INNER + i;
        @if(FOLD) { output[at] = (total.x + total.y) + (total.z + total.w); }
        @if(!FOLD) { output[at] = total; }
    }
}
