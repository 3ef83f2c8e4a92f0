// Sums over the middle of three axes, of terms that are expressions, and what is made of them:
// sums[s, o, c] = sum of terms[o, n, c] over the n of split s, then store.
//
// Bindings are declared in package::fused, which holds the expressions: the inputs, then either the outputs
// [OUTER, INNER] or the partial sums [SPLITS, OUTER, INNER] of Terms, which a second pass reads as its [1, N, INNER].
//
// A workgroup of 256 owns COLUMNS neighbouring c of one o and one split, which takes CHUNK terms n. Invocations are
// COLUMNS wide and 256 / COLUMNS deep: each adds every (256 / COLUMNS)-th term of its column in order, then the depths
// are added as a tree, so the order of additions is fixed. With SUBGROUPS those of a column in one subgroup are added as
// a butterfly, then the subgroups in order.
// OUTER, N, INNER: extents in Elements, which are four neighbours where the module reads vectors. COLUMNS: power of two.
import package::constants::{OUTER, N, INNER, COLUMNS, CHUNK, SPLITS};
import package::fused::{Terms, terms, add, shuffle_xor, store};
import package::lib::index::workgroup;
import package::lib::subgroup::{exchanges, number};

const DEPTH: u32 = 256u / COLUMNS;
const BLOCKS: u32 = (INNER + COLUMNS - 1u) / COLUMNS;

var<workgroup> partial: array<Terms, 256>;

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
    let o = group / BLOCKS % OUTER;
    let split = group / (BLOCKS * OUTER);
    let depth = local / COLUMNS;
    let inside = split < SPLITS && c < INNER;

    var sums = Terms();
    if inside {
        let end = min((split + 1u) * CHUNK, N);
        for (var n = split * CHUNK + depth; n < end; n += DEPTH) {
            sums = add(sums, terms((o * N + n) * INNER + c, c));
        }
    }
    @if(SUBGROUPS) {
        if exchanges(1u, COLUMNS, 256u, size) { sums = add(sums, shuffle_xor(sums, 1u)); }
        if exchanges(2u, COLUMNS, 256u, size) { sums = add(sums, shuffle_xor(sums, 2u)); }
        if exchanges(4u, COLUMNS, 256u, size) { sums = add(sums, shuffle_xor(sums, 4u)); }
        if exchanges(8u, COLUMNS, 256u, size) { sums = add(sums, shuffle_xor(sums, 8u)); }
        if exchanges(16u, COLUMNS, 256u, size) { sums = add(sums, shuffle_xor(sums, 16u)); }
        if exchanges(32u, COLUMNS, 256u, size) { sums = add(sums, shuffle_xor(sums, 32u)); }
        if exchanges(64u, COLUMNS, 256u, size) { sums = add(sums, shuffle_xor(sums, 64u)); }
        partial[local] = sums;
        workgroupBarrier();
        if depth == 0u {
            let step = max(COLUMNS, size);
            for (var at = local + step; at < 256u; at += step) {
                sums = add(sums, partial[at]);
            }
        }
    }
    @if(!SUBGROUPS) {
        partial[local] = sums;
        workgroupBarrier();
        for (var half = DEPTH / 2u; half > 0u; half /= 2u) {
            if depth < half {
                sums = add(sums, partial[local + half * COLUMNS]);
                partial[local] = sums;
            }
            workgroupBarrier();
        }
    }
    if depth == 0u && inside {
        store(sums, (split * OUTER + o) * INNER + c);
    }
}
