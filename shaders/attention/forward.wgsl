// Attention: y = softmax(SCALE q k') v of each head, and log_sums = log(sum(e^(SCALE q k'))) of each query.
//
// bindings 0, 2  qkv and y: see attention/head.wgsl
// binding 1      log_sums  [BATCH, HEADS, TOKENS] f32
//
// A workgroup has 64 queries of a head and goes through the keys, whose largest score and sum of exponentials are carried
// along: where a larger score comes, what was summed before is made smaller (Milakov and Gimelshein 2018).
import package::attention::head::{KEYS, OTHERS, PARTS, QUERIES, RESULTS, SHARING, VALUES, place, row, statistic, store};
import package::attention::tile::{Scores, Sums, add_products, max_shared, quad_of, scores_of, show, sum_shared};
import package::constants::{SCALE, TOKENS};

@group(0) @binding(1) var<storage, read_write> log_sums: array<f32>;

const LEAST: vec4<f32> = vec4<f32>(-3.4028234e38);

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = place(id, count);
    if !at.exists {
        return;
    }
    var largest = LEAST;
    // Of the keys that this invocation has.
    var exponentials = vec4<f32>(0.0);
    var sums: Sums;
    for (var first = 0u; first < TOKENS; first += OTHERS) {
        let products = scores_of(at, QUERIES, KEYS, first, local);
        let key = first + local % SHARING * 4u;
        let x = select(LEAST, products.x * SCALE, key < TOKENS);
        let y = select(LEAST, products.y * SCALE, key + 1u < TOKENS);
        let z = select(LEAST, products.z * SCALE, key + 2u < TOKENS);
        let w = select(LEAST, products.w * SCALE, key + 3u < TOKENS);
        let before = largest;
        largest = max(before, max_shared(max(max(x, y), max(z, w)), local));
        let kept = exp(before - largest);
        let weights = Scores(exp(x - largest), exp(y - largest), exp(z - largest), exp(w - largest));
        exponentials = exponentials * kept + (weights.x + weights.y + weights.z + weights.w);
        show(weights, local);
        for (var part = 0u; part < PARTS; part++) {
            sums.row0[part] *= kept.x;
            sums.row1[part] *= kept.y;
            sums.row2[part] *= kept.z;
            sums.row3[part] *= kept.w;
        }
        add_products(&sums, at, VALUES, first, local);
    }

    let total = sum_shared(exponentials, local);
    let query = at.first + local / SHARING * 4u;
    for (var part = 0u; part < PARTS; part++) {
        let quad = quad_of(at, part, local);
        if query < TOKENS { store(row(at, RESULTS, query), quad, sums.row0[part] / total.x); }
        if query + 1u < TOKENS { store(row(at, RESULTS, query + 1u), quad, sums.row1[part] / total.y); }
        if query + 2u < TOKENS { store(row(at, RESULTS, query + 2u), quad, sums.row2[part] / total.z); }
        if query + 3u < TOKENS { store(row(at, RESULTS, query + 3u), quad, sums.row3[part] / total.w); }
    }
    if local % SHARING == 0u && at.quad == 0u {
        for (var n = 0u; n < 4u; n++) {
            if query + n < TOKENS { log_sums[statistic(at, query + n)] = largest[n] + log(total[n]); }
        }
    }
}
