// Gradient of attention with respect to the queries: with the weights p = e^(SCALE q k' - log_sums) and their gradients
// dp = dy v', dq = SCALE (p * (dp - means)) k, where means is sum(p * dp) over the keys, and so sum(y * dy) over the columns.
//
// bindings 0, 1, 2  qkv, dy and the gradient of qkv: see attention/head.wgsl
// binding 3         log_sums  [BATCH, HEADS, TOKENS] f32
// binding 4         y         as dy
// binding 5         means     [BATCH, HEADS, TOKENS] f32, for attention/grad_keys_values
//
// A workgroup has 64 queries of a head and goes through the keys.
import package::attention::head::{
    KEYS, OTHERS, PARTS, QUADS, QUERIES, RESULTS, SHARING, Stored, VALUES, fetch_padded, place, row, statistic, store,
};
import package::attention::tile::{Scores, Sums, add_products, quad_of, scores_of, show, sum_shared};
import package::constants::{HEAD, SCALE, TOKENS};

@group(0) @binding(3) var<storage, read> log_sums: array<f32>;
@group(0) @binding(4) var<storage, read> y: array<Stored>;
@group(0) @binding(5) var<storage, read_write> means: array<f32>;

// As of dy, which has zeros where a row ends: here anything may be.
fn fetch_y(start: u32, quad: u32) -> vec4<f32> {
    @if(VECTOR) {
        return y[start + min(quad, QUADS - 1u)];
    }
    @if(!VECTOR) {
        return vec4<f32>(
            y[start + min(4u * quad, HEAD - 1u)],
            y[start + min(4u * quad + 1u, HEAD - 1u)],
            y[start + min(4u * quad + 2u, HEAD - 1u)],
            y[start + min(4u * quad + 3u, HEAD - 1u)],
        );
    }
}

fn product(start: u32, quad: u32) -> f32 {
    return dot(fetch_padded(RESULTS, start, quad), fetch_y(start, quad));
}

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
    let query = at.first + local / SHARING * 4u;
    var products = vec4<f32>(0.0);
    for (var quad = local % SHARING; quad < QUADS; quad += SHARING) {
        products += vec4<f32>(
            product(row(at, RESULTS, query), quad),
            product(row(at, RESULTS, query + 1u), quad),
            product(row(at, RESULTS, query + 2u), quad),
            product(row(at, RESULTS, query + 3u), quad),
        );
    }
    let mean = sum_shared(products, local);
    let log_sum = vec4<f32>(
        log_sums[statistic(at, query)],
        log_sums[statistic(at, query + 1u)],
        log_sums[statistic(at, query + 2u)],
        log_sums[statistic(at, query + 3u)],
    );

    var sums: Sums;
    for (var first = 0u; first < TOKENS; first += OTHERS) {
        let scores = scores_of(at, QUERIES, KEYS, first, local);
        let gradients = scores_of(at, RESULTS, VALUES, first, local);
        let key = first + local % SHARING * 4u;
        let x = exp(scores.x * SCALE - log_sum) * (gradients.x - mean) * SCALE;
        let y = exp(scores.y * SCALE - log_sum) * (gradients.y - mean) * SCALE;
        let z = exp(scores.z * SCALE - log_sum) * (gradients.z - mean) * SCALE;
        let w = exp(scores.w * SCALE - log_sum) * (gradients.w - mean) * SCALE;
        let none = vec4<f32>(0.0);
        show(
            Scores(
                select(none, x, key < TOKENS),
                select(none, y, key + 1u < TOKENS),
                select(none, z, key + 2u < TOKENS),
                select(none, w, key + 3u < TOKENS),
            ),
            local,
        );
        add_products(&sums, at, KEYS, first, local);
    }

    for (var part = 0u; part < PARTS; part++) {
        let quad = quad_of(at, part, local);
        if query < TOKENS { store(row(at, QUERIES, query), quad, sums.row0[part]); }
        if query + 1u < TOKENS { store(row(at, QUERIES, query + 1u), quad, sums.row1[part]); }
        if query + 2u < TOKENS { store(row(at, QUERIES, query + 2u), quad, sums.row2[part]); }
        if query + 3u < TOKENS { store(row(at, QUERIES, query + 3u), quad, sums.row3[part]); }
    }
    if local % SHARING == 0u && at.quad == 0u {
        for (var n = 0u; n < 4u; n++) {
            if query + n < TOKENS { means[statistic(at, query + n)] = mean[n]; }
        }
    }
}
