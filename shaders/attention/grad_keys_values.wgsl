// Gradient of attention with respect to keys and values: with the weights p = e^(SCALE q k' - log_sums) and their gradients
// dp = dy v', dv = p' dy and dk = SCALE (p * (dp - means))' q.
//
// bindings 0, 1, 2  qkv, dy and the gradient of qkv: see attention/head.wgsl
// binding 3         log_sums  [BATCH, HEADS, TOKENS] f32
// binding 4         means     [BATCH, HEADS, TOKENS] f32: see attention/grad_queries.wgsl
//
// A workgroup has 64 keys of a head, with their values, and goes through the queries.
import package::attention::head::{KEYS, OTHERS, PARTS, QUERIES, RESULTS, SHARING, VALUES, place, row, statistic, store};
import package::attention::tile::{Scores, Sums, add_products, quad_of, scores_of, show, shown};
import package::constants::{SCALE, TOKENS};

@group(0) @binding(3) var<storage, read> log_sums: array<f32>;
@group(0) @binding(4) var<storage, read> means: array<f32>;

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
    var d_keys: Sums;
    var d_values: Sums;
    for (var first = 0u; first < TOKENS; first += OTHERS) {
        let scores = scores_of(at, KEYS, QUERIES, first, local);
        let query = first + local % SHARING * 4u;
        let place0 = statistic(at, query);
        let place1 = statistic(at, query + 1u);
        let place2 = statistic(at, query + 2u);
        let place3 = statistic(at, query + 3u);
        let none = vec4<f32>(0.0);
        show(
            Scores(
                select(none, exp(scores.x * SCALE - log_sums[place0]), query < TOKENS),
                select(none, exp(scores.y * SCALE - log_sums[place1]), query + 1u < TOKENS),
                select(none, exp(scores.z * SCALE - log_sums[place2]), query + 2u < TOKENS),
                select(none, exp(scores.w * SCALE - log_sums[place3]), query + 3u < TOKENS),
            ),
            local,
        );
        add_products(&d_values, at, RESULTS, first, local);

        let gradients = scores_of(at, VALUES, RESULTS, first, local);
        // Not kept in registers, of which there are too few.
        let weights = shown(local);
        show(
            Scores(
                weights.x * (gradients.x - means[place0]) * SCALE,
                weights.y * (gradients.y - means[place1]) * SCALE,
                weights.z * (gradients.z - means[place2]) * SCALE,
                weights.w * (gradients.w - means[place3]) * SCALE,
            ),
            local,
        );
        add_products(&d_keys, at, QUERIES, first, local);
    }

    let key = at.first + local / SHARING * 4u;
    for (var part = 0u; part < PARTS; part++) {
        let quad = quad_of(at, part, local);
        if key < TOKENS {
            store(row(at, KEYS, key), quad, d_keys.row0[part]);
            store(row(at, VALUES, key), quad, d_values.row0[part]);
        }
        if key + 1u < TOKENS {
            store(row(at, KEYS, key + 1u), quad, d_keys.row1[part]);
            store(row(at, VALUES, key + 1u), quad, d_values.row1[part]);
        }
        if key + 2u < TOKENS {
            store(row(at, KEYS, key + 2u), quad, d_keys.row2[part]);
            store(row(at, VALUES, key + 2u), quad, d_values.row2[part]);
        }
        if key + 3u < TOKENS {
            store(row(at, KEYS, key + 3u), quad, d_keys.row3[part]);
            store(row(at, VALUES, key + 3u), quad, d_values.row3[part]);
        }
    }
}
